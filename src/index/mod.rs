//! What all watch events together say, in small rows, and which keys of the tables an event touches.
//!
//! Pure: no client, no clock, no database. Rooms that watch call `apply_*` and `remove_*`; the set loops take the
//! touched keys with [`Index::take_work`] and ask [`crate::desired`] what should stand there.

mod claims;
mod key;
mod limits;
mod namespaces;
pub mod rows;
mod targets;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub use claims::{Claim, DomainEntry};
pub use key::Key;
pub use limits::{Allotment, Exceeded};
pub use namespaces::{Allowed, Labels};
use rows::{AliasRow, DomainRow, Kind, MailboxRow, ObjectId, Row, ServerRow};

pub use work::Work;

use crate::api::DomainName;
use crate::object::ObjectName;
use namespaces::Namespaces;
use targets::Targets;

/// Everything that is declared.
#[derive(Debug, Default)]
pub struct Index {
    servers: BTreeMap<ObjectName, ServerRow>,
    domains: HashMap<ObjectName, DomainRow>,
    mailboxes: HashMap<ObjectName, MailboxRow>,
    aliases: HashMap<ObjectName, AliasRow>,
    by_domain: BTreeMap<Arc<str>, DomainEntry>,
    namespaces: Namespaces,
    alias_domains: HashMap<DomainName, BTreeSet<(DomainName, ObjectName)>>,
    targets: Targets,
    /// How many domains with a transport of their own name a server.
    transports: HashMap<ObjectName, usize>,
    /// Keys whose objects are more than rows: Postfix's configuration depends on their transport or their owner.
    configured: BTreeMap<Key, BTreeSet<ObjectName>>,
    /// Grows with each change of what a server's configuration depends on.
    needs: HashMap<ObjectName, u64>,
    unreadable: HashMap<ObjectId, Box<str>>,
    secret_versions: HashMap<ObjectName, Box<str>>,
    secret_users: HashMap<ObjectName, BTreeSet<Key>>,
    work: BTreeMap<ObjectName, Work>,
    unserved: BTreeSet<Key>,
    /// Domains with limits in which something changed.
    relimited: BTreeSet<Arc<str>>,
}

impl Index {
    /// A `MailServer` appeared or changed.
    pub fn apply_server(&mut self, name: &ObjectName, row: ServerRow) {
        let old = self.servers.get(name);
        if old == Some(&row) {
            return;
        }
        let admits_others = old.is_none_or(|old| old.allowed != row.allowed);
        if admits_others {
            self.mark_domains_naming(name);
        }
        self.servers.insert(name.clone(), row);
        self.work.entry(name.clone()).or_default().all = true;
        if admits_others {
            self.mark_domains_naming(name);
        }
    }

    /// A `MailServer` is gone; its domains wait for another of that name.
    pub fn remove_server(&mut self, name: &ObjectName) {
        if self.servers.contains_key(name) {
            self.mark_domains_naming(name);
            self.servers.remove(name);
            self.work.remove(name);
            self.mark_domains_naming(name);
        }
    }

    fn mark_domains_naming(&mut self, server: &ObjectName) {
        let domains: BTreeSet<_> =
            self.domains.values().filter(|row| row.server == *server).map(|row| row.domain.clone()).collect();
        for domain in domains {
            self.mark_domain(domain.as_str());
        }
    }

    /// A namespace appeared or changed (`Some`), or is gone: what its objects may use depends on its labels.
    pub fn apply_namespace(&mut self, namespace: &str, labels: Option<Labels>) {
        let old = self.namespaces.labels(namespace);
        if old == labels.as_ref() {
            return;
        }
        let answers_otherwise = |allowed: &Allowed| allowed.matches(old) != allowed.matches(labels.as_ref());
        let affected: BTreeSet<_> = self
            .domains
            .iter()
            .filter(|(name, row)| {
                let server = || self.servers.get(&row.server);
                answers_otherwise(&row.allowed)
                    || (&*name.namespace == namespace
                        && server().is_some_and(|server| answers_otherwise(&server.allowed)))
            })
            .map(|(_, row)| row.domain.clone())
            .collect();
        for domain in &affected {
            self.mark_domain(domain.as_str());
        }
        self.namespaces.set(namespace, labels);
        for domain in &affected {
            self.mark_domain(domain.as_str());
        }
    }

