//! What is kept of a `MailAdmin`.

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::{Meta, PasswordSource, SeenStatus};
use crate::api::{Address, DeletionPolicy, DomainName, MailAdmin};
use crate::object::ObjectName;

/// What is kept of a `MailAdmin`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminRow {
    /// Identity, age and status.
    pub meta: Meta,
    /// The address that the admin logs in with.
    pub username: Address,
    /// The `MailServer` that it names.
    pub server: ObjectName,
    /// Where the password comes from; `None`: nobody can log in.
    pub password: Option<Box<PasswordSource>>,
    /// Whether every domain is managed.
    pub super_admin: bool,
    /// The domains that are managed; empty beside `super_admin`.
    pub domains: BTreeSet<DomainName>,
    /// Whether login is allowed.
    pub active: bool,
    /// Whether it says so itself.
    pub names_active: bool,
    /// What happens to its rows when it goes.
    pub policy: DeletionPolicy,
}

impl From<&MailAdmin> for AdminRow {
    fn from(object: &MailAdmin) -> Self {
        let spec = &object.spec;
        let seen = object.status.as_ref().map_or_else(SeenStatus::default, |status| {
            SeenStatus::of(status.observed_generation, &status.conditions, ())
        });
        let (plain, hash) =
            (spec.password_secret_key_ref.as_ref(), spec.password_hash_secret_key_ref.as_ref());
        Self {
            meta: Meta::of(object, seen),
            username: spec.username.clone(),
            server: spec.server_ref.within(&object.namespace().unwrap_or_default()),
            password: PasswordSource::of(plain, hash),
            super_admin: spec.super_admin.unwrap_or(false),
            domains: spec.domains.iter().flatten().cloned().collect(),
            active: spec.active.unwrap_or(true),
            names_active: spec.active.is_some(),
            policy: spec.deletion_policy.unwrap_or_default(),
        }
    }
}
