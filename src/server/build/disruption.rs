//! What keeps replicas apart, or together, and from going all at once.

use k8s_openapi::api::core::v1::{Affinity, PodAffinity, PodAffinityTerm, PodSpec, TopologySpreadConstraint};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{self, Component};
use super::owned;
use crate::server::validate::ValidatedServer;

const NODE: &str = "kubernetes.io/hostname";

/// One pod at a time is taken away on purpose, as when a node is drained.
pub(super) fn budget(server: &ValidatedServer) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: owned(server, names::postfix(&server.name.name), Component::Postfix),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(pods(server)),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

fn pods(server: &ValidatedServer) -> LabelSelector {
    LabelSelector {
        match_labels: Some(Component::Postfix.labels(&server.name.name)),
        ..LabelSelector::default()
    }
}

/// Replicas share the mail store. Where many nodes can mount it they are spread over the nodes; else they are kept on one.
/// The same for one replica, which need not be made anew to get a second.
pub(super) fn place(server: &ValidatedServer, spec: PodSpec) -> PodSpec {
    if server.mail_store.volume.many_nodes() {
        let spread = TopologySpreadConstraint {
            max_skew: 1,
            topology_key: NODE.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(pods(server)),
            ..TopologySpreadConstraint::default()
        };
        PodSpec { topology_spread_constraints: Some(vec![spread]), ..spec }
    } else {
        let term = PodAffinityTerm {
            label_selector: Some(pods(server)),
            topology_key: NODE.to_owned(),
            ..PodAffinityTerm::default()
        };
        let together = PodAffinity {
            required_during_scheduling_ignored_during_execution: Some(vec![term]),
            ..PodAffinity::default()
        };
        let affinity = Affinity { pod_affinity: Some(together), ..Affinity::default() };
        PodSpec { affinity: Some(affinity), ..spec }
    }
}