    /// The names of all known namespaces.
    #[must_use]
    pub fn namespace_names(&self) -> Vec<String> {
        self.namespaces.names().map(str::to_owned).collect()
    }

    /// A `MailDomain` appeared or changed.
    pub fn apply_domain(&mut self, name: ObjectName, row: DomainRow) {
        let id = ObjectId { kind: Kind::Domain, name: name.clone() };
        self.unreadable.remove(&id);
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
        if row.has_transport() {
            *self.transports.entry(row.server.clone()).or_default() += 1;
        }
        if row.has_transport() || row.ids.is_some() {
            self.configured.entry(Key::Domain(domain.clone())).or_default().insert(name.clone());
        }
        if let Some(target) = row.alias_of.clone() {
            self.alias_domains.entry(target).or_default().insert((domain.clone(), name.clone()));
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
        self.forget_configured(&Key::Domain(row.domain.clone()), name);
        if let Some(domains) = self.transports.get_mut(&row.server).filter(|_| row.has_transport()) {
            *domains -= 1;
        }
        if let Some(target) = &row.alias_of
            && let Some(aliases) = self.alias_domains.get_mut(target)
        {
            aliases.remove(&(row.domain.clone(), name.clone()));
        }
        self.targets.remove(&row.domain.catch_all(), &row.catch_all);
    }

    fn forget_configured(&mut self, key: &Key, name: &ObjectName) {
        if let Some(names) = self.configured.get_mut(key) {
            names.remove(name);
            if names.is_empty() {
                self.configured.remove(key);
            }
        }
    }

    /// A `Mailbox` appeared or changed.
    pub fn apply_mailbox(&mut self, name: ObjectName, row: MailboxRow) {
        let id = ObjectId { kind: Kind::Mailbox, name: name.clone() };
        self.unreadable.remove(&id);
        if self.mailboxes.get_mut(&name).is_some_and(|old| old.changes_in_status_only(&row)) {
            return;
        }
        let rerouted = self.mailboxes.get(&name).is_none_or(|old| !old.routes_as(&row));
        self.forget_mailbox(&name);
        let key = Key::Address(row.address.clone());
        if let Some(source) = &row.password {
            let secret = ObjectName::new(&name.namespace, &source.reference().name);
            self.secret_users.entry(secret).or_default().insert(key.clone());
        }
        if row.ids.is_some() {
            self.configured.entry(key.clone()).or_default().insert(name.clone());
        }
        self.claim(&row.address, Claim { created: row.meta.created, object: id });
        self.targets.add(&row.address, &row.forward_to);
        if rerouted {
            self.mark_ways_to(&row.address);
        }
        self.mailboxes.insert(name, row);
        self.mark(key);
    }

    /// A `Mailbox` is gone.
    pub fn remove_mailbox(&mut self, name: &ObjectName) {
        if let Some(row) = self.forget_mailbox(name) {
            self.mark_ways_to(&row.address);
        }
    }

    fn forget_mailbox(&mut self, name: &ObjectName) -> Option<MailboxRow> {
        let row = self.mailboxes.remove(name)?;
        self.targets.remove(&row.address, &row.forward_to);
        let key = Key::Address(row.address.clone());
        if let Some(source) = &row.password {
            let secret = ObjectName::new(&name.namespace, &source.reference().name);
            if let Some(users) = self.secret_users.get_mut(&secret) {
                users.remove(&key);
                if users.is_empty() {
                    self.secret_users.remove(&secret);
                }
            }
        }
        self.mark(key.clone());
        self.forget_configured(&key, name);
        self.disclaim(&row.address, &ObjectId { kind: Kind::Mailbox, name: name.clone() });
        Some(row)
    }

    /// A `MailAlias` appeared or changed.
    pub fn apply_alias(&mut self, name: ObjectName, row: AliasRow) {
        let id = ObjectId { kind: Kind::Alias, name: name.clone() };
        self.unreadable.remove(&id);
        if self.aliases.get_mut(&name).is_some_and(|old| old.changes_in_status_only(&row)) {
            return;
        }
        self.remove_alias(&name);
        let key = Key::Address(row.address.clone());
        self.claim(&row.address, Claim { created: row.meta.created, object: id });
        self.targets.add(&row.address, &row.goto);
        self.mark_ways_to(&row.address);
        self.aliases.insert(name, row);
        self.mark_alias(key);
    }

    /// A `MailAlias` is gone.
    pub fn remove_alias(&mut self, name: &ObjectName) {
        let Some(row) = self.aliases.remove(name) else { return };
        self.targets.remove(&row.address, &row.goto);
        self.mark_ways_to(&row.address);
        self.mark_alias(Key::Address(row.address.clone()));
        self.disclaim(&row.address, &ObjectId { kind: Kind::Alias, name: name.clone() });
    }

    fn claim(&mut self, address: &crate::api::Address, claim: Claim) {
        self.by_domain.entry(address.domain().into()).or_default().add(address.local_part(), claim);
        self.touch_limits(address.domain());
        self.mark_counts(address);
    }

    /// The status of a `MailDomain` counts the addresses in it.
    fn mark_counts(&mut self, address: &crate::api::Address) {
        let Some((_, row)) = self.holder(address.domain()) else { return };
        let domain = row.domain.clone();
        match self.server_of(domain.as_str()).cloned() {
            Some(server) => {
                self.work.entry(server).or_default().counted.insert(domain);
            }
            None => self.mark(Key::Domain(domain)),
        }
    }

    fn disclaim(&mut self, address: &crate::api::Address, object: &ObjectId) {
        if let Some(entry) = self.by_domain.get_mut(address.domain()) {
            entry.remove(address.local_part(), object);
        }
        self.touch_limits(address.domain());
        self.mark_counts(address);
        self.drop_empty_entry(address.domain());
    }

    fn touch_limits(&mut self, domain: &str) {
        if self.by_domain.get_mut(domain).is_some_and(DomainEntry::touch_allotment) {
            self.relimited.insert(domain.into());
        }
    }

    fn drop_empty_entry(&mut self, domain: &str) {
        if self.by_domain.get(domain).is_some_and(DomainEntry::is_empty) {
            self.by_domain.remove(domain);
        }
    }

    /// An object exists that can't be parsed: what it owns is left alone. Its last readable row, if any, goes on counting.
    pub fn apply_unreadable(&mut self, id: ObjectId, uid: Box<str>) {
        self.unreadable.insert(id, uid);
    }

    /// An object of any account kind is gone.
    pub fn remove(&mut self, id: &ObjectId) {
        self.unreadable.remove(id);
        match id.kind {
            Kind::Domain => self.remove_domain(&id.name),
            Kind::Mailbox => self.remove_mailbox(&id.name),
            Kind::Alias => self.remove_alias(&id.name),
        }
    }

    /// Names of all known objects of a kind, readable or not: a full list removes those that it doesn't hold.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<ObjectName> {
        let mut names: Vec<_> = match kind {
            Kind::Domain => self.domains.keys().cloned().collect(),
            Kind::Mailbox => self.mailboxes.keys().cloned().collect(),
            Kind::Alias => self.aliases.keys().cloned().collect(),
        };
        names.extend(self.unreadable.keys().filter(|id| id.kind == kind).map(|id| id.name.clone()));
        names
    }

