//! Asks the agent in a Postfix pod which configuration runs, and whether it refused a newer one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::drain::is_leaving;
use super::pods::is_ready;
use crate::agent::contract::PORT;
pub use crate::agent::contract::{AgentStatus, Refused};
use crate::api::Reason;
use crate::report::Finding;

/// How long an agent may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Longest answer that is read, in bytes.
const ANSWER_SIZE: u64 = 64 * 1024;

/// The status of the agent of each pod that is ready or leaves, by the pod's name. One that can't be reached, as from outside of the cluster,
/// is left out: then the pod's readiness alone counts.
pub async fn statuses(pods: &[Pod]) -> BTreeMap<String, AgentStatus> {
    let ready = pods.iter().filter(|pod| is_ready(pod) || is_leaving(pod));
    let asked = ready.map(async |pod| Some((pod.name_any(), status(pod).await?)));
    join_all(asked).await.into_iter().flatten().collect()
}

async fn status(pod: &Pod) -> Option<AgentStatus> {
    let address: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    let answer = get_status(SocketAddr::new(address, PORT));
    tokio::time::timeout(ANSWER_LIMIT, answer).await.ok()?.ok().and_then(|answer| body(&answer))
}

/// HTTP/1.0, so that the answer ends with the connection and comes in one piece.
async fn get_status(agent: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(agent).await?;
    stream.write_all(b"GET /status HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.take(ANSWER_SIZE).read_to_string(&mut answer).await?;
    Ok(answer)
}

fn body(answer: &str) -> Option<AgentStatus> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split_ascii_whitespace().nth(1)?;
    (code == "200").then(|| serde_json::from_str(body).ok()).flatten()
}

/// The condition `ConfigValid` of a server whose configuration could be made, given what its agents say.
#[must_use]
pub fn config_finding<'a>(agents: impl IntoIterator<Item = &'a AgentStatus>, config_hash: &str) -> Finding {
    let agents: Vec<_> = agents.into_iter().collect();
    let mut refusals = agents.iter().filter_map(|agent| Some((agent, agent.refused.as_ref()?)));
    if let Some((agent, refused)) = refusals.find(|(_, refused)| refused.config_hash == config_hash) {
        let runs_it = agent.config_hash.as_deref() == Some(config_hash);
        let goes_on =
            if runs_it { "Postfix does without a part" } else { "Postfix goes on with what it had before" };
        return Finding::bad(Reason::ConfigInvalid, format!("{goes_on}: {}", refused.error));
    }
    let runs_another =
        |agent: &&AgentStatus| agent.config_hash.as_ref().is_some_and(|runs| runs != config_hash);
    if agents.iter().any(runs_another) {
        Finding::bad(Reason::Pending, "Postfix has not taken the changed configuration yet")
    } else {
        Finding::good(Reason::Ready, "the configuration was made and handed to Postfix")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(config_hash: &str, refused: Option<(&str, &str)>) -> AgentStatus {
        let refused =
            refused.map(|(hash, error)| Refused { config_hash: hash.to_owned(), error: error.to_owned() });
        AgentStatus { config_hash: Some(config_hash.to_owned()), refused, draining: false, queued: None }
    }

    #[test]
    fn reads_the_answer_of_an_agent() {
        let answer = "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"configHash\":\"ab\",\"refused\":null}";
        assert_eq!(body(answer), Some(agent("ab", None)));
        assert_eq!(body("HTTP/1.0 503 Service Unavailable\r\n\r\n{}"), None);
        assert_eq!(body("220 not http"), None);
    }

    #[test]
    fn a_refused_configuration_is_told_in_the_words_of_postfix() {
        let refused = ("new", "fatal: bad numeric configuration");
        let finding = config_finding(Some(&agent("old", Some(refused))), "new");
        assert_eq!(finding.reason, Reason::ConfigInvalid);
        assert_eq!(
            finding.message,
            "Postfix goes on with what it had before: fatal: bad numeric configuration"
        );
    }

    #[test]
    fn what_is_missing_of_a_configuration_that_runs_is_told_as_that() {
        let finding =
            config_finding(Some(&agent("new", Some(("new", "/var/vmail/a.org: not a directory")))), "new");
        assert_eq!(finding.reason, Reason::ConfigInvalid);
        assert_eq!(finding.message, "Postfix does without a part: /var/vmail/a.org: not a directory");
    }

    #[test]
    fn what_was_refused_says_nothing_about_the_configuration_after_it() {
        let agent = agent("old", Some(("bad", "fatal: bad numeric configuration")));
        assert_eq!(config_finding(Some(&agent), "mended").reason, Reason::Pending);
        assert!(config_finding(Some(&agent), "old").ok);
    }

    #[test]
    fn a_change_is_pending_until_it_runs() {
        assert_eq!(config_finding(Some(&agent("old", None)), "new").reason, Reason::Pending);
        assert!(config_finding(Some(&agent("new", None)), "new").ok);
        assert!(config_finding(None, "new").ok);
    }
}
