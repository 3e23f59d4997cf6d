//! The brake on deletions: which of a pass's deletions are held back. Pure.

use std::collections::BTreeSet;

use crate::index::Key;
use crate::index::rows::ServerRow;
use crate::plan::fingerprint::digest;

/// Deletions that wait for a release.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Held {
    /// The keys whose rows would be deleted.
    pub keys: BTreeSet<Key>,
    /// What the annotation must say to release these and no others.
    pub hash: String,
}

impl Held {
    /// A sentence with the number and three examples.
    pub(super) fn message(&self) -> String {
        let examples = self.keys.iter().take(3).map(Key::as_str).collect::<Vec<_>>().join(", ");
        format!(
            "{} deletions are held back, {examples} among them: if they are meant, annotate the MailServer with {}={}",
            self.keys.len(),
            crate::index::rows::RELEASE_ANNOTATION,
            self.hash
        )
    }
}

/// Holds `deletions` back if they are more than the server's `massDeletion` allows of `owned` keys and not released.
pub(super) fn hold(deletions: BTreeSet<Key>, owned: usize, server: &ServerRow) -> Option<Held> {
    let count = deletions.len();
    let within_minimum = count <= server.minimum as usize;
    let within_share = count * 100 <= owned * server.max_percent as usize;
    if within_minimum || within_share {
        return None;
    }
    let hash = digest(&deletions.iter().map(Key::as_str).collect::<Vec<_>>());
    (server.released.as_deref() != Some(&hash)).then_some(Held { keys: deletions, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(max_percent: u32, minimum: u32, released: Option<&str>) -> ServerRow {
        ServerRow {
            max_percent,
            minimum,
            released: released.map(Into::into),
            ..crate::index::rows::tests::server_row()
        }
    }

    fn keys(count: usize) -> BTreeSet<Key> {
        (0..count).filter_map(|i| Key::from_row(&format!("u{i}@alpha.example.org"))).collect()
    }

    #[test]
    fn few_deletions_and_small_shares_go_through() {
        assert_eq!(hold(keys(10), 12, &server(30, 10, None)), None);
        assert_eq!(hold(keys(30), 100, &server(30, 10, None)), None);
    }

    #[test]
    fn a_release_is_for_one_plan_only() {
        let held = hold(keys(31), 100, &server(30, 10, None)).unwrap();
        assert_eq!(held.keys.len(), 31);
        assert!(held.message().contains(&held.hash) && held.message().contains("31 deletions"));
        assert_eq!(hold(keys(31), 100, &server(30, 10, Some(&held.hash))), None);
        assert!(hold(keys(32), 100, &server(30, 10, Some(&held.hash))).is_some());
    }
}
