//! Verdicts to status patches: only what changed, one patch an object, through one queue.
//!
//! A verdict waits here until a worker is free; a newer one for the same object replaces it. What a patch would say is
//! worked out when it is sent, from the index, and compared with what the object said when it was last seen.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::limits::Limits;
use crate::api::{FIELD_MANAGER, MailAdmin, MailAlias, MailDomain, Mailbox, Reason};
use crate::desired::{Verdict, maildir};
use crate::index::Index;
use crate::index::rows::{Kind, Meta, ObjectId, READY, SeenStatus, WARNING, status_fingerprint};
use crate::metrics::Metrics;
use crate::watches::SharedIndex;

/// Patches under way at once: kube speaks HTTP/1.1, so each is a connection.
const WORKERS: usize = 16;

/// How long one patch may take before it is given up and queued again.
const PATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an object whose patch failed rests.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long the status of a domain rests where only its counts change, so that a burst of mailboxes costs one patch.
const COUNTS_AFTER: Duration = Duration::from_secs(1);

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

#[derive(Default)]
struct Waiting {
    pending: BTreeMap<ObjectId, Pending>,
    /// Objects whose patch is under way: two of one object could arrive in either order.
    under_way: BTreeSet<ObjectId>,
}

struct Pending {
    verdict: Verdict,
    due: Instant,
}

impl Waiting {
    /// The first verdict that is due, else the time at which one will be.
    fn take(&mut self, now: Instant) -> (Option<Verdict>, Option<Instant>) {
        let Self { pending, under_way } = self;
        let mut free = pending.iter().filter(|(id, _)| !under_way.contains(*id));
        match free.clone().find(|(_, pending)| pending.due <= now).map(|(id, _)| id.clone()) {
            Some(id) => {
                under_way.insert(id.clone());
                (pending.remove(&id).map(|pending| pending.verdict), None)
            }
            None => (None, free.by_ref().map(|(_, pending)| pending.due).min()),
        }
    }
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
            let Waiting { pending, under_way } = &mut *waiting;
            for verdict in verdicts {
                let Some(wanted) = WantedStatus::of(&index, &verdict) else { continue };
                // What an object whose patch is under way says when that is done is not known yet.
                if wanted.is_seen() && !under_way.contains(&verdict.object) {
                    pending.remove(&verdict.object);
                    continue;
                }
                let due = if wanted.differs_in_counts_only(&verdict) { now + COUNTS_AFTER } else { now };
                let due = pending.get(&verdict.object).map_or(due, |old| old.due.min(due));
                pending.insert(verdict.object.clone(), Pending { verdict, due });
                queued += 1;
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
        let mut waiting = self.waiting();
        waiting.under_way.remove(object);
        if waiting.pending.contains_key(object) {
            self.0.wake.notify_one();
        }
    }

    async fn patch(&self, verdict: Verdict) {
        let wanted = {
            let index = self.0.index.read();
            WantedStatus::of(&index, &verdict).filter(|wanted| !wanted.is_seen())
        };
        let Some(wanted) = wanted else { return };
        let failure = bounded(self.send(&verdict.object, &wanted)).await.err();
        self.0.metrics.status_patch(failure.is_none());
        if let Some(error) = failure {
            tracing::warn!(object = %verdict.object, error, "status not written, trying again");
            let due = Instant::now() + RETRY_AFTER;
            self.waiting().pending.entry(verdict.object.clone()).or_insert(Pending { verdict, due });
        } else {
            self.0.index.quietly(|index| index.patched(&verdict.object, wanted.seen()));
            if let Some((type_, reason, note)) = wanted.news(&verdict) {
                self.publish(&verdict.object, type_, reason, note).await;
            }
        }
    }

