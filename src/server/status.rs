//! What was found out about a server -> its status, and the event that a change of it deserves. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{Timestamp, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};

use super::agent::AgentStatus;
use super::build::{FORCE_ANNOTATION, SMTP_PORT, names};
use super::pods::PodState;
use crate::api::mail_server::ReplicaStatus;
use crate::api::{MailServer, MailServerStatus, Reason, condition};
use crate::index::stored_as::recorded;
use crate::object::ObjectName;
use crate::report::{Finding, ServerReport};

/// Everything is looked at again this often, events or none.
pub const RESYNC: Duration = Duration::from_mins(10);

/// How soon a server is looked at again that waits for somebody else's Secret, of which no watch tells.
const RECHECK_CREDENTIALS: Duration = Duration::from_secs(10);

/// How soon a server is looked at again whose agents have not taken a changed configuration or emptied a queue yet.
const RECHECK_AGENTS: Duration = Duration::from_secs(2);

/// What one reconciliation found out.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Whether a configuration could be made of the spec.
    pub config: Finding,
    /// Hash of that configuration; `None`: there is none.
    pub config_hash: Option<String>,
    /// What the agents of the ready Postfix pods say, by the pod's name.
    pub replicas: BTreeMap<String, AgentStatus>,
    /// Postfix pods that are to empty their queues and go.
    pub leaving: BTreeSet<String>,
    /// What is wrong with the Secrets of an external database.
    pub credentials: Option<Finding>,
    /// What the set loop said last.
    pub report: Option<ServerReport>,
    /// The Postfix pods.
    pub postfix: PodState,
    /// Whether accounts are looked up in a database; else in files.
    pub uses_database: bool,
    /// The embedded database's pods; `None`: it is external, or none.
    pub database: Option<PodState>,
}

impl Observed {
    /// When to look again if nothing happens.
    #[must_use]
    pub fn look_again_after(&self) -> Duration {
        // An agent that was asked may not know yet, and one that is kept after all may not either.
        let is_draining = !self.leaving.is_empty() || self.replicas.values().any(|agent| agent.draining);
        if self.config.reason == Reason::Pending || is_draining {
            RECHECK_AGENTS
        } else if self.credentials.is_some() || may_be_a_secret(self.config.reason) {
            RECHECK_CREDENTIALS
        } else {
            RESYNC
        }
    }
}

/// The agent calls the configuration invalid for a certificate or an account that can't be used as well.
fn may_be_a_secret(reason: Reason) -> bool {
    matches!(reason, Reason::SecretNotFound | Reason::SecretInvalid | Reason::ConfigInvalid)
}

/// The status that a server should have. Transition times are kept where nothing changed.
#[must_use]
pub fn status(server: &MailServer, observed: Observed, now: Timestamp) -> MailServerStatus {
    let name = ObjectName::of(server);
    let endpoint = format!("{}.{}.svc:{SMTP_PORT}", names::postfix(&name.name), name.namespace);
    let counts = observed.report.as_ref().map(|report| report.counts);
    let drifted = observed.report.as_ref().and_then(|report| i64::try_from(report.drifted).ok());
    let previous = server.status.as_ref();
    let released = observed.report.as_ref().and_then(|report| report.released.clone());
    let mailboxes = counts.map(|counts| counts.mailboxes).or(previous.and_then(|status| status.mailboxes));
    let conditions = Conditions {
        generation: server.metadata.generation.unwrap_or_default(),
        previous: previous.map_or(&[], |status| &status.conditions),
        now: now.round(Unit::Second).unwrap_or(now),
    };
    let replica = |(name, agent): (&String, &AgentStatus)| {
        let queued = agent.queued.filter(|_| agent.draining);
        Some(ReplicaStatus {
            name: name.clone(),
            config_hash: agent.config_hash.clone()?,
            draining: queued.and_then(|queued| i64::try_from(queued).ok()),
        })
    };
    MailServerStatus {
        replicas: observed.replicas.iter().filter_map(replica).collect(),
        observed_generation: Some(conditions.generation),
        conditions: conditions.all(&observed, &endpoint),
        endpoint: Some(endpoint),
        domains: counts.map(|counts| counts.domains).or(previous.and_then(|status| status.domains)),
        mailboxes,
        aliases: counts.map(|counts| counts.aliases).or(previous.and_then(|status| status.aliases)),
        drifted: drifted.or(previous.and_then(|status| status.drifted)),
        last_release: released.or_else(|| previous.and_then(|status| status.last_release.clone())),
        mail_store: recorded(server, mailboxes),
        config_hash: observed.config_hash.or_else(|| previous.and_then(|status| status.config_hash.clone())),
    }
}

