//! Verdicts that wait for a worker: first come, first served, one of an object. No IO; the time is an argument.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::{HashMap, HashSet};

use tokio::time::Instant;

use crate::desired::Verdict;
use crate::index::rows::ObjectId;

/// The queue.
#[derive(Default)]
pub(super) struct Waiting {
    pending: HashMap<ObjectId, Pending>,
    /// Objects that are due, in the order in which they came; some may have nothing pending any more.
    due: VecDeque<ObjectId>,
    /// Objects that rest until a time.
    resting: BTreeSet<(Instant, ObjectId)>,
    /// Objects whose patch is under way: two of one object could arrive in either order.
    under_way: HashSet<ObjectId>,
    /// Until when nothing is due.
    paused_until: Option<Instant>,
}

struct Pending {
    verdict: Verdict,
    at: Instant,
}

impl Waiting {
    /// Queues a verdict that is due `at` a time, in the place of an older one for its object.
    pub(super) fn put(&mut self, verdict: Verdict, at: Instant, now: Instant) {
        let object = verdict.object.clone();
        let old = self.pending.get(&object).map(|pending| pending.at);
        let at = old.map_or(at, |old| old.min(at));
        self.pending.insert(object.clone(), Pending { verdict, at });
        if old != Some(at) {
            if let Some(old) = old {
                self.resting.remove(&(old, object.clone()));
            }
            self.enqueue(object, at, now);
        }
    }

    /// Queues a verdict that was taken and not told, unless there is a newer one.
    pub(super) fn put_back(&mut self, verdict: Verdict, at: Instant, now: Instant) {
        if !self.pending.contains_key(&verdict.object) {
            self.put(verdict, at, now);
        }
    }

    /// Forgets what waits for an object that says so already, unless a patch of it is under way: what the object says when
    /// that is done is not known yet. Gives whether it is not.
    pub(super) fn remove(&mut self, object: &ObjectId) -> bool {
        if self.under_way.contains(object) {
            return false;
        }
        if let Some(pending) = self.pending.remove(object) {
            self.resting.remove(&(pending.at, object.clone()));
        }
        true
    }

    /// Nothing is due until then. Gives whether something was.
    pub(super) fn pause(&mut self, until: Instant, now: Instant) -> bool {
        let was_paused = self.paused_until.is_some_and(|until| now < until);
        self.paused_until = Some(until);
        !was_paused
    }

    /// The verdict that has been due for longest, whose patch is under way then; else the time at which one will be due.
    pub(super) fn take(&mut self, now: Instant) -> (Option<Verdict>, Option<Instant>) {
        if let Some(until) = self.paused_until.filter(|until| now < *until) {
            return (None, Some(until));
        }
        while self.resting.first().is_some_and(|(at, _)| *at <= now) {
            self.due.extend(self.resting.pop_first().map(|(_, object)| object));
        }
        while let Some(object) = self.due.pop_front() {
            // Left from something that was removed.
            if self.under_way.contains(&object) {
                continue;
            }
            if let Some(pending) = self.pending.remove(&object) {
                self.under_way.insert(object);
                return (Some(pending.verdict), None);
            }
        }
        (None, self.resting.first().map(|(at, _)| *at))
    }

    /// The patch of an object has ended. Gives whether a newer verdict waited for that.
    pub(super) fn done(&mut self, object: &ObjectId, now: Instant) -> bool {
        self.under_way.remove(object);
        let at = self.pending.get(object).map(|pending| pending.at);
        if let Some(at) = at {
            self.enqueue(object.clone(), at, now);
        }
        at.is_some()
    }

