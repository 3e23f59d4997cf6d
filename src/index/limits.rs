//! Who fits into the limits of a domain: the oldest objects first, so that a newer one never pushes an older one out.

use std::collections::BTreeMap;

use super::held::Held;
use super::rows::{Kind, ObjectId};
use super::{Claim, Index};
use crate::api::limits::Limits;

/// Why an object doesn't fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exceeded {
    /// So many mailboxes are there already.
    Mailboxes(i32),
    /// So many aliases are there already.
    Aliases(i32),
    /// The mailbox has no quota, and the domain's limits want one.
    NoQuota,
    /// The mailbox's quota is above this, in bytes.
    MailboxQuota(i64),
    /// The quotas of all mailboxes would be above this, in bytes.
    TotalQuota(i64),
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mailboxes(-1) => write!(f, "the domain may have no mailboxes"),
            Self::Mailboxes(limit) => {
                write!(f, "the domain may have {limit} mailboxes, and older ones take them")
            }
            Self::Aliases(-1) => write!(f, "the domain may have no aliases"),
            Self::Aliases(limit) => {
                write!(f, "the domain may have {limit} aliases, and older ones take them")
            }
            Self::NoQuota => write!(f, "mailboxes of the domain need a quota: write one"),
            Self::MailboxQuota(limit) => {
                write!(f, "a mailbox of the domain may have a quota of {limit} bytes")
            }
            Self::TotalQuota(limit) => {
                write!(
                    f,
                    "the mailboxes of the domain may have {limit} bytes of quota together, and older ones leave too little"
                )
            }
        }
    }
}

/// How a domain's limits are used.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Allotment {
    /// The objects that don't fit.
    pub over: BTreeMap<ObjectId, Exceeded>,
    /// Sum of the quotas of the mailboxes that fit, in bytes.
    pub quota: i64,
    /// Mailboxes and aliases that fit.
    pub fitting: (u32, u32),
}

impl Allotment {
    /// The objects whose answer differs between two allotments.
    pub(super) fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a ObjectId> {
        let only_in = |a: &'a Self, b: &'a Self| {
            a.over.iter().filter(|(id, why)| b.over.get(*id) != Some(*why)).map(|(id, _)| id)
        };
        only_in(self, other).chain(only_in(other, self))
    }
}

/// Who of the winners in a domain fits into `limits`. One that is over a quota may have a row from before, which stays:
/// its place is nobody else's, nor is as much of `totalQuota` as that row may hold.
pub(super) fn allot(index: &Index, held: &Held<'_>, limits: Limits) -> Allotment {
    // At each pass that changes a limited domain this goes over all of it.
    let (mut mailboxes, mut aliases): (Vec<&Claim>, Vec<&Claim>) =
        held.winners().partition(|claim| claim.object.kind == Kind::Mailbox);
    mailboxes.sort_unstable();
    aliases.sort_unstable();
    let mut allotment = Allotment::default();
    let (mut places, mut taken) = (0, 0_i64);
    for claim in mailboxes {
        let quota = index.mailbox(&claim.object.name).and_then(|row| row.quota).unwrap_or_default();
        match exceeded(limits, places, taken, quota) {
            None => {
                (places, taken) = (places + 1, taken.saturating_add(quota));
                allotment.fitting.0 += 1;
                allotment.quota = allotment.quota.saturating_add(quota);
            }
            Some(exceeded) => {
                if !matches!(exceeded, Exceeded::Mailboxes(_)) {
                    (places, taken) = (places + 1, taken.saturating_add(reserved(limits, taken, quota)));
                }
                allotment.over.insert(claim.object.clone(), exceeded);
            }
        }
    }
    let limit = limits.aliases.unwrap_or_default();
    allotment.fitting.1 = u32::try_from(aliases.len().min(allowance(limit))).unwrap_or(u32::MAX);
    for claim in aliases.into_iter().skip(allowance(limit)) {
        allotment.over.insert(claim.object.clone(), Exceeded::Aliases(limit));
    }
    allotment
}

/// What a mailbox that asks for `quota` (0: for no limit) may hold of `totalQuota` when `taken` of it is others'.
fn reserved(limits: Limits, taken: i64, quota: i64) -> i64 {
    let [each, total] = [limits.mailbox_quota, limits.total_quota].map(|limit| limit.unwrap_or_default().0);
    let bounds = [quota, each].into_iter().filter(|bound| *bound > 0);
    bounds.chain([total.saturating_sub(taken).max(0)]).min().unwrap_or_default()
}

/// `PostfixAdmin`'s counts: 0 is no limit, less is none at all.
fn allowance(limit: i32) -> usize {
    if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or_default() }
}

fn exceeded(limits: Limits, mailboxes: usize, used: i64, quota: i64) -> Option<Exceeded> {
    let count = limits.mailboxes.unwrap_or_default();
    let [each, total] = [limits.mailbox_quota, limits.total_quota].map(|limit| limit.unwrap_or_default().0);
    if mailboxes >= allowance(count) {
        Some(Exceeded::Mailboxes(count))
    } else if quota == 0 && (each > 0 || total > 0) {
        Some(Exceeded::NoQuota)
    } else if each > 0 && quota > each {
        Some(Exceeded::MailboxQuota(each))
    } else if total > 0 && used.saturating_add(quota) > total {
        Some(Exceeded::TotalQuota(total))
    } else {
        None
    }
}