    /// Whether an object with this uid exists and can't be parsed.
    #[must_use]
    pub fn is_unreadable(&self, uid: &str) -> bool {
        !self.unreadable.is_empty() && self.unreadable.values().any(|unreadable| **unreadable == *uid)
    }

    /// A Secret appeared or changed: the mailboxes that refer to it are touched.
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

    fn mark_secret_users(&mut self, secret: &ObjectName) {
        for key in self.secret_users.get(secret).cloned().unwrap_or_default() {
            self.mark(key);
        }
    }

    /// The names of all known Secrets.
    #[must_use]
    pub fn secret_names(&self) -> Vec<ObjectName> {
        self.secret_versions.keys().cloned().collect()
    }

    /// The `resourceVersion` of a Secret, `None` where there is no such Secret.
    #[must_use]
    pub fn secret_version(&self, name: &ObjectName) -> Option<&str> {
        self.secret_versions.get(name).map(AsRef::as_ref)
    }

    /// The names of all known servers.
    #[must_use]
    pub fn server_names(&self) -> Vec<ObjectName> {
        self.servers.keys().cloned().collect()
    }

    /// The row of a server.
    #[must_use]
    pub fn server(&self, name: &ObjectName) -> Option<&ServerRow> {
        self.servers.get(name)
    }

