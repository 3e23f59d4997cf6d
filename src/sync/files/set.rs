//! What the files hold, what they should hold, and what would go. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{Desired, Verdict};
use crate::index::Key;
use crate::postfix::maps::{self, Entries, Map};
use crate::report::Counts;
use crate::tables::{IdRow, Row};

/// The entries of a server's look-up files.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Set {
    pub entries: Entries,
    /// Domains that have their entries from another domain.
    pub alias_domains: BTreeSet<String>,
}

/// What is declared.
#[derive(Default)]
pub(super) struct Wanted {
    pub rows: Vec<Row>,
    pub verdicts: Vec<Verdict>,
    pub counts: Counts,
    /// Keys under which something is declared, whether it is active or not.
    present: BTreeSet<Key>,
    /// Keys of objects that can't have what they declare now: what they had stays.
    pub kept: BTreeSet<Key>,
}

impl Wanted {
    /// Those of the keys under which nothing is declared any more.
    pub(super) fn gone(&self, keys: BTreeSet<Key>) -> BTreeSet<Key> {
        keys.into_iter().filter(|key| !self.present.contains(key) && !self.kept.contains(key)).collect()
    }

    /// Adds what is declared under a key; the objects are told of it if `is_told`.
    pub(super) fn add(&mut self, key: &Key, desired: Desired, is_told: bool) {
        if !desired.kept.is_empty() {
            self.kept.insert(key.clone());
        }
        if !desired.wants.is_empty() {
            self.present.insert(key.clone());
        }
        for want in desired.wants {
            match &want.row {
                Row::Domain(_) => self.counts.domains += 1,
                Row::Mailbox(_) => self.counts.mailboxes += 1,
                // The identity row of a mailbox is no alias.
                Row::Alias(_) if !want.keep_foreign_targets => self.counts.aliases += 1,
                _ => {}
            }
            self.rows.push(want.row);
        }
        if is_told {
            self.verdicts.extend(desired.verdicts);
        }
    }
}

impl Set {
    pub(super) fn new(entries: Entries, alias_domains: BTreeSet<String>) -> Self {
        Self { entries, alias_domains }
    }

    /// The keys that something is found under; those of alias domains go and come with others.
    pub(super) fn keys(&self) -> BTreeSet<Key> {
        let is_account = |map: Map| !matches!(map, Map::Uid | Map::Gid);
        let keys = self.entries.keys().filter(|(map, _)| is_account(*map));
        keys.filter_map(|(_, key)| Key::from_row(key))
            .filter(|key| matches!(key, Key::Domain(_)) || !self.alias_domains.contains(key.domain()))
            .collect()
    }

    /// The same with what stays of `before`: under keys of objects that are refused what they declare now, and under
    /// those of `stays`, with what alias domains have of them. `owner`: of mail for which none is named.
    pub(super) fn with_kept(
        mut self,
        before: &Self,
        wanted: &Wanted,
        stays: &BTreeSet<Key>,
        owner: (i32, i32),
    ) -> Self {
        if wanted.kept.is_empty() && stays.is_empty() {
            return self;
        }
        for ((map, text), value) in &before.entries {
            let Some(key) = key_of(*map, text) else { continue };
            let is_inherited = !stays.is_empty() && before.alias_domains.contains(key.domain());
            if is_inherited || stays.contains(&key) || wanted.kept.contains(&key) {
                self.entries.entry((*map, text.clone())).or_insert_with(|| value.clone());
            }
        }
        if !stays.is_empty() {
            self.alias_domains.extend(before.alias_domains.iter().cloned());
        }
        maps::complete(&mut self.entries, owner);
        self
    }

    /// The owners of mail that are looked up under some keys.
    pub(super) fn ids<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> Vec<IdRow> {
        let id = |map, key: &Key| {
            let text = match key {
                Key::Domain(domain) => format!("@{domain}"),
                _ => key.as_str().to_owned(),
            };
            self.entries.get(&(map, text))?.parse().ok()
        };
        let row = |key: &Key| {
            Some(IdRow { key: key.as_str().to_owned(), uid: id(Map::Uid, key)?, gid: id(Map::Gid, key)? })
        };
        keys.into_iter().filter_map(row).collect()
    }

