//! What all watch events together say, in small rows, and which keys of the tables an event touches.
//!
//! Pure: no client, no clock, no database. Rooms that watch call `apply_*` and `remove_*`; the set loops take the
//! touched keys with [`Index::take_work`] and ask [`crate::desired`] what should stand there.

mod admins;
mod claims;
mod declared;
mod held;
mod key;
mod limits;
mod lookup;
mod marks;
mod multimap;
mod namespaces;
pub mod rows;
pub mod stored_as;
mod targets;
mod unreadable;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

pub use claims::{Claim, DomainEntry};
pub use held::Held;
pub use key::Key;
pub use limits::{Allotment, Exceeded};
pub use namespaces::{Allowed, Labels};
use rows::{AliasRow, DomainRow, Kind, MailboxRow, ObjectId, Row, ServerRow};
pub use unreadable::Outline;

pub use work::Work;

use crate::api::{Address, DomainName};
use crate::object::ObjectName;
use admins::Admins;
use multimap::Multimap;
use namespaces::Namespaces;
use targets::Targets;
use unreadable::Unreadable;

/// Everything that is declared.
#[derive(Debug, Default)]
pub struct Index {
    servers: BTreeMap<ObjectName, ServerRow>,
    domains: HashMap<ObjectName, DomainRow>,
    mailboxes: HashMap<ObjectName, Box<MailboxRow>>,
    aliases: HashMap<ObjectName, Box<AliasRow>>,
    admins: Admins,
    by_domain: BTreeMap<Arc<str>, DomainEntry>,
    namespaces: Namespaces,
    alias_domains: Multimap<DomainName, (DomainName, ObjectName)>,
    targets: Targets,
    /// How many domains that have to be in Postfix's table of transports name a server.
    transports: HashMap<ObjectName, usize>,
    /// Keys whose objects are more than rows: Postfix's configuration depends on their transport, their owner, or their being switched off.
    configured: Multimap<Key, ObjectName>,
    /// Catch-alls and disabled mailboxes: where a server has one, Postfix has to ask whether a recipient is disabled.
    guarded: Multimap<Key, ObjectName>,
    /// Grows with each change of what a server's configuration depends on.
    needs: HashMap<ObjectName, u64>,
    unreadable: Unreadable,
    secret_versions: HashMap<ObjectName, Box<str>>,
    /// The objects that refer to a Secret, with the key that each works on.
    secret_users: Multimap<ObjectName, (Key, ObjectName)>,
    work: BTreeMap<ObjectName, Work>,
    /// Grows with each mark, and with each server that comes or goes.
    marks: u64,
    unserved: BTreeSet<Key>,
    /// Domains with limits in which something changed.
    relimited: BTreeSet<Arc<str>>,
}

impl Index {
    /// A `MailServer` appeared or changed.
    pub fn apply_server(&mut self, name: &ObjectName, row: ServerRow) {
        // What was released before matters only to the next deletions.
        if let Some(old) = self.servers.get_mut(name) {
            old.last_release.clone_from(&row.last_release);
        }
        let old = self.servers.get(name);
        if old == Some(&row) {
            return;
        }
        let admits_others = old.is_none_or(|old| old.allowed != row.allowed);
        if admits_others {
            self.mark_all_naming(name);
        }
        self.servers.insert(name.clone(), row);
        self.follow_delimiters();
        self.work_of(name.clone()).all = true;
        self.unreadable.remove_server(name);
        if admits_others {
            self.mark_all_naming(name);
        }
    }

    /// A `MailServer` is gone; its domains wait for another of that name.
    pub fn remove_server(&mut self, name: &ObjectName) {
        if self.unreadable.remove_server(name) {
            self.mark_all_naming(name);
        }
        if self.servers.contains_key(name) {
            self.mark_all_naming(name);
            self.servers.remove(name);
            self.follow_delimiters();
            self.work.remove(name);
            self.marks += 1;
            self.mark_all_naming(name);
        }
    }

    /// A namespace appeared or changed (`Some`), or is gone: what its objects may use depends on its labels.
    pub fn apply_namespace(&mut self, namespace: &str, labels: Option<Labels>) {
        let old = self.namespaces.labels(namespace);
        if old == labels.as_ref() {
            return;
        }
        let answers_otherwise = |allowed: &Allowed| allowed.matches(old) != allowed.matches(labels.as_ref());
        let server_answers_otherwise = |object: &ObjectName, server: &ObjectName| {
            &*object.namespace == namespace
                && self.servers.get(server).is_some_and(|row| answers_otherwise(&row.allowed))
        };
        let readable = self.domains.iter().filter(|(name, row)| {
            answers_otherwise(&row.allowed) || server_answers_otherwise(name, &row.server)
        });
        let unreadable =
            self.unreadable.domains().filter(|(name, server, _)| server_answers_otherwise(name, server));
        let affected: BTreeSet<_> = readable
            .map(|(_, row)| row.domain.clone())
            .chain(unreadable.map(|(_, _, domain)| domain.clone()))
            .collect();
        let admins = self.admins_affected(namespace, answers_otherwise);
        for domain in &affected {
            self.mark_domain(domain.as_str());
        }
        self.namespaces.set(namespace, labels);
        for domain in &affected {
            self.mark_domain(domain.as_str());
        }
        for username in &admins {
            self.mark_admin(username);
        }
    }

