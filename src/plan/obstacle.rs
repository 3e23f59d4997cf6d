//! Why the rows of a key can't be written: somebody else's row, or owner, is there, or the tables can't hold them. Pure.

use super::{KeyPlanner, Obstacle, correct, unobtained};
use crate::api::mail_server::ExistingRows;
use crate::api::{DeletionPolicy, Reason};
use crate::desired::{Desired, Verdict, Want};
use crate::tables::{OwnerRow, Row, Table};

impl KeyPlanner<'_> {
    /// Why the rows of this key can't be written, if so: none of them is written then.
    pub(super) fn blocked(&self, wants: &[Want]) -> Option<Obstacle> {
        if let Some(obstacle) = self.foreign.filter(|_| !wants.is_empty()) {
            return Some(unobtained::in_domain(self.key.domain(), obstacle));
        }
        if let Some(obstacle) = self.blocked_by_mailbox(wants) {
            return Some(obstacle);
        }
        wants.iter().find_map(|want| {
            let table = want.row.table();
            if table == Table::Admin && !self.terms.lacking.is_empty() {
                return Some(self.blocked_by_tables());
            }
            match (self.row(table), self.owner(table)) {
                (_, Some(owner)) if table == Table::Admin && self.is_of_another_server(owner, want) => {
                    let message =
                        format!("{} of the MailServer {} owns this row", owner.object, owner.server);
                    Some((Reason::Conflict, message))
                }
                (_, Some(owner)) => self.blocked_by_owner(owner),
                (Some(row), None) => self.blocked_by_row(row),
                (None, None) => None,
            }
            .or_else(|| self.kept_maildir(want).and_then(blocked_by_maildir))
        })
    }

    /// An alias would take the mail of a mailbox of the same address that nobody declares, or not any more, and that stays.
    fn blocked_by_mailbox(&self, wants: &[Want]) -> Option<Obstacle> {
        let wants_table = |table| wants.iter().any(|want| want.row.table() == table);
        if !wants_table(Table::Alias) || wants_table(Table::Mailbox) || self.row(Table::Mailbox).is_none() {
            return None;
        }
        let stays = match self.owner(Table::Mailbox) {
            Some(owner) if !self.is_ours(owner) => return self.blocked_by_owner(owner),
            Some(owner) => owner.policy != DeletionPolicy::Delete && (self.terms.declared)(owner).is_none(),
            None => true,
        };
        stays.then(|| {
            let message = format!(
                "there is a mailbox {} that nobody declares, whose mail this alias would take: declare a Mailbox in place of the alias, or remove the row from the table mailbox",
                self.key.as_str()
            );
            (Reason::RowExists, message)
        })
    }

    fn blocked_by_tables(&self) -> Obstacle {
        let lacking = self.terms.lacking.join(", ");
        let message =
            format!("the database can't hold admins, it lacks: {lacking}: bring its PostfixAdmin up to date");
        (Reason::DatabaseInvalid, message)
    }

    /// A domain has one server, and its rows go with it to another. A username may be declared for two servers that share
    /// a database: there the first keeps it.
    fn is_of_another_server(&self, owner: &OwnerRow, want: &Want) -> bool {
        owner.server != self.terms.server
            && *owner.object_uid != *want.uid
            && (self.terms.is_served)(&owner.server)
    }

    fn blocked_by_owner(&self, owner: &OwnerRow) -> Option<Obstacle> {
        (!self.is_ours(owner)).then(|| {
            let message =
                format!("{} of another cluster or operator ({}) owns this row", owner.object, owner.server);
            (Reason::Conflict, message)
        })
    }

    /// Whether an object that can't have all of its rows has a domain all the same.
    pub(super) fn has_domain(&self, wants: &[Want]) -> bool {
        let owner = self.owner(Table::Domain).filter(|owner| self.is_ours(owner));
        owner.zip(wants.first()).is_some_and(|(owner, want)| *owner.object_uid == *want.uid)
    }

    /// Whether a server that this operator sees, or would see, owns a row.
    pub(super) fn is_ours(&self, owner: &OwnerRow) -> bool {
        owner.server.starts_with(self.terms.ours)
    }

    fn blocked_by_row(&self, row: &Row) -> Option<Obstacle> {
        let message = format!(
            "the table {} has a row {} that was not declared: set existingRows: Adopt on the MailServer, or remove the row",
            row.table().as_str(),
            self.key.as_str()
        );
        (self.terms.existing_rows == ExistingRows::Fail).then_some((Reason::RowExists, message))
    }

    /// Nobody takes over what belongs to an object that can't be read, and who would is told so.
    pub(super) fn tell_unreadable(&mut self, desired: &mut Desired, owner: &OwnerRow) {
        if desired.wants.first().is_some_and(|want| *want.uid != *owner.object_uid) {
            let message = format!(
                "{} owns this row and can't be read, the operator's log says why: until then it stays as it is",
                owner.object
            );
            let obstacle = (Reason::Conflict, message);
            self.unobtained = Some(obstacle.clone());
            self.tell_blocked(desired, obstacle);
        }
    }

    pub(super) fn tell_blocked(&mut self, desired: &mut Desired, (reason, message): Obstacle) {
        if let Some(object) = desired.wants.first().map(|want| want.object.clone()) {
            self.elsewhere.extend(correct(&mut desired.verdicts, Verdict::new(&object, reason, message)));
        }
    }
}

/// A maildir that a row keeps can be anywhere in the mail store, and nowhere else: virtual(8) follows `..`.
fn blocked_by_maildir(maildir: &str) -> Option<Obstacle> {
    let leads_out =
        maildir.is_empty() || maildir.starts_with('/') || maildir.split('/').any(|name| name == "..");
    let message = || {
        format!(
            "the row has the maildir {maildir:?}, which is not in the mail store: correct the row, or remove it"
        )
    };
    leads_out.then(|| (Reason::RowExists, message()))
}
