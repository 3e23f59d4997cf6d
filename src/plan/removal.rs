//! Rows that nothing declares under their key any more, or not as they are: deleted, switched off, let go, or kept. Pure.
//!
//! A deletion policy is for the object's end. While the object is there, what it doesn't declare any more, or may not have,
//! goes whatever its policy says; and where nobody serves its domain its rows sleep, still its own, until somebody does.

use super::KeyPlanner;
use super::log::{Change, LogRow};
use crate::api::DeletionPolicy;
use crate::desired::{Desired, Serving};
use crate::tables::{OwnerRow, Row, Table};

impl KeyPlanner<'_> {
    /// What can't be written is nobody else's either: rows that an object had which lost the key go.
    pub(super) fn remove_losers(&mut self, desired: &Desired) {
        let Some(winner) = desired.wants.first().map(|want| want.uid.clone()) else { return };
        for &table in self.key.tables() {
            let owner = self.owner(table);
            if owner.is_some_and(|owner| *owner.object_uid != *winner) {
                self.remove(table, desired);
            }
        }
    }

    /// The object that gets the key is over a limit: nobody takes over what is there, so it goes only where nobody may have it.
    ///
    /// A row stays that is the object's own, or that of a younger one which may have the key and waits for it. What an object
    /// has that may not have the key goes. The row of an object that is gone stays beside one that stays, for the rows of a
    /// key mean something only together (an identity row without its mailbox bounces mail); else it goes by its policy.
    pub(super) fn keep_or_remove(&mut self, desired: &Desired) {
        for &table in self.key.tables() {
            match self.owner(table) {
                Some(owner) if self.stays(owner, desired) => self.keep(owner),
                _ => self.remove(table, desired),
            }
        }
    }

    fn stays(&self, owner: &OwnerRow, desired: &Desired) -> bool {
        let is_kept = |owner: &OwnerRow| desired.kept.iter().any(|uid| **uid == *owner.object_uid);
        is_kept(owner) || ((self.terms.declared)(owner).is_none() && self.owners().any(is_kept))
    }

    /// What is kept and gone all the same (somebody removed it) is not made anew; what is there is this server's now.
    fn keep(&mut self, owner: &OwnerRow) {
        if !self.is_ours(owner) {
            return;
        }
        self.take_over(owner);
        if self.row(owner.table).is_none() {
            self.plan.disowned.push(self.id(owner.table));
        }
    }

    /// Takes a row away that would change what another object's rows under the same key mean: nobody's policy keeps it.
    pub(super) fn remove_from_successor(&mut self, table: Table, desired: &Desired) {
        let Some(owner) = self.owner(table).filter(|owner| self.may_remove(owner, desired)) else { return };
        if self.row(table).is_some() {
            // A domain can be both for a while: nobody's mail goes elsewhere by it.
            if table == Table::AliasDomain && self.terms.held.contains(self.key) {
                return;
            }
            self.delete(table);
        }
        self.disown(owner);
    }

    /// Takes a table's row away, as the policy of an object says that is gone.
    pub(super) fn remove(&mut self, table: Table, desired: &Desired) {
        let Some(owner) = self.owner(table).filter(|owner| self.may_remove(owner, desired)) else { return };
        let Some(row) = self.row(table) else {
            self.disown(owner);
            return;
        };
        if self.terms.held.contains(self.key) {
            return;
        }
        match ((self.terms.declared)(owner), owner.policy) {
            (Some(policy), _) if desired.serving == Serving::Waiting && policy != DeletionPolicy::Delete => {
                self.put_to_sleep(row, owner, policy, desired);
                return;
            }
            (Some(_), _) | (None, DeletionPolicy::Delete) => self.delete(table),
            (None, DeletionPolicy::Disable) if self.may_switch_off(table, desired) => self.switch_off(row),
            (None, DeletionPolicy::Disable | DeletionPolicy::Retain) => {}
        }
        self.disown(owner);
    }

    /// The server that serves a domain looks after all that is under its keys, whichever server had it before.
    fn may_remove(&self, owner: &OwnerRow, desired: &Desired) -> bool {
        let serves = desired.serving == Serving::Served && self.key.tables() != [Table::Admin];
        owner.server == self.terms.server || (serves && self.is_ours(owner))
    }

    fn put_to_sleep(&mut self, row: &Row, owner: &OwnerRow, policy: DeletionPolicy, desired: &Desired) {
        // A domain that its server may not serve any more gets no mail, even if its rows are to stay.
        let is_domains = matches!(owner.table, Table::Domain | Table::AliasDomain);
        let switches_off =
            is_domains || (policy == DeletionPolicy::Disable && self.may_switch_off(owner.table, desired));
        let mut owner = OwnerRow { policy, ..owner.clone() };
        if switches_off && row.active() == Some(true) {
            self.switch_off(row);
            // Switching it on again is no correction of what somebody else did.
            owner.desired.clear();
        }
        if self.owner(owner.table) != Some(&owner) {
            self.plan.owned.push(owner);
        }
    }

    /// Beside a catch-all the identity row of a mailbox stays: without it the catch-all's owner would get the mail of a mailbox
    /// that is switched off, which Postfix refuses.
    fn may_switch_off(&self, table: Table, desired: &Desired) -> bool {
        let is_identity = table == Table::Alias && self.keeps_mailbox_row();
        !is_identity || !(desired.has_catch_all || desired.serving != Serving::Served)
    }

    fn keeps_mailbox_row(&self) -> bool {
        let goes = self.plan.deletes.last() == Some(&self.id(Table::Mailbox));
        self.row(Table::Mailbox).is_some() && !goes
    }

    fn switch_off(&mut self, row: &Row) {
        let mut switched = row.clone();
        if switched.active_mut().is_some_and(|active| std::mem::replace(active, false)) {
            self.plan.lost.insert(self.key.clone());
            self.put(Some(row), switched);
        }
    }

    fn delete(&mut self, table: Table) {
        // Without its row in vmail_id a mailbox goes on as before, under the owner of all others.
        if table != Table::Id {
            self.plan.lost.insert(self.key.clone());
        }
        self.plan.log.extend(LogRow::of(Change::Delete, table, self.key));
        self.plan.deletes.push(self.id(table));
    }

    /// The database deletes and disowns for their own server only: what another one had is taken over first.
    fn disown(&mut self, owner: &OwnerRow) {
        self.take_over(owner);
        self.plan.disowned.push((owner.table, owner.key.clone()));
    }

    fn take_over(&mut self, owner: &OwnerRow) {
        if owner.server != self.terms.server {
            self.plan.owned.push(OwnerRow { server: self.terms.server.to_owned(), ..owner.clone() });
        }
    }
}
