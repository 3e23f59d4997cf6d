//! Who owns the mail of a domain or a mailbox where it is not the server's owner, and which directories that takes.

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
    let mut owners = std::collections::BTreeMap::new();
    for key in index.configured_keys(name) {
        let id = desired(index, name, key).wants.into_iter().find_map(|want| match want.row {
            Row::Id(id) => Some((want.object, (id.uid, id.gid))),
            _ => None,
        });
        let Some((object, owner)) = id else { continue };
        match key {
            Key::Domain(domain) => {
                owners.insert(format!("{domain}/"), owner);
            }
            Key::Address(address) => {
                let path = index
                    .mailbox(&object.name)
                    .and_then(|row| row.told_maildir.as_deref())
                    .map_or_else(|| maildir(server, address), str::to_owned);
                // An adopted one may lie where nothing of ours does, deeper than the agent makes any.
                if !is_safe(&path) {
                    continue;
                }
                if let Some((parent, _)) = path.trim_end_matches('/').split_once('/') {
                    let domain = index.holder(address.domain()).map(|(_, row)| row.ids).unwrap_or_default();
                    owners.entry(format!("{parent}/")).or_insert(resolved(domain, server.owner));
                }
                owners.insert(path, owner);
            }
            Key::Admin(_) => {}
        }
    }
    owners.into_iter().map(|(path, (uid, gid))| MailOwner { path, uid, gid }).collect()
}
