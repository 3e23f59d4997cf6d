//! Rows of `PostfixAdmin`'s tables and of our ownership table, as values.
//!
//! Pure data: what each column means, and nothing of how it is read or written ([`crate::store`]) or chosen
//! ([`crate::desired`]).

use std::collections::BTreeSet;

use crate::api::DeletionPolicy;

/// A table whose rows we manage.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Table {
    /// Domains that mail is received for.
    Domain,
    /// Domains whose addresses are those of another domain.
    AliasDomain,
    /// Accounts.
    Mailbox,
    /// Aliases, catch-alls and the identity row of each mailbox.
    Alias,
    /// Users and groups that own the mail of a domain or a mailbox, where they are not the server's: a table of our own.
    Id,
    /// Those who may log in to `PostfixAdmin`; what they manage, which is in `domain_admins`, belongs to the row.
    Admin,
}

impl Table {
    /// All of them, in the order in which rows are written; deletions go the other way.
    pub const ALL: [Self; 6] =
        [Self::Domain, Self::AliasDomain, Self::Mailbox, Self::Alias, Self::Id, Self::Admin];

    /// The table's name, and the value of `vmail_owner.table_name`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::AliasDomain => "alias_domain",
            Self::Mailbox => "mailbox",
            Self::Alias => "alias",
            Self::Id => "vmail_id",
            Self::Admin => "admin",
        }
    }

    /// Reads [`Table::as_str`] back.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.as_str() == name)
    }
}

/// A column that an object need not name: what somebody else wrote there stays until the object names it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SharedColumn {
    /// `domain.description` or `alias.description`
    Description,
    /// `domain.transport`
    Transport,
    /// `domain.backupmx`
    Backupmx,
    /// `domain.aliases`
    Aliases,
    /// `domain.mailboxes`
    Mailboxes,
    /// `domain.maxquota`
    Maxquota,
    /// `domain.quota` or `mailbox.quota`
    Quota,
    /// `mailbox.name`
    Name,
    /// `active` of any table: somebody else's only where the row was there before its object.
    Active,
}

impl SharedColumn {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Description,
        Self::Transport,
        Self::Backupmx,
        Self::Aliases,
        Self::Mailboxes,
        Self::Maxquota,
        Self::Quota,
        Self::Name,
        Self::Active,
    ];

    /// The column's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Description => "description",
            Self::Transport => "transport",
            Self::Backupmx => "backupmx",
            Self::Aliases => "aliases",
            Self::Mailboxes => "mailboxes",
            Self::Maxquota => "maxquota",
            Self::Quota => "quota",
            Self::Name => "name",
            Self::Active => "active",
        }
    }
}

/// A row of `domain`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DomainRow {
    /// Primary key.
    pub domain: String,
    /// Free text.
    pub description: String,
    /// transport(5) that delivers the domain's mail: `virtual` or, say, `lmtp:inet:dovecot.mail.svc:24`.
    pub transport: String,
    /// Whether mail is only relayed to the domain's primary server.
    pub backupmx: bool,
    /// Most aliases; 0 for no limit, -1 for none at all.
    pub aliases: i64,
    /// Most mailboxes; 0 for no limit, -1 for none at all.
    pub mailboxes: i64,
    /// Largest quota of a mailbox in `PostfixAdmin`'s MB; 0 for no limit.
    pub maxquota: i64,
    /// Sum of the mailboxes' quotas in `PostfixAdmin`'s MB; 0 for no limit.
    pub quota: i64,
    /// Whether mail is accepted.
    pub active: bool,
}

/// A row of `alias_domain`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AliasDomainRow {
    /// Primary key.
    pub alias_domain: String,
    /// The domain whose addresses it has.
    pub target_domain: String,
    /// Whether it is followed.
    pub active: bool,
}

/// A row of `mailbox`.
#[derive(Clone, Eq, PartialEq)]
pub struct MailboxRow {
    /// Primary key, the address.
    pub username: String,
    /// Hash, with or without a `{SCHEME}` prefix. Secret: no `Debug` shows it.
    pub password: String,
    /// The person's name.
    pub name: String,
    /// Path below `virtual_mailbox_base`; a trailing slash makes it a maildir.
    pub maildir: String,
    /// Bytes, 0 for no limit.
    pub quota: i64,
    /// The address's local part.
    pub local_part: String,
    /// The address's domain.
    pub domain: String,
    /// Whether mail is accepted and login allowed.
    pub active: bool,
}

impl std::fmt::Debug for MailboxRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailboxRow")
            .field("username", &self.username)
            .field("maildir", &self.maildir)
            .field("quota", &self.quota)
            .field("active", &self.active)
            .finish_non_exhaustive()
    }
}

/// A row of `alias`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AliasRow {
    /// Primary key: an address or `@domain`.
    pub address: String,
    /// Targets, joined by commas without blanks.
    pub goto: String,
    /// The address's domain.
    pub domain: String,
    /// Free text.
    pub description: String,
    /// Whether it is followed.
    pub active: bool,
}

/// A row of `vmail_id`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdRow {
    /// Primary key: the address of a mailbox, or a domain.
    pub key: String,
    /// User that owns the mail.
    pub uid: i32,
    /// Group that owns the mail.
    pub gid: i32,
}

/// In `domain_admins`: every domain. `PostfixAdmin` has a row of this name in the table domain as well, which is its own.
pub const ALL_DOMAINS: &str = "ALL";

