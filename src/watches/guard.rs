//! One object that can't be parsed must not hide the others of its list.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::mail_domain::ServerReference;
use crate::api::{DomainName, MailAdmin, MailAlias, MailDomain, MailServer, Mailbox};
use crate::index::Outline;

/// An object, or what can be said of one that can't be parsed.
///
/// kube's `DeserializeGuard` does the same by way of a tree of values that it copies for the second attempt; of a list of ten
/// thousand mailboxes that is most of the time and of the memory. Here the parts of the text are parsed one by one, and
/// `managedFields`, which is half of it and nobody reads, is passed over. It works for JSON text only, which is what the API server
/// sends.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<K>(pub(crate) Result<K, Unreadable>);

/// An object that can't be parsed.
#[derive(Clone, Debug)]
pub(crate) struct Unreadable {
    /// What is wrong with it.
    pub(crate) error: String,
    /// Its metadata.
    pub(crate) metadata: ObjectMeta,
    /// Its spec, as far as it is one.
    spec: Value,
}

impl Unreadable {
    /// What can be said of it, if it is in `namespace`: of the fields that say who holds a domain those that can be read.
    pub(crate) fn outline(&self, namespace: &str) -> Outline {
        let server = ServerReference::deserialize(&self.spec["serverRef"]).ok();
        Outline {
            uid: self.metadata.uid.as_deref().unwrap_or_default().into(),
            created: self.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            domain: self.spec["domain"].as_str().and_then(|domain| DomainName::parse(domain).ok()),
            server: server.map(|server| server.within(namespace)),
        }
    }
}

/// A kind of object, put together of its parts.
pub(crate) trait Parted: Sized {
    type Spec: DeserializeOwned;
    type Status: DeserializeOwned;

    fn of(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
}

macro_rules! parted {
    ($($kind:ident),*) => {$(
        impl Parted for $kind {
            type Spec = <$kind as kube::core::object::HasSpec>::Spec;
            type Status = <$kind as kube::core::object::HasStatus>::Status;

            fn of(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
                Self { metadata, spec, status }
            }
        }
    )*};
}

parted!(MailServer, MailDomain, Mailbox, MailAlias, MailAdmin);

/// The parts of an object's text.
#[derive(Deserialize)]
struct Parts<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

/// What is read of the metadata.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    annotations: Option<BTreeMap<String, String>>,
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        Self {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            annotations: metadata.annotations,
            ..Self::default()
        }
    }
}

impl<'de, K: Parted> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts { metadata, spec, status } = Parts::deserialize(deserializer)?;
        let (metadata, spec) = (ObjectMeta::from(metadata), spec.map_or("null", RawValue::get));
        let parsed = serde_json::from_str(spec).and_then(|spec| {
            let status = status.map(|status| serde_json::from_str(status.get())).transpose()?;
            Ok((spec, status))
        });
        Ok(Self(match parsed {
            Ok((spec, status)) => Ok(K::of(metadata, spec, status)),
            Err(error) => {
                let spec = serde_json::from_str(spec).unwrap_or_default();
                Err(Unreadable { error: error.to_string(), metadata, spec })
            }
        }))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};

    use super::*;
    use crate::api::{MailDomain, Mailbox};
    use crate::object::ObjectName;

    const GOOD: &str = r#"{"apiVersion": "vmail.dev/v1alpha1", "kind": "Mailbox", "metadata": {"name": "bob"}, "spec": {"address": "bob@alpha.example.org"}}"#;
    const BAD: &str = r#"{"apiVersion": "vmail.dev/v1alpha1", "kind": "Mailbox", "metadata": {"name": "eve", "uid": "7"}, "spec": {"address": 7}}"#;

    fn names(objects: &[Guarded<Mailbox>]) -> Vec<(&str, bool)> {
        objects.iter().map(|object| (object.meta().name.as_deref().unwrap(), object.0.is_ok())).collect()
    }

    #[test]
    fn a_list_has_its_readable_objects_beside_an_unreadable_one() {
        let text = format!(
            r#"{{"kind": "MailboxList", "apiVersion": "vmail.dev/v1alpha1", "metadata": {{}}, "items": [{BAD}, {GOOD}]}}"#
        );
        let list: ObjectList<Guarded<Mailbox>> = serde_json::from_str(&text).unwrap();
        assert_eq!(names(&list.items), [("eve", false), ("bob", true)]);
        let unreadable = list.items[0].0.as_ref().unwrap_err();
        assert_eq!(unreadable.outline("mail"), Outline { uid: "7".into(), ..Outline::default() });
        assert_eq!(unreadable.metadata.uid.as_deref(), Some("7"));
        assert!(unreadable.error.contains("invalid type"), "{}", unreadable.error);
    }

    #[test]
    fn of_an_unreadable_domain_is_known_which_it_is_as_far_as_it_can_be_read() {
        let outline = |spec: &str| {
            let text = format!(
                r#"{{"metadata": {{"name": "a", "uid": "7", "creationTimestamp": "1970-01-01T00:00:05Z"}}, "spec": {spec}}}"#
            );
            serde_json::from_str::<Guarded<MailDomain>>(&text).unwrap().0.unwrap_err().outline("mail")
        };
        let known = Outline {
            uid: "7".into(),
            created: 5,
            domain: Some(DomainName::parse("alpha.example.org").unwrap()),
            server: Some(ObjectName::new("mail", "myhost")),
        };
        let spec =
            r#"{"domain": "alpha.example.org", "serverRef": {"name": "myhost"}, "deletionPolicy": "Later"}"#;
        assert_eq!(outline(spec), known);
        let spec = r#"{"domain": "alpha.example.org", "serverRef": "myhost"}"#;
        assert_eq!(outline(spec), Outline { server: None, ..known.clone() });
        for spec in ["7", "{}", r#"{"domain": "not a domain"}"#] {
            assert_eq!(outline(spec), Outline { server: None, domain: None, ..known.clone() }, "{spec}");
        }
    }

    #[test]
    fn a_watch_tells_of_an_unreadable_object() {
        let event =
            |object| serde_json::from_str(&format!(r#"{{"type": "MODIFIED", "object": {object}}}"#)).unwrap();
        let WatchEvent::Modified::<Guarded<Mailbox>>(object) = event(BAD) else { panic!("another event") };
        assert_eq!(names(&[object]), [("eve", false)]);
        let WatchEvent::Modified::<Guarded<Mailbox>>(object) = event(GOOD) else { panic!("another event") };
        assert_eq!(names(&[object]), [("bob", true)]);
    }
}
