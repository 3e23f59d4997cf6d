//! The set loop and a real database, through anything that may happen: objects come, change and go, somebody else writes to the
//! tables, the operator starts anew or is killed. At each rest the tables are as declared, and nobody's rows are harmed.
//!
//! All of the operator is the real one that stands between the API server and the tables: its watches, its set loops, its
//! writing of status. Only the API server is in memory, and the operator doesn't have to make pods.

mod api_server;
mod brake;
mod installation;
mod invariants;
mod mailboxes;
mod mid_pass;
mod operator;
mod relay;
mod seen;
mod world;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;

use crate::mariadb::MariaDb;
use installation::{Installation, Settings};
use invariants::{assert_declared_rows, assert_one_verdict_each, assert_owners};
use seen::{REMEMBERING, Seen, contents};
use world::{Declared, Event, STRANGERS, disowning, events, foreign_sql};

const INSTALLATION: &str = "cluster";

const SERVER: &str = "cluster/mail/myhost";

/// Sequences of events, each in a database of its own.
const CASES: u64 = 12;

/// So often a release is followed by another one at most: it lets go what was held back, and nothing holds back more then.
const RELEASES: usize = 2;

/// What is declared for the operator, and what was seen of others' rows last.
struct Life {
    installation: Installation,
    settings: Settings,
    declared: Declared,
    seen: Seen,
    /// Whether somebody else wrote since a comparison was begun that sees all of it.
    is_drifted: bool,
}

impl Life {
    async fn begin(mariadb: &MariaDb, database: &str) -> Self {
        let settings = Settings { adopts: false, minimum: 10, percent: 30 };
        let mut installation = Installation::begin(mariadb, database, settings).await;
        sqlx::raw_sql(REMEMBERING).execute(&mut installation.root).await.unwrap();
        sqlx::raw_sql(STRANGERS).execute(&mut installation.root).await.unwrap();
        let seen = Seen::now(&mut installation.root).await;
        Self { installation, settings, declared: Declared::default(), seen, is_drifted: false }
    }

    async fn live_through(&mut self, event: &Event) {
        match event {
            Event::Put(object) => {
                self.declared.put(object);
                self.installation.api.put(&object.id(), object.created(), object.spec());
            }
            Event::Remove(object) => {
                self.declared.remove(object);
                self.installation.api.remove(&object.id());
            }
            Event::Idle => self.idle().await,
            Event::Compare => {
                self.installation.compare();
                self.is_drifted = false;
            }
            Event::Sql(what, number) => self.somebody_else(foreign_sql(*what, *number)).await,
            Event::Disown(number) => {
                self.installation.idle().await;
                self.somebody_else(disowning(*number)).await;
            }
            Event::Adopt(adopts) => {
                self.assert_nobody_was_harmed().await;
                self.settings.adopts |= adopts;
                self.installation.set(Settings { adopts: *adopts, ..self.settings });
                self.installation.idle().await;
                self.assert_nobody_was_harmed().await;
                self.settings.adopts = *adopts;
            }
            Event::Brake(minimum) => {
                self.settings.minimum = u32::from(*minimum);
                self.installation.set(self.settings);
            }
            Event::Restart => {
                self.installation.stop().await;
                self.installation.start();
            }
            Event::Killed(after) => {
                self.installation.kill(*after).await;
                self.assert_nobody_was_harmed().await;
                self.installation.start();
            }
            Event::Rest => self.rest().await,
        }
    }

    /// What the passes over touched keys left is what a comparison of all would leave, unless that has to find what others
    /// wrote, or more is owned now and more may go.
    async fn idle(&mut self) {
        self.installation.idle().await;
        if !self.is_drifted && self.installation.held().is_none() {
            self.assert_at_rest().await;
        }
    }

    /// Somebody else writes to the tables.
    async fn somebody_else(&mut self, sql: String) {
        self.is_drifted = true;
        self.assert_nobody_was_harmed().await;
        write(&mut self.installation.root, &sql).await;
        self.seen = Seen::now(&mut self.installation.root).await;
    }

    /// Since somebody looked last.
    async fn assert_nobody_was_harmed(&mut self) {
        let now = Seen::now(&mut self.installation.root).await;
        self.seen.assert_nobody_was_harmed(&now, self.settings.adopts);
        self.seen = now;
    }

    /// Looks at what must hold, before and after what is held back is released.
    async fn rest(&mut self) {
        self.installation.compared().await;
        // The share that may go is of what was owned before the comparison.
        self.installation.compared().await;
        self.is_drifted = false;
        for _ in 0..RELEASES {
            let Some((hash, _)) = self.installation.held() else { break };
            self.assert_at_rest().await;
            self.installation.release(&hash);
            self.installation.idle().await;
        }
        assert_eq!(self.installation.held(), None, "it was released");
        self.assert_at_rest().await;
        let index = self.installation.operator().context.index.clone();
        assert_one_verdict_each(&index.read());
        assert_owners(&index, &mut self.installation.root).await;
    }

    async fn assert_at_rest(&mut self) {
        self.assert_nobody_was_harmed().await;
        let before = contents(&mut self.installation.root).await;
        let (patches, held) = (self.installation.api.patches(), self.installation.held());
        self.installation.compared().await;
        let after = contents(&mut self.installation.root).await;
        assert_eq!(before, after, "a second comparison changes nothing");
        assert_eq!(self.installation.held(), held, "what is held back stays so");
        assert_eq!(self.installation.api.patches(), patches, "a second comparison tells nothing new");
        let Self { installation: Installation { api, root, .. }, settings, declared, seen, .. } = self;
        assert_declared_rows(declared, (seen, settings.adopts), api, root).await;
    }
}

/// Writes as often as the database gives the transaction up so that one of the operator's can end.
async fn write(root: &mut MySqlConnection, sql: &str) {
    loop {
        match sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *root).await {
            Err(sqlx::Error::Database(error)) if error.code().is_some_and(|state| state == "40001") => {}
            written => {
                written.unwrap();
                return;
            }
        }
    }
}

/// What `STATEFUL_SEED` says, to see a failure again, or another one each time.
fn seed() -> u64 {
    let chosen = std::env::var("STATEFUL_SEED").ok().map(|seed| seed.parse().expect("a number"));
    chosen.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    })
}

/// One of what a strategy gives, the same for the same seed and case.
fn chosen<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, seed: u64, case: u64) -> T {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&case.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy.new_tree(&mut runner).unwrap().current()
}

#[tokio::test]
async fn whatever_happens_the_tables_end_right_and_nobodys_rows_are_harmed() {
    let mariadb = MariaDb::shared();
    let seed = seed();
    for case in 0..CASES {
        let events = chosen(events(), seed, case);
        // What a failure shows.
        eprintln!("STATEFUL_SEED={seed}, case {case}:");
        let mut life = Life::begin(&mariadb, &format!("stateful_{case}")).await;
        for event in &events {
            eprintln!("  {event:?}");
            life.live_through(event).await;
        }
        life.rest().await;
        life.installation.stop().await;
    }
}
