use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;

/// Mailboxes with their identity rows, over some domains.
fn entries(domains: usize, mailboxes: usize) -> Entries {
    let mut entries = Entries::new();
    for number in 0..mailboxes {
        let domain = format!("d{}.example.org", number % domains);
        let address = format!("user{number}@{domain}");
        entries.insert((Map::Domains, domain.clone()), domain.clone());
        entries.insert((Map::Mailbox, address.clone()), format!("{domain}/user{number}/"));
        entries.insert((Map::Alias, address.clone()), address);
    }
    entries
}

fn text(files: &Files) -> usize {
    files.iter().map(|(name, text)| name.len() + text.len()).sum()
}

fn manifest(shards: &Shards) -> Manifest {
    Manifest::of(shards, BTreeSet::new(), &Manifest::default()).unwrap()
}

/// What the `ConfigMap`s hold.
fn slots(manifest: &Manifest, shards: &Shards) -> BTreeMap<u32, Files> {
    let placed = manifest
        .shards
        .iter()
        .filter_map(|(number, placement)| Some((placement.slot, shards.get(number)?.clone())));
    placed.collect()
}

fn changed(before: &Shards, after: &Shards) -> Vec<u64> {
    let numbers: std::collections::BTreeSet<u64> = before.keys().chain(after.keys()).copied().collect();
    numbers.into_iter().filter(|number| before.get(number) != after.get(number)).collect()
}

#[test]
fn a_small_server_has_one_shard_with_files_as_in_the_seed() {
    let entries: Entries = [
        ((Map::Domains, "alpha.example.org"), "alpha.example.org"),
        ((Map::Domains, "beta.example.org"), "beta.example.org"),
        ((Map::Mailbox, "alfred@alpha.example.org"), "alpha.example.org/alfred/"),
        ((Map::Mailbox, "agnes@alpha.example.org"), "alpha.example.org/agnes/"),
        ((Map::Mailbox, "bill@beta.example.org"), "beta.example.org/bill/"),
        ((Map::Alias, "@beta.example.org"), "bill@beta.example.org"),
        ((Map::Alias, "info@alpha.example.org"), "alfred@alpha.example.org,bill@beta.example.org"),
        ((Map::Disabled, "carl@beta.example.org"), "550 5.1.1 mailbox disabled"),
    ]
    .map(|((map, key), value)| ((map, key.to_owned()), value.to_owned()))
    .into();
    let shards = shards(&entries);
    assert_eq!(shards.keys().collect::<Vec<_>>(), [&1]);
    let texts: Vec<_> = shards[&1].iter().map(|(name, text)| format!("== {name}\n{text}")).collect();
    insta::assert_snapshot!("seed_files", texts.concat());
}

#[test]
fn no_entries_are_one_shard_without_files() {
    let shards = shards(&Entries::new());
    assert_eq!(shards, Shards::from([(1, Files::new())]));
    let manifest = manifest(&shards);
    let sources = manifest.assemble(&slots(&manifest, &shards)).unwrap();
    assert!(sources.len() == Map::ALL.len() && sources.values().all(String::is_empty));
}

/// Plain mailboxes, which are no aliases of themselves: docs/look-up-files.md has the number.
#[test]
fn a_hundred_thousand_mailboxes_fill_about_ten_config_maps() {
    let mut entries = entries(100, 100_000);
    entries.retain(|(map, _), _| *map != Map::Alias);
    let number = shards(&entries).len();
    assert!((8..=12).contains(&number), "{number}");
}

#[test]
fn every_shard_of_a_large_server_fits_into_a_config_map() {
    for (domains, mailboxes) in [(1, 40_000), (100, 40_000), (20_000, 40_000)] {
        let shards = shards(&entries(domains, mailboxes));
        assert!(shards.len() > 3, "{domains} domains: {}", shards.len());
        assert!(shards.len() <= 16, "{domains} domains: {}", shards.len());
        assert!(shards.values().all(|files| text(files) <= LIMIT), "{domains} domains");
    }
}

