//! A validated server and its rendered configuration -> the Kubernetes objects that make it. Pure.
//!
//! Nothing here asks the API server anything; what an object looks like depends on the arguments alone.

mod config_map;
mod database;
mod disruption;
pub mod names;
mod pod;
mod postfix;
mod secrets;
mod services;
#[cfg(test)]
mod tests;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use sha2::{Digest, Sha256};

use super::accounts::Accounts;
use super::validate::ValidatedServer;
use crate::agent::contract;
use crate::postfix::RenderedConfig;
use names::Component;

pub use config_map::{TABLES_ANNOTATION, tables};
pub use secrets::{PASSWORD_KEY, USERNAME_KEY, account_secret};
pub use services::SMTP_PORT;

/// Port on which the agent answers probes and tells its status.
pub const AGENT_PORT: i32 = contract::PORT as i32;

/// Annotation of a Postfix pod: hash of the configuration that it was last asked to look at.
pub const CONFIG_HASH_ANNOTATION: &str = "vmail.dev/config-hash";

/// Annotation of a Postfix pod that is to empty its queue before it goes.
pub const DRAIN_ANNOTATION: &str = "vmail.dev/drain";

/// Annotation, of a person, of a Postfix pod that may go with whatever is in its queue.
pub const FORCE_ANNOTATION: &str = "vmail.dev/force-scale-down";

/// Everything that a server owns, but the account Secrets, which are made once.
#[derive(Clone, Debug)]
pub struct Objects {
    /// main.cf, master.cf and the look-up queries.
    pub config_map: ConfigMap,
    /// Receives SMTP.
    pub postfix_service: Service,
    /// Names the Postfix pods.
    pub postfix_pods_service: Service,
    /// The mail store's claim, where the operator makes it. Not owned: it outlives the `MailServer`.
    pub mail_claim: Option<PersistentVolumeClaim>,
    /// Postfix with its queue.
    pub postfix: StatefulSet,
    /// How many of its pods may be taken away at once.
    pub postfix_budget: PodDisruptionBudget,
    /// The embedded database.
    pub database: Option<DatabaseObjects>,
}

/// The embedded database.
#[derive(Clone, Debug)]
pub struct DatabaseObjects {
    /// What it executes at each start.
    pub init_secret: Secret,
    /// Reaches it.
    pub service: Service,
    /// `MariaDB` with its volume.
    pub stateful_set: StatefulSet,
}

/// Builds everything. `accounts` are those of the embedded database; `None`: no embedded database.
#[must_use]
pub fn build(server: &ValidatedServer, config: &RenderedConfig, accounts: Option<&Accounts>) -> Objects {
    let embedded = server.database.as_ref().zip(accounts);
    Objects {
        config_map: config_map::config_map(server, config),
        postfix_service: services::smtp(server),
        postfix_pods_service: services::postfix_pods(server),
        mail_claim: volumes::mail_claim(server),
        postfix: postfix::stateful_set(server),
        postfix_budget: disruption::budget(server),
        database: embedded.map(|(workload, accounts)| DatabaseObjects {
            init_secret: secrets::init_secret(server, accounts),
            service: services::database(server),
            stateful_set: database::stateful_set(server, workload, secrets::init_hash(accounts)),
        }),
    }
}

/// Metadata of an object that is removed with its `MailServer`.
fn owned(server: &ValidatedServer, name: String, component: Component) -> ObjectMeta {
    ObjectMeta { owner_references: Some(vec![server.owner.clone()]), ..metadata(server, name, component) }
}

/// Metadata of an object that stays.
fn metadata(server: &ValidatedServer, name: String, component: Component) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(server.name.namespace.to_string()),
        labels: Some(component.labels(&server.name.name)),
        ..ObjectMeta::default()
    }
}

/// Tells one content from another: the first 16 hexadecimal digits of its SHA-256.
pub(super) fn short_hash(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    let first = digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    format!("{first:016x}")
}

fn text_map<const N: usize>(entries: [(&str, String); N]) -> BTreeMap<String, String> {
    entries.map(|(name, value)| (name.to_owned(), value)).into()
}
