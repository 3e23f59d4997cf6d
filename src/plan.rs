//! The difference between what should be in the tables and what is there.
//!
//! Pure: desired rows, current rows and owners in; rows to write and delete, and corrected verdicts, out. Nothing here
//! reads or writes; [`crate::store`] applies a plan as it is. Only rows in `vmail_owner` are ever changed or deleted.

pub(crate) mod fingerprint;
mod log;
mod obstacle;

use std::collections::{BTreeMap, BTreeSet};

pub use fingerprint::{fingerprint, password_fingerprint};
use log::Change;
pub use log::LogRow;

use crate::api::mail_server::{Drift, ExistingRows};
use crate::api::{DeletionPolicy, Reason};
use crate::desired::{Desired, PasswordWant, Verdict, Want, Warning};
use crate::index::Key;
use crate::index::rows::{ObjectId, PasswordSource};
use crate::scheme::weakness;
use crate::tables::{AliasRow, MailboxRow, OwnerRow, Row, SharedColumn, Table};

/// A password that nobody can log in with: no hash of any scheme equals it.
pub const LOCKED_PASSWORD: &str = "!";

/// In `vmail_owner.named`: the maildir is the one that we computed.
const MAILDIR: &str = "maildir";

/// What an object is told whose row somebody else changed, with [`Drift::Report`].
const DRIFT_LEFT: &str = "somebody else changed or removed the row: change this object to write it again, or set drift: Correct on the MailServer";

/// Table and primary key of a row.
pub type RowId = (Table, String);

/// What is in the database under some keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Current {
    /// The tables' rows.
    pub rows: BTreeMap<RowId, Row>,
    /// Who owns them.
    pub owners: BTreeMap<RowId, OwnerRow>,
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
    /// Id of this operator's installation; rows of another one are left alone.
    pub installation: &'a str,
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
    /// Whether the object with this uid exists and can't be parsed: its rows are left alone.
    pub is_unreadable: &'a dyn Fn(&str) -> bool,
    /// Keys whose deletion is held back.
    pub held: &'a BTreeSet<Key>,
    /// Passwords for those wants that [`needs_password`].
    pub passwords: &'a BTreeMap<RowId, ResolvedPassword>,
}

/// What is to be done, in one transaction.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// Rows that are not there: if somebody has made one in the meantime, the database refuses it.
    pub inserts: Vec<Row>,
    /// Rows that are there, to be brought to this content.
    pub updates: Vec<Row>,
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

    /// Adds another plan to this one.
    pub fn merge(&mut self, other: Self) {
        let Self { inserts, updates, deletes, owned, disowned, log, drifted } = other;
        self.inserts.extend(inserts);
        self.updates.extend(updates);
        self.deletes.extend(deletes);
        self.owned.extend(owned);
        self.disowned.extend(disowned);
        self.log.extend(log);
        self.drifted.extend(drifted);
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

/// Plans some keys. `desired` gives what should be under each; its verdicts are corrected where a row can't be written.
pub fn plan(keys: &mut [(Key, Desired)], current: &Current, terms: &Terms<'_>) -> Plan {
    let mut plan = Plan::default();
    for (key, desired) in keys {
        KeyPlanner { key, current, terms, plan: &mut plan }.run(desired);
    }
    plan
}

struct KeyPlanner<'a> {
    key: &'a Key,
    current: &'a Current,
    terms: &'a Terms<'a>,
    plan: &'a mut Plan,
}

