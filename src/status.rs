//! Verdicts to statuses: written only where they changed, once an object, through one queue.
//!
//! A verdict waits here until a worker is free; a newer one for the same object replaces it. What a patch would say is
//! worked out when it is sent, from the index, and compared with what the object said when it was last seen.

mod waiting;
mod wanted;
mod write;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{EventType, Recorder, Reporter};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::{FIELD_MANAGER, MailDomain, Reason};
use crate::client;
use crate::desired::Verdict;
use crate::event::event;
use crate::index::Index;
use crate::index::rows::ObjectId;
use crate::metrics::Metrics;
use crate::watches::SharedIndex;
use waiting::Waiting;
use wanted::WantedStatus;

/// Writes under way at once: kube speaks HTTP/1.1, so each is a connection.
const WORKERS: usize = 16;

/// How long an object rests whose patch failed, and everything where the API server is away.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long the status of a domain rests where only its counts change: a burst over a hundred domains costs twenty patches a
/// second.
const COUNTS_AFTER: Duration = Duration::from_secs(5);

/// The queue; cloning it shares it.
#[derive(Clone)]
pub struct Statuses(Arc<Queue>);

struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
    index: SharedIndex,
    client: Client,
    metrics: Metrics,
    recorder: Recorder,
}

impl Statuses {
    /// An empty queue.
    #[must_use]
    pub fn new(client: Client, index: SharedIndex, metrics: Metrics) -> Self {
        let waiting = Mutex::default();
        let recorder = Recorder::new(client.clone(), Reporter::from(FIELD_MANAGER));
        Self(Arc::new(Queue { waiting, wake: Notify::new(), index, client, metrics, recorder }))
    }

    /// Queues verdicts whose objects don't say so yet.
    pub fn offer(&self, verdicts: impl IntoIterator<Item = Verdict>) {
        let now = Instant::now();
        let mut queued = 0;
        {
            let index = self.0.index.read();
            let mut waiting = self.waiting();
            for verdict in verdicts {
                queued += usize::from(queue(&index, &mut waiting, verdict, now));
            }
        }
        for _ in 0..queued.min(WORKERS) {
            self.0.wake.notify_one();
        }
    }

    /// Patches until its future is dropped.
    pub async fn run(self) {
        futures::future::join_all((0..WORKERS).map(|_| self.work())).await;
    }

