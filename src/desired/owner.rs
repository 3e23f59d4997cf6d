//! Who owns the mail of a domain or a mailbox where it is not the server's owner, and which directories that takes.

use std::collections::BTreeMap;

use super::{Verdict, desired, maildir};
use crate::api::Reason;
use crate::api::mail_server::MailboxFormat;
use crate::index::rows::{DomainRow, Ids, Kind, MailboxRow, ObjectId, ServerRow};
use crate::index::{Index, Key};
use crate::object::ObjectName;
use crate::postfix::MailOwner;
use crate::postfix::owners::is_safe;
use crate::tables::{IdRow, Row};

/// The row of a domain that names an owner that mail can be delivered as.
pub(super) fn domain_row(server: &ServerRow, row: &DomainRow) -> Option<IdRow> {
    let (uid, gid) = resolved(row.ids, server.owner);
    (row.ids.is_some() && uid >= server.minimum_uid).then(|| IdRow { key: row.domain.to_string(), uid, gid })
}

/// The row of a mailbox that names an owner that mail can be delivered as.
pub(super) fn mailbox_row(server: &ServerRow, domain: &DomainRow, row: &MailboxRow) -> Option<IdRow> {
    // What is not named is the domain's, and what that doesn't name the server's.
    let (uid, gid) = resolved(row.ids, resolved(domain.ids, server.owner));
    (row.ids.is_some() && uid >= server.minimum_uid).then(|| IdRow { key: row.address.to_string(), uid, gid })
}

fn resolved(ids: Ids, otherwise: (i32, i32)) -> (i32, i32) {
    (ids.uid.unwrap_or(otherwise.0), ids.gid.unwrap_or(otherwise.1))
}

/// virtual(8) delivers for no user below `virtual_minimum_uid`: such a uid is not written, the mail goes on as before.
pub(super) fn obstacle(index: &Index, server: &ServerRow, object: &ObjectId) -> Option<Verdict> {
    let ids = match object.kind {
        Kind::Domain => index.domain(&object.name)?.ids,
        Kind::Mailbox => index.mailbox(&object.name)?.ids,
        Kind::Alias | Kind::Admin => return None,
    };
    let uid = ids.uid.filter(|uid| *uid < server.minimum_uid)?;
    let message = format!(
        "uid {uid} is below the MailServer's minimumUid {}: write a larger one, its mail belongs to the default owner until then",
        server.minimum_uid
    );
    Some(Verdict::new(object, Reason::Invalid, message))
}

/// The directories of domains whose mailboxes are mbox files.
#[must_use]
pub fn mbox_directories(index: &Index, name: &ObjectName) -> Vec<MailOwner> {
    let Some(server) = index.server(name).filter(|server| server.format == MailboxFormat::Mbox) else {
        return Vec::new();
    };
    let (uid, gid) = server.owner;
    let directory = |key: &Key| MailOwner { path: format!("{}/", key.domain()), uid, gid };
    index.domains_of(name).iter().map(directory).collect()
}

/// Directories and mbox files that have to be there with their owner before mail comes: a directory belongs to the
/// user that made it, and others could not make theirs in it. Parents come before what is in them.
#[must_use]
pub fn owners(index: &Index, name: &ObjectName) -> Vec<MailOwner> {
    let Some(server) = index.server(name) else { return Vec::new() };
    let mut owners = Owners::default();
    for key in index.configured_keys(name) {
        let id = desired(index, name, key).wants.into_iter().find_map(|want| match want.row {
            Row::Id(id) => Some((want.object, (id.uid, id.gid))),
            _ => None,
        });
        let Some((object, owner)) = id else { continue };
        match key {
            Key::Domain(domain) => owners.add_domain(domain.as_str(), owner),
            Key::Address(address) => {
                let path = index
                    .mailbox(&object.name)
                    .and_then(|row| row.told_maildir.as_deref())
                    .map_or_else(|| maildir(server, address), str::to_owned);
                owners.add_mailbox(path, owner, owner_of_domain(index, server, address.domain()));
            }
            Key::Admin(_) => {}
        }
    }
    owners.into_list()
}

/// Whether an object that `name` serves declares who owns the mail of a key.
#[must_use]
pub fn is_declared(index: &Index, name: &ObjectName, key: &Key) -> bool {
    desired(index, name, key).wants.iter().any(|want| matches!(want.row, Row::Id(_)))
}

/// The same as [`owners`] of rows that are there although nothing declares them. `maildirs`: the paths of mailboxes, by
/// their addresses.
#[must_use]
pub fn kept_owners(
    index: &Index,
    name: &ObjectName,
    rows: &[IdRow],
    maildirs: &BTreeMap<String, String>,
) -> Vec<MailOwner> {
    let Some(server) = index.server(name) else { return Vec::new() };
    let of_key: BTreeMap<&str, (i32, i32)> =
        rows.iter().map(|row| (row.key.as_str(), (row.uid, row.gid))).collect();
    let mut owners = Owners::default();
    for (key, owner) in &of_key {
        match key.split_once('@') {
            None => owners.add_domain(key, *owner),
            Some((_, domain)) => {
                let Some(path) = maildirs.get(*key) else { continue };
                let of_domain = of_key.get(domain).copied();
                let of_domain = of_domain.unwrap_or_else(|| owner_of_domain(index, server, domain));
                owners.add_mailbox(path.clone(), *owner, of_domain);
            }
        }
    }
    owners.into_list()
}

fn owner_of_domain(index: &Index, server: &ServerRow, domain: &str) -> (i32, i32) {
    let ids = index.holder(domain).map(|(_, row)| row.ids).unwrap_or_default();
    resolved(ids, server.owner)
}

/// User and group by path.
#[derive(Default)]
struct Owners(BTreeMap<String, (i32, i32)>);

impl Owners {
    fn add_domain(&mut self, domain: &str, owner: (i32, i32)) {
        self.0.insert(format!("{domain}/"), owner);
    }

    /// A mailbox, and the directory that it is in. An adopted one may lie where nothing of ours does, deeper than the agent
    /// makes any: it is left out.
    fn add_mailbox(&mut self, path: String, owner: (i32, i32), of_domain: (i32, i32)) {
        if !is_safe(&path) {
            return;
        }
        if let Some((parent, _)) = path.trim_end_matches('/').split_once('/') {
            self.0.entry(format!("{parent}/")).or_insert(of_domain);
        }
        self.0.insert(path, owner);
    }

    fn into_list(self) -> Vec<MailOwner> {
        self.0.into_iter().map(|(path, (uid, gid))| MailOwner { path, uid, gid }).collect()
    }
}
