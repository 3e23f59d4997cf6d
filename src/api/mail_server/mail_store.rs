//! Where and as whom the mail of a `MailServer` is stored.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SIZE_MESSAGE, SIZE_RULE};

/// User and group that own the mail where a `MailServer` names none: the seed's.
pub const DEFAULT_OWNER: i32 = 901;

/// `virtual_minimum_uid` where a `MailServer` names none.
pub const DEFAULT_MINIMUM_UID: i32 = 900;

/// What `path` may be, for people.
pub const PATH_MESSAGE: &str = "write an absolute path below /var, /srv, /home or the like, as in /var/vmail: letters, digits and . _ -, no system directory, none of Postfix's own, no ..";

/// Directories that the image, the node or the pod has for something else, links to them too; nothing below them is mail's.
const SYSTEM: [&str; 18] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
    "/var/lib/postfix",
    "/var/lock",
    "/var/run",
    "/var/tmp",
    "/volumes",
];

/// Directories that hold others of the image, and may hold the mail store.
const SHARED: [&str; 4] = ["/var", "/var/lib", "/var/spool", QUEUE];

/// Where Postfix's queue is mounted.
const QUEUE: &str = "/var/spool/postfix";

/// What Postfix keeps there (`postfix-files`, and Debian's directories for a chroot).
const QUEUES: [&str; 18] = [
    "active", "bounce", "corrupt", "defer", "deferred", "dev", "etc", "flush", "hold", "incoming", "lib",
    "maildrop", "pid", "private", "public", "saved", "trace", "usr",
];

/// [`is_mail_store_path`] as a CEL rule.
fn path_rule() -> String {
    let (system, shared, queues) = (SYSTEM.join("|"), SHARED.join("|"), QUEUES.join("|"));
    format!(
        "self.matches('^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$') && !self.matches('^({system})(/|$)') && !self.matches('^({shared})$') && !self.matches('^{QUEUE}/({queues})(/|$)')"
    )
}

/// Whether mail may be stored below this path: what is mounted there hides nothing that Postfix or the agent need.
#[must_use]
pub fn is_mail_store_path(path: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    let is_segment =
        |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(allowed);
    let is_below = |directory: &str| {
        path.strip_prefix(directory).is_some_and(|below| below.is_empty() || below.starts_with('/'))
    };
    let queue = path.strip_prefix(QUEUE).and_then(|below| below.strip_prefix('/')?.split('/').next());
    path.strip_prefix('/').is_some_and(|below| below.split('/').all(is_segment))
        && !SYSTEM.into_iter().any(is_below)
        && !SHARED.contains(&path)
        && !queue.is_some_and(|directory| QUEUES.contains(&directory))
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
    #[x_kube(validation = Rule::new(path_rule()).message(PATH_MESSAGE))]
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
    /// How a mailbox is stored. Default: `Maildir`. Once there was a mailbox, a change waits for the annotation `vmail.dev/confirm-mail-store`: mail that is there would be out of sight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<MailboxFormat>,
    /// Where below `path` a mailbox is stored. Default: `LocalPart`. Once there was a mailbox, a change waits for the annotation `vmail.dev/confirm-mail-store`: mail that is there would be out of sight.
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
#[schemars(transform = crate::api::without_description)]
pub enum MailboxFormat {
    /// A directory with one file a message.
    #[default]
    Maildir,
    /// One file.
    Mbox,
}

/// Where below the mail store a mailbox is stored.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = crate::api::without_description)]
pub enum MailboxLayout {
    /// `alpha.example.org/alfred/`
    #[default]
    LocalPart,
    /// `alpha.example.org/alfred@alpha.example.org/`
    Address,
}

/// How mailboxes are stored.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct StoredAs {
    /// One file a message, or one file.
    pub format: MailboxFormat,
    /// Where below the mail store.
    pub layout: MailboxLayout,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mail_store_hides_no_directory_that_something_else_needs() {
        for path in [
            "/var/vmail",
            "/var/spool/postfix/vmail",
            "/var/spool/postfix/activemail",
            "/var/lib/vmail",
            "/var/mail",
            "/var/runner",
            "/srv/mail",
            "/home/vmail",
            "/tmpmail",
            "/data",
        ] {
            assert!(is_mail_store_path(path), "{path}");
        }
        for path in [
            "",
            "/",
            "var/vmail",
            "/var/",
            "/var//vmail",
            "/var/../etc",
            "/srv/.mail",
            "/srv/a b",
            "/srv/a\n",
            "/etc",
            "/etc/mail",
            "/lib64/x",
            "/tmp",
            "/tmp/mail",
            "/volumes",
            "/volumes/mail",
            "/var",
            "/var/lib",
            "/var/lib/postfix",
            "/var/lib/postfix/data",
            "/var/spool",
            "/var/spool/postfix",
            "/var/run",
            "/var/run/mail",
            "/var/lock/mail",
            "/var/tmp/mail",
            "/var/spool/postfix/active",
            "/var/spool/postfix/pid/mail",
            "/var/spool/postfix/usr",
        ] {
            assert!(!is_mail_store_path(path), "{path:?}");
        }
    }
}
