//! One pass: what is desired under some keys, what is there, the difference, and what the objects are told.

mod compare;
mod settle;

use std::collections::BTreeSet;
use std::time::Duration;

use kube::runtime::events::EventType;
use tokio::time::Instant;

use super::Context;
use super::ahead::Ahead;
use super::brake::{Doomed, Held, Recent};
use super::chunk::chunks;
use super::drift::{self, Drifted};
use super::losses::Losses;
use super::refused::Refused;
use super::tally::Tally;
use super::teller::Teller;
use crate::api::Reason;
use crate::api::mail_server::Drift;
use crate::client;
use crate::index::rows::ServerRow;
use crate::index::{Key, Work};
use crate::object::ObjectName;
use crate::plan::{RowId, Unobtained};
use crate::report::{Finding, ServerReport};
use crate::store::{self, Owned, Store};
use crate::tables::{SharedColumn, Table};
use settle::Settling;

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("API server: {0}")]
    Api(#[from] client::Error),
}

/// Keys that are looked at while the index is held.
const LOOK: usize = 1000;

/// The passes over one connection.
pub(super) struct Passes<'a> {
    context: &'a Context,
    server: &'a ObjectName,
    server_id: String,
    /// [`ServerRow::database`] of the tables that the store is of.
    tables: u64,
    store: Store,
    absent: Vec<(Table, SharedColumn)>,
    /// What the database lacks to hold admins.
    lacking: Vec<String>,
    tally: Tally,
    /// What was read before the first full comparison.
    ahead: Option<Ahead>,
    losses: Losses,
    held: Option<Held>,
    recent: &'a mut Recent,
    /// Domains that are told something else than that all is well.
    troubled: BTreeSet<Key>,
    unobtained: Unobtained,
    /// Whether every domain has been compared: which can be had is not known before.
    has_compared: bool,
    /// Rows that differ and are left alone, with `drift: Report`.
    drifted: Drifted,
    /// Rows that should go and that the database keeps.
    refused: Refused,
    settling: Settling,
    teller: Teller<'a>,
}

impl<'a> Passes<'a> {
    /// `recent`: deletions that were let through over an earlier connection count as well.
    pub(super) fn new(
        context: &'a Context,
        server: &'a ObjectName,
        store: Store,
        tables: u64,
        recent: &'a mut Recent,
    ) -> Self {
        let server_id = context.server_id(server);
        Self {
            context,
            server,
            server_id,
            tables,
            absent: store.absent_columns(),
            lacking: store.lacking_for_admins(),
            store,
            tally: Tally::default(),
            ahead: None,
            losses: Losses::default(),
            held: None,
            recent,
            troubled: BTreeSet::new(),
            unobtained: Unobtained::default(),
            has_compared: false,
            drifted: Drifted::default(),
            refused: Refused::default(),
            settling: Settling::default(),
            teller: Teller::new(context, server),
        }
    }

    pub(super) async fn close(self) {
        self.store.close().await;
    }

    pub(super) async fn ping(&mut self) -> Result<(), PassError> {
        Ok(self.store.ping().await?)
    }

    /// Waits for something else than the database, and keeps the connection.
    pub(super) async fn kept_during<T>(&mut self, other: impl Future<Output = T>) -> Result<T, PassError> {
        Ok(self.store.kept_during(other).await?)
    }

    /// Compares everything: all that is declared and all that is owned.
    pub(super) async fn full(&mut self) -> Result<(), PassError> {
        let Work { keys, .. } = self.context.index.quietly(|index| index.take_work(self.server));
        self.full_with(keys).await
    }

