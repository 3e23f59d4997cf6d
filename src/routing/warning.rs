//! Targets to which mail would bounce: told on the object that names them, and written all the same.

use super::rows::{Hit, Router, Written};
use crate::api::{Address, Reason};
use crate::desired::Warning;
use crate::index::Claim;
use crate::index::rows::Kind;

/// What becomes of mail to a target that doesn't take it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fault {
    /// Nobody declares it.
    Undeclared,
    /// Its row is not written, because of a loop.
    LeftOut,
    /// Its mailbox, alias or domain is switched off.
    Disabled,
}

impl Fault {
    fn reason(self) -> Reason {
        match self {
            Self::Undeclared | Self::LeftOut => Reason::UndeclaredTarget,
            Self::Disabled => Reason::DisabledMailbox,
        }
    }

    fn sentence(self, target: &str) -> String {
        match self {
            Self::Undeclared => format!(
                "nobody declares the target {target}: create its Mailbox or MailAlias, or take it out"
            ),
            Self::LeftOut => {
                format!("the target {target} is not in the tables: see what its own object says")
            }
            Self::Disabled => format!("the target {target} is switched off: switch it on, or take it out"),
        }
    }
}

impl<'a> Router<'a> {
    /// What would bounce of the mail for an address that `winner` declares.
    pub(super) fn warning(&self, address: &Address, winner: &Claim) -> Option<Warning> {
        if winner.object.kind == Kind::Mailbox
            && self.index.mailbox(&winner.object.name).is_some_and(|mailbox| !mailbox.active)
        {
            return self.keeps_from_catch_all(address);
        }
        let row = self.declared(address.local_part(), address.domain())?;
        // Nothing that a sound row leads to is left out, and this is the cheaper look.
        let written = if self.is_sound(&row) { Written::Declared } else { Written::WithoutCircles };
        let fault = |target: &&'a Address| Some((self.fault(target, written)?, target.as_str()));
        let mut faults: Vec<_> = row.targets.iter().filter_map(fault).collect();
        faults.sort_unstable();
        let (fault, target) = *faults.first()?;
        let more = match faults.len() {
            1 => String::new(),
            number => format!("; so for {} more targets", number - 1),
        };
        Some((fault.reason(), format!("mail will bounce: {}{more}", fault.sentence(target)).into()))
    }

    /// A mailbox that is switched off keeps its mail from the catch-all's owner, who may wait for it.
    fn keeps_from_catch_all(&self, address: &Address) -> Option<Warning> {
        self.winner("", address.domain())?;
        let message =
            "the mailbox is switched off: its mail is refused and does not go to the catch-all of its domain";
        Some((Reason::DisabledMailbox, message.into()))
    }

    fn fault(&self, target: &Address, written: Written) -> Option<Fault> {
        let (_, domain) = self.index.holder(target.domain()).filter(|_| self.serves(target.domain()))?;
        match self.look_up(target.as_str(), written) {
            Some(hit) => self.fault_of_row(target, &hit),
            None if !domain.active => Some(Fault::Disabled),
            None if domain.is_relayed() => None,
            None => Some(self.why_no_row(target)),
        }
    }

    /// A row of an alias is its object's own matter, unless Postfix ends there and looks for a mailbox.
    fn fault_of_row(&self, target: &Address, hit: &Hit<'_>) -> Option<Fault> {
        let object = &hit.row.claim.object;
        match self.index.mailbox(&object.name).filter(|_| object.kind == Kind::Mailbox) {
            Some(mailbox) => {
                let domain = self.index.holder(hit.row.address.domain());
                let on = mailbox.active && domain.is_some_and(|(_, domain)| domain.active);
                (!on).then_some(Fault::Disabled)
            }
            None => hit.ends_at(target.as_str()).then_some(Fault::Undeclared),
        }
    }

    fn why_no_row(&self, target: &Address) -> Fault {
        let untagged = self.split(target.local_part()).map(|(untagged, _)| untagged);
        let local_parts = [Some(target.local_part()), untagged];
        let domains = [Some(target.domain()), self.alias_target(target.domain())];
        let claim = domains.into_iter().flatten().find_map(|domain| {
            local_parts.into_iter().flatten().find_map(|local_part| self.winner(local_part, domain))
        });
        match claim.map(|claim| &claim.object) {
            None => Fault::Undeclared,
            Some(object) if object.kind == Kind::Alias => {
                let on = self.index.alias(&object.name).is_some_and(|alias| alias.active);
                if on { Fault::LeftOut } else { Fault::Disabled }
            }
            Some(_) => Fault::Disabled,
        }
    }
}
