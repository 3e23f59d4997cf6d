//! The brake, through anything that may happen: no more rows go than it allows until somebody releases exactly those that wait.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sqlx::mysql::MySqlConnection;

use super::installation::{Installation, Settings};
use super::mailboxes::{address, declare, declare_domain, id, rows};
use super::{chosen, seed};
use crate::mariadb::MariaDb;

const MAILBOXES: usize = 40;

/// Sequences of steps, each in a database of its own.
const CASES: u64 = 8;

/// Counts the rows that come and go: no one else touches them here.
const COUNTING: &str = "
    CREATE TABLE seen_made (at BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY);
    CREATE TABLE seen_gone (at BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY);
    CREATE TRIGGER count_made AFTER INSERT ON mailbox FOR EACH ROW INSERT INTO seen_made VALUES (NULL);
    CREATE TRIGGER count_gone AFTER DELETE ON mailbox FOR EACH ROW INSERT INTO seen_gone VALUES (NULL);
";

/// What may happen. Nothing waits for the operator that doesn't say so.
#[derive(Clone, Debug)]
enum Step {
    /// So many objects go, from one on.
    Remove(usize, usize),
    Declare(usize, usize),
    Compare,
    Idle,
    Restart,
    Killed(u8),
    /// What is held back is released, or, where that is stale, what was held back before one more object went.
    Release {
        is_stale: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let some = |most: usize| (0..MAILBOXES, 1..most);
    prop_oneof![
        6 => some(12).prop_map(|(from, count)| Step::Remove(from, count)),
        3 => some(20).prop_map(|(from, count)| Step::Declare(from, count)),
        4 => Just(Step::Compare),
        4 => Just(Step::Idle),
        1 => Just(Step::Restart),
        2 => (0..9u8).prop_map(Step::Killed),
        3 => any::<bool>().prop_map(|is_stale| Step::Release { is_stale }),
    ]
}

fn steps() -> impl Strategy<Value = (u32, u32, Vec<Step>)> {
    let minimum = prop_oneof![Just(0), Just(3), Just(8)];
    let percent = prop_oneof![Just(0), Just(10), Just(30)];
    (minimum, percent, prop::collection::vec(step(), 10..40))
}

/// What was there when the brake last began to count.
struct Since {
    made: usize,
    gone: usize,
    keys: usize,
}

async fn count(root: &mut MySqlConnection, table: &str) -> usize {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(root).await.unwrap();
    usize::try_from(count).unwrap()
}

impl Since {
    async fn now(root: &mut MySqlConnection) -> Self {
        let keys = count(root, "mailbox").await + count(root, "domain").await;
        Self { made: count(root, "seen_made").await, gone: count(root, "seen_gone").await, keys }
    }
}

struct Braked {
    installation: Installation,
    settings: Settings,
    declared: BTreeSet<usize>,
    since: Since,
}

impl Braked {
    async fn begin(mariadb: &MariaDb, database: &str, (minimum, percent): (u32, u32)) -> Self {
        let settings = Settings { adopts: false, minimum, percent };
        let mut installation = Installation::begin(mariadb, database, settings).await;
        sqlx::raw_sql(COUNTING).execute(&mut installation.root).await.unwrap();
        declare_domain(&installation.api);
        (0..MAILBOXES).for_each(|number| declare(&installation.api, number));
        installation.idle().await;
        let since = Since::now(&mut installation.root).await;
        Self { installation, settings, declared: (0..MAILBOXES).collect(), since }
    }

    async fn go_through(&mut self, step: &Step) {
        match step {
            Step::Remove(from, count) => {
                let numbers: Vec<usize> = self.declared.range(from..).take(*count).copied().collect();
                for number in numbers {
                    self.remove(number);
                }
            }
            Step::Declare(from, count) => {
                for number in *from..MAILBOXES.min(from + count) {
                    declare(&self.installation.api, number);
                    self.declared.insert(number);
                }
            }
            Step::Compare => self.installation.compare(),
            Step::Idle => {
                self.assert_held_rows_stay().await;
            }
            Step::Restart => {
                self.installation.stop().await;
                self.started_anew().await;
            }
            Step::Killed(after) => {
                self.installation.kill(*after).await;
                self.started_anew().await;
            }
            Step::Release { is_stale: false } => self.release().await,
            Step::Release { is_stale: true } => self.release_too_late().await,
        }
        self.assert_no_more_went().await;
    }

