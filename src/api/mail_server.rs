//! `MailServer`: one mail system, its Postfix, its database and its mail store.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretKeyReference;
use super::address::DomainName;
use super::namespaces::AllowedNamespaces;
use super::password_scheme::PasswordScheme;
use super::quantity::ByteQuantity;

/// One mail system: Postfix, the tables that it looks accounts up in, and the volume that holds the mail.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, Serialize)]
#[kube(
    group = "vmail.dev",
    version = "v1alpha1",
    kind = "MailServer",
    namespaced,
    shortname = "ms",
    category = "mail",
    status = "MailServerStatus",
    doc = "One mail system: Postfix, the tables that it looks accounts up in, and the volume that holds the mail.",
    printcolumn(name = "Hostname", type_ = "string", json_path = ".spec.hostname"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Domains", type_ = "integer", json_path = ".status.domains"),
    printcolumn(name = "Mailboxes", type_ = "integer", json_path = ".status.mailboxes"),
    printcolumn(name = "Aliases", type_ = "integer", json_path = ".status.aliases"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')").message("write a name of at most 40 lower-case letters, digits and dashes that begins with a letter: the names of its pods and Services are made from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.database) || !has(self.lookupTables) || self.lookupTables in ['mysql', 'proxy:mysql']")
    .message("leave database out: look-up files need none"))]
#[x_kube(validation = Rule::new("!has(self.postfix) || !has(self.postfix.replicas) || self.postfix.replicas == 1 || !has(self.mailStore) || !has(self.mailStore.accessModes) || self.mailStore.accessModes.exists(mode, mode != 'ReadWriteOncePod')")
    .message("write replicas: 1, or accessModes: [ReadWriteMany] (or ReadWriteOnce, on one node): ReadWriteOncePod lets a single pod use the mail store"))]
pub struct MailServerSpec {
    /// Postfix's `myhostname`: the name that it greets with and that the domains' MX records point to, as in mx1.example.org.
    pub hostname: DomainName,
    /// How Postfix looks accounts up, named as in Postfix: in a database (`mysql`, `proxy:mysql`), or in files without one (`hash`, `lmdb`, `cdb`, `texthash`). Default: `proxy:mysql`, which shares few database connections among all of its processes. With files there are no tables: nobody can log in with PostfixAdmin's passwords, `existingRows` and `drift` say nothing, and an account goes with its object, whatever its deletionPolicy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup_tables: Option<LookupTables>,
    /// The database with PostfixAdmin's tables. Default: `embedded`, a MariaDB that the operator runs; none with look-up files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// Where and as whom mail is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail_store: Option<MailStore>,
    /// The Postfix workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postfix: Option<Postfix>,
    /// The namespaces whose `MailDomain`s may name this server. Default: only its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// What to do with a row that was in the database before the object that declares it. Default: `Fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_rows: Option<ExistingRows>,
    /// What to do with a managed row that somebody else changed or removed. Default: `Correct`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// How plain text passwords are stored. Default: `SHA512-CRYPT`. A password that is stored already keeps its scheme until its Secret or its object changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_scheme: Option<PasswordScheme>,
    /// The brake: more deletions than this within ten minutes wait for the annotation `vmail.dev/release-deletions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mass_deletion: Option<MassDeletion>,
}

/// Postfix's own names of the look-up table types.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum LookupTables {
    /// Every Postfix process holds its own database connections.
    #[serde(rename = "mysql")]
    Mysql,
    /// Processes share the connections of proxymap(8).
    #[default]
    #[serde(rename = "proxy:mysql")]
    ProxyMysql,
    /// Files that postmap(1) makes with Berkeley DB. No database.
    #[serde(rename = "hash")]
    Hash,
    /// Files that postmap(1) makes with LMDB. No database.
    #[serde(rename = "lmdb")]
    Lmdb,
    /// Files that postmap(1) makes with CDB. No database.
    #[serde(rename = "cdb")]
    Cdb,
    /// Plain text files, which every Postfix process reads into its memory. No database.
    #[serde(rename = "texthash")]
    Texthash,
}

impl LookupTables {
    /// Postfix's name of the type, as in `hash:/etc/postfix/virtual`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mysql => "mysql",
            Self::ProxyMysql => "proxy:mysql",
            Self::Hash => "hash",
            Self::Lmdb => "lmdb",
            Self::Cdb => "cdb",
            Self::Texthash => "texthash",
        }
    }

    /// Whether the tables are files; else they are a database's.
    #[must_use]
    pub fn are_files(self) -> bool {
        matches!(self, Self::Hash | Self::Lmdb | Self::Cdb | Self::Texthash)
    }
}

