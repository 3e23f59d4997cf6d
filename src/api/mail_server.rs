//! `MailServer`: one mail system, its Postfix, its database and its mail store.

mod database;
mod mail_store;
mod pods;
mod postfix;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use database::{Database, DatabaseTls, EmbeddedDatabase, ExternalDatabase};
pub use mail_store::{
    AccessMode, DEFAULT_MINIMUM_UID, DEFAULT_OWNER, MailStore, MailboxFormat, MailboxLayout, PATH_MESSAGE,
    StoredAs, is_mail_store_path,
};
pub use pods::{Pods, Resources};
pub use postfix::{
    DEFAULT_MESSAGE_SIZE_LIMIT, DEFAULT_RECIPIENT_DELIMITER, OWNED_PARAMETERS, Postfix, PostfixQueue,
    PostfixService, PostfixTls, RelayHost, ServiceType,
};

use super::address::DomainName;
use super::namespaces::AllowedNamespaces;
use super::password_scheme::PasswordScheme;

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
    /// Where the pods of Postfix and of the embedded database run, and how their images are pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Pods>,
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
#[schemars(transform = crate::api::without_description)]
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

/// A Secret in the namespace of the `MailServer`.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct SecretReference {
    /// Name of the Secret, in the namespace of the `MailServer`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What to do with a row that was in the database before its object.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = crate::api::without_description)]
pub enum ExistingRows {
    /// Leave it alone and say so on the object.
    #[default]
    Fail,
    /// Take it over. What the object does not name (a password, other people's targets) is kept.
    Adopt,
}

/// What to do with a managed row that somebody else changed or removed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = crate::api::without_description)]
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
    /// Hash of the held deletions that were released last and carried out: the annotation `vmail.dev/release-deletions`
    /// releases them once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_release: Option<String>,
    /// How mailboxes are stored, since there was the first; another `format` or `layout` waits to be confirmed.
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

const SIZE_RULE: &str = "!has(self.size) || (isQuantity(string(self.size)) && quantity(string(self.size)).isGreaterThan(quantity('0')))";
const SIZE_MESSAGE: &str = "write the size of a volume as a Kubernetes quantity above 0, as in 10Gi";
