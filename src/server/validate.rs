//! A `MailServer` as users write it -> the same with every default applied and every type checked. Pure.
//!
//! What the schema refuses is not refused here a second time, unless the workloads could not be built from it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;

use super::build::names;
use super::database::{Endpoint, endpoint};
use crate::api::MailServer;
use crate::api::mail_server::{self as api, AccessMode, DEFAULT_OWNER, ServiceType};
use crate::index::rows::ServerRow;
use crate::object::ObjectName;
use crate::postfix::DEFAULT_MAIL_STORE;

/// Size of the mail store's volume where a `MailServer` names none.
const DEFAULT_MAIL_SIZE: &str = "10Gi";

/// Size of the embedded database's volume where a `MailServer` names none.
const DEFAULT_DATABASE_SIZE: &str = "1Gi";

/// Size of the queue's volumes where a `MailServer` names none.
const DEFAULT_QUEUE_SIZE: &str = "1Gi";

const READ_WRITE_MANY: &str = "ReadWriteMany";

/// Images for what a `MailServer` names none for.
#[derive(Clone, Debug)]
pub struct Images {
    /// Postfix with this operator's agent.
    pub postfix: String,
    /// `MariaDB`.
    pub mariadb: String,
}

/// Why no workloads can be made from a `MailServer`.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// Services are named after it, and their names have narrower rules than those of a `MailServer`.
    #[error(
        "the name {0} can't be the beginning of a Service's name: make a new MailServer with a name of at most 40 lower-case letters, digits and -, beginning with a letter"
    )]
    Name(String),
    /// Never true of an object that the API server delivered.
    #[error("the object has no uid")]
    Uid,
}

/// A `MailServer` that workloads can be built from.
#[derive(Clone, Debug)]
pub struct ValidatedServer {
    /// Its namespace and name.
    pub name: ObjectName,
    /// What makes the garbage collector remove its objects after it.
    pub owner: OwnerReference,
    /// Its database, as seen from the Postfix pod; `None`: it looks accounts up in files.
    pub endpoint: Option<Endpoint>,
    /// Where its accounts are looked up, as the set loop calls it.
    pub tables: u64,
    /// What its pods have in common.
    pub pods: api::Pods,
    /// The Postfix workload.
    pub postfix: PostfixWorkload,
    /// The mail store.
    pub mail_store: MailStore,
    /// The embedded database's workload; `None`: external, or none at all.
    pub database: Option<DatabaseWorkload>,
}

/// The Postfix workload.
#[derive(Clone, Debug)]
pub struct PostfixWorkload {
    /// Image with Postfix and the agent.
    pub image: String,
    /// Number of its pods.
    pub replicas: i32,
    /// Requests and limits of its containers.
    pub resources: Option<ResourceRequirements>,
    /// The volume of each pod's queue.
    pub queue: VolumeRequest,
    /// Kind of the Service that receives SMTP.
    pub service_type: ServiceType,
    /// Annotations of that Service.
    pub service_annotations: BTreeMap<String, String>,
    /// Secret with the certificate for SMTP clients.
    pub tls_secret: Option<String>,
    /// Secret with the account at the relay host.
    pub relay_secret: Option<String>,
}

/// Where and as whom mail is stored.
#[derive(Clone, Debug)]
pub struct MailStore {
    /// `virtual_mailbox_base`, where the volume is mounted.
    pub path: String,
    /// User that owns the base directory.
    pub uid: i32,
    /// Group that owns the base directory.
    pub gid: i32,
    /// The volume.
    pub volume: MailVolume,
}

/// The mail store's volume.
#[derive(Clone, Debug)]
pub enum MailVolume {
    /// A claim that somebody else made.
    Existing(String),
    /// A claim that the operator makes once and never deletes.
    New(VolumeRequest),
}

/// A volume to ask for.
#[derive(Clone, Debug)]
pub struct VolumeRequest {
    /// Its size.
    pub size: Quantity,
    /// Its storage class; `None`: the cluster's default.
    pub storage_class_name: Option<String>,
    /// Kubernetes' access modes.
    pub access_modes: Vec<String>,
}

/// The embedded database's workload.
#[derive(Clone, Debug)]
pub struct DatabaseWorkload {
    /// Image with `mariadbd`, `mariadb-install-db` and `mariadb-admin`.
    pub image: String,
    /// Requests and limits of its containers.
    pub resources: Option<ResourceRequirements>,
    /// Its volume.
    pub volume: VolumeRequest,
}

