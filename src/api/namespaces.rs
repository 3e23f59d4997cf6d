//! Which namespaces' objects may use an object of ours, in the shape of the Gateway API's `allowedRoutes.namespaces`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The namespaces whose objects may use this one. Its own namespace always may.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(validation = Rule::new("(has(self.from) && self.from == 'Selector') == has(self.selector)")
    .message("write selector beside from: Selector, and nowhere else"))]
pub struct AllowedNamespaces {
    /// Where objects may come from. Default: `Same`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<NamespacesFrom>,
    /// Labels of the namespaces, for `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Where objects may come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = crate::api::without_description)]
pub enum NamespacesFrom {
    /// Only from the same namespace.
    #[default]
    Same,
    /// From every namespace.
    All,
    /// From the namespaces whose labels `selector` matches.
    Selector,
}
