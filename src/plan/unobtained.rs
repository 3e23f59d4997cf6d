//! Domains that are somebody else's in the tables: nothing is written in them, and nobody is made their admin. Pure.
//!
//! Else whoever declares a domain that was in `PostfixAdmin` before could give itself addresses in it.

use std::collections::{BTreeMap, BTreeSet};

use super::Obstacle;
use super::verdict::correct;
use crate::api::DomainName;
use crate::desired::{Desired, Verdict};
use crate::tables::Row;

/// The domains of a server whose rows can't be had, each with why: what plans have found out so far.
#[derive(Clone, Debug, Default)]
pub struct Unobtained {
    domains: BTreeMap<Box<str>, Obstacle>,
    turned: BTreeSet<DomainName>,
}

impl Unobtained {
    /// Why a domain can't be had, if so.
    #[must_use]
    pub fn obstacle(&self, domain: &str) -> Option<&Obstacle> {
        self.domains.get(domain)
    }

    /// The domains that can be had since this was asked last and could not before, or the other way round: what is declared
    /// in them is to be looked at.
    pub fn take_turned(&mut self) -> BTreeSet<DomainName> {
        std::mem::take(&mut self.turned)
    }

    /// Takes in what a plan found out about a domain.
    pub(super) fn set(&mut self, domain: &DomainName, obstacle: Option<&Obstacle>) {
        let before = match obstacle {
            Some(obstacle) => self.domains.insert(domain.as_str().into(), obstacle.clone()),
            None => self.domains.remove(domain.as_str()),
        };
        if before.as_ref() != obstacle {
            self.turned.insert(domain.clone());
        }
    }

    /// Takes such domains from an admin, and tells it.
    pub fn take_from_admin(&self, desired: &mut Desired) {
        let Desired { wants, verdicts, .. } = desired;
        for want in wants {
            let Row::Admin(row) = &mut want.row else { continue };
            let refused = row.domains.extract_if(.., |domain| self.obstacle(domain).is_some());
            for domain in refused {
                let Some((reason, message)) = self.obstacle(&domain) else { continue };
                let message =
                    format!("{domain} is not given to this admin, its MailDomain did not get it: {message}");
                correct(verdicts, Verdict::new(&want.object, *reason, message));
            }
        }
    }
}

/// What an object is told that declares an address in such a domain.
pub(super) fn in_domain(domain: &str, (reason, message): &Obstacle) -> Obstacle {
    (
        *reason,
        format!("nothing is written in the domain {domain}, which its MailDomain did not get: {message}"),
    )
}
