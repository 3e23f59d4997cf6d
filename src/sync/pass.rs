//! One pass: what is desired under some keys, what is there, the difference, and what the objects are told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::runtime::events::EventType;
use tokio::time::Instant;

use super::Context;
use super::ahead::{Ahead, Rows};
use super::brake::{self, Held, Recent};
use super::chunk::chunks;
use super::drift::{self, Drifted};
use super::teller::Teller;
use crate::api::mail_server::Drift;
use crate::api::{DeletionPolicy, DomainName, Reason};
use crate::desired::{Desired, Verdict, desired, unserved};
use crate::index::rows::ServerRow;
use crate::index::{Key, Work};
use crate::object::ObjectName;
use crate::password::{self, Request};
use crate::plan::{self, Current, Plan, ResolvedPassword, RowId, Terms};
use crate::report::{Counts, Finding, ServerReport};
use crate::store::{self, Store};
use crate::tables::{Row, SharedColumn, Table};

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("API server: {0}")]
    Api(#[from] kube::Error),
}

/// Some keys, compared.
struct Compared {
    wanted: Vec<(Key, Desired)>,
    current: Current,
    passwords: BTreeMap<RowId, ResolvedPassword>,
    plan: Plan,
}

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
    /// Keys under which this server owns rows, as of the last full comparison and corrected since.
    owned: usize,
    counts: Counts,
    /// What was read before the first full comparison.
    ahead: Option<Ahead>,
    held: Option<Held>,
    recent: Recent,
    /// Domains that are told something else than that all is well.
    troubled: BTreeSet<Key>,
    /// Rows that differ and are left alone, with `drift: Report`.
    drifted: Drifted,
    teller: Teller<'a>,
}

impl<'a> Passes<'a> {
    pub(super) fn new(context: &'a Context, server: &'a ObjectName, store: Store, tables: u64) -> Self {
        let server_id = context.server_id(server);
        Self {
            context,
            server,
            server_id,
            tables,
            absent: store.absent_columns(),
            lacking: store.lacking_for_admins(),
            store,
            owned: 0,
            counts: Counts::default(),
            ahead: None,
            held: None,
            recent: Recent::default(),
            troubled: BTreeSet::new(),
            drifted: Drifted::default(),
            teller: Teller::new(context, server),
        }
    }

    pub(super) async fn close(self) {
        self.store.close().await;
    }

    pub(super) async fn ping(&mut self) -> Result<(), PassError> {
        Ok(self.store.ping().await?)
    }

    /// Compares everything: all that is declared and all that is owned.
    pub(super) async fn full(&mut self) -> Result<(), PassError> {
        self.context.index.quietly(|index| index.take_work(self.server));
        let started = Instant::now();
        let result = self.compare_all().await;
        self.finish(started, result)
    }

    /// Works on what events touched.
    pub(super) async fn touched(&mut self) -> Result<(), PassError> {
        let Work { all, mut keys, counted } =
            self.context.index.quietly(|index| index.take_work(self.server));
        if all {
            return self.full().await;
        }
        keys.extend(self.tell_counts(counted));
        let started = Instant::now();
        let result = self.compare_touched(keys).await;
        self.finish(started, result)
    }

    /// The tables have no counts: a domain whose row is in order needs a new status and no statement. Gives the others.
    fn tell_counts(&self, counted: BTreeSet<DomainName>) -> Vec<Key> {
        let (troubled, sound): (Vec<Key>, Vec<Key>) =
            counted.into_iter().map(Key::Domain).partition(|key| self.troubled.contains(key));
        self.context
            .statuses
            .offer(self.desired(&sound).into_iter().flat_map(|(_, desired)| desired.verdicts));
        troubled
    }