    /// Events are for domains; one for each of a hundred thousand mailboxes would help nobody.
    async fn publish(&self, object: &ObjectId, type_: EventType, reason: Reason, note: String) {
        let reference = ObjectReference {
            uid: self.0.index.read().domain(&object.name).map(|row| row.meta.uid.to_string()),
            ..object.name.reference::<MailDomain>().into()
        };
        let event = Event {
            type_,
            reason: reason.as_str().into(),
            note: Some(note),
            action: "Sync".into(),
            secondary: None,
        };
        let published = self.0.recorder.publish(&event, &reference);
        if let Err(error) = bounded(published).await {
            tracing::debug!(%object, error, "event not published");
        }
    }

    async fn send(&self, object: &ObjectId, wanted: &WantedStatus) -> Result<(), kube::Error> {
        let (namespace, name) = (&object.name.namespace, &object.name.name);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = wanted.patch();
        let client = self.0.client.clone();
        match object.kind {
            Kind::Domain => {
                Api::<MailDomain>::namespaced(client, namespace)
                    .patch_status(name, &parameters, &patch)
                    .await?;
            }
            Kind::Mailbox => {
                Api::<Mailbox>::namespaced(client, namespace).patch_status(name, &parameters, &patch).await?;
            }
            Kind::Admin => {
                Api::<MailAdmin>::namespaced(client, namespace)
                    .patch_status(name, &parameters, &patch)
                    .await?;
            }
            Kind::Alias => {
                Api::<MailAlias>::namespaced(client, namespace)
                    .patch_status(name, &parameters, &patch)
                    .await?;
            }
        }
        Ok(())
    }
}

/// What a request comes to within [`PATCH_TIMEOUT`]; an object that is gone needs nothing any more.
async fn bounded(request: impl Future<Output = Result<(), kube::Error>>) -> Result<(), String> {
    match tokio::time::timeout(PATCH_TIMEOUT, request).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATCH_TIMEOUT.as_secs())),
    }
}

/// What a kind's status says beside its conditions; hashed as the index hashes what it has seen.
#[derive(Serialize)]
#[serde(untagged)]
enum Fields {
    Domain { mailboxes: u32, aliases: u32, quota: Option<i64>, limits: Option<Limits> },
    Mailbox { maildir: Option<String>, server: Option<String> },
    Alias { server: Option<String> },
    Admin {},
}

impl Hash for Fields {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match self {
            Self::Domain { mailboxes, aliases, quota, limits } => {
                (Some(i64::from(*mailboxes)), Some(i64::from(*aliases)), quota, limits).hash(hasher);
            }
            Self::Mailbox { maildir, server } => (maildir, server).hash(hasher),
            Self::Alias { server } => server.hash(hasher),
            Self::Admin {} => {}
        }
    }
}

/// What an object's status should say. Most are only compared with what the object says already.
struct WantedStatus {
    fields: Fields,
    conditions: Vec<Condition>,
    generation: i64,
    fingerprint: u64,
    ready_since: (bool, Timestamp),
    warning_since: Option<Timestamp>,
    previous: SeenStatus,
}

impl WantedStatus {
    /// `None` where the object is gone.
    fn of(index: &Index, verdict: &Verdict) -> Option<Self> {
        let name = &verdict.object.name;
        match verdict.object.kind {
            Kind::Domain => {
                let row = index.domain(name)?;
                let (mailboxes, aliases) = index.counts(row.domain.as_str());
                let quota = index.allotment(row.domain.as_str()).map(|allotment| allotment.quota);
                let fields = Fields::Domain { mailboxes, aliases, quota, limits: row.limits };
                Some(Self::new(&row.meta, verdict, fields))
            }
            Kind::Mailbox => {
                let row = index.mailbox(name)?;
                // Only a mailbox's forwards are left out for the way that they would take.
                let without_forwards = matches!(verdict.reason, Reason::AliasLoop | Reason::TooManyTargets);
                let server = index
                    .server_of(row.address.domain())
                    .filter(|_| is_served(verdict.reason) || without_forwards);
                let maildir = server.and_then(|server| index.server(server)).map(|server| {
                    verdict.maildir.clone().map_or_else(|| maildir(server, &row.address), String::from)
                });
                let server = server.map(ToString::to_string);
                Some(Self::new(&row.meta, verdict, Fields::Mailbox { maildir, server }))
            }
            Kind::Admin => Some(Self::new(&index.admin(name)?.meta, verdict, Fields::Admin {})),
            Kind::Alias => {
                let row = index.alias(name)?;
                let server = index.server_of(row.address.domain()).filter(|_| is_served(verdict.reason));
                let server = server.map(ToString::to_string);
                Some(Self::new(&row.meta, verdict, Fields::Alias { server }))
            }
        }
    }

