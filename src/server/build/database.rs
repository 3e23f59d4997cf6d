//! The embedded `MariaDB`'s `StatefulSet`. Its commands are named here, so that any image with `MariaDB`'s programs will do.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, ExecAction, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::names::{self, Component};
use super::pod::{
    memory_volume, mount, mount_directory, mount_read_only, pod_spec, seccomp, security_context, strings,
};
use super::secrets::{INIT_KEY, PROBE_KEY};
use super::volumes;
use super::{owned, text_map};
use crate::server::database::DEFAULT_PORT;
use crate::server::validate::{DatabaseWorkload, ValidatedServer};

/// User and group of the server. The user `mysql` of docker.io's image; no image needs to know it.
const OWNER: i64 = 999;

/// Directory of the volume's directory; the data directory is one below it, so that it can be renamed into place.
const BASE: &str = "/var/lib/mysql";

/// With `lookupTables: mysql` each of Postfix's processes has its own connections: 90 clients at once make it about 220 in each
/// pod, and with more than are allowed mail is deferred. It is enough for as many replicas as there may be, and doesn't depend on
/// how many there are: another number would restart the database. What is not used costs nothing.
const MOST_CONNECTIONS: u32 = 4500;

const DATA: &str = "/var/lib/mysql/data";

const SOCKET: &str = "/run/mysqld/mysqld.sock";

/// Where the statements for each start and the probe's option file are mounted.
const INIT: &str = "/etc/vmail/init";

/// Makes the directory that the server's user owns.
const PREPARE: &str = "install -d -o 999 -g 999 -m 0700 /volumes/data/database";

/// A start that was interrupted leaves no half-made data directory.
const INSTALL: &str = "set -eu
if [ -d /var/lib/mysql/data ]; then exit 0; fi
rm -rf /var/lib/mysql/data.new
mariadb-install-db --no-defaults --user= --datadir=/var/lib/mysql/data.new --skip-test-db \\
  --skip-name-resolve --auth-root-authentication-method=normal >/tmp/install.log || { cat /tmp/install.log; exit 1; }
sync
mv /var/lib/mysql/data.new /var/lib/mysql/data
";

/// Annotation of the pod: hash of the init Secret. A changed account takes effect at a start, so a change is one.
const INIT_HASH_ANNOTATION: &str = "vmail.dev/init-hash";

pub(super) fn stateful_set(
    server: &ValidatedServer,
    workload: &DatabaseWorkload,
    init_hash: String,
) -> StatefulSet {
    let labels = Component::MariaDb.labels(&server.name.name);
    StatefulSet {
        metadata: owned(server, names::database(&server.name.name), Component::MariaDb),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(names::database(&server.name.name)),
            // A pod that never becomes ready would else stand in the way of the one that mends it.
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(text_map([(INIT_HASH_ANNOTATION, init_hash)])),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(server, workload)),
            },
            volume_claim_templates: Some(vec![volumes::template("data", &workload.volume)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn pod(server: &ValidatedServer, workload: &DatabaseWorkload) -> PodSpec {
    let init = SecretVolumeSource {
        secret_name: Some(names::init_secret(&server.name.name)),
        default_mode: Some(0o440),
        ..SecretVolumeSource::default()
    };
    PodSpec {
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(OWNER),
            run_as_group: Some(OWNER),
            fs_group: Some(OWNER),
            seccomp_profile: Some(seccomp()),
            ..PodSecurityContext::default()
        }),
        init_containers: Some(vec![prepare(workload), install(workload)]),
        containers: vec![mariadb(workload)],
        volumes: Some(vec![
            memory_volume("run"),
            Volume { name: "init".to_owned(), secret: Some(init), ..Volume::default() },
        ]),
        ..pod_spec(&server.pods)
    }
}

fn prepare(workload: &DatabaseWorkload) -> Container {
    Container {
        name: "prepare".to_owned(),
        image: Some(workload.image.clone()),
        resources: workload.resources.clone(),
        command: Some(strings(["sh", "-c", PREPARE])),
        security_context: Some(SecurityContext {
            run_as_non_root: Some(false),
            run_as_user: Some(0),
            run_as_group: Some(0),
            ..security_context(&["CHOWN", "DAC_OVERRIDE", "FOWNER"])
        }),
        volume_mounts: Some(vec![mount("data", "/volumes/data")]),
        ..Container::default()
    }
}

fn install(workload: &DatabaseWorkload) -> Container {
    Container {
        name: "install".to_owned(),
        image: Some(workload.image.clone()),
        resources: workload.resources.clone(),
        command: Some(strings(["sh", "-c", INSTALL])),
        security_context: Some(security_context(&[])),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![data_mount(), mount("run", "/tmp")]),
        ..Container::default()
    }
}

fn mariadb(workload: &DatabaseWorkload) -> Container {
    Container {
        name: "mariadb".to_owned(),
        image: Some(workload.image.clone()),
        resources: workload.resources.clone(),
        command: Some(strings(["mariadbd"])),
        args: Some(vec![
            "--no-defaults".to_owned(),
            format!("--datadir={DATA}"),
            format!("--socket={SOCKET}"),
            "--bind-address=*".to_owned(),
            format!("--port={DEFAULT_PORT}"),
            format!("--init-file={INIT}/{INIT_KEY}"),
            "--skip-name-resolve".to_owned(),
            format!("--max-connections={MOST_CONNECTIONS}"),
            "--character-set-server=utf8mb4".to_owned(),
            "--collation-server=utf8mb4_bin".to_owned(),
        ]),
        ports: Some(vec![ContainerPort {
            name: Some("mysql".to_owned()),
            container_port: i32::from(DEFAULT_PORT),
            ..ContainerPort::default()
        }]),
        security_context: Some(security_context(&[])),
        // Recovery after a crash takes as long as it takes: 20 minutes before it is begun anew.
        startup_probe: Some(Probe { period_seconds: Some(1), failure_threshold: Some(1200), ..ping() }),
        readiness_probe: Some(Probe { period_seconds: Some(5), ..ping() }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            data_mount(),
            mount("run", "/run/mysqld"),
            mount("run", "/tmp"),
            mount_read_only("init", INIT),
        ]),
        ..Container::default()
    }
}

fn data_mount() -> VolumeMount {
    mount_directory("data", BASE, "database")
}

/// Logs in over the socket: without an account each probe would leave a warning in the log.
fn ping() -> Probe {
    let defaults = format!("--defaults-file={INIT}/{PROBE_KEY}");
    let socket = format!("--socket={SOCKET}");
    let command = Some(strings(["mariadb-admin", &defaults, &socket, "ping"]));
    Probe { exec: Some(ExecAction { command }), timeout_seconds: Some(3), ..Probe::default() }
}
