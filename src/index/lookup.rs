//! What the index says: objects by name, who holds a domain, who may have an address.

use super::rows::{AliasRow, DomainRow, Kind, MailboxRow, Meta, ObjectId, ServerRow};
use super::{Allotment, Claim, DomainEntry, Index, Key, limits};
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
        self.mailboxes.get(name)
    }

    /// The row of a `MailAlias`.
    #[must_use]
    pub fn alias(&self, name: &ObjectName) -> Option<&AliasRow> {
        self.aliases.get(name)
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

    /// The keys that `server` serves and whose objects name a transport or an owner, or are switched off.
    pub fn configured_keys<'a>(&'a self, server: &'a ObjectName) -> impl Iterator<Item = &'a Key> {
        self.configured.keys().filter(move |key| self.server_of(key.domain()) == Some(server))
    }

    /// Whether a `MailDomain` that names `server` has a transport of its own or is switched off: only then Postfix needs to
    /// look transports up.
    #[must_use]
    pub fn has_transports(&self, server: &ObjectName) -> bool {
        self.transports.get(server).is_some_and(|domains| *domains > 0)
    }

    /// Whether `server` serves a catch-all or a disabled mailbox: only then Postfix needs to look for disabled recipients.
    #[must_use]
    pub fn has_guarded(&self, server: &ObjectName) -> bool {
        self.guarded.keys().any(|key| self.server_of(key.domain()) == Some(server))
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
        let (_, row) = self.holder(domain)?;
        let (entry, limits) = self.entry(domain).zip(row.limits)?;
        Some(entry.allotment(|| limits::allot(self, domain, entry, limits)))
    }

    /// Mailboxes and aliases of a domain: the addresses that somebody gets, as far as they fit into the domain's limits.
    #[must_use]
    pub fn counts(&self, domain: &str) -> (u32, u32) {
        let Some(entry) = self.entry(domain) else { return (0, 0) };
        let count = || {
            let winners = entry.addresses().filter_map(|claims| self.winner_among(domain, claims));
            winners.fold((0, 0), |(mailboxes, aliases), winner| match winner.object.kind {
                Kind::Mailbox => (mailboxes + 1, aliases),
                _ => (mailboxes, aliases + 1),
            })
        };
        self.allotment(domain).map_or_else(|| entry.winners(count), |allotment| allotment.fitting)
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
            Kind::Mailbox | Kind::Alias | Kind::Admin => {
                self.domain_admits(&holder.name, row, &claim.object.name.namespace)
            }
        }
    }
}
