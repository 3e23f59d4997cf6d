//! `MailAlias`: an address whose mail goes to other addresses.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::DeletionPolicy;
use super::address::{Address, AliasAddress};

/// An address whose mail goes to other addresses.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, Serialize)]
#[kube(
    group = "vmail.dev",
    version = "v1alpha1",
    kind = "MailAlias",
    plural = "mailaliases",
    namespaced,
    shortname = "ma",
    category = "mail",
    status = "MailAliasStatus",
    doc = "An address whose mail goes to other addresses.",
    selectable = ".spec.address",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address"),
    printcolumn(name = "Goto", type_ = "string", json_path = ".spec.goto"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.address == oldSelf.address").message("address can't be changed: make a new MailAlias"))]
pub struct MailAliasSpec {
    /// The address, as in info@alpha.example.org, or @alpha.example.org for what nothing else of the domain takes. Can't be changed.
    pub address: AliasAddress,
    /// The addresses that receive the mail, in this cluster or anywhere else.
    #[x_kube(validation = Rule::new("size(self) > 0").message("write at least one address that receives the mail"))]
    #[schemars(length(max = 1000))]
    pub goto: Vec<Address>,
    /// Free text for `PostfixAdmin`'s list of aliases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('[\\\\x00-\\\\x1f\\\\x7f]')").message("write one line without control characters"))]
    #[schemars(length(max = 255))]
    pub description: Option<String>,
    /// Whether the alias is followed. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// What happens to the row when this object is deleted. Default: `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// What the operator observed of a `MailAlias`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailAliasStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the alias's row is in the tables as declared.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The `MailServer` that serves it, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}
