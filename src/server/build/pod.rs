//! What the pods of both workloads have in common: their security, and short forms of long types.

use k8s_openapi::api::core::v1::{
    Capabilities, EmptyDirVolumeSource, LocalObjectReference, PodSpec, SeccompProfile, SecurityContext,
    Volume, VolumeMount,
};

use crate::api::mail_server::{Pods, SecretReference};

/// Pods run without access to the API server and without the environment variables of every Service.
pub(super) fn pod_spec(pods: &Pods) -> PodSpec {
    let pull_secret = |secret: &SecretReference| LocalObjectReference { name: secret.name.clone() };
    let pull_secrets = pods.image_pull_secrets.as_deref();
    PodSpec {
        image_pull_secrets: pull_secrets.map(|secrets| secrets.iter().map(pull_secret).collect()),
        node_selector: pods.node_selector.clone(),
        tolerations: pods.tolerations.clone(),
        priority_class_name: pods.priority_class_name.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(30),
        ..PodSpec::default()
    }
}

/// A container that can change nothing but its volumes and has no capability but `capabilities`.
pub(super) fn security_context(capabilities: &[&str]) -> SecurityContext {
    let added = capabilities.iter().map(ToString::to_string).collect::<Vec<_>>();
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: (!added.is_empty()).then_some(added),
        }),
        ..SecurityContext::default()
    }
}

pub(super) fn seccomp() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), ..SeccompProfile::default() }
}

pub(super) fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), ..VolumeMount::default() }
}

pub(super) fn mount_read_only(name: &str, path: &str) -> VolumeMount {
    VolumeMount { read_only: Some(true), ..mount(name, path) }
}

/// Mounts a directory in the volume: the volume's own root is the provisioner's, with an owner that nobody chose.
pub(super) fn mount_directory(name: &str, path: &str, directory: &str) -> VolumeMount {
    VolumeMount { sub_path: Some(directory.to_owned()), ..mount(name, path) }
}

/// A directory that ends with the pod and is never on a disk.
pub(super) fn memory_volume(name: &str) -> Volume {
    let source =
        EmptyDirVolumeSource { medium: Some("Memory".to_owned()), ..EmptyDirVolumeSource::default() };
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

pub(super) fn scratch_volume(name: &str) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

pub(super) fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).into()
}
