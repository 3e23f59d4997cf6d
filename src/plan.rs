//! The difference between what should be in the tables and what is there.
//!
//! Pure: desired rows, current rows and owners in; rows to write and delete, and corrected verdicts, out. Nothing here
//! reads or writes; [`crate::store`] applies a plan as it is. Only rows in `vmail_owner` are ever changed or deleted.

pub(crate) mod fingerprint;
mod log;
mod obstacle;
mod removal;
mod shared;
mod unobtained;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap};

pub use fingerprint::{fingerprint, password_fingerprint};
use log::Change;
pub use log::LogRow;

use crate::api::mail_server::{Drift, ExistingRows};
use crate::api::{DeletionPolicy, Reason};
use crate::desired::{Desired, PasswordWant, Serving, Verdict, Want, Warning};
use crate::index::Key;
use crate::index::rows::PasswordSource;
use crate::scheme::weakness;
use crate::tables::{OwnerRow, Row, SharedColumn, Table};
use shared::{as_alias, keep_rounded_quota, merge};
pub use unobtained::Unobtained;
pub use verdict::tell_refused;
use verdict::{correct, warn};

/// A password that nobody can log in with: no hash of any scheme equals it.
pub const LOCKED_PASSWORD: &str = "!";

/// What an object is told whose row somebody else changed, with [`Drift::Report`].
const DRIFT_LEFT: &str = "somebody else changed or removed the row: change this object to write it again, or set drift: Correct on the MailServer";

/// Why something can't be written, and a sentence for people.
pub type Obstacle = (Reason, String);

/// Table and primary key of a row.
pub type RowId = (Table, String);

/// What is in the database under some keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Current {
    /// The tables' rows.
    pub rows: HashMap<RowId, Row>,
    /// Who owns them.
    pub owners: HashMap<RowId, OwnerRow>,
}

/// A password as a Secret gave it.
#[derive(Clone)]
pub enum ResolvedPassword {
    /// The hash to store.
    Hash(String),
    /// There is none to be had: why.
    Missing(Reason, String),
}

impl ResolvedPassword {
    /// There is none, because the Secret with this name is not there.
    #[must_use]
    pub fn secret_not_found(name: &str) -> Self {
        let message =
            format!("there is no Secret {name} in this namespace: nobody can log in until it is there");
        Self::Missing(Reason::SecretNotFound, message)
    }
}

/// What a plan depends on besides rows.
pub struct Terms<'a> {
    /// How the ids of this operator's set loops begin: `installation/`, or `installation/namespace/` where it sees one namespace
    /// only. Rows of others are left alone.
    pub ours: &'a str,
    /// The server whose set loop plans, as installation/namespace/name.
    pub server: &'a str,
    /// What to do with a row that was there before its object.
    pub existing_rows: ExistingRows,
    /// What to do with a managed row that somebody else changed.
    pub drift: Drift,
    /// Columns that the database's tables don't have.
    pub absent: &'a [(Table, SharedColumn)],
    /// What the database lacks to hold admins, as in `table admin`: an old `PostfixAdmin`'s.
    pub lacking: &'a [String],
    /// Whether the set loop with this id still has its `MailServer`.
    pub is_served: &'a dyn Fn(&str) -> bool,
    /// Whether another server with the same tables serves a key now, and takes over what is under it.
    pub is_taken_over: &'a dyn Fn(&Key) -> bool,
    /// The deletion policy that the object which owns a row has now; `None` where it is gone.
    pub declared: &'a dyn Fn(&OwnerRow) -> Option<DeletionPolicy>,
    /// Whether the object with this uid exists and can't be parsed: its rows are left alone.
    pub is_unreadable: &'a dyn Fn(&str) -> bool,
    /// Keys whose deletion is held back.
    pub held: &'a BTreeSet<Key>,
    /// Passwords for those wants that [`needs_password`].
    pub passwords: &'a BTreeMap<RowId, ResolvedPassword>,
}

/// A row that is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Update {
    /// As it was found.
    pub before: Row,
    /// What it is to become.
    pub row: Row,
}

