//! What the index says to those who hold a row: whether its object is still there, and who serves its key.

use super::rows::{Kind, ObjectId};
use super::{Claim, Index, Key};
use crate::api::DeletionPolicy;
use crate::object::ObjectName;

impl Index {
    /// The deletion policy of an object, written as its `Display` writes it, if it is there and still the one with this uid.
    #[must_use]
    pub fn policy_of(&self, object: &str, uid: &str) -> Option<DeletionPolicy> {
        let object = ObjectId::parse(object)?;
        let is_declared = *self.meta(&object)?.uid == *uid;
        is_declared.then(|| self.policy(&object)).flatten()
    }

    fn policy(&self, object: &ObjectId) -> Option<DeletionPolicy> {
        match object.kind {
            Kind::Domain => self.domain(&object.name).map(|row| row.policy),
            Kind::Mailbox => self.mailbox(&object.name).map(|row| row.policy),
            Kind::Alias => self.alias(&object.name).map(|row| row.policy),
            Kind::Admin => self.admin(&object.name).map(|row| row.policy),
        }
    }

    /// Who claims a domain or an address, oldest first; nobody a key of admins ([`Index::admin_claims`]).
    #[must_use]
    pub fn claims_on(&self, key: &Key) -> &[Claim] {
        self.entry(key.domain()).map_or(&[], |entry| match key {
            Key::Domain(_) => entry.domain_claims(),
            Key::Address(address) => entry.claims(address.local_part()),
            Key::Admin(_) => &[],
        })
    }

    /// Whether a server other than `server`, with the same tables, looks after the rows under a key now: it takes them over.
    #[must_use]
    pub fn is_taken_over(&self, key: &Key, server: &ObjectName) -> bool {
        let tables = |name: &ObjectName| self.server(name).and_then(|row| row.shared_tables);
        let other = match key {
            // An admin stays with the first of two servers.
            Key::Admin(_) => None,
            Key::Domain(_) | Key::Address(_) => self.server_of(key.domain()).filter(|other| *other != server),
        };
        other.is_some_and(|other| tables(other).is_some() && tables(other) == tables(server))
    }
}
