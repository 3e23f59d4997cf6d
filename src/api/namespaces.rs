//! Which namespaces' objects may use an object of ours, in the shape of the Gateway API's `allowedRoutes.namespaces`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The namespaces whose objects may use this one. Its own namespace always may.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(validation = Rule::new("(has(self.from) && self.from == 'Selector') == has(self.selector)")
    .message("write selector beside from: Selector, and nowhere else"))]
#[x_kube(validation = Rule::new("!has(self.selector) || !has(self.selector.matchExpressions) || self.selector.matchExpressions.all(e, e.operator in ['In', 'NotIn'] ? has(e.values) && size(e.values) > 0 : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))")
    .message("write matchExpressions with the operator In or NotIn and values, or Exists or DoesNotExist without: NotIn without values would be every namespace"))]
pub struct AllowedNamespaces {
    /// Where objects may come from. Default: `Same`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<NamespacesFrom>,
    /// Labels of the namespaces, for `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = bounded)]
    pub selector: Option<LabelSelector>,
}

/// What the API server has to know of Kubernetes' own type, to see that the rule on it is cheap.
fn bounded(selector: &mut Schema) {
    let properties = selector.get_mut("properties");
    let Some(expressions) = properties.and_then(|properties| properties.get_mut("matchExpressions")) else {
        return;
    };
    expressions["maxItems"] = json!(64);
    expressions["items"]["properties"]["operator"]["maxLength"] = json!(16);
    expressions["items"]["properties"]["values"]["maxItems"] = json!(256);
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

#[cfg(test)]
mod tests {
    use crate::api::crds;

    #[test]
    fn the_lists_of_a_selector_are_bounded() {
        let crds = serde_json::to_value(crds().unwrap()).unwrap();
        let expressions = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/allowedNamespaces/properties/selector/properties/matchExpressions";
        let found: Vec<_> =
            crds.as_array().unwrap().iter().filter_map(|crd| crd.pointer(expressions)).collect();
        assert_eq!(found.len(), 2, "of MailServer and MailDomain");
        for expressions in found {
            assert_eq!(expressions["maxItems"], 64);
            assert_eq!(expressions["items"]["properties"]["operator"]["maxLength"], 16);
            assert_eq!(expressions["items"]["properties"]["values"]["maxItems"], 256);
        }
    }
}