impl KeyPlanner<'_> {
    fn run(&mut self, desired: &mut Desired) {
        if desired.unknown || self.belongs_to_unreadable() {
            return;
        }
        if desired.kept.as_deref().is_some_and(|uid| self.is_all_of(uid)) {
            self.forget_lost();
            return;
        }
        if let Some(obstacle) = self.blocked(&desired.wants) {
            Self::tell_blocked(desired, obstacle);
            self.remove_losers(&desired.wants);
            return;
        }
        for want in &desired.wants {
            if let Some(verdict) = self.write(want) {
                correct(&mut desired.verdicts, verdict);
            }
            if let Some(warning) = self.weak_password(want) {
                warn(&mut desired.verdicts, &want.object, warning);
            }
            if let Some(maildir) = self.kept_maildir(want) {
                for verdict in desired.verdicts.iter_mut().filter(|verdict| verdict.object == want.object) {
                    verdict.maildir = Some(maildir.into());
                }
            }
        }
        for &table in self.key.tables() {
            if !desired.wants.iter().any(|want| want.row.table() == table) {
                self.remove(table, desired.withdrawn.as_deref());
            }
        }
    }

    fn id(&self, table: Table) -> RowId {
        (table, self.key.as_str().to_owned())
    }

    fn belongs_to_unreadable(&self) -> bool {
        let mut owners = self.owners();
        owners.any(|owner| (self.terms.is_unreadable)(&owner.object_uid))
    }

    /// Whether the object with this uid owns every row under the key that anybody owns.
    fn is_all_of(&self, uid: &str) -> bool {
        self.owners().all(|owner| owner.object_uid == uid)
    }

    fn owners(&self) -> impl Iterator<Item = &OwnerRow> {
        self.key.tables().iter().filter_map(|table| self.current.owners.get(&self.id(*table)))
    }

    /// What can't be written is nobody else's either: rows that an object had which lost the key go.
    fn remove_losers(&mut self, wants: &[Want]) {
        let Some(winner) = wants.first().map(|want| want.uid.clone()) else { return };
        for &table in self.key.tables() {
            let owner = self.current.owners.get(&self.id(table));
            if owner.is_some_and(|owner| *owner.object_uid != *winner) {
                self.remove(table, None);
            }
        }
    }

    /// What is kept and gone all the same (somebody removed it) is not made anew.
    fn forget_lost(&mut self) {
        let ids: Vec<RowId> = self.key.tables().iter().map(|table| self.id(*table)).collect();
        let owned = ids.into_iter().filter(|id| self.current.owners.contains_key(id));
        self.plan.disowned.extend(owned.filter(|id| !self.current.rows.contains_key(id)));
    }

    fn write(&mut self, want: &Want) -> Option<Verdict> {
        let id = self.id(want.row.table());
        let (current, owner) = (self.current.rows.get(&id), self.current.owners.get(&id));
        let kept_maildir = self.kept_maildir(want);
        let maildir_is_ours = want.row.table() == Table::Mailbox && kept_maildir.is_none();
        let named = want.named.iter().map(|column| column.as_str());
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
            named: named.chain(maildir_is_ours.then_some(MAILDIR)).collect::<Vec<_>>().join(","),
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
                if let Some(current) = current.and_then(as_alias).filter(|_| want.keep_foreign_targets) {
                    *row = merge(row, current, owner);
                }
            }
            _ => {}
        }
        if let Some(current) = current {
            self.keep_shared_columns(want, &mut row, current, owner);
        }
        if current != Some(&row) {
            if owner.is_some_and(|owner| owner.desired == ownership.desired) {
                self.plan.drifted.push(id);
                if self.terms.drift == Drift::Report {
                    return Some(Verdict::new(&want.object, Reason::DriftDetected, DRIFT_LEFT));
                }
            }
            self.put(current, row);
        }
        if owner != Some(&ownership) {
            self.plan.owned.push(ownership);
        }
        verdict
    }

    /// What the object doesn't name stays as somebody else wrote it, unless it was named before: then it goes back to its
    /// default.
    fn keep_shared_columns(&self, want: &Want, row: &mut Row, current: &Row, owner: Option<&OwnerRow>) {
        let table = row.table();
        for column in SharedColumn::ALL {
            let was_named =
                owner.is_some_and(|owner| split(&owner.named).any(|name| name == column.as_str()));
            let is_named = want.named.contains(&column) || was_named;
            if !is_named || self.terms.absent.contains(&(table, column)) {
                row.take(column, current);
            }
        }
    }

    /// Where the mail of a mailbox is whose row was there before its object, if that is elsewhere than where we would have
    /// put it: mail doesn't move, so the row keeps its maildir for as long as it is there.
    fn kept_maildir(&self, want: &Want) -> Option<&str> {
        let Row::Mailbox(wanted) = &want.row else { return None };
        let id = self.id(Table::Mailbox);
        let current = self.current.rows.get(&id).and_then(as_mailbox)?;
        let is_ours = match self.current.owners.get(&id) {
            Some(owner) => split(&owner.named).any(|name| name == MAILDIR),
            None => current.maildir == wanted.maildir,
        };
        (!is_ours).then_some(&*current.maildir)
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
            let kept = current.filter(|hash| !was_ours(hash));
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
        let id = self.id(want.row.table());
        let current = self.current.rows.get(&id).and_then(Row::password);
        let (hash, from_secret, _) = self.password(want, current, self.current.owners.get(&id));
        let scheme = from_secret.then(|| weakness(&hash)).flatten()?;
        let message = format!(
            "the given password hash is of {scheme}, which is weak, and an IMAP server may refuse it: give one of SHA512-CRYPT, BLF-CRYPT or ARGON2ID"
        );
        Some((Reason::WeakPassword, message.into()))
    }

    fn remove(&mut self, table: Table, withdrawn: Option<&str>) {
        let id = self.id(table);
        let Some(owner) = self.current.owners.get(&id).filter(|owner| owner.server == self.terms.server)
        else {
            return;
        };
        let Some(row) = self.current.rows.get(&id) else {
            self.plan.disowned.push(id);
            return;
        };
        match owner.policy {
            _ if self.terms.held.contains(self.key) => return,
            // The object is there, so its deletion policy has no say.
            _ if withdrawn == Some(&owner.object_uid) => self.delete(&id),
            DeletionPolicy::Retain => {}
            DeletionPolicy::Delete => self.delete(&id),
            DeletionPolicy::Disable => {
                if let Some(disabled) = disabled(row) {
                    self.put(Some(row), disabled);
                }
            }
        }
        self.plan.disowned.push(id);
    }

    /// Has a row that differs from the current one written, and logged.
    fn put(&mut self, current: Option<&Row>, row: Row) {
        let change = current.map_or(Change::Create, |current| Change::between(current, &row));
        self.plan.log.extend(LogRow::of(change, row.table(), self.key));
        match current {
            Some(_) => self.plan.updates.push(row),
            None => self.plan.inserts.push(row),
        }
    }

    fn delete(&mut self, id: &RowId) {
        self.plan.log.extend(LogRow::of(Change::Delete, id.0, self.key));
        self.plan.deletes.push(id.clone());
    }
}