/// A row of `admin`, with the domains that `domain_admins` gives it.
#[derive(Clone, Eq, PartialEq)]
pub struct AdminRow {
    /// Primary key, an address.
    pub username: String,
    /// Hash, with or without a `{SCHEME}` prefix. Secret: no `Debug` shows it.
    pub password: String,
    /// Whether every domain and every other admin is managed: `PostfixAdmin` looks here and for [`ALL_DOMAINS`].
    pub superadmin: bool,
    /// Whether login is allowed.
    pub active: bool,
    /// The domains that are managed, or [`ALL_DOMAINS`] alone.
    pub domains: BTreeSet<String>,
}

impl std::fmt::Debug for AdminRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminRow")
            .field("username", &self.username)
            .field("superadmin", &self.superadmin)
            .field("active", &self.active)
            .field("domains", &self.domains)
            .finish_non_exhaustive()
    }
}

/// A row of any of the tables.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Row {
    /// Of `domain`.
    Domain(DomainRow),
    /// Of `alias_domain`.
    AliasDomain(AliasDomainRow),
    /// Of `mailbox`.
    Mailbox(MailboxRow),
    /// Of `alias`.
    Alias(AliasRow),
    /// Of `vmail_id`.
    Id(IdRow),
    /// Of `admin` and `domain_admins`.
    Admin(AdminRow),
}

impl Row {
    /// The table that it belongs to.
    #[must_use]
    pub fn table(&self) -> Table {
        match self {
            Self::Domain(_) => Table::Domain,
            Self::AliasDomain(_) => Table::AliasDomain,
            Self::Mailbox(_) => Table::Mailbox,
            Self::Alias(_) => Table::Alias,
            Self::Id(_) => Table::Id,
            Self::Admin(_) => Table::Admin,
        }
    }

    /// Takes a column over from another row of the same table; does nothing where the table has no such column.
    pub fn take(&mut self, column: SharedColumn, from: &Self) {
        if column == SharedColumn::Active {
            if let Some((active, from)) = self.active_mut().zip(from.active()) {
                *active = from;
            }
            return;
        }
        match (self, from) {
            (Self::Domain(row), Self::Domain(from)) => match column {
                SharedColumn::Description => row.description.clone_from(&from.description),
                SharedColumn::Transport => row.transport.clone_from(&from.transport),
                SharedColumn::Backupmx => row.backupmx = from.backupmx,
                SharedColumn::Aliases => row.aliases = from.aliases,
                SharedColumn::Mailboxes => row.mailboxes = from.mailboxes,
                SharedColumn::Maxquota => row.maxquota = from.maxquota,
                SharedColumn::Quota => row.quota = from.quota,
                SharedColumn::Name | SharedColumn::Active => {}
            },
            (Self::Mailbox(row), Self::Mailbox(from)) => match column {
                SharedColumn::Name => row.name.clone_from(&from.name),
                SharedColumn::Quota => row.quota = from.quota,
                _ => {}
            },
            (Self::Alias(row), Self::Alias(from)) if column == SharedColumn::Description => {
                row.description.clone_from(&from.description);
            }
            _ => {}
        }
    }

    /// Whether it is in force; `None` for a table that has no such column.
    #[must_use]
    pub fn active(&self) -> Option<bool> {
        match self {
            Self::Domain(row) => Some(row.active),
            Self::AliasDomain(row) => Some(row.active),
            Self::Mailbox(row) => Some(row.active),
            Self::Alias(row) => Some(row.active),
            Self::Admin(row) => Some(row.active),
            Self::Id(_) => None,
        }
    }

    /// [`Row::active`], to be changed.
    pub fn active_mut(&mut self) -> Option<&mut bool> {
        match self {
            Self::Domain(row) => Some(&mut row.active),
            Self::AliasDomain(row) => Some(&mut row.active),
            Self::Mailbox(row) => Some(&mut row.active),
            Self::Alias(row) => Some(&mut row.active),
            Self::Admin(row) => Some(&mut row.active),
            Self::Id(_) => None,
        }
    }

    /// Its password hash; `None` for a table that has no such column.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        match self {
            Self::Mailbox(row) => Some(&row.password),
            Self::Admin(row) => Some(&row.password),
            _ => None,
        }
    }

    /// Its password hash, to be changed; `None` for a table that has no such column.
    pub fn password_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Mailbox(row) => Some(&mut row.password),
            Self::Admin(row) => Some(&mut row.password),
            _ => None,
        }
    }

    /// Its primary key.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Domain(row) => &row.domain,
            Self::AliasDomain(row) => &row.alias_domain,
            Self::Mailbox(row) => &row.username,
            Self::Alias(row) => &row.address,
            Self::Id(row) => &row.key,
            Self::Admin(row) => &row.username,
        }
    }
}

/// A row of `vmail_owner`: which object owns a row, and what we wrote there last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnerRow {
    /// Table of the owned row.
    pub table: Table,
    /// Primary key of the owned row.
    pub key: String,
    /// The `MailServer` whose set loop manages it, as installation/namespace/name.
    pub server: String,
    /// `metadata.uid` of the object that declares it.
    pub object_uid: String,
    /// The object, as `Kind namespace/name`, for people.
    pub object: String,
    /// What happens to the row when the object goes.
    pub policy: DeletionPolicy,
    /// Fingerprint of what was desired when the row was written: tells drift from a changed wish. Empty where the operator
    /// switched the row off because nobody served its domain.
    pub desired: String,
    /// Fingerprint of the password hash that was written; empty where there was none.
    pub password: String,
    /// Targets that we wrote into `goto`, joined by commas; other targets in the row are somebody else's.
    pub goto: String,
    /// Names of the [`SharedColumn`]s that the object named when the row was written, joined by commas; the others are
    /// somebody else's. And `maildir`, where that of a mailbox is computed and not that of an adopted row; and `adopted`,
    /// where the row was there before its object.
    pub named: String,
}
