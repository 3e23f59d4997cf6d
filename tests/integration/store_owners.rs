//! Two set loops with the same tables: what one has taken over the other neither deletes nor forgets.

use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use vmail_operator::plan::{Plan, RowId};
use vmail_operator::store::Store;
use vmail_operator::tables::{IdRow, OwnerRow, Row};

use crate::mariadb::MariaDb;
use crate::store::{SERVER, alias, alpha_and_delta, execute, mailbox, writing};
use crate::store_admins::admin;

const TABLES: [&str; 8] =
    ["domain", "alias_domain", "mailbox", "alias", "vmail_id", "admin", "domain_admins", "vmail_owner"];

async fn counts(root: &mut MySqlConnection) -> Vec<i64> {
    let mut counts = Vec::new();
    for table in TABLES {
        let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        counts.push(sqlx::query_scalar(sql).fetch_one(&mut *root).await.unwrap());
    }
    counts
}

/// A row of every table, and `mailboxes` with their identity rows.
fn rows(mailboxes: usize) -> Vec<Row> {
    let mut rows = alpha_and_delta();
    rows.extend([
        Row::Id(IdRow { key: "u0@alpha.example.org".into(), uid: 950, gid: 950 }),
        Row::Admin(admin("boss@nowhere.org", &["alpha.example.org"])),
    ]);
    rows.extend((0..mailboxes).map(mailbox));
    rows.extend((0..mailboxes).map(|number| {
        let address = format!("u{number}@alpha.example.org");
        alias(&address, address.clone())
    }));
    rows
}

fn removing(rows: &[Row]) -> Plan {
    let ids: Vec<RowId> = rows.iter().map(|row| (row.table(), row.key().to_owned())).collect();
    Plan { deletes: ids.clone(), disowned: ids, ..Plan::default() }
}

fn taking_over(rows: &[Row]) -> Vec<OwnerRow> {
    writing(rows.to_vec()).owned
}

/// Few rows go in one packet, many in prepared statements.
#[tokio::test]
async fn what_another_server_has_taken_over_is_left_to_it() {
    let mariadb = MariaDb::shared();
    for (name, mailboxes) in [("owners_few", 2), ("owners_many", 1200)] {
        let access = mariadb.database(name).await;
        let mut store = Store::open(&access, SERVER).await.unwrap();
        let mut root = mariadb.root(Some(name)).await;
        let rows = rows(mailboxes);
        store.apply(&writing(rows.clone())).await.unwrap();
        let before = counts(&mut root).await;
        execute(&mut root, "UPDATE vmail_owner SET server = 'cluster/mail/other'").await;
        store.apply(&removing(&rows)).await.unwrap();
        assert_eq!(counts(&mut root).await, before, "{name}");

        // Taken back, and deleted, in one transaction.
        store.apply(&Plan { owned: taking_over(&rows), ..removing(&rows) }).await.unwrap();
        assert_eq!(counts(&mut root).await, [0; TABLES.len()], "{name}");
    }
}

/// Keys in mixed case, and in the character set of `PostfixAdmin`'s own tables.
#[tokio::test]
async fn whatever_the_collation_of_the_tables_a_row_is_found_by_its_owner() {
    let mariadb = MariaDb::shared();
    for (name, charset) in [
        ("owners_latin1", "latin1 COLLATE latin1_general_ci"),
        ("owners_utf8mb3", "utf8 COLLATE utf8_general_ci"),
        ("owners_utf8mb4", "utf8mb4 COLLATE utf8mb4_general_ci"),
    ] {
        let access = mariadb.database(name).await;
        Store::open(&access, SERVER).await.unwrap().close().await;
        let mut root = mariadb.root(Some(name)).await;
        for table in ["domain", "alias_domain", "mailbox", "alias", "admin", "domain_admins"] {
            execute(&mut root, &format!("ALTER TABLE {table} CONVERT TO CHARACTER SET {charset}")).await;
        }
        execute(&mut root, "ALTER TABLE admin CONVERT TO CHARACTER SET latin1 COLLATE latin1_swedish_ci")
            .await;
        let mut store = Store::open(&access, SERVER).await.unwrap();
        let rows = rows(3);
        store.apply(&writing(rows.clone())).await.unwrap();
        execute(&mut root, "UPDATE mailbox SET username = CONCAT('U', SUBSTRING(username, 2))").await;
        store.apply(&removing(&rows)).await.unwrap();
        assert_eq!(counts(&mut root).await, [0; TABLES.len()], "{name}");
    }
}

/// To the collation of the table, José and Jose are one address; to us they are two.
#[tokio::test]
async fn a_row_that_only_the_collation_takes_for_ours_is_not_deleted() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("owners_jose").await;
    Store::open(&access, SERVER).await.unwrap().close().await;
    let mut root = mariadb.root(Some("owners_jose")).await;
    execute(&mut root, "ALTER TABLE alias CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let ours = [alias("jose@alpha.example.org", "ours".into())];
    store.apply(&writing(ours.to_vec())).await.unwrap();
    let theirs = "UPDATE alias SET address = 'josé@alpha.example.org', goto = 'theirs'";
    execute(&mut root, theirs).await;
    store.apply(&removing(&ours)).await.unwrap();
    let left: Vec<String> = sqlx::query_scalar("SELECT goto FROM alias").fetch_all(&mut root).await.unwrap();
    assert_eq!(left, ["theirs"]);
}
