//! `MailDomain`: a domain that a `MailServer` receives mail for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DeletionPolicy;
use super::address::{Address, DomainName};
use super::limits::Limits;
use super::namespaces::AllowedNamespaces;
use super::next_hop::{TRANSPORT_MESSAGE, transport_rule};
use crate::object::ObjectName;

/// A domain that a `MailServer` receives mail for.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, Serialize)]
#[kube(
    group = "vmail.dev",
    version = "v1alpha1",
    kind = "MailDomain",
    namespaced,
    shortname = "md",
    category = "mail",
    status = "MailDomainStatus",
    doc = "A domain that a MailServer receives mail for.",
    selectable = ".spec.domain",
    printcolumn(name = "Domain", type_ = "string", json_path = ".spec.domain"),
    printcolumn(name = "Server", type_ = "string", json_path = ".spec.serverRef.name"),
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
    printcolumn(name = "Mailboxes", type_ = "integer", json_path = ".status.mailboxes"),
    printcolumn(name = "Aliases", type_ = "integer", json_path = ".status.aliases"),
    printcolumn(
        name = "Mailbox Limit",
        type_ = "integer",
        json_path = ".status.limits.mailboxes",
        priority = 1
    ),
    printcolumn(name = "Alias Limit", type_ = "integer", json_path = ".status.limits.aliases", priority = 1),
    printcolumn(name = "Quota", type_ = "integer", json_path = ".status.quota", priority = 1),
    printcolumn(
        name = "Quota Limit",
        type_ = "integer",
        json_path = ".status.limits.totalQuota",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.domain == oldSelf.domain").message("domain can't be changed: make a new MailDomain and move its mailboxes"))]
#[x_kube(validation = Rule::new("!has(self.aliasOf) || self.aliasOf != self.domain").message("write another domain into aliasOf"))]
#[x_kube(validation = Rule::new("!has(self.aliasOf) || !(has(self.catchAll) || has(self.transport) || (has(self.backupMX) && self.backupMX))")
    .message("beside aliasOf leave catchAll, transport and backupMX out: those of the other domain hold"))]
#[x_kube(validation = Rule::new("!(has(self.catchAll) && has(self.backupMX) && self.backupMX)").message("beside backupMX leave catchAll out: every address of the domain is relayed"))]
pub struct MailDomainSpec {
    /// The `MailServer` that serves this domain.
    pub server_ref: ServerReference,
    /// The domain, as in alpha.example.org. Can't be changed.
    pub domain: DomainName,
    /// Free text for `PostfixAdmin`'s list of domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('[\\\\x00-\\\\x1f\\\\x7f]')").message("write one line without control characters"))]
    #[schemars(length(max = 255))]
    pub description: Option<String>,
    /// Whether mail to the domain is accepted. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Addresses that receive what no mailbox and no alias of the domain takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub catch_all: Option<Vec<Address>>,
    /// Another domain, of the same server, whose addresses this one has too: mail to bill@this goes where mail to bill@that goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<DomainName>,
    /// Whether this server is only a backup MX: it takes mail to any address of the domain and relays it to the domain's
    /// primary server, found by MX or named in transport. Default: false.
    #[serde(rename = "backupMX", default, skip_serializing_if = "Option::is_none")]
    pub backup_mx: Option<bool>,
    /// What delivers the domain's mail, as in transport(5): virtual, or smtp:, relay: or lmtp: with a next hop, as in
    /// lmtp:inet:dovecot.mail.svc:24 or relay:[mx1.example.org]:25. An IPv6 address is in brackets. Default: virtual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(transport_rule()).message(TRANSPORT_MESSAGE))]
    #[schemars(length(min = 1, max = 255))]
    pub transport: Option<String>,
    /// What the domain may hold. Default: no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The namespaces whose mailboxes and aliases may use this domain. Default: only its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// User that owns the domain's mail; at least the `MailServer`'s `minimumUid`. Default: the `MailServer`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub uid: Option<i32>,
    /// Group that owns the domain's mail. Default: the `MailServer`'s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub gid: Option<i32>,
    /// What happens to the domain's row when this object is deleted. Default: `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// A `MailServer`, by default in the namespace of the object that names it.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub struct ServerReference {
    /// Name of the `MailServer`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace; the `MailServer`'s `allowedNamespaces` must admit this one. Default: this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

impl ServerReference {
    /// The server that is meant in an object of `namespace`.
    #[must_use]
    pub fn within(&self, namespace: &str) -> ObjectName {
        ObjectName::new(self.namespace.as_deref().unwrap_or(namespace), &self.name)
    }
}

/// What the operator observed of a `MailDomain`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailDomainStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the domain's row is in the tables as declared.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Mailboxes of this domain that have their address and fit into the limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailboxes: Option<i64>,
    /// Aliases of this domain that have their address and fit into the limits, a catch-all included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aliases: Option<i64>,
    /// Sum of the quotas of the mailboxes that fit into the limits, in bytes; only where there are limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// The limits that hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}
