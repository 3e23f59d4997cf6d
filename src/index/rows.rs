//! The small rows that the index keeps of each object: what the rooms after it need, and nothing else.
//!
//! A hundred thousand of them must fit in a few tens of megabytes, so a row drops what only the API server needs.

mod admin;

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

pub use admin::AdminRow;

use super::namespaces::Allowed;
use super::stored_as::stored_as;
use crate::api::limits::Limits;
use crate::api::mail_server::{
    DEFAULT_MINIMUM_UID, DEFAULT_OWNER, Drift, ExistingRows, MailboxFormat, MailboxLayout, MassDeletion,
};
use crate::api::{
    Address, DeletionPolicy, DomainName, MailAlias, MailDomain, MailServer, Mailbox, PasswordScheme,
    RecipientDelimiter, SecretKeyReference,
};
use crate::object::ObjectName;

/// Which kind of account object.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// `MailDomain`
    Domain,
    /// `Mailbox`
    Mailbox,
    /// `MailAlias`
    Alias,
    /// `MailAdmin`
    Admin,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Domain, Self::Mailbox, Self::Alias, Self::Admin];

    /// The name of the kind in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "MailDomain",
            Self::Mailbox => "Mailbox",
            Self::Alias => "MailAlias",
            Self::Admin => "MailAdmin",
        }
    }
}

/// An account object of any kind.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectId {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub name: ObjectName,
}

impl ObjectId {
    /// Reads back what `Display` writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(' ')?;
        let (namespace, name) = name.split_once('/')?;
        let kind = Kind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        Some(Self { kind, name: ObjectName::new(namespace, name) })
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// The condition that every account object carries.
pub const READY: &str = "Ready";

/// The condition of an object that is in order and probably not as it was meant; it is there only while it is `True`.
pub const WARNING: &str = "Warning";

/// What an object's status said when it was last seen.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SeenStatus {
    /// Hash of everything in the status but its times; 0 where there is none.
    pub fingerprint: u64,
    /// Hash of the conditions alone, without their times.
    pub told: u64,
    /// Transition time of `Ready`, needed to keep it when another field changes.
    pub ready_since: Option<(bool, jiff::Timestamp)>,
    /// Transition time of `Warning`, if the object carries one.
    pub warning_since: Option<jiff::Timestamp>,
}

impl SeenStatus {
    /// Whether the object has no status yet.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.fingerprint == 0
    }

    fn of(observed_generation: Option<i64>, conditions: &[Condition], fields: impl Hash) -> Self {
        let of_type = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
        Self {
            fingerprint: status_fingerprint(observed_generation, conditions, fields),
            told: status_fingerprint(observed_generation, conditions, ()),
            ready_since: of_type(READY)
                .map(|condition| (condition.status == "True", condition.last_transition_time.0)),
            warning_since: of_type(WARNING).map(|condition| condition.last_transition_time.0),
        }
    }
}

/// Hash of a status without its times: equal for two statuses that need no patch between them.
#[must_use]
pub fn status_fingerprint(
    observed_generation: Option<i64>,
    conditions: &[Condition],
    fields: impl Hash,
) -> u64 {
    let mut hasher = DefaultHasher::new();
    observed_generation.hash(&mut hasher);
    for condition in conditions {
        (
            &condition.type_,
            &condition.status,
            &condition.reason,
            &condition.message,
            condition.observed_generation,
        )
            .hash(&mut hasher);
    }
    fields.hash(&mut hasher);
    hasher.finish()
}

/// What every row has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Meta {
    /// `metadata.uid`
    pub uid: Box<str>,
    /// `metadata.creationTimestamp`, seconds since 1970: the older of two claimants wins.
    pub created: i64,
    /// `metadata.generation`
    pub generation: i64,
    /// The status that the object carries.
    pub status: SeenStatus,
}

impl Meta {
    fn of<K: kube::Resource>(object: &K, status: SeenStatus) -> Self {
        let meta = object.meta();
        Self {
            uid: object.uid().unwrap_or_default().into(),
            created: meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            generation: meta.generation.unwrap_or_default(),
            status,
        }
    }
}

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
    /// Hash of the part of the spec that says where the tables are: when it changes, the set loop begins anew.
    pub database: u64,
    /// Hash of the place of the tables in an external database, which other servers may name too; `None`: they are its own.
    pub shared_tables: Option<u64>,
    /// Hash of the held plan that an administrator released, from the annotation.
    pub released: Option<Box<str>>,
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
            recipient_delimiter: (&server.spec).into(),
            database: hash_of(&(files, serde_json::to_string(&server.spec.database).unwrap_or_default())),
            shared_tables: external
                .filter(|_| !files)
                .map(|at| hash_of(&(&at.host, at.port, &at.name, &at.table_prefix))),
            released: server.annotations().get(RELEASE_ANNOTATION).map(|hash| hash.trim().into()),
            allowed: server.spec.allowed_namespaces.as_ref().into(),
        }
    }
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// User and group that own mail, where an object names them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ids {
    /// The user.
    pub uid: Option<i32>,
    /// The group.
    pub gid: Option<i32>,
}

