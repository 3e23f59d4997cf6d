//! What is kept of a `MailServer`.

use std::hash::{DefaultHasher, Hash, Hasher};

use kube::ResourceExt;

use crate::api::mail_server::{
    DEFAULT_MINIMUM_UID, DEFAULT_OWNER, Drift, ExistingRows, ExternalDatabase, MailboxFormat, MailboxLayout,
    MassDeletion,
};
use crate::api::{MailServer, PasswordScheme, RecipientDelimiter};
use crate::index::namespaces::Allowed;
use crate::index::stored_as::stored_as;

/// What the set loop needs of a `MailServer`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerRow {
    /// How mailboxes are stored.
    pub format: MailboxFormat,
    /// Where mailboxes are stored.
    pub layout: MailboxLayout,
    /// User and group that own the mail of whom no other is named for.
    pub owner: (i32, i32),
    /// Least user that mail is delivered as (`virtual_minimum_uid`).
    pub minimum_uid: i32,
    /// What to do with rows that were there before their object.
    pub existing_rows: ExistingRows,
    /// What to do with a managed row that somebody else changed.
    pub drift: Drift,
    /// How plain text passwords are stored.
    pub password_scheme: PasswordScheme,
    /// Share of the managed rows, in percent, that may be deleted within ten minutes.
    pub max_percent: u32,
    /// As many deletions as this are always allowed.
    pub minimum: u32,
    /// Whether accounts are looked up in files, without a database.
    pub files: bool,
    /// Where the extension of an address begins.
    pub recipient_delimiter: RecipientDelimiter,
    /// The database server that it names; `None`: one of its own. It counts only where `files` doesn't.
    pub external: Option<Box<ExternalDatabase>>,
    /// Hash of the part of the spec that says where the tables are: when it changes, the set loop begins anew.
    pub database: u64,
    /// Hash of the place of the tables in an external database, which other servers may name too; `None`: they are its own.
    pub shared_tables: Option<u64>,
    /// Hash of the held plan that an administrator released, from the annotation.
    pub released: Option<Box<str>>,
    /// Hash of the plan that was released and carried out last, from the status.
    pub last_release: Option<Box<str>>,
    /// The namespaces whose `MailDomain`s may name it.
    pub allowed: Allowed,
}

/// Annotation on a `MailServer` that releases the held deletions whose hash it names.
pub const RELEASE_ANNOTATION: &str = "vmail.dev/release-deletions";

impl From<&MailServer> for ServerRow {
    fn from(server: &MailServer) -> Self {
        let store = server.spec.mail_store.as_ref();
        let MassDeletion { max_percent, minimum } = server.spec.mass_deletion.unwrap_or_default();
        let stored_as = stored_as(server);
        let files = server.spec.lookup_tables.unwrap_or_default().are_files();
        let external = server.spec.database.as_ref().and_then(|database| database.external.as_ref());
        Self {
            format: stored_as.format,
            layout: stored_as.layout,
            owner: (
                store.and_then(|store| store.uid).unwrap_or(DEFAULT_OWNER),
                store.and_then(|store| store.gid).unwrap_or(DEFAULT_OWNER),
            ),
            minimum_uid: store.and_then(|store| store.minimum_uid).unwrap_or(DEFAULT_MINIMUM_UID),
            existing_rows: server.spec.existing_rows.unwrap_or_default(),
            drift: server.spec.drift.unwrap_or_default(),
            password_scheme: server.spec.password_scheme.unwrap_or_default(),
            max_percent: max_percent.and_then(|percent| u32::try_from(percent).ok()).unwrap_or(30),
            minimum: minimum.and_then(|rows| u32::try_from(rows).ok()).unwrap_or(10),
            files,
            external: external.cloned().map(Box::new),
            recipient_delimiter: (&server.spec).into(),
            database: hash_of(&(files, serde_json::to_string(&server.spec.database).unwrap_or_default())),
            shared_tables: external
                .filter(|_| !files)
                .map(|at| hash_of(&(&at.host, at.port, &at.name, &at.table_prefix))),
            released: server.annotations().get(RELEASE_ANNOTATION).map(|hash| hash.trim().into()),
            last_release: server
                .status
                .as_ref()
                .and_then(|status| status.last_release.as_deref())
                .map(Into::into),
            allowed: server.spec.allowed_namespaces.as_ref().into(),
        }
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A server with every default.
    pub(crate) fn server_row() -> ServerRow {
        let server = MailServer::new(
            "myhost",
            serde_json::from_value(serde_json::json!({"hostname": "myhost.example.org"})).unwrap(),
        );
        ServerRow::from(&server)
    }
}
