//! The operator's process on a real API server and a real MariaDB: a burst of mailboxes, one mailbox at rest, and its [`starts`].
//!
//! Beside each figure stands what a bare client needs on the same machine in the same run.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::{Api, Client, Config};
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::MailServer;

use crate::api_server::{
    Writes, await_ready, create_burst, create_domains, define, namespace, patch_burst, replace_burst,
};
use crate::mariadb::MariaDb;
use crate::operator::{Operator, cpu_of};
use crate::{Figure, bare_burst, one_mailbox, starts};

/// Up to here it is measured, too, what a bare client needs for a burst, and a restart without mailboxes: above it that would only
/// take its time.
const SMALL: usize = 1000;

pub const LIMIT: Duration = Duration::from_mins(15);
pub const SAMPLES: usize = 100;

/// Passes of the set loop.
const PASSES: &str = "vmail_passes_total{outcome=\"success\"}";

/// Patches of mailboxes that were answered.
const PATCHED: &str = "vmail_status_patches_total{kind=\"Mailbox\",outcome=\"success\"}";

/// What a bare client needed.
#[derive(Clone, Copy)]
struct Raw {
    create: f64,
    patch: f64,
}

pub async fn measure(n: usize) {
    let config = Config::infer().await.expect("KUBECONFIG: `make bench` starts a cluster and sets it");
    // The operator's, so that the limits are those of the machine.
    let client = vmail_operator::client::connect(&config).unwrap();
    define(&client).await;
    let mariadb = MariaDb::start();
    let (bare, served) = (namespace(&client, "bench-raw").await, namespace(&client, "bench").await);

    create_domains(&client, &bare, "myhost").await;
    let raw = Raw {
        create: create_burst(&client, &bare, n).await,
        patch: patch_burst(&client, &bare, n, "what a bare client says of it").await,
    };
    let mut namespaces = vec![bare.clone(), served.clone()];
    if n <= SMALL {
        let namespace = namespace(&client, "bench-bare").await;
        let value = bare_burst::measure(&client, &namespace, &mariadb, n).await;
        Figure { name: "burst_bare", value, unit: "s", limit: raw.create + raw.patch, n }.print();
        namespaces.push(namespace);
        // Both of objects that have a status already.
        let limit = patch_burst(&client, &bare, n, "the same, patched").await;
        let value = replace_burst(&client, &bare, n, "the same, put in its place").await;
        Figure { name: "status_replaced", value, unit: "s", limit, n }.print();
    }

    let access = mariadb.database("bench").await;
    server(&client, &served, &access).await;
    let mut root = mariadb.root(Some("bench")).await;
    if n <= SMALL {
        starts::empty_restart(&client, &served, &mut root).await;
    }
    let mut operator = Operator::start(&served);
    operator.first_comparison().await;
    create_domains(&client, &served, "myhost").await;
    await_silence(&client).await;
    burst(&client, &served, &mut root, &operator, raw, n).await;
    one_mailbox::measure(&client, (&served, &bare), &mariadb, &mut root, n).await;
    at_rest(&client, &mut root, &operator, n).await;
    let mut memory = operator.peak_memory();
    operator.stop();
    memory = memory.max(starts::restart(&client, &served, &mariadb, &mut root, n).await);
    memory = memory.max(starts::cold_start(&client, &served, &mariadb, n).await);
    Figure { name: "operator_peak_memory", value: memory, unit: "MiB", limit: memory_bound(n), n }.print();
    // Only now: the API server is busy with it for as long as with making them.
    for namespace in namespaces {
        Api::<Namespace>::all(client.clone()).delete(&namespace, &DeleteParams::background()).await.unwrap();
    }
}

/// Waits until the cluster has made what belongs to the `MailServer`, and the domains are told: two seconds without a write.
pub async fn await_silence(client: &Client) {
    let mut before = Writes::count(client).await;
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now = Writes::count(client).await;
        if now.since(&before, None) == 0.0 {
            return;
        }
        before = now;
    }
}

/// The peak resident set that the project allows itself.
fn memory_bound(n: usize) -> f64 {
    if n <= SMALL { 30.0 } else { 150.0 }
}