/// What all conditions of one status have in common.
struct Conditions<'a> {
    generation: i64,
    previous: &'a [Condition],
    now: Timestamp,
}

impl Conditions<'_> {
    fn all(&self, observed: &Observed, endpoint: &str) -> Vec<Condition> {
        let database = observed.uses_database.then(|| {
            let not_yet = "the operator has not connected to the database yet";
            self.kept_or("DatabaseReady", database_finding(observed), not_yet)
        });
        let parts: Vec<Condition> = [self.of("ConfigValid", config_finding(observed))]
            .into_iter()
            .chain(database)
            .chain([
                self.kept_or(
                    "TablesSynced",
                    tables_finding(observed),
                    "the tables have not been compared yet",
                ),
                self.of("PostfixReady", postfix_finding(observed)),
            ])
            .collect();
        [self.ready(&parts, endpoint)].into_iter().chain(parts).collect()
    }

    fn of(&self, type_: &str, Finding { ok, reason, message }: Finding) -> Condition {
        condition(type_, (ok, reason, message), self.generation, self.previous, self.now)
    }

    /// Before the set loop's first word what was said last stands: an operator that starts anew breaks nothing.
    fn kept_or(&self, type_: &str, finding: Option<Finding>, not_yet: &str) -> Condition {
        let kept = self.previous.iter().find(|condition| condition.type_ == type_);
        match (finding, kept) {
            (Some(finding), _) => self.of(type_, finding),
            (None, Some(kept)) => kept.clone(),
            (None, None) => self.of(type_, Finding::bad(Reason::Pending, not_yet)),
        }
    }

    /// The first condition that doesn't hold says why the server is not ready.
    fn ready(&self, parts: &[Condition], endpoint: &str) -> Condition {
        match parts.iter().find(|part| part.status != "True") {
            Some(obstacle) => Condition {
                reason: obstacle.reason.clone(),
                ..self.of("Ready", Finding::bad(Reason::Pending, &obstacle.message))
            },
            None => self.of("Ready", Finding::good(Reason::Ready, format!("mail is received at {endpoint}"))),
        }
    }
}

/// A configuration that Postfix refuses at its start is known from how the pod ended.
fn config_finding(observed: &Observed) -> Finding {
    match &observed.postfix {
        PodState::Refused(message) if observed.config.ok => Finding::bad(Reason::ConfigInvalid, message),
        _ => observed.config.clone(),
    }
}

/// `None`: nothing is known yet.
fn database_finding(observed: &Observed) -> Option<Finding> {
    if let Some(obstacle) = &observed.credentials {
        return Some(obstacle.clone());
    }
    let reported = observed.report.as_ref().and_then(|report| report.database.clone());
    match (reported, &observed.database) {
        (Some(reported), _) if reported.ok => Some(reported),
        (_, Some(PodState::Failed(message) | PodState::Refused(message)))
        | (Some(_), Some(PodState::Starting(message))) => {
            Some(Finding::bad(Reason::DatabaseUnavailable, message))
        }
        (None, Some(PodState::Starting(message))) => Some(Finding::bad(Reason::Pending, message)),
        (reported, _) => reported,
    }
}

/// `None`: nothing is known yet.
fn tables_finding(observed: &Observed) -> Option<Finding> {
    observed.report.as_ref().map(|report| report.tables.clone())
}

fn postfix_finding(observed: &Observed) -> Finding {
    let (ok, reason, message) = match &observed.postfix {
        PodState::Ready(message) => (true, Reason::Ready, message),
        PodState::Starting(message) => (false, Reason::PostfixStarting, message),
        PodState::Failed(message) | PodState::Refused(message) => (false, Reason::PostfixFailed, message),
    };
    let leaving = observed.leaving.iter().map(|pod| why_it_stays(pod, &observed.replicas));
    let message = [message.clone()].into_iter().chain(leaving).collect::<Vec<_>>().join("; ");
    Finding { ok, reason, message }
}

/// Why a pod that is to go is still there.
fn why_it_stays(pod: &str, agents: &BTreeMap<String, AgentStatus>) -> String {
    match agents.get(pod) {
        Some(AgentStatus { draining: true, queued: Some(queued), .. }) => {
            format!("pod {pod} goes when its queue is empty, messages in it: {queued}")
        }
        Some(_) => format!("pod {pod} was asked to empty its queue"),
        None => format!(
            "pod {pod} stays until it answers that its queue is empty, or is let go with what is in it by the annotation {FORCE_ANNOTATION}"
        ),
    }
}