impl Ids {
    /// Whether either is named.
    #[must_use]
    pub fn is_some(self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }
}

/// The transport of virtual(8), and `PostfixAdmin`'s default.
pub const VIRTUAL: &str = "virtual";

/// What is kept of a `MailDomain`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainRow {
    /// Identity, age and status.
    pub meta: Meta,
    /// The domain.
    pub domain: DomainName,
    /// The `MailServer` that it names.
    pub server: ObjectName,
    /// The namespaces whose objects may declare addresses in it.
    pub allowed: Allowed,
    /// Free text, if it names one.
    pub description: Option<Box<str>>,
    /// Whether mail is accepted.
    pub active: bool,
    /// Whether it says so itself.
    pub names_active: bool,
    /// The domain whose addresses it has too.
    pub alias_of: Option<DomainName>,
    /// Whether mail is only relayed to the domain's primary server; `None` where it names neither.
    pub backup_mx: Option<bool>,
    /// What delivers its mail, as in transport(5), if it names it.
    pub transport: Option<Box<str>>,
    /// What it may hold.
    pub limits: Option<Limits>,
    /// Who owns its mail.
    pub ids: Ids,
    /// Targets of `@domain`; empty where there is no catch-all.
    pub catch_all: Box<[Address]>,
    /// What happens to its rows when it goes.
    pub policy: DeletionPolicy,
}

impl DomainRow {
    /// Whether its mail takes another way than virtual(8), or none because the domain is switched off.
    #[must_use]
    pub fn needs_transport(&self) -> bool {
        !self.active || self.transport.as_deref().is_some_and(|transport| transport != VIRTUAL)
    }

    /// Whether its mail goes on to another mail server, which knows the domain's addresses better.
    #[must_use]
    pub fn is_relayed(&self) -> bool {
        let transport = self.transport.as_deref().unwrap_or(VIRTUAL);
        self.backup_mx == Some(true) || transport.starts_with("smtp:") || transport.starts_with("relay:")
    }
}

impl From<&MailDomain> for DomainRow {
    fn from(object: &MailDomain) -> Self {
        let spec = &object.spec;
        let seen = object.status.as_ref().map_or_else(SeenStatus::default, |status| {
            SeenStatus::of(
                status.observed_generation,
                &status.conditions,
                (status.mailboxes, status.aliases, status.quota, status.limits),
            )
        });
        Self {
            meta: Meta::of(object, seen),
            domain: spec.domain.clone(),
            server: spec.server_ref.within(&object.namespace().unwrap_or_default()),
            allowed: spec.allowed_namespaces.as_ref().into(),
            description: spec.description.as_deref().map(Into::into),
            active: spec.active.unwrap_or(true),
            names_active: spec.active.is_some(),
            alias_of: spec.alias_of.clone(),
            backup_mx: spec.backup_mx,
            transport: spec.transport.as_deref().map(Into::into),
            limits: spec.limits,
            ids: Ids { uid: spec.uid, gid: spec.gid },
            catch_all: distinct(spec.catch_all.as_deref().unwrap_or_default()),
            policy: spec.deletion_policy.unwrap_or_default(),
        }
    }
}

/// Where a mailbox's password comes from.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum PasswordSource {
    /// A Secret's key with the plain text.
    Plain(SecretKeyReference),
    /// A Secret's key with the hash.
    Hash(SecretKeyReference),
}

impl PasswordSource {
    /// Of an object that names at most one of the two.
    fn of(plain: Option<&SecretKeyReference>, hash: Option<&SecretKeyReference>) -> Option<Box<Self>> {
        hash.cloned().map(Self::Hash).or(plain.cloned().map(Self::Plain)).map(Box::new)
    }

    /// The Secret and key, whatever is in it.
    #[must_use]
    pub fn reference(&self) -> &SecretKeyReference {
        match self {
            Self::Plain(reference) | Self::Hash(reference) => reference,
        }
    }
}

