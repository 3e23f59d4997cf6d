//! Where mail for an address goes, as virtual(5) and cleanup(8) would send it with what is declared.
//!
//! Pure, and a function of what can be reached from an address: nothing here depends on who leads to it. Domains of one
//! `MailServer` are followed, any other address ends an expansion. Rows that nobody declared (made in `PostfixAdmin`)
//! are not known here, and an object over a limit of its domain counts as declared.
//!
//! * `rows`: which row answers for an address. * `expansion`: the expansion itself, step by step.
//! * `problem`: the rows that would defer mail, and which of them are left out. * `warning`: targets that would bounce.
//!
//! What Postfix does (`cleanup_map1n.c`, `mail_addr_find.c`): every result is looked up again, until nothing is found or
//! an address is found in its own result. It counts addresses with duplicates, in all and in depth; past either limit
//! the whole message is deferred with "451 4.6.0 Alias expansion error", for its other recipients too.

mod expansion;
mod problem;
mod rows;
mod warning;

pub use expansion::{EXPANSION_LIMIT, Expansion, LOOK_UP_LIMIT, RECURSION_LIMIT, Step, Unreasonable};
pub use problem::Problem;
pub use rows::Via;

use crate::api::Address;
use crate::desired::Warning;
use crate::index::rows::Kind;
use crate::index::{Claim, Index};
use crate::object::ObjectName;

/// What is wrong with the row of an address, if anything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Finding {
    /// Why the row is not written: it would defer mail. The forwards of a mailbox, only, are not written then.
    pub problem: Option<Problem>,
    /// What would bounce; `None` beside a problem.
    pub warning: Option<Warning>,
}

/// What is wrong with the row that `winner`, the object that gets `address`, declares; nothing in a domain that no server
/// serves. An active mailbox without forwards costs no more than this look.
#[must_use]
pub fn judge(index: &Index, address: &Address, winner: &Claim) -> Finding {
    if let Some(mailbox) = index.mailbox(&winner.object.name).filter(|_| winner.object.kind == Kind::Mailbox)
        && mailbox.active
        && mailbox.forward_to.is_empty()
    {
        return Finding::default();
    }
    let Some(server) = index.server_of(address.domain()) else { return Finding::default() };
    let router = rows::Router::new(index, server);
    let problem = router.problem(address);
    let warning = if problem.is_none() { router.warning(address, winner) } else { None };
    Finding { problem, warning }
}

/// Expands an address with the rows that are written, as Postfix does. A catch-all is expanded as `@domain`.
#[must_use]
pub fn expand(index: &Index, server: &ObjectName, address: &str) -> Expansion {
    let router = rows::Router::new(index, server);
    expansion::record(&router, address)
}

#[cfg(test)]
mod tests;