    /// The path of each of some mailboxes.
    pub(super) fn maildirs(&self, ids: &[IdRow]) -> BTreeMap<String, String> {
        let path = |row: &IdRow| {
            Some((row.key.clone(), self.entries.get(&(Map::Mailbox, row.key.clone()))?.clone()))
        };
        ids.iter().filter_map(path).collect()
    }

    /// Whether any key has an entry.
    pub(super) fn has_any(&self, map: Map) -> bool {
        self.entries.keys().any(|(of, _)| *of == map)
    }
}

/// The key that an entry stays with; of the owners of mail `@domain` is the domain's, not the catch-all's.
fn key_of(map: Map, text: &str) -> Option<Key> {
    let of_domain = text.strip_prefix('@').filter(|_| matches!(map, Map::Uid | Map::Gid));
    Key::from_row(of_domain.unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::desired::desired;
    use crate::object::ObjectName;
    use crate::testing::World;

    const OWNER: (i32, i32) = (901, 901);

    fn set(lines: &[(Map, &str)]) -> Set {
        let entries = lines.iter().map(|(map, key)| ((*map, (*key).to_owned()), "x".to_owned()));
        Set::new(entries.collect(), ["delta.org".to_owned()].into())
    }

    fn key(text: &str) -> Key {
        Key::from_row(text).unwrap()
    }

    /// Two domains, and who owns their mail.
    const DOMAINS: [(Map, &str); 6] = [
        (Map::Domains, "alpha.org"),
        (Map::Domains, "delta.org"),
        (Map::Uid, "@alpha.org"),
        (Map::Gid, "@alpha.org"),
        (Map::Uid, "@delta.org"),
        (Map::Gid, "@delta.org"),
    ];

    fn before() -> Set {
        let accounts = [
            (Map::Mailbox, "bob@alpha.org"),
            (Map::Alias, "bob@alpha.org"),
            (Map::Alias, "bob@delta.org"),
            (Map::Disabled, "cid@alpha.org"),
        ];
        set(&[&DOMAINS[..], &accounts].concat())
    }

    #[test]
    fn an_account_counts_once_and_those_of_alias_domains_not_at_all() {
        let keys = ["alpha.org", "bob@alpha.org", "cid@alpha.org", "delta.org"].map(key);
        assert_eq!(before().keys(), keys.into());
    }

    #[test]
    fn what_is_held_back_stays_with_what_alias_domains_have_of_it() {
        let wanted = Wanted { present: ["alpha.org", "delta.org"].map(key).into(), ..Wanted::default() };
        let gone = wanted.gone(before().keys());
        assert_eq!(gone, ["bob@alpha.org", "cid@alpha.org"].map(key).into());
        let left = set(&DOMAINS);
        assert_eq!(left.clone().with_kept(&before(), &wanted, &gone, OWNER), before());
        assert_eq!(left.clone().with_kept(&before(), &wanted, &BTreeSet::new(), OWNER), left);
    }

    #[test]
    fn an_object_that_is_refused_what_it_declares_keeps_what_it_had() {
        let mut wanted = Wanted::default();
        wanted.add(&key("bob@alpha.org"), Desired { kept: vec!["uid".into()], ..Desired::default() }, true);
        assert!(!wanted.gone(before().keys()).contains(&key("bob@alpha.org")));
        let kept = set(&[]).with_kept(&before(), &wanted, &BTreeSet::new(), OWNER);
        assert_eq!(
            kept.entries,
            set(&[(Map::Mailbox, "bob@alpha.org"), (Map::Alias, "bob@alpha.org")]).entries
        );
    }

    #[test]
    fn a_mailbox_that_stays_is_kept_from_a_catch_all_that_is_new() {
        let bob = (Map::Mailbox, "bob@alpha.org".to_owned());
        let before = Set::new([(bob.clone(), "alpha.org/bob/".to_owned())].into(), BTreeSet::new());
        let catch_all = ((Map::Alias, "@alpha.org".to_owned()), "x@elsewhere.org".to_owned());
        let wanted = Wanted::default();
        let set = Set::new([catch_all.clone()].into(), BTreeSet::new());
        let identity = ((Map::Alias, bob.1.clone()), bob.1.clone());
        let entries = [catch_all, (bob, "alpha.org/bob/".to_owned()), identity].into();
        assert_eq!(set.with_kept(&before, &wanted, &[key("bob@alpha.org")].into(), OWNER).entries, entries);
    }

    #[test]
    fn a_mailbox_that_is_switched_off_is_not_gone() {
        let mut world = World::with_alpha();
        world.mailbox("mail", "bob", 2, json!({"address": "bob@alpha.example.org", "active": false}));
        let bob = key("bob@alpha.example.org");
        let before = set(&[(Map::Mailbox, "bob@alpha.example.org")]);
        let mut wanted = Wanted::default();
        wanted.add(&bob, desired(&world.index, &ObjectName::new("mail", "myhost"), &bob), false);
        assert!(wanted.gone(before.keys()).is_empty());
        assert_eq!((wanted.counts.mailboxes, wanted.counts.aliases), (1, 0));
    }

    fn entries(lines: &[(Map, &str, &str)]) -> Entries {
        lines.iter().map(|(map, key, value)| ((*map, (*key).to_owned()), (*value).to_owned())).collect()
    }

    /// virtual(8) defers what it finds no owner for: once one is named, every domain names one.
    #[test]
    fn an_owner_that_stays_leaves_no_mail_without_one() {
        let before = Set::new(
            entries(&[
                (Map::Domains, "alpha.org", "alpha.org"),
                (Map::Uid, "@alpha.org", "950"),
                (Map::Gid, "@alpha.org", "951"),
            ]),
            BTreeSet::new(),
        );
        let declared = Set::new(entries(&[(Map::Domains, "beta.org", "beta.org")]), BTreeSet::new());
        let stays = [key("alpha.org")].into();
        let set = declared.with_kept(&before, &Wanted::default(), &stays, OWNER);
        let uid = |domain: &str| set.entries.get(&(Map::Uid, domain.to_owned())).map(String::as_str);
        assert_eq!((uid("@alpha.org"), uid("@beta.org")), (Some("950"), Some("901")));
        assert_eq!(set.ids(&stays), [IdRow { key: "alpha.org".to_owned(), uid: 950, gid: 951 }]);
    }

    #[test]
    fn the_owner_of_a_domain_is_not_its_catch_alls() {
        let before = set(&[(Map::Uid, "@alpha.org"), (Map::Alias, "@alpha.org")]);
        let stays = [key("@alpha.org")].into();
        let kept = set(&[]).with_kept(&before, &Wanted::default(), &stays, OWNER);
        assert_eq!(kept.entries, set(&[(Map::Alias, "@alpha.org")]).entries);
    }

    /// Its mail would leave for the domain's MX hosts.
    #[test]
    fn a_domain_that_is_switched_off_counts_and_stays() {
        let before = Set::new(set(&[(Map::Transport, "alpha.org")]).entries, BTreeSet::new());
        assert_eq!(before.keys(), [key("alpha.org")].into());
        let kept = Set::default().with_kept(&before, &Wanted::default(), &before.keys(), OWNER);
        assert_eq!(kept, before);
    }

    #[test]
    fn the_mailbox_of_an_owner_that_stays_has_its_path() {
        let bob = "bob@alpha.org";
        let set = Set::new(
            entries(&[(Map::Mailbox, bob, "alpha.org/bob/"), (Map::Uid, bob, "950"), (Map::Gid, bob, "951")]),
            BTreeSet::new(),
        );
        let ids = set.ids(&[key(bob), key("alpha.org")]);
        assert_eq!(set.maildirs(&ids), [(bob.to_owned(), "alpha.org/bob/".to_owned())].into());
    }
}