/// Applies every default.
///
/// # Errors
/// [`Invalid`], for an object that the schema should not have let through.
pub fn validate(server: &MailServer, images: &Images) -> Result<ValidatedServer, Invalid> {
    let name = ObjectName::of(server);
    if !begins_service_names(&name.name) {
        return Err(Invalid::Name(name.name.to_string()));
    }
    let owner = server.controller_owner_ref(&()).ok_or(Invalid::Uid)?;
    let row = ServerRow::from(server);
    let endpoint = endpoint(&name, &row);
    let embedded = endpoint.as_ref().is_some_and(|endpoint| endpoint.embedded);
    let database = embedded.then(|| {
        let written = server.spec.database.as_ref().and_then(|database| database.embedded.clone());
        database_workload(written.unwrap_or_default(), images)
    });
    Ok(ValidatedServer {
        pods: server.spec.pods.clone().unwrap_or_default(),
        postfix: postfix_workload(server.spec.postfix.clone().unwrap_or_default(), images),
        mail_store: mail_store(server.spec.mail_store.clone().unwrap_or_default()),
        tables: row.database,
        name,
        owner,
        endpoint,
        database,
    })
}

/// RFC 1035 labels of at most 63 characters, with room for what [`names`] appends.
fn begins_service_names(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn postfix_workload(written: api::Postfix, images: &Images) -> PostfixWorkload {
    let service = written.service.unwrap_or_default();
    let queue = written.queue.unwrap_or_default();
    PostfixWorkload {
        image: written.image.unwrap_or_else(|| images.postfix.clone()),
        replicas: written.replicas.unwrap_or(1),
        resources: written.resources.map(Into::into),
        queue: volume_request(queue.size, DEFAULT_QUEUE_SIZE, queue.storage_class_name, None),
        service_type: service.type_.unwrap_or_default(),
        service_annotations: service.annotations.unwrap_or_default(),
        tls_secret: written.tls.map(|tls| tls.secret_name),
        relay_secret: written
            .relay_host
            .and_then(|relay| relay.credentials_secret_ref)
            .map(|secret| secret.name),
    }
}

/// The mail store with every default.
#[must_use]
pub fn mail_store(written: api::MailStore) -> MailStore {
    let volume = match written.existing_claim {
        Some(claim) => MailVolume::Existing(claim),
        None => MailVolume::New(volume_request(
            written.size,
            DEFAULT_MAIL_SIZE,
            written.storage_class_name,
            written.access_modes.as_deref(),
        )),
    };
    MailStore {
        path: written.path.unwrap_or_else(|| DEFAULT_MAIL_STORE.to_owned()),
        uid: written.uid.unwrap_or(DEFAULT_OWNER),
        gid: written.gid.unwrap_or(DEFAULT_OWNER),
        volume,
    }
}

impl MailVolume {
    /// Name of the claim, given the name of the `MailServer`.
    #[must_use]
    pub fn claim(&self, server: &str) -> String {
        match self {
            Self::Existing(claim) => claim.clone(),
            Self::New(_) => names::mail_claim(server),
        }
    }

    /// Whether pods on several nodes can use it at once. Of a claim that somebody else made it is not known.
    #[must_use]
    pub fn many_nodes(&self) -> bool {
        match self {
            Self::Existing(_) => false,
            Self::New(request) => request.access_modes.iter().any(|mode| mode == READ_WRITE_MANY),
        }
    }
}

fn volume_request(
    size: Option<Quantity>,
    default_size: &str,
    storage_class_name: Option<String>,
    modes: Option<&[AccessMode]>,
) -> VolumeRequest {
    let size = size.unwrap_or_else(|| Quantity(default_size.to_owned()));
    VolumeRequest { size, storage_class_name, access_modes: access_modes(modes) }
}

fn access_modes(written: Option<&[AccessMode]>) -> Vec<String> {
    let name = |mode: &AccessMode| match mode {
        AccessMode::ReadWriteOnce => "ReadWriteOnce".to_owned(),
        AccessMode::ReadWriteOncePod => "ReadWriteOncePod".to_owned(),
        AccessMode::ReadWriteMany => READ_WRITE_MANY.to_owned(),
    };
    written.unwrap_or(&[AccessMode::ReadWriteOnce]).iter().map(name).collect()
}

fn database_workload(written: api::EmbeddedDatabase, images: &Images) -> DatabaseWorkload {
    DatabaseWorkload {
        image: written.image.unwrap_or_else(|| images.mariadb.clone()),
        resources: written.resources.map(Into::into),
        volume: volume_request(written.size, DEFAULT_DATABASE_SIZE, written.storage_class_name, None),
    }
}
