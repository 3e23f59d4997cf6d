//! The set loop's thinking and a real database, through anything that may happen: objects come, change and go, somebody else
//! writes to the tables, the operator starts anew. At each rest the tables are as declared, and nobody's rows are harmed.

mod invariants;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;
use std::time::{Duration, Instant};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::mail_server::{Drift, ExistingRows};
use vmail_operator::desired::{Verdict, desired};
use vmail_operator::index::{Index, Key};
use vmail_operator::plan::{self, Current, Plan, Terms, Unobtained};
use vmail_operator::store::{Access, Store};
use vmail_operator::tables::Table;

use crate::mariadb::MariaDb;
use invariants::{Seen, assert_declared_rows, assert_owners};
use world::{Declared, Event, STRANGERS, events, foreign_sql, server};

const SERVER: &str = "cluster/mail/myhost";

/// Sequences of events, each in a database of its own.
const CASES: usize = 12;

/// Longest time until a database lets go of a connection that is gone.
const LIMIT: Duration = Duration::from_secs(20);

/// The operator without its loops: the same rooms in the same order.
struct Operator {
    store: Store,
    existing_rows: ExistingRows,
}

impl Operator {
    /// Works on what events touched: what may be new is inserted without a look first.
    async fn touched(&mut self, index: &Index, keys: BTreeSet<Key>) {
        let may_be_new = |key: &Key| {
            let tables: Vec<Table> =
                desired(index, &server(), key).wants.iter().map(|want| want.row.table()).collect();
            matches!(key, Key::Address(_)) && self.store.tells_by_inserting(key, &tables)
        };
        let (new, mut seen): (BTreeSet<Key>, BTreeSet<Key>) =
            keys.into_iter().partition(|key| may_be_new(key));
        let (plan, _) = self.planned(index, new.clone(), &Current::default());
        if !new.is_empty() && !self.store.insert_unseen(&plan).await.unwrap() {
            seen.extend(new);
        }
        self.compare(index, seen).await;
    }

    async fn compare(&mut self, index: &Index, keys: BTreeSet<Key>) -> (Plan, Vec<Verdict>) {
        let current = self.store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap();
        let (plan, verdicts) = self.planned(index, keys, &current);
        self.store.apply(&plan).await.unwrap();
        (plan, verdicts)
    }

    fn planned(&self, index: &Index, keys: BTreeSet<Key>, current: &Current) -> (Plan, Vec<Verdict>) {
        let mut wanted: Vec<_> =
            keys.into_iter().map(|key| (key.clone(), desired(index, &server(), &key))).collect();
        let absent = self.store.absent_columns();
        let terms = Terms {
            ours: "cluster/",
            server: SERVER,
            existing_rows: self.existing_rows,
            drift: Drift::Correct,
            absent: &absent,
            lacking: &[],
            is_served: &|_| true,
            is_taken_over: &|_| false,
            declared: &|owner| index.policy_of(&owner.object, &owner.object_uid),
            is_unreadable: &|_| false,
            held: &BTreeSet::new(),
            passwords: &BTreeMap::new(),
        };
        let plan = plan::plan(&mut wanted, current, &terms, &mut Unobtained::default());
        (plan, wanted.into_iter().flat_map(|(_, desired)| desired.verdicts).collect())
    }

    async fn all_keys(&mut self, index: &Index) -> BTreeSet<Key> {
        let owned = self.store.owned(SERVER).await.unwrap().keys.into_iter();
        owned.chain(index.keys_of(&server())).collect()
    }
}

/// The operator, the API server and the database that it lives with.
struct Life<'a> {
    access: &'a Access,
    operator: Operator,
    declared: Declared,
    index: Index,
    root: MySqlConnection,
}

