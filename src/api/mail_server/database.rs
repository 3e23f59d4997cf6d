//! The database of a `MailServer`: one that the operator runs, or one that is there already.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Resources, SIZE_MESSAGE, SIZE_RULE, SecretReference};
use crate::api::SecretKeyReference;

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
    /// Requests and limits of the containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Size of its volume. Default: 1Gi. Fixed once the volume exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Quantity>,
    /// Storage class of its volume. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
}

/// A database server that is there already, with two accounts: one that writes, one that may only read.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
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
    /// Secret with the keys `username` and `password` of the account that writes (the seed's postfixadmin): SELECT, INSERT, UPDATE, DELETE, CREATE, INDEX and REFERENCES. CREATE in any database: the operator adds tables of its own.
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
