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
    /// Hash of the deletions that the pass at hand may do, by a release.
    released: Option<String>,
    /// Hash of those that a pass did by a release, the last one of this process.
    last_release: Option<String>,
}

impl Recent {
    /// A pass begins that would delete these. What an administrator releases counts no more, nor does what went before it.
    pub(super) fn begin(&mut self, deletions: &Doomed, server: &ServerRow) {
        let hash = server.released.as_deref().filter(|_| !deletions.is_empty());
        let hash = hash.filter(|released| *released == hash_of(deletions, self.last_release(server)));
        self.released = hash.map(str::to_owned);
        if self.released.is_some() {
            self.deletions.clear();
        }
    }

    /// The pass did what it had to: a release is used up by it.
    pub(super) fn end(&mut self) {
        self.last_release = self.released.take().or_else(|| self.last_release.take());
    }

    /// Hash of the release that a pass of this process used last.
    pub(super) fn used(&self) -> Option<&str> {
        self.last_release.as_deref()
    }

    /// The same, or what the server's status says of passes before this process.
    fn last_release<'a>(&'a self, server: &'a ServerRow) -> Option<&'a str> {
        self.used().or(server.last_release.as_deref())
    }

    /// Holds `deletions` back if they are, with those of a while, more than the server's `massDeletion` allows of the keys
    /// that are or were `owned`, and not released.
    pub(super) fn hold(
        &mut self,
        now: Instant,
        deletions: &Doomed,
        owned: usize,
        server: &ServerRow,
    ) -> Option<Held> {
        let recent = self.count(now);
        let count = deletions.len() + recent;
        let within_minimum = deletions.is_empty() || count <= server.minimum as usize;
        let within_share = count * 100 <= (owned + recent) * server.max_percent as usize;
        if within_minimum || within_share || self.released.is_some() {
            return None;
        }
        Some(Held {
            keys: deletions.keys().cloned().collect(),
            hash: hash_of(deletions, self.last_release(server)),
        })
    }

    /// Remembers that keys were deleted.
    pub(super) fn add(&mut self, now: Instant, keys: usize) {
        self.forget(now);
        if self.released.is_some() {
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

/// The same names once more, of objects that were made anew, are other deletions: a release is not for them. Nor are the same
/// deletions once more, after a release that was used.
fn hash_of(deletions: &Doomed, last_release: Option<&str>) -> String {
    let names: Vec<String> = deletions.keys().map(Key::to_string).collect();
    let of_key = |(name, uids): (&'_ String, &'_ BTreeSet<String>)| {
        std::iter::once(name.clone()).chain(uids.iter().cloned()).collect::<Vec<_>>()
    };
    let last = last_release.into_iter().map(str::to_owned);
    let parts: Vec<String> = last.chain(names.iter().zip(deletions.values()).flat_map(of_key)).collect();
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

    /// What a pass holds back after so many deletions.
    fn hold(deletions: &Doomed, recent: usize, owned: usize, server: &ServerRow) -> Option<Held> {
        let (mut passes, now) = (Recent::default(), Instant::now());
        passes.add(now, recent);
        pass(&mut passes, now, deletions, owned, server)
    }

    fn pass(
        passes: &mut Recent,
        now: Instant,
        deletions: &Doomed,
        owned: usize,
        server: &ServerRow,
    ) -> Option<Held> {
        passes.begin(deletions, server);
        let held = passes.hold(now, deletions, owned, server);
        passes.add(now, if held.is_none() { deletions.len() } else { 0 });
        passes.end();
        held
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

    /// A namespace that is admitted, and then not any more, loses the same rows of the same objects twice.
    #[test]
    fn a_release_is_used_once() {
        let (mut passes, now) = (Recent::default(), Instant::now());
        let first = pass(&mut passes, now, &keys(31), 100, &server(30, 10, None)).unwrap();
        let annotated = server(30, 10, Some(&first.hash));
        assert_eq!(pass(&mut passes, now, &keys(31), 100, &annotated), None);
        assert_eq!(passes.used(), Some(&*first.hash));
        let second = pass(&mut passes, now, &keys(31), 100, &annotated).unwrap();
        assert_ne!(second.hash, first.hash);
        // Another process knows it by the status.
        let told = ServerRow { last_release: Some(first.hash.into()), ..annotated };
        assert_eq!(pass(&mut Recent::default(), now, &keys(31), 100, &told), Some(second.clone()));
        let annotated = ServerRow { released: Some(second.hash.into()), ..told };
        assert_eq!(pass(&mut Recent::default(), now, &keys(31), 100, &annotated), None);
    }

    #[test]
    fn a_release_that_a_pass_failed_with_can_be_used_by_the_next() {
        let (mut passes, now) = (Recent::default(), Instant::now());
        let held = pass(&mut passes, now, &keys(31), 100, &server(30, 10, None)).unwrap();
        let annotated = server(30, 10, Some(&held.hash));
        passes.begin(&keys(31), &annotated);
        assert_eq!(pass(&mut passes, now, &keys(31), 100, &annotated), None);
    }

    #[tokio::test]
    async fn deletions_one_by_one_are_held_back_as_those_at_once() {
        let (mut passes, start) = (Recent::default(), Instant::now());
        let mut deleted = 0;
        let held = loop {
            match pass(&mut passes, start, &keys(1), 100 - deleted, &server(30, 10, None)) {
                None => deleted += 1,
                Some(held) => break held,
            }
        };
        assert_eq!(deleted, 30);
        assert_eq!(pass(&mut passes, start, &keys(1), 70, &server(30, 10, Some(&held.hash))), None);
        assert_eq!(passes.count(start), 0, "what was released holds nothing else up");
        passes.add(start, 30);
        let later = start + WHILE;
        assert_eq!(pass(&mut passes, later, &keys(1), 70, &server(30, 10, None)), None);
    }
}
