//! The Postfix workload of a `MailServer`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Resources, SIZE_MESSAGE, SIZE_RULE, SecretReference};
use crate::api::next_hop::{HOST_MESSAGE, host_rule};
use crate::api::quantity::ByteQuantity;

/// What begins an extension where a `MailServer` says nothing of it.
pub const DEFAULT_RECIPIENT_DELIMITER: &str = "+";

/// `message_size_limit` where a `MailServer` names none, in bytes: Postfix's own.
pub const DEFAULT_MESSAGE_SIZE_LIMIT: i64 = 10_240_000;

/// smtpd(8) takes no mail while less than 1.5 times `message_size_limit` is free (`queue_minfree` of postconf(5)), and some of
/// the volume is never free.
fn queue_rule() -> String {
    let limit = format!(
        "(has(self.messageSizeLimit) ? string(self.messageSizeLimit) : '{DEFAULT_MESSAGE_SIZE_LIMIT}')"
    );
    let size = "(has(self.queue) && has(self.queue.size) ? string(self.queue.size) : '1Gi')";
    format!(
        "!isQuantity({limit}) || !isQuantity({size}) || !quantity({limit}).add(quantity({limit})).isGreaterThan(quantity({size}))"
    )
}

/// The Postfix workload.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(queue_rule())
    .message("write a messageSizeLimit (10240000 bytes where it is left out) of at most half of queue.size (1Gi where that is), or a larger queue: Postfix takes no mail while less than 1.5 times the limit is free there"))]
pub struct Postfix {
    /// Image with Postfix and this operator's agent. Default: the one that the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Number of Postfix pods, each with its own queue, all with the same mail store. Default: 1. Unless the mail store is `ReadWriteMany` they run on one node. A pod that is one too many empties its queue before it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub replicas: Option<i32>,
    /// Requests and limits of the containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The volume of each pod's queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<PostfixQueue>,
    /// The Service that receives SMTP on port 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<PostfixService>,
    /// Postfix's `mynetworks`: clients that may send to any destination, as in 10.1.0.0/16. Default: none, not even the pod itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.all(network, isCIDR(network))").message("write networks in CIDR notation, as in 10.1.0.0/16"))]
    #[x_kube(validation = Rule::new("self.all(network, !isCIDR(network) || cidr(network).prefixLength() >= (cidr(network).ip().family() == 4 ? 8 : 7))")
        .message("write the networks of your own clients, none wider than /8 (IPv6: /7): whoever is in them may send to any destination, and with 0.0.0.0/0 the server is an open relay"))]
    #[schemars(length(max = 64), inner(length(max = 64)))]
    pub trusted_networks: Option<Vec<String>>,
    /// Where mail for other servers is handed to, in place of the recipients' own. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay_host: Option<RelayHost>,
    /// TLS for clients that ask for it with STARTTLS. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PostfixTls>,
    /// Postfix's `recipient_delimiter`: characters that begin an extension, as in bob+lists@. Default: `+`. Empty switches extensions off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[+=_.-]*$')").message("write one or more of + - _ = . or an empty text, which switches extensions off"))]
    #[schemars(length(max = 5))]
    pub recipient_delimiter: Option<String>,
    /// What Postfix greets clients with, after its host name, as in `ESMTP Example`. Default: `ESMTP Postfix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^[!-#%-~]([ -#%-~]*[!-#%-~])?$')").message("write the greeting without the host name, which comes before it: one line of printable ASCII characters without $ and without outer spaces, as in ESMTP Example"))]
    #[schemars(length(min = 1, max = 200))]
    pub banner: Option<String>,
    /// Postfix's `message_size_limit`, in bytes; 1.5 times this must be free in the queue's volume, or all mail is refused with 452. At most half of `queue.size`. Default: 10240000, as in Postfix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_size_limit: Option<ByteQuantity>,
    /// Any other main.cf parameter, as in `smtpd_client_connection_count_limit: "20"`. Those that the operator sets are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.all(name, name.matches('^[a-z][a-z0-9_]*$'))").message("write parameter names of lower-case letters, digits and _ as in postconf(5)"))]
    #[x_kube(validation = Rule::new(owned_parameters_rule()).message("these are set by the operator from other fields, leave them out: virtual_*, smtpd_relay_restrictions, mynetworks (trustedNetworks), myhostname (hostname), message_size_limit (messageSizeLimit), recipient_delimiter (recipientDelimiter), relayhost (relayHost), smtpd_banner (banner), smtpd_tls_chain_files (tls), mydestination, and the paths, users and commands of Postfix (docs/postfix.md lists all)"))]
    #[x_kube(validation = Rule::new("self.all(name, !self[name].matches('[\\\\x00-\\\\x1f\\\\x7f$]') && !self[name].matches('^[ #]'))").message("write each value on one line, without control characters, without $ (write the value itself) and not beginning with # or a space"))]
    #[schemars(extend("maxProperties" = 64), extend("additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub parameters: Option<BTreeMap<String, String>>,
}

