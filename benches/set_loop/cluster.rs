//! The operator's process on a real API server and a real MariaDB: a burst of mailboxes, and one mailbox at rest.
//!
//! Beside each figure stands what a bare client needs on the same machine in the same run.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::{MailDomain, MailServer, Mailbox, crds};

use crate::mariadb::MariaDb;
use crate::{Figure, percentile, world};

const CONNECTIONS: usize = 16;
const LIMIT: Duration = Duration::from_mins(10);
const SAMPLES: usize = 100;

pub async fn measure(n: usize) {
    let client = Client::try_default().await.expect("KUBECONFIG: `make bench` starts a cluster and sets it");
    define(&client).await;
    let mariadb = MariaDb::start();
    let (raw, served) = (namespace(&client, "bench-raw").await, namespace(&client, "bench").await);

    let raw_create = create_burst(&client, &raw, n).await;
    let raw_patch = patch_burst(&client, &raw, n).await;
    let raw_one = one_raw(&client, &raw, &mariadb).await;

    let access = mariadb.database("bench").await;
    server(&client, &served, &access).await;
    let mut operator = start(&served);
    let mut root = mariadb.root(Some("bench")).await;
    let started = Instant::now();
    let creating = create_burst(&client, &served, n).await;
    let answered = Instant::now();
    await_rows(&mut root, n).await;
    let behind = answered.elapsed().as_secs_f64();
    await_ready(&client, &served, n).await;
    let settled = started.elapsed().as_secs_f64();
    Figure { name: "burst_create", value: creating, unit: "s", limit: raw_create, n }.print();
    Figure { name: "burst_last_row_after_last_answer", value: behind, unit: "s", limit: 0.5, n }.print();
    Figure { name: "burst_all_status_written", value: settled, unit: "s", limit: raw_create + raw_patch, n }
        .print();
    let (mut samples, mut raw_samples) = (one_served(&client, &served, &mut root, n).await, raw_one);
    for percent in [50, 99] {
        let (value, limit) = (percentile(&mut samples, percent), percentile(&mut raw_samples, percent));
        Figure { name: &format!("one_mailbox_p{percent}"), value, unit: "ms", limit, n }.print();
    }
    Figure { name: "operator_peak_memory", value: peak_memory(&operator), unit: "MiB", limit: 150.0, n }
        .print();
    operator.kill().unwrap();
    operator.wait().unwrap();
    for namespace in [raw, served] {
        Api::<Namespace>::all(client.clone()).delete(&namespace, &DeleteParams::background()).await.unwrap();
    }
}

async fn define(client: &Client) {
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

async fn namespace(client: &Client, prefix: &str) -> String {
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

fn start(namespace: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vmail-operator"))
        .args(["run", "--postfix-image=none", "--mariadb-image=none", "--listen=127.0.0.1:0"])
        .args(["--namespace", namespace, "--watch-namespace", namespace])
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn mailbox(number: usize) -> Mailbox {
    let spec = json!({"address": world::address(number).as_str(), "displayName": "Somebody"});
    Mailbox::new(&format!("u{number}"), serde_json::from_value(spec).unwrap())
}

/// Creates the domains and `n` mailboxes on 16 connections; the time that the mailboxes took.
async fn create_burst(client: &Client, namespace: &str, n: usize) -> f64 {
    let domains: Api<MailDomain> = Api::namespaced(client.clone(), namespace);
    for number in 0..=world::domain_of(n + 2 * SAMPLES) {
        let spec = json!({"serverRef": {"name": "myhost"}, "domain": format!("d{number}.example.org")});
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

async fn patch_burst(client: &Client, namespace: &str, n: usize) -> f64 {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let condition = json!({"type": "Ready", "status": "True", "reason": "Synced", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let patch = Patch::Merge(json!({"status": {"observedGeneration": 1, "conditions": [condition]}}));
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

/// API answer to committed row, with a watch and a one-row statement and nothing between them.
async fn one_raw(client: &Client, namespace: &str, mariadb: &MariaDb) -> Vec<f64> {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let mut root = mariadb.root(None).await;
    sqlx::raw_sql("CREATE DATABASE raw; CREATE TABLE raw.mailbox (username varchar(255) PRIMARY KEY)")
        .execute(&mut root)
        .await
        .unwrap();
    let events = watcher(api.clone(), watcher::Config::default()).applied_objects();
    let (sender, mut committed) = tokio::sync::mpsc::channel(1);
    let first = Instant::now();
    let follow = tokio::spawn(async move {
        let mut events = std::pin::pin!(events);
        while let Some(Ok(mailbox)) = events.next().await {
            if mailbox.name_any().starts_with("one") {
                sqlx::query("INSERT INTO raw.mailbox VALUES (?)")
                    .bind(mailbox.spec.address.as_str())
                    .execute(&mut root)
                    .await
                    .unwrap();
                sender.send(Instant::now()).await.unwrap();
            }
        }
    });
    let mut samples = Vec::new();
    for number in 0..SAMPLES {
        let answered = create_one(&api, number, 1_000_000 + number).await;
        let done = tokio::time::timeout(LIMIT, committed.recv()).await.unwrap().unwrap();
        samples.push(done.saturating_duration_since(answered).as_secs_f64() * 1000.0);
    }
    follow.abort();
    assert!(first.elapsed() < LIMIT);
    samples
}

async fn create_one(api: &Api<Mailbox>, number: usize, address: usize) -> Instant {
    let spec: Value = json!({"address": format!("one{address}@d0.example.org")});
    let mailbox = Mailbox::new(&format!("one{number}"), serde_json::from_value(spec).unwrap());
    api.create(&PostParams::default(), &mailbox).await.unwrap();
    Instant::now()
}

async fn one_served(client: &Client, namespace: &str, root: &mut MySqlConnection, n: usize) -> Vec<f64> {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let mut samples = Vec::new();
    for number in 0..SAMPLES {
        // At rest: the counts of the domain before are told.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let answered = create_one(&api, number, n + number).await;
        await_row(root, &format!("one{}@d0.example.org", n + number)).await;
        samples.push(answered.elapsed().as_secs_f64() * 1000.0);
    }
    samples
}

async fn await_row(root: &mut MySqlConnection, username: &str) {
    let started = Instant::now();
    loop {
        let found: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM mailbox WHERE username = ?")
            .bind(username)
            .fetch_one(&mut *root)
            .await
            .unwrap();
        if found == 1 {
            return;
        }
        assert!(started.elapsed() < LIMIT, "{username} never came");
    }
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

fn peak_memory(operator: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