    /// The row of a `MailDomain`.
    #[must_use]
    pub fn domain(&self, name: &ObjectName) -> Option<&DomainRow> {
        self.domains.get(name)
    }

    /// The row of a `Mailbox`.
    #[must_use]
    pub fn mailbox(&self, name: &ObjectName) -> Option<&MailboxRow> {
        self.mailboxes.get(name)
    }

    /// The row of a `MailAlias`.
    #[must_use]
    pub fn alias(&self, name: &ObjectName) -> Option<&AliasRow> {
        self.aliases.get(name)
    }

    /// Who claims a domain and the addresses in it.
    #[must_use]
    pub fn entry(&self, domain: &str) -> Option<&DomainEntry> {
        self.by_domain.get(domain)
    }

    /// The `MailDomain` that holds a domain: the oldest whose server exists and admits it, else the oldest.
    #[must_use]
    pub fn holder(&self, domain: &str) -> Option<(&ObjectId, &DomainRow)> {
        let claims = self.entry(domain)?.domain_claims();
        let row = |claim: &'_ Claim| self.domains.get(&claim.object.name);
        let served = claims
            .iter()
            .find(|claim| row(claim).is_some_and(|row| self.server_admits(&claim.object.name, row)));
        let claim = served.or(claims.first())?;
        Some((&claim.object, row(claim)?))
    }

    /// Whether the server that a `MailDomain` names exists and admits it.
    #[must_use]
    pub fn server_admits(&self, domain: &ObjectName, row: &DomainRow) -> bool {
        self.servers.get(&row.server).is_some_and(|server| {
            self.namespaces.admits(&server.allowed, &row.server.namespace, &domain.namespace)
        })
    }

    /// Whether a `MailDomain` admits objects of a namespace.
    #[must_use]
    pub fn domain_admits(&self, domain: &ObjectName, row: &DomainRow, namespace: &str) -> bool {
        self.namespaces.admits(&row.allowed, &domain.namespace, namespace)
    }

    /// The server that serves a domain, if a `MailDomain` holds it and its server exists and admits it.
    #[must_use]
    pub fn server_of(&self, domain: &str) -> Option<&ObjectName> {
        let (holder, row) = self.holder(domain)?;
        let (name, _) = self.servers.get_key_value(&row.server)?;
        self.server_admits(&holder.name, row).then_some(name)
    }

    /// A number that grows with each change of what the configuration of `server` depends on beside its own object.
    #[must_use]
    pub fn needs_version(&self, server: &ObjectName) -> u64 {
        self.needs.get(server).copied().unwrap_or_default()
    }

    /// The keys that `server` serves and whose objects name a transport or an owner.
    pub fn configured_keys<'a>(&'a self, server: &'a ObjectName) -> impl Iterator<Item = &'a Key> {
        self.configured.keys().filter(move |key| self.server_of(key.domain()) == Some(server))
    }

    /// Whether a `MailDomain` that names `server` has a transport of its own: only then Postfix needs to look them up.
    #[must_use]
    pub fn has_transports(&self, server: &ObjectName) -> bool {
        self.transports.get(server).is_some_and(|domains| *domains > 0)
    }