fn correct(verdicts: &mut [Verdict], verdict: Verdict) {
    if let Some(old) = verdicts.iter_mut().find(|old| old.object == verdict.object) {
        let warning = verdict.warning.clone().or_else(|| old.warning.take());
        let maildir = old.maildir.take();
        *old = Verdict { maildir, ..verdict.with_warning(warning) };
    }
}

/// Adds a warning to what an object is told. It has one reason: that of the first.
fn warn(verdicts: &mut [Verdict], object: &ObjectId, (reason, message): Warning) {
    if let Some(verdict) = verdicts.iter_mut().find(|verdict| verdict.object == *object) {
        verdict.warning = Some(match verdict.warning.take() {
            Some((first, before)) => (first, format!("{before}; {message}").into()),
            None => (reason, message),
        });
    }
}

fn as_mailbox(row: &Row) -> Option<&MailboxRow> {
    match row {
        Row::Mailbox(row) => Some(row),
        _ => None,
    }
}

fn as_alias(row: &Row) -> Option<&AliasRow> {
    match row {
        Row::Alias(row) => Some(row),
        _ => None,
    }
}

/// Our targets, then those that others put there (a vacation address, say). The mailbox itself is always ours to decide.
fn merge(ours: &AliasRow, current: &AliasRow, owner: Option<&OwnerRow>) -> AliasRow {
    let written: BTreeSet<&str> = owner.map(|owner| split(&owner.goto).collect()).unwrap_or_default();
    let wanted: BTreeSet<&str> = split(&ours.goto).collect();
    let foreign = split(&current.goto)
        .filter(|target| !written.contains(target) && !wanted.contains(target) && *target != ours.address);
    let goto = split(&ours.goto).chain(foreign).collect::<Vec<_>>().join(",");
    AliasRow { goto, ..ours.clone() }
}

fn split(goto: &str) -> impl Iterator<Item = &str> {
    goto.split(',').map(str::trim).filter(|target| !target.is_empty())
}

/// The row switched off; `None` where it is, or can't be.
fn disabled(row: &Row) -> Option<Row> {
    let mut row = row.clone();
    std::mem::replace(row.active_mut()?, false).then_some(row)
}

#[cfg(test)]
mod tests;