/// Either a MariaDB that the operator runs, or a server that is there already.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.embedded) && has(self.external))").message("write embedded or external, not both"))]
pub struct Database {
    /// A MariaDB `StatefulSet` with its own volume, run by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedDatabase>,
    /// A MariaDB or MySQL server that is there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalDatabase>,
}

/// The embedded MariaDB.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(SIZE_RULE).message(SIZE_MESSAGE))]
pub struct EmbeddedDatabase {
    /// Image with mariadbd and mariadb-install-db on its path. Default: the one that the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Size of its volume. Default: 1Gi. Fixed once the volume exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
    /// Storage class of its volume. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// A database server that is there already, with two accounts: one that writes, one that may only read.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalDatabase {
    /// Host name or IPv4 address, reachable from the operator and from the Postfix pod.
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$') && self != 'localhost'")
        .message("write a host name or IPv4 address, as in db.example.org; localhost would be the pod itself"))]
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// TCP port. Default: 3306.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Name of the database. Default: mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub name: Option<String>,
    /// What stands before the name of each table, as in `PostfixAdmin`'s `database_prefix`. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^[A-Za-z0-9_]*$"))]
    pub table_prefix: Option<String>,
    /// TLS to the server. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<DatabaseTls>,
    /// Secret with the keys `username` and `password` of the account that writes (the seed's postfixadmin): SELECT, INSERT, UPDATE, DELETE and, for an empty database, CREATE.
    pub writer_secret_ref: SecretReference,
    /// Secret with the keys `username` and `password` of the account that Postfix reads with (the seed's postfixserver): SELECT only.
    pub reader_secret_ref: SecretReference,
}

/// TLS to an external database server. Its certificate is checked up to the authority, and that it names the host.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseTls {
    /// The certificate authority's certificate, PEM.
    pub ca_secret_ref: SecretKeyReference,
}

/// A Secret in the namespace of the `MailServer`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SecretReference {
    /// Name of the Secret, in the namespace of the `MailServer`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where and as whom mail is stored.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(SIZE_RULE).message(SIZE_MESSAGE))]
#[x_kube(validation = Rule::new("(has(self.uid) ? self.uid : 901) >= (has(self.minimumUid) ? self.minimumUid : 900)")
    .message("write a uid of at least minimumUid (default 900): virtual(8) delivers for no other"))]
#[x_kube(validation = Rule::new("!(has(self.existingClaim) && (has(self.size) || has(self.storageClassName) || has(self.accessModes)))")
    .message("write existingClaim alone, or size, storageClassName and accessModes for a new claim"))]
pub struct MailStore {
    /// Postfix's `virtual_mailbox_base`. Default: /var/vmail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$') && !self.matches('^/(bin|boot|dev|etc|lib|lib64|proc|root|run|sbin|sys|usr)(/|$)') && !self.matches('^/var(/lib(/postfix(/.*)?)?|/spool(/postfix)?)?$')")
        .message("write an absolute path below /var, /srv, /home or the like, as in /var/vmail: no system directory, no .."))]
    #[schemars(length(min = 2, max = 200))]
    pub path: Option<String>,
    /// Size of the volume. Default: 10Gi. Fixed once the volume exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
    /// Storage class of the volume. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Access modes of the volume. Default: `ReadWriteOnce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Option<Vec<AccessMode>>,
    /// A claim that is there already, to be used in place of a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub existing_claim: Option<String>,
    /// User that owns the mail. Default: 901.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub uid: Option<i32>,
    /// Group that owns the mail. Default: 901.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub gid: Option<i32>,
    /// Postfix's `virtual_minimum_uid`. Default: 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub minimum_uid: Option<i32>,
    /// How a mailbox is stored. Default: `Maildir`. Where there are mailboxes, a change waits for the annotation `vmail.dev/confirm-mail-store`: mail that is there would be out of sight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<MailboxFormat>,
    /// Where below `path` a mailbox is stored. Default: `LocalPart`. Where there are mailboxes, a change waits for the annotation `vmail.dev/confirm-mail-store`: mail that is there would be out of sight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<MailboxLayout>,
}

