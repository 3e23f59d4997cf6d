//! Who gets what, worked out from the written objects alone: neither the index nor `desired` is asked.

use serde_json::Value;

use super::world::{Model, Object};
use crate::api::DeletionPolicy;
use crate::index::Key;
use crate::index::rows::{Kind, ObjectId};
use crate::object::ObjectName;

pub(super) type Declared<'a> = (&'a ObjectId, &'a Object);

fn server_named_by(object: &Object) -> ObjectName {
    ObjectName::new("mail", object.spec["serverRef"]["name"].as_str().unwrap())
}

pub(super) fn policy_of(object: &Object) -> DeletionPolicy {
    serde_json::from_value(object.spec["deletionPolicy"].clone()).unwrap()
}

impl Model {
    fn of_kind(&self, kind: Kind, field: &str, value: &str) -> impl Iterator<Item = Declared<'_>> {
        self.objects.iter().filter(move |(id, object)| id.kind == kind && object.spec[field] == value)
    }

    /// The object with this uid.
    pub(super) fn with_uid(&self, uid: &str) -> Option<Declared<'_>> {
        self.objects.iter().find(|(_, object)| object.uid == uid)
    }

    /// Whether anything declares a domain or an address.
    pub(super) fn is_claimed(&self, key: &Key) -> bool {
        self.objects.values().any(|object| {
            let spec = &object.spec;
            let has_catch_all = key.is_catch_all() && spec["catchAll"].is_array();
            match key {
                Key::Domain(domain) => spec["domain"] == domain.as_str(),
                Key::Address(address) if has_catch_all => spec["domain"] == address.domain(),
                Key::Address(address) => spec["address"] == address.as_str(),
                Key::Admin(_) => false,
            }
        })
    }

    /// Whether what is in `own` and allows `allowed` admits `namespace`.
    fn admits(&self, allowed: &Value, own: &str, namespace: &str) -> bool {
        let by_label = || namespace == "tenant" && self.tenant == Some(true);
        own == namespace
            || match allowed["from"].as_str() {
                Some("All") => true,
                Some("Selector") => by_label(),
                _ => false,
            }
    }

    fn is_admitted_by_server(&self, (id, object): Declared<'_>) -> bool {
        let name = server_named_by(object);
        let server = self.servers.get(&name);
        server
            .is_some_and(|spec| self.admits(&spec["allowedNamespaces"], &name.namespace, &id.name.namespace))
    }

    /// The oldest `MailDomain` of the domain whose server takes it.
    fn holder(&self, domain: &str) -> Option<Declared<'_>> {
        let claims = self.of_kind(Kind::Domain, "domain", domain);
        claims
            .filter(|claim| self.is_admitted_by_server(*claim))
            .min_by_key(|(id, object)| (object.created, *id))
    }

    /// The server of a domain, an address in it, or nothing: an admin may have several.
    pub(super) fn serves(&self, server: &ObjectName, key: &Key) -> bool {
        match key {
            Key::Admin(_) => self.servers.contains_key(server),
            _ => self.holder(key.domain()).is_some_and(|(_, holder)| server_named_by(holder) == *server),
        }
    }

    /// The object that gets a key of a server.
    pub(super) fn winner(&self, server: &ObjectName, key: &Key) -> Option<Declared<'_>> {
        self.claimants(server, key).into_iter().next()
    }

    /// The objects that may have a key of a server, oldest first.
    pub(super) fn claimants(&self, server: &ObjectName, key: &Key) -> Vec<Declared<'_>> {
        if !self.serves(server, key) {
            return Vec::new();
        }
        if let Key::Admin(username) = key {
            let claims = self.of_kind(Kind::Admin, "username", username.as_str());
            let may_have = |(id, object): &Declared<'_>| {
                server_named_by(object) == *server
                    && self.is_admitted_by_server((*id, *object))
                    && (object.spec["superAdmin"] != true || *id.name.namespace == *server.namespace)
            };
            return oldest_first(claims.filter(may_have));
        }
        let Some(holder) = self.holder(key.domain()) else { return Vec::new() };
        let Key::Address(address) = key else { return vec![holder] };
        let admits = |(id, _): &Declared<'_>| {
            self.admits(&holder.1.spec["allowedNamespaces"], &holder.0.name.namespace, &id.name.namespace)
        };
        let mailboxes = self.of_kind(Kind::Mailbox, "address", address.as_str());
        let aliases = self.of_kind(Kind::Alias, "address", address.as_str());
        let catch_all =
            Some(holder).filter(|(_, object)| key.is_catch_all() && object.spec["catchAll"].is_array());
        oldest_first(mailboxes.chain(aliases).filter(admits).chain(catch_all))
    }
}

fn oldest_first<'a>(claims: impl Iterator<Item = Declared<'a>>) -> Vec<Declared<'a>> {
    let mut claims: Vec<_> = claims.collect();
    claims.sort_by_key(|(id, object)| (object.created, *id));
    claims
}
