//! The Postfix `StatefulSet`: the agent prepares the volumes, then runs Postfix as its child.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, Container, ContainerPort, DownwardAPIVolumeFile,
    DownwardAPIVolumeSource, HTTPGetAction, KeyToPath, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ProjectedVolumeSource, SecretProjection, SecretVolumeSource, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::disruption;
use super::names::{self, Component};
use super::pod::{
    memory_volume, mount, mount_directory, mount_read_only, pod_spec, scratch_volume, seccomp,
    security_context, strings,
};
use super::{AGENT_PORT, DRAIN_ANNOTATION, PASSWORD_KEY, SMTP_PORT, USERNAME_KEY, owned, volumes};
use crate::agent::contract;
use crate::postfix::QUEUE_DIRECTORY;
use crate::postfix::queries::AUTHORITY_FILE;
use crate::postfix::shards::SLOTS;
use crate::server::database::Endpoint;
use crate::server::validate::{MailStore, ValidatedServer};

/// What making and owning the base directories takes.
const PREPARE_CAPABILITIES: &[&str] = &["CHOWN", "DAC_OVERRIDE", "FOWNER"];

/// What Postfix takes: a queue of several owners, processes of several users, a port below 1024.
const RUN_CAPABILITIES: &[&str] =
    &["CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "SETGID", "SETUID"];

pub(super) fn stateful_set(server: &ValidatedServer) -> StatefulSet {
    let labels = Component::Postfix.labels(&server.name.name);
    StatefulSet {
        metadata: owned(server, names::postfix(&server.name.name), Component::Postfix),
        spec: Some(StatefulSetSpec {
            replicas: Some(server.postfix.replicas),
            service_name: Some(names::postfix_pods(&server.name.name)),
            // A pod that never becomes ready would else stand in the way of the one that mends it.
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod(server)),
            },
            volume_claim_templates: Some(vec![volumes::template(names::QUEUE_VOLUME, &server.postfix.queue)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn pod(server: &ValidatedServer) -> PodSpec {
    let spec = PodSpec {
        security_context: Some(PodSecurityContext {
            seccomp_profile: Some(seccomp()),
            ..PodSecurityContext::default()
        }),
        init_containers: Some(vec![prepare(server)]),
        containers: vec![run(server)],
        volumes: Some(volumes_of(server)),
        ..pod_spec(&server.pods)
    };
    disruption::place(server, spec)
}

fn prepare(server: &ValidatedServer) -> Container {
    Container {
        name: "prepare".to_owned(),
        image: Some(server.postfix.image.clone()),
        command: Some(strings(["/usr/local/bin/vmail-operator", "agent", "prepare"])),
        args: Some(owner(server)),
        resources: server.postfix.resources.clone(),
        security_context: Some(security_context(PREPARE_CAPABILITIES)),
        volume_mounts: Some(vec![
            mount("queue", contract::QUEUE_VOLUME),
            mount("mail", contract::MAIL_VOLUME),
        ]),
        ..Container::default()
    }
}

fn run(server: &ValidatedServer) -> Container {
    Container {
        name: "postfix".to_owned(),
        image: Some(server.postfix.image.clone()),
        command: Some(strings(["/usr/local/bin/vmail-operator", "agent", "run"])),
        args: Some(owner(server)),
        ports: Some(vec![port("smtp", SMTP_PORT), port("agent", AGENT_PORT)]),
        resources: server.postfix.resources.clone(),
        security_context: Some(security_context(RUN_CAPABILITIES)),
        readiness_probe: Some(Probe {
            period_seconds: Some(2),
            timeout_seconds: Some(3),
            ..probe("/readyz")
        }),
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            timeout_seconds: Some(3),
            ..probe("/healthz")
        }),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(mounts(server)),
        ..Container::default()
    }
}

/// Tells the agent whose mail it is that no domain and no mailbox names an owner for.
fn owner(server: &ValidatedServer) -> Vec<String> {
    let MailStore { uid, gid, .. } = &server.mail_store;
    vec![format!("--uid={uid}"), format!("--gid={gid}")]
}

fn port(name: &str, port: i32) -> ContainerPort {
    ContainerPort { name: Some(name.to_owned()), container_port: port, ..ContainerPort::default() }
}

fn probe(path: &str) -> Probe {
    let get = HTTPGetAction {
        path: Some(path.to_owned()),
        port: IntOrString::String("agent".to_owned()),
        ..HTTPGetAction::default()
    };
    Probe { http_get: Some(get), ..Probe::default() }
}

fn mounts(server: &ValidatedServer) -> Vec<VolumeMount> {
    let optional = optional_secrets(server);
    let mut mounts = vec![
        mount_read_only("config", contract::CONFIG),
        mount_read_only("pod", contract::POD),
        mount("run", contract::RUN),
        mount("data", contract::DATA),
        mount_directory("queue", QUEUE_DIRECTORY, contract::QUEUE_DIRECTORY),
        mount_directory("mail", &server.mail_store.path, contract::MAIL_DIRECTORY),
        match server.endpoint {
            Some(_) => mount_read_only("credentials", contract::CREDENTIALS),
            None => mount_read_only("maps", contract::MAPS),
        },
    ];
    mounts.extend(optional.map(|(name, place, _)| mount_read_only(name, place)));
    mounts
}

/// Secrets that Postfix can begin without: name of the volume, where it is mounted, and the Secret.
fn optional_secrets(server: &ValidatedServer) -> impl Iterator<Item = (&'static str, &'static str, &String)> {
    [
        ("tls", contract::TLS, &server.postfix.tls_secret),
        ("relay", contract::RELAY, &server.postfix.relay_secret),
    ]
    .into_iter()
    .filter_map(|(name, place, secret)| secret.as_ref().map(|secret| (name, place, secret)))
}

fn optional_secret((name, _, secret): (&'static str, &'static str, &String)) -> Volume {
    let source = SecretVolumeSource {
        secret_name: Some(secret.clone()),
        optional: Some(true),
        default_mode: Some(0o400),
        ..SecretVolumeSource::default()
    };
    Volume { name: name.to_owned(), secret: Some(source), ..Volume::default() }
}

fn volumes_of(server: &ValidatedServer) -> Vec<Volume> {
    let config =
        ConfigMapVolumeSource { name: names::postfix(&server.name.name), ..ConfigMapVolumeSource::default() };
    let mail = PersistentVolumeClaimVolumeSource {
        claim_name: server.mail_store.volume.claim(&server.name.name),
        ..PersistentVolumeClaimVolumeSource::default()
    };
    let mut volumes = vec![
        Volume { name: "config".to_owned(), config_map: Some(config), ..Volume::default() },
        server.endpoint.as_ref().map_or_else(|| look_up_files(server), credentials),
        pod_annotations(),
        memory_volume("run"),
        scratch_volume("data"),
        Volume { name: "mail".to_owned(), persistent_volume_claim: Some(mail), ..Volume::default() },
    ];
    volumes.extend(optional_secrets(server).map(optional_secret));
    volumes
}

/// The reader's account and, with TLS, the certificate authority, from wherever they are into one directory.
fn credentials(endpoint: &Endpoint) -> Volume {
    let account =
        projection(&endpoint.reader_secret, &[(USERNAME_KEY, USERNAME_KEY), (PASSWORD_KEY, PASSWORD_KEY)]);
    let authority = endpoint.tls.as_ref().map(|ca| projection(&ca.name, &[(&ca.key, AUTHORITY_FILE)]));
    let source = ProjectedVolumeSource {
        sources: Some([account].into_iter().chain(authority).collect()),
        default_mode: Some(0o400),
    };
    Volume { name: "credentials".to_owned(), projected: Some(source), ..Volume::default() }
}

/// What the operator asks of this one pod, without a way into it.
fn pod_annotations() -> Volume {
    let file = DownwardAPIVolumeFile {
        path: contract::DRAIN_FILE.to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{DRAIN_ANNOTATION}']"),
            ..ObjectFieldSelector::default()
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let source = DownwardAPIVolumeSource { items: Some(vec![file]), ..DownwardAPIVolumeSource::default() };
    Volume { name: "pod".to_owned(), downward_api: Some(source), ..Volume::default() }
}

/// The look-up files from all `ConfigMap`s that may hold them, in one directory: what is in it is exchanged as a whole.
fn look_up_files(server: &ValidatedServer) -> Volume {
    let name = &server.name.name;
    let slots = (0..SLOTS).map(|slot| names::maps_slot(name, slot));
    let projection = |name| VolumeProjection {
        config_map: Some(ConfigMapProjection { name, optional: Some(true), items: None }),
        ..VolumeProjection::default()
    };
    let source = ProjectedVolumeSource {
        sources: Some([names::maps(name)].into_iter().chain(slots).map(projection).collect()),
        default_mode: Some(0o444),
    };
    Volume { name: "maps".to_owned(), projected: Some(source), ..Volume::default() }
}

fn projection(secret: &str, files: &[(&str, &str)]) -> VolumeProjection {
    let item = |(key, path): &(&str, &str)| KeyToPath {
        key: (*key).to_owned(),
        path: (*path).to_owned(),
        mode: None,
    };
    let secret = SecretProjection {
        name: secret.to_owned(),
        items: Some(files.iter().map(item).collect()),
        ..SecretProjection::default()
    };
    VolumeProjection { secret: Some(secret), ..VolumeProjection::default() }
}
