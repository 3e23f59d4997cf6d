//! Which namespaces may use an object, and the labels that decide it.

use std::collections::BTreeMap;

use hashbrown::HashMap;

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
    /// A selector that can't be read (an operator that Kubernetes doesn't know) admits nobody else.
    fn from(written: Option<&AllowedNamespaces>) -> Self {
        let Some(written) = written else { return Self::Same };
        let selector = || written.selector.clone()?.try_into().ok();
        match written.from.unwrap_or_default() {
            NamespacesFrom::Same => Self::Same,
            NamespacesFrom::All => Self::All,
            NamespacesFrom::Selector => {
                selector().map_or(Self::Same, |selector| Self::Matching(Box::new(selector)))
            }
        }
    }
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
