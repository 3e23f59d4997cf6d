//! The rows that the operator wants in the tables, asked for as Postfix's maps ask for them. Pure.
//!
//! Every row comes from [`crate::desired`], so that the plugin can't disagree with the operator.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::api::DomainName;
use crate::desired::{Desired, desired};
use crate::index::rows::ObjectId;
use crate::index::{Index, Key};
use crate::object::ObjectName;
use crate::tables::{AliasRow, DomainRow, MailboxRow, Row};

/// The rows of one server.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub index: &'a Index,
    pub server: &'a ObjectName,
    /// Where mailboxes are said to have their mail.
    pub maildirs: &'a HashMap<ObjectName, String>,
}

/// A row and the object that declares it.
pub(super) struct Declares<R> {
    pub row: R,
    pub object: ObjectId,
}

impl Rows<'_> {
    /// Whether the accounts are in look-up files.
    pub(super) fn in_files(&self) -> bool {
        self.index.server(self.server).is_some_and(|server| server.files)
    }

    /// Everything under a key; nothing for a text that can't be one.
    pub(super) fn under(&self, key: &str) -> Desired {
        Key::from_row(key).map(|key| desired(self.index, self.server, &key)).unwrap_or_default()
    }

    fn find<R>(&self, key: &str, pick: impl Fn(Row) -> Option<R>) -> Option<Declares<R>> {
        let wants = self.under(key).wants.into_iter();
        wants
            .map(|want| (pick(want.row), want.object))
            .find_map(|(row, object)| Some(Declares { row: row?, object }))
    }

    pub(super) fn domain(&self, domain: &str) -> Option<Declares<DomainRow>> {
        self.find(domain, |row| if let Row::Domain(row) = row { Some(row) } else { None })
    }

    pub(super) fn mailbox(&self, address: &str) -> Option<Declares<MailboxRow>> {
        let mut found =
            self.find(address, |row| if let Row::Mailbox(row) = row { Some(row) } else { None })?;
        if let Some(maildir) = self.maildirs.get(&found.object.name) {
            found.row.maildir.clone_from(maildir);
        }
        Some(found)
    }

    /// The alias row of an address or of `@domain`, if it is followed.
    pub(super) fn alias(&self, address: &str) -> Option<Declares<AliasRow>> {
        self.find(address, |row| if let Row::Alias(row) = row { Some(row) } else { None })
            .filter(|found| found.row.active)
    }

    /// An address without its tag, if it has one.
    pub(super) fn untagged(&self, address: &str) -> Option<String> {
        self.index.server(self.server)?.recipient_delimiter.stripped(address)
    }

    /// The owner that a mailbox names for its mail, else its domain.
    pub(super) fn owner(&self, mailbox: &MailboxRow) -> Option<(i32, i32)> {
        let id = |key: &str| self.find(key, |row| if let Row::Id(row) = row { Some(row) } else { None });
        let found = id(&mailbox.username).or_else(|| id(&mailbox.domain))?;
        Some((found.row.uid, found.row.gid))
    }

    /// The domain whose addresses `domain` has too, if its row is followed.
    pub(super) fn alias_target(&self, domain: &str) -> Option<DomainName> {
        let found =
            self.find(domain, |row| if let Row::AliasDomain(row) = row { Some(row) } else { None })?;
        found.row.active.then(|| DomainName::parse(&found.row.target_domain).ok())?
    }
}

/// A row as it is told: its table and the columns that decide about mail, never a password.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ToldRow {
    /// The table's name.
    pub table: &'static str,
    /// Columns and their values. A limit of a domain is told only where there is one.
    #[serde(serialize_with = "as_map")]
    pub columns: Vec<(&'static str, String)>,
}

fn as_map<S: Serializer>(columns: &[(&'static str, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(columns.iter().map(|(column, value)| (column, value)))
}

impl From<&Row> for ToldRow {
    fn from(row: &Row) -> Self {
        let flag = |on: bool| u8::from(on).to_string();
        let columns: Vec<(&'static str, String)> = match row {
            Row::Domain(row) => {
                let limits = [
                    ("mailboxes", row.mailboxes),
                    ("aliases", row.aliases),
                    ("maxquota", row.maxquota),
                    ("quota", row.quota),
                ];
                let limits = limits.into_iter().filter(|(_, limit)| *limit != 0);
                [
                    ("domain", row.domain.clone()),
                    ("transport", row.transport.clone()),
                    ("backupmx", flag(row.backupmx)),
                    ("active", flag(row.active)),
                ]
                .into_iter()
                .chain(limits.map(|(column, limit)| (column, limit.to_string())))
                .collect()
            }
            Row::AliasDomain(row) => vec![
                ("alias_domain", row.alias_domain.clone()),
                ("target_domain", row.target_domain.clone()),
                ("active", flag(row.active)),
            ],
            Row::Mailbox(row) => vec![
                ("username", row.username.clone()),
                ("maildir", row.maildir.clone()),
                ("quota", row.quota.to_string()),
                ("active", flag(row.active)),
            ],
            Row::Id(row) => {
                vec![("row_key", row.key.clone()), ("uid", row.uid.to_string()), ("gid", row.gid.to_string())]
            }
            Row::Admin(row) => vec![
                ("username", row.username.clone()),
                ("superadmin", flag(row.superadmin)),
                ("active", flag(row.active)),
            ],
            Row::Alias(row) => vec![
                ("address", row.address.clone()),
                ("goto", row.goto.clone()),
                ("active", flag(row.active)),
            ],
        };
        Self { table: row.table().as_str(), columns }
    }
}

impl std::fmt::Display for ToldRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.table)?;
        for (column, value) in &self.columns {
            write!(f, " {column}={value}")?;
        }
        Ok(())
    }
}
