//! Whom mail for a mailbox goes to: itself, which Postfix takes for granted where nothing else answers for its address.

use super::{Entries, Map, without_extension};

/// Has mailboxes stand among the aliases as themselves where something else would answer in their place: the catch-all of the
/// domain, or the alias of an address of which theirs is the tagged one. Of all others there is no such entry: it would double
/// the files, and cost every message a second look-up (virtual(5): a recipient that is not found is left as it is).
///
/// A mailbox that is not among the aliases at all is taken for one without targets of its own.
pub(super) fn name(entries: &mut Entries) {
    let goto = |address: &str| entries.get(&(Map::Alias, address.to_owned()));
    let goes_elsewhere = |address: &str| goto(address).is_some_and(|goto| goto != address);
    let has_catch_all = |address: &str| {
        address.split_once('@').is_some_and(|(_, domain)| goto(&format!("@{domain}")).is_some())
    };
    // One that is switched off is no mailbox here, and its identity stays where it has one.
    let is_mailbox = |address: &str| entries.contains_key(&(Map::Mailbox, address.to_owned()));
    let answers =
        |address: &str| goes_elsewhere(address) || (goto(address).is_some() && !is_mailbox(address));
    let is_tagged = |address: &str| without_extension(address).any(|other| answers(&other));
    let mailboxes = entries.keys().filter(|(map, _)| *map == Map::Mailbox).map(|(_, address)| address);
    let plain = mailboxes.filter(|address| !goes_elsewhere(address));
    let (named, unnamed): (Vec<_>, Vec<_>) =
        plain.cloned().partition(|address: &String| has_catch_all(address) || is_tagged(address));
    for address in unnamed {
        entries.remove(&(Map::Alias, address));
    }
    entries.extend(named.into_iter().map(|address| ((Map::Alias, address.clone()), address)));
}
