//! Which namespaces may use an object, and the labels that decide it.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::{Selector, SelectorExt};

use crate::api::namespaces::{AllowedNamespaces, NamespacesFrom};

/// Labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// The namespaces that may use an object, its own always among them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Allowed {
    /// Its own.
    #[default]
    Same,
    /// Every one.
    All,
    /// Those whose labels match.
    Matching(Box<Selector>),
}

impl From<Option<&AllowedNamespaces>> for Allowed {
    /// A selector that can't be read (an operator that Kubernetes doesn't know, or one without its values) admits nobody else.
    fn from(written: Option<&AllowedNamespaces>) -> Self {
        let Some(written) = written else { return Self::Same };
        match written.from.unwrap_or_default() {
            NamespacesFrom::Same => Self::Same,
            NamespacesFrom::All => Self::All,
            NamespacesFrom::Selector => {
                let selector = written.selector.as_ref().and_then(readable);
                selector.map_or(Self::Same, |selector| Self::Matching(Box::new(selector)))
            }
        }
    }
}

fn readable(selector: &LabelSelector) -> Option<Selector> {
    let is_complete = |requirement: &LabelSelectorRequirement| {
        let has_values = requirement.values.as_ref().is_some_and(|values| !values.is_empty());
        has_values == matches!(requirement.operator.as_str(), "In" | "NotIn")
    };
    let mut requirements = selector.match_expressions.iter().flatten();
    if requirements.all(is_complete) { selector.clone().try_into().ok() } else { None }
}

impl Allowed {
    /// Whether labels decide, and these would be enough.
    pub(super) fn matches(&self, labels: Option<&Labels>) -> bool {
        matches!((self, labels), (Self::Matching(selector), Some(labels)) if selector.matches(labels))
    }
}

/// The labels of all namespaces.
#[derive(Debug, Default)]
pub(super) struct Namespaces(HashMap<Box<str>, Labels>);

impl Namespaces {
    /// Whether objects of `namespace` may use an object in `own` that allows `allowed`.
    pub(super) fn admits(&self, allowed: &Allowed, own: &str, namespace: &str) -> bool {
        own == namespace || *allowed == Allowed::All || allowed.matches(self.0.get(namespace))
    }

    pub(super) fn labels(&self, namespace: &str) -> Option<&Labels> {
        self.0.get(namespace)
    }

    pub(super) fn set(&mut self, namespace: &str, labels: Option<Labels>) {
        match labels {
            Some(labels) => self.0.insert(namespace.into(), labels),
            None => self.0.remove(namespace),
        };
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn allowed(requirement: &Value) -> Allowed {
        let written = json!({"from": "Selector", "selector": {"matchExpressions": [requirement]}});
        Allowed::from(Some(&serde_json::from_value(written).unwrap()))
    }

    #[test]
    fn a_selector_that_is_not_complete_admits_nobody_else() {
        for requirement in [
            json!({"key": "tenant", "operator": "NotIn", "values": []}),
            json!({"key": "tenant", "operator": "NotIn"}),
            json!({"key": "tenant", "operator": "In", "values": []}),
            json!({"key": "tenant", "operator": "In"}),
            json!({"key": "tenant", "operator": "Exists", "values": ["a"]}),
            json!({"key": "tenant", "operator": "DoesNotExist", "values": ["a"]}),
            json!({"key": "tenant", "operator": "notin", "values": ["a"]}),
        ] {
            assert_eq!(allowed(&requirement), Allowed::Same, "{requirement}");
        }
    }

    #[test]
    fn a_complete_selector_admits_whom_it_matches() {
        let matches = |requirement: Value, tenant: Option<&str>| {
            let labels = tenant.map(|tenant| ("tenant".to_owned(), tenant.to_owned())).into_iter().collect();
            allowed(&requirement).matches(Some(&labels))
        };
        for (operator, values, by) in [
            ("In", json!(["a"]), [true, false, false]),
            ("NotIn", json!(["a"]), [false, true, true]),
            ("Exists", Value::Null, [true, true, false]),
            ("DoesNotExist", json!([]), [false, false, true]),
        ] {
            let admitted = [Some("a"), Some("b"), None].map(|tenant| {
                matches(json!({"key": "tenant", "operator": operator, "values": values}), tenant)
            });
            assert_eq!(admitted, by, "{operator}");
        }
    }
}
