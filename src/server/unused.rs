//! Tables that a server used before and that are removed: those of another `lookupTables` or database. Pods of an older
//! template go on with them, so they stay until there is none.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::Client;

use super::agent::AgentStatus;
use super::validate::ValidatedServer;
use super::{Error, apply};

/// Removes them, once every Postfix pod runs the configuration with this hash. `agents`: what those say that answer.
///
/// # Errors
/// When something can't be asked for or deleted.
pub(super) async fn remove(
    client: &Client,
    server: &ValidatedServer,
    agents: &BTreeMap<String, AgentStatus>,
    config_hash: &str,
) -> Result<(), Error> {
    let live = apply::live_stateful_set(client, &server.name).await?;
    if !live.is_some_and(|live| is_rolled_out(&live, agents, config_hash)) {
        return Ok(());
    }
    if server.endpoint.is_some() {
        apply::remove_look_up_files(client, &server.name).await?;
    }
    if server.database.is_none() {
        apply::remove_database(client, server).await?;
    }
    Ok(())
}

/// Whether every pod of Postfix's `StatefulSet` was made by what it says now and is ready, and every agent that answers runs
/// the configuration with this hash.
fn is_rolled_out(live: &StatefulSet, agents: &BTreeMap<String, AgentStatus>, config_hash: &str) -> bool {
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

    fn rolled_out(change: &Value, agents: &[&str]) -> bool {
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
        is_rolled_out(&serde_json::from_value(live).unwrap(), &agents.iter().map(agent).collect(), "new")
    }

    #[test]
    fn it_is_when_every_pod_is_new_and_ready() {
        assert!(rolled_out(&json!({}), &["new"]));
        assert!(rolled_out(&json!({}), &[]), "agents can't be asked from outside of the cluster");
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
            assert!(!rolled_out(&change, &["new"]), "{change}");
        }
        assert!(!rolled_out(&json!({}), &["new", "old"]));
    }
}
