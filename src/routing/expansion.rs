//! The expansion of one address, in Postfix's order and with its limits.

use std::borrow::Cow;
use std::collections::HashSet;

use super::rows::{Hit, Router, Via, Written};
use crate::api::Address;
use crate::index::rows::ObjectId;

/// Most addresses that one recipient may expand to: Postfix's default of `virtual_alias_expansion_limit`.
pub const EXPANSION_LIMIT: usize = 1000;

/// Most look-ups one after the other: Postfix's default of `virtual_alias_recursion_limit`.
pub const RECURSION_LIMIT: usize = 1000;

/// Longest address, in bytes, that an expansion may give: Postfix's default of `virtual_alias_address_length_limit`. Only
/// a tag that grows from row to row gets there.
const ADDRESS_LENGTH_LIMIT: usize = 1000;

/// Most look-ups until it is clear where an address leads. Postfix has no such limit: it would send the database as many
/// queries for every message.
pub const LOOK_UP_LIMIT: usize = 50_000;

/// Why Postfix doesn't expand an address, and defers every message to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unreasonable {
    /// More than [`EXPANSION_LIMIT`] addresses.
    #[error("it expands to more than {EXPANSION_LIMIT} addresses")]
    Size,
    /// More than [`RECURSION_LIMIT`] look-ups in a row, or an address that grows too long on the way.
    #[error("it leads through more than {RECURSION_LIMIT} aliases")]
    Nesting,
    /// Where it leads is not clear after as many look-ups as this room makes ([`LOOK_UP_LIMIT`]).
    #[error("it leads to too many addresses to be followed")]
    Work,
}

/// One look-up of an expansion that found something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// The address that was looked up.
    pub address: String,
    /// The primary key of the row that was found, in the table alias.
    pub row: Address,
    /// The object that declares the row.
    pub object: ObjectId,
    /// How the address led to the row.
    pub via: Via,
    /// What it expands to.
    pub results: Vec<String>,
}

/// What Postfix makes of an address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expansion {
    /// The look-ups that found something, in Postfix's order.
    pub steps: Vec<Step>,
    /// The recipients in the end, with duplicates; the address itself where no row answers for it.
    pub recipients: Result<Vec<String>, Unreasonable>,
}

/// Expands `root` with the rows that are written, and keeps every step.
pub(super) fn record(router: &Router<'_>, root: &str) -> Expansion {
    let mut steps = Vec::new();
    let recipients = expand(router, root, Written::All, |address, hit| {
        steps.push(Step {
            address: address.to_owned(),
            row: hit.row.address.clone(),
            object: hit.row.claim.object.clone(),
            via: hit.via,
            results: hit.results.iter().map(ToString::to_string).collect(),
        });
    });
    Expansion { steps, recipients }
}

/// Tells early that look-ups one after the other go in a circle (Brent's algorithm).
#[derive(Default)]
struct Circle {
    mark: String,
    met: u32,
}

impl Circle {
    /// The first round may find an address in its own result, which ends the second.
    fn closes(&mut self, address: &str, depth: usize) -> bool {
        if depth.is_power_of_two() {
            *self = Self { mark: address.to_owned(), met: 0 };
        } else if self.mark == address {
            self.met += 1;
        }
        self.met == 2
    }
}

/// The recipients that `root` expands to. Ends as soon as it is clear that Postfix would give up.
pub(super) fn expand(
    router: &Router<'_>,
    root: &str,
    written: Written,
    mut step: impl FnMut(&str, &Hit<'_>),
) -> Result<Vec<String>, Unreasonable> {
    let mut list: Vec<Cow<'_, str>> = vec![root.into()];
    let mut in_own_result: HashSet<Cow<'_, str>> = HashSet::new();
    let mut at = 0;
    while at < list.len() {
        let mut depth = 0;
        let mut circle = Circle::default();
        while !in_own_result.contains(&list[at]) {
            let Some(hit) = router.look_up(&list[at], written) else { break };
            if depth >= RECURSION_LIMIT || circle.closes(&list[at], depth) {
                return Err(Unreasonable::Nesting);
            }
            step(&list[at], &hit);
            if hit.results.iter().any(|result| result.len() > ADDRESS_LENGTH_LIMIT) {
                return Err(Unreasonable::Nesting);
            }
            let ends_here = hit.ends_at(&list[at]);
            let mut results = hit.results.into_iter();
            if let Some(first) = results.next() {
                let address = std::mem::replace(&mut list[at], first);
                if ends_here {
                    in_own_result.insert(address);
                }
            }
            list.extend(results);
            if list.len() > EXPANSION_LIMIT {
                return Err(Unreasonable::Size);
            }
            depth += 1;
            if router.look_ups.get() > LOOK_UP_LIMIT {
                return Err(Unreasonable::Work);
            }
        }
        at += 1;
    }
    Ok(list.into_iter().map(Cow::into_owned).collect())
}