/// What is to be done, in one transaction.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// Rows that are not there: if somebody has made one in the meantime, the database refuses it.
    pub inserts: Vec<Row>,
    /// Rows that are there, to be brought to another content: if somebody has changed one in the meantime, nothing is written.
    pub updates: Vec<Update>,
    /// Rows to delete.
    pub deletes: Vec<RowId>,
    /// Ownership to record.
    pub owned: Vec<OwnerRow>,
    /// Ownership to forget.
    pub disowned: Vec<RowId>,
    /// One row of `PostfixAdmin`'s log for each change.
    pub log: Vec<LogRow>,
    /// Rows that somebody else changed or removed since we wrote them: among the inserts and updates with [`Drift::Correct`].
    pub drifted: Vec<RowId>,
    /// Keys that lose a row by this plan, or have one switched off because nothing declares it any more.
    pub lost: BTreeSet<Key>,
}

impl Plan {
    /// Whether the database is as it should be.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inserts.is_empty()
            && self.updates.is_empty()
            && self.deletes.is_empty()
            && self.owned.is_empty()
            && self.disowned.is_empty()
    }

    /// The rows that are written, new ones and others.
    pub fn written(&self) -> impl Iterator<Item = &Row> {
        self.inserts.iter().chain(self.updates.iter().map(|update| &update.row))
    }

    /// Adds another plan to this one.
    pub fn merge(&mut self, other: Self) {
        let Self { inserts, updates, deletes, owned, disowned, log, drifted, lost } = other;
        self.inserts.extend(inserts);
        self.updates.extend(updates);
        self.deletes.extend(deletes);
        self.owned.extend(owned);
        self.disowned.extend(disowned);
        self.log.extend(log);
        self.drifted.extend(drifted);
        self.lost.extend(lost);
    }
}

/// Whether the password of a want has to be fetched: it was never written, its Secret changed, or somebody else changed it.
#[must_use]
pub fn needs_password(want: &Want, current: &Current) -> bool {
    let Some(PasswordWant { version: Some(_), .. }) = &want.password else { return false };
    let id = (want.row.table(), want.row.key().to_owned());
    match (current.rows.get(&id).and_then(Row::password), current.owners.get(&id)) {
        (Some(password), Some(owner)) => {
            owner.desired != fingerprint(want) || owner.password != password_fingerprint(password)
        }
        _ => true,
    }
}

/// Plans some keys, in order. `desired` gives what should be under each; its verdicts are corrected where a row can't be
/// written. A domain comes with its catch-all, whose fate its verdict tells. `unobtained`: what is known of domains that were
/// planned before.
pub fn plan(
    keys: &mut [(Key, Desired)],
    current: &Current,
    terms: &Terms<'_>,
    unobtained: &mut Unobtained,
) -> Plan {
    let mut plan = Plan::default();
    for at in 0..keys.len() {
        plan_one(keys, at, current, terms, unobtained, &mut plan);
    }
    plan
}

/// Plans the key at a place among `keys`, and corrects verdicts of any of them.
pub fn plan_one(
    keys: &mut [(Key, Desired)],
    at: usize,
    current: &Current,
    terms: &Terms<'_>,
    unobtained: &mut Unobtained,
    plan: &mut Plan,
) {
    let (before, rest) = keys.split_at_mut(at);
    let Some((key, desired)) = rest.first_mut() else { return };
    if matches!(key, Key::Admin(_)) {
        unobtained.take_from_admin(desired);
    }
    let foreign = Some(&*key)
        .filter(|key| matches!(key, Key::Address(_)))
        .and_then(|key| unobtained.obstacle(key.domain()));
    let mut planner = KeyPlanner {
        key,
        places: places(key, current),
        foreign,
        terms,
        plan,
        elsewhere: Vec::new(),
        unobtained: None,
    };
    planner.run(desired);
    let KeyPlanner { elsewhere, unobtained: obstacle, .. } = planner;
    for told in elsewhere {
        verdict::tell_domain(before, key, told);
    }
    if let Key::Domain(domain) = key {
        unobtained.set(domain, obstacle.as_ref());
    }
}

