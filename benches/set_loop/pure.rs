//! The pure rooms alone: a full plan, and one change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use vmail_operator::api::mail_server::{Drift, ExistingRows};
use vmail_operator::desired::desired;
use vmail_operator::index::{Index, Key};
use vmail_operator::plan::{Current, Plan, Terms, Unobtained, plan};

use crate::{Figure, percentile, world};

pub fn plan_keys(index: &Index, keys: &[Key], current: &Current) -> Plan {
    let mut wanted: Vec<_> =
        keys.iter().map(|key| (key.clone(), desired(index, &world::server(), key))).collect();
    let terms = Terms {
        ours: "bench/",
        server: "bench/mail/myhost",
        existing_rows: ExistingRows::Fail,
        drift: Drift::Correct,
        absent: &[],
        lacking: &[],
        is_served: &|_| true,
        is_taken_over: &|_| false,
        declared: &|owner| index.policy_of(&owner.object, &owner.object_uid),
        is_unreadable: &|_| false,
        held: &BTreeSet::new(),
        passwords: &BTreeMap::new(),
    };
    plan(&mut wanted, current, &terms, &mut Unobtained::default())
}

pub fn measure(n: usize) {
    let mut index = world::index(n);
    index.take_work(&world::server());
    let started = Instant::now();
    let keys = index.keys_of(&world::server());
    let rows: usize =
        keys.chunks(1000).map(|keys| plan_keys(&index, keys, &Current::default()).inserts.len()).sum();
    let value = started.elapsed().as_secs_f64();
    assert!(rows > 2 * n);
    Figure { name: "pure_full_plan", value, unit: "s", limit: 5.0, n }.print();
    Figure { name: "pure_peak_memory", value: peak_memory(), unit: "MiB", limit: 1536.0, n }.print();

    let mut samples: Vec<f64> = (0..1000)
        .map(|number| {
            let (name, row) = world::mailbox(number * (n / 1000).max(1) % n, n, "Somebody else");
            let started = Instant::now();
            index.apply_mailbox(name, row);
            let keys: Vec<Key> = index.take_work(&world::server()).keys.into_iter().collect();
            assert!(!plan_keys(&index, &keys, &Current::default()).is_empty());
            started.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    Figure { name: "pure_one_change_median", value: percentile(&mut samples, 50), unit: "ms", limit: 1.0, n }
        .print();
    Figure { name: "pure_one_change_p99", value: percentile(&mut samples, 99), unit: "ms", limit: 1.0, n }
        .print();
}

/// Peak resident set of this process.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
