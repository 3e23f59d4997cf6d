//! `Mailbox`: an account with an address and a place on disk.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::quantity::ByteQuantity;
use super::{DeletionPolicy, SecretKeyReference};

/// An account: mail to its address is stored below the `MailServer`'s mail store.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, Serialize)]
#[kube(
    group = "vmail.dev",
    version = "v1alpha1",
    kind = "Mailbox",
    plural = "mailboxes",
    namespaced,
    shortname = "mbx",
    category = "mail",
    status = "MailboxStatus",
    doc = "An account: mail to its address is stored below the MailServer's mail store.",
    selectable = ".spec.address",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address"),
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
    printcolumn(name = "Maildir", type_ = "string", json_path = ".status.maildir", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.address == oldSelf.address").message("address can't be changed: make a new Mailbox"))]
#[x_kube(validation = Rule::new("!(has(self.passwordSecretKeyRef) && has(self.passwordHashSecretKeyRef))")
    .message("write passwordSecretKeyRef or passwordHashSecretKeyRef, not both"))]
#[x_kube(validation = Rule::new("!has(self.keepCopy) || has(self.forwardTo)").message("write keepCopy only beside forwardTo"))]
pub struct MailboxSpec {
    /// The address, as in alfred@alpha.example.org; the `MailDomain` of its domain decides the server. Can't be changed.
    pub address: Address,
    /// The person's name, for `PostfixAdmin`'s list of mailboxes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('[\\\\x00-\\\\x1f\\\\x7f]')").message("write one line without control characters"))]
    #[schemars(length(max = 255))]
    pub display_name: Option<String>,
    /// A Secret's key with the password in plain text; it is stored as a hash of the `MailServer`'s passwordScheme. Neither reference: nobody can log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_key_ref: Option<SecretKeyReference>,
    /// A Secret's key with the password's hash, stored as it is, with or without a {SCHEME} prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash_secret_key_ref: Option<SecretKeyReference>,
    /// Size limit in bytes, written to the mailbox's row for `PostfixAdmin` and an IMAP server to read; virtual(8) itself
    /// enforces none. Default: 0, unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<ByteQuantity>,
    /// Whether mail is accepted and login allowed. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Addresses that receive the mail in place of, or with keepCopy as well as, this mailbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub forward_to: Option<Vec<Address>>,
    /// Whether the mailbox keeps a copy of what is forwarded. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_copy: Option<bool>,
    /// User that owns the mailbox's mail; at least the `MailServer`'s `minimumUid`. Default: the `MailDomain`'s, else the `MailServer`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub uid: Option<i32>,
    /// Group that owns the mailbox's mail. Default: the `MailDomain`'s, else the `MailServer`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub gid: Option<i32>,
    /// What happens to the rows when this object is deleted; mail on disk always stays. Default: `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// What the operator observed of a `Mailbox`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the mailbox's rows are in the tables as declared.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Where its mail is, below the mail store's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maildir: Option<String>,
    /// The `MailServer` that serves it, as namespace/name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}
