//! What the user writes: the five kinds of `vmail.dev/v1alpha1` and the texts in them.
//!
//! This room holds schemas, the rules that the API server enforces with them (CEL, patterns), and the parsers of
//! the small texts (addresses, domains, sizes) that enforce the same rules once more when an object is read: an
//! object that an older schema let through fails to parse here and keeps its rows. No IO and no decision about mail
//! belongs here. Nothing is defaulted into a stored spec: an optional field is an `Option`, and who reads it knows what
//! stands for none. [`mod@reference`] is the same for people.

pub mod address;
pub mod condition;
pub mod limits;
pub mod mail_admin;
pub mod mail_alias;
pub mod mail_domain;
pub mod mail_server;
pub mod mailbox;
pub mod namespaces;
pub mod next_hop;
pub mod password_scheme;
pub mod quantity;
pub mod recipient_delimiter;
pub mod reference;

pub use address::{Address, AliasAddress, DomainName, ParseError};
pub use condition::{Reason, condition};
pub use mail_admin::{MailAdmin, MailAdminSpec, MailAdminStatus};
pub use mail_alias::{MailAlias, MailAliasSpec, MailAliasStatus};
pub use mail_domain::{MailDomain, MailDomainSpec, MailDomainStatus};
pub use mail_server::{MailServer, MailServerSpec, MailServerStatus};
pub use mailbox::{Mailbox, MailboxSpec, MailboxStatus};
pub use password_scheme::PasswordScheme;
pub use quantity::ByteQuantity;
pub use recipient_delimiter::RecipientDelimiter;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

/// The API group of every kind.
pub const GROUP: &str = "vmail.dev";

/// Name under which the operator applies and patches objects (`metadata.managedFields`).
pub const FIELD_MANAGER: &str = "vmail-operator";

/// The custom resource definitions, in the order in which a reader meets them.
///
/// # Errors
/// When a derived definition can't be written as JSON and read back, which a unit test rules out.
pub fn crds() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [MailServer::crd(), MailDomain::crd(), Mailbox::crd(), MailAlias::crd(), MailAdmin::crd()]
        .into_iter()
        .map(without_null)
        .collect()
}

/// Optional fields are left out or written, never null: a rule that asks `has(self.field)` could not tell null apart.
fn without_null(crd: CustomResourceDefinition) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut json = serde_json::to_value(crd)?;
    remove_nullable(&mut json);
    serde_json::from_value(json)
}

fn remove_nullable(json: &mut serde_json::Value) {
    match json {
        serde_json::Value::Object(fields) => {
            fields.retain(|name, value| name != "nullable" || !value.is_boolean());
            fields.values_mut().for_each(remove_nullable);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(remove_nullable),
        _ => {}
    }
}

/// For an enum of which each field says what it is there: kube puts the description of an enum in the place of the field's.
fn without_description(schema: &mut Schema) {
    schema.remove("description");
}

/// One key of a Secret in the namespace of the object that refers to it.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret, in the namespace of this object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret's `data`.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What happens to a row when the object that declared it is deleted. Mail on disk is never removed by it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = crate::api::without_description)]
pub enum DeletionPolicy {
    /// The row is deleted: mail to the address is refused from then on.
    #[default]
    Delete,
    /// The row stays as it is and nobody owns it any more: mail goes on arriving.
    Retain,
    /// The row stays with `active = 0` and nobody owns it: mail is refused, the account can be given back.
    Disable,
}

impl DeletionPolicy {
    /// The name that users write and the ownership table stores.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::Retain => "Retain",
            Self::Disable => "Disable",
        }
    }

    /// Reads back [`DeletionPolicy::as_str`]; an unknown text is the policy that keeps most.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        match text {
            "Delete" => Self::Delete,
            "Disable" => Self::Disable,
            _ => Self::Retain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every choice of a spec, by the name of its field.
    fn choices(json: &serde_json::Value) -> Vec<(&String, &serde_json::Value)> {
        let own = json["properties"].as_object().into_iter().flatten();
        let below = own.clone().flat_map(|(_, field)| choices(field));
        own.filter(|(_, field)| field.get("enum").is_some()).chain(below).collect()
    }

    #[test]
    fn every_choice_says_its_default() {
        let crds = serde_json::to_value(crds().unwrap()).unwrap();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        let specs = crds.as_array().unwrap().iter().map(|crd| crd.pointer(spec).unwrap());
        let choices: Vec<_> = specs.flat_map(choices).collect();
        assert_eq!(choices.len(), 13);
        for (name, field) in choices {
            let description = field["description"].as_str().unwrap_or_default();
            assert!(description.contains("Default: `"), "{name}: {description:?}");
        }
    }

    #[test]
    fn no_field_names_claims_of_devices_which_no_pod_gets() {
        let text = serde_json::to_string(&crds().unwrap()).unwrap();
        assert!(!text.contains("\"claims\"") && text.contains("\"limits\""));
    }

    #[test]
    fn every_kind_has_a_definition_without_null() {
        let crds = crds().unwrap();
        assert_eq!(crds.len(), 5);
        assert!(!serde_json::to_string(&crds).unwrap().contains("nullable"));
    }
}
