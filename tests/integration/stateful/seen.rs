//! What is in the tables at a moment: rows of others, which nobody may harm, and all of it as text.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;

use super::SERVER;

/// A row that we don't own: its table, its key, and all that may be harmed.
type Theirs = (String, String, String);

/// The table and the key of a row.
type Id = (String, String);

/// Remembers every row that we ever owned, also those that came and went between two looks.
pub const REMEMBERING: &str = "
    CREATE TABLE seen_owned (at BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, table_name VARCHAR(64) NOT NULL, row_key VARCHAR(255) NOT NULL)
        DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
    CREATE TRIGGER remember_owned AFTER INSERT ON vmail_owner FOR EACH ROW
        INSERT INTO seen_owned (table_name, row_key) VALUES (NEW.table_name, NEW.row_key);
";

/// What is there of others, and what we own.
pub struct Seen {
    theirs: Vec<Theirs>,
    ours: BTreeSet<Id>,
    /// What came to be ours, in order.
    owned: Vec<Id>,
    /// Owners of other clusters.
    other_owners: Vec<Id>,
}

impl Seen {
    pub async fn now(root: &mut MySqlConnection) -> Self {
        sqlx::raw_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT").execute(&mut *root).await.unwrap();
        let seen = Self::read(root).await;
        sqlx::raw_sql("COMMIT").execute(root).await.unwrap();
        seen
    }

    async fn read(root: &mut MySqlConnection) -> Self {
        let unowned = |(table, key, text): (&str, &str, &str)| {
            format!(
                "SELECT CAST('{table}' AS CHAR), {key}, CAST(CONCAT_WS('|', {text}) AS CHAR(400)) FROM {table} WHERE NOT EXISTS \
                 (SELECT 1 FROM vmail_owner o WHERE o.table_name = '{table}' AND o.row_key = {table}.{key} AND o.server = '{SERVER}')"
            )
        };
        let selects = [
            ("alias", "address", "goto, description, active, modified"),
            ("mailbox", "username", "maildir, name, password, quota, active, modified"),
            ("domain", "domain", "description, transport, aliases, mailboxes, quota, active, modified"),
            ("alias_domain", "alias_domain", "target_domain, active, modified"),
            ("admin", "username", "password, superadmin, active, modified"),
            ("vmail_id", "row_key", "uid, gid"),
        ]
        .map(unowned);
        let admins = "SELECT 'domain_admins', username, domain FROM domain_admins";
        let sql = format!("{} UNION ALL {admins} ORDER BY 1, 2, 3", selects.join(" UNION ALL "));
        let theirs = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *root).await.unwrap();
        let ours = format!("SELECT table_name, row_key FROM vmail_owner WHERE server = '{SERVER}'");
        let others =
            format!("SELECT row_key, desired FROM vmail_owner WHERE server <> '{SERVER}' ORDER BY 1");
        Self {
            theirs,
            ours: ids(root, &ours).await.into_iter().collect(),
            owned: ids(root, "SELECT table_name, row_key FROM seen_owned ORDER BY at").await,
            other_owners: ids(root, &others).await,
        }
    }

    /// Nobody's rows were harmed since; those that we adopted are ours now, and those that we let go are nobody's.
    pub fn assert_nobody_was_harmed(&self, after: &Self, adopts: bool) {
        let id = |(table, key, _): &Theirs| (table.clone(), key.clone());
        let owned = &after.owned[self.owned.len()..];
        for row in &self.theirs {
            let is_adopted = adopts && owned.contains(&id(row));
            assert!(is_adopted || after.theirs.contains(row), "{row:?} was harmed, now {:?}", after.theirs);
        }
        for row in &after.theirs {
            let was_theirs = self.theirs.iter().any(|old| id(old) == id(row));
            let was_ours = self.ours.contains(&id(row)) || owned.contains(&id(row));
            assert!(was_theirs || was_ours, "{row:?} was made and has no owner");
        }
        assert_eq!(self.other_owners, after.other_owners);
    }

    /// Whether somebody else has a row under a key.
    pub fn has(&self, table: &str, key: &str) -> bool {
        self.theirs.iter().any(|(other, row, _)| other == table && row == key)
    }
}

async fn ids(root: &mut MySqlConnection, sql: &str) -> Vec<Id> {
    sqlx::query_as(AssertSqlSafe(sql.to_owned())).fetch_all(root).await.unwrap()
}

/// Every column of every row of every table, `vmail_owner` and the log among them.
pub async fn contents(root: &mut MySqlConnection) -> Vec<String> {
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT CAST(table_name AS CHAR), CAST(GROUP_CONCAT(CONCAT('QUOTE(`', column_name, '`)') ORDER BY ordinal_position) AS CHAR) \
         FROM information_schema.columns WHERE table_schema = DATABASE() GROUP BY table_name ORDER BY table_name",
    )
    .fetch_all(&mut *root)
    .await
    .unwrap();
    let mut contents = Vec::new();
    for (table, columns) in tables {
        let sql =
            format!("SELECT CAST(CONCAT_WS(',', '{table}', {columns}) AS CHAR) FROM `{table}` ORDER BY 1");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *root).await.unwrap();
        contents.extend(rows);
    }
    contents
}
