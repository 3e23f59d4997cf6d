//! Tables without transactions (the seed's are of `MyISAM`): wherever the connection is cut, no row of ours is without its owner.

use sqlx::mysql::MySqlConnection;
use vmail_operator::plan::{Plan, Update};
use vmail_operator::store::Store;
use vmail_operator::tables::Table;

use super::{both_rows, count, kill, reopened, waiting_writer};
use crate::mariadb::MariaDb;
use crate::store::{SEED_TABLES, SERVER, execute, key, writing};

/// Somebody who holds a table until the connection ends.
async fn locking(mariadb: &MariaDb, database: &str, table: &str) -> MySqlConnection {
    let mut holder = mariadb.root(Some(database)).await;
    execute(&mut holder, &format!("LOCK TABLES {table} WRITE")).await;
    holder
}

/// Cuts the connection that applies a plan while it waits for `table`.
async fn cut_at(mariadb: &MariaDb, database: &str, mut store: Store, plan: Plan, table: &str) {
    let mut root = mariadb.root(None).await;
    let mut holder = locking(mariadb, database, table).await;
    let applying = tokio::spawn(async move { store.apply(&plan).await });
    let writer = waiting_writer(&mut root, database, table).await;
    kill(&mut root, writer).await;
    let error = applying.await.unwrap().unwrap_err();
    assert!(!error.is_about_a_row(), "{error}");
    execute(&mut holder, "UNLOCK TABLES").await;
}

#[tokio::test]
async fn a_row_of_ours_always_has_its_owner() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("myisam_cut").await;
    let mut root = mariadb.root(Some("myisam_cut")).await;
    execute(&mut root, SEED_TABLES).await;
    let store = Store::open(&access, SERVER).await.unwrap();
    let plan = writing(both_rows());
    cut_at(&mariadb, "myisam_cut", store, plan.clone(), "alias").await;
    assert_eq!((count(&mut root, "mailbox").await, count(&mut root, "alias").await), (1, 0));
    let mut store = reopened(&access).await;
    let current = store.read(&[&key("u0@alpha.example.org")]).await.unwrap();
    let mailbox = (Table::Mailbox, "u0@alpha.example.org".to_owned());
    assert!(current.rows.contains_key(&mailbox) && current.owners.contains_key(&mailbox), "{current:?}");
    let told = current.owners.values().all(|owner| owner.desired.is_empty());
    assert!(told, "what was not finished is no drift: {current:?}");

    let (mailbox, alias) = (plan.inserts[0].clone(), plan.inserts[1].clone());
    let rest = Plan {
        inserts: vec![alias],
        updates: vec![Update { before: mailbox.clone(), row: mailbox }],
        ..plan
    };
    store.apply(&rest).await.unwrap();
    let ids: Vec<_> = rest.owned.iter().map(|owner| (owner.table, owner.key.clone())).collect();
    let removal = Plan { deletes: ids.clone(), disowned: ids, ..Plan::default() };
    cut_at(&mariadb, "myisam_cut", store, removal.clone(), "mailbox").await;
    assert_eq!((count(&mut root, "mailbox").await, count(&mut root, "alias").await), (1, 0));
    assert_eq!(count(&mut root, "vmail_owner").await, 2, "until all are gone");
    reopened(&access).await.apply(&removal).await.unwrap();
    assert_eq!((count(&mut root, "mailbox").await, count(&mut root, "vmail_owner").await), (0, 0));
}

#[tokio::test]
async fn a_row_that_is_refused_leaves_nothing_of_its_plan() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("myisam_refused").await;
    let mut root = mariadb.root(Some("myisam_refused")).await;
    execute(&mut root, SEED_TABLES).await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    execute(&mut root, "INSERT INTO alias (address, goto) VALUES ('u0@alpha.example.org', 'theirs')").await;
    let error = store.apply(&writing(both_rows())).await.unwrap_err();
    assert!(error.is_about_a_row(), "{error}");
    assert_eq!((count(&mut root, "mailbox").await, count(&mut root, "vmail_owner").await), (0, 0));
    assert_eq!(count(&mut root, "alias WHERE goto = 'theirs'").await, 1);
    execute(&mut root, "DELETE FROM alias").await;
    store.apply(&writing(both_rows())).await.unwrap();
}
