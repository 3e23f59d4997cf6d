//! The brake on deletions: which of a pass's deletions are held back. Pure; the time is an argument.
//!
//! A pass begins with the first event, so what a command or a delivery tool deletes one by one is spread over many of
//! them: the deletions of a while count together.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::index::Key;
use crate::index::rows::ServerRow;
use crate::plan::fingerprint::digest;

/// How long a deletion counts.
const WHILE: Duration = Duration::from_mins(10);

/// Deletions that were let through a short while ago.
#[derive(Debug, Default)]
pub(super) struct Recent {
    deletions: VecDeque<(Instant, usize)>,
    is_released: bool,
}

impl Recent {
    /// What an administrator releases counts no more, nor does what went before it.
    pub(super) fn release(&mut self, is_released: bool) {
        self.is_released = is_released;
        if is_released {
            self.deletions.clear();
        }
    }

    /// Remembers that keys were deleted.
    pub(super) fn add(&mut self, now: Instant, keys: usize) {
        self.forget(now);
        if self.is_released {
            return;
        }
        match self.deletions.back_mut() {
            // As coarse as this is fine enough, and keeps the list short.
            Some((at, count)) if now - *at < WHILE / 100 => *count += keys,
            _ if keys > 0 => self.deletions.push_back((now, keys)),
            _ => {}
        }
    }

    /// How many count now.
    pub(super) fn count(&mut self, now: Instant) -> usize {
        self.forget(now);
        self.deletions.iter().map(|(_, count)| count).sum()
    }

    fn forget(&mut self, now: Instant) {
        while self.deletions.front().is_some_and(|(at, _)| now - *at >= WHILE) {
            self.deletions.pop_front();
        }
    }
}

/// The keys that would lose rows, and the uids of the objects that own those.
pub(super) type Doomed = BTreeMap<Key, BTreeSet<String>>;

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
        let examples = self.keys.iter().take(3).map(Key::to_string).collect::<Vec<_>>().join(", ");
        format!(
            "{} deletions are held back, {examples} among them: if they are meant, annotate the MailServer with {}={}",
            self.keys.len(),
            crate::index::rows::RELEASE_ANNOTATION,
            self.hash
        )
    }
}

/// Holds `deletions` back if they are, with the `recent` ones, more than the server's `massDeletion` allows of the keys
/// that are or were `owned`, and not released.
pub(super) fn hold(deletions: &Doomed, recent: usize, owned: usize, server: &ServerRow) -> Option<Held> {
    let count = deletions.len() + recent;
    let within_minimum = deletions.is_empty() || count <= server.minimum as usize;
    let within_share = count * 100 <= (owned + recent) * server.max_percent as usize;
    if within_minimum || within_share {
        return None;
    }
    let hash = hash(deletions);
    (server.released.as_deref() != Some(&hash))
        .then(|| Held { keys: deletions.keys().cloned().collect(), hash })
}

/// Whether an administrator released these deletions.
pub(super) fn is_released(deletions: &Doomed, server: &ServerRow) -> bool {
    server.released.as_deref().is_some_and(|released| released == hash(deletions))
}

/// The same names once more, of objects that were made anew, are other deletions: a release is not for them.
fn hash(deletions: &Doomed) -> String {
    let names: Vec<String> = deletions.keys().map(Key::to_string).collect();
    let of_key = |(name, uids): (&'_ String, &'_ BTreeSet<String>)| {
        std::iter::once(name.clone()).chain(uids.iter().cloned()).collect::<Vec<_>>()
    };
    let parts: Vec<String> = names.iter().zip(deletions.values()).flat_map(of_key).collect();
    digest(&parts.iter().map(String::as_str).collect::<Vec<_>>())
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

    fn keys(count: usize) -> Doomed {
        let key = |i: usize| {
            Some((Key::from_row(&format!("u{i}@alpha.example.org"))?, [format!("uid-{i}")].into()))
        };
        (0..count).filter_map(key).collect()
    }

    #[test]
    fn few_deletions_and_small_shares_go_through() {
        assert_eq!(hold(&keys(10), 0, 12, &server(30, 10, None)), None);
        assert_eq!(hold(&keys(30), 0, 100, &server(30, 10, None)), None);
        assert_eq!(hold(&keys(0), 100, 0, &server(30, 10, None)), None);
    }

    #[test]
    fn a_release_is_for_one_plan_only() {
        let held = hold(&keys(31), 0, 100, &server(30, 10, None)).unwrap();
        assert_eq!(held.keys.len(), 31);
        assert!(held.message().contains(&held.hash) && held.message().contains("31 deletions"));
        assert_eq!(hold(&keys(31), 0, 100, &server(30, 10, Some(&held.hash))), None);
        assert!(hold(&keys(32), 0, 100, &server(30, 10, Some(&held.hash))).is_some());
    }

    #[test]
    fn a_release_does_not_hold_for_objects_made_anew_under_the_same_names() {
        let held = hold(&keys(31), 0, 100, &server(30, 10, None)).unwrap();
        let anew = keys(31).into_keys().map(|key| (key, ["another".to_owned()].into())).collect();
        assert!(hold(&anew, 0, 100, &server(30, 10, Some(&held.hash))).is_some());
    }

    #[tokio::test]
    async fn deletions_one_by_one_are_held_back_as_those_at_once() {
        let mut recent = Recent::default();
        let start = Instant::now();
        let mut deleted = 0;
        while hold(&keys(1), recent.count(start), 100 - deleted, &server(30, 10, None)).is_none() {
            recent.add(start, 1);
            deleted += 1;
        }
        assert_eq!(deleted, 30);
        assert!(is_released(&keys(1), &server(30, 10, Some(&hash(&keys(1))))));
        recent.release(true);
        recent.add(start, 70);
        assert_eq!(recent.count(start), 0, "what was released holds nothing else up");
        recent.release(false);
        recent.add(start, 30);
        let later = start + WHILE;
        assert_eq!(hold(&keys(1), recent.count(later), 70, &server(30, 10, None)), None);
    }
}