    /// What waits for the end of a patch has its place only then.
    fn enqueue(&mut self, object: ObjectId, at: Instant, now: Instant) {
        if self.under_way.contains(&object) {
            return;
        }
        if at <= now {
            self.due.push_back(object);
        } else {
            self.resting.insert((at, object));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::Reason;
    use crate::index::rows::Kind;
    use crate::object::ObjectName;

    const REST: Duration = Duration::from_secs(5);

    fn object(name: &str) -> ObjectId {
        ObjectId { kind: Kind::Mailbox, name: ObjectName::new("mail", name) }
    }

    fn verdict(name: &str, message: &'static str) -> Verdict {
        Verdict::new(&object(name), Reason::Synced, message)
    }

    /// Name and message of what is taken.
    fn taken(waiting: &mut Waiting, now: Instant) -> Option<String> {
        let verdict = waiting.take(now).0?;
        Some(format!("{} {}", verdict.object.name.name, verdict.message))
    }

    #[tokio::test]
    async fn who_came_first_is_served_first_with_the_newest_that_is_to_be_told() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        for (name, message) in [("zoe", "old"), ("adam", "a"), ("zoe", "new")] {
            waiting.put(verdict(name, message), now, now);
        }
        assert_eq!(taken(&mut waiting, now).as_deref(), Some("zoe new"));
        assert_eq!(taken(&mut waiting, now).as_deref(), Some("adam a"));
        assert_eq!(waiting.take(now), (None, None));
    }

    #[tokio::test]
    async fn of_one_object_one_patch_is_under_way() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        waiting.put(verdict("zoe", "first"), now, now);
        assert_eq!(taken(&mut waiting, now).as_deref(), Some("zoe first"));
        waiting.put(verdict("zoe", "second"), now, now);
        assert!(!waiting.remove(&object("zoe")), "what it says is not known now");
        assert_eq!(waiting.take(now), (None, None));
        assert!(waiting.done(&object("zoe"), now));
        assert_eq!(taken(&mut waiting, now).as_deref(), Some("zoe second"));
        assert!(!waiting.done(&object("zoe"), now));
    }

    #[tokio::test]
    async fn what_failed_rests_and_gives_way_to_what_is_newer() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        waiting.put(verdict("zoe", "failed"), now, now);
        taken(&mut waiting, now);
        waiting.put_back(verdict("zoe", "failed"), now + REST, now);
        waiting.done(&object("zoe"), now);
        assert_eq!(waiting.take(now), (None, Some(now + REST)));
        waiting.put(verdict("zoe", "newer"), now, now);
        waiting.put_back(verdict("zoe", "failed"), now, now);
        assert_eq!(taken(&mut waiting, now).as_deref(), Some("zoe newer"));
        waiting.done(&object("zoe"), now);
        assert_eq!(waiting.take(now + REST), (None, None));
    }

    #[tokio::test]
    async fn while_the_api_server_is_away_nothing_is_tried_and_nothing_is_lost() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        for name in ["zoe", "adam"] {
            waiting.put(verdict(name, "x"), now, now);
        }
        assert_eq!(taken(&mut waiting, now).as_deref(), Some("zoe x"));
        waiting.put_back(verdict("zoe", "x"), now, now);
        assert!(waiting.pause(now + REST, now) && !waiting.pause(now + REST, now), "it is told once");
        waiting.done(&object("zoe"), now);
        assert_eq!(waiting.take(now), (None, Some(now + REST)));
        assert_eq!(taken(&mut waiting, now + REST).as_deref(), Some("adam x"));
        assert_eq!(taken(&mut waiting, now + REST).as_deref(), Some("zoe x"));
    }

    #[tokio::test]
    async fn who_rests_keeps_nobody_waiting_and_comes_when_it_is_due() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        waiting.put(verdict("alpha", "counts"), now + REST, now);
        waiting.put(verdict("alpha", "more counts"), now + 2 * REST, now);
        waiting.put(verdict("zoe", "z"), now, now);
        assert_eq!(taken(&mut waiting, now).as_deref(), Some("zoe z"));
        assert_eq!(waiting.take(now), (None, Some(now + REST)));
        assert_eq!(taken(&mut waiting, now + REST).as_deref(), Some("alpha more counts"));
    }

    #[tokio::test]
    async fn what_is_removed_is_not_told() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        waiting.put(verdict("zoe", "z"), now, now);
        waiting.put(verdict("alpha", "counts"), now + REST, now);
        assert!(waiting.remove(&object("zoe")) && waiting.remove(&object("alpha")));
        waiting.put(verdict("zoe", "again"), now, now);
        waiting.put(verdict("adam", "a"), now, now);
        assert_eq!(taken(&mut waiting, now).as_deref(), Some("zoe again"));
        waiting.put(verdict("zoe", "and again"), now, now);
        assert_eq!(taken(&mut waiting, now).as_deref(), Some("adam a"), "zoe's patch is under way");
        assert_eq!(waiting.take(now + REST), (None, None));
    }
}