    /// All keys that anything declares and that `server` serves, in order.
    #[must_use]
    pub fn keys_of(&self, server: &ObjectName) -> Vec<Key> {
        let domains = self.by_domain.iter().filter(|(domain, _)| self.server_of(domain) == Some(server));
        domains.flat_map(|(domain, entry)| entry.keys(domain)).collect()
    }

    fn mark(&mut self, key: Key) {
        match self.server_of(key.domain()).cloned() {
            Some(server) => {
                if self.configured.contains_key(&key) {
                    *self.needs.entry(server.clone()).or_default() += 1;
                }
                self.work.entry(server).or_default().keys.insert(key);
            }
            None => {
                self.unserved.insert(key);
            }
        }
    }

    /// A catch-all decides about the domain's verdict and about the identity rows of its disabled mailboxes as well.
    fn mark_alias(&mut self, key: Key) {
        if key.is_catch_all() {
            self.mark_domain(key.domain());
        }
        self.mark(key);
    }

    fn mark_domain(&mut self, domain: &str) {
        let aliases = DomainName::parse(domain).ok().and_then(|target| self.alias_domains.get(&target));
        for (alias, _) in aliases.cloned().unwrap_or_default() {
            self.mark(Key::Domain(alias));
        }
        self.mark_ways_into(domain);
        let Some(entry) = self.by_domain.get_mut(domain) else { return };
        entry.forget_allotment();
        for key in entry.keys(domain) {
            self.mark(key);
        }
    }

    /// Takes what a server's set loop has to look at.
    pub fn take_work(&mut self, server: &ObjectName) -> Work {
        self.mark_relimited();
        self.work.get_mut(server).map(std::mem::take).unwrap_or_default()
    }

    /// Where something changed in a domain with limits, others may fit now or not any more.
    fn mark_relimited(&mut self) {
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
                };
                if let Some(address) = key {
                    self.mark(Key::Address(address));
                }
            }
        }
    }

    /// How the limits of a domain are used; `None` where it has none.
    #[must_use]
    pub fn allotment(&self, domain: &str) -> Option<&Allotment> {
        let (_, row) = self.holder(domain)?;
        let (entry, limits) = self.entry(domain).zip(row.limits)?;
        Some(entry.allotment(|| limits::allot(self, domain, entry, limits)))
    }

    /// Who gets an address that is claimed so: the oldest from a namespace that the holder of the domain admits.
    #[must_use]
    pub fn winner_among<'a>(&self, domain: &str, claims: &'a [Claim]) -> Option<&'a Claim> {
        let holder = self.holder(domain)?;
        claims.iter().find(|claim| self.may_have(claim, holder))
    }

    /// Whether an object may claim an address in a domain held by `holder`.
    #[must_use]
    pub fn may_have(&self, claim: &Claim, (holder, row): (&ObjectId, &DomainRow)) -> bool {
        match claim.object.kind {
            Kind::Domain => claim.object == *holder,
            Kind::Mailbox | Kind::Alias => {
                self.domain_admits(&holder.name, row, &claim.object.name.namespace)
            }
        }
    }

    /// Whether a server's set loop has anything to look at.
    #[must_use]
    pub fn has_work(&self, server: &ObjectName) -> bool {
        self.work.get(server).is_some_and(|work| !work.is_empty())
    }

    /// Takes the touched keys that no server serves: their objects wait for a verdict all the same.
    pub fn take_unserved(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.unserved)
    }

    /// Remembers the fingerprint of a status that was just patched, so that it isn't patched again before its event comes.
    pub fn patched(&mut self, id: &ObjectId, status: rows::SeenStatus) {
        let meta = match id.kind {
            Kind::Domain => self.domains.get_mut(&id.name).map(|row| &mut row.meta),
            Kind::Mailbox => self.mailboxes.get_mut(&id.name).map(|row| &mut row.meta),
            Kind::Alias => self.aliases.get_mut(&id.name).map(|row| &mut row.meta),
        };
        if let Some(meta) = meta {
            meta.status = status;
        }
    }
}

#[cfg(test)]
mod tests;
