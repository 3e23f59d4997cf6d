//! What somebody else wrote into a row of ours and keeps there. Pure.

use std::collections::BTreeSet;

use super::KeyPlanner;
use crate::api::Reason;
use crate::desired::{Want, Warning};
use crate::tables::{AliasRow, MailboxRow, OwnerRow, Row, SharedColumn, Table};

/// In `vmail_owner.named`: the maildir is the one that we computed.
const MAILDIR: &str = "maildir";

/// In `vmail_owner.named`: the row was there before its object, which took it over.
const ADOPTED: &str = "adopted";

/// `PostfixAdmin` shows a quota in its MB of 1 024 000 bytes with two decimals, and writes back what it shows.
const SHOWN_QUOTA: i64 = 10_240;

impl KeyPlanner<'_> {
    /// `vmail_owner.named` of a wanted row.
    pub(super) fn marks(&self, want: &Want) -> String {
        let table = want.row.table();
        let named = want.named.iter().map(|column| column.as_str());
        let maildir_is_ours = table == Table::Mailbox && self.kept_maildir(want).is_none();
        let marks = [maildir_is_ours.then_some(MAILDIR), self.is_adopted(want).then_some(ADOPTED)];
        named.chain(marks.into_iter().flatten()).collect::<Vec<_>>().join(",")
    }

    /// Whether the row that is there was there before its object.
    pub(super) fn is_adopted(&self, want: &Want) -> bool {
        let table = want.row.table();
        self.row(table).is_some()
            && !self.is_inherited(want)
            && self.owner(table).is_none_or(|owner| split(&owner.named).any(|name| name == ADOPTED))
    }

    /// Whether the row was an object's of another namespace, which may be another tenant: who comes after it gets nothing of
    /// what others wrote there, a password and forwards least of all. So it would be if the row had gone in between.
    pub(super) fn is_inherited(&self, want: &Want) -> bool {
        let namespace = |object: &str| {
            let (_, name) = object.split_once(' ')?;
            Some(name.split_once('/')?.0 == &*want.object.name.namespace)
        };
        // No object leaves its namespace.
        let another = |owner: &&OwnerRow| *owner.object_uid != *want.uid;
        let owner = self.owner(want.row.table()).filter(another);
        owner.is_some_and(|owner| namespace(&owner.object) == Some(false))
    }

    /// What the object doesn't name stays as somebody else wrote it, unless it was named before: then it goes back to its
    /// default.
    pub(super) fn keep_shared_columns(&self, want: &Want, row: &mut Row, current: &Row, has_catch_all: bool) {
        let table = row.table();
        let owner = self.owner(table);
        for column in SharedColumn::ALL {
            let was_named =
                owner.is_some_and(|owner| split(&owner.named).any(|name| name == column.as_str()));
            let is_named = want.named.contains(&column) || was_named;
            let is_ours = self.is_inherited(want)
                || match column {
                    // The identity row keeps mail from the catch-all, whoever switched the mailbox off.
                    SharedColumn::Active => {
                        let is_asleep = owner.is_some_and(is_asleep);
                        let guards = want.keep_foreign_targets && has_catch_all;
                        let forwards = self.forwards(want);
                        is_named || is_asleep || guards || forwards || !self.is_adopted(want)
                    }
                    _ => is_named,
                };
            if !is_ours || self.terms.absent.contains(&(table, column)) {
                row.take(column, current);
            }
        }
    }

    /// Whether this is the identity row of a mailbox that forwards its mail, and is not switched off itself: no forward is followed
    /// by way of a row that is.
    fn forwards(&self, want: &Want) -> bool {
        let is_off = self.row(Table::Mailbox).and_then(Row::active) == Some(false);
        let names_others = as_alias(&want.row).is_some_and(|row| row.goto != row.address);
        want.keep_foreign_targets && names_others && !is_off
    }

    /// What is said of a row that somebody switched off before its object adopted it.
    pub(super) fn switched_off(&self, want: &Want) -> Option<Warning> {
        let table = want.row.table();
        let current = self.row(table)?;
        if current.active() != Some(false) || want.row.active() != Some(true) {
            return None;
        }
        let owner = self.owner(table);
        // What was put to sleep wakes up.
        if owner.is_some_and(is_asleep) {
            return None;
        }
        let is_named = want.named.contains(&SharedColumn::Active)
            || owner
                .is_some_and(|owner| split(&owner.named).any(|name| name == SharedColumn::Active.as_str()));
        let is_own = matches!(table, Table::Mailbox | Table::Domain | Table::Admin)
            || (table == Table::Alias && !want.keep_foreign_targets);
        (is_own && !is_named && self.is_adopted(want)).then(|| {
            let message = "the row was switched off before it was adopted, and stays so: write active: true to switch it on";
            (Reason::DisabledMailbox, message.into())
        })
    }

    /// Where the mail of a mailbox is whose row was there before its object, if that is elsewhere than where we would have
    /// put it: mail doesn't move, so the row keeps its maildir for as long as it is there.
    pub(super) fn kept_maildir(&self, want: &Want) -> Option<&str> {
        let Row::Mailbox(wanted) = &want.row else { return None };
        let current = self.row(Table::Mailbox).and_then(as_mailbox)?;
        let is_ours = match self.owner(Table::Mailbox) {
            Some(owner) => split(&owner.named).any(|name| name == MAILDIR),
            None => current.maildir == wanted.maildir,
        };
        (!is_ours).then_some(&*current.maildir)
    }
}

/// Whether a row was put to sleep: while nobody served its domain.
fn is_asleep(owner: &OwnerRow) -> bool {
    owner.desired.is_empty()
}

/// A quota that was written and reads, as `PostfixAdmin` shows it, as it did: its page was saved, which is no change.
pub(super) fn keep_rounded_quota(row: &mut Row, current: &Row) {
    if let (Row::Mailbox(row), Row::Mailbox(current)) = (row, current)
        && row.quota > 0
        && current.quota > 0
        && shown(row.quota) == shown(current.quota)
    {
        row.quota = current.quota;
    }
}

/// Hundredths of a MB.
fn shown(quota: i64) -> i64 {
    quota.saturating_add(SHOWN_QUOTA / 2) / SHOWN_QUOTA
}

pub(super) fn as_mailbox(row: &Row) -> Option<&MailboxRow> {
    match row {
        Row::Mailbox(row) => Some(row),
        _ => None,
    }
}

pub(super) fn as_alias(row: &Row) -> Option<&AliasRow> {
    match row {
        Row::Alias(row) => Some(row),
        _ => None,
    }
}

/// Our targets, then those that others put there (a vacation address, say), or the text that is there if it has the same
/// ones in another order. The mailbox itself is always ours to decide.
pub(super) fn merge(ours: &AliasRow, current: &AliasRow, owner: Option<&OwnerRow>) -> AliasRow {
    let written: BTreeSet<&str> = owner.map(|owner| split(&owner.goto).collect()).unwrap_or_default();
    let wanted: BTreeSet<&str> = split(&ours.goto).collect();
    let foreign = split(&current.goto)
        .filter(|target| !written.contains(target) && !wanted.contains(target) && *target != ours.address);
    let merged: Vec<&str> = split(&ours.goto).chain(foreign).collect();
    let has_the_same = merged.iter().copied().collect::<BTreeSet<_>>() == split(&current.goto).collect();
    let goto = if has_the_same { current.goto.clone() } else { merged.join(",") };
    AliasRow { goto, ..ours.clone() }
}

pub(super) fn split(goto: &str) -> impl Iterator<Item = &str> {
    goto.split(',').map(str::trim).filter(|target| !target.is_empty())
}