/// Access modes of a volume, as Kubernetes names them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[allow(clippy::enum_variant_names, reason = "Kubernetes' own names")]
pub enum AccessMode {
    /// One node reads and writes.
    ReadWriteOnce,
    /// One pod reads and writes.
    ReadWriteOncePod,
    /// Many nodes read and write.
    ReadWriteMany,
}

/// How a mailbox is stored (virtual(8): a trailing slash in the table chooses maildir).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum MailboxFormat {
    /// A directory with one file a message.
    #[default]
    Maildir,
    /// One file.
    Mbox,
}

/// Where below the mail store a mailbox is stored.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum MailboxLayout {
    /// `alpha.example.org/alfred/`
    #[default]
    LocalPart,
    /// `alpha.example.org/alfred@alpha.example.org/`
    Address,
}

/// The Postfix workload.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Postfix {
    /// Image with Postfix and this operator's agent. Default: the one that the operator was installed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// Number of Postfix pods, each with its own queue, all with the same mail store. Default: 1. Unless the mail store is `ReadWriteMany` they run on one node. A pod that is one too many empties its queue before it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 20))]
    pub replicas: Option<i32>,
    /// Requests and limits of the Postfix container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
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
    /// Postfix's `message_size_limit`, in bytes. Default: 10240000, as in Postfix.
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

/// A server that mail for others is handed to.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RelayHost {
    /// Host name or IPv4 address. Its MX records are not asked for.
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')").message("write a host name in lower case or an IPv4 address, as in smtp.example.net"))]
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
    /// Kind of Service. Default: `ClusterIP`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Annotations, for the load balancer of a cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Kinds of Service, as Kubernetes names them.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ServiceType {
    /// Reached from inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Reached through a port of every node.
    NodePort,
    /// Reached through a load balancer; the client's address is kept (`externalTrafficPolicy: Local`).
    LoadBalancer,
}

/// What to do with a row that was in the database before its object.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum ExistingRows {
    /// Leave it alone and say so on the object.
    #[default]
    Fail,
    /// Take it over. What the object does not name (a password, other people's targets) is kept.
    Adopt,
}

/// What to do with a managed row that somebody else changed or removed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
pub enum Drift {
    /// Bring it back to what is declared, at the next check.
    #[default]
    Correct,
    /// Leave it and say so in status. A change of its object writes it all the same.
    Report,
}

/// The brake on deletions.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MassDeletion {
    /// Share of the managed rows, in percent, that may be deleted within ten minutes. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_percent: Option<i32>,
    /// As many deletions as this are always allowed. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub minimum: Option<i32>,
}

/// What the operator observed of a `MailServer`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MailServerStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `DatabaseReady`, `TablesSynced`, `PostfixReady` and `ConfigValid`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// Host and port that receive SMTP inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Managed domains in the tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<i64>,
    /// Managed mailboxes in the tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailboxes: Option<i64>,
    /// Managed aliases in the tables, the identity rows of mailboxes not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aliases: Option<i64>,
    /// Managed rows that somebody else changed or removed, where `drift` is `Report`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drifted: Option<i64>,
    /// How mailboxes are stored now; another `format` or `layout` waits to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail_store: Option<StoredAs>,
    /// Hash of the configuration that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_hash: Option<String>,
    /// What each ready Postfix pod runs with, by name; a pod that the operator can't ask is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub replicas: Vec<ReplicaStatus>,
}

/// How mailboxes are stored.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct StoredAs {
    /// One file a message, or one file.
    pub format: MailboxFormat,
    /// Where below the mail store.
    pub layout: MailboxLayout,
}

/// What a Postfix pod runs with.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Name of the pod.
    pub name: String,
    /// Hash of the configuration that it runs with; it is the server's `configHash` once a change is taken.
    pub config_hash: String,
    /// Messages in the queue of a pod that is to go: it goes when there are none. Only such a pod has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<i64>,
}

/// User and group that own the mail where a `MailServer` names none: the seed's.
pub const DEFAULT_OWNER: i32 = 901;

/// `virtual_minimum_uid` where a `MailServer` names none.
pub const DEFAULT_MINIMUM_UID: i32 = 900;

const SIZE_RULE: &str = "!has(self.size) || isQuantity(string(self.size))";
const SIZE_MESSAGE: &str = "write the size of a volume as a Kubernetes quantity, as in 10Gi";

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
    "transport_maps",
    "vmail_maps",
];

fn owned_parameters_rule() -> String {
    let names = OWNED_PARAMETERS.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    format!("self.all(name, !name.startsWith('virtual_') && !(name in [{names}]))")
}