    async fn work(&self) {
        loop {
            let (verdict, next) = self.take();
            match (verdict, next) {
                (Some(verdict), _) => {
                    let object = verdict.object.clone();
                    self.patch(verdict).await;
                    self.done(&object);
                }
                (None, Some(due)) => {
                    let _ = tokio::time::timeout_at(due, self.0.wake.notified()).await;
                }
                (None, None) => self.0.wake.notified().await,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> (Option<Verdict>, Option<Instant>) {
        self.waiting().take(Instant::now())
    }

    /// A newer verdict may have waited for the end of this patch.
    fn done(&self, object: &ObjectId) {
        if self.waiting().done(object, Instant::now()) {
            self.0.wake.notify_one();
        }
    }

    async fn patch(&self, verdict: Verdict) {
        let wanted = {
            let index = self.0.index.read();
            WantedStatus::of(&index, &verdict).filter(|wanted| !wanted.is_seen())
        };
        let Some(wanted) = wanted else { return };
        let (client, status) = (&self.0.client, wanted.status());
        let written = client::bounded(write::write(client, &verdict.object, wanted.version(), &status)).await;
        let is_done = written.as_ref().err().is_none_or(client::Error::is_not_found);
        self.0.metrics.status_patch(verdict.object.kind, is_done);
        match written {
            Ok(version) => {
                self.0.index.quietly(|index| index.patched(&verdict.object, wanted.seen(version)));
                if let Some((type_, reason, note)) = wanted.news(&verdict) {
                    self.publish(&verdict.object, type_, reason, note).await;
                }
            }
            // One of its name that is there now has been told nothing.
            Err(error) if error.is_not_found() => {}
            Err(error) => self.put_back(verdict, &error),
        }
    }

    fn put_back(&self, verdict: Verdict, error: &client::Error) {
        let now = Instant::now();
        let mut waiting = self.waiting();
        if !error.is_outage() {
            tracing::warn!(object = %verdict.object, %error, "status not written, trying again");
            waiting.put_back(verdict, now + RETRY_AFTER, now);
            return;
        }
        waiting.put_back(verdict, now, now);
        if waiting.pause(now + RETRY_AFTER, now) {
            tracing::warn!(%error, "no status can be written, trying again");
        }
    }

    /// Events are for domains; one for each of a hundred thousand mailboxes would help nobody.
    async fn publish(&self, object: &ObjectId, type_: EventType, reason: Reason, note: String) {
        let reference = ObjectReference {
            uid: self.0.index.read().domain(&object.name).map(|row| row.meta.uid.to_string()),
            ..object.name.reference::<MailDomain>().into()
        };
        let event = event(type_, reason, note);
        if let Err(error) = client::bounded(self.0.recorder.publish(&event, &reference)).await {
            tracing::debug!(%object, %error, "event not published");
        }
    }
}

/// Queues a verdict, unless its object says so already. Gives whether it did.
fn queue(index: &Index, waiting: &mut Waiting, verdict: Verdict, now: Instant) -> bool {
    let Some(wanted) = WantedStatus::of(index, &verdict) else { return false };
    if wanted.is_seen() && waiting.remove(&verdict.object) {
        return false;
    }
    let at = if wanted.differs_in_counts_only() { now + COUNTS_AFTER } else { now };
    waiting.put(verdict, at, now);
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::index::rows::Kind;
    use crate::object::ObjectName;
    use crate::testing::{World, api_server, failure};

    fn synced(kind: Kind, name: &str) -> Verdict {
        Verdict::new(&ObjectId { kind, name: ObjectName::new("mail", name) }, Reason::Synced, "")
    }

    fn mailbox(world: &mut World, name: &str) {
        world.mailbox("mail", name, 2, json!({"address": format!("{name}@alpha.example.org")}));
    }

    fn seen(world: &mut World, verdict: &Verdict) {
        let seen = WantedStatus::of(&world.index, verdict).unwrap().seen(0);
        world.index.patched(&verdict.object, seen);
    }

    #[tokio::test]
    async fn nothing_is_queued_for_an_object_that_says_so_or_is_gone() {
        let (mut world, mut waiting, now) = (World::with_alpha(), Waiting::default(), Instant::now());
        mailbox(&mut world, "bob");
        let bob = synced(Kind::Mailbox, "bob");
        assert!(queue(&world.index, &mut waiting, bob.clone(), now));
        seen(&mut world, &bob);
        assert!(!queue(&world.index, &mut waiting, bob, now));
        assert!(!queue(&world.index, &mut waiting, synced(Kind::Mailbox, "gone"), now));
        assert_eq!(waiting.take(now), (None, None), "and what waited is forgotten");
    }

    #[tokio::test]
    async fn a_domain_waits_where_only_its_counts_change() {
        let (mut world, mut waiting, now) = (World::with_alpha(), Waiting::default(), Instant::now());
        let alpha = synced(Kind::Domain, "alpha");
        assert!(queue(&world.index, &mut waiting, alpha.clone(), now));
        assert_eq!(waiting.take(now).0.as_ref(), Some(&alpha), "the first one is told at once");
        waiting.done(&alpha.object, now);
        seen(&mut world, &alpha);
        mailbox(&mut world, "bob");
        assert!(queue(&world.index, &mut waiting, alpha.clone(), now));
        assert_eq!(waiting.take(now), (None, Some(now + COUNTS_AFTER)));
        let refused = Verdict::new(&alpha.object, Reason::RowRefused, "");
        assert!(queue(&world.index, &mut waiting, refused.clone(), now));
        assert_eq!(waiting.take(now).0, Some(refused), "another verdict is told at once");
    }

    /// Deleted and made anew while its status was on the way: the new one has been told nothing.
    #[tokio::test]
    async fn a_status_that_found_no_object_is_not_taken_for_told() {
        let index = SharedIndex::default();
        let mut world = World::with_alpha();
        mailbox(&mut world, "bob");
        index.quietly(|index| *index = world.index);
        let client = api_server(|_| failure(404, "NotFound", "there is no such object"));
        let statuses = Statuses::new(client, index.clone(), Metrics::default());
        let bob = synced(Kind::Mailbox, "bob");
        statuses.patch(bob.clone()).await;
        assert!(!WantedStatus::of(&index.read(), &bob).unwrap().is_seen());
        assert_eq!(statuses.take(), (None, None), "nor is it tried again");
    }
}