/// The volume that mail waits in. Postfix refuses mail when it is full, and loses none.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(SIZE_RULE).message(SIZE_MESSAGE))]
pub struct PostfixQueue {
    /// Size of the volume: at least twice `messageSizeLimit`, also where that is left out, of which 1.5 times must be free. Default: 1Gi. Fixed once the volume exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
    /// Storage class of the volume. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// A server that mail for others is handed to.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayHost {
    /// Host name or IPv4 address. Its MX records are not asked for.
    #[x_kube(validation = Rule::new(host_rule()).message(HOST_MESSAGE))]
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// TCP port. Default: 25. Providers often want 587.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Secret with the keys `username` and `password`. With it TLS is required. Without the Secret mail waits in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretReference>,
}

impl RelayHost {
    /// The TCP port that mail is sent to.
    #[must_use]
    pub fn port(&self) -> i32 {
        self.port.unwrap_or(25)
    }
}

/// TLS for SMTP clients.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PostfixTls {
    /// Secret of the type kubernetes.io/tls with the keys `tls.crt` and `tls.key`, as cert-manager writes it. A renewed one is taken without a restart.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// The Service that receives SMTP.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct PostfixService {
    /// Kind of Service. Default: `ClusterIP`. The others keep the client's address (`externalTrafficPolicy: Local`), so only nodes with a Postfix pod answer.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Annotations, for the load balancer of a cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Kinds of Service, as Kubernetes names them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = crate::api::without_description)]
pub enum ServiceType {
    /// Reached from inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Reached through a port of the nodes that Postfix runs on; the client's address is kept.
    NodePort,
    /// Reached through a load balancer; the client's address is kept.
    LoadBalancer,
}

/// main.cf parameters that the operator owns; every `virtual_*` parameter is owned as well.
pub const OWNED_PARAMETERS: &[&str] = &[
    "alias_database",
    "alias_maps",
    "allow_min_user",
    "alternate_config_directories",
    "command_directory",
    "compatibility_level",
    "config_directory",
    "content_filter",
    "daemon_directory",
    "data_directory",
    "default_database_type",
    "default_privs",
    "default_transport",
    "export_environment",
    "fallback_transport",
    "import_environment",
    "inet_interfaces",
    "inet_protocols",
    "local_recipient_maps",
    "local_transport",
    "mail_owner",
    "mailbox_command",
    "mailbox_command_maps",
    "mailbox_transport",
    "maillog_file",
    "maillog_file_compressor",
    "maillog_file_permissions",
    "maillog_file_prefixes",
    "master_service_disable",
    "message_size_limit",
    "meta_directory",
    "multi_instance_directories",
    "multi_instance_enable",
    "multi_instance_wrapper",
    "mydestination",
    "myhostname",
    "mynetworks",
    "mynetworks_style",
    "parent_domain_matches_subdomains",
    "postlog_service_name",
    "process_id_directory",
    "proxy_read_maps",
    "proxy_write_maps",
    "queue_directory",
    "recipient_delimiter",
    "relay_domains",
    "relayhost",
    "setgid_group",
    "shlib_directory",
    "smtp_sasl_auth_enable",
    "smtp_sasl_password_maps",
    "smtp_sasl_security_options",
    "smtp_sasl_tls_security_options",
    "smtpd_banner",
    "smtpd_recipient_restrictions",
    "smtpd_relay_restrictions",
    "smtpd_tls_cert_file",
    "smtpd_tls_chain_files",
    "smtpd_tls_key_file",
    "smtpd_tls_wrappermode",
    "smtpd_upstream_proxy_protocol",
    "syslog_name",
    "transport_maps",
    "vmail_maps",
];

fn owned_parameters_rule() -> String {
    let names = OWNED_PARAMETERS.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    format!("self.all(name, !name.startsWith('virtual_') && !(name in [{names}]))")
}
