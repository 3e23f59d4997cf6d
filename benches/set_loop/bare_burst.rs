//! A burst as a bare client would serve it: a watch, rows in transactions of all that waits, one status patch a mailbox, all at
//! once and without a thought. What the operator needs beyond it is its own; what this needs beyond bare creates and bare
//! patches one after the other is the machine's.

use std::time::Instant;

use futures::{StreamExt, TryStreamExt};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use sqlx::AssertSqlSafe;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use vmail_operator::api::Mailbox;
use vmail_operator::store::Store;

use crate::api_server::{CONNECTIONS, create_burst, create_domains, patch_ready};
use crate::mariadb::MariaDb;
use crate::one_mailbox::all_rows;

/// Mailboxes in one transaction at most.
const AT_ONCE: usize = 1000;

/// Seconds from the first create to the last status.
pub async fn measure(client: &Client, namespace: &str, mariadb: &MariaDb, n: usize) -> f64 {
    let access = mariadb.database("bench").await;
    Store::open(&access, "bench").await.unwrap().close().await;
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let (seen, to_write) = unbounded_channel();
    let (written, to_patch) = unbounded_channel();
    let watching = tokio::spawn(watch(api.clone(), seen));
    let writing = tokio::spawn(write(mariadb.root(Some("bench")).await, to_write, written));
    create_domains(client, namespace, "myhost").await;
    let started = Instant::now();
    let creating = create_burst(client, namespace, n);
    tokio::join!(creating, patch(api, to_patch, n));
    let took = started.elapsed().as_secs_f64();
    watching.abort();
    writing.abort();
    took
}

/// Tells of every mailbox without a status.
async fn watch(api: Api<Mailbox>, seen: UnboundedSender<Mailbox>) {
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default().any_semantic()));
    while let Some(event) = events.try_next().await.unwrap() {
        if let watcher::Event::Apply(mailbox) = event
            && mailbox.status.is_none()
        {
            seen.send(mailbox).unwrap();
        }
    }
}

async fn write(
    mut database: sqlx::mysql::MySqlConnection,
    mut seen: UnboundedReceiver<Mailbox>,
    written: UnboundedSender<String>,
) {
    let mut batch = Vec::new();
    while seen.recv_many(&mut batch, AT_ONCE).await > 0 {
        let addresses: Vec<&str> = batch.iter().map(|mailbox| mailbox.spec.address.as_str()).collect();
        sqlx::raw_sql(AssertSqlSafe(all_rows(&addresses))).execute(&mut database).await.unwrap();
        for mailbox in batch.drain(..) {
            written.send(mailbox.name_any()).unwrap();
        }
    }
}

async fn patch(api: Api<Mailbox>, names: UnboundedReceiver<String>, n: usize) {
    let names = futures::stream::unfold(names, |mut names| async { Some((names.recv().await?, names)) });
    let send = |name: String| {
        let api = api.clone();
        async move { patch_ready(&api, &name, "what a bare client says of it").await }
    };
    names.take(n).map(send).buffer_unordered(CONNECTIONS).try_collect::<Vec<()>>().await.unwrap();
}