/// `n` mailboxes as fast as the API server takes them.
async fn burst(
    client: &Client,
    namespace: &str,
    root: &mut MySqlConnection,
    operator: &Operator,
    raw: Raw,
    n: usize,
) {
    let all = f64::from(u32::try_from(n).unwrap());
    let before = Writes::count(client).await;
    let (started, cpu, database_cpu) = (Instant::now(), operator.cpu(), cpu_of("mariadbd"));
    let creating = create_burst(client, namespace, n).await;
    let answered = Instant::now();
    await_rows(root, n).await;
    let behind = answered.elapsed().as_secs_f64();
    operator.await_metric(PATCHED, all).await;
    let settled = started.elapsed().as_secs_f64();
    let (cpu, database_cpu) = (operator.cpu() - cpu, cpu_of("mariadbd") - database_cpu);
    let writes = Writes::count(client).await;
    // What was counted is so; a list of all of them is no part of the burst.
    await_ready(client, namespace, n).await;
    let limit = raw.create + raw.patch;
    Figure { name: "burst_operator_cpu", value: cpu, unit: "s", limit: settled, n }.print();
    Figure { name: "burst_database_cpu", value: database_cpu, unit: "s", limit: settled, n }.print();
    let passes = operator.metric(PASSES);
    Figure { name: "burst_passes", value: passes, unit: "passes", limit: all, n }.print();
    Figure { name: "burst_create", value: creating, unit: "s", limit: raw.create, n }.print();
    Figure { name: "burst_last_row_after_last_answer", value: behind, unit: "s", limit: 0.5, n }.print();
    Figure { name: "burst_all_status_written", value: settled, unit: "s", limit, n }.print();
    let patches = writes.since(&before, Some("mailboxes/status"));
    Figure { name: "burst_mailbox_patches", value: patches, unit: "patches", limit: all, n }.print();
    let patches = writes.since(&before, Some("maildomains/status"));
    Figure { name: "burst_domain_patches", value: patches, unit: "patches", limit: all, n }.print();
}

/// What an operator does in ten seconds in which nothing happens.
async fn at_rest(client: &Client, root: &mut MySqlConnection, operator: &Operator, n: usize) {
    const REST: Duration = Duration::from_secs(10);
    tokio::time::sleep(Duration::from_secs(7)).await;
    let before = (operator.cpu(), statements(root).await, Writes::count(client).await);
    tokio::time::sleep(REST).await;
    let (cpu, statements) = (operator.cpu() - before.0, statements(root).await - before.1);
    let writes = Writes::count(client).await.since(&before.2, None);
    Figure { name: "at_rest_cpu", value: cpu / REST.as_secs_f64(), unit: "cores", limit: 0.01, n }.print();
    // One is the question for this number itself.
    Figure { name: "at_rest_statements", value: statements - 1.0, unit: "statements", limit: 1.0, n }.print();
    Figure { name: "at_rest_api_writes", value: writes, unit: "writes", limit: 1.0, n }.print();
}

async fn status_variables(root: &mut MySqlConnection, names: &str) -> f64 {
    let sql = format!(
        "SELECT CAST(SUM(variable_value) AS DOUBLE) FROM information_schema.global_status WHERE variable_name IN ({names})"
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(root).await.unwrap()
}

async fn statements(root: &mut MySqlConnection) -> f64 {
    status_variables(root, "'QUESTIONS'").await
}

pub async fn writes_to_tables(root: &mut MySqlConnection) -> f64 {
    status_variables(root, "'COM_INSERT', 'COM_UPDATE', 'COM_DELETE', 'COM_REPLACE', 'COM_CREATE_TABLE'")
        .await
}

async fn server(client: &Client, namespace: &str, access: &vmail_operator::store::Access) {
    for (name, username, password) in
        [("writer", &*access.username, "writes"), ("reader", "bench_reader", "reads")]
    {
        let data =
            [("username".to_owned(), username.to_owned()), ("password".to_owned(), password.to_owned())]
                .into();
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let secret = Secret { metadata, string_data: Some(data), ..Secret::default() };
        Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &secret).await.unwrap();
    }
    let spec = json!({"hostname": "myhost.example.org", "database": {"external": {
        "host": "127.0.0.1", "port": access.port, "name": "bench", "writerSecretRef": {"name": "writer"}, "readerSecretRef": {"name": "reader"},
    }}});
    let server = MailServer::new("myhost", serde_json::from_value(spec).unwrap());
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &server).await.unwrap();
}

pub async fn await_rows(root: &mut MySqlConnection, n: usize) {
    let started = Instant::now();
    loop {
        // Until the operator has made the table there is nothing.
        let found: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM mailbox").fetch_one(&mut *root).await.unwrap_or(0);
        if usize::try_from(found).unwrap() == n {
            return;
        }
        assert!(started.elapsed() < LIMIT, "{found} rows of {n}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
