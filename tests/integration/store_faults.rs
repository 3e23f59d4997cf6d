//! A database that fails in the middle of things: nothing is half-written, and the next attempt ends right.

use std::time::Duration;

use sqlx::Connection;
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::MailServer;
use vmail_operator::store::{Error, Store};
use vmail_operator::tables::Row;

use crate::bed::Bed;
use crate::cluster::eventually;
use crate::mariadb::MariaDb;
use crate::store::{SERVER, alias, execute, mailbox, writing};

const LIMIT: Duration = Duration::from_secs(20);

fn both_rows() -> Vec<Row> {
    vec![mailbox(0), alias("u0@alpha.example.org", "u0@alpha.example.org".into())]
}

async fn count(root: &mut MySqlConnection, table: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(root).await.unwrap()
}

/// Waits until the writer's statement waits for a lock of somebody else; gives its connection's number.
async fn blocked_writer(root: &mut MySqlConnection, database: &str) -> u64 {
    let writer = format!("{database}_writer");
    for _ in 0..1000 {
        let blocked: Option<u64> = sqlx::query_scalar(
            "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE user = ? AND info LIKE 'INSERT INTO `alias`%'",
        )
        .bind(&writer)
        .fetch_optional(&mut *root)
        .await
        .unwrap();
        if let Some(blocked) = blocked {
            return blocked;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the writer was never blocked");
}

/// A transaction of somebody else that holds the alias row that the writer wants.
async fn holding_the_alias(mariadb: &MariaDb, database: &str) -> MySqlConnection {
    let mut holder = mariadb.root(Some(database)).await;
    execute(&mut holder, "BEGIN").await;
    execute(
        &mut holder,
        "INSERT INTO alias (address, goto, domain) VALUES ('u0@alpha.example.org', 'x', 'x')",
    )
    .await;
    holder
}

#[tokio::test]
async fn a_connection_cut_in_mid_transaction_leaves_nothing_behind() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("cut").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let mut root = mariadb.root(Some("cut")).await;
    let mut holder = holding_the_alias(&mariadb, "cut").await;
    let applying = tokio::spawn(async move { store.apply(&writing(both_rows())).await });
    let writer = blocked_writer(&mut root, "cut").await;
    execute(&mut root, &format!("KILL {writer}")).await;
    let error = applying.await.unwrap().unwrap_err();
    assert!(!error.is_about_a_row(), "{error}");
    execute(&mut holder, "ROLLBACK").await;
    assert_eq!((count(&mut root, "mailbox").await, count(&mut root, "vmail_owner").await), (0, 0));
    let mut again = Store::open(&access, SERVER).await.unwrap();
    again.apply(&writing(both_rows())).await.unwrap();
    assert_eq!((count(&mut root, "mailbox").await, count(&mut root, "alias").await), (1, 1));
}

#[tokio::test]
async fn who_loses_the_lock_writes_nothing_any_more() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("lost").await;
    let mut first = Store::open(&access, SERVER).await.unwrap();
    assert!(matches!(Store::open(&access, SERVER).await, Err(Error::Locked(_))));
    let mut root = mariadb.root(Some("lost")).await;
    let writer: u64 = sqlx::query_scalar(
        "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE user = 'lost_writer' ORDER BY id LIMIT 1",
    )
    .fetch_one(&mut root)
    .await
    .unwrap();
    execute(&mut root, &format!("KILL {writer}")).await;
    let mut second = Store::open(&access, SERVER).await.unwrap();
    assert!(first.apply(&writing(both_rows())).await.is_err());
    assert_eq!(count(&mut root, "mailbox").await, 0);
    assert!(matches!(Store::open(&access, SERVER).await, Err(Error::Locked(_))), "the second one has it now");
    second.apply(&writing(both_rows())).await.unwrap();
}

#[tokio::test]
async fn what_a_deadlock_undid_is_done_again() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("deadlock").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let mut root = mariadb.root(Some("deadlock")).await;
    let mut holder = holding_the_alias(&mariadb, "deadlock").await;
    // More work done than the writer's: the database gives up the smaller transaction.
    for number in 0..200 {
        let sql = format!(
            "INSERT INTO alias (address, goto, domain) VALUES ('h{number}@alpha.example.org', 'x', 'x')"
        );
        execute(&mut holder, &sql).await;
    }
    let applying = tokio::spawn(async move { store.apply(&writing(both_rows())).await });
    blocked_writer(&mut root, "deadlock").await;
    let insert = "INSERT INTO mailbox (username, password, name, maildir, local_part, domain) VALUES ('u0@alpha.example.org', '', '', '', '', '')";
    // It goes through, so the writer was the one that gave up.
    execute(&mut holder, insert).await;
    assert_eq!(count(&mut root, "vmail_owner").await, 0);
    execute(&mut holder, "ROLLBACK").await;
    applying.await.unwrap().unwrap();
    assert_eq!((count(&mut root, "mailbox").await, count(&mut root, "vmail_owner").await), (1, 2));
    holder.close().await.unwrap();
}

/// What the operator says and does while the database takes no rows, and after.
async fn told_and_made_up_for(name: &str, break_it: &str, mend_it: &str, words: &str) {
    let mariadb = MariaDb::start();
    let bed = Bed::new(name, &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..3).await;
    bed.rows(&mariadb, "mailbox", 3).await;
    let mut root = mariadb.root(Some(name)).await;
    execute(&mut root, break_it).await;
    bed.mailboxes(3..6).await;
    eventually(LIMIT, words, || async {
        let condition = bed.condition::<MailServer>("myhost", "DatabaseReady").await.unwrap_or_default();
        condition["status"] == "False" && condition["message"].as_str().unwrap_or_default().contains(words)
    })
    .await;
    assert_eq!(count(&mut root, "mailbox").await, 3, "what was there stays");
    execute(&mut root, mend_it).await;
    bed.rows(&mariadb, "mailbox", 6).await;
    bed.says::<MailServer>("myhost", "DatabaseReady", "Ready").await;
}

#[tokio::test]
async fn a_read_only_server_is_told_and_made_up_for() {
    told_and_made_up_for("readonly", "SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0", "read-only")
        .await;
}

#[tokio::test]
async fn a_full_disk_is_told_and_made_up_for() {
    let full = "CREATE TRIGGER full BEFORE INSERT ON mailbox FOR EACH ROW \
                SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'";
    told_and_made_up_for("full", full, "DROP TRIGGER full", "The table is full").await;
}
