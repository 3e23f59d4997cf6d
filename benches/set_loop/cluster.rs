//! The operator's process on a real API server and a real MariaDB: a burst of mailboxes, and one mailbox at rest.
//!
//! Beside each figure stands what a bare client needs on the same machine in the same run.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::{MailDomain, MailServer, Mailbox, crds};

use crate::mariadb::MariaDb;
use crate::{Figure, bare_burst, one_mailbox, world};

pub const CONNECTIONS: usize = 16;

/// Up to here a bare burst is measured too; above it would only take its time.
const BARE_BURST: usize = 10_000;

pub const LIMIT: Duration = Duration::from_mins(10);
pub const SAMPLES: usize = 100;

pub async fn measure(n: usize) {
    let config = Config::infer().await.expect("KUBECONFIG: `make bench` starts a cluster and sets it");
    // The operator's, so that the limits are those of the machine.
    let client = vmail_operator::client::connect(&config).unwrap();
    define(&client).await;
    let mariadb = MariaDb::start();
    let (raw, served) = (namespace(&client, "bench-raw").await, namespace(&client, "bench").await);

    let raw_create = create_burst(&client, &raw, n).await;
    let raw_patch = patch_burst(&client, &raw, n).await;
    let bare_paths = one_mailbox::bare_paths(&client, &raw, &mariadb).await;
    let mut namespaces = vec![raw, served.clone()];
    if n <= BARE_BURST {
        let namespace = namespace(&client, "bench-bare").await;
        let value = bare_burst::measure(&client, &namespace, &mariadb, n).await;
        Figure { name: "burst_bare", value, unit: "s", limit: raw_create + raw_patch, n }.print();
        namespaces.push(namespace);
    }

    let access = mariadb.database("bench").await;
    server(&client, &served, &access).await;
    let mut root = mariadb.root(Some("bench")).await;
    let mut operator = Operator::start(&served);
    burst(&client, &served, &mut root, &operator, (raw_create, raw_patch), n).await;
    one_mailbox::measure(&client, &served, &mut root, bare_paths, n).await;
    Figure {
        name: "operator_peak_memory",
        value: operator.peak_memory(),
        unit: "MiB",
        limit: memory_bound(n),
        n,
    }
    .print();

    at_rest(&mut root, &operator, n).await;
    operator.stop();
    restart(&client, &served, &mut root, n).await;
    cold_start(&client, &served, &mariadb, n).await;
    // Only now: the API server is busy with it for as long as with making them.
    for namespace in namespaces {
        Api::<Namespace>::all(client.clone()).delete(&namespace, &DeleteParams::background()).await.unwrap();
    }
}

/// The peak resident set that the project allows itself.
fn memory_bound(n: usize) -> f64 {
    if n <= 1000 { 30.0 } else { 150.0 }
}

/// `n` mailboxes as fast as the API server takes them.
async fn burst(
    client: &Client,
    namespace: &str,
    root: &mut MySqlConnection,
    operator: &Operator,
    (raw_create, raw_patch): (f64, f64),
    n: usize,
) {
    let all = f64::from(u32::try_from(n).unwrap());
    let (started, cpu) = (Instant::now(), operator.cpu());
    let creating = create_burst(client, namespace, n).await;
    let answered = Instant::now();
    await_rows(root, n).await;
    let behind = answered.elapsed().as_secs_f64();
    operator.await_metric("vmail_status_patches_total{outcome=\"success\"}", all).await;
    let settled = started.elapsed().as_secs_f64();
    let cpu = operator.cpu() - cpu;
    await_ready(client, namespace, n).await;
    Figure { name: "burst_operator_cpu", value: cpu, unit: "s", limit: settled, n }.print();
    Figure { name: "burst_create", value: creating, unit: "s", limit: raw_create, n }.print();
    Figure { name: "burst_last_row_after_last_answer", value: behind, unit: "s", limit: 0.5, n }.print();
    Figure { name: "burst_all_status_written", value: settled, unit: "s", limit: raw_create + raw_patch, n }
        .print();
    let patches = operator.metric("vmail_status_patches_total{outcome=\"success\"}");
    Figure { name: "burst_status_patches", value: patches, unit: "patches", limit: all, n }.print();
}

