//! Replicas that are to go: which of them may, given what is left in their queues. Pure.
//!
//! A `StatefulSet` takes its pods away from the highest number down, and at once. Mail that waits in the queue of one would
//! wait until there is a pod of that number again; so a pod goes only when its queue is empty.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use kube::ResourceExt;

use super::agent::AgentStatus;
use super::build::names;
use super::build::{DRAIN_ANNOTATION, FORCE_ANNOTATION};

/// How much younger than its claim a pod may be that was made together with it, in seconds: the `StatefulSet` makes the one,
/// then the other, and the API server tells whole seconds.
const TOGETHER: i64 = 2;

/// Replicas that the `StatefulSet` is to have now, given those that there are and those that are wanted. A pod that doesn't
/// answer has not said that its queue is empty, so it stays, unless it `may_go` all the same.
#[must_use]
pub fn replicas(
    server: &str,
    wanted: i32,
    live: Option<i32>,
    agents: &BTreeMap<String, AgentStatus>,
    may_go: &BTreeSet<String>,
) -> i32 {
    let is_empty = |number: &i32| {
        let pod = names::postfix_pod(server, *number);
        may_go.contains(&pod)
            || agents.get(&pod).is_some_and(|agent| agent.draining && agent.queued == Some(0))
    };
    let leaving = wanted..live.unwrap_or(wanted);
    let emptied = leaving.clone().rev().take_while(is_empty).count();
    wanted + i32::try_from(leaving.len() - emptied).unwrap_or_default()
}

/// The pods past the `wanted` number that say nothing of their queue, by name.
#[must_use]
pub fn silent(
    server: &str,
    wanted: i32,
    live: Option<i32>,
    agents: &BTreeMap<String, AgentStatus>,
) -> Vec<String> {
    let leaving = wanted..live.unwrap_or(wanted);
    leaving.map(|number| names::postfix_pod(server, number)).filter(|pod| !agents.contains_key(pod)).collect()
}

/// Whether a person lets a pod go with whatever is in its queue.
#[must_use]
pub fn is_forced(pod: &Pod) -> bool {
    pod.annotations().contains_key(FORCE_ANNOTATION)
}

/// Whether there can't be mail in the queue of a pod that doesn't answer: its Postfix has never run, and neither has that of
/// a pod of its number before it, since the `claim` of its queue was made with it, or has no volume yet.
#[must_use]
pub fn never_had_mail(pod: Option<&Pod>, claim: Option<&PersistentVolumeClaim>) -> bool {
    let has_volume = |claim: &&PersistentVolumeClaim| {
        claim.spec.as_ref().is_some_and(|spec| spec.volume_name.as_ref().is_some_and(|name| !name.is_empty()))
    };
    let (claim, has_run) = (claim.filter(has_volume), pod.is_some_and(has_run));
    match (pod, claim) {
        _ if has_run => false,
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(pod), Some(claim)) => is_as_old(pod, claim),
    }
}

fn has_run(pod: &Pod) -> bool {
    let has_run = |container: &ContainerStatus| {
        container.restart_count > 0
            || container.container_id.as_ref().is_some_and(|id| !id.is_empty())
            || [&container.state, &container.last_state]
                .into_iter()
                .flatten()
                .any(|state| state.running.is_some() || state.terminated.is_some())
    };
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    containers.into_iter().flatten().any(has_run)
}

fn is_as_old(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let made = |time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
        time.map(|time| time.0.as_second())
    };
    made(pod.creation_timestamp())
        .zip(made(claim.creation_timestamp()))
        .is_some_and(|(pod, claim)| pod - claim <= TOGETHER)
}

/// Whether a pod is to take no more mail and to empty its queue. It holds until the pod is gone, also when its queue is
/// empty: mail that it took while the `StatefulSet` has not removed it yet would wait for a pod of its number.
#[must_use]
pub fn is_to_leave(server: &str, wanted: i32, pod: &str) -> bool {
    let number = pod.strip_prefix(&names::postfix(server)).and_then(|rest| rest.strip_prefix('-'));
    number.and_then(|number| number.parse::<i32>().ok()).is_some_and(|number| number >= wanted)
}

/// The pods that were asked to empty their queues and have not been told to end, by name.
#[must_use]
pub fn leaving(pods: &[Pod]) -> BTreeSet<String> {
    let waits = |pod: &&Pod| is_leaving(pod) && pod.metadata.deletion_timestamp.is_none();
    pods.iter().filter(waits).map(ResourceExt::name_any).collect()
}

