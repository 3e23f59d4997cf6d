//! Admins in a real MariaDB: their rows, and the domains that they manage.

use std::collections::BTreeSet;

use sqlx::mysql::MySqlConnection;
use vmail_operator::index::Key;
use vmail_operator::plan::{LogRow, Plan, Update};
use vmail_operator::store::Store;
use vmail_operator::tables::{AdminRow, Row, Table};

use crate::mariadb::MariaDb;
use crate::store::{SERVER, execute, mailbox, writing};

const BOSS: &str = "u0@alpha.example.org";

pub fn admin(username: &str, domains: &[&str]) -> AdminRow {
    AdminRow {
        username: username.into(),
        password: "{SHA512-CRYPT}$6$x$admin".into(),
        superadmin: domains == ["ALL"],
        active: true,
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
    }
}

pub fn key(username: &str) -> Key {
    Key::of_row(Table::Admin, username).unwrap()
}

async fn there(store: &mut Store, username: &str) -> Option<AdminRow> {
    let current = store.read(&[&key(username)]).await.unwrap();
    match current.rows.get(&(Table::Admin, username.to_owned())) {
        Some(Row::Admin(row)) => Some(row.clone()),
        other => other.map(|row| panic!("{row:?}")),
    }
}

/// The table as `PostfixAdmin` reads it, with what is there twice.
async fn grants(root: &mut MySqlConnection, username: &str) -> Vec<(String, String)> {
    let sql = "SELECT domain, CONCAT(active, created > '2020-01-01') FROM domain_admins WHERE username = ? ORDER BY domain, id";
    sqlx::query_as(sql).bind(username).fetch_all(root).await.unwrap()
}

fn of(domains: &[&str]) -> Vec<(String, String)> {
    domains.iter().map(|domain| ((*domain).to_owned(), "11".to_owned())).collect()
}

async fn change(store: &mut Store, row: AdminRow) {
    let plan = writing(vec![Row::Admin(row)]);
    let updates = plan.inserts.into_iter().map(|row| Update { before: row.clone(), row }).collect();
    store.apply(&Plan { updates, inserts: Vec::new(), ..plan }).await.unwrap();
}

#[tokio::test]
async fn an_admin_is_written_changed_and_removed_and_others_are_left_alone() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("admins").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let mut root = mariadb.root(Some("admins")).await;
    execute(
        &mut root,
        "INSERT INTO domain (domain) VALUES ('ALL');
         INSERT INTO admin (username, password, superadmin) VALUES ('hand@nowhere.org', '$6$hand', 1);
         INSERT INTO domain_admins (username, domain) VALUES ('hand@nowhere.org', 'ALL'), ('hand@nowhere.org', 'ALL');
         INSERT INTO domain_admins (username, domain) VALUES ('u0@alpha.example.org', 'ALL')",
    )
    .await;

    // A mailbox has the same address, and the grant that was there makes nobody a super admin.
    let two = ["alpha.example.org", "beta.example.org"];
    store.apply(&writing(vec![mailbox(0), Row::Admin(admin(BOSS, &two))])).await.unwrap();
    assert_eq!(there(&mut store, BOSS).await, Some(admin(BOSS, &two)));
    assert_eq!(grants(&mut root, BOSS).await, of(&two));
    let owned: BTreeSet<Key> = store.owned(SERVER).await.unwrap().keys;
    assert_eq!(owned, [Key::from_row(BOSS).unwrap(), key(BOSS)].into());
    let (hash, superadmin): (String, i64) =
        sqlx::query_as("SELECT password, superadmin + 0 FROM admin WHERE username = ? AND active = 1 AND created > '2020-01-01'")
            .bind(BOSS)
            .fetch_one(&mut root)
            .await
            .unwrap();
    assert_eq!((hash.as_str(), superadmin), ("{SHA512-CRYPT}$6$x$admin", 0));

    // What stays keeps its row; what somebody switched off or wrote in capitals is not there twice.
    let kept: i64 = id_of(&mut root, "beta.example.org").await;
    execute(&mut root, "UPDATE domain_admins SET active = 0 WHERE domain = 'alpha.example.org'").await;
    assert_eq!(
        there(&mut store, BOSS).await,
        Some(admin(BOSS, &["beta.example.org"])),
        "one is switched off"
    );
    let three = ["alpha.example.org", "beta.example.org", "gamma.example.org"];
    change(&mut store, admin(BOSS, &three)).await;
    assert_eq!(grants(&mut root, BOSS).await, of(&three));
    assert_eq!(id_of(&mut root, "beta.example.org").await, kept);
    change(&mut store, admin(BOSS, &["ALL"])).await;
    assert_eq!(grants(&mut root, BOSS).await, of(&["ALL"]));
    assert_eq!(there(&mut store, BOSS).await, Some(admin(BOSS, &["ALL"])));

    let log = LogRow { domain: "admin".into(), action: "delete_admin", data: BOSS.into() };
    let id = (Table::Admin, BOSS.to_owned());
    let plan = Plan { deletes: vec![id.clone()], disowned: vec![id], log: vec![log], ..Plan::default() };
    store.apply(&plan).await.unwrap();
    assert_eq!(there(&mut store, BOSS).await, None);
    assert_eq!(grants(&mut root, BOSS).await, []);
    assert_eq!(
        store.owned(SERVER).await.unwrap().keys.into_iter().collect::<Vec<_>>(),
        [Key::from_row(BOSS).unwrap()]
    );
    assert_eq!(store.owned(SERVER).await.unwrap().counts.mailboxes, 1);

    let hand: Vec<(String, i64)> =
        sqlx::query_as("SELECT password, superadmin + 0 FROM admin").fetch_all(&mut root).await.unwrap();
    assert_eq!(hand, [("$6$hand".to_owned(), 1)]);
    assert_eq!(grants(&mut root, "hand@nowhere.org").await.len(), 2, "nobody's rows are tidied");
    let all: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM domain WHERE domain = 'ALL'")
        .fetch_one(&mut root)
        .await
        .unwrap();
    assert_eq!(all, 1, "PostfixAdmin's own row stays");
}

