//! What happens in the middle of a comparison, which waits there for somebody else's transaction.

use std::collections::BTreeSet;

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::installation::{Installation, Settings};
use super::mailboxes::{address, declare, declare_domain, id, rows};
use crate::mariadb::MariaDb;

const SETTINGS: Settings = Settings { adopts: false, minimum: 10, percent: 5 };

async fn execute(connection: &mut MySqlConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// Begins a comparison that has a mailbox's row to correct, and can't until the transaction that is given has ended.
async fn held_up(
    mariadb: &MariaDb,
    installation: &mut Installation,
    database: &str,
    number: usize,
) -> MySqlConnection {
    let row = format!("mailbox WHERE username = '{}'", address(number));
    let drifting = row.replace(" WHERE", " SET maildir = 'elsewhere/' WHERE");
    execute(&mut installation.root, format!("UPDATE {drifting}")).await;
    let mut holder = mariadb.root(Some(database)).await;
    execute(&mut holder, format!("START TRANSACTION; SELECT 1 FROM {row} FOR UPDATE")).await;
    installation.compare();
    installation.until_writers("info LIKE '%FOR UPDATE'", true).await;
    holder
}

/// More than go into one transaction, so that some go before their chunk is planned and some after.
#[tokio::test]
async fn rows_whose_objects_go_in_the_middle_of_a_comparison_wait_for_a_release() {
    let (mariadb, database) = (MariaDb::shared(), "mid_pass_brake");
    let mut installation = Installation::begin(&mariadb, database, SETTINGS).await;
    declare_domain(&installation.api);
    (0..1100).for_each(|number| declare(&installation.api, number));
    installation.idle().await;
    let holder = held_up(&mariadb, &mut installation, database, 0).await;
    for number in 900..1100 {
        installation.api.remove(&id(number));
    }
    installation.seen().await;
    holder.close().await.unwrap();
    installation.idle().await;
    assert_eq!(rows(&mut installation.root).await, (0..1100).map(address).collect::<BTreeSet<_>>());
    let (hash, count) = installation.held().unwrap();
    assert_eq!(count, 200);
    installation.release(&hash);
    installation.idle().await;
    assert_eq!(rows(&mut installation.root).await, (0..900).map(address).collect::<BTreeSet<_>>());
    installation.stop().await;
}
