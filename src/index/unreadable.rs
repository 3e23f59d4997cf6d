//! Objects that exist and can't be parsed, as after a downgrade: what they own is left alone.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::rows::{Kind, ObjectId};
use super::{Index, Key};
use crate::object::ObjectName;

/// What can't be parsed.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// Account objects, with their uids.
    accounts: HashMap<ObjectId, Box<str>>,
    servers: BTreeSet<ObjectName>,
}

impl Unreadable {
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &ObjectName> {
        self.accounts.keys().filter(move |id| id.kind == kind).map(|id| &id.name)
    }

    /// Tells whether it was among them.
    pub(super) fn remove_server(&mut self, name: &ObjectName) -> bool {
        self.servers.remove(name)
    }
}

impl Index {
    /// An account object exists that can't be parsed. Its last readable row, if any, goes on counting.
    pub fn apply_unreadable(&mut self, id: ObjectId, uid: Box<str>) {
        let is_new_domain = id.kind == Kind::Domain && self.meta(&id).is_none();
        self.unreadable.accounts.insert(id, uid);
        if is_new_domain {
            self.mark_without_holder();
        }
    }

    /// A `MailServer` exists that can't be parsed. Its last readable row, if any, goes on counting.
    pub fn apply_unreadable_server(&mut self, name: &ObjectName) {
        if self.unreadable.servers.insert(name.clone()) {
            self.mark_all_naming(name);
        }
    }

    /// An account object can be parsed, or is gone. Where nothing was known of it, nobody knows which rows waited for that.
    pub(super) fn now_readable(&mut self, id: &ObjectId) {
        if self.unreadable.accounts.remove(id).is_none() || self.meta(id).is_some() {
            return;
        }
        for server in self.server_names() {
            self.work_of(server).all = true;
        }
        if id.kind == Kind::Domain {
            self.mark_without_holder();
        }
    }

    /// What is told of addresses in domains that nobody is known to hold may be another sentence now.
    fn mark_without_holder(&mut self) {
        let domains = self.by_domain.iter().filter(|(_, entry)| entry.domain_claims().is_empty());
        let keys: Vec<Key> = domains.flat_map(|(domain, entry)| entry.keys(domain)).collect();
        for key in keys {
            self.mark_unserved(key);
        }
    }

    /// Whether an account object with this uid exists and can't be parsed.
    #[must_use]
    pub fn is_unreadable(&self, uid: &str) -> bool {
        self.unreadable.accounts.values().any(|unreadable| **unreadable == *uid)
    }

    /// Whether any account object exists that can't be parsed.
    #[must_use]
    pub fn has_unreadable(&self) -> bool {
        !self.unreadable.accounts.is_empty()
    }

    /// A `MailDomain` that may hold `domain`: nobody else holds it, and nothing is known of that object but its name.
    #[must_use]
    pub fn unreadable_holder(&self, domain: &str) -> Option<&ObjectName> {
        let mut unreadable = self.unreadable.of_kind(Kind::Domain).filter(|name| self.domain(name).is_none());
        unreadable.next().filter(|_| self.holder(domain).is_none())
    }

    /// Whether nothing is known of a `MailServer` but its name.
    #[must_use]
    pub fn is_unreadable_server(&self, name: &ObjectName) -> bool {
        self.unreadable.servers.contains(name) && self.server(name).is_none()
    }

    /// The names of all servers that exist, readable or not.
    #[must_use]
    pub fn existing_servers(&self) -> BTreeSet<ObjectName> {
        self.servers.keys().chain(&self.unreadable.servers).cloned().collect()
    }
}