async fn id_of(root: &mut MySqlConnection, domain: &str) -> i64 {
    let sql = "SELECT CAST(id AS SIGNED) FROM domain_admins WHERE username = ? AND domain = ?";
    sqlx::query_scalar(sql).bind(BOSS).bind(domain).fetch_one(root).await.unwrap()
}

#[tokio::test]
async fn many_admins_of_many_domains_are_written_and_read_back() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("many_admins").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let domains: Vec<String> = (0..1000).map(|number| format!("d{number}.example.org")).collect();
    let rows: Vec<Row> = (0..12)
        .map(|number| {
            let managed: Vec<&str> = domains.iter().skip(number).map(String::as_str).collect();
            Row::Admin(admin(&format!("a{number}@nowhere.org"), &managed))
        })
        .collect();
    store.apply(&writing(rows.clone())).await.unwrap();
    let keys: Vec<Key> = rows.iter().map(|row| key(row.key())).collect();
    let read = store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap();
    for row in rows {
        assert_eq!(read.rows[&(Table::Admin, row.key().to_owned())], row);
    }
}

#[tokio::test]
async fn tables_of_before_there_was_a_column_superadmin_hold_admins_and_none_at_all_is_told() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("old_admins").await;
    Store::open(&access, SERVER).await.unwrap().close().await;
    let mut root = mariadb.root(Some("old_admins")).await;
    execute(&mut root, "ALTER TABLE admin DROP COLUMN superadmin").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    assert_eq!(store.lacking_for_admins(), Vec::<String>::new());
    store.apply(&writing(vec![Row::Admin(admin(BOSS, &["ALL"]))])).await.unwrap();
    assert_eq!(there(&mut store, BOSS).await, Some(admin(BOSS, &["ALL"])));
    store.close().await;

    execute(&mut root, "DROP TABLE domain_admins; ALTER TABLE admin DROP COLUMN active").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    assert_eq!(store.lacking_for_admins(), ["column admin.active", "table domain_admins"]);
    assert_eq!(there(&mut store, BOSS).await, None, "and nothing is asked that could not be answered");
    store.apply(&writing(vec![mailbox(0)])).await.unwrap();
}