/// Whether a pod was asked to empty its queue.
#[must_use]
pub fn is_leaving(pod: &Pod) -> bool {
    pod.annotations().contains_key(DRAIN_ANNOTATION)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agents(said: &[(i32, bool, Option<u64>)]) -> BTreeMap<String, AgentStatus> {
        let agent = |(number, draining, queued): &(i32, bool, Option<u64>)| {
            let status =
                AgentStatus { config_hash: None, refused: None, draining: *draining, queued: *queued };
            (format!("mx-postfix-{number}"), status)
        };
        said.iter().map(agent).collect()
    }

    fn replicas(server: &str, wanted: i32, live: Option<i32>, agents: &BTreeMap<String, AgentStatus>) -> i32 {
        super::replicas(server, wanted, live, agents, &BTreeSet::new())
    }

    fn made_at<K: serde::de::DeserializeOwned>(time: &str, rest: &serde_json::Value) -> K {
        let mut object = json!({"metadata": {"name": "x", "creationTimestamp": time}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    fn pod(time: &str, containers: &serde_json::Value) -> Pod {
        made_at(time, &json!({"status": {"containerStatuses": containers}}))
    }

    fn waiting(extra: &serde_json::Value) -> serde_json::Value {
        let mut status = json!({"name": "postfix", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff"}}});
        status.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!([status])
    }

    #[test]
    fn a_pod_that_never_ran_on_a_claim_of_its_own_goes_without_a_word() {
        let bound =
            |time: &str| -> PersistentVolumeClaim { made_at(time, &json!({"spec": {"volumeName": "v"}})) };
        let unbound: PersistentVolumeClaim = made_at("2026-01-01T00:00:00Z", &json!({"spec": {}}));
        let (at, much_later) = ("2026-01-01T09:00:01Z", "2026-01-01T09:05:00Z");
        let claim = bound("2026-01-01T09:00:00Z");
        let never = waiting(&json!({}));
        assert!(never_had_mail(Some(&pod(at, &never)), Some(&claim)));
        assert!(never_had_mail(Some(&pod(at, &json!([]))), Some(&claim)));
        assert!(never_had_mail(Some(&pod(much_later, &never)), Some(&unbound)));
        assert!(never_had_mail(None, None));
        assert!(
            !never_had_mail(Some(&pod(much_later, &never)), Some(&claim)),
            "a pod before it may have run"
        );
        assert!(!never_had_mail(None, Some(&claim)), "it is being made anew");
        for ran in [
            json!({"restartCount": 1}),
            json!({"containerID": "containerd://1"}),
            json!({"lastState": {"terminated": {"exitCode": 4}}}),
            json!({"state": {"running": {}}}),
        ] {
            assert!(!never_had_mail(Some(&pod(at, &waiting(&ran))), Some(&claim)), "{ran}");
        }
    }

    #[test]
    fn of_a_silent_pod_only_one_that_may_go_goes() {
        let (none, said) = (BTreeSet::new(), agents(&[(1, true, Some(0)), (3, true, Some(0))]));
        assert_eq!(silent("mx", 1, Some(4), &said), ["mx-postfix-2"]);
        assert_eq!(super::replicas("mx", 1, Some(4), &said, &none), 3);
        assert_eq!(super::replicas("mx", 1, Some(4), &said, &["mx-postfix-2".to_owned()].into()), 1);
    }

    #[test]
    fn more_replicas_and_as_many_need_no_leave() {
        for live in [None, Some(1), Some(3)] {
            assert_eq!(replicas("mx", 3, live, &agents(&[])), 3);
        }
    }

    #[test]
    fn a_pod_goes_when_it_says_that_its_queue_is_empty() {
        for said in [&[][..], &[(2, false, Some(0))], &[(2, true, Some(1))], &[(2, true, None)]] {
            assert_eq!(replicas("mx", 2, Some(3), &agents(said)), 3);
        }
        assert_eq!(replicas("mx", 2, Some(3), &agents(&[(2, true, Some(0))])), 2);
    }

    #[test]
    fn a_pod_waits_for_those_of_a_higher_number() {
        let said = agents(&[(1, true, Some(0)), (2, true, Some(4)), (3, true, Some(0))]);
        assert_eq!(replicas("mx", 1, Some(4), &said), 3);
    }

    #[test]
    fn a_pod_is_to_leave_by_its_number_alone_so_an_empty_queue_is_not_opened_again() {
        for (pod, leaves) in [("mx-postfix-0", false), ("mx-postfix-1", false), ("mx-postfix-2", true)] {
            assert_eq!(is_to_leave("mx", 2, pod), leaves, "{pod}");
        }
        for stranger in ["mx-database-2", "mx-postfix-new", "my-postfix-2", "mx-postfix2"] {
            assert!(!is_to_leave("mx", 2, stranger), "{stranger}");
        }
    }
}
