//! The entries of a server's look-up files in shards that each fit into a `ConfigMap`, and back.
//!
//! Pure. Where an entry lies depends on nothing but the set: every address has a place, a hash of its domain followed by
//! one of itself, and a shard holds the places that begin with its own bits. One that grows too large becomes two. So
//! a changed mailbox changes one shard, a domain lies together while it fits, and no placement has to be remembered.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hash;
use super::maps::{Entries, Map};

#[cfg(test)]
mod tests;

/// Most bytes of text in a shard. A `ConfigMap` holds 1 MiB; the rest is for its metadata.
pub const LIMIT: usize = 900_000;

/// Number of the shard that holds every place.
const WHOLE: u64 = 1;

/// Longest name of a file: a key of a `ConfigMap`'s data has at most 253 characters, [`mounted_name`]'s included.
const MAX_FILE_NAME: usize = 250;

/// Texts by file name, as they stand in a `ConfigMap`: one file for each domain and table of addresses, as in
/// `mailbox_maps.alpha.example.org`, and one for each table of domains.
pub type Files = BTreeMap<String, String>;

/// Shards by number. Shard 1 is the whole; shard n is divided into 2n and 2n + 1.
pub type Shards = BTreeMap<u64, Files>;

/// Most shards of a server: the Postfix pod names the `ConfigMap` of each in advance, so that one more needs no restart.
pub const SLOTS: u32 = 64;

/// Name of the manifest's text in its `ConfigMap`.
pub const MANIFEST_FILE: &str = "manifest.json";

/// Which shards make up the whole set.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Where each shard is, by its number.
    pub shards: BTreeMap<u64, Placement>,
    /// Domains whose addresses are those of another domain: their entries go and come with that one's.
    #[serde(default)]
    pub alias_domains: BTreeSet<String>,
}

/// Where a shard is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Placement {
    /// Number of the `ConfigMap`, below [`SLOTS`].
    pub slot: u32,
    /// [`hash`] of the shard's files.
    pub hash: String,
}

/// The set isn't whole: some `ConfigMap` doesn't hold the shard yet that the manifest places there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("shard {number} of the look-up files is not yet the one of the manifest")]
pub struct Incomplete {
    /// The first such shard.
    pub number: u64,
}

/// There are more entries than [`SLOTS`] shards hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the accounts fill {0} ConfigMaps, and the Postfix pod mounts {SLOTS}: use lookupTables: proxy:mysql for so many"
)]
pub struct TooMany(usize);

impl Manifest {
    /// The manifest of a set. A shard stays where it was `before`; a new one goes where nothing is.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn of(shards: &Shards, alias_domains: BTreeSet<String>, before: &Self) -> Result<Self, TooMany> {
        let kept = |number: &u64| before.shards.get(number).map(|placement| placement.slot);
        let taken: BTreeSet<u32> = shards.keys().filter_map(kept).collect();
        let mut free = (0..SLOTS).filter(|slot| !taken.contains(slot));
        let placed = shards.iter().map(|(number, files)| {
            let slot = kept(number).or_else(|| free.next()).ok_or(TooMany(shards.len()))?;
            Ok((*number, Placement { slot, hash: hash(files) }))
        });
        Ok(Self { shards: placed.collect::<Result<_, _>>()?, alias_domains })
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Reads [`Manifest::text`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Identity of the whole set.
    #[must_use]
    pub fn hash(&self) -> String {
        hash(&self.shards.iter().map(|(number, shard)| (number.to_string(), shard.hash.clone())).collect())
    }

    /// The sources of all tables, an empty one for a table without entries, from what each `ConfigMap` holds. Those that
    /// the manifest doesn't name are of an earlier set, and left out.
    ///
    /// # Errors
    /// [`Incomplete`] where a shard is missing or is not the one that the manifest names.
    pub fn assemble(&self, slots: &BTreeMap<u32, Files>) -> Result<BTreeMap<Map, String>, Incomplete> {
        let mut sources: BTreeMap<Map, String> = Map::ALL.map(|map| (map, String::new())).into();
        for (&number, Placement { slot, hash: wanted }) in &self.shards {
            let files = slots.get(slot).filter(|files| hash(files) == *wanted);
            for (name, text) in files.ok_or(Incomplete { number })? {
                if let Some(source) = map_of(name).and_then(|map| sources.get_mut(&map)) {
                    source.push_str(text);
                }
            }
        }
        Ok(sources)
    }
}

/// The entries that stand in some files, as far as they can be read.
#[must_use]
pub fn read_entries(files: &Files) -> Entries {
    let lines = files.iter().filter_map(|(name, text)| Some((map_of(name)?, text)));
    let entries = lines.flat_map(|(map, text)| text.lines().map(move |line| (map, line)));
    entries
        .filter_map(|(map, line)| {
            line.split_once(' ').map(|(key, value)| ((map, key.to_owned()), value.to_owned()))
        })
        .collect()
}

/// Name of a shard's file beside those of all other shards, as the Postfix pod mounts them.
#[must_use]
pub fn mounted_name(slot: u32, file: &str) -> String {
    format!("{slot}.{file}")
}

/// Reads [`mounted_name`] back.
#[must_use]
pub fn from_mounted_name(name: &str) -> Option<(u32, &str)> {
    let (slot, file) = name.split_once('.')?;
    Some((slot.parse().ok()?, file))
}

/// Divides the entries into shards. Always at least one, so that "no entries" can be told from "not there yet".
#[must_use]
pub fn shards(entries: &Entries) -> Shards {
    let mut placed: Vec<Placed<'_>> = entries.iter().map(Placed::new).collect();
    placed.sort_by_key(|placed| placed.place);
    let mut shards = Shards::new();
    divide(WHOLE, 0, &placed, &mut shards);
    shards
}

/// An entry at its place.
struct Placed<'a> {
    place: u64,
    map: Map,
    domain: &'a str,
    key: &'a str,
    value: &'a str,
}

