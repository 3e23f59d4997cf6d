//! What a set loop has to look at.

use std::collections::BTreeSet;

use super::Key;
use crate::api::DomainName;

/// Keys that a set loop has to look at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Work {
    /// Everything is to be compared, not only `keys`.
    pub all: bool,
    /// Keys that events touched since the work was last taken.
    pub keys: BTreeSet<Key>,
    /// Domains whose counts changed and nothing else: their status is to be told anew.
    pub counted: BTreeSet<DomainName>,
}

impl Work {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.keys.is_empty() && self.counted.is_empty()
    }
}