    fn finish(&mut self, started: Instant, result: Result<(), PassError>) -> Result<(), PassError> {
        self.context.metrics.pass(result.is_ok(), started.elapsed());
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

    async fn compare_all(&mut self) -> Result<(), PassError> {
        let Ahead { owned, counts, rows } = match self.ahead.take() {
            Some(ahead) => ahead,
            None => Ahead::without_rows(&mut self.store, &self.server_id).await?,
        };
        (self.owned, self.counts) = (owned.len(), counts);
        let declared = self.context.index.read().keys_of(self.server);
        let gone = owned.iter().filter(|(_, policy)| **policy != DeletionPolicy::Retain).map(|(key, _)| key);
        let gone = self.without_rows(gone);
        let mut keys: BTreeSet<Key> = declared.into_iter().collect();
        keys.extend(owned.into_keys());
        self.brake(gone).await;
        self.compare(keys, rows).await
    }

    async fn compare_touched(&mut self, mut keys: BTreeSet<Key>) -> Result<(), PassError> {
        // What is held back is part of every plan until it is released or declared again.
        keys.extend(self.held.take().map(|held| held.keys).unwrap_or_default());
        let mut gone = self.without_rows(keys.iter());
        if gone.len() + self.recent_deletions() > self.minimum() {
            let gone_keys: Vec<&Key> = gone.iter().collect();
            let current = self.store.read(&gone_keys).await?;
            let deleted: BTreeSet<Key> = current
                .owners
                .values()
                .filter(|owner| owner.server == self.server_id && owner.policy != DeletionPolicy::Retain)
                .filter_map(|owner| Key::of_row(owner.table, &owner.key))
                .collect();
            gone.retain(|key| deleted.contains(key));
        }
        self.brake(gone).await;
        self.compare(keys, Rows::default()).await
    }

    /// Deletions that were let through a short while ago.
    fn recent_deletions(&mut self) -> usize {
        self.recent.count(Instant::now())
    }

    fn without_rows<'k>(&self, keys: impl Iterator<Item = &'k Key>) -> BTreeSet<Key> {
        let index = self.context.index.read();
        let is_gone = |key: &Key| {
            let desired = desired(&index, self.server, key);
            desired.wants.is_empty() && desired.kept.is_none()
        };
        keys.filter(|key| is_gone(key)).cloned().collect()
    }

    fn server_row(&self) -> Option<ServerRow> {
        self.context.index.read().server(self.server).cloned()
    }

    fn minimum(&self) -> usize {
        self.server_row().map_or(0, |row| row.minimum as usize)
    }

    async fn brake(&mut self, deletions: BTreeSet<Key>) {
        let row = self.server_row();
        self.recent.release(row.as_ref().is_some_and(|row| brake::is_released(&deletions, row)));
        let recent = self.recent_deletions();
        self.held = row.and_then(|row| brake::hold(deletions, recent, self.owned, &row));
        self.teller.held(self.held.as_ref()).await;
    }

    /// `ahead`: what was read of some of the keys a moment ago.
    async fn compare(&mut self, keys: BTreeSet<Key>, mut ahead: Rows) -> Result<(), PassError> {
        let keys: Vec<Key> = keys.into_iter().collect();
        let correct = self.server_row().is_none_or(|row| row.drift == Drift::Correct);
        let mut news = Vec::new();
        for chunk in chunks(&keys) {
            let (plan, current) = self.compare_chunk(chunk, ahead.take(chunk)).await?;
            self.account_for(&plan, &current);
            if correct {
                news.extend(plan.drifted);
            } else {
                news.extend(self.drifted.update(chunk, &plan.drifted));
            }
        }
        self.tell_drift(&news, correct).await;
        Ok(())
    }

