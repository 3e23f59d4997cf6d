//! Who mail is delivered as: the answers of [`super::Map::Uid`] and [`super::Map::Gid`].

use super::{DISABLED, Entries, Map, without_extension};

/// Has every mailbox find its owner, where some mail has one of its own. The answer is that of the mailbox that was found:
///
/// * Every domain names an owner: a `static:` map after these would answer for a tagged address before the plain one is asked
///   for.
/// * A mailbox without an owner of its own names its domain's, where it could be taken for the tagged address of one with.
/// * A mailbox that is switched off names none: its address may be the tagged address of one that is not.
pub(super) fn name(entries: &mut Entries, owner: (i32, i32)) {
    if !entries.keys().any(|(map, _)| *map == Map::Uid) {
        return;
    }
    for (map, owner) in [(Map::Uid, owner.0), (Map::Gid, owner.1)] {
        name_those_of_domains(entries, map, &owner.to_string());
        drop_those_switched_off(entries, map);
        name_those_of_mailboxes(entries, map);
    }
}

fn name_those_of_domains(entries: &mut Entries, map: Map, owner: &str) {
    let domains = entries.keys().filter(|(map, _)| *map == Map::Domains);
    let keys: Vec<String> = domains.map(|(_, domain)| format!("@{domain}")).collect();
    for key in keys {
        entries.entry((map, key)).or_insert_with(|| owner.to_owned());
    }
}

fn drop_those_switched_off(entries: &mut Entries, map: Map) {
    let disabled = entries.iter().filter(|((of, _), answer)| *of == Map::Disabled && *answer == DISABLED);
    let keys: Vec<String> = disabled.map(|((_, address), _)| address.clone()).collect();
    for key in keys {
        entries.remove(&(map, key));
    }
}

fn name_those_of_mailboxes(entries: &mut Entries, map: Map) {
    let owner = |key: &str| entries.get(&(map, key.to_owned()));
    let named: Vec<(String, String)> = entries
        .keys()
        .filter(|(of, address)| *of == Map::Mailbox && owner(address).is_none())
        .filter(|(_, address)| without_extension(address).any(|other| owner(&other).is_some()))
        .filter_map(|(_, address)| {
            let (_, domain) = address.split_once('@')?;
            Some((address.clone(), owner(&format!("@{domain}"))?.clone()))
        })
        .collect();
    entries.extend(named.into_iter().map(|(address, owner)| ((map, address), owner)));
}