/// What is in one table under a key.
#[derive(Clone, Copy)]
struct Place<'a> {
    table: Table,
    row: Option<&'a Row>,
    owner: Option<&'a OwnerRow>,
}

fn places<'a>(key: &Key, current: &'a Current) -> Vec<Place<'a>> {
    let mut id = (Table::Domain, key.as_str().to_owned());
    let place = |&table| {
        id.0 = table;
        Place { table, row: current.rows.get(&id), owner: current.owners.get(&id) }
    };
    key.tables().iter().map(place).collect()
}

struct KeyPlanner<'a> {
    key: &'a Key,
    places: Vec<Place<'a>>,
    /// Why the domain of an address can't be had.
    foreign: Option<&'a Obstacle>,
    terms: &'a Terms<'a>,
    plan: &'a mut Plan,
    /// What an object is told that is judged under another key.
    elsewhere: Vec<Verdict>,
    /// Why the domain that is planned can't be had.
    unobtained: Option<Obstacle>,
}

impl<'a> KeyPlanner<'a> {
    fn run(&mut self, desired: &mut Desired) {
        let obstacle = self.blocked(&desired.wants);
        self.unobtained = obstacle.clone().filter(|_| !self.has_domain(&desired.wants));
        if let Some(owner) = self.unreadable_owner() {
            self.tell_unreadable(desired, owner);
            return;
        }
        if desired.unknown || (desired.serving == Serving::Waiting && (self.terms.is_taken_over)(self.key)) {
            return;
        }
        if !desired.kept.is_empty() {
            self.keep_or_remove(desired);
            return;
        }
        if let Some(obstacle) = obstacle {
            self.tell_blocked(desired, obstacle);
            self.remove_losers(desired);
            return;
        }
        for want in &desired.wants {
            if let Some(verdict) = self.write(want, desired.has_catch_all) {
                self.elsewhere.extend(correct(&mut desired.verdicts, verdict));
            }
            let warnings = [self.weak_password(want), self.switched_off(want)];
            for warning in warnings.into_iter().flatten() {
                warn(&mut desired.verdicts, &want.object, warning);
            }
            if let Some(maildir) = self.kept_maildir(want) {
                for verdict in desired.verdicts.iter_mut().filter(|verdict| verdict.object == want.object) {
                    verdict.maildir = Some(maildir.into());
                }
            }
        }
        for &table in self.key.tables() {
            if desired.wants.is_empty() {
                self.remove(table, desired);
            } else if !desired.wants.iter().any(|want| want.row.table() == table) {
                self.remove_from_successor(table, desired);
            }
        }
    }

    fn id(&self, table: Table) -> RowId {
        (table, self.key.as_str().to_owned())
    }

