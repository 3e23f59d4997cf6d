//! What an object's status should say, and whether it says so already.

use std::hash::{Hash, Hasher};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::runtime::events::EventType;
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::Reason;
use crate::api::limits::Limits;
use crate::desired::{Verdict, maildir};
use crate::index::Index;
use crate::index::rows::{Kind, Meta, READY, SeenStatus, WARNING, status_fingerprint};

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
pub(super) struct WantedStatus {
    fields: Fields,
    conditions: Vec<Condition>,
    generation: i64,
    fingerprint: u64,
    told: u64,
    ready_since: (bool, Timestamp),
    warning_since: Option<Timestamp>,
    previous: SeenStatus,
}

impl WantedStatus {
    /// `None` where the object is gone.
    pub(super) fn of(index: &Index, verdict: &Verdict) -> Option<Self> {
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
            told: status_fingerprint(Some(meta.generation), &conditions, ()),
            fields,
            conditions,
            generation: meta.generation,
            ready_since: (ready, since),
            warning_since,
            previous: meta.status.clone(),
        }
    }

    /// All of it; a field that is to have no value is null.
    pub(super) fn status(&self) -> Value {
        let mut status = json!(self.fields);
        status["observedGeneration"] = json!(self.generation);
        status["conditions"] = json!(self.conditions);
        status
    }

    /// Version of the object that was seen last; 0 where it is not known.
    pub(super) fn version(&self) -> u64 {
        self.previous.version
    }

    pub(super) fn is_seen(&self) -> bool {
        self.fingerprint == self.previous.fingerprint
    }

    /// What the object says once it is written, in this version.
    pub(super) fn seen(&self, version: u64) -> SeenStatus {
        SeenStatus {
            version,
            fingerprint: self.fingerprint,
            told: self.told,
            ready_since: Some(self.ready_since),
            warning_since: self.warning_since,
        }
    }

    /// What an event should tell of a domain: that it is not served, has a warning, or is served again.
    pub(super) fn news(&self, verdict: &Verdict) -> Option<(EventType, Reason, String)> {
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

    /// Whether everything but the counts of a domain is as the object says already: then nobody waits for the patch.
    pub(super) fn differs_in_counts_only(&self) -> bool {
        matches!(self.fields, Fields::Domain { .. }) && self.told == self.previous.told
    }
}

/// Whether the object's rows are, or will be, in some server's tables. Where it is over a limit or one of its fields can't be
/// used, the rows that it has stay.
fn is_served(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Synced
            | Reason::DriftDetected
            | Reason::Invalid
            | Reason::LimitExceeded
            | Reason::SecretNotFound
            | Reason::SecretInvalid
    )
}
