//! Who claims a domain and each address in it, oldest first.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::key::Key;
use super::limits::Allotment;
use super::rows::{Kind, ObjectId};
use crate::api::DomainName;

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
    /// Mailboxes and aliases that get their address, counted when they are first asked for and kept up from then on.
    winners: OnceLock<(u32, u32)>,
    /// Worked out when it is first asked for: only domains with limits cost the time and the memory.
    allotment: OnceLock<Allotment>,
    /// The allotment before the changes that nobody has looked at yet.
    allotment_before: Option<Allotment>,
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

    /// The keys of the domain, its catch-all and its addresses, in order.
    pub fn keys<'a>(&'a self, domain: &'a str) -> Vec<Key> {
        let Ok(domain) = DomainName::parse(domain) else { return Vec::new() };
        let mut keys = Vec::with_capacity(self.addresses.len() + 1);
        keys.push(Key::Domain(domain.clone()));
        keys.extend(self.addresses.keys().map(|local_part| Key::Address(domain.address(local_part))));
        keys
    }

    /// Claims on each address.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &[Claim]> {
        self.addresses.values().map(Vec::as_slice)
    }

    pub(super) fn winners(&self, count: impl FnOnce() -> (u32, u32)) -> (u32, u32) {
        *self.winners.get_or_init(count)
    }

    pub(super) fn counts_winners(&self) -> bool {
        self.winners.get().is_some()
    }

    /// An address went from one kind of object to another; `None`: to or from nobody.
    pub(super) fn recount(&mut self, before: Option<Kind>, after: Option<Kind>) {
        let Some((mailboxes, aliases)) = self.winners.get_mut() else { return };
        match before {
            Some(Kind::Mailbox) => *mailboxes -= 1,
            Some(_) => *aliases -= 1,
            None => {}
        }
        match after {
            Some(Kind::Mailbox) => *mailboxes += 1,
            Some(_) => *aliases += 1,
            None => {}
        }
    }

    pub(super) fn allotment(&self, allot: impl FnOnce() -> Allotment) -> &Allotment {
        self.allotment.get_or_init(allot)
    }

    /// What the allotment was worked out from changed. Tells whether there was one, to be compared with the next.
    pub(super) fn touch_allotment(&mut self) -> bool {
        if let Some(old) = self.allotment.take() {
            self.allotment_before.get_or_insert(old);
        }
        self.allotment_before.is_some()
    }

    pub(super) fn take_allotment_before(&mut self) -> Option<Allotment> {
        self.allotment_before.take()
    }

    /// Others may have the addresses now, and all keys of the domain are looked at anyway.
    pub(super) fn forget_winners(&mut self) {
        self.winners.take();
        self.allotment.take();
        self.allotment_before = None;
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
        insert(self.addresses.entry(local_part.into()).or_default(), claim);
    }

    pub(super) fn remove(&mut self, local_part: &str, object: &ObjectId) {
        let Some(claims) = self.addresses.get_mut(local_part) else { return };
        claims.retain(|claim| claim.object != *object);
        if claims.is_empty() {
            self.addresses.remove(local_part);
        }
    }
}

fn insert(claims: &mut Vec<Claim>, claim: Claim) {
    // Most addresses are claimed once.
    claims.reserve_exact(1);
    let at = claims.partition_point(|other| *other < claim);
    claims.insert(at, claim);
}
