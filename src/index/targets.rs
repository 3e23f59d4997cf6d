//! Which addresses name an address as a target: where a change there has to be looked at again.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::rows::{Kind, MailboxRow};
use super::{Index, Key};
use crate::api::{Address, DomainName};

/// Target, without tag, to the addresses that name it. Only aliases, catch-alls and forwards have entries.
///
/// Where a tag begins is the matter of a server, and which server a target is of may change. So what counts as a tag here is
/// what counts as one for any server: an address and what it is without a tag have one entry, whatever their server is.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// The characters that begin a tag for any server.
    delimiters: BTreeSet<char>,
    by_target: BTreeMap<Key, Namers>,
}

/// Who names a target.
#[derive(Debug, Default)]
struct Namers {
    /// The addresses, and how often each does.
    addresses: Vec<(Address, u32)>,
    /// How often it is named with a tag.
    tagged: u32,
}

impl Targets {
    fn with(delimiters: BTreeSet<char>) -> Self {
        Self { delimiters, by_target: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, namer: &Address, targets: &[Address]) {
        for target in targets {
            let trunk = target.trunk(&self.delimiters);
            let is_tagged = trunk != *target;
            let namers = self.by_target.entry(Key::Address(trunk)).or_default();
            namers.tagged += u32::from(is_tagged);
            match namers.addresses.binary_search_by(|(other, _)| other.cmp(namer)) {
                Ok(at) => namers.addresses[at].1 += 1,
                Err(at) => namers.addresses.insert(at, (namer.clone(), 1)),
            }
        }
    }

    pub(super) fn remove(&mut self, namer: &Address, targets: &[Address]) {
        for target in targets {
            let trunk = target.trunk(&self.delimiters);
            let is_tagged = trunk != *target;
            let key = Key::Address(trunk);
            let Some(Namers { addresses, tagged }) = self.by_target.get_mut(&key) else { continue };
            if let Ok(at) = addresses.binary_search_by(|(other, _)| other.cmp(namer)) {
                *tagged -= u32::from(is_tagged);
                addresses[at].1 -= 1;
                if addresses[at].1 == 0 {
                    addresses.remove(at);
                }
            }
            if addresses.is_empty() {
                self.by_target.remove(&key);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }

    /// What an address is without anything that is a tag for some server.
    fn trunk(&self, address: &Address) -> Key {
        Key::Address(address.trunk(&self.delimiters))
    }

    fn namers(&self, target: &Key) -> impl Iterator<Item = &Address> {
        self.by_target.get(target).into_iter().flat_map(|namers| &namers.addresses).map(|(namer, _)| namer)
    }

    /// Whether a target is named without a tag only, and mail that brings a tag along would find its row too: no server
    /// splits `owner-x` at `-`, nor anything at its first character.
    fn ends_at_its_row(&self, target: &Address) -> bool {
        let splits_again = target.local_part() != "owner"
            && !target.local_part().starts_with(|c| self.delimiters.contains(&c));
        let namers = self.by_target.get(&Key::Address(target.clone()));
        splits_again && namers.is_none_or(|namers| namers.tagged == 0)
    }

    fn within(&self, domain: &DomainName) -> impl Iterator<Item = &Key> {
        let from = Key::Domain(domain.clone());
        let targets = self.by_target.range(from..).map(|(target, _)| target);
        targets.take_while(|target| target.domain() == domain.as_str())
    }
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
    /// Sorts the targets anew, if the servers begin tags with other characters than before.
    pub(super) fn follow_delimiters(&mut self) {
        let servers = self.servers.values();
        let delimiters: BTreeSet<char> =
            servers.flat_map(|server| server.recipient_delimiter.as_str().chars()).collect();
        if delimiters == self.targets.delimiters {
            return;
        }
        let mut targets = Targets::with(delimiters);
        for row in self.domains.values() {
            targets.add(&row.domain.catch_all(), &row.catch_all);
        }
        for row in self.mailboxes.values() {
            targets.add(&row.address, &row.forward_to);
        }
        for row in self.aliases.values() {
            targets.add(&row.address, &row.goto);
        }
        self.targets = targets;
    }

    /// Marks every address from which mail may come to `address`.
    pub(super) fn mark_ways_to(&mut self, address: &Address) {
        if !self.targets.is_empty() {
            let starts = self.under_every_name(&self.targets.trunk(address));
            self.mark_ways(starts);
        }
    }

    /// Marks every address from which mail may come to any address of `domain`.
    pub(super) fn mark_ways_into(&mut self, domain: &str) {
        if self.targets.is_empty() {
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
            None => self.under_every_name(&self.targets.trunk(namer)),
            Some(domain) => {
                let own =
                    self.targets.within(&domain).filter(|target| !self.stays_in_mailbox(target)).cloned();
                own.chain(
                    self.aliases_of(&domain)
                        .flat_map(|alias| self.targets.within(&alias).cloned().collect::<Vec<_>>()),
                )
                .collect()
            }
        }
    }

    /// A mailbox takes its mail itself, whatever the catch-all does. What is a tag for one server only, it takes there only.
    fn stays_in_mailbox(&self, key: &Key) -> bool {
        let Key::Address(address) = key else { return false };
        if !self.targets.ends_at_its_row(address) {
            return false;
        }
        let claims = self.entry(address.domain()).map_or(&[][..], |entry| entry.claims(address.local_part()));
        self.winner_among(address.domain(), claims).is_some_and(|claim| claim.object.kind == Kind::Mailbox)
    }

    /// The address itself, and the same local part in the alias domains of its domain.
    fn under_every_name(&self, key: &Key) -> Vec<Key> {
        let Key::Address(address) = key else { return Vec::new() };
        let Ok(domain) = DomainName::parse(address.domain()) else { return Vec::new() };
        let elsewhere = self.aliases_of(&domain).map(|alias| Key::Address(address.at(&alias)));
        elsewhere.chain([key.clone()]).collect()
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
