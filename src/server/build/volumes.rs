//! Claims. Their sizes count when they are made and never again: a claim can't shrink, and growing is its class's affair.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::metadata;
use super::names::{self, Component};
use crate::server::validate::{MailVolume, ValidatedServer, VolumeRequest};

/// The mail store's claim, unless somebody else made one.
pub(super) fn mail_claim(server: &ValidatedServer) -> Option<PersistentVolumeClaim> {
    let MailVolume::New(request) = &server.mail_store.volume else { return None };
    Some(PersistentVolumeClaim {
        metadata: metadata(server, names::mail_claim(&server.name.name), Component::Postfix),
        spec: Some(spec(request)),
        ..PersistentVolumeClaim::default()
    })
}

/// Claim template of a `StatefulSet`.
pub(super) fn template(name: &str, request: &VolumeRequest) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: Some(spec(request)),
        ..PersistentVolumeClaim::default()
    }
}

fn spec(request: &VolumeRequest) -> PersistentVolumeClaimSpec {
    PersistentVolumeClaimSpec {
        access_modes: Some(request.access_modes.clone()),
        resources: Some(VolumeResourceRequirements {
            requests: Some(BTreeMap::from([("storage".to_owned(), request.size.clone())])),
            ..VolumeResourceRequirements::default()
        }),
        storage_class_name: request.storage_class_name.clone(),
        ..PersistentVolumeClaimSpec::default()
    }
}
