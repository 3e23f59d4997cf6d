//! What happens in the middle of a comparison, which waits there for somebody else's transaction.

use std::collections::BTreeSet;

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::installation::{Installation, Settings};
use super::mailboxes::{address, declare, declare_domain, domain, id, rows};
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

/// A server that serves a domain no more tells its objects last: the comparison that was under way tells them of before.
#[tokio::test]
async fn objects_that_lose_their_domain_in_the_middle_of_a_comparison_are_told_so() {
    let (mariadb, database) = (MariaDb::shared(), "mid_pass_told");
    let mut installation = Installation::begin(&mariadb, database, SETTINGS).await;
    let by_hand = "INSERT INTO mailbox (username, password, maildir, local_part, domain) VALUES";
    let values = format!("('{}', 'theirs', 'hand/', 'u0001', 'alpha.example.org')", address(1));
    execute(&mut installation.root, format!("{by_hand} {values}")).await;
    declare_domain(&installation.api);
    (0..2).for_each(|number| declare(&installation.api, number));
    installation.idle().await;
    // Nothing in the tables says that the server ever had to do with it.
    assert_eq!(installation.api.told(&id(1)).unwrap().reason, "RowExists");
    let holder = held_up(&mariadb, &mut installation, database, 0).await;
    installation.api.remove(&domain());
    installation.compare();
    installation.seen().await;
    holder.close().await.unwrap();
    installation.idle().await;
    for number in 0..2 {
        assert_eq!(installation.api.told(&id(number)).unwrap().reason, "UnknownDomain");
    }
    installation.stop().await;
}
