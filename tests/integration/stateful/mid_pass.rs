//! What happens in the middle of a comparison, which waits there for somebody else's transaction.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};
use vmail_operator::index::rows::{Kind, ObjectId};
use vmail_operator::object::ObjectName;

use super::installation::{Installation, Settings};
use super::mailboxes::{address, declare, declare_domain, domain, id, rows};
use super::seen::REMEMBERING;
use crate::mariadb::MariaDb;

const SETTINGS: Settings = Settings { adopts: false, minimum: 10, percent: 5 };

/// Remembers every domain that an admin was ever given.
const REMEMBERING_ADMINS: &str = "
    CREATE TABLE seen_admins (domain VARCHAR(255) NOT NULL) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
    CREATE TRIGGER remember_admins AFTER INSERT ON domain_admins FOR EACH ROW INSERT INTO seen_admins (domain) VALUES (NEW.domain);
";

async fn execute(connection: &mut MySqlConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// Gives a comparison something to correct, the first mailbox's row, and keeps it from that until the transaction that is
/// given has ended.
async fn obstructed(mariadb: &MariaDb, installation: &mut Installation, database: &str) -> MySqlConnection {
    let row = format!("mailbox WHERE username = '{}'", address(0));
    let drifting = row.replace(" WHERE", " SET maildir = 'elsewhere/' WHERE");
    execute(&mut installation.root, format!("UPDATE {drifting}")).await;
    let mut holder = mariadb.root(Some(database)).await;
    execute(&mut holder, format!("START TRANSACTION; SELECT 1 FROM {row} FOR UPDATE")).await;
    holder
}

async fn until_held_up(installation: &mut Installation) {
    installation.until_writers("info LIKE '%FOR UPDATE'", true).await;
}

/// Begins a comparison that is [`obstructed`].
async fn held_up(mariadb: &MariaDb, installation: &mut Installation, database: &str) -> MySqlConnection {
    let holder = obstructed(mariadb, installation, database).await;
    installation.compare();
    until_held_up(installation).await;
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
    let holder = held_up(&mariadb, &mut installation, database).await;
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
    let holder = held_up(&mariadb, &mut installation, database).await;
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

/// The first comparison has yet to come to the domains, and to find out that they are somebody else's.
#[tokio::test]
async fn nothing_that_comes_in_the_middle_of_the_first_comparison_is_written_in_a_domain_of_somebody_else() {
    let (mariadb, database) = (MariaDb::shared(), "mid_pass_first");
    let mut installation = Installation::begin(&mariadb, database, SETTINGS).await;
    declare_domain(&installation.api);
    (0..1100).for_each(|number| declare(&installation.api, number));
    installation.idle().await;
    installation.stop().await;
    execute(&mut installation.root, format!("{REMEMBERING} {REMEMBERING_ADMINS}")).await;
    let account = |kind, name| ObjectId { kind, name: ObjectName::new("mail", name) };
    let (server, catch_all) = (json!({"name": "myhost"}), ["u0000@alpha.example.org"]);
    for name in ["psi", "zeta"] {
        let domain = format!("{name}.example.org");
        let by_hand = format!("INSERT INTO domain (domain, description) VALUES ('{domain}', 'by hand')");
        execute(&mut installation.root, by_hand).await;
        let spec = json!({"serverRef": server, "domain": domain, "catchAll": catch_all});
        installation.api.put(&account(Kind::Domain, name), 0, spec);
    }
    let holder = obstructed(&mariadb, &mut installation, database).await;
    installation.start();
    until_held_up(&mut installation).await;
    // Each in a domain of its own: what is found out about one is known for the other.
    let (mailbox, admin) = (account(Kind::Mailbox, "zoe"), account(Kind::Admin, "zoe"));
    installation.api.put(&mailbox, 1, json!({"address": "zoe@zeta.example.org"}));
    let spec =
        json!({"serverRef": server, "username": "zoe@alpha.example.org", "domains": ["psi.example.org"]});
    installation.api.put(&admin, 1, spec);
    installation.seen().await;
    holder.close().await.unwrap();
    installation.idle().await;
    let written = "SELECT row_key FROM seen_owned WHERE row_key LIKE '%zeta.example.org' UNION ALL SELECT domain FROM seen_admins";
    let written: Vec<String> = sqlx::query_scalar(written).fetch_all(&mut installation.root).await.unwrap();
    assert_eq!(written, <[String; 0]>::default());
    let domains = ["psi", "zeta"].map(|name| account(Kind::Domain, name));
    for object in domains.into_iter().chain([mailbox, admin]) {
        assert_eq!(installation.api.told(&object).unwrap().reason, "RowExists", "{object}");
    }
    installation.stop().await;
}
