//! How many keys a pass reads and writes together.

use crate::index::Key;

/// Keys in one transaction, about.
const CHUNK: usize = 1000;

/// Slices of about [`CHUNK`] keys; a domain stays with its catch-all, whose fate its verdict tells.
pub(super) fn chunks(keys: &[Key]) -> Vec<&[Key]> {
    let mut chunks = Vec::new();
    let mut rest = keys;
    while !rest.is_empty() {
        let mut size = rest.len().min(CHUNK);
        while size < rest.len() && rest[size].is_catch_all() {
            size += 1;
        }
        let (chunk, after) = rest.split_at(size);
        chunks.push(chunk);
        rest = after;
    }
    chunks
}
