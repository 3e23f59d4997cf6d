//! What a set loop reads of the tables while the API server is still listing.

use std::collections::VecDeque;

use super::chunk::chunks;
use crate::index::Key;
use crate::plan::Current;
use crate::store::{self, Owned, Store};

/// Chunks that are read ahead; more would take as much memory as all the rest.
const CHUNKS: usize = 10;

/// What the first full comparison begins with. Nobody else changes who owns what.
#[derive(Default)]
pub(super) struct Ahead {
    /// What the server owns.
    pub(super) owned: Owned,
    /// What is there under the first of these keys.
    pub(super) rows: Rows,
}

impl Ahead {
    /// Reads it all.
    pub(super) async fn read(store: &mut Store, server: &str) -> Result<Self, store::Error> {
        let mut ahead = Self::without_rows(store, server).await?;
        for chunk in chunks(ahead.owned.keys.iter().cloned()).take(CHUNKS) {
            let current = store.read(&chunk.iter().collect::<Vec<_>>()).await?;
            ahead.rows.0.push_back((chunk, current));
        }
        Ok(ahead)
    }

    /// Reads only what is owned.
    pub(super) async fn without_rows(store: &mut Store, server: &str) -> Result<Self, store::Error> {
        Ok(Self { owned: store.owned(server).await?, rows: Rows::default() })
    }
}

/// Rows that were read ahead, in chunks.
#[derive(Default)]
pub(super) struct Rows(VecDeque<(Vec<Key>, Current)>);

impl Rows {
    /// What was read of exactly these keys, if it was.
    pub(super) fn take(&mut self, keys: &[Key]) -> Option<Current> {
        let (read, current) = self.0.pop_front()?;
        (read == keys).then_some(current)
    }
}
