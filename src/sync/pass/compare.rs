//! Some keys, compared and brought into the tables: what is desired under them beside what is there.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::super::ahead::Rows;
use super::super::brake::Doomed;
use super::super::chunk::chunks;
use super::{PassError, Passes};
use crate::api::DomainName;
use crate::desired::{Desired, PasswordWant, Verdict, Want, desired, unserved};
use crate::index::{Key, Work};
use crate::password::{self, Request};
use crate::plan::{self, Current, Plan, ResolvedPassword, RowId, Terms, Unobtained};
use crate::store::Error;
use crate::tables::{Row, Table};

/// Keys that are inserted together without a look: where one is there after all, all of them are looked at.
const UNSEEN: usize = 100;

/// So often keys are compared whose rows somebody else changes between the look and the write.
const ATTEMPTS: usize = 5;

/// What the plan for some keys rests on.
struct Gathered {
    wanted: Vec<(Key, Desired)>,
    /// Keys that this pass takes nothing from.
    held: BTreeSet<Key>,
    current: Current,
    passwords: BTreeMap<RowId, ResolvedPassword>,
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
        let mut later = self.losing(&work.keys).await;
        if !self.has_compared {
            // Which domains an admin may have is known only when all have been compared.
            later.extend(work.keys.iter().filter(|key| matches!(key, Key::Admin(_))).cloned());
        }
        let keys = std::mem::replace(&mut work.keys, later);
        let keys = self.with_uncompared_domains(keys.difference(&work.keys).cloned().collect());
        self.context.index.quietly(|index| index.give_back(self.server, work));
        let keys = self.insert_unseen(keys).await?;
        self.compare_chunks(keys).await
    }

    /// What is written in a domain depends on whether it can be had, which the first full comparison has yet to find out.
    fn with_uncompared_domains(&self, mut keys: BTreeSet<Key>) -> BTreeSet<Key> {
        if !self.has_compared {
            let addresses = keys.iter().filter(|key| matches!(key, Key::Address(_)));
            let domains = addresses.filter_map(|key| DomainName::parse(key.domain()).ok());
            let domains = domains.map(Key::Domain).collect();
            keys.extend(self.with_told_beside(domains));
        }
        keys
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
            let mut gathered = self.gather(chunk, Some(Current::default())).await?;
            let plan = self.plan(&mut gathered);
            if self.store.insert_unseen(&plan).await? {
                self.account_for(&plan, &gathered.current);
                self.tell(&plan, gathered.wanted);
            } else {
                seen.extend(chunk.iter().cloned());
            }
        }
        Ok(seen)
    }

    /// Parts the keys under which all that is wanted is of objects that were told nothing yet from the others, and from those
    /// whose domain may not be had.
    fn new_and_seen(&self, mut keys: BTreeSet<Key>) -> (Vec<Key>, BTreeSet<Key>) {
        let index = self.context.index.read();
        let is_untold = |want: &Want| index.meta(&want.object).is_some_and(|meta| meta.status.is_none());
        let compared: BTreeSet<&str> =
            keys.iter().filter(|key| matches!(key, Key::Domain(_))).map(Key::domain).collect();
        let is_had = |domain: &str| !compared.contains(domain) && self.unobtained.obstacle(domain).is_none();
        let is_new = |key: &Key| {
            let wants = match key {
                // A catch-all is compared together with its domain.
                Key::Address(_) if !key.is_catch_all() => desired(&index, self.server, key).wants,
                _ => Vec::new(),
            };
            let tables: Vec<Table> = wants.iter().map(|want| want.row.table()).collect();
            is_had(key.domain()) && wants.iter().all(is_untold) && self.store.tells_by_inserting(key, &tables)
        };
        let new: Vec<Key> = keys.iter().filter(|key| is_new(key)).cloned().collect();
        for key in &new {
            keys.remove(key);
        }
        (new, keys)
    }

    /// Gives what was done, and what was there before.
    async fn bring_about(
        &mut self,
        keys: &[Key],
        ahead: Option<Current>,
    ) -> Result<(Plan, Current), PassError> {
        self.refused.forget(keys);
        let is_ahead = ahead.is_some();
        let mut gathered = self.gather(keys, ahead).await?;
        let mut plan = self.plan(&mut gathered);
        // What is written rests on what is there now.
        if is_ahead && !plan.is_empty() {
            gathered = self.gather(keys, None).await?;
            plan = self.plan(&mut gathered);
        }
        let mut attempts = 1;
        let applied = loop {
            match self.store.apply(&plan).await {
                Err(Error::Changed) if attempts < ATTEMPTS => {
                    gathered = self.gather(keys, None).await?;
                    plan = self.plan(&mut gathered);
                    attempts += 1;
                }
                applied => break applied,
            }
        };
        match applied {
            Ok(()) => {}
            // One row that the database refuses must not keep the others out. It may be one that somebody has just made.
            Err(error) if error.is_about_a_row() => {
                gathered = self.gather(keys, None).await?;
                plan = self.apply_one_by_one(&mut gathered).await?;
            }
            Err(Error::Changed) => {
                plan = Plan::default();
                self.put_off(keys);
                gathered.wanted.clear();
            }
            Err(error) => return Err(error.into()),
        }
        self.tell(&plan, gathered.wanted);
        Ok((plan, gathered.current))
    }

    /// Leaves keys to the next pass: somebody else is changing their rows.
    fn put_off(&self, keys: &[Key]) {
        let work = Work { keys: keys.iter().cloned().collect(), ..Work::default() };
        self.context.index.quietly(|index| index.give_back(self.server, work));
    }

    /// Which of some keys lose rows by the plan for them, and whose.
    pub(super) async fn would_lose(&mut self, keys: &[Key]) -> Result<Doomed, PassError> {
        let mut gathered = self.gather(keys, None).await?;
        let plan = self.plan(&mut gathered);
        let owners = |key: &Key| {
            let ids = key.tables().iter().map(|table| (*table, key.as_str().to_owned()));
            ids.filter_map(|id| Some(gathered.current.owners.get(&id)?.object_uid.clone())).collect()
        };
        Ok(plan.lost.iter().map(|key| (key.clone(), owners(key))).collect())
    }

    /// Tells the objects what they are told, and the metrics what was done.
    fn tell(&mut self, plan: &Plan, wanted: Vec<(Key, Desired)>) {
        self.context.metrics.applied(plan);
        self.note_troubled(&wanted);
        self.reconsider_turned();
        self.context.statuses.offer(wanted.into_iter().flat_map(|(_, desired)| desired.verdicts));
    }

    /// What is desired under some keys beside what is there, `read` or to be read now.
    async fn gather(&mut self, keys: &[Key], read: Option<Current>) -> Result<Gathered, PassError> {
        let mut wanted = self.desired(keys);
        for (_, desired) in &mut wanted {
            self.unobtained.take_from_admin(desired);
        }
        let mut held = self.losses.unforeseen(&wanted);
        let is_held = |key: &&Key| self.held.as_ref().is_some_and(|held| held.keys.contains(key));
        held.extend(keys.iter().filter(is_held).cloned());
        let (current, passwords) = match read {
            Some(current) => {
                let passwords = self.passwords(&wanted, &current, &BTreeMap::new()).await?;
                (current, passwords)
            }
            None => self.current_with_passwords(&wanted, keys).await?,
        };
        Ok(Gathered { wanted, held, current, passwords })
    }

    /// Hashing the passwords of a chunk can take half a minute, in which others write: what is there is read after it.
    async fn current_with_passwords(
        &mut self,
        wanted: &[(Key, Desired)],
        keys: &[Key],
    ) -> Result<(Current, BTreeMap<RowId, ResolvedPassword>), PassError> {
        let mut passwords = BTreeMap::new();
        loop {
            let current = self.current(keys).await?;
            let more = self.passwords(wanted, &current, &passwords).await?;
            if more.is_empty() {
                return Ok((current, passwords));
            }
            passwords.extend(more);
        }
    }

    /// The plan for what was gathered, whose verdicts it corrects.
    fn plan(&mut self, Gathered { wanted, held, current, passwords }: &mut Gathered) -> Plan {
        self.plan_with(held, passwords, |terms, unobtained| plan::plan(wanted, current, terms, unobtained))
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

    /// What is declared in a domain that can be had now, or can't any more, is looked at in the next pass.
    fn reconsider_turned(&mut self) {
        let turned = self.unobtained.take_turned();
        // The first comparison comes to the addresses of a domain after the domain, and to admins last.
        if self.has_compared && !turned.is_empty() {
            self.context.index.update(|index| index.reconsider(&turned));
        }
    }

    /// Plans and applies what was gathered key by key; gives what was done.
    async fn apply_one_by_one(&mut self, gathered: &mut Gathered) -> Result<Plan, PassError> {
        let Gathered { wanted, held, current, passwords } = gathered;
        let mut done = Plan::default();
        for at in 0..wanted.len() {
            let plan = self.plan_with(held, passwords, |terms, unobtained| {
                let mut plan = Plan::default();
                plan::plan_one(wanted, at, current, terms, unobtained, &mut plan);
                plan
            });
            match self.store.apply(&plan).await {
                Ok(()) => done.merge(plan),
                Err(error) if error.is_about_a_row() => {
                    self.refuse(wanted, at, &error);
                }
                Err(Error::Changed) => {
                    self.put_off(std::slice::from_ref(&wanted[at].0));
                    wanted[at].1.verdicts.clear();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
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

    /// The passwords that are to be written and not among the `known` ones.
    async fn passwords(
        &mut self,
        wanted: &[(Key, Desired)],
        current: &Current,
        known: &BTreeMap<RowId, ResolvedPassword>,
    ) -> Result<BTreeMap<RowId, ResolvedPassword>, PassError> {
        let wants = wanted.iter().flat_map(|(_, desired)| &desired.wants);
        let request = |want: &Want| {
            let row = (want.row.table(), want.row.key().to_owned());
            let stored = current.rows.get(&row).and_then(Row::password).map(str::to_owned);
            let PasswordWant { namespace, source, .. } = want.password.clone()?;
            Some(Request { row, namespace, source, stored })
        };
        let requests = wants.filter(|want| plan::needs_password(want, current)).filter_map(request);
        let requests: Vec<_> = requests.filter(|request| !known.contains_key(&request.row)).collect();
        if requests.is_empty() {
            return Ok(BTreeMap::new());
        }
        let scheme = self.context.index.read().server(self.server).map(|row| row.password_scheme);
        let scheme = scheme.unwrap_or_default();
        let client = &self.context.client;
        Ok(self.store.kept_during(password::resolve(client, scheme, requests)).await??)
    }

    /// Plans under the terms of now.
    fn plan_with(
        &mut self,
        held: &BTreeSet<Key>,
        passwords: &BTreeMap<RowId, ResolvedPassword>,
        plan: impl FnOnce(&Terms<'_>, &mut Unobtained) -> Plan,
    ) -> Plan {
        let unobtained = &mut self.unobtained;
        let index = self.context.index.read();
        let terms = Terms {
            ours: &self.context.ours(),
            server: &self.server_id,
            existing_rows: index.server(self.server).map(|row| row.existing_rows).unwrap_or_default(),
            drift: index.server(self.server).map(|row| row.drift).unwrap_or_default(),
            absent: &self.absent,
            lacking: &self.lacking,
            is_served: &|id| index.existing_servers().iter().any(|name| self.context.server_id(name) == id),
            is_taken_over: &|key| index.is_taken_over(key, self.server),
            declared: &|owner| index.policy_of(&owner.object, &owner.object_uid),
            is_unreadable: &|uid| index.is_unreadable(uid),
            held,
            passwords,
        };
        plan(&terms, unobtained)
    }

    fn account_for(&mut self, plan: &Plan, before: &Current) {
        self.tally.account_for(plan, before);
        self.losses.account_for(plan);
        self.recent.add(Instant::now(), plan.lost.len());
    }
}
