//! One mailbox at rest, from the API server's answer to the committed row: by the operator and by bare clients.
//!
//! All are looked at in the same way, by asking for the row until it is there.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::Mailbox;
use vmail_operator::store::Store;

use crate::cluster::{LIMIT, SAMPLES};
use crate::mariadb::MariaDb;
use crate::{Figure, cluster, percentile};

/// Number of the first mailbox that a bare client makes rows of.
const RAW_FIRST: usize = 1_000_000;

/// One mailbox after another, with everything at rest.
pub async fn measure(
    client: &Client,
    namespace: &str,
    root: &mut MySqlConnection,
    (mut raw, mut floor): (Vec<f64>, Vec<f64>),
    n: usize,
) {
    let mut samples = sample(client, namespace, root, n).await;
    for (name, samples) in [("one_mailbox", &mut samples), ("one_mailbox_floor", &mut floor)] {
        for percent in [50, 99] {
            let (value, limit) = (percentile(samples, percent), percentile(&mut raw, percent));
            Figure { name: &format!("{name}_p{percent}"), value, unit: "ms", limit, n }.print();
        }
    }
}

/// A bare client's path: a watch, and `write` of the address of each mailbox that it brings. What it writes to is the
/// database of `root`, whose table mailbox is looked at as it is for the operator.
async fn bare_path(
    client: &Client,
    namespace: &str,
    root: &mut MySqlConnection,
    mut writer: MySqlConnection,
    write: fn(&str) -> Vec<String>,
    first: usize,
) -> Vec<f64> {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let (listed, listing) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(async move {
        let mut listed = Some(listed);
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default().any_semantic()));
        while let Some(event) = events.try_next().await.unwrap() {
            match event {
                watcher::Event::InitDone => listed.take().unwrap().send(()).unwrap(),
                watcher::Event::Apply(mailbox) if mailbox.name_any().starts_with("one") => {
                    for packet in write(mailbox.spec.address.as_str()) {
                        sqlx::raw_sql(AssertSqlSafe(packet)).execute(&mut writer).await.unwrap();
                    }
                }
                _ => {}
            }
        }
    });
    listing.await.unwrap();
    let samples = sample(client, namespace, root, first).await;
    writing.abort();
    samples
}

/// One row in one statement.
fn one_row(address: &str) -> Vec<String> {
    vec![format!("INSERT INTO mailbox VALUES ('{address}')")]
}

/// What the operator asks and writes: is anything there, then each mailbox, its alias, their owners and the log, in one
/// transaction.
pub fn all_rows(addresses: &[&str]) -> Vec<String> {
    let each = |values: &dyn Fn(&str) -> String| {
        addresses.iter().map(|address| values(address)).collect::<Vec<_>>().join(",")
    };
    let owner = |table: &str| {
        each(&|address| {
            format!(
                "('{address}','{table}','bench/bench/myhost','00000000-0000-0000-0000-000000000000','Mailbox bench/one','Delete','0123456789abcdef','','','')"
            )
        })
    };
    let asked = each(&|address| format!("'{address}'"));
    let questions = ["mailbox WHERE username", "alias WHERE address", "vmail_owner WHERE row_key"];
    let mailboxes = each(&|address| {
        format!("('{address}','!','Somebody','d0.example.org/one/',0,'one','d0.example.org',1)")
    });
    let aliases = each(&|address| format!("('{address}','{address}','d0.example.org',1)"));
    let log = each(&|address| format!("(NOW(),'operator','d0.example.org','create_mailbox','{address}')"));
    vec![
        questions.map(|of| format!("SELECT * FROM {of} IN ({asked})")).join(";"),
        format!(
            "START TRANSACTION; INSERT INTO mailbox (username,password,name,maildir,quota,local_part,domain,active) VALUES {mailboxes}; \
             INSERT INTO alias (address,goto,domain,active) VALUES {aliases}; INSERT INTO vmail_owner VALUES {},{}; \
             INSERT INTO log (timestamp,username,domain,action,data) VALUES {log},{log}; COMMIT",
            owner("mailbox"),
            owner("alias")
        ),
    ]
}

fn all_of_one(address: &str) -> Vec<String> {
    all_rows(&[address])
}

/// API answer to committed row by a bare client: with one row, and with all that the operator asks and writes.
pub async fn bare_paths(client: &Client, namespace: &str, mariadb: &MariaDb) -> (Vec<f64>, Vec<f64>) {
    let mut root = mariadb.root(None).await;
    sqlx::raw_sql("CREATE DATABASE raw; CREATE TABLE raw.mailbox (username varchar(255) PRIMARY KEY)")
        .execute(&mut root)
        .await
        .unwrap();
    let mut root = mariadb.root(Some("raw")).await;
    let writer = mariadb.root(Some("raw")).await;
    let raw = bare_path(client, namespace, &mut root, writer, one_row, RAW_FIRST).await;

    let access = mariadb.database("bench").await;
    Store::open(&access, "bench").await.unwrap().close().await;
    let mut root = mariadb.root(Some("bench")).await;
    let writer = mariadb.root(Some("bench")).await;
    let floor = bare_path(client, namespace, &mut root, writer, all_of_one, RAW_FIRST + SAMPLES).await;
    (raw, floor)
}

/// API answer to committed row, of one mailbox after another.
async fn sample(client: &Client, namespace: &str, root: &mut MySqlConnection, first: usize) -> Vec<f64> {
    let mut samples = Vec::new();
    for number in first..first + SAMPLES {
        // At rest: what the mailbox before it brought about is done.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let address = format!("one{number}@d0.example.org");
        let answered = cluster::create_named(client, namespace, &format!("one{number}"), &address).await;
        await_row(root, &address).await;
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
        // Asking without a pause would take a processor from those who are measured.
        std::thread::sleep(Duration::from_micros(100));
    }
}
