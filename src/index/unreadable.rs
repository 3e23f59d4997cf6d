//! Objects that exist and can't be parsed, as after a downgrade: what they own is left alone.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::rows::{Kind, ObjectId};
use super::{Claim, Held, Index, Key};
use crate::api::DomainName;
use crate::object::ObjectName;

/// What can be said of an account object that can't be parsed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Outline {
    /// `metadata.uid`
    pub uid: Box<str>,
    /// `metadata.creationTimestamp`, seconds since 1970.
    pub created: i64,
    /// The domain that a `MailDomain` declares, if that much can be read.
    pub domain: Option<DomainName>,
    /// The `MailServer` that it names, if that much can be read.
    pub server: Option<ObjectName>,
}

/// What can't be parsed.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    accounts: HashMap<ObjectId, Outline>,
    servers: BTreeSet<ObjectName>,
}

impl Unreadable {
    pub(super) fn outline(&self, id: &ObjectId) -> Option<&Outline> {
        self.accounts.get(id)
    }

    /// The `MailDomain`s of which the domain and the server can be read.
    pub(super) fn domains(&self) -> impl Iterator<Item = (&ObjectName, &ObjectName, &DomainName)> {
        let domains = self.accounts.iter().filter(|(id, _)| id.kind == Kind::Domain);
        domains
            .filter_map(|(id, outline)| Some((&id.name, outline.server.as_ref()?, outline.domain.as_ref()?)))
    }

    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &ObjectName> {
        self.accounts.keys().filter(move |id| id.kind == kind).map(|id| &id.name)
    }

    /// Tells whether it was among them.
    pub(super) fn remove_server(&mut self, name: &ObjectName) -> bool {
        self.servers.remove(name)
    }
}

impl Index {
    /// An account object exists that can't be parsed. Its last readable row, if any, goes on counting; a `MailDomain` without
    /// one claims its domain all the same, if that can be read.
    pub fn apply_unreadable(&mut self, id: ObjectId, outline: Outline) {
        if self.unreadable.accounts.get(&id) == Some(&outline) {
            return;
        }
        self.disclaim_unreadable(&id);
        let claim = Claim { created: outline.created, object: id.clone() };
        let is_new_domain = id.kind == Kind::Domain && self.meta(&id).is_none();
        let domain = outline.domain.clone().filter(|_| is_new_domain);
        self.unreadable.accounts.insert(id, outline);
        if let Some(domain) = domain {
            self.mark_domain(domain.as_str());
            self.by_domain.entry(domain.as_str().into()).or_default().add_domain(claim);
            self.mark_domain(domain.as_str());
        }
        if is_new_domain {
            self.mark_without_holder();
        }
        self.need_anew();
    }

    /// Takes the claim away that an unreadable `MailDomain` has on its domain.
    fn disclaim_unreadable(&mut self, id: &ObjectId) {
        let Some(outline) = self.unreadable.accounts.remove(id).filter(|_| self.meta(id).is_none()) else {
            return;
        };
        let Some(domain) = outline.domain else { return };
        self.mark_domain(domain.as_str());
        if let Some(entry) = self.by_domain.get_mut(domain.as_str()) {
            entry.remove_domain(id);
        }
        self.mark_domain(domain.as_str());
        self.drop_empty_entry(domain.as_str());
    }

    /// A `MailServer` exists that can't be parsed. Its last readable row, if any, goes on counting.
    pub fn apply_unreadable_server(&mut self, name: &ObjectName) {
        if self.unreadable.servers.insert(name.clone()) {
            self.mark_all_naming(name);
        }
    }

    /// An account object can be parsed, or is gone. Where nothing was known of it, nobody knows which rows waited for that.
    pub(super) fn now_readable(&mut self, id: &ObjectId) {
        if !self.unreadable.accounts.contains_key(id) {
            return;
        }
        self.disclaim_unreadable(id);
        if self.meta(id).is_some() {
            return;
        }
        for server in self.server_names() {
            self.work_of(server).all = true;
        }
        self.need_anew();
        if id.kind == Kind::Domain {
            self.mark_without_holder();
        }
    }

    /// What Postfix needs for an object that can't be read, nobody knows.
    fn need_anew(&mut self) {
        for server in self.server_names() {
            *self.needs.entry(server).or_default() += 1;
        }
    }

    /// Whether an object of one of some kinds, of which nothing readable is known, may be served by `server`.
    pub(super) fn may_serve_unreadable(&self, server: &ObjectName, kinds: &[Kind]) -> bool {
        self.unreadable.accounts.iter().any(|(id, outline)| {
            let may_name = outline.server.as_ref().is_none_or(|named| named == server);
            kinds.contains(&id.kind) && may_name && self.meta(id).is_none()
        })
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
        self.unreadable.accounts.values().any(|outline| *outline.uid == *uid)
    }

    /// Whether any account object exists that can't be parsed.
    #[must_use]
    pub fn has_unreadable(&self) -> bool {
        !self.unreadable.accounts.is_empty()
    }

    /// Whether a `MailDomain` of which nothing readable is known may hold its domain: its server admits it, or isn't known.
    pub(super) fn unreadable_may_hold(&self, id: &ObjectId) -> bool {
        let outline = self.unreadable.outline(id).filter(|_| self.meta(id).is_none());
        let server = outline.map(|outline| outline.server.as_ref());
        server.is_some_and(|server| {
            server.is_none_or(|server| self.admitting(server, &id.name.namespace).is_some())
        })
    }

    /// A `MailDomain` that can't be read and holds `domain`, or may hold it: nobody is known to declare it, nor what that object
    /// declares.
    #[must_use]
    pub fn unreadable_holder(&self, domain: &str) -> Option<&ObjectName> {
        if let Some(held) = self.entry(domain).and_then(|entry| Held::of(self, entry)) {
            return held.err().map(|unreadable| &unreadable.name);
        }
        let mut unreadable = self.unreadable.accounts.iter().filter(|(id, outline)| {
            id.kind == Kind::Domain && outline.domain.is_none() && self.domain(&id.name).is_none()
        });
        unreadable.next().map(|(id, _)| &id.name)
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
