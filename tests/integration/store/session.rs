//! What the store asks of the server for its own session, whatever the server does otherwise.

use vmail_operator::plan::{LogRow, Plan};
use vmail_operator::store::Store;
use vmail_operator::tables::{MailboxRow, Row};

use super::{SEED_TABLES, SERVER, alias, execute, key, mailbox, writing};
use crate::mariadb::MariaDb;

#[tokio::test]
async fn what_does_not_fit_is_refused_and_not_cut_off() {
    let mariadb = MariaDb::start();
    execute(&mut mariadb.root(None).await, "SET GLOBAL sql_mode = ''").await;
    let access = mariadb.database("lenient").await;
    let mut root = mariadb.root(Some("lenient")).await;
    execute(&mut root, SEED_TABLES).await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let Row::Mailbox(row) = mailbox(0) else { unreachable!() };
    for row in [
        alias("u0@alpha.example.org", "x@elsewhere.example.org,".repeat(3000)),
        Row::Mailbox(MailboxRow { quota: 5_000_000_000, ..row }),
    ] {
        let error = store.apply(&writing(vec![row])).await.unwrap_err();
        assert!(error.is_about_a_row(), "{error}");
    }
    let current = store.read(&[&key("u0@alpha.example.org")]).await.unwrap();
    assert!(current.rows.is_empty() && current.owners.is_empty(), "{current:?}");
    store.close().await;

    execute(&mut root, "ALTER TABLE mailbox ADD department varchar(20) NOT NULL").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    store.apply(&writing(vec![mailbox(0)])).await.expect("this server gives somebody's own column a value");
}

#[tokio::test]
async fn times_are_the_servers() {
    let mariadb = MariaDb::start();
    execute(&mut mariadb.root(None).await, "SET GLOBAL time_zone = '+05:00'").await;
    let access = mariadb.database("zoned").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let log =
        vec![LogRow { domain: "alpha.example.org".into(), action: "create_mailbox", data: "u0".into() }];
    store.apply(&Plan { log, ..writing(vec![mailbox(0)]) }).await.unwrap();
    let mut root = mariadb.root(Some("zoned")).await;
    for (time, table) in [("timestamp", "log"), ("created", "mailbox")] {
        let sql = format!("SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), {time}) FROM {table}");
        let ahead: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut root).await.unwrap();
        assert!((5 * 3600 - 60..=5 * 3600).contains(&ahead), "{time}: {ahead} s");
    }
}