/// What is kept of a `Mailbox`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MailboxRow {
    /// Identity, age and status.
    pub meta: Meta,
    /// The address.
    pub address: Address,
    /// The person's name, if it names one.
    pub display_name: Option<Box<str>>,
    /// Where the password comes from; `None`: nobody can log in.
    pub password: Option<Box<PasswordSource>>,
    /// Size limit in bytes, 0 for none; `None` where it names none.
    pub quota: Option<i64>,
    /// Who owns its mail.
    pub ids: Ids,
    /// Where its mail is, as its status says, if it names an owner: an adopted row keeps a maildir of its own.
    pub told_maildir: Option<Box<str>>,
    /// Whether mail is accepted.
    pub active: bool,
    /// Whether it says so itself.
    pub names_active: bool,
    /// Where mail goes beside, or in place of, the mailbox.
    pub forward_to: Box<[Address]>,
    /// Whether the mailbox keeps a copy of what is forwarded.
    pub keep_copy: bool,
    /// What happens to its rows when it goes.
    pub policy: DeletionPolicy,
}

impl From<&Mailbox> for MailboxRow {
    fn from(object: &Mailbox) -> Self {
        let spec = &object.spec;
        let seen = object.status.as_ref().map_or_else(SeenStatus::default, |status| {
            SeenStatus::of(status.observed_generation, &status.conditions, (&status.maildir, &status.server))
        });
        Self {
            meta: Meta::of(object, seen),
            address: spec.address.clone(),
            display_name: spec.display_name.as_deref().map(Into::into),
            password: PasswordSource::of(
                spec.password_secret_key_ref.as_ref(),
                spec.password_hash_secret_key_ref.as_ref(),
            ),
            quota: spec.quota.map(|quota| quota.0),
            told_maildir: (spec.uid.is_some() || spec.gid.is_some())
                .then(|| object.status.as_ref()?.maildir.as_deref().map(Into::into))
                .flatten(),
            ids: Ids { uid: spec.uid, gid: spec.gid },
            active: spec.active.unwrap_or(true),
            names_active: spec.active.is_some(),
            forward_to: distinct(spec.forward_to.as_deref().unwrap_or_default()),
            keep_copy: spec.keep_copy.unwrap_or(true),
            policy: spec.deletion_policy.unwrap_or_default(),
        }
    }
}

/// What is kept of a `MailAlias`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AliasRow {
    /// Identity, age and status.
    pub meta: Meta,
    /// The address, `@domain` for a catch-all.
    pub address: Address,
    /// Where its mail goes.
    pub goto: Box<[Address]>,
    /// Free text, if it names one.
    pub description: Option<Box<str>>,
    /// Whether it is followed.
    pub active: bool,
    /// Whether it says so itself.
    pub names_active: bool,
    /// What happens to its row when it goes.
    pub policy: DeletionPolicy,
}

impl From<&MailAlias> for AliasRow {
    fn from(object: &MailAlias) -> Self {
        let spec = &object.spec;
        let seen = object.status.as_ref().map_or_else(SeenStatus::default, |status| {
            SeenStatus::of(status.observed_generation, &status.conditions, &status.server)
        });
        Self {
            meta: Meta::of(object, seen),
            address: spec.address.0.clone(),
            goto: distinct(&spec.goto),
            description: spec.description.as_deref().map(Into::into),
            active: spec.active.unwrap_or(true),
            names_active: spec.active.is_some(),
            policy: spec.deletion_policy.unwrap_or_default(),
        }
    }
}

/// The addresses in their order, each once.
fn distinct(addresses: &[Address]) -> Box<[Address]> {
    let mut seen = std::collections::BTreeSet::new();
    addresses.iter().filter(|address| seen.insert(address.as_str())).cloned().collect()
}

/// What rows of every kind can do.
pub(super) trait Row: PartialEq {
    fn meta(&self) -> &Meta;
    fn meta_mut(&mut self) -> &mut Meta;

    /// Takes over the status of `new` and tells whether nothing else differs.
    fn changes_in_status_only(&mut self, new: &Self) -> bool {
        self.meta_mut().status.clone_from(&new.meta().status);
        *self == *new
    }
}

macro_rules! row {
    ($($row:ty),*) => {$(
        impl Row for $row {
            fn meta(&self) -> &Meta {
                &self.meta
            }

            fn meta_mut(&mut self) -> &mut Meta {
                &mut self.meta
            }
        }
    )*};
}

row!(DomainRow, MailboxRow, AliasRow, AdminRow);

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
