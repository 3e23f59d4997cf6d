//! A domain with the object that holds it and the server that serves it, found once for all that is asked of it.

use super::rows::{DomainRow, Kind, ObjectId};
use super::{Allotment, Claim, DomainEntry, Index, limits};
use crate::object::ObjectName;

/// A domain that a `MailDomain` holds: the oldest whose server exists and admits it, else the oldest. Nobody holds it where that
/// one can't be read ([`Index::unreadable_holder`]).
#[derive(Clone, Copy)]
pub struct Held<'a> {
    index: &'a Index,
    entry: &'a DomainEntry,
    /// The `MailDomain`.
    pub holder: &'a ObjectId,
    /// Its row.
    pub row: &'a DomainRow,
    /// The server that serves the domain; `None` where it does not exist, or does not admit the `MailDomain`.
    pub server: Option<&'a ObjectName>,
}

impl<'a> Held<'a> {
    pub(super) fn of(index: &'a Index, entry: &'a DomainEntry) -> Option<Self> {
        let held = |claim: &'a Claim| {
            let row = index.domain(&claim.object.name)?;
            let server = index.serving(&claim.object.name, row);
            Some(Self { index, entry, holder: &claim.object, row, server })
        };
        let claims = entry.domain_claims();
        for claim in claims {
            match held(claim) {
                Some(held) if held.server.is_some() => return Some(held),
                None if index.unreadable_may_hold(&claim.object) => return None,
                _ => {}
            }
        }
        held(claims.first()?)
    }

    /// Who claims an address of the domain, oldest first; the local part of the catch-all is empty.
    #[must_use]
    pub fn claims(&self, local_part: &str) -> &'a [Claim] {
        self.entry.claims(local_part)
    }

    /// Who gets an address of the domain: the oldest from a namespace that the holder admits.
    #[must_use]
    pub fn winner(&self, local_part: &str) -> Option<&'a Claim> {
        self.winner_among(self.claims(local_part))
    }

    /// [`Held::winner`], of an address that is claimed so.
    #[must_use]
    pub fn winner_among<'c>(&self, claims: &'c [Claim]) -> Option<&'c Claim> {
        claims.iter().find(|claim| self.admits(claim))
    }

    /// Whether an object may claim an address in the domain.
    #[must_use]
    pub fn admits(&self, claim: &Claim) -> bool {
        match claim.object.kind {
            Kind::Domain => claim.object == *self.holder,
            Kind::Mailbox | Kind::Alias | Kind::Admin => {
                let namespace = &claim.object.name.namespace;
                self.index.domain_admits(&self.holder.name, self.row, namespace)
            }
        }
    }

    /// The addresses that somebody gets, each with who does.
    pub(super) fn winners(&self) -> impl Iterator<Item = &'a Claim> {
        self.entry.addresses().filter_map(|claims| self.winner_among(claims))
    }

    /// How the domain's limits are used; `None` where it has none.
    #[must_use]
    pub fn allotment(&self) -> Option<&'a Allotment> {
        let limits = self.row.limits?;
        Some(self.entry.allotment(|| limits::allot(self.index, self, limits)))
    }
}