    fn unreadable_owner(&self) -> Option<&'a OwnerRow> {
        self.owners().find(|owner| (self.terms.is_unreadable)(&owner.object_uid))
    }

    fn owners(&self) -> impl Iterator<Item = &'a OwnerRow> {
        self.places.iter().filter_map(|place| place.owner)
    }

    fn row(&self, table: Table) -> Option<&'a Row> {
        self.places.iter().find(|place| place.table == table)?.row
    }

    fn owner(&self, table: Table) -> Option<&'a OwnerRow> {
        self.places.iter().find(|place| place.table == table)?.owner
    }

    fn write(&mut self, want: &Want, has_catch_all: bool) -> Option<Verdict> {
        let id = self.id(want.row.table());
        let (current, owner) = (self.row(id.0), self.owner(id.0));
        let kept_maildir = self.kept_maildir(want);
        let mut ownership = OwnerRow {
            table: id.0,
            key: id.1.clone(),
            server: self.terms.server.to_string(),
            object_uid: want.uid.to_string(),
            object: want.object.to_string(),
            policy: want.policy,
            desired: fingerprint(want),
            password: String::new(),
            goto: String::new(),
            named: self.marks(want),
        };
        let mut verdict = None;
        let mut row = want.row.clone();
        if let Some(stored) = row.password_mut() {
            let (password, written, missing) = self.password(want, current.and_then(Row::password), owner);
            if written {
                ownership.password = password_fingerprint(&password);
            }
            verdict = missing;
            *stored = password;
        }
        match (&mut row, current) {
            (Row::Mailbox(row), _) => {
                if let Some(maildir) = kept_maildir {
                    maildir.clone_into(&mut row.maildir);
                }
            }
            (Row::Alias(row), current) => {
                ownership.goto.clone_from(&row.goto);
                let keeps = (want.keep_foreign_targets && !self.is_inherited(want)) || self.is_adopted(want);
                if let Some(current) = current.and_then(as_alias).filter(|_| keeps) {
                    *row = merge(row, current, owner);
                }
            }
            _ => {}
        }
        let is_wish_old =
            owner.is_some_and(|owner| owner.desired == ownership.desired) && !self.is_inherited(want);
        if let Some(current) = current {
            self.keep_shared_columns(want, &mut row, current, has_catch_all);
            if is_wish_old {
                keep_rounded_quota(&mut row, current);
            }
        }
        if current != Some(&row) {
            if is_wish_old {
                self.plan.drifted.push(id);
                if self.terms.drift == Drift::Report {
                    return Some(Verdict::new(&want.object, Reason::DriftDetected, DRIFT_LEFT));
                }
            }
            self.put(current, row);
        } else if owner.is_some_and(|owner| owner.server != ownership.server) {
            // The server that had it may be deleting it at this moment.
            self.plan.updates.push(Update { before: row.clone(), row });
        }
        if owner != Some(&ownership) {
            self.plan.owned.push(ownership);
        }
        verdict
    }

    /// The password to store, whether it is ours, and a verdict where a Secret doesn't give one.
    fn password(
        &self,
        want: &Want,
        current: Option<&str>,
        owner: Option<&OwnerRow>,
    ) -> (String, bool, Option<Verdict>) {
        let locked = || LOCKED_PASSWORD.to_owned();
        let Some(source) = &want.password else {
            // Without a reference the password is the database's own; one that came from a Secret goes with its reference.
            let was_ours =
                |hash: &str| owner.is_some_and(|owner| owner.password == password_fingerprint(hash));
            let kept = current.filter(|hash| !was_ours(hash) && !self.is_inherited(want));
            return (kept.map_or_else(locked, str::to_owned), false, None);
        };
        let resolved = self.terms.passwords.get(&self.id(want.row.table())).cloned();
        match (resolved, &source.version, current) {
            (None, Some(_), Some(current)) => (current.to_owned(), true, None),
            (resolved, _, _) => {
                let absent = || ResolvedPassword::secret_not_found(&source.source.reference().name);
                match resolved.unwrap_or_else(absent) {
                    ResolvedPassword::Hash(hash) => (hash, true, None),
                    ResolvedPassword::Missing(reason, message) => {
                        (locked(), false, Some(Verdict::new(&want.object, reason, message)))
                    }
                }
            }
        }
    }

    /// What is said of a given hash that is easy to guess, at every pass: the hash itself tells.
    fn weak_password(&self, want: &Want) -> Option<Warning> {
        let Some(PasswordWant { source: PasswordSource::Hash(_), .. }) = want.password else { return None };
        let table = want.row.table();
        let current = self.row(table).and_then(Row::password);
        let (hash, from_secret, _) = self.password(want, current, self.owner(table));
        let scheme = from_secret.then(|| weakness(&hash)).flatten()?;
        let message = format!(
            "the given password hash is of {scheme}, which is weak, and an IMAP server may refuse it: give one of SHA512-CRYPT, BLF-CRYPT or ARGON2ID"
        );
        Some((Reason::WeakPassword, message.into()))
    }

    /// Has a row that differs from the current one written, and logged.
    fn put(&mut self, current: Option<&Row>, row: Row) {
        let change = current.map_or(Change::Create, |current| Change::between(current, &row));
        self.plan.log.extend(LogRow::of(change, row.table(), self.key));
        match current {
            Some(before) => self.plan.updates.push(Update { before: before.clone(), row }),
            None => self.plan.inserts.push(row),
        }
    }
}

#[cfg(test)]
mod tests;
