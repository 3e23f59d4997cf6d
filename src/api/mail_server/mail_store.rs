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
    #[x_kube(validation = Rule::new("self.matches('^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$') && !self.matches('^/(bin|boot|dev|etc|lib|lib64|proc|root|run|sbin|sys|usr)(/|$)') && !self.matches('^/var(/lib(/postfix(/.*)?)?|/spool(/postfix)?)?$')")
        .message("write an absolute path below /var, /srv, /home or the like, as in /var/vmail: no system directory, no .."))]
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