    /// Compares everything, and what events touched: of a key that the server has just lost, and owns nothing under, a pass
    /// from before may have told something else.
    async fn full_with(&mut self, mut touched: BTreeSet<Key>) -> Result<(), PassError> {
        {
            // The others are declared: at a start that is all of them.
            let index = self.context.index.read();
            touched.retain(|key| {
                matches!(key, Key::Admin(_)) || index.server_of(key.domain()) != Some(self.server)
            });
        }
        let (started, is_first) = (Instant::now(), !self.has_compared);
        let result = self.compare_all(touched.clone()).await;
        if is_first && result.is_ok() {
            let (keys, took) = (self.tally.keys(), started.elapsed());
            tracing::info!(server = %self.server, keys, ?took, "everything compared with the tables");
        }
        self.give_back_after(&result, touched);
        self.settling.is_doubted = true;
        self.finish(started, result)
    }

    /// Works on what events touched.
    pub(super) async fn touched(&mut self) -> Result<(), PassError> {
        let Work { all, mut keys, counted } =
            self.context.index.quietly(|index| index.take_work(self.server));
        if all {
            return self.full_with(keys).await;
        }
        // A key that is compared is told with its row.
        let counted = counted.into_iter().map(Key::Domain).filter(|key| !keys.contains(key)).collect();
        let troubled = self.tell_counts(counted);
        keys.extend(self.with_told_beside(troubled));
        let started = Instant::now();
        let result = self.compare_touched(keys.clone()).await;
        self.give_back_after(&result, keys);
        self.finish(started, result)
    }

    /// The comparison of everything on the next connection has no other reason to look at what is served no more.
    fn give_back_after(&self, result: &Result<(), PassError>, keys: BTreeSet<Key>) {
        if result.is_err() {
            let work = Work { keys, ..Work::default() };
            self.context.index.quietly(|index| index.give_back(self.server, work));
        }
    }

    /// The tables have no counts: a domain whose row is in order needs a new status and no statement. Gives the others.
    fn tell_counts(&self, counted: Vec<Key>) -> Vec<Key> {
        let (troubled, sound): (Vec<Key>, Vec<Key>) =
            counted.into_iter().partition(|key| self.troubled.contains(key));
        self.context
            .statuses
            .offer(self.desired(&sound).into_iter().flat_map(|(_, desired)| desired.verdicts));
        troubled
    }

    pub(super) fn with_told_beside(&self, keys: Vec<Key>) -> Vec<Key> {
        let index = self.context.index.read();
        keys.into_iter().flat_map(|key| index.told_beside(&key).into_iter().chain([key])).collect()
    }

    fn finish(&mut self, started: Instant, result: Result<(), PassError>) -> Result<(), PassError> {
        self.context.metrics.pass(result.is_ok(), started.elapsed());
        if result.is_ok() {
            self.recent.end();
        }
        if result.is_ok() && self.teller.has_news(&self.current_report()) {
            self.report();
        }
        result
    }

    /// Reads what the first full comparison begins with.
    pub(super) async fn read_ahead(&mut self) -> Result<(), PassError> {
        self.ahead = Some(Ahead::read(&mut self.store, &self.server_id).await?);
        Ok(())
    }

    async fn compare_all(&mut self, mut touched: BTreeSet<Key>) -> Result<(), PassError> {
        let Ahead { owned, rows } = match self.ahead.take() {
            Some(ahead) => ahead,
            None => Ahead::without_rows(&mut self.store, &self.server_id).await?,
        };
        let Owned { mut keys, alias_domains, counts } = owned;
        self.tally = Tally::new(keys.len(), counts);
        self.losses = Losses::new(alias_domains);
        // Under what is declared there may be rows that another server had before.
        keys.extend(self.context.index.read().keys_of(self.server));
        keys.append(&mut touched);
        self.ask_brake(&keys).await?;
        self.compare_many(keys, rows).await?;
        self.has_compared = true;
        Ok(())
    }

    async fn compare_touched(&mut self, mut keys: BTreeSet<Key>) -> Result<(), PassError> {
        // What is held back is part of every plan until it is released or declared again.
        keys.extend(self.held.take().map(|held| held.keys).unwrap_or_default());
        self.ask_brake(&keys).await?;
        let keys = self.insert_unseen(keys).await?;
        self.compare(keys).await
    }

