//! Short texts that stand for what was desired and for what was written. Pure.

use sha2::{Digest, Sha256};

use crate::desired::{PasswordWant, Want};
use crate::index::rows::PasswordSource;
use crate::tables::Row;

/// Fingerprint of what a want asks for, the version of its Secret included.
#[must_use]
pub fn fingerprint(want: &Want) -> String {
    let flag = |flag: bool| if flag { "1" } else { "0" };
    let (quota, numbers, owner);
    let mut parts: Vec<&str> = vec![want.row.table().as_str()];
    match &want.row {
        Row::Domain(row) => {
            numbers = [row.aliases, row.mailboxes, row.maxquota, row.quota].map(|number| number.to_string());
            parts.extend(numbers.iter().map(String::as_str));
            parts.extend([
                &*row.domain,
                &row.description,
                &row.transport,
                flag(row.backupmx),
                flag(row.active),
            ]);
        }
        Row::AliasDomain(row) => {
            parts.extend([&*row.alias_domain, &row.target_domain, flag(row.active)]);
        }
        Row::Mailbox(row) => {
            quota = row.quota.to_string();
            parts.extend([&*row.username, &row.name, &row.maildir, &quota, flag(row.active)]);
        }
        Row::Id(row) => {
            owner = [row.uid, row.gid].map(|number| number.to_string());
            parts.push(&row.key);
            parts.extend(owner.iter().map(String::as_str));
        }
        Row::Admin(row) => {
            parts.extend([&*row.username, flag(row.superadmin), flag(row.active)]);
            parts.extend(row.domains.iter().map(String::as_str));
        }
        Row::Alias(row) => parts.extend([&*row.address, &row.goto, &row.description, flag(row.active)]),
    }
    parts.extend(want.named.iter().map(|column| column.as_str()));
    if let Some(PasswordWant { source, version, .. }) = &want.password {
        let reference = source.reference();
        let form = if matches!(source, PasswordSource::Plain(_)) { "plain" } else { "hash" };
        parts.extend([form, &reference.name, &reference.key, version.as_deref().unwrap_or_default()]);
    }
    digest(&parts)
}

/// Fingerprint of a stored password hash, so that the ownership table doesn't hold a second copy of it.
#[must_use]
pub fn password_fingerprint(hash: &str) -> String {
    digest(&["password", hash])
}

/// 16 hexadecimal digits that stand for some texts and their order.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.len().to_le_bytes());
        hasher.update(part);
    }
    let number = hasher.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:016x}")
}
