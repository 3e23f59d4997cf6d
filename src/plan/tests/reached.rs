//! What must hold after a full comparison, looked at from the outside: rows and owners before and after, what is desired, and
//! who should win.

use super::oracle::policy_of;
use super::passes::{Circumstances, Pass, every_key, id, in_secret};
use super::world::{Model, servers};
use super::*;
use crate::api::DeletionPolicy;
use crate::index::Index;
use crate::tables::ALL_DOMAINS;

/// Columns that are somebody else's wherever an object doesn't name them, and didn't before.
const FREE: [SharedColumn; 5] = [
    SharedColumn::Description,
    SharedColumn::Transport,
    SharedColumn::Quota,
    SharedColumn::Name,
    SharedColumn::Active,
];

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
            let over = self.is_over_limit(key, object);
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
            let is_left = self.is_held(key)
                || self.is_left_drift(&row)
                || self.is_kept(key, owner)
                || !self.model.serves(self.server, key);
            let looks_after =
                owner.server == id(self.server) || (table != Table::Admin && is_of_cluster(owner));
            if looks_after && !is_left {
                assert_eq!(Some(&*owner.object_uid), uid, "a loser has no row: {row:?}");
            }
        }
    }

    fn is_over_limit(&self, key: &Key, object: &ObjectId) -> bool {
        self.index.allotment(key.domain()).is_some_and(|allotment| allotment.over.contains_key(object))
    }

    /// Whether a row stays because the winner is over a limit: it is that of an object which may have the key, or of one that
    /// is gone, beside such a row.
    fn is_kept(&self, key: &Key, owner: &OwnerRow) -> bool {
        let claimants = self.model.claimants(self.server, key);
        let may_have = |owner: &OwnerRow| claimants.iter().any(|(_, object)| object.uid == owner.object_uid);
        let is_over = matches!(key, Key::Address(_))
            && claimants.first().is_some_and(|(winner, _)| self.is_over_limit(key, winner));
        let is_gone = self.model.with_uid(&owner.object_uid).is_none();
        is_over && (may_have(owner) || (is_gone && self.owners(key).any(may_have)))
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
        let must_be = self.is_of_foreign_domain(key)
            || self.is_mailbox_in_the_way(key, &desired.wants)
            || desired.wants.iter().any(|want| self.is_in_the_way(want));
        // What becomes of a domain's catch-all is told under the domain's key.
        let mut verdicts = self.pass.wanted.iter().flat_map(|(_, desired)| &desired.verdicts);
        let told = verdicts.find(|verdict| verdict.object == *winner).expect("everybody is told");
        // There something worse may be told.
        let is_catch_all = winner.kind == Kind::Domain && matches!(key, Key::Address(_));
        if is_catch_all {
            assert!(!must_be || told.reason != Reason::Synced, "{winner} is told that all is well");
            return must_be;
        }
        // A domain may have lost its catch-all, by what is declared or by what is in the tables.
        let without_rows = crate::desired::desired(self.index, self.server, key).verdicts;
        let catch_all = self.pass.wanted.iter().find(|(other, _)| {
            winner.kind == Kind::Domain && other.is_catch_all() && other.domain() == key.domain()
        });
        let may_be = catch_all.is_some_and(|(other, desired)| {
            desired.wants.iter().any(|want| want.object == *winner) && self.is_blocked(other, desired)
        });
        let loses_domain = desired.wants.iter().any(|want| self.loses_domain(key, want));
        let is_told =
            matches!(told.reason, Reason::RowExists | Reason::Conflict) && !without_rows.contains(told);
        assert!(is_told || !must_be, "{winner} is told {told:?}");
        assert!(told.reason != Reason::Synced || !loses_domain, "{winner} is told {told:?}");
        assert!(
            must_be || may_be || loses_domain || !is_told,
            "{winner} is told {told:?}, and nothing is in its way"
        );
        must_be
    }

    /// Whether the domain of an address is somebody else's in the tables.
    fn is_of_foreign_domain(&self, key: &Key) -> bool {
        matches!(key, Key::Address(_)) && self.is_foreign(key.domain())
    }

    fn is_foreign(&self, domain: &str) -> bool {
        let domain = Key::from_row(domain).unwrap();
        let Some((_, desired)) = self.pass.wanted.iter().find(|(key, _)| *key == domain) else {
            return false;
        };
        let owner = self.before.owners.get(&(Table::Domain, domain.as_str().to_owned()));
        let had = desired
            .wants
            .iter()
            .any(|want| owner.is_some_and(|owner| is_of_cluster(owner) && *owner.object_uid == *want.uid));
        !had && desired.wants.iter().any(|want| self.is_in_the_way(want))
    }

    /// Whether an admin is declared for a domain that is somebody else's in the tables; it must not get it.
    fn loses_domain(&self, key: &Key, want: &Want) -> bool {
        let Row::Admin(row) = &want.row else { return false };
        assert!(
            row.domains.iter().all(|domain| domain == ALL_DOMAINS || !self.is_foreign(domain)),
            "{row:?}"
        );
        let declared = crate::desired::desired(self.index, self.server, key).wants;
        declared.iter().any(|want| {
            matches!(&want.row, Row::Admin(declared) if declared.domains.iter().any(|domain| !row.domains.contains(domain)))
        })
    }

    fn is_in_the_way(&self, want: &Want) -> bool {
        let id = (want.row.table(), want.row.key().to_owned());
        match (self.before.rows.get(&id), self.before.owners.get(&id)) {
            (_, Some(owner)) if id.0 == Table::Admin && owner.server != passes::id(self.server) => {
                let others = self.model.servers.keys();
                let is_served = others.map(passes::id).any(|server| server == owner.server);
                !is_of_cluster(owner) || is_served && *owner.object_uid != *want.uid
            }
            (_, Some(owner)) => !is_of_cluster(owner),
            (Some(_), None) => self.circumstances.existing_rows == ExistingRows::Fail,
            (None, None) => false,
        }
    }

    /// An alias takes no mail of a mailbox of its address that stays, and that nobody declares.
    fn is_mailbox_in_the_way(&self, key: &Key, wants: &[Want]) -> bool {
        let wants_table = |table| wants.iter().any(|want| want.row.table() == table);
        let id = (Table::Mailbox, key.as_str().to_owned());
        let stays = |owner: &OwnerRow| {
            let is_gone = self.model.with_uid(&owner.object_uid).is_none();
            !is_of_cluster(owner) || (is_gone && owner.policy != DeletionPolicy::Delete)
        };
        wants_table(Table::Alias)
            && !wants_table(Table::Mailbox)
            && self.before.rows.contains_key(&id)
            && self.before.owners.get(&id).is_none_or(stays)
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
        // Of another namespace's row nothing is left that others wrote there.
        let theirs = before.filter(|_| !is_of_another_namespace(was_owned, want));
        let mut seen = row.clone();
        for column in SharedColumn::ALL.into_iter().filter(|column| !want.named.contains(column)) {
            let is_of = |other: &Row| {
                let mut taken = row.clone();
                taken.take(column, other);
                taken == *row
            };
            let was_named =
                was_owned.is_some_and(|owner| split(&owner.named).any(|name| name == column.as_str()));
            let is_right = match theirs.filter(|_| !was_named) {
                _ if column == SharedColumn::Active && !self.stays_switched_off(want, owner, was_owned) => {
                    is_of(&want.row)
                }
                Some(theirs) if FREE.contains(&column) => is_of(theirs),
                _ => is_of(&want.row) || theirs.is_some_and(is_of),
            };
            assert!(is_right, "{column:?} of {row:?} is nobody's");
            seen.take(column, &want.row);
        }
        if let Some(password) = seen.password_mut() {
            self.assert_password(want, password, theirs);
            password.clear();
        }
        match (&mut seen, &want.row, before) {
            (Row::Mailbox(row), Row::Mailbox(wanted), before) => {
                let was = before.and_then(as_mailbox).map(|before| &before.maildir);
                assert!(row.maildir == wanted.maildir || Some(&row.maildir) == was, "{row:?}");
                row.maildir.clone_from(&wanted.maildir);
            }
            (Row::Alias(row), Row::Alias(wanted), _) if want.keep_foreign_targets || is_adopted(owner) => {
                let was = theirs.and_then(as_alias).map_or("", |row| &row.goto);
                assert_merged(row, wanted, was, was_owned.map_or("", |owner| &owner.goto));
                row.goto.clone_from(&wanted.goto);
            }
            _ => {}
        }
        assert_eq!(seen, want.row);
    }

    /// Whether a row was there before its object, and whoever switched it off has the last word. The identity row of a mailbox
    /// keeps mail from a catch-all all the same, or forwards it, and what was put to sleep wakes up.
    fn stays_switched_off(&self, want: &Want, owner: &OwnerRow, was_owned: Option<&OwnerRow>) -> bool {
        let key = Key::of_row(want.row.table(), want.row.key()).unwrap();
        let guards = want.keep_foreign_targets && self.has_catch_all(&key);
        let slept = was_owned.is_some_and(|owner| owner.desired.is_empty());
        let is_off = self.before.rows.get(&(Table::Mailbox, want.row.key().to_owned())).and_then(Row::active);
        let names_others = as_alias(&want.row).is_some_and(|row| row.goto != row.address);
        let forwards = want.keep_foreign_targets && names_others && is_off != Some(false);
        is_adopted(owner) && !guards && !slept && !forwards
    }

    fn has_catch_all(&self, key: &Key) -> bool {
        let catch_all = Key::from_row(&format!("@{}", key.domain())).unwrap();
        self.model.winner(self.server, &catch_all).is_some()
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

    /// Nothing is wanted there: what this server looks after is not any more, but for what is kept or sleeps.
    fn assert_let_go(&self, id: &RowId, desired: &Desired) {
        let key = Key::of_row(id.0, &id.1).unwrap();
        let serves = self.model.serves(self.server, &key);
        // An admin stays with the first of two servers; who serves a domain looks after what others left there.
        let looks_after = |owner: &&OwnerRow| {
            owner.server == passes::id(self.server)
                || (serves && id.0 != Table::Admin && is_of_cluster(owner))
        };
        let (row, owner) = (self.before.rows.get(id), self.before.owners.get(id));
        let Some(owner) = owner.filter(looks_after) else { return self.assert_untouched(id) };
        let is_served = servers().iter().any(|other| self.model.serves(other, &key));
        if !serves && is_served && self.model.is_claimed(&key) {
            // The other server has the same tables.
            return self.assert_untouched(id);
        }
        let left = self.after.rows.get(id);
        let is_held = self.is_held(&key) && (desired.wants.is_empty() || id.0 == Table::AliasDomain);
        if row.is_some() && (self.is_kept(&key, owner) || is_held) {
            assert_eq!(left, row, "{id:?} is kept");
            return assert!(self.after.owners.contains_key(id), "{id:?} is kept");
        }
        let declared = self.model.with_uid(&owner.object_uid).map(|(_, object)| policy_of(object));
        let sleeps = row.is_some()
            && !serves
            && self.model.is_claimed(&key)
            && declared.is_some_and(|policy| policy != DeletionPolicy::Delete);
        let policy = if desired.wants.is_empty() && (sleeps || declared.is_none()) {
            declared.unwrap_or(owner.policy)
        } else {
            // A deletion policy is for the object's end, and has no say about what the next one gets.
            DeletionPolicy::Delete
        };
        let owning = self.after.owners.get(id);
        assert_eq!(
            owning.map(|owner| (&owner.object_uid, owner.policy)),
            sleeps.then_some((&owner.object_uid, policy)),
            "who owns {id:?}, of which nothing is wanted"
        );
        assert_eq!(left.cloned(), row.and_then(|row| self.remains(row, policy, sleeps)), "{id:?} is let go");
    }

    /// What a policy leaves of a row.
    fn remains(&self, row: &Row, policy: DeletionPolicy, sleeps: bool) -> Option<Row> {
        let key = Key::of_row(row.table(), row.key()).unwrap();
        let is_identity = row.table() == Table::Alias
            && self.after.rows.contains_key(&(Table::Mailbox, row.key().to_owned()));
        let leaks = is_identity && (self.has_catch_all(&key) || !self.model.serves(self.server, &key));
        let is_domains = matches!(row.table(), Table::Domain | Table::AliasDomain);
        match policy {
            DeletionPolicy::Delete => None,
            _ if sleeps && is_domains => Some(switched_off(row)),
            DeletionPolicy::Disable if !leaks => Some(switched_off(row)),
            DeletionPolicy::Disable | DeletionPolicy::Retain => Some(row.clone()),
        }
    }

    fn owners(&self, key: &Key) -> impl Iterator<Item = &OwnerRow> {
        key.tables().iter().filter_map(|table| self.before.owners.get(&(*table, key.as_str().to_owned())))
    }
}

fn is_of_cluster(owner: &OwnerRow) -> bool {
    owner.server.starts_with("cluster/")
}

fn is_of_another_namespace(owner: Option<&OwnerRow>, want: &Want) -> bool {
    let prefix = format!(" {}/", want.object.name.namespace);
    owner.is_some_and(|owner| !owner.object.contains(&prefix))
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