    /// A `MailDomain` appeared or changed.
    pub fn apply_domain(&mut self, name: ObjectName, row: DomainRow) {
        let id = ObjectId { kind: Kind::Domain, name: name.clone() };
        self.now_readable(&id);
        if self.domains.get_mut(&name).is_some_and(|old| old.changes_in_status_only(&row)) {
            return;
        }
        self.remove_domain(&name);
        let domain = row.domain.clone();
        // Before and after: the domain may move from one server to another.
        self.mark_domain(domain.as_str());
        let entry = self.by_domain.entry(domain.as_str().into()).or_default();
        let claim = Claim { created: row.meta.created, object: id };
        if !row.catch_all.is_empty() {
            entry.add(domain.catch_all().local_part(), claim.clone());
        }
        entry.add_domain(claim);
        if row.needs_transport() {
            *self.transports.entry(row.server.clone()).or_default() += 1;
        }
        if row.needs_transport() || row.ids.is_some() {
            self.configured.insert(Key::Domain(domain.clone()), name.clone());
        }
        if !row.catch_all.is_empty() {
            self.guarded.insert(Key::Domain(domain.clone()), name.clone());
        }
        if let Some(target) = row.alias_of.clone() {
            self.alias_domains.insert(target, (domain.clone(), name.clone()));
        }
        self.targets.add(&domain.catch_all(), &row.catch_all);
        self.domains.insert(name, row);
        self.mark_domain(domain.as_str());
    }

    /// A `MailDomain` is gone.
    pub fn remove_domain(&mut self, name: &ObjectName) {
        let Some(row) = self.domains.get(name) else { return };
        let domain = row.domain.clone();
        self.mark_domain(domain.as_str());
        self.mark_where_owned(&Key::Domain(domain.clone()));
        self.mark_where_owned(&Key::Address(domain.catch_all()));
        if let Some(row) = self.domains.remove(name) {
            self.forget_relations(name, &row);
        }
        let object = ObjectId { kind: Kind::Domain, name: name.clone() };
        if let Some(entry) = self.by_domain.get_mut(domain.as_str()) {
            entry.remove_domain(&object);
            entry.remove("", &object);
        }
        self.mark_domain(domain.as_str());
        self.drop_empty_entry(domain.as_str());
    }

    fn forget_relations(&mut self, name: &ObjectName, row: &DomainRow) {
        let key = Key::Domain(row.domain.clone());
        self.configured.remove(&key, name);
        self.guarded.remove(&key, name);
        if let Some(domains) = self.transports.get_mut(&row.server).filter(|_| row.needs_transport()) {
            *domains -= 1;
        }
        if let Some(target) = &row.alias_of {
            self.alias_domains.remove(target, &(row.domain.clone(), name.clone()));
        }
        self.targets.remove(&row.domain.catch_all(), &row.catch_all);
    }

    /// A `Mailbox` appeared or changed.
    pub fn apply_mailbox(&mut self, name: ObjectName, row: MailboxRow) {
        let id = ObjectId { kind: Kind::Mailbox, name: name.clone() };
        self.now_readable(&id);
        if self.mailboxes.get_mut(&name).is_some_and(|old| old.changes_in_status_only(&row)) {
            return;
        }
        let rerouted = self.mailboxes.get(&name).is_none_or(|old| !old.routes_as(&row));
        let old = self.forget_mailbox(&name);
        // Deleted and made anew between two lists, it may have another address.
        if let Some(old) = old.filter(|old| old.address != row.address) {
            self.mark_ways_to(&old.address);
        }
        let key = Key::Address(row.address.clone());
        if let Some(source) = &row.password {
            let secret = ObjectName::new(&name.namespace, &source.reference().name);
            self.secret_users.insert(secret, (key.clone(), name.clone()));
        }
        if row.ids.is_some() {
            self.configured.insert(key.clone(), name.clone());
        }
        if !row.active {
            self.guarded.insert(key.clone(), name.clone());
        }
        self.claim(&row.address, Claim { created: row.meta.created, object: id });
        self.targets.add(&row.address, &row.forward_to);
        if rerouted {
            self.mark_ways_to(&row.address);
        }
        self.mailboxes.insert(name, Box::new(row));
        self.mark(key);
    }

    /// A `Mailbox` is gone.
    pub fn remove_mailbox(&mut self, name: &ObjectName) {
        if let Some(row) = self.forget_mailbox(name) {
            self.mark_ways_to(&row.address);
        }
    }

