//! Operators that die, and operators that meet: the tables are right in the end, nobody's rows are harmed, and no row
//! is missing in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use vmail_operator::api::{FIELD_MANAGER, MailServer, Mailbox};

use crate::bed::{Bed, LIMIT, execute};
use crate::cluster::eventually;
use crate::mariadb::MariaDb;

/// Objects of the sync that is killed again and again.
const OBJECTS: usize = 5000;

/// Times that the operator is killed.
const KILLS: u32 = 10;

/// Connections to the API server that make objects.
const CONNECTIONS: usize = 16;

/// How long five thousand objects may take on a busy machine, kills included.
const LONG: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_ten_moments_of_a_large_sync_the_operator_ends_where_it_would_have() {
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("killed_ten_times", &mariadb).await;
    bed.domain().await;
    bed.rows(&mariadb, "domain", 1).await;
    strangers_rows(&bed, &mariadb).await;
    let done = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(never_fewer(bed.access.database.clone(), mariadb.clone(), done.clone()));
    let creating = {
        let api: Api<Mailbox> = bed.api();
        tokio::spawn(async move {
            let create = |number| crate::bed::create_mailbox(api.clone(), number);
            futures::stream::iter(0..OBJECTS).map(create).buffer_unordered(CONNECTIONS).collect::<()>().await;
        })
    };
    for kill in 0..KILLS {
        // Somewhere in its tenth of the work: between two rows, in a transaction, or while it connects.
        let expected = i64::try_from(OBJECTS).unwrap() * i64::from(kill) / i64::from(KILLS);
        let sql = "SELECT COUNT(*) FROM mailbox";
        eventually(LONG, "the next tenth", || async { bed.numbers(&mariadb, sql).await >= expected }).await;
        tokio::time::sleep(Duration::from_millis(u64::from(getrandom::u32().unwrap() % 200))).await;
        bed.kill();
        bed.start();
    }
    creating.await.unwrap();
    let all = i64::try_from(OBJECTS).unwrap();
    bed.rows_within(LONG, &mariadb, "mailbox WHERE username LIKE 'u%'", all).await;
    bed.rows(&mariadb, "vmail_owner", 2 * all + 1).await;
    bed.rows(&mariadb, "vmail_owner o JOIN alias a ON o.table_name = 'alias' AND o.row_key = a.address", all)
        .await;
    done.store(true, Ordering::Relaxed);
    watching.await.unwrap();
    bed.rows(&mariadb, "alias WHERE goto = 'made by hand'", 100).await;
    bed.says_within::<Mailbox>(LONG, "u4999", "Ready", "Synced").await;
}

async fn strangers_rows(bed: &Bed, mariadb: &MariaDb) {
    let rows: Vec<String> = (0..100)
        .map(|number| format!("('hand{number}@alpha.example.org', 'made by hand', 'alpha.example.org')"))
        .collect();
    execute(bed, mariadb, &format!("INSERT INTO alias (address, goto, domain) VALUES {}", rows.join(",")))
        .await;
}