impl Life<'_> {
    async fn begin<'a>(access: &'a Access, mariadb: &MariaDb) -> Life<'a> {
        let operator =
            Operator { store: Store::open(access, SERVER).await.unwrap(), existing_rows: ExistingRows::Fail };
        let mut root = mariadb.root(Some(&access.database)).await;
        sqlx::raw_sql(STRANGERS).execute(&mut root).await.unwrap();
        let declared = Declared::default();
        Life { access, operator, index: declared.listed(), declared, root }
    }

    async fn live_through(&mut self, event: &Event) {
        match event {
            Event::Sql(what, number) => {
                sqlx::raw_sql(AssertSqlSafe(foreign_sql(*what, *number)))
                    .execute(&mut self.root)
                    .await
                    .unwrap();
            }
            Event::Adopt(adopt) => {
                self.operator.existing_rows = if *adopt { ExistingRows::Adopt } else { ExistingRows::Fail };
            }
            Event::Restart => self.start_again().await,
            Event::Killed(after) => {
                let before = Seen::now(&mut self.root).await;
                let keys = self.operator.all_keys(&self.index).await;
                cut_short(self.operator.compare(&self.index, keys), *after).await;
                self.start_again().await;
                self.assert_nobody_was_harmed(&before).await;
            }
            Event::Rest => self.rest().await,
            Event::Put(object) => {
                self.declared.put(object);
                object.declare(&mut self.index);
                self.work().await;
            }
            Event::Remove(object) => {
                self.declared.remove(object);
                object.remove(&mut self.index);
                self.work().await;
            }
        }
    }

    /// Works on what the events touched.
    async fn work(&mut self) {
        let touched = self.index.take_work(&server()).keys;
        let before = Seen::now(&mut self.root).await;
        self.operator.touched(&self.index, touched).await;
        self.assert_nobody_was_harmed(&before).await;
    }

    /// Compares keys while somebody watches over everybody else's rows.
    async fn watched(&mut self, keys: BTreeSet<Key>) -> (Plan, Vec<Verdict>, Seen) {
        let before = Seen::now(&mut self.root).await;
        let (plan, verdicts) = self.operator.compare(&self.index, keys).await;
        self.assert_nobody_was_harmed(&before).await;
        (plan, verdicts, before)
    }

    async fn assert_nobody_was_harmed(&mut self, before: &Seen) {
        let after = Seen::now(&mut self.root).await;
        before.assert_nobody_was_harmed(&after, self.adopts());
    }

    fn adopts(&self) -> bool {
        self.operator.existing_rows == ExistingRows::Adopt
    }

    /// Lists everything, connects as soon as the database has noticed the end of the connection before, and compares.
    async fn start_again(&mut self) {
        self.index = self.declared.listed();
        let (user, limit) = (format!("{}_writer", self.access.database), Instant::now() + LIMIT);
        let connection = "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist WHERE user = ?";
        let old: Vec<u64> =
            sqlx::query_scalar(connection).bind(user).fetch_all(&mut self.root).await.unwrap();
        for old in old {
            // It may be gone by itself.
            let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {old}"))).execute(&mut self.root).await;
        }
        self.operator.store = loop {
            match Store::open(self.access, SERVER).await {
                Ok(store) => break store,
                Err(error) => assert!(Instant::now() < limit, "{error}"),
            }
        };
        let keys = self.operator.all_keys(&self.index).await;
        self.watched(keys).await;
    }

    async fn rest(&mut self) {
        let keys = self.operator.all_keys(&self.index).await;
        let (_, _, before) = self.watched(keys).await;
        let keys = self.operator.all_keys(&self.index).await;
        let (second, verdicts, _) = self.watched(keys).await;
        assert!(second.is_empty(), "a second plan changes nothing: {second:?}");
        let judged: BTreeSet<_> = verdicts.iter().map(|verdict| &verdict.object).collect();
        assert_eq!(judged.len(), verdicts.len(), "one verdict an object");
        assert_declared_rows(&self.declared, (&before, self.adopts()), &verdicts, &mut self.root).await;
        assert_owners(&self.index, &mut self.root).await;
    }
}

/// Polls a future until it has waited this often, then drops it, as when a process is killed.
async fn cut_short<T>(future: impl Future<Output = T>, waits: u8) {
    let (mut future, mut left) = (std::pin::pin!(future), waits);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Pending if left > 0 => {
            left -= 1;
            Poll::Pending
        }
        _ => Poll::Ready(()),
    })
    .await;
}

/// What `STATEFUL_SEED` says, to see a failure again, or another one each time.
fn seed() -> u64 {
    let chosen = std::env::var("STATEFUL_SEED").ok().map(|seed| seed.parse().expect("a number"));
    chosen.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    })
}

#[tokio::test]
async fn whatever_happens_the_tables_end_right_and_nobodys_rows_are_harmed() {
    let mariadb = MariaDb::shared();
    let seed = seed();
    for case in 0..CASES {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&u64::try_from(case).unwrap().to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let events = events().new_tree(&mut runner).unwrap().current();
        let access = mariadb.database(&format!("stateful_{case}")).await;
        // What a failure shows.
        eprintln!("STATEFUL_SEED={seed}, case {case}:");
        let mut life = Life::begin(&access, &mariadb).await;
        for event in &events {
            eprintln!("  {event:?}");
            life.live_through(event).await;
        }
        life.rest().await;
        life.operator.store.close().await;
    }
}
