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

/// What to do about the number of replicas.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Drain {
    /// Replicas that the `StatefulSet` is to have now.
    pub replicas: i32,
    /// Pods that are to take no more mail and to empty their queues.
    pub leaving: BTreeSet<String>,
}

/// From the replicas that there are and those that are wanted. A pod that doesn't answer has not said that its queue is
/// empty, so it stays.
#[must_use]
pub fn drain(server: &str, wanted: i32, live: Option<i32>, agents: &BTreeMap<String, AgentStatus>) -> Drain {
    let pod = |number: i32| format!("{}-{number}", names::postfix(server));
    let leaving: Vec<i32> = (wanted..live.unwrap_or(wanted)).collect();
    let is_empty = |number: &&i32| {
        agents.get(&pod(**number)).is_some_and(|agent| agent.draining && agent.queued == Some(0))
    };
    let emptied = leaving.iter().rev().take_while(is_empty).count();
    let staying = &leaving[..leaving.len() - emptied];
    Drain {
        replicas: wanted + i32::try_from(staying.len()).unwrap_or_default(),
        leaving: staying.iter().map(|number| pod(*number)).collect(),
    }
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

    fn pods(numbers: &[i32]) -> BTreeSet<String> {
        numbers.iter().map(|number| format!("mx-postfix-{number}")).collect()
    }

    #[test]
    fn more_replicas_and_as_many_need_no_leave() {
        for live in [None, Some(1), Some(3)] {
            assert_eq!(drain("mx", 3, live, &agents(&[])), Drain { replicas: 3, leaving: pods(&[]) });
        }
    }

    #[test]
    fn a_pod_goes_when_it_says_that_its_queue_is_empty() {
        for said in [&[][..], &[(2, false, Some(0))], &[(2, true, Some(1))], &[(2, true, None)]] {
            assert_eq!(drain("mx", 2, Some(3), &agents(said)), Drain { replicas: 3, leaving: pods(&[2]) });
        }
        let done = drain("mx", 2, Some(3), &agents(&[(2, true, Some(0))]));
        assert_eq!(done, Drain { replicas: 2, leaving: pods(&[]) });
    }

    #[test]
    fn a_pod_waits_for_those_of_a_higher_number() {
        let said = agents(&[(1, true, Some(0)), (2, true, Some(4)), (3, true, Some(0))]);
        assert_eq!(drain("mx", 1, Some(4), &said), Drain { replicas: 3, leaving: pods(&[1, 2]) });
    }
}