impl<'a> Placed<'a> {
    fn new(((map, key), value): (&'a (Map, String), &'a String)) -> Self {
        let domain = key.rsplit_once('@').map_or(key.as_str(), |(_, domain)| domain);
        Self {
            place: u64::from(hash32(domain)) << 32 | u64::from(hash32(key)),
            map: *map,
            domain,
            key,
            value,
        }
    }

    fn len(&self) -> usize {
        self.key.len() + self.value.len() + 2
    }

    /// What the names of a domain's files add: in the data, and in the list of managed fields.
    fn len_of_names(&self) -> usize {
        let files = Map::ALL.into_iter().filter(|map| map.holds_addresses()).count();
        files * 2 * (self.domain.len() + 16)
    }

    fn file_name(&self) -> String {
        let map = self.map.as_str();
        if !self.map.holds_addresses() {
            return map.to_owned();
        }
        let name = format!("{map}.{}", self.domain);
        if name.len() <= MAX_FILE_NAME { name } else { format!("{map}.{:08x}", hash32(self.domain)) }
    }
}

/// Places are spread evenly, whatever the addresses are: the first bytes of a SHA-256.
fn hash32(text: &str) -> u32 {
    Sha256::digest(text.as_bytes()).iter().take(4).fold(0, |hash, byte| hash << 8 | u32::from(*byte))
}

/// The table that a file of a shard is a part of.
fn map_of(file: &str) -> Option<Map> {
    let table = file.split('.').next();
    Map::ALL.into_iter().find(|map| table == Some(map.as_str()))
}

/// Makes shard `number` of entries whose places agree in the first `depth` bits, or divides them at the next bit.
fn divide(number: u64, depth: u32, placed: &[Placed<'_>], shards: &mut Shards) {
    // Beside a domain that needs more than one shard there may be nothing at all, over many bits.
    if placed.is_empty() && number != WHOLE {
        return;
    }
    // Deeper, the number would overflow; two addresses that agree in as many bits don't exist.
    if depth == u64::BITS - 1 || size(placed) <= LIMIT {
        shards.insert(number, files(placed));
        return;
    }
    let bit = 1 << (u64::BITS - 1 - depth);
    let (low, high) = placed.split_at(placed.partition_point(|placed| placed.place & bit == 0));
    divide(2 * number, depth + 1, low, shards);
    divide(2 * number + 1, depth + 1, high, shards);
}

fn size(placed: &[Placed<'_>]) -> usize {
    let of_a_domain = placed.chunk_by(|a, b| a.place >> 32 == b.place >> 32);
    let names: usize = of_a_domain.filter_map(|chunk| chunk.first()).map(Placed::len_of_names).sum();
    names + placed.iter().map(Placed::len).sum::<usize>()
}

fn files(placed: &[Placed<'_>]) -> Files {
    let mut ordered: Vec<&Placed<'_>> = placed.iter().collect();
    ordered.sort_by_key(|placed| (placed.map, placed.domain, placed.key));
    let mut files = Files::new();
    for placed in ordered {
        let text = files.entry(placed.file_name()).or_default();
        text.push_str(placed.key);
        text.push(' ');
        text.push_str(placed.value);
        text.push('\n');
    }
    files
}