    /// Holds back what some keys would lose, if it is too much.
    async fn ask_brake(&mut self, keys: &BTreeSet<Key>) -> Result<(), PassError> {
        let losing = self.losing(keys).await;
        self.losses.foresee(losing.clone());
        let doomed = self.doomed(losing).await?;
        self.brake(&doomed).await;
        Ok(())
    }

    /// Which of some keys would lose rows, and whose, if nothing were held back: so many that the brake has to know.
    async fn doomed(&mut self, candidates: BTreeSet<Key>) -> Result<Doomed, PassError> {
        let mut doomed = Doomed::default();
        if candidates.len() + self.recent_deletions() <= self.minimum() {
            return Ok(doomed);
        }
        self.held = None;
        for chunk in chunks(candidates) {
            doomed.extend(self.would_lose(&chunk).await?);
        }
        Ok(doomed)
    }

    /// Deletions that were let through a short while ago.
    fn recent_deletions(&mut self) -> usize {
        self.recent.count(Instant::now())
    }

    /// Those of some keys under which what is declared may let rows go.
    async fn losing(&self, keys: &BTreeSet<Key>) -> BTreeSet<Key> {
        let mut losing = BTreeSet::new();
        let mut keys = keys.iter().peekable();
        while keys.peek().is_some() {
            {
                let index = self.context.index.read();
                let is_loss = |key: &&Key| self.losses.is_loss(&index, self.server, key);
                losing.extend(keys.by_ref().take(LOOK).filter(is_loss).cloned());
            }
            tokio::task::yield_now().await;
        }
        losing
    }

    fn corrects_drift(&self) -> bool {
        self.context.index.read().server(self.server).is_none_or(|row| row.drift == Drift::Correct)
    }

    fn server_row(&self) -> Option<ServerRow> {
        self.context.index.read().server(self.server).cloned()
    }

    fn minimum(&self) -> usize {
        self.context.index.read().server(self.server).map_or(0, |row| row.minimum as usize)
    }

    async fn brake(&mut self, deletions: &Doomed) {
        let row = self.server_row();
        self.held = row.and_then(|row| {
            self.recent.begin(deletions, &row);
            self.recent.hold(Instant::now(), deletions, self.tally.keys(), &row)
        });
        self.teller.held(self.held.as_ref()).await;
    }

    async fn tell_drift(&mut self, news: &[RowId]) {
        if self.corrects_drift() {
            self.drifted = Drifted::default();
        }
        if news.is_empty() {
            return;
        }
        self.context.metrics.drifted(news);
        let (type_, reason, message) = match self.drifted.message() {
            None => (EventType::Normal, Reason::DriftCorrected, drift::corrected(news)),
            Some(message) => (EventType::Warning, Reason::DriftDetected, message),
        };
        tracing::info!(server = %self.server, message, "drift");
        self.teller.event(type_, reason, message).await;
    }

    fn current_report(&self) -> ServerReport {
        let tables = match (&self.held, self.refused.message(), self.drifted.message()) {
            (Some(held), ..) => Finding::bad(Reason::DeletionsHeld, held.message()),
            (None, Some(message), _) => Finding::bad(Reason::RowRefused, message),
            (None, None, Some(message)) => Finding::bad(Reason::DriftDetected, message),
            (None, None, None) => Finding::good(Reason::Synced, "the tables are as declared"),
        };
        ServerReport {
            database: Some(Finding::good(Reason::Ready, "connected")),
            tables,
            complete: Some(self.tables),
            needs: self.context.index.read().needs_version(self.server),
            settled: self.settling.settled.clone(),
            released: self.recent.used().map(str::to_owned),
            drifted: self.drifted.len(),
            counts: self.tally.counts(),
        }
    }

    /// When the counts are to be told, if they changed.
    pub(super) fn report_due(&self, interval: Duration) -> Option<Instant> {
        self.teller.due(&self.current_report(), interval)
    }

    /// Tells the `MailServer` controller.
    pub(super) fn report(&mut self) {
        self.teller.report(self.current_report());
    }
}
