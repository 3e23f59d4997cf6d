//! What the index says: objects by name, who holds a domain, who may have an address.

use super::held::Held;
use super::rows::{AliasRow, DomainRow, Kind, MailboxRow, Meta, ObjectId, ServerRow};
use super::{Allotment, Claim, DomainEntry, Index, Key};
use crate::api::DomainName;
use crate::object::ObjectName;

impl Index {
    /// The names of all known namespaces.
    #[must_use]
    pub fn namespace_names(&self) -> Vec<String> {
        self.namespaces.names().map(str::to_owned).collect()
    }

    /// Names of all known objects of a kind, readable or not: a full list removes those that it doesn't hold.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<ObjectName> {
        let mut names: Vec<_> = match kind {
            Kind::Domain => self.domains.keys().cloned().collect(),
            Kind::Mailbox => self.mailboxes.keys().cloned().collect(),
            Kind::Alias => self.aliases.keys().cloned().collect(),
            Kind::Admin => self.admins.rows.keys().cloned().collect(),
        };
        names.extend(self.unreadable.of_kind(kind).cloned());
        names
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

    /// The names of all servers of which something readable is known.
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
        self.mailboxes.get(name).map(AsRef::as_ref)
    }

    /// The row of a `MailAlias`.
    #[must_use]
    pub fn alias(&self, name: &ObjectName) -> Option<&AliasRow> {
        self.aliases.get(name).map(AsRef::as_ref)
    }

    /// What every account object has.
    #[must_use]
    pub fn meta(&self, id: &ObjectId) -> Option<&Meta> {
        match id.kind {
            Kind::Domain => self.domains.get(&id.name).map(|row| &row.meta),
            Kind::Mailbox => self.mailboxes.get(&id.name).map(|row| &row.meta),
            Kind::Alias => self.aliases.get(&id.name).map(|row| &row.meta),
            Kind::Admin => self.admins.rows.get(&id.name).map(|row| &row.meta),
        }
    }

    /// Who claims a domain and the addresses in it.
    #[must_use]
    pub fn entry(&self, domain: &str) -> Option<&DomainEntry> {
        self.by_domain.get(domain)
    }

    /// A domain that a `MailDomain` holds.
    #[must_use]
    pub fn held(&self, domain: &str) -> Option<Held<'_>> {
        Held::of(self, self.entry(domain)?)?.ok()
    }

    /// The `MailDomain` that holds a domain.
    #[must_use]
    pub fn holder(&self, domain: &str) -> Option<(&ObjectId, &DomainRow)> {
        self.held(domain).map(|held| (held.holder, held.row))
    }

    /// Whether the server that a `MailDomain` names exists and admits it.
    #[must_use]
    pub fn server_admits(&self, domain: &ObjectName, row: &DomainRow) -> bool {
        self.admitting(&row.server, &domain.namespace).is_some()
    }

    /// A server, if it exists and admits the domains and admins of a namespace.
    pub(super) fn admitting(&self, server: &ObjectName, namespace: &str) -> Option<&ObjectName> {
        let (name, row) = self.servers.get_key_value(server)?;
        self.namespaces.admits(&row.allowed, &server.namespace, namespace).then_some(name)
    }

    /// Whether a `MailDomain` admits objects of a namespace.
    #[must_use]
    pub fn domain_admits(&self, domain: &ObjectName, row: &DomainRow, namespace: &str) -> bool {
        self.namespaces.admits(&row.allowed, &domain.namespace, namespace)
    }

    /// The server that serves a domain, if a `MailDomain` holds it and its server exists and admits it.
    #[must_use]
    pub fn server_of(&self, domain: &str) -> Option<&ObjectName> {
        self.held(domain)?.server
    }

    /// A number that grows with each change of what the configuration of `server` depends on beside its own object.
    #[must_use]
    pub fn needs_version(&self, server: &ObjectName) -> u64 {
        self.needs.get(server).copied().unwrap_or_default()
    }

    /// The keys that `server` serves and whose objects name a transport or an owner, or are switched off.
    pub fn configured_keys<'a>(&'a self, server: &'a ObjectName) -> impl Iterator<Item = &'a Key> {
        self.configured.keys().filter(move |key| self.server_of(key.domain()) == Some(server))
    }

    /// Whether a `MailDomain` that names `server` has a transport of its own or is switched off, or may, since it can't be read:
    /// only then Postfix needs to look transports up.
    #[must_use]
    pub fn has_transports(&self, server: &ObjectName) -> bool {
        self.transports.get(server).is_some_and(|domains| *domains > 0)
            || self.may_serve_unreadable(server, &[Kind::Domain])
    }

    /// Whether `server` serves a catch-all or a disabled mailbox, or something that may be one, since it can't be read: only then
    /// Postfix needs to look for disabled recipients.
    #[must_use]
    pub fn has_guarded(&self, server: &ObjectName) -> bool {
        self.guarded.keys().any(|key| self.server_of(key.domain()) == Some(server))
            || self.may_serve_unreadable(server, &[Kind::Domain, Kind::Mailbox, Kind::Alias])
    }

    /// All keys that anything declares and that `server` serves, in order.
    #[must_use]
    pub fn keys_of(&self, server: &ObjectName) -> Vec<Key> {
        let domains = self.by_domain.iter().filter(|(domain, _)| self.server_of(domain) == Some(server));
        domains.flat_map(|(domain, entry)| entry.keys(domain)).chain(self.admin_keys_of(server)).collect()
    }

    /// All keys that anything declares and that no server serves, and those of all admins: of each of those objects another
    /// server may be named.
    #[must_use]
    pub fn unserved_keys(&self) -> Vec<Key> {
        let domains = self.by_domain.iter().filter(|(domain, _)| self.server_of(domain).is_none());
        domains.flat_map(|(domain, entry)| entry.keys(domain)).chain(self.admin_keys()).collect()
    }

    /// The keys of all domains that `server` serves, in order.
    #[must_use]
    pub fn domains_of(&self, server: &ObjectName) -> Vec<Key> {
        let domains = self.by_domain.keys().filter(|domain| self.server_of(domain) == Some(server));
        domains.filter_map(|domain| DomainName::parse(domain).ok()).map(Key::Domain).collect()
    }

    /// How the limits of a domain are used; `None` where it has none.
    #[must_use]
    pub fn allotment(&self, domain: &str) -> Option<&Allotment> {
        self.held(domain)?.allotment()
    }

    /// Mailboxes and aliases of a domain: the addresses that somebody gets, as far as they fit into the domain's limits.
    #[must_use]
    pub fn counts(&self, domain: &str) -> (u32, u32) {
        let Some(entry) = self.entry(domain) else { return (0, 0) };
        let held = self.held(domain);
        let count = || {
            let winners = held.iter().flat_map(Held::winners);
            winners.fold((0, 0), |(mailboxes, aliases), winner| match winner.object.kind {
                Kind::Mailbox => (mailboxes + 1, aliases),
                _ => (mailboxes, aliases + 1),
            })
        };
        let allotment = held.and_then(|held| held.allotment());
        allotment.map_or_else(|| entry.winners(count), |allotment| allotment.fitting)
    }

    /// Who gets an address that is claimed so: the oldest from a namespace that the holder of the domain admits.
    #[must_use]
    pub fn winner_among<'a>(&self, domain: &str, claims: &'a [Claim]) -> Option<&'a Claim> {
        self.held(domain)?.winner_among(claims)
    }
}
