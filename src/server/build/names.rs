//! Names and labels of the objects that a `MailServer` owns; `server` is its name everywhere.

use std::collections::BTreeMap;

use crate::api::FIELD_MANAGER;

/// Label with the name of the `MailServer` that an object belongs to.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";

/// Selects every object that the controller of `MailServer`s made: look-up files are the set loop's.
pub const CONTROLLED_SELECTOR: &str =
    "app.kubernetes.io/managed-by=vmail-operator,app.kubernetes.io/name!=look-up-files";

/// Name of the claim template and of the volume with Postfix's queue.
pub const QUEUE_VOLUME: &str = "queue";

/// What of a server an object belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Component {
    /// Postfix, its configuration and its mail.
    Postfix,
    /// The embedded `MariaDB` and its accounts.
    MariaDb,
    /// The look-up tables, where they are files.
    LookUpFiles,
}

impl Component {
    fn as_str(self) -> &'static str {
        match self {
            Self::Postfix => "postfix",
            Self::MariaDb => "mariadb",
            Self::LookUpFiles => "look-up-files",
        }
    }

    /// The labels of its objects and pods, which also select its pods.
    #[must_use]
    pub fn labels(self, server: &str) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", self.as_str()),
            (INSTANCE_LABEL, server),
            ("app.kubernetes.io/managed-by", FIELD_MANAGER),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Selects its pods in a list request.
    #[must_use]
    pub fn selector(self, server: &str) -> String {
        let labels = self.labels(server);
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
    }
}

/// The Postfix `StatefulSet`, its Service and the `ConfigMap` that it runs with.
#[must_use]
pub fn postfix(server: &str) -> String {
    format!("{server}-postfix")
}

/// One of the Postfix pods.
#[must_use]
pub fn postfix_pod(server: &str, number: i32) -> String {
    format!("{}-{number}", postfix(server))
}

/// The claim of the queue of one of the Postfix pods, as the `StatefulSet` names it.
#[must_use]
pub fn queue_claim(pod: &str) -> String {
    format!("{QUEUE_VOLUME}-{pod}")
}

/// The headless Service that names the Postfix pods one by one.
#[must_use]
pub fn postfix_pods(server: &str) -> String {
    format!("{server}-postfix-pods")
}

/// The `ConfigMap` that says which others hold the look-up files.
#[must_use]
pub fn maps(server: &str) -> String {
    format!("{server}-maps")
}

/// The `ConfigMap` with the look-up files of one shard.
#[must_use]
pub fn maps_slot(server: &str, slot: u32) -> String {
    format!("{server}-maps-{slot}")
}

/// Reads [`maps_slot`] back.
#[must_use]
pub fn slot_of(server: &str, name: &str) -> Option<u32> {
    name.strip_prefix(&maps(server))?.strip_prefix('-')?.parse().ok()
}

/// The claim of the mail store.
#[must_use]
pub fn mail_claim(server: &str) -> String {
    format!("{server}-mail")
}

/// The embedded `MariaDB`'s `StatefulSet` and Service.
#[must_use]
pub fn database(server: &str) -> String {
    format!("{server}-database")
}

/// The Secret of the database's superuser.
#[must_use]
pub fn root_secret(server: &str) -> String {
    format!("{server}-database-root")
}

/// The Secret of the account that writes the tables.
#[must_use]
pub fn writer_secret(server: &str) -> String {
    format!("{server}-database-writer")
}

/// The Secret of the account that Postfix reads with.
#[must_use]
pub fn reader_secret(server: &str) -> String {
    format!("{server}-database-reader")
}

/// The Secret with what `MariaDB` executes at each start.
#[must_use]
pub fn init_secret(server: &str) -> String {
    format!("{server}-database-init")
}

/// Host name of the embedded database, without the cluster's domain: pods' search paths add it.
#[must_use]
pub fn database_host(server: &str, namespace: &str) -> String {
    format!("{}.{namespace}.svc", database(server))
}
