//! `MailAdmin`: somebody who may log in to `PostfixAdmin` and manage domains there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::address::{Address, DomainName};
use super::mail_domain::ServerReference;
use super::{DeletionPolicy, SecretKeyReference};

/// Somebody who may log in to `PostfixAdmin` and manage domains there.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, Serialize)]
#[kube(
    group = "vmail.dev",
    version = "v1alpha1",
    kind = "MailAdmin",
    namespaced,
    shortname = "madm",
    category = "mail",
    status = "MailAdminStatus",
    doc = "Somebody who may log in to PostfixAdmin and manage domains there.",
    selectable = ".spec.username",
    printcolumn(name = "Username", type_ = "string", json_path = ".spec.username"),
    printcolumn(name = "Server", type_ = "string", json_path = ".spec.serverRef.name"),
    printcolumn(name = "Super", type_ = "boolean", json_path = ".spec.superAdmin"),
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
    printcolumn(name = "Domains", type_ = "string", json_path = ".spec.domains", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.username == oldSelf.username").message("username can't be changed: make a new MailAdmin"))]
#[x_kube(validation = Rule::new("!(has(self.passwordSecretKeyRef) && has(self.passwordHashSecretKeyRef))")
    .message("write passwordSecretKeyRef or passwordHashSecretKeyRef, not both"))]
#[x_kube(validation = Rule::new("(has(self.superAdmin) && self.superAdmin) != has(self.domains)")
    .message("write either superAdmin: true or the domains that the admin manages"))]
pub struct MailAdminSpec {
    /// The `MailServer` whose `PostfixAdmin` tables name the admin.
    pub server_ref: ServerReference,
    /// The address that the admin logs in with, as in admin@alpha.example.org; it need not be a mailbox. Can't be changed.
    pub username: Address,
    /// A Secret's key with the password in plain text; it is stored as a hash of the `MailServer`'s passwordScheme. Neither reference: nobody can log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_key_ref: Option<SecretKeyReference>,
    /// A Secret's key with the password's hash, stored as it is, with or without a {SCHEME} prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash_secret_key_ref: Option<SecretKeyReference>,
    /// Whether the admin manages every domain of the server, and other admins; only in the `MailServer`'s own namespace. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub super_admin: Option<bool>,
    /// The domains that the admin manages; the `MailServer` has to serve them, and their `MailDomain`s have to admit this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub domains: Option<Vec<DomainName>>,
    /// Whether the admin may log in. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// What happens to the admin's rows when this object is deleted. Default: `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// What the operator observed of a `MailAdmin`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailAdminStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the admin's rows are in the tables as declared.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