/// The event for a change of the condition `Ready`, if people want to be told: that the server became ready, and each
/// new reason why it is not.
#[must_use]
pub fn event(previous: Option<&MailServerStatus>, current: &MailServerStatus) -> Option<Event> {
    let now = ready_condition(current)?;
    let before = previous.and_then(ready_condition);
    let was_ready = before.is_some_and(|before| before.status == "True");
    let unchanged =
        before.is_some_and(|before| (&before.status, &before.reason) == (&now.status, &now.reason));
    if unchanged || is_under_way(&now.reason, was_ready) {
        return None;
    }
    Some(Event {
        type_: if now.status == "True" { EventType::Normal } else { EventType::Warning },
        reason: now.reason.clone(),
        note: Some(now.message.clone()),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
}

/// Whether a reason belongs to an ordinary start or change. A database or Postfix that comes up is no news, one that goes
/// away is.
fn is_under_way(reason: &str, was_ready: bool) -> bool {
    let starting = [Reason::PostfixStarting, Reason::DatabaseUnavailable].map(Reason::as_str);
    reason == Reason::Pending.as_str() || (!was_ready && starting.contains(&reason))
}

fn ready_condition(status: &MailServerStatus) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == "Ready")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::Counts;

    fn server(status: Option<MailServerStatus>) -> MailServer {
        let mut server: MailServer = serde_json::from_value(json!({
            "metadata": {"namespace": "mail", "name": "myhost", "uid": "1", "generation": 3},
            "spec": {"hostname": "myhost.example.org"},
        }))
        .unwrap();
        server.status = status;
        server
    }

    fn serving() -> Observed {
        Observed {
            config: Finding::good(Reason::Ready, ""),
            config_hash: Some("abc".to_owned()),
            replicas: BTreeMap::from([(
                "myhost-postfix-0".to_owned(),
                AgentStatus {
                    config_hash: Some("abb".to_owned()),
                    refused: None,
                    draining: false,
                    queued: None,
                },
            )]),
            leaving: BTreeSet::new(),
            credentials: None,
            report: Some(ServerReport {
                needs: 0,
                settled: None,
                released: None,
                drifted: 0,
                database: Some(Finding::good(Reason::Ready, "")),
                complete: Some(1),
                tables: Finding::good(Reason::Synced, ""),
                counts: Counts { domains: 3, mailboxes: 9, aliases: 5 },
            }),
            postfix: PodState::Ready(String::new()),
            uses_database: true,
            database: Some(PodState::Ready(String::new())),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(status: &MailServerStatus) -> (&str, &str) {
        let ready = ready_condition(status).unwrap();
        (&ready.status, &ready.reason)
    }

    #[test]
    fn all_well_is_ready_with_counts_and_endpoint() {
        let status = status(&server(None), serving(), at(1));
        assert_eq!(ready(&status), ("True", "Ready"));
        assert_eq!(status.endpoint.as_deref(), Some("myhost-postfix.mail.svc:25"));
        assert_eq!((status.domains, status.mailboxes, status.aliases), (Some(3), Some(9), Some(5)));
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(status.conditions.len(), 5);
    }

    #[test]
    fn nothing_new_gives_the_very_same_status() {
        let first = status(&server(None), serving(), at(1));
        let second = status(&server(Some(first.clone())), serving(), at(100));
        assert_eq!(first, second);
        assert!(event(Some(&first), &second).is_none());
    }

    #[test]
    fn an_operator_that_starts_anew_keeps_the_server_ready() {
        let well = status(&server(None), serving(), at(1));
        let observed = Observed { report: None, ..serving() };
        assert_eq!(status(&server(Some(well.clone())), observed, at(2)), well);
    }

    #[test]
    fn before_the_first_report_nothing_is_claimed() {
        let observed = Observed { report: None, database: None, ..serving() };
        assert_eq!(ready(&status(&server(None), observed, at(1))), ("False", "Pending"));
    }

    #[test]
    fn a_missing_secret_is_told_before_an_older_report() {
        let missing = Finding::bad(Reason::SecretNotFound, "there is no Secret reader in this namespace");
        let status = status(&server(None), Observed { credentials: Some(missing), ..serving() }, at(1));
        assert_eq!(ready(&status), ("False", "SecretNotFound"));
    }

    #[test]
    fn an_embedded_database_that_does_not_start_says_why() {
        let report = serving().report.map(|report| ServerReport {
            database: Some(Finding::bad(Reason::DatabaseUnavailable, "database: connection refused")),
            ..report
        });
        let failed =
            Some(PodState::Failed("pod myhost-database-0, container install ended with code 1".to_owned()));
        let status = status(&server(None), Observed { report, database: failed, ..serving() }, at(1));
        assert_eq!(ready(&status), ("False", "DatabaseUnavailable"));
        assert!(ready_condition(&status).unwrap().message.contains("container install"));
    }

    #[test]
    fn an_outage_is_an_event_and_so_is_its_end() {
        let well = status(&server(None), serving(), at(1));
        let down = Observed { postfix: PodState::Failed("ended".to_owned()), ..serving() };
        let outage = status(&server(Some(well.clone())), down, at(2));
        assert_eq!(event(Some(&well), &outage).unwrap().type_, EventType::Warning);
        let again = status(&server(Some(outage.clone())), serving(), at(3));
        assert_eq!(event(Some(&outage), &again).unwrap().type_, EventType::Normal);
    }

    #[test]
    fn a_configuration_that_keeps_postfix_from_starting_is_invalid() {
        let refused = "pod myhost-postfix-0, container postfix ended with code 3: bad numeric configuration";
        let observed = Observed { postfix: PodState::Refused(refused.to_owned()), ..serving() };
        assert_eq!(ready(&status(&server(None), observed, at(1))), ("False", "ConfigInvalid"));
    }

    #[test]
    fn what_no_watch_tells_of_is_looked_at_again_soon() {
        assert_eq!(serving().look_again_after(), RESYNC);
        let pending = Observed { config: Finding::bad(Reason::Pending, ""), ..serving() };
        assert!(pending.look_again_after() < Duration::from_secs(5));
        let missing = Observed { credentials: Some(Finding::bad(Reason::SecretNotFound, "")), ..serving() };
        assert!(missing.look_again_after() < Duration::from_mins(1));
        for reason in [Reason::SecretNotFound, Reason::ConfigInvalid] {
            let certificate = Observed { config: Finding::bad(reason, ""), ..serving() };
            assert!(certificate.look_again_after() < Duration::from_mins(1));
        }
    }

    #[test]
    fn the_configuration_that_is_wanted_stands_beside_the_one_that_each_replica_runs() {
        let status = status(&server(None), serving(), at(1));
        assert_eq!(status.config_hash.as_deref(), Some("abc"));
        let runs = ReplicaStatus {
            name: "myhost-postfix-0".to_owned(),
            config_hash: "abb".to_owned(),
            draining: None,
        };
        assert_eq!(status.replicas, [runs]);
    }

    #[test]
    fn a_pod_that_is_to_go_is_looked_at_again_soon_and_says_why_it_stays() {
        let pod = "myhost-postfix-1".to_owned();
        let agent = |draining, queued| AgentStatus {
            config_hash: Some("abc".to_owned()),
            refused: None,
            draining,
            queued,
        };
        for (agent, told) in [
            (None, "stays until it answers"),
            (Some(agent(false, None)), "was asked to empty its queue"),
            (Some(agent(true, None)), "was asked to empty its queue"),
            (Some(agent(true, Some(3))), "messages in it: 3"),
        ] {
            let replicas = agent.map(|agent| (pod.clone(), agent)).into_iter().collect();
            let observed = Observed { replicas, leaving: BTreeSet::from([pod.clone()]), ..serving() };
            assert!(observed.look_again_after() < Duration::from_secs(5), "{told}");
            let status = status(&server(None), observed, at(1));
            assert_eq!(ready(&status), ("True", "Ready"));
            let postfix =
                status.conditions.iter().find(|condition| condition.type_ == "PostfixReady").unwrap();
            assert!(postfix.message.contains(&pod) && postfix.message.contains(told), "{}", postfix.message);
        }
    }

    #[test]
    fn a_pod_that_is_kept_after_all_is_looked_at_again_until_its_agent_knows() {
        let mut observed = serving();
        observed.replicas.values_mut().for_each(|agent| agent.draining = true);
        assert!(observed.leaving.is_empty() && observed.look_again_after() < Duration::from_secs(5));
    }

    #[test]
    fn an_ordinary_start_is_no_event() {
        let starting = Observed { postfix: PodState::Starting("pod is starting".to_owned()), ..serving() };
        assert!(event(None, &status(&server(None), starting, at(1))).is_none());
    }
}