/// Nothing is ever deleted in this sync, so there are never fewer rows than a moment ago.
async fn never_fewer(database: String, mariadb: Arc<MariaDb>, done: Arc<AtomicBool>) {
    let mut root = mariadb.root(Some(&database)).await;
    let mut before = 0;
    while !done.load(Ordering::Relaxed) {
        let now: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM mailbox").fetch_one(&mut root).await.unwrap();
        assert!(now >= before, "{before} rows, then {now}");
        before = now;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn of_two_replicas_one_works_and_the_other_takes_over() {
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("replicas", &mariadb).await;
    bed.domain().await;
    bed.rows(&mariadb, "domain", 1).await;
    let second = bed.replica("second", FIELD_MANAGER);
    eventually(LIMIT, "the second one says whom it waits for", || async {
        second.log().contains("waiting for the Lease vmail-operator, held by vmail-operator")
    })
    .await;
    bed.mailboxes(0..5).await;
    bed.rows(&mariadb, "mailbox", 5).await;
    bed.kill();
    bed.mailboxes(5..10).await;
    bed.rows_within(Duration::from_mins(1), &mariadb, "mailbox", 10).await;
    drop(second);
}

#[tokio::test]
async fn asked_to_end_it_gives_its_lease_back_and_says_that_all_is_well() {
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("ended", &mariadb).await;
    bed.domain().await;
    bed.rows(&mariadb, "domain", 1).await;
    assert_eq!(bed.terminate().await, Some(0), "{}", bed.log());
    bed.start();
    bed.mailboxes(0..1).await;
    let took = bed.rows(&mariadb, "mailbox", 1).await;
    assert!(took < Duration::from_secs(5), "the next one waited {took:?} for the Lease");
}

#[tokio::test]
async fn asked_to_end_at_any_moment_of_its_start_it_ends() {
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("unstarted", &mariadb).await;
    bed.kill();
    for moment in 0..30 {
        bed.start();
        tokio::time::sleep(Duration::from_millis(15 * moment)).await;
        let code = bed.terminate().await;
        assert!(matches!(code, None | Some(0)), "after {moment} times 15 ms: {}", bed.log());
    }
}

#[tokio::test]
async fn two_operators_that_do_not_know_of_each_other_never_write_at_once() {
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("strangers", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..5).await;
    bed.rows(&mariadb, "mailbox", 5).await;
    // Its Lease is another one: what keeps it from the tables is the lock in the database.
    let second = bed.replica("stranger", "stranger");
    let met = eventually(LIMIT, "the second one meets the lock", || async {
        bed.condition::<MailServer>("myhost", "DatabaseReady")
            .await
            .is_some_and(|condition| condition["message"].as_str().unwrap_or_default().contains("lock"))
    })
    .await;
    assert!(met < Duration::from_secs(15), "it waited {met:?} with its first attempt, or with telling");
    bed.mailboxes(5..10).await;
    bed.rows(&mariadb, "mailbox", 10).await;
    bed.kill();
    bed.mailboxes(10..15).await;
    bed.rows(&mariadb, "mailbox", 15).await;
    bed.rows(&mariadb, "vmail_owner", 31).await;
    drop(second);
}

#[tokio::test]
async fn any_order_of_deletions_ends_clean() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("deletions", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..5).await;
    bed.rows(&mariadb, "mailbox", 5).await;
    bed.delete::<vmail_operator::api::MailDomain>("alpha").await;
    bed.rows(&mariadb, "vmail_owner", 0).await;
    bed.says::<Mailbox>("u0", "Ready", "UnknownDomain").await;
    bed.domain().await;
    bed.rows(&mariadb, "mailbox", 5).await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(bed.namespace.client.clone());
    namespaces.delete(&bed.namespace.name, &DeleteParams::background()).await.unwrap();
    // The namespace controller asks for every kind at its own, slow rate, and other tests' namespaces go at the same time.
    eventually(Duration::from_mins(4), "the namespace is gone, nothing is stuck", || async {
        namespaces.get_opt(&bed.namespace.name).await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn reported_drift_is_left_and_told() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("reported", &mariadb).await;
    bed.change::<MailServer>("myhost", json!({"drift": "Report"})).await;
    bed.domain().await;
    bed.mailboxes(0..2).await;
    bed.rows(&mariadb, "mailbox", 2).await;
    execute(&bed, &mariadb, "UPDATE mailbox SET active = 0 WHERE username = 'u0@alpha.example.org'").await;
    bed.says::<Mailbox>("u0", "Ready", "DriftDetected").await;
    assert!(bed.says::<MailServer>("myhost", "TablesSynced", "DriftDetected").await.starts_with("1 rows"));
    bed.rows(&mariadb, "mailbox WHERE active = 0", 1).await;
    bed.change::<MailServer>("myhost", json!({"drift": "Correct"})).await;
    bed.rows(&mariadb, "mailbox WHERE active = 1", 2).await;
    bed.says::<Mailbox>("u0", "Ready", "Synced").await;
    bed.says::<MailServer>("myhost", "TablesSynced", "Synced").await;
}
