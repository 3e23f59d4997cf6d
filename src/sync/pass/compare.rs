//! Some keys, compared and brought into the tables: what is desired under them beside what is there.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::super::ahead::Rows;
use super::super::chunk::chunks;
use super::super::tally::deleted_keys;
use super::{PassError, Passes};
use crate::api::Reason;
use crate::api::mail_server::Drift;
use crate::desired::{Desired, Verdict, Want, desired, unserved};
use crate::index::Key;
use crate::password::{self, Request};
use crate::plan::{self, Current, Plan, ResolvedPassword, RowId, Terms};
use crate::store::Error;
use crate::tables::{Row, Table};

/// Keys that are inserted together without a look: where one is there after all, all of them are looked at.
const UNSEEN: usize = 100;

/// Some keys, compared.
struct Compared {
    wanted: Vec<(Key, Desired)>,
    current: Current,
    passwords: BTreeMap<RowId, ResolvedPassword>,
    plan: Plan,
}

impl Passes<'_> {
    /// `ahead`: what was read of some of the keys a moment ago.
    pub(super) async fn compare(&mut self, keys: BTreeSet<Key>, mut ahead: Rows) -> Result<(), PassError> {
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

    /// Inserts what new objects declare without a look at the tables, where the attempt tells as much. Gives the keys that are
    /// to be looked at.
    pub(super) async fn insert_unseen(&mut self, keys: BTreeSet<Key>) -> Result<BTreeSet<Key>, PassError> {
        let (new, mut seen): (Vec<Key>, BTreeSet<Key>) = self.new_and_seen(keys);
        for chunk in new.chunks(UNSEEN) {
            let nothing = Current::default();
            let Compared { wanted, plan, .. } = self.compared(chunk, Some(nothing.clone())).await?;
            if self.store.insert_unseen(&plan).await? {
                self.account_for(&plan, &nothing);
                self.tell(&plan, wanted);
            } else {
                seen.extend(chunk.iter().cloned());
            }
        }
        Ok(seen)
    }

    /// Parts the keys under which all that is wanted is of objects that were told nothing yet from the others.
    fn new_and_seen(&self, keys: BTreeSet<Key>) -> (Vec<Key>, BTreeSet<Key>) {
        let index = self.context.index.read();
        let is_untold = |want: &Want| index.meta(&want.object).is_some_and(|meta| meta.status.is_none());
        let is_new = |key: &Key| {
            let wants = match key {
                Key::Address(_) => desired(&index, self.server, key).wants,
                Key::Domain(_) | Key::Admin(_) => Vec::new(),
            };
            let tables: Vec<Table> = wants.iter().map(|want| want.row.table()).collect();
            wants.iter().all(is_untold) && self.store.tells_by_inserting(key, &tables)
        };
        let mut parted = (Vec::new(), BTreeSet::new());
        for key in keys {
            if is_new(&key) {
                parted.0.push(key);
            } else {
                parted.1.insert(key);
            }
        }
        parted
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
        self.tell(&plan, wanted);
        Ok((plan, current))
    }

    /// Tells the objects what they are told, and the metrics what was done.
    fn tell(&mut self, plan: &Plan, wanted: Vec<(Key, Desired)>) {
        self.context.metrics.applied(plan);
        self.note_troubled(&wanted);
        self.context.statuses.offer(wanted.into_iter().flat_map(|(_, desired)| desired.verdicts));
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
                    for (_, desired) in one {
                        tell_refused(desired, &error);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    pub(super) fn desired(&self, keys: &[Key]) -> Vec<(Key, Desired)> {
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
            is_served: &|id| index.existing_servers().iter().any(|name| self.context.server_id(name) == id),
            is_unreadable: &|uid| index.is_unreadable(uid),
            held: self.held.as_ref().map_or(&none, |held| &held.keys),
            passwords,
        };
        plan::plan(wanted, current, &terms)
    }

    fn account_for(&mut self, plan: &Plan, before: &Current) {
        self.tally.account_for(plan, before);
        self.recent.add(Instant::now(), deleted_keys(plan));
    }
}

/// Tells the object whose rows the database refuses; what others under the same key are told stays.
fn tell_refused(desired: &mut Desired, error: &Error) {
    let refused = desired.wants.first().map(|want| &want.object);
    for verdict in desired.verdicts.iter_mut().filter(|verdict| Some(&verdict.object) == refused) {
        *verdict = Verdict::new(&verdict.object, Reason::RowRefused, error.to_string());
    }
}
