//! Which keys lose rows, as far as what is declared tells, and whether the brake has been asked about them. Pure.

use std::collections::BTreeSet;

use crate::desired::{Desired, desired, is_empty};
use crate::index::{Index, Key};
use crate::object::ObjectName;
use crate::plan::Plan;
use crate::tables::{Row, Table};

/// What a server's passes know of its losses.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Domains that the server owns a row of the table `alias_domain` of: as others than aliases they lose it.
    alias_domains: BTreeSet<Key>,
    /// Keys of this pass that the brake has been asked about.
    foreseen: BTreeSet<Key>,
}

impl Losses {
    /// Of a server that owns the rows of these alias domains.
    pub(super) fn new(alias_domains: BTreeSet<Key>) -> Self {
        Self { alias_domains, foreseen: BTreeSet::new() }
    }

    /// The brake is asked about these, and lets through what it doesn't hold.
    pub(super) fn foresee(&mut self, keys: BTreeSet<Key>) {
        self.foreseen = keys;
    }

    /// Whether what is declared under a key may let rows go.
    pub(super) fn is_loss(&self, index: &Index, server: &ObjectName, key: &Key) -> bool {
        is_empty(index, server, key)
            || (self.alias_domains.contains(key) && self.loses(key, &desired(index, server, key)))
    }

    /// Those of some keys that lose rows and went only after the brake had been asked: they are of the next pass.
    pub(super) fn unforeseen(&self, wanted: &[(Key, Desired)]) -> BTreeSet<Key> {
        let is_late =
            |(key, desired): &&(Key, Desired)| !self.foreseen.contains(key) && self.loses(key, desired);
        wanted.iter().filter(is_late).map(|(key, _)| key.clone()).collect()
    }

    fn loses(&self, key: &Key, desired: &Desired) -> bool {
        let is_alias = || desired.wants.iter().any(|want| matches!(want.row, Row::AliasDomain(_)));
        !desired.unknown && (desired.wants.is_empty() || (self.alias_domains.contains(key) && !is_alias()))
    }

    /// Takes a plan in that was applied.
    pub(super) fn account_for(&mut self, plan: &Plan) {
        let key = |table: Table, key: &str| {
            Some(table).filter(|table| *table == Table::AliasDomain).and_then(|table| Key::of_row(table, key))
        };
        self.alias_domains.extend(plan.owned.iter().filter_map(|owner| key(owner.table, &owner.key)));
        for gone in plan.disowned.iter().filter_map(|(table, text)| key(*table, text)) {
            self.alias_domains.remove(&gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::index::rows::{Kind, ObjectId};
    use crate::testing::{World, myhost};

    fn key(text: &str) -> Key {
        Key::from_row(text).unwrap()
    }

    fn wanted(world: &World, keys: &[Key]) -> Vec<(Key, Desired)> {
        keys.iter().map(|key| (key.clone(), desired(&world.index, &myhost(), key))).collect()
    }

    #[test]
    fn what_goes_after_the_brake_was_asked_is_of_the_next_pass() {
        let mut world = World::with_alpha();
        world.mailbox("mail", "bob", 2, json!({"address": "bob@alpha.example.org"}));
        let keys = ["bob@alpha.example.org", "eve@alpha.example.org"].map(key);
        let mut losses = Losses::default();
        losses.foresee(
            keys.iter().filter(|key| losses.is_loss(&world.index, &myhost(), key)).cloned().collect(),
        );
        assert_eq!(losses.unforeseen(&wanted(&world, &keys)), BTreeSet::new());
        world.index.remove(&ObjectId { kind: Kind::Mailbox, name: ObjectName::new("mail", "bob") });
        assert_eq!(losses.unforeseen(&wanted(&world, &keys)), [keys[0].clone()].into());
    }

    #[test]
    fn a_domain_that_is_an_alias_no_more_loses_a_row() {
        let mut world = World::with_alpha();
        let beta = key("beta.example.org");
        let alias = json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org", "aliasOf": "alpha.example.org"});
        world.domain("mail", "beta", 2, alias);
        let mut losses = Losses::new([beta.clone()].into());
        assert!(!losses.is_loss(&world.index, &myhost(), &beta));
        world.domain(
            "mail",
            "beta",
            2,
            json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org"}),
        );
        assert!(losses.is_loss(&world.index, &myhost(), &beta));
        assert_eq!(losses.unforeseen(&wanted(&world, std::slice::from_ref(&beta))), [beta.clone()].into());
        losses.account_for(&Plan {
            disowned: vec![(Table::AliasDomain, "beta.example.org".into())],
            ..Plan::default()
        });
        assert!(!losses.is_loss(&world.index, &myhost(), &beta), "its row is gone");
        assert!(!Losses::default().is_loss(&world.index, &myhost(), &key("alpha.example.org")));
    }
}
