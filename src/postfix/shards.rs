//! The entries of a server's look-up files in shards that each fit into a `ConfigMap`, and back.
//!
//! Pure. Where an entry lies depends on nothing but the set: every address has a place, a hash of its domain followed by
//! one of itself, and a shard holds the places that begin with its own bits. One that grows too large becomes two. So
//! a changed mailbox changes one shard, a domain lies together while it fits, and no placement has to be remembered.

use std::collections::BTreeMap;

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

/// Longest key of a `ConfigMap`'s data.
const MAX_FILE_NAME: usize = 253;

/// Texts by file name, as they stand in a `ConfigMap`: one file for each domain and table of addresses, as in
/// `mailbox_maps.alpha.example.org`, and one for each table of domains.
pub type Files = BTreeMap<String, String>;

/// Shards by number. Shard 1 is the whole; shard n is divided into 2n and 2n + 1.
pub type Shards = BTreeMap<u64, Files>;

/// Which shards make up the whole set, each with the hash of its files.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Manifest {
    /// [`hash`] of the files by the shard's number.
    pub shards: BTreeMap<u64, String>,
}

/// The set isn't whole: some shards are not yet those that the manifest names.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("shard {number} of the look-up tables is not yet the one of the manifest")]
pub struct Incomplete {
    /// The first such shard.
    pub number: u64,
}

impl Manifest {
    /// The manifest of a set.
    #[must_use]
    pub fn of(shards: &Shards) -> Self {
        Self { shards: shards.iter().map(|(number, files)| (*number, hash(files))).collect() }
    }

    /// The sources of all tables, an empty one for a table without entries. Shards that the manifest doesn't name are
    /// of an earlier set, and left out.
    ///
    /// # Errors
    /// [`Incomplete`] where a shard is missing or is not the one that the manifest names.
    pub fn assemble(&self, shards: &Shards) -> Result<BTreeMap<Map, String>, Incomplete> {
        let mut sources: BTreeMap<Map, String> = Map::ALL.map(|map| (map, String::new())).into();
        for (&number, wanted) in &self.shards {
            let files = shards.get(&number).filter(|files| hash(files) == *wanted);
            let files = files.ok_or(Incomplete { number })?;
            for (map, source) in &mut sources {
                source.extend(
                    files.iter().filter(|(name, _)| is_of(name, *map)).map(|(_, text)| text.as_str()),
                );
            }
        }
        Ok(sources)
    }
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

fn is_of(file: &str, map: Map) -> bool {
    file.split('.').next() == Some(map.as_str())
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
