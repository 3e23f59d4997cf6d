//! The small rows that the index keeps of each object: what the rooms after it need, and nothing else.
//!
//! A hundred thousand of them must fit in a few tens of megabytes, so a row drops what only the API server needs.

mod admin;
mod seen;
mod server;

use kube::ResourceExt;

pub use admin::AdminRow;
pub use seen::{READY, SeenStatus, WARNING, status_fingerprint, version_of};
#[cfg(test)]
pub(crate) use server::tests;
pub use server::{RELEASE_ANNOTATION, ServerRow};

use super::namespaces::Allowed;
use crate::api::limits::Limits;
use crate::api::{Address, DeletionPolicy, DomainName, MailAlias, MailDomain, Mailbox, SecretKeyReference};
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
        f.write_str(self.kind.as_str())?;
        f.write_str(" ")?;
        self.name.fmt(f)
    }
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
    fn of<K: kube::Resource>(object: &K, mut status: SeenStatus) -> Self {
        let meta = object.meta();
        status.version = version_of(meta.resource_version.as_deref());
        Self {
            uid: object.uid().unwrap_or_default().into(),
            created: meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            generation: meta.generation.unwrap_or_default(),
            status,
        }
    }
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