    fn forget_mailbox(&mut self, name: &ObjectName) -> Option<Box<MailboxRow>> {
        let row = self.mailboxes.remove(name)?;
        self.targets.remove(&row.address, &row.forward_to);
        let key = Key::Address(row.address.clone());
        if let Some(source) = &row.password {
            let secret = ObjectName::new(&name.namespace, &source.reference().name);
            self.secret_users.remove(&secret, &(key.clone(), name.clone()));
        }
        self.mark(key.clone());
        self.mark_where_owned(&key);
        self.configured.remove(&key, name);
        self.guarded.remove(&key, name);
        self.disclaim(&row.address, &ObjectId { kind: Kind::Mailbox, name: name.clone() });
        Some(row)
    }

    /// A `MailAlias` appeared or changed.
    pub fn apply_alias(&mut self, name: ObjectName, row: AliasRow) {
        let id = ObjectId { kind: Kind::Alias, name: name.clone() };
        self.now_readable(&id);
        if self.aliases.get_mut(&name).is_some_and(|old| old.changes_in_status_only(&row)) {
            return;
        }
        self.remove_alias(&name);
        let key = Key::Address(row.address.clone());
        self.claim(&row.address, Claim { created: row.meta.created, object: id });
        self.targets.add(&row.address, &row.goto);
        if key.is_catch_all() {
            self.guarded.insert(key.clone(), name.clone());
        }
        self.mark_ways_to(&row.address);
        self.aliases.insert(name, Box::new(row));
        self.mark_alias(key);
    }

    /// A `MailAlias` is gone.
    pub fn remove_alias(&mut self, name: &ObjectName) {
        let Some(row) = self.aliases.remove(name) else { return };
        self.targets.remove(&row.address, &row.goto);
        self.mark_ways_to(&row.address);
        let key = Key::Address(row.address.clone());
        self.mark_alias(key.clone());
        self.mark_where_owned(&key);
        self.guarded.remove(&key, name);
        self.disclaim(&row.address, &ObjectId { kind: Kind::Alias, name: name.clone() });
    }

    fn claim(&mut self, address: &Address, claim: Claim) {
        self.by_domain.entry(address.domain().into()).or_default();
        self.change_claims(address, |entry| entry.add(address.local_part(), claim));
    }

    fn disclaim(&mut self, address: &Address, object: &ObjectId) {
        self.change_claims(address, |entry| entry.remove(address.local_part(), object));
        self.drop_empty_entry(address.domain());
    }

    fn change_claims(&mut self, address: &Address, change: impl FnOnce(&mut DomainEntry)) {
        let before = self.counted_as(address);
        self.by_domain.get_mut(address.domain()).map(change);
        let after = self.counted_as(address);
        if let Some(entry) = self.by_domain.get_mut(address.domain()) {
            entry.recount(before, after);
        }
        self.touch_limits(address.domain());
        self.mark_counts(address);
    }

    /// The kind of object that gets an address, where somebody counts them.
    fn counted_as(&self, address: &Address) -> Option<Kind> {
        let entry = self.entry(address.domain()).filter(|entry| entry.counts_winners())?;
        let winner = self.winner_among(address.domain(), entry.claims(address.local_part()))?;
        Some(winner.object.kind)
    }

    fn drop_empty_entry(&mut self, domain: &str) {
        if self.by_domain.get(domain).is_some_and(DomainEntry::is_empty) {
            self.by_domain.remove(domain);
        }
    }

    /// An object of any account kind is gone.
    pub fn remove(&mut self, id: &ObjectId) {
        self.now_readable(id);
        match id.kind {
            Kind::Domain => self.remove_domain(&id.name),
            Kind::Mailbox => self.remove_mailbox(&id.name),
            Kind::Alias => self.remove_alias(&id.name),
            Kind::Admin => self.remove_admin(&id.name),
        }
    }

    /// A Secret appeared or changed: the mailboxes and admins that refer to it are touched.
    pub fn apply_secret(&mut self, name: ObjectName, version: Box<str>) {
        if self.secret_versions.get(&name) != Some(&version) {
            self.mark_secret_users(&name);
            self.secret_versions.insert(name, version);
        }
    }

    /// A Secret is gone.
    pub fn remove_secret(&mut self, name: &ObjectName) {
        if self.secret_versions.remove(name).is_some() {
            self.mark_secret_users(name);
        }
    }

    /// Remembers the fingerprint of a status that was just patched, so that it isn't patched again before its event comes;
    /// what an event says that came first is newer.
    pub fn patched(&mut self, id: &ObjectId, status: rows::SeenStatus) {
        let meta = match id.kind {
            Kind::Domain => self.domains.get_mut(&id.name).map(|row| &mut row.meta),
            Kind::Mailbox => self.mailboxes.get_mut(&id.name).map(|row| &mut row.meta),
            Kind::Alias => self.aliases.get_mut(&id.name).map(|row| &mut row.meta),
            Kind::Admin => self.admins.rows.get_mut(&id.name).map(|row| &mut row.meta),
        };
        if let Some(meta) = meta.filter(|meta| meta.status.version <= status.version || status.version == 0) {
            meta.status = status;
        }
    }
}

#[cfg(test)]
mod tests;