    async fn tell_drift(&mut self, news: &[RowId], correct: bool) {
        if correct {
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

    async fn compare_chunk(
        &mut self,
        keys: &[Key],
        ahead: Option<Current>,
    ) -> Result<(Plan, Current), PassError> {
        let is_ahead = ahead.is_some();
        let mut chunk = self.compared(keys, ahead).await?;
        // What is written rests on what is there now.
        if is_ahead && !chunk.plan.is_empty() {
            chunk = self.compared(keys, None).await?;
        }
        let Compared { mut wanted, current, passwords, plan } = chunk;
        let (plan, current) = match self.store.apply(&plan).await {
            Ok(()) => (plan, current),
            // One row that the database refuses must not keep the others out. It may be one that somebody has just made.
            Err(error) if error.is_about_a_row() => {
                let current = self.current(keys).await?;
                (self.apply_one_by_one(&mut wanted, &current, &passwords).await?, current)
            }
            Err(error) => return Err(error.into()),
        };
        self.context.metrics.applied(&plan);
        self.note_troubled(&wanted);
        self.context.statuses.offer(wanted.into_iter().flat_map(|(_, desired)| desired.verdicts));
        Ok((plan, current))
    }

    /// What is desired under some keys beside what is there, `read` or to be read now.
    async fn compared(&mut self, keys: &[Key], read: Option<Current>) -> Result<Compared, PassError> {
        let mut wanted = self.desired(keys);
        let current = match read {
            Some(current) => current,
            None => self.current(keys).await?,
        };
        let passwords = self.passwords(&wanted, &current).await?;
        let plan = self.plan(&mut wanted, &current, &passwords);
        Ok(Compared { wanted, current, passwords, plan })
    }

    async fn current(&mut self, keys: &[Key]) -> Result<Current, PassError> {
        Ok(self.store.read(&keys.iter().collect::<Vec<_>>()).await?)
    }

    /// Remembers the domains whose verdict came from the tables, not from what is declared.
    fn note_troubled(&mut self, planned: &[(Key, Desired)]) {
        for (key, desired) in planned.iter().filter(|(key, _)| matches!(key, Key::Domain(_))) {
            if desired.verdicts.iter().all(|verdict| verdict.reason == Reason::Synced) {
                self.troubled.remove(key);
            } else {
                self.troubled.insert(key.clone());
            }
        }
    }

    async fn apply_one_by_one(
        &mut self,
        wanted: &mut [(Key, Desired)],
        current: &Current,
        passwords: &BTreeMap<RowId, ResolvedPassword>,
    ) -> Result<Plan, PassError> {
        let mut done = Plan::default();
        for one in wanted.chunks_mut(1) {
            let plan = self.plan(one, current, passwords);
            match self.store.apply(&plan).await {
                Ok(()) => done.merge(plan),
                Err(error) if error.is_about_a_row() => {
                    for verdict in one.iter_mut().flat_map(|(_, desired)| &mut desired.verdicts) {
                        *verdict = Verdict::new(&verdict.object, Reason::RowRefused, error.to_string());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn desired(&self, keys: &[Key]) -> Vec<(Key, Desired)> {
        let index = self.context.index.read();
        let desired = |key: &Key| {
            let mut desired = desired(&index, self.server, key);
            // Of a key that this server has just lost a pass from before may have told something else.
            if desired.verdicts.is_empty() {
                desired.verdicts = unserved(&index, key);
            }
            (key.clone(), desired)
        };
        keys.iter().map(desired).collect()
    }

    async fn passwords(
        &self,
        wanted: &[(Key, Desired)],
        current: &Current,
    ) -> Result<BTreeMap<RowId, ResolvedPassword>, PassError> {
        let wants = wanted.iter().flat_map(|(_, desired)| &desired.wants);
        let requests: Vec<_> = wants
            .filter(|want| plan::needs_password(want, current))
            .filter_map(|want| {
                let row = (want.row.table(), want.row.key().to_owned());
                let stored = current.rows.get(&row).and_then(Row::password);
                Some(Request { row, want: want.password.as_ref()?, stored })
            })
            .collect();
        let scheme = self.server_row().map(|row| row.password_scheme).unwrap_or_default();
        Ok(password::resolve(&self.context.client, scheme, &requests).await?)
    }

    fn plan(
        &self,
        wanted: &mut [(Key, Desired)],
        current: &Current,
        passwords: &BTreeMap<RowId, ResolvedPassword>,
    ) -> Plan {
        let none = BTreeSet::new();
        let index = self.context.index.read();
        let terms = Terms {
            installation: &self.context.installation,
            server: &self.server_id,
            existing_rows: index.server(self.server).map(|row| row.existing_rows).unwrap_or_default(),
            drift: index.server(self.server).map(|row| row.drift).unwrap_or_default(),
            absent: &self.absent,
            lacking: &self.lacking,
            is_served: &|id| index.server_names().iter().any(|name| self.context.server_id(name) == id),
            is_unreadable: &|uid| index.is_unreadable(uid),
            held: self.held.as_ref().map_or(&none, |held| &held.keys),
            passwords,
        };
        plan::plan(wanted, current, &terms)
    }

    /// Keeps the counts right without asking the database again.
    fn account_for(&mut self, plan: &Plan, before: &Current) {
        let new =
            plan.owned.iter().filter(|owner| !before.owners.contains_key(&(owner.table, owner.key.clone())));
        let changes =
            new.map(|owner| (owner.table, 1)).chain(plan.disowned.iter().map(|(table, _)| (*table, -1)));
        let is_key = |table: &Table| matches!(table, Table::Domain | Table::Alias | Table::Admin);
        self.recent.add(Instant::now(), plan.deletes.iter().filter(|(table, _)| is_key(table)).count());
        let mut keys = 0;
        for (table, change) in changes {
            match table {
                Table::Domain => self.counts.domains += change,
                Table::AliasDomain | Table::Id | Table::Admin => {}
                Table::Mailbox => {
                    self.counts.mailboxes += change;
                    self.counts.aliases -= change;
                }
                Table::Alias => self.counts.aliases += change,
            }
            // A domain's key always has a row in domain, an address's in alias, an admin's in admin.
            keys += if is_key(&table) { change } else { 0 };
        }
        self.owned =
            usize::try_from(i64::try_from(self.owned).unwrap_or_default() + keys).unwrap_or_default();
    }

    fn current_report(&self) -> ServerReport {
        let tables = match (&self.held, self.drifted.message()) {
            (Some(held), _) => Finding::bad(Reason::DeletionsHeld, held.message()),
            (None, Some(message)) => Finding::bad(Reason::DriftDetected, message),
            (None, None) => Finding::good(Reason::Synced, "the tables are as declared"),
        };
        ServerReport {
            database: Some(Finding::good(Reason::Ready, "connected")),
            tables,
            complete: Some(self.tables),
            needs: self.context.index.read().needs_version(self.server),
            drifted: self.drifted.len(),
            counts: self.counts,
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
