//! Who claims a domain and each address in it, oldest first.

use std::collections::BTreeMap;

use super::key::Key;
use super::rows::ObjectId;
use crate::api::{AliasAddress, DomainName};

/// An object that declares a domain or an address. Ordered by age, then by kind and name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Claim {
    /// `creationTimestamp` of the object, seconds since 1970.
    pub created: i64,
    /// The object.
    pub object: ObjectId,
}

/// The claims on a domain and on the addresses in it.
#[derive(Debug, Default)]
pub struct DomainEntry {
    domain: Vec<Claim>,
    addresses: BTreeMap<Box<str>, Vec<Claim>>,
    mailboxes: u32,
}

impl DomainEntry {
    /// Claims on the domain itself, oldest first.
    #[must_use]
    pub fn domain_claims(&self) -> &[Claim] {
        &self.domain
    }

    /// Claims on an address of the domain, oldest first; the local part of the catch-all is empty.
    #[must_use]
    pub fn claims(&self, local_part: &str) -> &[Claim] {
        self.addresses.get(local_part).map_or(&[], Vec::as_slice)
    }

    /// Addresses with a mailbox that claims them, and addresses claimed by aliases only.
    #[must_use]
    pub fn counts(&self) -> (u32, u32) {
        let addresses = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        (self.mailboxes, addresses.saturating_sub(self.mailboxes))
    }

    /// The keys of the domain, its catch-all and its addresses, in order.
    pub fn keys<'a>(&'a self, domain: &'a str) -> Vec<Key> {
        let mut keys = Vec::with_capacity(self.addresses.len() + 1);
        keys.extend(DomainName::parse(domain).ok().map(Key::Domain));
        keys.extend(self.addresses.keys().filter_map(|local_part| {
            AliasAddress::parse(&format!("{local_part}@{domain}")).ok().map(|alias| Key::Address(alias.0))
        }));
        keys
    }

    pub(super) fn is_empty(&self) -> bool {
        self.domain.is_empty() && self.addresses.is_empty()
    }

    pub(super) fn add_domain(&mut self, claim: Claim) {
        insert(&mut self.domain, claim);
    }

    pub(super) fn remove_domain(&mut self, object: &ObjectId) {
        self.domain.retain(|claim| claim.object != *object);
    }

    pub(super) fn add(&mut self, local_part: &str, claim: Claim) {
        let claims = self.addresses.entry(local_part.into()).or_default();
        let before = has_mailbox(claims);
        insert(claims, claim);
        self.mailboxes += u32::from(!before && has_mailbox(claims));
    }

    pub(super) fn remove(&mut self, local_part: &str, object: &ObjectId) {
        let Some(claims) = self.addresses.get_mut(local_part) else { return };
        let before = has_mailbox(claims);
        claims.retain(|claim| claim.object != *object);
        self.mailboxes -= u32::from(before && !has_mailbox(claims));
        if claims.is_empty() {
            self.addresses.remove(local_part);
        }
    }
}

fn has_mailbox(claims: &[Claim]) -> bool {
    claims.iter().any(|claim| claim.object.kind == super::rows::Kind::Mailbox)
}

fn insert(claims: &mut Vec<Claim>, claim: Claim) {
    let at = claims.partition_point(|other| *other < claim);
    claims.insert(at, claim);
}
