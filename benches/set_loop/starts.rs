//! Starts of the operator's process, restart and cold start, beside a bare client's.

use std::time::{Duration, Instant};

use kube::Client;
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::Mailbox;

use crate::api_server::Writes;
use crate::cluster::{SAMPLES, await_rows, await_silence, writes_to_tables};
use crate::mariadb::MariaDb;
use crate::operator::Operator;
use crate::{Figure, bare_start, percentile};

/// How often a start is measured, in turns with the bare client: one takes as long as the machine's noise lasts.
fn repetitions(n: usize) -> usize {
    match n {
        0..=1000 => 9,
        1001..=10_000 => 3,
        _ => 1,
    }
}

/// A list right after another one of its kind waits up to a tenth of a second until the API server asks etcd again whether its cache
/// is fresh: neither a start nor its limit is to be measured in the shadow of the one before.
const PAUSE: Duration = Duration::from_millis(300);

/// Starts of the operator, and what a bare client needed before each.
#[derive(Default)]
struct Starts {
    values: Vec<f64>,
    limits: Vec<f64>,
    memory: f64,
}

impl Starts {
    /// Ends the operator that was started.
    fn add(&mut self, value: f64, limit: f64, mut operator: Operator) {
        self.values.push(value);
        self.limits.push(limit);
        self.memory = self.memory.max(operator.peak_memory());
        operator.stop();
    }

    fn print(&mut self, name: &str, n: usize) {
        let (value, limit) = (percentile(&mut self.values, 50), percentile(&mut self.limits, 50));
        Figure { name, value, unit: "s", limit, n }.print();
    }
}

/// Starts that find everything in place, to the end of the first comparison; the last goes on for a while after it.
async fn restarts(
    client: &Client,
    namespace: &str,
    root: &mut MySqlConnection,
    n: usize,
    goes_on: Duration,
) -> Starts {
    let mut starts = Starts::default();
    for left in (0..repetitions(n)).rev() {
        let limit = list(client, namespace).await + select(root).await;
        tokio::time::sleep(PAUSE).await;
        let started = Instant::now();
        let mut operator = Operator::start(namespace);
        let value = (operator.first_comparison().await - started).as_secs_f64();
        if left == 0 {
            tokio::time::sleep(goes_on).await;
        }
        starts.add(value, limit, operator);
    }
    starts
}

/// What a restart takes with no mailbox at all: so much of any other has nothing to do with their number.
pub async fn empty_restart(client: &Client, namespace: &str, root: &mut MySqlConnection) {
    let mut operator = Operator::start(namespace);
    operator.first_comparison().await;
    await_silence(client).await;
    operator.stop();
    restarts(client, namespace, root, 0, Duration::ZERO).await.print("restart", 0);
}

/// Everything is in place: start to the end of the first comparison. Gives the peak memory of it.
pub async fn restart(
    client: &Client,
    namespace: &str,
    mariadb: &MariaDb,
    root: &mut MySqlConnection,
    n: usize,
) -> f64 {
    let before = (writes_to_tables(root).await, Writes::count(client).await);
    // It may write after the first comparison, too.
    let mut starts = restarts(client, namespace, root, n, Duration::from_secs(2)).await;
    let writes = writes_to_tables(root).await - before.0;
    starts.print("restart", n);
    let mut floors = Vec::new();
    for _ in 0..repetitions(n) {
        tokio::time::sleep(PAUSE).await;
        floors.push(Box::pin(bare_start::measure(namespace, mariadb)).await);
    }
    let (value, limit) = (percentile(&mut floors, 50), percentile(&mut starts.limits, 50));
    Figure { name: "restart_floor", value, unit: "s", limit, n }.print();
    Figure { name: "restart_row_writes", value: writes, unit: "writes", limit: 1.0, n }.print();
    let writes = Writes::count(client).await.since(&before.1, None);
    Figure { name: "restart_api_writes", value: writes, unit: "writes", limit: 1.0, n }.print();
    starts.memory
}

/// An empty database, everything declared: start to the end of the first comparison, with which the last row is there. Gives the
/// peak memory of it.
pub async fn cold_start(client: &Client, namespace: &str, mariadb: &MariaDb, n: usize) -> f64 {
    let mut starts = Starts::default();
    for _ in 0..repetitions(n) {
        let upserts = crate::database::raw_upserts_of(mariadb, n).await;
        let creates = crate::database::raw_creates(mariadb).await;
        let limit = list(client, namespace).await + creates + upserts;
        mariadb.database("bench").await;
        let mut root = mariadb.root(Some("bench")).await;
        tokio::time::sleep(PAUSE).await;
        let started = Instant::now();
        let mut operator = Operator::start(namespace);
        let value = (operator.first_comparison().await - started).as_secs_f64();
        await_rows(&mut root, n + SAMPLES).await;
        starts.add(value, limit, operator);
    }
    starts.print("cold_start", n);
    starts.memory
}

/// A list of all mailboxes, as a watch begins with, decoded; in seconds.
async fn list(client: &Client, namespace: &str) -> f64 {
    tokio::time::sleep(PAUSE).await;
    let started = Instant::now();
    bare_start::list::<Mailbox>(client, namespace).await;
    started.elapsed().as_secs_f64()
}

/// All rows of the tables, in seconds.
pub async fn select(root: &mut MySqlConnection) -> f64 {
    let started = Instant::now();
    for table in ["mailbox", "alias", "domain", "vmail_owner"] {
        sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(&mut *root).await.unwrap();
    }
    started.elapsed().as_secs_f64()
}