/// What an operator does in ten seconds in which nothing happens.
async fn at_rest(root: &mut MySqlConnection, operator: &Operator, n: usize) {
    const REST: Duration = Duration::from_secs(10);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = (operator.cpu(), statements(root).await);
    tokio::time::sleep(REST).await;
    let (cpu, statements) = (operator.cpu() - before.0, statements(root).await - before.1);
    Figure { name: "at_rest_cpu", value: cpu / REST.as_secs_f64(), unit: "cores", limit: 0.01, n }.print();
    // One is the question for this number itself.
    Figure { name: "at_rest_statements", value: statements - 1.0, unit: "statements", limit: 1.0, n }.print();
}

/// Everything is in place: start to the end of the first comparison.
async fn restart(client: &Client, namespace: &str, root: &mut MySqlConnection, n: usize) {
    let limit = list(client, namespace).await + select(root).await;
    let writes = writes_to_tables(root).await;
    let started = Instant::now();
    let mut operator = Operator::start(namespace);
    operator.await_metric("vmail_passes_total{outcome=\"success\"}", 1.0).await;
    Figure { name: "restart", value: started.elapsed().as_secs_f64(), unit: "s", limit, n }.print();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let patches = operator.metric("vmail_status_patches_total{outcome=\"success\"}");
    let writes = writes_to_tables(root).await - writes + patches;
    Figure { name: "restart_writes", value: writes, unit: "writes", limit: 1.0, n }.print();
    operator.stop();
}

/// An empty database, everything declared: start to the last row.
async fn cold_start(client: &Client, namespace: &str, mariadb: &MariaDb, n: usize) {
    let upserts = crate::database::raw_upserts_of(mariadb, n).await;
    let creates = crate::database::raw_creates(mariadb).await;
    let limit = list(client, namespace).await + creates + upserts;
    mariadb.database("bench").await;
    let mut root = mariadb.root(Some("bench")).await;
    let started = Instant::now();
    let mut operator = Operator::start(namespace);
    await_rows(&mut root, n + SAMPLES).await;
    Figure { name: "cold_start", value: started.elapsed().as_secs_f64(), unit: "s", limit, n }.print();
    operator.stop();
}

/// A paged list of all mailboxes, as a watch begins with, decoded; in seconds.
async fn list(client: &Client, namespace: &str) -> f64 {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let started = Instant::now();
    let events = watcher(api, watcher::Config::default().any_semantic());
    let mut events = std::pin::pin!(events);
    while !matches!(events.try_next().await.unwrap().unwrap(), watcher::Event::InitDone) {}
    started.elapsed().as_secs_f64()
}

