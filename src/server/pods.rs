//! What a workload's pods say about themselves. Pure.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};
use kube::ResourceExt;

use crate::agent::contract::REFUSED;

/// Longest part of a program's last words that a condition repeats, in characters.
const LAST_WORDS: usize = 600;

/// How far a workload is, with a sentence for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PodState {
    /// A pod is ready.
    Ready(String),
    /// Nothing is wrong yet.
    Starting(String),
    /// A container can't start or ended.
    Failed(String),
    /// Postfix refused its configuration and ended.
    Refused(String),
}

/// Ready if at least one pod is; otherwise what keeps the first of them from it.
#[must_use]
pub fn pod_state(pods: &[Pod]) -> PodState {
    let serving = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect::<Vec<_>>();
    if let Some(pod) = serving.iter().find(|pod| is_ready(pod)) {
        return PodState::Ready(format!("pod {} is ready", pod.name_any()));
    }
    match serving.first() {
        Some(pod) => obstacle(pod),
        None => PodState::Starting("there is no pod yet".to_owned()),
    }
}

/// Whether the kubelet sends it traffic.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

/// Status and message of a pod's condition.
fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((&found.status, found.message.as_deref().unwrap_or_default()))
}

fn obstacle(pod: &Pod) -> PodState {
    let name = pod.name_any();
    if let Some(("False", message)) = condition(pod, "PodScheduled") {
        return PodState::Starting(format!("pod {name} waits for a node: {message}"));
    }
    let containers = pod.status.as_ref().map(containers).unwrap_or_default();
    let failed = containers.iter().find_map(|container| failure(container));
    match failed {
        Some((Some(code), failure)) if code == i32::from(REFUSED) => {
            PodState::Refused(format!("pod {name}, {failure}"))
        }
        Some((_, failure)) => PodState::Failed(format!("pod {name}, {failure}")),
        None => PodState::Starting(format!("pod {name} is starting")),
    }
}

fn containers(status: &PodStatus) -> Vec<&ContainerStatus> {
    [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten().collect()
}

/// Why a container doesn't run, with its exit code if it ended; `None`: it runs or is on its way.
fn failure(container: &ContainerStatus) -> Option<(Option<i32>, String)> {
    let name = &container.name;
    let state = container.state.as_ref()?;
    let before = container.last_state.as_ref().filter(|_| state.running.is_none());
    if let Some((exit_code, words)) = ended(state).or_else(|| before.and_then(ended)) {
        return Some((Some(exit_code), format!("container {name} ended with code {exit_code}: {words}")));
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let on_its_way = matches!(reason, "" | "ContainerCreating" | "PodInitializing");
    let message = waiting.message.as_deref().unwrap_or_default();
    (!on_its_way).then(|| (None, format!("container {name}, {reason}: {message}")))
}

/// Exit code and last words of a container that failed.
fn ended(state: &ContainerState) -> Option<(i32, String)> {
    let terminated = state.terminated.as_ref().filter(|terminated| terminated.exit_code != 0)?;
    let words = terminated.message.as_deref().or(terminated.reason.as_deref()).unwrap_or("no reason given");
    Some((terminated.exit_code, last_lines(words.trim())))
}

/// As many whole lines from the end as fit, and at least one.
fn last_lines(words: &str) -> String {
    let mut length = 0;
    let lines = words.lines().rev().take_while(|line| {
        length += line.chars().count();
        length <= LAST_WORDS
    });
    let mut lines: Vec<&str> = lines.collect();
    lines.reverse();
    if lines.is_empty() { words.chars().take(LAST_WORDS).collect() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "myhost-postfix-0", "namespace": "mail"}, "status": status}),
        )
        .unwrap()
    }

    fn container(state: &Value, last_state: &Value) -> Pod {
        pod(&json!({"containerStatuses": [{
            "name": "postfix", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
            "state": state, "lastState": last_state,
        }]}))
    }

    fn failed(pod: Pod) -> String {
        match pod_state(&[pod]) {
            PodState::Failed(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_ready_pod_is_enough() {
        let ready = pod(&json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        let starting = pod(&json!({}));
        assert!(matches!(pod_state(&[starting, ready]), PodState::Ready(_)));
    }

    #[test]
    fn a_pod_that_is_being_deleted_serves_no_more() {
        let mut ready = pod(&json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        ready.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(pod_state(&[ready]), PodState::Starting("there is no pod yet".to_owned()));
    }

    #[test]
    fn an_ordinary_start_is_no_failure() {
        let starting = container(&json!({"waiting": {"reason": "PodInitializing"}}), &json!({}));
        assert!(matches!(pod_state(&[starting]), PodState::Starting(_)));
    }

    #[test]
    fn the_last_words_of_postfix_are_told() {
        let words = "fatal: bad numeric configuration: default_process_limit = many";
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}});
        let crashed =
            |code: i32| container(&waiting, &json!({"terminated": {"exitCode": code, "message": words}}));
        let message = failed(crashed(4));
        assert!(message.contains(words) && message.contains("code 4"), "{message}");
        assert!(matches!(pod_state(&[crashed(3)]), PodState::Refused(message) if message.contains(words)));
    }

    #[test]
    fn of_a_long_log_the_last_whole_lines_are_told() {
        let log = format!("{}\nmariadbd: Can't create file\nAborting", "x".repeat(LAST_WORDS));
        assert_eq!(last_lines(&log), "mariadbd: Can't create file\nAborting");
        assert_eq!(last_lines(&"y".repeat(2 * LAST_WORDS)).len(), LAST_WORDS);
    }

    #[test]
    fn an_image_that_can_not_be_pulled_is_told() {
        let waiting = json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"nowhere/x\""}});
        let message = failed(container(&waiting, &json!({})));
        assert!(message.contains("ImagePullBackOff") && message.contains("nowhere/x"), "{message}");
    }

    #[test]
    fn a_pod_without_a_node_repeats_the_scheduler() {
        let message = "persistentvolumeclaim \"gone\" not found";
        let pending =
            pod(&json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}));
        assert!(matches!(pod_state(&[pending]), PodState::Starting(told) if told.contains(message)));
    }
}