    fn new(meta: &Meta, verdict: &Verdict, fields: Fields) -> Self {
        let ready = verdict.reason == Reason::Synced;
        let since = meta
            .status
            .ready_since
            .filter(|(was, _)| *was == ready)
            .map_or_else(Timestamp::now, |(_, since)| since);
        let condition = |type_: &str, status: bool, reason: Reason, message: &str, since| Condition {
            type_: type_.to_owned(),
            status: if status { "True" } else { "False" }.to_owned(),
            reason: reason.as_str().to_owned(),
            message: message.to_owned(),
            observed_generation: Some(meta.generation),
            last_transition_time: Time(since),
        };
        let mut conditions = vec![condition(READY, ready, verdict.reason, &verdict.message, since)];
        let warning_since =
            verdict.warning.as_ref().map(|_| meta.status.warning_since.unwrap_or_else(Timestamp::now));
        if let Some(((reason, message), since)) = verdict.warning.as_ref().zip(warning_since) {
            conditions.push(condition(WARNING, true, *reason, message, since));
        }
        Self {
            fingerprint: status_fingerprint(Some(meta.generation), &conditions, &fields),
            fields,
            conditions,
            generation: meta.generation,
            ready_since: (ready, since),
            warning_since,
            previous: meta.status.clone(),
        }
    }

    fn patch(&self) -> Patch<serde_json::Value> {
        let mut status = json!(self.fields);
        status["observedGeneration"] = json!(self.generation);
        status["conditions"] = json!(self.conditions);
        Patch::Merge(json!({"status": status}))
    }

    fn is_seen(&self) -> bool {
        self.fingerprint == self.previous.fingerprint
    }

    fn seen(&self) -> SeenStatus {
        SeenStatus {
            fingerprint: self.fingerprint,
            ready_since: Some(self.ready_since),
            warning_since: self.warning_since,
        }
    }

    /// What an event should tell of a domain: that it is not served, has a warning, or is served again.
    fn news(&self, verdict: &Verdict) -> Option<(EventType, Reason, String)> {
        let was_ready = self.previous.ready_since.map(|(ready, _)| ready);
        let is_new_warning = self.previous.warning_since.is_none();
        match (self.ready_since.0, was_ready, &verdict.warning) {
            _ if verdict.object.kind != Kind::Domain => None,
            (false, None | Some(true), _) => {
                Some((EventType::Warning, verdict.reason, verdict.message.to_string()))
            }
            (true, Some(false), _) => Some((EventType::Normal, verdict.reason, verdict.message.to_string())),
            (_, _, Some((reason, message))) if is_new_warning => {
                Some((EventType::Warning, *reason, message.to_string()))
            }
            _ => None,
        }
    }

    /// Whether a domain's verdict stays as it was: then nobody waits for the patch.
    fn differs_in_counts_only(&self, verdict: &Verdict) -> bool {
        verdict.object.kind == Kind::Domain
            && self.previous.ready_since.is_some_and(|(was, _)| was == self.ready_since.0)
    }
}

/// Whether the object's rows are, or will be, in some server's tables.
fn is_served(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Synced
            | Reason::DriftDetected
            | Reason::Pending
            | Reason::SecretNotFound
            | Reason::SecretInvalid
    )
}
