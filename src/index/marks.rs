//! Which keys an event touches, until a set loop takes them.

use std::collections::BTreeSet;

use super::rows::{Kind, ObjectId};
use super::{DomainEntry, Index, Key, Work};
use crate::api::DomainName;
use crate::object::ObjectName;

impl Index {
    pub(super) fn mark_all_naming(&mut self, server: &ObjectName) {
        let readable = self.domains.values().map(|row| (&row.server, &row.domain));
        let unreadable = self.unreadable.domains().map(|(_, server, domain)| (server, domain));
        let naming = readable.chain(unreadable).filter(|(named, _)| *named == server);
        let domains: BTreeSet<_> = naming.map(|(_, domain)| domain.clone()).collect();
        for domain in domains {
            self.mark_domain(domain.as_str());
        }
        self.mark_admins_naming(server);
    }

    /// The status of a `MailDomain` counts the addresses in it.
    pub(super) fn mark_counts(&mut self, address: &crate::api::Address) {
        let Some((_, row)) = self.holder(address.domain()) else { return };
        let domain = row.domain.clone();
        match self.server_of(domain.as_str()).cloned() {
            Some(server) => {
                self.work_of(server).counted.insert(domain);
            }
            None => self.mark(Key::Domain(domain)),
        }
    }

    pub(super) fn touch_limits(&mut self, domain: &str) {
        if self.by_domain.get_mut(domain).is_some_and(DomainEntry::touch_allotment) {
            self.relimited.insert(domain.into());
        }
    }

    pub(super) fn mark_secret_users(&mut self, secret: &ObjectName) {
        let keys: Vec<Key> = self.secret_users.of(secret).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.mark(key);
        }
    }

    pub(super) fn mark(&mut self, key: Key) {
        if let Key::Admin(username) = &key {
            return self.mark_admin(username);
        }
        match self.server_of(key.domain()).cloned() {
            Some(server) => {
                if matches!(key, Key::Domain(_))
                    || self.configured.contains_key(&key)
                    || self.guarded.contains_key(&key)
                {
                    *self.needs.entry(server.clone()).or_default() += 1;
                }
                let beside = self.told_beside(&key);
                let work = self.work_of(server);
                work.keys.extend(beside);
                work.keys.insert(key);
            }
            None => self.mark_unserved(key),
        }
    }

    /// The work of a server, to be added to.
    pub(super) fn work_of(&mut self, server: ObjectName) -> &mut Work {
        self.marks += 1;
        self.work.entry(server).or_default()
    }

    pub(super) fn mark_unserved(&mut self, key: Key) {
        self.marks += 1;
        self.unserved.insert(key);
    }

    /// A number that grows whenever there is something new for a set loop to look at.
    #[must_use]
    pub fn marks(&self) -> u64 {
        self.marks
    }

    /// The key that is to be looked at with `key`: a `MailDomain` is told under its domain what becomes of its catch-all.
    #[must_use]
    pub fn told_beside(&self, key: &Key) -> Option<Key> {
        match key {
            Key::Domain(domain) => {
                let claims = self.entry(domain.as_str())?.claims("");
                (!claims.is_empty()).then(|| Key::Address(domain.catch_all()))
            }
            Key::Address(_) if key.is_catch_all() => DomainName::parse(key.domain()).ok().map(Key::Domain),
            _ => None,
        }
    }

    /// Of a key that no server serves any more any of them may still own rows, which depend on the object that changes or goes.
    pub(super) fn mark_where_owned(&mut self, key: &Key) {
        if self.server_of(key.domain()).is_none() {
            for server in self.server_names() {
                self.work_of(server).keys.insert(key.clone());
            }
        }
    }

    /// A catch-all decides about the domain's verdict and about the identity rows of its disabled mailboxes as well.
    pub(super) fn mark_alias(&mut self, key: Key) {
        if key.is_catch_all() {
            self.mark_domain(key.domain());
        }
        self.mark(key);
    }

    pub(super) fn mark_domain(&mut self, domain: &str) {
        let aliases: Vec<DomainName> = DomainName::parse(domain)
            .map(|target| self.alias_domains.of(&target).map(|(alias, _)| alias.clone()).collect())
            .unwrap_or_default();
        for alias in aliases {
            self.mark(Key::Domain(alias));
        }
        self.mark_admins_of(domain);
        self.mark_ways_into(domain);
        let Some(entry) = self.by_domain.get_mut(domain) else { return };
        entry.forget_winners();
        for key in entry.keys(domain) {
            self.mark(key);
        }
    }

    /// Has all looked at that depends on some domains.
    pub fn reconsider<'a>(&mut self, domains: impl IntoIterator<Item = &'a DomainName>) {
        for domain in domains {
            self.mark_domain(domain.as_str());
        }
    }

    /// Takes what a server's set loop has to look at.
    pub fn take_work(&mut self, server: &ObjectName) -> Work {
        self.mark_relimited();
        self.work.get_mut(server).map(std::mem::take).unwrap_or_default()
    }

    /// Where something changed in a domain with limits, others may fit now or not any more.
    pub(super) fn mark_relimited(&mut self) {
        for domain in std::mem::take(&mut self.relimited) {
            let before = self.by_domain.get_mut(&domain).and_then(DomainEntry::take_allotment_before);
            let Some((before, now)) = before.zip(self.allotment(&domain)) else { continue };
            let objects: Vec<ObjectId> = before.differences(now).cloned().collect();
            if let Some(key) =
                DomainName::parse(&domain).ok().filter(|_| !objects.is_empty()).map(Key::Domain)
            {
                self.mark(key);
            }
            for object in objects {
                let key = match object.kind {
                    Kind::Domain => self.domains.get(&object.name).map(|row| row.domain.catch_all()),
                    Kind::Mailbox => self.mailboxes.get(&object.name).map(|row| row.address.clone()),
                    Kind::Alias => self.aliases.get(&object.name).map(|row| row.address.clone()),
                    Kind::Admin => None,
                };
                if let Some(address) = key {
                    self.mark(Key::Address(address));
                }
            }
        }
    }

    /// Gives work back that was taken and has to wait.
    pub fn give_back(&mut self, server: &ObjectName, work: Work) {
        if let Some(left) = self.work.get_mut(server) {
            left.all |= work.all;
            left.keys.extend(work.keys);
            left.counted.extend(work.counted);
        }
    }

    /// Whether a server's set loop has anything to look at.
    #[must_use]
    pub fn has_work(&self, server: &ObjectName) -> bool {
        self.work.get(server).is_some_and(|work| !work.is_empty())
    }

    /// Whether there are touched keys that no server serves.
    #[must_use]
    pub fn has_unserved(&self) -> bool {
        !self.unserved.is_empty()
    }

    /// Takes the touched keys that no server serves: their objects wait for a verdict all the same.
    pub fn take_unserved(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.unserved)
    }
}
