//! Which addresses name an address as a target: where a change there has to be looked at again.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::rows::{Kind, MailboxRow};
use super::{Index, Key};
use crate::api::{Address, DomainName};

/// Target, without tag, to the addresses that name it and how often. Only aliases, catch-alls and forwards have entries.
#[derive(Debug, Default)]
pub(super) struct Targets(BTreeMap<Key, Vec<(Address, u32)>>);

impl Targets {
    pub(super) fn add(&mut self, namer: &Address, targets: &[Address]) {
        for target in targets {
            let namers = self.0.entry(untagged(target)).or_default();
            match namers.binary_search_by(|(other, _)| other.cmp(namer)) {
                Ok(at) => namers[at].1 += 1,
                Err(at) => namers.insert(at, (namer.clone(), 1)),
            }
        }
    }

    pub(super) fn remove(&mut self, namer: &Address, targets: &[Address]) {
        for target in targets.iter().map(untagged) {
            let Some(namers) = self.0.get_mut(&target) else { continue };
            if let Ok(at) = namers.binary_search_by(|(other, _)| other.cmp(namer)) {
                namers[at].1 -= 1;
                if namers[at].1 == 0 {
                    namers.remove(at);
                }
            }
            if namers.is_empty() {
                self.0.remove(&target);
            }
        }
    }

    fn namers(&self, target: &Key) -> impl Iterator<Item = &Address> {
        self.0.get(target).into_iter().flatten().map(|(namer, _)| namer)
    }

    fn within(&self, domain: &DomainName) -> impl Iterator<Item = &Key> {
        let from = Key::Domain(domain.clone());
        self.0.range(from..).map(|(target, _)| target).take_while(|target| target.domain() == domain.as_str())
    }
}

/// A tagged address (`bill+tag@`) leads to the untagged one, unless it is declared itself.
fn untagged(target: &Address) -> Key {
    Key::Address(target.untagged())
}

impl MailboxRow {
    /// What its identity row names, never nothing: itself, unless `forwardTo` keeps no copy, and `forwardTo`.
    pub fn targets(&self) -> impl Iterator<Item = &Address> {
        let keeps = self.keep_copy || self.forward_to.is_empty() || self.forward_to.contains(&self.address);
        let own = keeps.then_some(&self.address);
        own.into_iter().chain(self.forward_to.iter().filter(|target| **target != self.address))
    }

    /// Whether mail takes the same way as with `other`, an object of the same name.
    pub(super) fn routes_as(&self, other: &Self) -> bool {
        let way = |row: &Self| (row.active, row.keep_copy, row.meta.created);
        way(self) == way(other) && self.address == other.address && self.forward_to == other.forward_to
    }
}

impl Index {
    /// Marks every address from which mail may come to `address`.
    pub(super) fn mark_ways_to(&mut self, address: &Address) {
        if !self.targets.0.is_empty() {
            let starts = self.under_every_name(&untagged(address));
            self.mark_ways(starts);
        }
    }

    /// Marks every address from which mail may come to any address of `domain`.
    pub(super) fn mark_ways_into(&mut self, domain: &str) {
        if self.targets.0.is_empty() {
            return;
        }
        let Ok(domain) = DomainName::parse(domain) else { return };
        let starts = self.aliases_of(&domain).chain([domain.clone()]);
        let starts =
            starts.flat_map(|domain| self.targets.within(&domain).cloned().collect::<Vec<_>>()).collect();
        self.mark_ways(starts);
    }

    fn mark_ways(&mut self, mut waiting: Vec<Key>) {
        let mut seen: HashSet<Address> = HashSet::new();
        while let Some(target) = waiting.pop() {
            let namers: Vec<Address> =
                self.targets.namers(&target).filter(|namer| !seen.contains(*namer)).cloned().collect();
            for namer in namers {
                waiting.extend(self.what_leads_to(&namer));
                if let Some(domain) = catch_all_of(&namer) {
                    self.mark(Key::Domain(domain));
                }
                self.mark(Key::Address(namer.clone()));
                seen.insert(namer);
            }
        }
    }

    /// The targets that lead to the row of `namer`.
    fn what_leads_to(&self, namer: &Address) -> Vec<Key> {
        match catch_all_of(namer) {
            None => self.under_every_name(&untagged(namer)),
            Some(domain) => {
                let own = self.targets.within(&domain).filter(|target| !self.is_mailbox(target)).cloned();
                own.chain(
                    self.aliases_of(&domain)
                        .flat_map(|alias| self.targets.within(&alias).cloned().collect::<Vec<_>>()),
                )
                .collect()
            }
        }
    }

    /// A mailbox takes its mail itself, whatever the catch-all does.
    fn is_mailbox(&self, key: &Key) -> bool {
        let Key::Address(address) = key else { return false };
        let claims = self.entry(address.domain()).map_or(&[][..], |entry| entry.claims(address.local_part()));
        self.winner_among(address.domain(), claims).is_some_and(|claim| claim.object.kind == Kind::Mailbox)
    }

    /// The address itself, and the same local part in the alias domains of its domain.
    fn under_every_name(&self, key: &Key) -> Vec<Key> {
        let Key::Address(address) = key else { return Vec::new() };
        let Ok(domain) = DomainName::parse(address.domain()) else { return Vec::new() };
        let aliases = self.aliases_of(&domain);
        let elsewhere =
            aliases.filter_map(|alias| Address::parse(&format!("{}@{alias}", address.local_part())).ok());
        elsewhere.map(Key::Address).chain([key.clone()]).collect()
    }

    fn aliases_of(&self, domain: &DomainName) -> impl Iterator<Item = DomainName> {
        let aliases: BTreeSet<DomainName> =
            self.alias_domains.of(domain).map(|(alias, _)| alias.clone()).collect();
        aliases.into_iter()
    }

    /// The domain whose addresses `domain` has too, as far as `aliasOf` can be followed: that domain is of the same
    /// server, admits the namespace, and is no alias domain itself.
    #[must_use]
    pub fn alias_target(&self, domain: &str) -> Option<&DomainName> {
        let (holder, row) = self.holder(domain)?;
        let target = row.alias_of.as_ref()?;
        let (other, target_row) = self.holder(target.as_str())?;
        let is_followed = self.server_of(target.as_str()) == Some(&row.server)
            && self.domain_admits(&other.name, target_row, &holder.name.namespace)
            && target_row.alias_of.is_none();
        is_followed.then_some(target)
    }
}

fn catch_all_of(address: &Address) -> Option<DomainName> {
    address.local_part().is_empty().then(|| DomainName::parse(address.domain()).ok()).flatten()
}