    fn remove(&mut self, number: usize) {
        self.declared.remove(&number);
        self.installation.api.remove(&id(number));
    }

    /// What went before a start is not counted after it.
    async fn started_anew(&mut self) {
        self.assert_no_more_went().await;
        self.since = Since::now(&mut self.installation.root).await;
        self.installation.start();
    }

    /// No more rows went than the brake allows, whoever was asked when.
    async fn assert_no_more_went(&mut self) {
        let Settings { minimum, percent, .. } = self.settings;
        let root = &mut self.installation.root;
        let gone = count(root, "seen_gone").await - self.since.gone;
        // Counted later: of what is made meanwhile more may go.
        let keys = self.since.keys + count(root, "seen_made").await - self.since.made;
        let is_allowed = gone <= minimum as usize || gone * 100 <= keys * percent as usize;
        assert!(is_allowed, "{gone} of {keys} rows went");
    }

    /// The rows of objects that are gone are those that are told to be held back, and they stay so.
    async fn assert_held_rows_stay(&mut self) -> Option<(String, usize)> {
        self.installation.idle().await;
        let held = self.installation.held();
        let before = rows(&mut self.installation.root).await;
        let declared: BTreeSet<String> = self.declared.iter().map(|number| address(*number)).collect();
        assert_eq!(declared.difference(&before).next(), None, "what is declared has its row");
        let waiting = before.difference(&declared).count();
        assert_eq!(waiting, held.as_ref().map_or(0, |(_, count)| *count), "{held:?}");
        self.installation.compared().await;
        // The share that may go is of what was owned before: after many new rows it may be more.
        if self.installation.held() == held {
            assert_eq!(before, rows(&mut self.installation.root).await);
        }
        self.installation.held()
    }

    /// What is released goes, all of it and nothing else, and the brake begins to count anew.
    async fn release(&mut self) {
        let Some((hash, count_held)) = self.assert_held_rows_stay().await else { return };
        let before = count(&mut self.installation.root, "seen_gone").await;
        self.installation.release(&hash);
        self.assert_held_rows_stay().await;
        assert_eq!(self.installation.held(), None, "it was released");
        assert_eq!(count(&mut self.installation.root, "seen_gone").await, before + count_held);
        self.since = Since::now(&mut self.installation.root).await;
    }

    /// A release is not for what went after it was read.
    async fn release_too_late(&mut self) {
        let Some((hash, _)) = self.assert_held_rows_stay().await else { return };
        let Some(one_more) = self.declared.first().copied() else { return };
        self.remove(one_more);
        let held = self.assert_held_rows_stay().await;
        let before = rows(&mut self.installation.root).await;
        self.installation.release(&hash);
        self.installation.idle().await;
        assert_eq!(self.installation.held(), held);
        assert_eq!(before, rows(&mut self.installation.root).await);
        // Should one more be declared again, exactly the deletions of that release would wait once more, and it would be for them.
        self.installation.compare();
    }
}

#[tokio::test]
async fn whatever_happens_no_more_rows_go_than_the_brake_allows() {
    let mariadb = MariaDb::shared();
    let seed = seed();
    for case in 0..CASES {
        let (minimum, percent, steps) = chosen(steps(), seed, case);
        // What a failure shows.
        eprintln!("STATEFUL_SEED={seed}, case {case}: minimum {minimum}, {percent} %");
        let mut braked = Braked::begin(&mariadb, &format!("braked_{case}"), (minimum, percent)).await;
        for step in &steps {
            eprintln!("  {step:?}");
            braked.go_through(step).await;
        }
        braked.release().await;
        braked.installation.stop().await;
    }
}
