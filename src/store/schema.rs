//! The tables: made as today's `PostfixAdmin` has them where a database is empty, left as they are elsewhere.
//!
//! The description of the columns follows `PostfixAdmin`'s schema 1856. Keys are `utf8mb4_bin`: with a server's own
//! default (`utf8mb4_general_ci`, say) `josé@` and `jose@` would be one mailbox.

use std::collections::BTreeSet;

use sqlx::mysql::MySqlConnection;

use super::names::Names;
use super::{Error, Store};
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

/// Columns that Postfix's look-ups name, and no others: no password hash ever reaches the mail pod.
const READER_COLUMNS: [(&str, &str); 5] = [
    ("vmail_id", "row_key, uid, gid"),
    ("domain", "domain, transport, backupmx, active"),
    ("alias_domain", "alias_domain, target_domain, active"),
    ("mailbox", "username, maildir, active"),
    ("alias", "address, goto, active"),
];

/// Makes `PostfixAdmin`'s tables where the database has none of those that matter; refuses one that has some.
pub(super) async fn ensure_postfixadmin(
    connection: &mut MySqlConnection,
    names: &Names,
) -> Result<(), Error> {
    let tables = Store::tables(connection, names).await?;
    let needed = ["domain", "mailbox", "alias"];
    let missing: Vec<_> = needed.into_iter().filter(|table| !tables.contains(*table)).collect();
    match missing.len() {
        0 => make_alias_domain_table(connection, names, &tables).await,
        3 => make_postfixadmin_tables(connection, names).await,
        _ => Err(Error::Unfit(missing.into_iter().map(|table| format!("table {table}")).collect())),
    }
}

/// Makes our own tables where they are missing.
pub(super) async fn ensure_own(connection: &mut MySqlConnection, names: &Names) -> Result<(), Error> {
    let there = Store::tables(connection, names).await?;
    for (table, columns) in [("vmail_owner", OWNER_COLUMNS), (Table::Id.as_str(), ID_COLUMNS)] {
        if !there.contains(table) {
            let sql = format!("CREATE TABLE IF NOT EXISTS {} ({columns}) {CHARSET}", names.of(table));
            execute(connection, sql).await?;
        }
    }
    Ok(())
}

/// `PostfixAdmin` had no alias domains before 2.3: Postfix looks them up all the same.
async fn make_alias_domain_table(
    connection: &mut MySqlConnection,
    names: &Names,
    tables: &BTreeSet<String>,
) -> Result<(), Error> {
    let table = postfixadmin_tables().into_iter().find(|(name, _)| *name == Table::AliasDomain.as_str());
    match table {
        Some((name, columns)) if !tables.contains(name) => {
            let sql = format!("CREATE TABLE IF NOT EXISTS {} ({columns}) {CHARSET}", names.of(name));
            execute(connection, sql).await
        }
        _ => Ok(()),
    }
}

async fn make_postfixadmin_tables(connection: &mut MySqlConnection, names: &Names) -> Result<(), Error> {
    for (name, columns) in postfixadmin_tables() {
        // The one reference from one table to another.
        let columns =
            columns.replace("REFERENCES vacation ", &format!("REFERENCES {} ", names.of("vacation")));
        let sql = format!("CREATE TABLE IF NOT EXISTS {} ({columns}) {CHARSET}", names.of(name));
        execute(connection, sql).await?;
    }
    let version = format!("INSERT IGNORE INTO {} (name, value) VALUES ('version', ?)", names.of("config"));
    sqlx::query(sqlx::AssertSqlSafe(version)).bind(POSTFIXADMIN_VERSION).execute(connection).await?;
    Ok(())
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
