//! `make bench`: what the set loop costs, each figure beside the raw limit measured in the same run.
//!
//! One JSON line a figure: name, value, unit, limit (the raw figure or the bound), ratio (value / limit), n.
//! `N=` chooses the sizes (comma-separated), `ONLY=` the parts (pure, database, cluster, files, mail).
#![allow(missing_docs, reason = "a program")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that can't go on has failed"
)]

mod api_server;
mod bare_burst;
mod bare_start;
mod cluster;
mod database;
mod files;
mod mail;
#[path = "../../tests/integration/mariadb.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod mariadb;
mod one_mailbox;
mod operator;
mod pod;
mod pure;
#[path = "../../tests/integration/smtp.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod smtp;
mod starts;
mod world;

/// As in the operator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One figure.
pub struct Figure<'a> {
    pub name: &'a str,
    pub value: f64,
    pub unit: &'a str,
    pub limit: f64,
    pub n: usize,
}

impl Figure<'_> {
    pub fn print(&self) {
        let Self { name, value, unit, limit, n } = self;
        let round = |number: f64| (number * 1000.0).round() / 1000.0;
        let line = serde_json::json!({
            "name": name, "value": round(*value), "unit": unit, "limit": round(*limit), "ratio": round(value / limit), "n": n,
        });
        println!("{line}");
    }
}

/// A percentile of unsorted samples.
pub fn percentile(samples: &mut [f64], percent: usize) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[(samples.len() - 1) * percent / 100]
}

/// The sizes to measure.
fn sizes(default: &[usize]) -> Vec<usize> {
    match std::env::var("N") {
        Ok(text) if !text.is_empty() => {
            text.split(',').map(|size| size.trim().parse().expect("N=1000,10000")).collect()
        }
        _ => default.to_vec(),
    }
}

fn wanted(part: &str) -> bool {
    match std::env::var("ONLY") {
        Ok(only) if !only.is_empty() => only.split(',').any(|name| name.trim() == part),
        _ => true,
    }
}

#[tokio::main]
async fn main() {
    // `cargo test` runs a bench without `--bench`, only to see that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if wanted("pure") {
        sizes(&[10_000, 100_000, 1_000_000]).into_iter().for_each(pure::measure);
    }
    if wanted("database") {
        for n in sizes(&[1000]) {
            database::measure(n).await;
        }
    }
    if wanted("cluster") {
        for n in sizes(&[1000, 10_000]) {
            cluster::measure(n).await;
        }
    }
    if wanted("files") {
        for n in sizes(&[10_000]) {
            files::measure(n).await;
        }
    }
    if wanted("mail") {
        for n in sizes(&[1000]) {
            mail::measure(n).await;
        }
    }
}
