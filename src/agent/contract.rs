//! What the agent and the operator have agreed on.

use serde::{Deserialize, Serialize};

/// Port of the agent's pages.
pub const PORT: u16 = 8080;

/// Where the `ConfigMap` with Postfix's configuration is mounted.
pub const CONFIG: &str = "/etc/vmail/config";

/// Where the Secret of the database account is mounted.
pub const CREDENTIALS: &str = "/etc/vmail/credentials";

/// Where the `ConfigMap`s with the look-up files are mounted, if accounts are looked up in files.
pub const MAPS: &str = "/etc/vmail/maps";

/// Where the Secret with the certificate for SMTP clients is mounted, if there is one.
pub const TLS: &str = "/etc/vmail/tls";

/// Where the Secret with the account at the relay host is mounted, if there is one.
pub const RELAY: &str = "/etc/vmail/relay";

/// Where the kubelet writes the pod's annotations.
pub const POD: &str = "/etc/vmail/pod";

/// The file in [`POD`] with the annotation that asks the pod to empty its queue.
pub const DRAIN_FILE: &str = "drain";

/// Memory-backed storage: Postfix's configuration directory is in it, and the agent works beside that.
pub const RUN: &str = "/run/vmail";

/// Scratch storage, for what Postfix and postmap(1) make anew in each pod.
pub const DATA: &str = "/var/lib/postfix";

/// Where the init container has the volume of the mail, whose root has an owner that nobody chose.
pub const MAIL_VOLUME: &str = "/volumes/mail";

/// The directory in it with the mail.
pub const MAIL_DIRECTORY: &str = "mail";

/// Where the init container has the volume of the queue.
pub const QUEUE_VOLUME: &str = "/volumes/queue";

/// The directory in it with the queue.
pub const QUEUE_DIRECTORY: &str = "queue";

/// The agent's exit code when Postfix refuses the configuration.
pub const REFUSED: u8 = 3;

/// What the agent says of itself at `/status`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The operator's hash of the configuration that Postfix runs with.
    pub config_hash: Option<String>,
    /// The last changed configuration, if it was refused, or what is not in force of the one that runs.
    pub refused: Option<Refused>,
    /// Whether the pod takes no more mail and empties its queue.
    #[serde(default)]
    pub draining: bool,
    /// Messages in its queue, told while it empties it.
    #[serde(default)]
    pub queued: Option<u64>,
}

/// A configuration that Postfix does not run with, or not with all of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Its hash; it need not be the one that is wanted now.
    pub config_hash: String,
    /// Why, in Postfix's words where they are its.
    pub error: String,
}
