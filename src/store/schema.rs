//! The tables: made as today's `PostfixAdmin` has them where there are none, left as they are elsewhere.
//!
//! The description of the columns follows `PostfixAdmin`'s schema 1856. Keys are `utf8mb4_bin`: with a server's own
//! default (`utf8mb4_general_ci`, say) `josé@` and `jose@` would be one mailbox.

use sqlx::mysql::MySqlConnection;

use super::Error;
use super::columns::Columns;
use super::names::Names;
use crate::tables::Table;

/// Version of `PostfixAdmin`'s schema that the made tables correspond to.
const POSTFIXADMIN_VERSION: &str = "1856";

const CHARSET: &str = "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin";

const DATES: &str = "created datetime NOT NULL DEFAULT '2000-01-01 00:00:00', modified datetime NOT NULL DEFAULT '2000-01-01 00:00:00'";

/// Name and columns of each table of `PostfixAdmin` that the operator makes.
fn postfixadmin_tables() -> [(&'static str, String); 11] {
    [
        ("config", "id int NOT NULL AUTO_INCREMENT PRIMARY KEY, name varchar(20) NOT NULL DEFAULT '' UNIQUE, value varchar(20) NOT NULL DEFAULT ''".into()),
        ("domain", format!(
            "domain varchar(255) NOT NULL PRIMARY KEY, description varchar(255) NOT NULL DEFAULT '', aliases int NOT NULL DEFAULT 0, \
             mailboxes int NOT NULL DEFAULT 0, maxquota bigint NOT NULL DEFAULT 0, quota bigint NOT NULL DEFAULT 0, \
             transport varchar(255) NOT NULL DEFAULT 'virtual', backupmx tinyint(1) NOT NULL DEFAULT 0, {DATES}, \
             active tinyint(1) NOT NULL DEFAULT 1, password_expiry int NOT NULL DEFAULT 0"
        )),
        ("mailbox", format!(
            "username varchar(255) NOT NULL PRIMARY KEY, password varchar(255) NOT NULL, name varchar(255) NOT NULL DEFAULT '', \
             maildir varchar(255) NOT NULL, quota bigint NOT NULL DEFAULT 0, local_part varchar(255) NOT NULL, \
             domain varchar(255) NOT NULL, {DATES}, active tinyint(1) NOT NULL DEFAULT 1, phone varchar(30) NOT NULL DEFAULT '', \
             email_other varchar(255) NOT NULL DEFAULT '', token varchar(255) NOT NULL DEFAULT '', \
             token_validity datetime NOT NULL DEFAULT '2000-01-01 00:00:00', password_expiry datetime NOT NULL DEFAULT '2000-01-01 00:00:00', \
             totp_secret varchar(255) DEFAULT NULL, smtp_active tinyint(1) NOT NULL DEFAULT 1, KEY domain (domain)"
        )),
        ("alias", format!(
            "address varchar(255) NOT NULL PRIMARY KEY, goto text NOT NULL, domain varchar(255) NOT NULL, {DATES}, \
             active tinyint(1) NOT NULL DEFAULT 1, description varchar(255) NOT NULL DEFAULT '', KEY domain (domain)"
        )),
        ("alias_domain", format!(
            "alias_domain varchar(255) NOT NULL DEFAULT '' PRIMARY KEY, target_domain varchar(255) NOT NULL DEFAULT '', {DATES}, \
             active tinyint(1) NOT NULL DEFAULT 1, description varchar(255) NOT NULL DEFAULT '', KEY active (active), \
             KEY target_domain (target_domain)"
        )),
        ("admin", format!(
            "username varchar(255) NOT NULL PRIMARY KEY, password varchar(255) NOT NULL, {DATES}, active tinyint(1) NOT NULL DEFAULT 1, \
             superadmin tinyint(1) NOT NULL DEFAULT 0, phone varchar(30) NOT NULL DEFAULT '', email_other varchar(255) NOT NULL DEFAULT '', \
             token varchar(255) NOT NULL DEFAULT '', token_validity datetime NOT NULL DEFAULT '2000-01-01 00:00:00', \
             totp_secret varchar(255) DEFAULT NULL"
        )),
        ("domain_admins",
            "username varchar(255) NOT NULL, domain varchar(255) NOT NULL, created datetime NOT NULL DEFAULT '2000-01-01 00:00:00', \
             active tinyint(1) NOT NULL DEFAULT 1, id int NOT NULL AUTO_INCREMENT PRIMARY KEY, KEY username (username, domain, active)".into()),
        ("log",
            "timestamp datetime NOT NULL DEFAULT '2000-01-01 00:00:00', username varchar(255) NOT NULL, domain varchar(255) NOT NULL, \
             action varchar(255) NOT NULL, data text NOT NULL, id int NOT NULL AUTO_INCREMENT PRIMARY KEY, KEY timestamp (timestamp), \
             KEY domain_timestamp (domain, timestamp)".into()),
        ("quota2", "username varchar(100) NOT NULL PRIMARY KEY, bytes bigint NOT NULL DEFAULT 0, messages int NOT NULL DEFAULT 0".into()),
        ("vacation",
            "email varchar(255) NOT NULL PRIMARY KEY, subject varchar(255) NOT NULL, body text NOT NULL, cache text NOT NULL, \
             domain varchar(255) NOT NULL, created datetime NOT NULL DEFAULT '2000-01-01 00:00:00', active tinyint(1) NOT NULL DEFAULT 1, \
             modified timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, activefrom timestamp NOT NULL DEFAULT '2000-01-01 00:00:00', \
             activeuntil timestamp NOT NULL DEFAULT '2038-01-18 00:00:00', interval_time int NOT NULL DEFAULT 0, KEY email (email)".into()),
        ("vacation_notification",
            "on_vacation varchar(255) NOT NULL, notified varchar(255) NOT NULL, notified_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP, \
             PRIMARY KEY (on_vacation, notified), FOREIGN KEY (on_vacation) REFERENCES vacation (email) ON DELETE CASCADE".into()),
    ]
}

const OWNER_COLUMNS: &str = "row_key varchar(255) NOT NULL, table_name varchar(16) NOT NULL, server varchar(400) NOT NULL, \
    object_uid varchar(64) NOT NULL, object varchar(400) NOT NULL, policy varchar(8) NOT NULL, desired char(16) NOT NULL, \
    password char(16) NOT NULL DEFAULT '', goto mediumtext NOT NULL, named varchar(255) NOT NULL DEFAULT '', PRIMARY KEY (row_key, table_name), KEY server (server)";

const ID_COLUMNS: &str = "row_key varchar(255) NOT NULL PRIMARY KEY, uid int NOT NULL, gid int NOT NULL";

/// Name and columns of each table of our own.
fn own_tables() -> [(&'static str, &'static str); 2] {
    [("vmail_owner", OWNER_COLUMNS), (Table::Id.as_str(), ID_COLUMNS)]
}

/// Columns that Postfix's look-ups name, and no others: no password hash ever reaches the mail pod.
const READER_COLUMNS: [(&str, &str); 5] = [
    ("vmail_id", "row_key, uid, gid"),
    ("domain", "domain, transport, backupmx, active"),
    ("alias_domain", "alias_domain, target_domain, active"),
    ("mailbox", "username, maildir, active"),
    ("alias", "address, goto, active"),
];

/// Makes `PostfixAdmin`'s tables where there is no table at all, and ours where they are missing; refuses tables that are not
/// `PostfixAdmin`'s. Gives what is there then.
pub(super) async fn ensure(connection: &mut MySqlConnection, names: &Names) -> Result<Columns, Error> {
    let there = Columns::read(connection, names).await?;
    let made_postfixadmin = ensure_postfixadmin(connection, names, &there).await?;
    let made_own = ensure_own(connection, names, &there).await?;
    if made_postfixadmin || made_own { Columns::read(connection, names).await } else { Ok(there) }
}

/// Gives whether it made any table.
async fn ensure_postfixadmin(
    connection: &mut MySqlConnection,
    names: &Names,
    there: &Columns,
) -> Result<bool, Error> {
    if is_unmade(connection, names, there).await? {
        make_postfixadmin_tables(connection, names).await?;
        Ok(true)
    } else {
        there.check()?;
        make_alias_domain_table(connection, names, there).await
    }
}

/// Whether the tables are still to be made: there are none, or somebody (an operator that was killed) began to make them.
async fn is_unmade(connection: &mut MySqlConnection, names: &Names, there: &Columns) -> Result<bool, Error> {
    let makes = postfixadmin_tables().map(|(name, _)| name);
    let own = own_tables().map(|(name, _)| name);
    if !there.tables().iter().all(|table| makes.contains(table) || own.contains(table)) {
        return Ok(false);
    }
    if !there.has("config", "name") {
        return Ok(!there.tables().iter().any(|table| makes.contains(table)));
    }
    // The version is written last.
    let sql = format!("SELECT COUNT(*) FROM {} WHERE name = 'version'", names.of("config"));
    let versions: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await?;
    Ok(versions == 0)
}

/// Gives whether it made any table.
async fn ensure_own(connection: &mut MySqlConnection, names: &Names, there: &Columns) -> Result<bool, Error> {
    let mut made = false;
    for (table, columns) in own_tables() {
        if !there.tables().contains(table) {
            make(connection, names, table, columns).await?;
            made = true;
        }
    }
    Ok(made)
}

/// `PostfixAdmin` had no alias domains before 2.3: Postfix looks them up all the same. Gives whether it made the table.
async fn make_alias_domain_table(
    connection: &mut MySqlConnection,
    names: &Names,
    there: &Columns,
) -> Result<bool, Error> {
    let missing = postfixadmin_tables()
        .into_iter()
        .find(|(name, _)| *name == Table::AliasDomain.as_str() && !there.tables().contains(name));
    if let Some((name, columns)) = &missing {
        make(connection, names, name, columns).await?;
    }
    Ok(missing.is_some())
}

async fn make_postfixadmin_tables(connection: &mut MySqlConnection, names: &Names) -> Result<(), Error> {
    for (name, columns) in postfixadmin_tables() {
        // The one reference from one table to another.
        let columns =
            columns.replace("REFERENCES vacation ", &format!("REFERENCES {} ", names.of("vacation")));
        make(connection, names, name, &columns).await?;
    }
    let version = format!("INSERT IGNORE INTO {} (name, value) VALUES ('version', ?)", names.of("config"));
    sqlx::query(sqlx::AssertSqlSafe(version)).bind(POSTFIXADMIN_VERSION).execute(connection).await?;
    Ok(())
}

async fn make(
    connection: &mut MySqlConnection,
    names: &Names,
    table: &str,
    columns: &str,
) -> Result<(), Error> {
    execute(connection, format!("CREATE TABLE IF NOT EXISTS {} ({columns}) {CHARSET}", names.of(table))).await
}

/// Lets `reader` read what Postfix needs.
pub(super) async fn grant(
    connection: &mut MySqlConnection,
    names: &Names,
    reader: &str,
) -> Result<(), Error> {
    let quoted = reader.replace('\'', "''");
    for (table, columns) in READER_COLUMNS {
        let sql = format!("GRANT SELECT ({columns}) ON {} TO '{quoted}'@'%'", names.of(table));
        execute(connection, sql).await?;
    }
    Ok(())
}

/// Runs a statement that can't be prepared or is run once.
async fn execute(connection: &mut MySqlConnection, sql: String) -> Result<(), Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The grants that a text tells people to make, each without what surrounds it.
    fn grants(text: &str) -> BTreeSet<&str> {
        text.lines()
            .map(|line| line.trim_start_matches(['#', ' ']))
            .filter(|line| line.starts_with("GRANT "))
            .collect()
    }

    #[test]
    fn sample_and_documentation_grant_what_is_needed_and_no_more() {
        let writer =
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, INDEX, REFERENCES ON mail.* TO postfixadmin@'%';";
        let reader = READER_COLUMNS.map(|(table, columns)| {
            format!("GRANT SELECT ({columns}) ON mail.{table} TO postfixserver@'%';")
        });
        let needed: BTreeSet<&str> = reader.iter().map(String::as_str).chain([writer]).collect();
        assert_eq!(grants(include_str!("../../docs/tables.md")), needed);
        assert_eq!(grants(include_str!("../../deploy/samples/external-database.yaml")), needed);
    }
}
