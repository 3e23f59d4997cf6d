//! How much a server owns: counted at a full comparison, kept right in between. Pure.

use crate::plan::{Current, Plan};
use crate::report::Counts;
use crate::tables::{OwnerRow, Table};

/// What a server owns.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Tally {
    /// Keys under which it owns rows.
    keys: i64,
    counts: Counts,
}

impl Tally {
    pub(super) fn new(keys: usize, counts: Counts) -> Self {
        Self { keys: i64::try_from(keys).unwrap_or(i64::MAX), counts }
    }

    /// Keys under which it owns rows.
    pub(super) fn keys(&self) -> usize {
        usize::try_from(self.keys).unwrap_or_default()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a plan in that was applied to what was there `before`.
    pub(super) fn account_for(&mut self, plan: &Plan, before: &Current) {
        let was_its_own = |owner: &OwnerRow| {
            let before = before.owners.get(&(owner.table, owner.key.clone()));
            before.is_some_and(|before| before.server == owner.server)
        };
        let new = plan.owned.iter().filter(|owner| !was_its_own(owner));
        let changes =
            new.map(|owner| (owner.table, 1)).chain(plan.disowned.iter().map(|(table, _)| (*table, -1)));
        for (table, change) in changes {
            self.counts.add(table, change);
            self.keys += if is_of_every_key(table) { change } else { 0 };
        }
    }
}

/// A domain's key always has a row in domain, an address's in alias, an admin's in admin.
fn is_of_every_key(table: Table) -> bool {
    matches!(table, Table::Domain | Table::Alias | Table::Admin)
}
