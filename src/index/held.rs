//! A domain with the object that holds it and the server that serves it, found once for all that is asked of it.

use super::rows::{DomainRow, Kind, ObjectId};
use super::{Allotment, Claim, DomainEntry, Exceeded, Index, limits};
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
    /// The domain, or the `MailDomain` that holds it and can't be read.
    pub(super) fn of(index: &'a Index, entry: &'a DomainEntry) -> Option<Result<Self, &'a ObjectId>> {
        let held = |claim: &'a Claim| {
            let holder = &claim.object;
            let row = index.domain(&holder.name).ok_or(holder)?;
            let server = index.admitting(&row.server, &holder.name.namespace);
            Ok(Self { index, entry, holder, row, server })
        };
        let may_hold = |held: &Result<Self, &ObjectId>| match held {
            Ok(held) => held.server.is_some(),
            Err(unreadable) => index.unreadable_may_hold(unreadable),
        };
        let claims = entry.domain_claims();
        claims.iter().map(held).find(may_hold).or_else(|| claims.first().map(held))
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

    /// Why an object doesn't fit into the domain's limits, if so.
    #[must_use]
    pub fn exceeded(&self, object: &ObjectId) -> Option<Exceeded> {
        self.allotment()?.over.get(object).copied()
    }

    /// How the domain's limits are used; `None` where it has none.
    #[must_use]
    pub fn allotment(&self) -> Option<&'a Allotment> {
        let limits = self.row.limits?;
        Some(self.entry.allotment(|| limits::allot(self.index, self, limits)))
    }
}
