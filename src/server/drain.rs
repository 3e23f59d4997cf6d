//! Replicas that are to go: which of them may, given what is left in their queues. Pure.
//!
//! A `StatefulSet` takes its pods away from the highest number down, and at once. Mail that waits in the queue of one would
//! wait until there is a pod of that number again; so a pod goes only when its queue is empty.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::agent::AgentStatus;
use super::build::DRAIN_ANNOTATION;
use super::build::names;

/// Replicas that the `StatefulSet` is to have now, given those that there are and those that are wanted. A pod that doesn't
/// answer has not said that its queue is empty, so it stays.
#[must_use]
pub fn replicas(server: &str, wanted: i32, live: Option<i32>, agents: &BTreeMap<String, AgentStatus>) -> i32 {
    let is_empty = |number: &i32| {
        let pod = format!("{}-{number}", names::postfix(server));
        agents.get(&pod).is_some_and(|agent| agent.draining && agent.queued == Some(0))
    };
    let leaving = wanted..live.unwrap_or(wanted);
    let emptied = leaving.clone().rev().take_while(is_empty).count();
    wanted + i32::try_from(leaving.len() - emptied).unwrap_or_default()
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
    use super::*;

    fn agents(said: &[(i32, bool, Option<u64>)]) -> BTreeMap<String, AgentStatus> {
        let agent = |(number, draining, queued): &(i32, bool, Option<u64>)| {
            let status =
                AgentStatus { config_hash: None, refused: None, draining: *draining, queued: *queued };
            (format!("mx-postfix-{number}"), status)
        };
        said.iter().map(agent).collect()
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
