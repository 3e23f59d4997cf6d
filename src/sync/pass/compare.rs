//! Some keys, compared and brought into the tables: what is desired under them beside what is there.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::super::ahead::Rows;
use super::super::brake::Doomed;
use super::super::chunk::chunks;
use super::{PassError, Passes};
use crate::desired::{Desired, PasswordWant, Verdict, Want, desired, unserved};
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
    /// Compares some keys.
    pub(super) async fn compare(&mut self, keys: BTreeSet<Key>) -> Result<(), PassError> {
        let news = self.compare_chunks(keys).await?;
        self.tell_drift(&news).await;
        Ok(())
    }

    /// Compares many keys; who changes an object meanwhile need not wait for the end of it. `ahead`: what was read of some
    /// of the keys a moment ago.
    pub(super) async fn compare_many(
        &mut self,
        keys: BTreeSet<Key>,
        mut ahead: Rows,
    ) -> Result<(), PassError> {
        let mut news = Vec::new();
        for chunk in chunks(keys) {
            news.extend(self.compare_chunk(&chunk, ahead.take(&chunk)).await?);
            news.extend(self.between_chunks().await?);
        }
        self.tell_drift(&news).await;
        Ok(())
    }

    async fn compare_chunks(&mut self, keys: BTreeSet<Key>) -> Result<Vec<RowId>, PassError> {
        let mut news = Vec::new();
        for chunk in chunks(keys) {
            news.extend(self.compare_chunk(&chunk, None).await?);
        }
        Ok(news)
    }

    /// Works on what events touched in the meantime, as far as nothing goes: what does, and all else, is for the pass after
    /// this one, which asks the brake. Gives the drift that is new.
    async fn between_chunks(&mut self) -> Result<Vec<RowId>, PassError> {
        let has_work = self.context.index.read().has_work(self.server);
        if !has_work {
            return Ok(Vec::new());
        }
        let mut work = self.context.index.quietly(|index| index.take_work(self.server));
        let gone = self.without_rows(&work.keys.iter().collect::<Vec<_>>()).await;
        let keys = std::mem::replace(&mut work.keys, gone);
        let keys = keys.difference(&work.keys).cloned().collect();
        self.context.index.quietly(|index| index.give_back(self.server, work));
        let keys = self.insert_unseen(keys).await?;
        self.compare_chunks(keys).await
    }

    /// Compares keys that fit into one transaction; gives the drift that is new.
    async fn compare_chunk(&mut self, keys: &[Key], ahead: Option<Current>) -> Result<Vec<RowId>, PassError> {
        let (plan, current) = self.bring_about(keys, ahead).await?;
        self.account_for(&plan, &current);
        if self.corrects_drift() { Ok(plan.drifted) } else { Ok(self.drifted.update(keys, &plan.drifted)) }
    }

    /// Inserts what new objects declare without a look at the tables, where the attempt tells as much. Gives the keys that are
    /// to be looked at.
    pub(super) async fn insert_unseen(&mut self, keys: BTreeSet<Key>) -> Result<BTreeSet<Key>, PassError> {
        let (new, mut seen): (Vec<Key>, BTreeSet<Key>) = self.new_and_seen(keys);
        for chunk in new.chunks(UNSEEN) {
            self.refused.forget(chunk);
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
                // A catch-all is compared together with its domain.
                Key::Address(_) if !key.is_catch_all() => desired(&index, self.server, key).wants,
                _ => Vec::new(),
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

    /// Gives what was done, and what was there before.
    async fn bring_about(
        &mut self,
        keys: &[Key],
        ahead: Option<Current>,
    ) -> Result<(Plan, Current), PassError> {
        self.refused.forget(keys);
        let is_ahead = ahead.is_some();
        let mut chunk = self.compared(keys, ahead).await?;
        // What is written rests on what is there now.
        if is_ahead && !chunk.plan.is_empty() {
            chunk = self.compared(keys, None).await?;
        }
        match self.store.apply(&chunk.plan).await {
            Ok(()) => {}
            // One row that the database refuses must not keep the others out. It may be one that somebody has just made.
            Err(error) if error.is_about_a_row() => {
                chunk = self.compared(keys, None).await?;
                self.apply_one_by_one(&mut chunk).await?;
            }
            Err(error) => return Err(error.into()),
        }
        self.tell(&chunk.plan, chunk.wanted);
        Ok((chunk.plan, chunk.current))
    }

    /// Which of some keys lose rows by the plan for them, and whose.
    pub(super) async fn would_lose(&mut self, keys: &[Key]) -> Result<Doomed, PassError> {
        let Compared { current, plan, .. } = self.compared(keys, None).await?;
        let owners = |key: &Key| {
            let ids = key.tables().iter().map(|table| (*table, key.as_str().to_owned()));
            ids.filter_map(|id| Some(current.owners.get(&id)?.object_uid.clone())).collect()
        };
        Ok(plan.lost.iter().map(|key| (key.clone(), owners(key))).collect())
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
        let plan = self.plan_with(&passwords, |terms| plan::plan(&mut wanted, &current, terms));
        Ok(Compared { wanted, current, passwords, plan })
    }

    pub(super) async fn current(&mut self, keys: &[Key]) -> Result<Current, PassError> {
        Ok(self.store.read(&keys.iter().collect::<Vec<_>>()).await?)
    }

    /// Remembers the domains whose verdict may come from the tables, not from what is declared.
    fn note_troubled(&mut self, planned: &[(Key, Desired)]) {
        for (key, desired) in planned.iter().filter(|(key, _)| matches!(key, Key::Domain(_))) {
            if desired.verdicts.iter().all(Verdict::is_sound) {
                self.troubled.remove(key);
            } else {
                self.troubled.insert(key.clone());
            }
        }
    }

    /// Applies what was compared key by key, and leaves in it what was done.
    async fn apply_one_by_one(&mut self, chunk: &mut Compared) -> Result<(), PassError> {
        let Compared { wanted, current, passwords, plan: done } = chunk;
        *done = Plan::default();
        *wanted = self.desired(&wanted.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>());
        for at in 0..wanted.len() {
            let plan = self.plan_with(passwords, |terms| {
                let mut plan = Plan::default();
                plan::plan_one(wanted, at, current, terms, &mut plan);
                plan
            });
            match self.store.apply(&plan).await {
                Ok(()) => done.merge(plan),
                Err(error) if error.is_about_a_row() => {
                    self.refuse(wanted, at, &error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Tells of rows that the database refuses: to their object, or, where they have none any more, to the server.
    fn refuse(&mut self, wanted: &mut [(Key, Desired)], at: usize, error: &Error) {
        let (key, desired) = &wanted[at];
        if desired.wants.is_empty() {
            tracing::warn!(server = %self.server, %key, %error, "the database refuses to remove rows");
            self.refused.add(key.clone());
        } else {
            plan::tell_refused(wanted, at, &error.to_string());
        }
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
        &mut self,
        wanted: &[(Key, Desired)],
        current: &Current,
    ) -> Result<BTreeMap<RowId, ResolvedPassword>, PassError> {
        let wants = wanted.iter().flat_map(|(_, desired)| &desired.wants);
        let request = |want: &Want| {
            let row = (want.row.table(), want.row.key().to_owned());
            let stored = current.rows.get(&row).and_then(Row::password).map(str::to_owned);
            let PasswordWant { namespace, source, .. } = want.password.clone()?;
            Some(Request { row, namespace, source, stored })
        };
        let requests: Vec<_> =
            wants.filter(|want| plan::needs_password(want, current)).filter_map(request).collect();
        if requests.is_empty() {
            return Ok(BTreeMap::new());
        }
        let scheme = self.server_row().map(|row| row.password_scheme).unwrap_or_default();
        let client = &self.context.client;
        Ok(self.store.kept_during(password::resolve(client, scheme, requests)).await??)
    }

    /// Plans under the terms of now.
    fn plan_with(
        &self,
        passwords: &BTreeMap<RowId, ResolvedPassword>,
        plan: impl FnOnce(&Terms<'_>) -> Plan,
    ) -> Plan {
        let none = BTreeSet::new();
        let index = self.context.index.read();
        plan(&Terms {
            installation: &self.context.installation,
            server: &self.server_id,
            existing_rows: index.server(self.server).map(|row| row.existing_rows).unwrap_or_default(),
            drift: index.server(self.server).map(|row| row.drift).unwrap_or_default(),
            absent: &self.absent,
            lacking: &self.lacking,
            is_served: &|id| index.existing_servers().iter().any(|name| self.context.server_id(name) == id),
            is_taken_over: &|key| index.is_taken_over(key, self.server),
            declared: &|owner| index.policy_of(&owner.object, &owner.object_uid),
            is_unreadable: &|uid| index.is_unreadable(uid),
            held: self.held.as_ref().map_or(&none, |held| &held.keys),
            passwords,
        })
    }

    fn account_for(&mut self, plan: &Plan, before: &Current) {
        self.tally.account_for(plan, before);
        self.recent.add(Instant::now(), plan.lost.len());
    }
}
