//! Who is declared as an admin, by object, by username and by the domains that they manage.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use super::rows::{AdminRow, Kind, ObjectId, Row};
use super::{Allowed, Claim, Index, Key};
use crate::api::Address;
use crate::object::ObjectName;

/// All that is declared of admins.
#[derive(Debug, Default)]
pub(super) struct Admins {
    pub(super) rows: HashMap<ObjectName, AdminRow>,
    /// Who claims a username, oldest first, whatever the server.
    claims: BTreeMap<Address, Vec<Claim>>,
    /// Domain to the usernames that are to manage it, and how often.
    managed: HashMap<Box<str>, BTreeMap<Address, u32>>,
}

impl Admins {
    fn add(&mut self, name: ObjectName, row: AdminRow) {
        let object = ObjectId { kind: Kind::Admin, name: name.clone() };
        let claim = Claim { created: row.meta.created, object };
        let claims = self.claims.entry(row.username.clone()).or_default();
        let at = claims.partition_point(|other| *other < claim);
        claims.insert(at, claim);
        for domain in &row.domains {
            let usernames = self.managed.entry(domain.as_str().into()).or_default();
            *usernames.entry(row.username.clone()).or_default() += 1;
        }
        self.rows.insert(name, row);
    }

    fn remove(&mut self, name: &ObjectName) {
        let Some(row) = self.rows.remove(name) else { return };
        if let Some(claims) = self.claims.get_mut(&row.username) {
            claims.retain(|claim| claim.object.name != *name);
            if claims.is_empty() {
                self.claims.remove(&row.username);
            }
        }
        for domain in &row.domains {
            let Some(usernames) = self.managed.get_mut(domain.as_str()) else { continue };
            if let Some(count) = usernames.get_mut(&row.username) {
                *count -= 1;
            }
            usernames.retain(|_, count| *count > 0);
            if usernames.is_empty() {
                self.managed.remove(domain.as_str());
            }
        }
    }
}

/// The Secret with an admin's password.
fn secret_of(name: &ObjectName, row: &AdminRow) -> Option<ObjectName> {
    Some(ObjectName::new(&name.namespace, &row.password.as_ref()?.reference().name))
}

impl Index {
    /// A `MailAdmin` appeared or changed.
    pub fn apply_admin(&mut self, name: ObjectName, row: AdminRow) {
        self.now_readable(&ObjectId { kind: Kind::Admin, name: name.clone() });
        if self.admins.rows.get_mut(&name).is_some_and(|old| old.changes_in_status_only(&row)) {
            return;
        }
        self.remove_admin(&name);
        let key = Key::Admin(row.username.clone());
        if let Some(secret) = secret_of(&name, &row) {
            self.secret_users.insert(secret, (key.clone(), name.clone()));
        }
        self.admins.add(name, row);
        self.mark(key);
    }

    /// A `MailAdmin` is gone.
    pub fn remove_admin(&mut self, name: &ObjectName) {
        let Some(row) = self.admins.rows.get(name) else { return };
        let (key, secret) = (Key::Admin(row.username.clone()), secret_of(name, row));
        // Before: its server has to look for its rows.
        self.mark(key.clone());
        self.admins.remove(name);
        if let Some(secret) = secret {
            self.secret_users.remove(&secret, &(key, name.clone()));
        }
    }

    /// The row of a `MailAdmin`.
    #[must_use]
    pub fn admin(&self, name: &ObjectName) -> Option<&AdminRow> {
        self.admins.rows.get(name)
    }

    /// Who claims a username, oldest first, whichever server they name.
    pub fn admin_claims(&self, username: &Address) -> impl Iterator<Item = (&Claim, &AdminRow)> {
        let claims = self.admins.claims.get(username).into_iter().flatten();
        claims.filter_map(|claim| Some((claim, self.admin(&claim.object.name)?)))
    }

    /// Whether the server that a `MailAdmin` names exists and admits it.
    #[must_use]
    pub fn server_admits_admin(&self, name: &ObjectName, row: &AdminRow) -> bool {
        self.admitting(&row.server, &name.namespace).is_some()
    }

    /// The keys of all admins that name `server`, in order.
    pub(super) fn admin_keys_of<'a>(&'a self, server: &'a ObjectName) -> impl Iterator<Item = Key> + 'a {
        let names_server =
            move |claim: &Claim| self.admin(&claim.object.name).is_some_and(|row| row.server == *server);
        self.admins
            .claims
            .iter()
            .filter(move |(_, claims)| claims.iter().any(names_server))
            .map(|(username, _)| Key::Admin(username.clone()))
    }

    /// The keys of all admins, in order.
    pub(super) fn admin_keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.admins.claims.keys().cloned().map(Key::Admin)
    }

    pub(super) fn mark_admin(&mut self, username: &Address) {
        let key = Key::Admin(username.clone());
        let servers: BTreeSet<ObjectName> =
            self.admin_claims(username).map(|(_, row)| row.server.clone()).collect();
        let unserved = self
            .admin_claims(username)
            .any(|(claim, row)| !self.server_admits_admin(&claim.object.name, row));
        for server in servers {
            if self.servers.contains_key(&server) {
                self.work_of(server).keys.insert(key.clone());
            }
        }
        if unserved {
            self.mark_unserved(key);
        }
    }

    pub(super) fn mark_admins_naming(&mut self, server: &ObjectName) {
        for key in self.admin_keys_of(server).collect::<Vec<_>>() {
            self.mark(key);
        }
    }

    /// What a domain's admins may do depends on who serves it and whom it admits.
    pub(super) fn mark_admins_of(&mut self, domain: &str) {
        for username in self.admins.managed.get(domain).cloned().unwrap_or_default().into_keys() {
            self.mark_admin(&username);
        }
    }

    /// The admins of a namespace whose servers' answer to it changes.
    pub(super) fn admins_affected(
        &self,
        namespace: &str,
        answers_otherwise: impl Fn(&Allowed) -> bool,
    ) -> BTreeSet<Address> {
        let affected = self.admins.rows.iter().filter(|(name, row)| {
            let server = self.servers.get(&row.server);
            &*name.namespace == namespace && server.is_some_and(|server| answers_otherwise(&server.allowed))
        });
        affected.map(|(_, row)| row.username.clone()).collect()
    }
}