/// All rows of the tables, in seconds.
async fn select(root: &mut MySqlConnection) -> f64 {
    let started = Instant::now();
    for table in ["mailbox", "alias", "domain", "vmail_owner"] {
        sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(&mut *root).await.unwrap();
    }
    started.elapsed().as_secs_f64()
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

async fn writes_to_tables(root: &mut MySqlConnection) -> f64 {
    status_variables(root, "'COM_INSERT', 'COM_UPDATE', 'COM_DELETE', 'COM_REPLACE', 'COM_CREATE_TABLE'")
        .await
}

pub async fn define(client: &Client) {
    let api = Api::all(client.clone());
    for crd in crds().unwrap() {
        let parameters = PatchParams::apply("vmail-bench").force();
        api.patch(&crd.name_any(), &parameters, &Patch::Apply(&crd)).await.unwrap();
        let name = crd.name_any();
        let established = kube::runtime::wait::await_condition(
            api.clone(),
            &name,
            kube::runtime::conditions::is_crd_established(),
        );
        tokio::time::timeout(Duration::from_secs(30), established).await.unwrap().unwrap();
    }
}

pub async fn namespace(client: &Client, prefix: &str) -> String {
    let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
    let object = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap().name_any()
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

/// The operator's process.
pub struct Operator {
    child: Child,
    port: u16,
}

impl Operator {
    fn start(namespace: &str) -> Self {
        Self::with_postfix(namespace, "none")
    }

    /// An operator whose Postfix pods run, with this image.
    pub fn with_postfix(namespace: &str, image: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_vmail-operator"))
            .args(["run", "--mariadb-image=none", "--postfix-image", image])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--lease-namespace", namespace, "--watch-namespace", namespace])
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port }
    }

    /// TERM, so that the Lease is free for the next one.
    pub fn stop(&mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    /// A metric's value, 0 where it is not there (yet).
    fn metric(&self, name: &str) -> f64 {
        self.metrics()
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or(0.0)
    }

    fn metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    async fn await_metric(&self, name: &str, value: f64) {
        let started = Instant::now();
        while self.metric(name) < value {
            assert!(started.elapsed() < LIMIT, "{name} is {} of {value}", self.metric(name));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Peak resident set, MiB.
    pub fn peak_memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Processor time so far, in seconds: fields 14 and 15 of proc(5) stat, in hundredths.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>()
            / 100.0
    }
}

fn mailbox(number: usize) -> Mailbox {
    let spec = json!({"address": world::address(number).as_str(), "displayName": "Somebody"});
    Mailbox::new(&format!("u{number}"), serde_json::from_value(spec).unwrap())
}

/// Creates the domains and `n` mailboxes on 16 connections; the time that the mailboxes took.
pub async fn create_burst(client: &Client, namespace: &str, n: usize) -> f64 {
    create_burst_for(client, namespace, "myhost", n).await
}

/// The same for any server.
pub async fn create_burst_for(client: &Client, namespace: &str, server: &str, n: usize) -> f64 {
    let domains: Api<MailDomain> = Api::namespaced(client.clone(), namespace);
    for number in 0..=world::domain_of(n + 2 * SAMPLES) {
        let spec = json!({"serverRef": {"name": server}, "domain": format!("d{number}.example.org")});
        let domain = MailDomain::new(&format!("d{number}"), serde_json::from_value(spec).unwrap());
        domains.create(&PostParams::default(), &domain).await.unwrap();
    }
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let started = Instant::now();
    let create = |number| {
        let api = api.clone();
        async move { api.create(&PostParams::default(), &mailbox(number)).await.map(|_| ()) }
    };
    stream::iter((0..n).map(create)).buffer_unordered(CONNECTIONS).try_collect::<Vec<()>>().await.unwrap();
    started.elapsed().as_secs_f64()
}

/// What a mailbox's status says when all is well.
pub fn ready_patch() -> Patch<serde_json::Value> {
    let condition = json!({"type": "Ready", "status": "True", "reason": "Synced", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    Patch::Merge(json!({"status": {"observedGeneration": 1, "conditions": [condition]}}))
}

async fn patch_burst(client: &Client, namespace: &str, n: usize) -> f64 {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let patch = ready_patch();
    let started = Instant::now();
    let send = |number| {
        let (api, patch) = (api.clone(), patch.clone());
        async move {
            api.patch_status(&format!("u{number}"), &PatchParams::default(), &patch)
                .await
                .map(|_: Mailbox| ())
        }
    };
    stream::iter((0..n).map(send)).buffer_unordered(CONNECTIONS).try_collect::<Vec<()>>().await.unwrap();
    started.elapsed().as_secs_f64()
}

/// Creates one more mailbox; gives the time of the answer.
pub async fn create_named(client: &Client, namespace: &str, name: &str, address: &str) -> Instant {
    let mailbox = Mailbox::new(name, serde_json::from_value(json!({"address": address})).unwrap());
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &mailbox).await.unwrap();
    Instant::now()
}

async fn await_rows(root: &mut MySqlConnection, n: usize) {
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

async fn await_ready(client: &Client, namespace: &str, n: usize) {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let mut waiting: std::collections::HashSet<String> = (0..n).map(|number| format!("u{number}")).collect();
    let mut events =
        std::pin::pin!(watcher(api, watcher::Config::default().any_semantic()).applied_objects());
    let all =
        async {
            while !waiting.is_empty() {
                let mailbox = events.next().await.unwrap().unwrap();
                if mailbox.status.as_ref().is_some_and(|status| {
                    status.conditions.iter().any(|condition| condition.status == "True")
                }) {
                    waiting.remove(&mailbox.name_any());
                }
            }
        };
    tokio::time::timeout(LIMIT, all).await.expect("every status is written");
}
