//! Which row answers for an address: `mail_addr_find(3)` over the maps that Postfix is given, in their order.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::problem::Problem;
use crate::api::{Address, RecipientDelimiter};
use crate::index::rows::Kind;
use crate::index::{Claim, Index};
use crate::object::ObjectName;

/// Which of the declared rows count. Each stage takes out rows that a look at the one before found bad.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Written {
    /// All that are declared.
    Declared,
    /// Without the youngest row of each loop.
    WithoutLoops,
    /// Without catch-alls that loop once rows are left out.
    WithoutCircles,
    /// Without rows that expand too far: the rows that are in the tables.
    All,
}

/// How an address led to a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Via {
    /// The row is the address's own, perhaps without its tag.
    Address,
    /// The row is of the same local part in the domain that this one is an alias of.
    AliasDomain,
    /// No other row answers: the catch-all's, perhaps of the domain that this one is an alias of.
    CatchAll,
}

/// A row of the table alias that is in force.
#[derive(Clone, Debug)]
pub(super) struct Row<'a> {
    /// The object that declares it.
    pub claim: &'a Claim,
    /// Its primary key.
    pub address: Address,
    /// Its `goto`.
    pub targets: Vec<&'a Address>,
}

impl Row<'_> {
    /// Whether it leads to its own address and to no other.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self.targets[..], [target] if *target == self.address)
    }
}

/// The row that answers for an address.
#[derive(Clone, Debug)]
pub(super) struct Hit<'a> {
    pub row: Row<'a>,
    pub via: Via,
    /// What it expands to: the row's targets with the tag that was taken off.
    pub results: Vec<Cow<'a, str>>,
}

impl Hit<'_> {
    /// Whether the address is in its own expansion, so that Postfix ends there.
    pub(super) fn ends_at(&self, address: &str) -> bool {
        self.results.iter().any(|result| result == address)
    }
}

/// Look-ups in the rows of one server, with a memory for what they found.
pub(super) struct Router<'a> {
    pub index: &'a Index,
    pub server: &'a ObjectName,
    delimiter: Option<&'a RecipientDelimiter>,
    pub known: RefCell<HashMap<(Address, Written), Option<Problem>>>,
    pub look_ups: Cell<usize>,
}

impl<'a> Router<'a> {
    pub(super) fn new(index: &'a Index, server: &'a ObjectName) -> Self {
        let delimiter = index.server(server).map(|server| &server.recipient_delimiter);
        Self { index, server, delimiter, known: RefCell::default(), look_ups: Cell::new(0) }
    }

    /// A local part without its tag, and the tag.
    pub(super) fn split<'b>(&self, local_part: &'b str) -> Option<(&'b str, &'b str)> {
        self.delimiter?.split(local_part)
    }

    /// The characters that begin a tag.
    pub(super) fn delimiters(&self) -> &'a str {
        self.delimiter.map_or("", RecipientDelimiter::as_str)
    }

    /// Rows are ranked by the age of their objects; one for a tagged address is below all others, because a loop through
    /// it is found from there only.
    pub(super) fn rank<'b>(&self, row: &'b Row<'_>) -> (bool, &'b Claim) {
        let may_extend =
            |delimiter: &RecipientDelimiter| delimiter.may_extend_another(row.address.local_part());
        (self.delimiter.is_some_and(may_extend), row.claim)
    }

    pub(super) fn serves(&self, domain: &str) -> bool {
        self.index.server_of(domain) == Some(self.server)
    }

    /// The object that gets an address; the local part of a catch-all is empty.
    pub(super) fn winner(&self, local_part: &str, domain: &str) -> Option<&'a Claim> {
        let claims = self.index.entry(domain)?.claims(local_part);
        self.index.winner_among(domain, claims).filter(|_| self.serves(domain))
    }

    /// The row that an address has itself, if it is declared and in force.
    pub(super) fn declared(&self, local_part: &str, domain: &str) -> Option<Row<'a>> {
        let claim = self.winner(local_part, domain)?;
        let name = &claim.object.name;
        let (address, targets): (_, Vec<_>) = match claim.object.kind {
            Kind::Alias => {
                let row = self.index.alias(name).filter(|row| row.active)?;
                (row.address.clone(), row.goto.iter().collect())
            }
            Kind::Mailbox => {
                let row = self.index.mailbox(name)?;
                if !row.active && self.winner("", domain).is_none() {
                    return None;
                }
                (row.address.clone(), row.targets().collect())
            }
            Kind::Domain => {
                let row = self.index.domain(name).filter(|row| row.active)?;
                (row.domain.catch_all(), row.catch_all.iter().collect())
            }
            Kind::Admin => return None,
        };
        (!targets.is_empty()).then_some(Row { claim, address, targets })
    }

    fn written(&self, local_part: &str, domain: &str, written: Written) -> Option<Row<'a>> {
        let row = self.declared(local_part, domain)?;
        if self.is_left_out(&row, written) {
            // A mailbox's forwards are left out, and it keeps its mail.
            let mailbox = Some(&row.claim.object).filter(|object| object.kind == Kind::Mailbox)?;
            let own = &self.index.mailbox(&mailbox.name)?.address;
            return Some(Row { targets: vec![own], ..row });
        }
        Some(row)
    }

    /// The row that answers for an address, and what the address expands to.
    pub(super) fn look_up(&self, address: &str, written: Written) -> Option<Hit<'a>> {
        self.look_ups.set(self.look_ups.get() + 1);
        let (local_part, domain) = address.split_once('@')?;
        if !self.serves(domain) {
            return None;
        }
        let tag = self.split(local_part);
        let target = self.alias_target(domain);
        for (local_part, tag) in std::iter::once((local_part, "")).chain(tag) {
            let own = self.written(local_part, domain, written).map(|row| (row, Via::Address));
            let hit = own.or_else(|| {
                // The look-up in the alias domain's target needs a local part.
                let target = target.filter(|_| !local_part.is_empty())?;
                Some((self.written(local_part, target, written)?, Via::AliasDomain))
            });
            if let Some((row, via)) = hit {
                let results = row.targets.iter().map(|target| tagged(target, tag)).collect();
                return Some(Hit { row, via, results });
            }
        }
        let row = self
            .written("", domain, written)
            .or_else(|| target.and_then(|target| self.written("", target, written)))?;
        let results = row.targets.iter().map(|target| target.as_str().into()).collect();
        Some(Hit { row, via: Via::CatchAll, results })
    }

    /// The domain whose addresses `domain` has too.
    pub(super) fn alias_target(&self, domain: &str) -> Option<&'a str> {
        let (_, row) = self.index.holder(domain)?;
        if !row.active || row.alias_of.is_none() {
            return None;
        }
        self.index.alias_target(domain).map(crate::api::DomainName::as_str)
    }
}

/// Postfix hands a tag that no row has on to the results (`propagate_unmatched_extensions`).
fn tagged<'a>(target: &'a Address, tag: &str) -> Cow<'a, str> {
    if tag.is_empty() {
        target.as_str().into()
    } else {
        format!("{}{tag}@{}", target.local_part(), target.domain()).into()
    }
}
