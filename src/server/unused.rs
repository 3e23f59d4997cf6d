//! Whether all Postfix pods are of the newest template: what those before use must stay until then. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;

use super::agent::AgentStatus;

/// Whether every pod of Postfix's `StatefulSet` was made by what it says now and is ready, and every agent that answers runs
/// the configuration with this hash.
pub(super) fn is_complete(
    live: &StatefulSet,
    agents: &BTreeMap<String, AgentStatus>,
    config_hash: &str,
) -> bool {
    let (Some(spec), Some(status)) = (&live.spec, &live.status) else { return false };
    let wanted = spec.replicas.unwrap_or(1);
    let counts = [Some(status.replicas), status.updated_replicas, status.ready_replicas];
    let runs_it = |agent: &AgentStatus| agent.config_hash.as_deref().is_none_or(|runs| runs == config_hash);
    status.observed_generation >= live.metadata.generation
        && status.current_revision == status.update_revision
        && counts.map(Option::unwrap_or_default) == [wanted; 3]
        && agents.values().all(runs_it)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn complete(change: &Value, agents: &[&str]) -> bool {
        let mut live = json!({
            "metadata": {"generation": 3},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {
                "observedGeneration": 3, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2,
                "currentRevision": "b", "updateRevision": "b",
            },
        });
        live["status"].as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let agent = |hash: &&str| {
            let status = AgentStatus { config_hash: Some((*hash).to_owned()), ..AgentStatus::default() };
            (format!("myhost-postfix-{hash}"), status)
        };
        is_complete(&serde_json::from_value(live).unwrap(), &agents.iter().map(agent).collect(), "new")
    }

    #[test]
    fn it_is_when_every_pod_is_new_and_ready() {
        assert!(complete(&json!({}), &["new"]));
        assert!(complete(&json!({}), &[]), "agents can't be asked from outside of the cluster");
    }

    #[test]
    fn what_an_older_pod_uses_stays() {
        for change in [
            json!({"observedGeneration": 2}),
            json!({"updatedReplicas": 1, "currentRevision": "a"}),
            json!({"updatedReplicas": null}),
            json!({"readyReplicas": 1}),
            json!({"replicas": 3}),
            json!({"currentRevision": "a"}),
        ] {
            assert!(!complete(&change, &["new"]), "{change}");
        }
        assert!(!complete(&json!({}), &["new", "old"]));
    }
}