#[test]
fn a_new_mailbox_changes_one_shard() {
    let mut entries = entries(100, 20_000);
    let before = shards(&entries);
    assert!(before.len() > 1);
    for number in 0..20 {
        let address = format!("new{number}@d7.example.org");
        let mut with = entries.clone();
        with.insert((Map::Mailbox, address.clone()), format!("d7.example.org/new{number}/"));
        with.insert((Map::Alias, address.clone()), address);
        assert_eq!(changed(&before, &shards(&with)).len(), 1);
    }
    entries.remove(&(Map::Alias, "user7@d7.example.org".to_owned()));
    assert_eq!(changed(&before, &shards(&entries)).len(), 1);
}

#[test]
fn a_set_that_is_not_whole_is_no_set() {
    let before = shards(&entries(100, 20_000));
    let manifest = manifest(&before);
    let whole = slots(&manifest, &before);
    let (&last, placement) = manifest.shards.last_key_value().unwrap();
    let mut lacking = whole.clone();
    lacking.remove(&placement.slot);
    assert_eq!(manifest.assemble(&lacking), Err(Incomplete { number: last }));
    let other = || Files::from([("domains_maps".to_owned(), "x.example.org x.example.org\n".to_owned())]);
    let mut stale = whole.clone();
    stale.get_mut(&placement.slot).unwrap().extend(other());
    assert_eq!(manifest.assemble(&stale), Err(Incomplete { number: last }));
    let mut left_over = whole.clone();
    left_over.insert(SLOTS - 1, other());
    assert_eq!(manifest.assemble(&left_over), manifest.assemble(&whole));
}

#[test]
fn a_shard_stays_where_it_was_and_no_two_are_in_one_place() {
    let small = shards(&entries(100, 3_000));
    let mut before = manifest(&small);
    for mailboxes in [20_000, 60_000, 20_000, 70_000] {
        let shards = shards(&entries(100, mailboxes));
        let after = Manifest::of(&shards, BTreeSet::new(), &before).unwrap();
        let places: BTreeSet<u32> = after.shards.values().map(|placement| placement.slot).collect();
        assert_eq!(places.len(), shards.len());
        for (number, placement) in &before.shards {
            assert!(after.shards.get(number).is_none_or(|now| now.slot == placement.slot));
        }
        before = after;
    }
}

#[test]
fn more_than_the_pod_mounts_is_refused() {
    let shards: Shards = (64..=64 + u64::from(SLOTS)).map(|number| (number, Files::new())).collect();
    let refused = Manifest::of(&shards, BTreeSet::new(), &Manifest::default()).unwrap_err();
    assert!(refused.to_string().contains("proxy:mysql"), "{refused}");
}

#[test]
fn the_manifest_and_the_names_of_mounted_files_are_read_as_they_were_written() {
    let manifest = Manifest {
        alias_domains: ["delta.example.org".to_owned()].into(),
        ..manifest(&shards(&entries(3, 9)))
    };
    assert_eq!(Manifest::parse(&manifest.text()), Some(manifest));
    assert_eq!(from_mounted_name(&mounted_name(17, "alias_maps.a.org")), Some((17, "alias_maps.a.org")));
    assert_eq!(from_mounted_name("manifest.json"), None);
}

#[test]
fn a_file_of_the_longest_domain_has_a_name_that_kubernetes_takes() {
    let domain = format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(58));
    let entries =
        Entries::from([((Map::Disabled, format!("a@{domain}")), "550 5.1.1 mailbox disabled".into())]);
    assert!(shards(&entries)[&1].keys().all(|name| mounted_name(SLOTS, name).len() <= 253));
}

fn map() -> impl Strategy<Value = Map> {
    prop::sample::select(&Map::ALL[..])
}

proptest! {
    #[test]
    fn what_is_assembled_is_what_was_divided(
        addresses in btree_map((map(), "[a-z]{1,3}", "[a-e]"), "[a-z/,]{1,40}", 0..60)
    ) {
        let entries: Entries = addresses
            .into_iter()
            .map(|((map, local, domain), value)| {
                let at = if map.holds_addresses() { "@" } else { "." };
                ((map, format!("{local}{at}{domain}.example.org")), value)
            })
            .collect();
        let shards = shards(&entries);
        let manifest = manifest(&shards);
        let sources = manifest.assemble(&slots(&manifest, &shards)).unwrap();
        let of_files = sources.into_iter().map(|(map, source)| (map.as_str().to_owned(), source)).collect();
        prop_assert_eq!(read_entries(&of_files), entries);
    }
}
