//! What must hold after a full comparison, looked at from the outside: rows and owners before and after, what is desired, and
//! who should win.

use super::passes::{Circumstances, Pass, every_key, id, in_secret};
use super::world::Model;
use super::*;
use crate::api::DeletionPolicy;
use crate::index::Index;

/// Columns that are somebody else's wherever an object doesn't name them, and didn't before.
const FREE: [SharedColumn; 4] =
    [SharedColumn::Description, SharedColumn::Transport, SharedColumn::Quota, SharedColumn::Name];

/// One full comparison of a server.
pub(super) struct Comparison<'a> {
    pub(super) model: &'a Model,
    pub(super) index: &'a Index,
    pub(super) server: &'a ObjectName,
    pub(super) circumstances: &'a Circumstances,
    pub(super) before: &'a Current,
    pub(super) after: &'a Current,
    pub(super) pass: &'a Pass,
}

impl Comparison<'_> {
    pub(super) fn check(&self) {
        for key in every_key() {
            let wanted = self.pass.wanted.iter().find(|(wanted, _)| *wanted == key);
            if let Some((_, desired)) = wanted {
                self.check_key(&key, desired);
                continue;
            }
            assert_eq!(self.model.winner(self.server, &key), None, "{key} is declared and not compared");
            for &table in key.tables() {
                self.assert_untouched(&(table, key.as_str().to_owned()));
            }
        }
    }

    fn check_key(&self, key: &Key, desired: &Desired) {
        self.check_winner(key, desired);
        let is_blocked = self.is_blocked(key, desired);
        for &table in key.tables() {
            let id = (table, key.as_str().to_owned());
            match desired.wants.iter().find(|want| want.row.table() == table) {
                Some(want) if is_blocked => self.assert_not_written(&id, want),
                Some(want) => self.assert_reached(&id, want),
                None if is_blocked => {}
                None => self.assert_let_go(&id, desired),
            }
        }
    }

    /// Who gets the key is the oldest that may have it, and nobody else has a row.
    fn check_winner(&self, key: &Key, desired: &Desired) {
        let winner = self.model.winner(self.server, key);
        let uid = winner.map(|(_, object)| object.uid.as_str());
        assert!(
            desired.wants.iter().all(|want| Some(&*want.uid) == uid),
            "{key} is {winner:?}'s: {desired:?}"
        );
        if let Some((object, _)) = winner.filter(|_| desired.wants.is_empty()) {
            let over = self
                .index
                .allotment(key.domain())
                .is_some_and(|allotment| allotment.over.contains_key(object));
            let told = desired.verdicts.iter().find(|verdict| verdict.object == *object);
            // What is wrong with a domain's catch-all is told on the domain, where something worse may be told.
            let is_told = told.map_or(object.kind == Kind::Domain, |told| {
                matches!(told.reason, Reason::AliasLoop | Reason::TooManyTargets)
            });
            assert!(over || is_told, "{key} is {object}'s: {desired:?}");
        }
        for &table in key.tables() {
            let row = (table, key.as_str().to_owned());
            let Some(owner) = self.after.owners.get(&row) else { continue };
            let is_left =
                self.is_held(key) || self.is_left_drift(&row) || !self.model.serves(self.server, key);
            if owner.server == id(self.server) && !is_left {
                assert_eq!(Some(&*owner.object_uid), uid, "a loser has no row: {row:?}");
            }
        }
    }

    fn is_held(&self, key: &Key) -> bool {
        self.circumstances.held.contains(key)
    }

    fn is_left_drift(&self, id: &RowId) -> bool {
        self.circumstances.drift == Drift::Report && self.pass.plan.drifted.contains(id)
    }

    /// Whether the winner can't be written, and is told so: somebody else's row, or owner, is in the way.
    fn is_blocked(&self, key: &Key, desired: &Desired) -> bool {
        let Some(winner) = desired.wants.first().map(|want| &want.object) else { return false };
        let must_be = desired.wants.iter().any(|want| self.is_in_the_way(want));
        let told = desired.verdicts.iter().find(|verdict| verdict.object == *winner);
        // A domain may have lost its catch-all.
        let without_rows = crate::desired::desired(self.index, self.server, key).verdicts;
        let is_told = told.is_some_and(|told| {
            matches!(told.reason, Reason::RowExists | Reason::Conflict) && !without_rows.contains(told)
        });
        // The fate of a domain's catch-all is not told under the catch-all's key, where the domain has no verdict.
        assert!(is_told || !must_be || told.is_none(), "{winner} is not told");
        // An alias may be kept off the address of a mailbox that is not its own.
        let mailbox = (Table::Mailbox, key.as_str().to_owned());
        let may_be = winner.kind != Kind::Mailbox && self.before.rows.contains_key(&mailbox);
        assert!(must_be || may_be || !is_told, "{winner} is told {told:?}, and nothing is in its way");
        must_be || is_told
    }

    fn is_in_the_way(&self, want: &Want) -> bool {
        let id = (want.row.table(), want.row.key().to_owned());
        match (self.before.rows.get(&id), self.before.owners.get(&id)) {
            (_, Some(owner)) if id.0 == Table::Admin && owner.server != passes::id(self.server) => {
                let others = self.model.servers.keys();
                let is_served = others.map(passes::id).any(|server| server == owner.server);
                !owner.server.starts_with("cluster/") || is_served && *owner.object_uid != *want.uid
            }
            (_, Some(owner)) => !owner.server.starts_with("cluster/"),
            (Some(_), None) => self.circumstances.existing_rows == ExistingRows::Fail,
            (None, None) => false,
        }
    }

    fn assert_untouched(&self, id: &RowId) {
        assert_eq!(self.before.rows.get(id), self.after.rows.get(id), "{id:?}");
        assert_eq!(self.before.owners.get(id), self.after.owners.get(id), "{id:?}");
    }

    /// A row may be gone that an object had which lost the key.
    fn assert_not_written(&self, id: &RowId, want: &Want) {
        let loser = self.before.owners.get(id).filter(|owner| *owner.object_uid != *want.uid);
        if loser.is_none() {
            self.assert_untouched(id);
        } else {
            let owner = self.after.owners.get(id);
            assert!(owner.is_none() || owner == loser, "{id:?} is written all the same");
        }
    }

    fn assert_reached(&self, id: &RowId, want: &Want) {
        if self.is_left_drift(id) {
            return self.assert_untouched(id);
        }
        let (before, was_owned) = (self.before.rows.get(id), self.before.owners.get(id));
        let row = self.after.rows.get(id).unwrap_or_else(|| panic!("{id:?} is wanted and not there"));
        let owner = self.after.owners.get(id).unwrap_or_else(|| panic!("{id:?} has no owner"));
        assert_eq!((&*owner.object_uid, owner.policy), (&*want.uid, want.policy));
        assert_eq!(owner.server, passes::id(self.server));
        let mut seen = row.clone();
        for column in SharedColumn::ALL.into_iter().filter(|column| !want.named.contains(column)) {
            let is_of = |other: &Row| {
                let mut taken = row.clone();
                taken.take(column, other);
                taken == *row
            };
            let was_named =
                was_owned.is_some_and(|owner| split(&owner.named).any(|name| name == column.as_str()));
            let theirs = before.filter(|_| FREE.contains(&column) && !was_named);
            let is_right = theirs.map_or_else(|| is_of(&want.row) || before.is_some_and(is_of), is_of);
            assert!(is_right, "{column:?} of {row:?} is nobody's");
            seen.take(column, &want.row);
        }
        if let Some(password) = seen.password_mut() {
            self.assert_password(want, password, before);
            password.clear();
        }
        match (&mut seen, &want.row, before) {
            (Row::Mailbox(row), Row::Mailbox(wanted), before) => {
                let was = before.and_then(as_mailbox).map(|before| &before.maildir);
                assert!(row.maildir == wanted.maildir || Some(&row.maildir) == was, "{row:?}");
                row.maildir.clone_from(&wanted.maildir);
            }
            (Row::Alias(row), Row::Alias(wanted), before)
                if want.keep_foreign_targets || is_adopted(owner) =>
            {
                let was = before.and_then(as_alias).map_or("", |row| &row.goto);
                assert_merged(row, wanted, was, was_owned.map_or("", |owner| &owner.goto));
                row.goto.clone_from(&wanted.goto);
            }
            _ => {}
        }
        assert_eq!(seen, want.row);
    }

    fn assert_password(&self, want: &Want, password: &str, before: Option<&Row>) {
        let Some(source) = &want.password else {
            let was = before.and_then(Row::password);
            assert!(password == LOCKED_PASSWORD || Some(password) == was, "{:?}", want.row);
            return;
        };
        let told = self.pass.wanted.iter().flat_map(|(_, desired)| &desired.verdicts);
        match in_secret(source) {
            ResolvedPassword::Hash(hash) => assert_eq!(password, hash),
            ResolvedPassword::Missing(reason, _) => {
                assert_eq!(password, LOCKED_PASSWORD);
                let mut told = told.filter(|verdict| verdict.object == want.object);
                // One thing is told at a time.
                let is_told = |told: Reason| told == reason || told == Reason::DriftDetected;
                assert!(told.any(|verdict| is_told(verdict.reason)), "{:?} is not told", want.object);
            }
        }
    }

    /// Nothing is wanted there: what was this server's is not any more, but for what is kept, and goes as its policy says.
    fn assert_let_go(&self, id: &RowId, desired: &Desired) {
        let (row, owner) = (self.before.rows.get(id), self.before.owners.get(id));
        let Some(owner) = owner.filter(|owner| owner.server == passes::id(self.server)) else {
            return self.assert_untouched(id);
        };
        let is_kept = desired.kept.as_deref() == Some(&*owner.object_uid)
            && self.owners(id).all(|other| other.object_uid == owner.object_uid);
        let key = Key::of_row(id.0, &id.1).unwrap();
        let left = self.after.rows.get(id);
        if row.is_some() && (is_kept || self.is_held(&key)) {
            assert_eq!(left, row, "{id:?} is kept");
            return assert!(self.after.owners.contains_key(id), "{id:?} is kept");
        }
        let is_as_it_was = left == row || left == row.map(switched_off).as_ref();
        assert!(left.is_none() || is_as_it_was, "{left:?} is nobody's wish");
        if self.model.serves(self.server, &key) {
            assert_eq!(self.after.owners.get(id), None, "nothing is wanted of {id:?}");
            assert!(left.is_none() || owner.policy != DeletionPolicy::Delete, "{id:?} is to go");
        }
    }

    fn owners(&self, id: &RowId) -> impl Iterator<Item = &OwnerRow> {
        self.before
            .owners
            .values()
            .filter(|owner| owner.key == id.1 && (owner.table == Table::Admin) == (id.0 == Table::Admin))
    }
}

/// Of a row that was there before its object, targets that others put there may stay.
fn is_adopted(owner: &OwnerRow) -> bool {
    split(&owner.named).any(|mark| mark == "adopted")
}

/// All of our targets are there, and those that others put there, and no other.
fn assert_merged(row: &AliasRow, wanted: &AliasRow, before: &str, written: &str) {
    let is_among = |targets: &str, target: &str| split(targets).any(|other| other == target);
    let is_theirs =
        |target: &str| is_among(before, target) && !is_among(written, target) && target != wanted.address;
    let is_ours = |target: &str| is_among(&wanted.goto, target);
    assert!(split(&wanted.goto).all(|target| is_among(&row.goto, target)), "{row:?}");
    assert!(split(&row.goto).all(|target| is_ours(target) || is_theirs(target)), "{row:?}");
    assert!(
        split(before).filter(|target| is_theirs(target)).all(|target| is_among(&row.goto, target)),
        "{row:?}"
    );
}

fn switched_off(row: &Row) -> Row {
    let mut row = row.clone();
    if let Some(active) = row.active_mut() {
        *active = false;
    }
    row
}
