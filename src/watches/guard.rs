//! One object that can't be parsed must not hide the others of its list.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error};
use serde_json::value::RawValue;

/// An object, or what can be said of one that can't be parsed.
///
/// kube's `DeserializeGuard` does the same by way of a tree of values that it copies for the second attempt; of a list of ten
/// thousand mailboxes that is most of the time and of the memory. Here the second attempt reads the text again. It works for
/// JSON text only, which is what the API server sends.
#[derive(Clone, Debug)]
pub(super) struct Guarded<K>(pub(super) Result<K, Unreadable>);

/// An object that can't be parsed.
#[derive(Clone, Debug)]
pub(super) struct Unreadable {
    /// What is wrong with it.
    pub(super) error: String,
    /// Its metadata.
    pub(super) metadata: ObjectMeta,
}

#[derive(Deserialize)]
struct OnlyMetadata {
    metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let unreadable = |error: serde_json::Error| {
            let OnlyMetadata { metadata } = serde_json::from_str(text)?;
            Ok(Unreadable { error: error.to_string(), metadata })
        };
        let object = match serde_json::from_str(text) {
            Ok(object) => Ok(object),
            Err(error) => Err(unreadable(error).map_err(|error: serde_json::Error| D::Error::custom(error))?),
        };
        Ok(Self(object))
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
    use crate::api::Mailbox;

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
        assert_eq!(unreadable.metadata.uid.as_deref(), Some("7"));
        assert!(unreadable.error.contains("invalid type"), "{}", unreadable.error);
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
