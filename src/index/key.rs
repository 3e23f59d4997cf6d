//! The key under which rows of the tables are planned.

use std::cmp::Ordering;
use std::fmt;

use crate::api::{Address, DomainName};
use crate::tables::Table;

/// A domain (its row in the table domain), an address (its rows in mailbox and alias) or an admin.
///
/// Ordered by domain: the domain itself, its catch-all, its addresses. Admins come after all domains.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Key {
    /// `alpha.example.org`
    Domain(DomainName),
    /// `alfred@alpha.example.org`, or `@alpha.example.org` for a catch-all.
    Address(Address),
    /// The username of an admin, who need not have a mailbox of that address, nor be in a domain that anybody serves.
    Admin(Address),
}

impl Key {
    /// Reads the primary key of a row back; `None` for what we never write (`ALL`).
    #[must_use]
    pub fn of_row(table: Table, text: &str) -> Option<Self> {
        match table {
            Table::Admin => Address::parse(text).ok().map(Self::Admin),
            _ => Self::from_row(text),
        }
    }

    /// [`Key::of_row`], of any table but that of admins.
    #[must_use]
    pub fn from_row(text: &str) -> Option<Self> {
        if text.contains('@') {
            crate::api::AliasAddress::parse(text).ok().map(|alias| Self::Address(alias.0))
        } else {
            DomainName::parse(text).ok().map(Self::Domain)
        }
    }

    /// The primary key of its rows.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Domain(domain) => domain.as_str(),
            Self::Address(address) | Self::Admin(address) => address.as_str(),
        }
    }

    /// The tables that can have a row under it.
    #[must_use]
    pub fn tables(&self) -> &'static [Table] {
        match self {
            Self::Domain(_) => &[Table::Domain, Table::AliasDomain, Table::Id],
            Self::Address(_) => &[Table::Mailbox, Table::Alias, Table::Id],
            Self::Admin(_) => &[Table::Admin],
        }
    }

    /// The domain that it belongs to; of an admin that of the username, which says nothing of the server.
    #[must_use]
    pub fn domain(&self) -> &str {
        match self {
            Self::Domain(domain) => domain.as_str(),
            Self::Address(address) | Self::Admin(address) => address.domain(),
        }
    }

    /// Whether it is `@domain`.
    #[must_use]
    pub fn is_catch_all(&self) -> bool {
        matches!(self, Self::Address(address) if address.local_part().is_empty())
    }

    fn rank(&self) -> (bool, &str, Option<&str>) {
        match self {
            Self::Domain(domain) => (false, domain.as_str(), None),
            Self::Address(address) => (false, address.domain(), Some(address.local_part())),
            Self::Admin(username) => (true, username.domain(), Some(username.local_part())),
        }
    }
}

/// As people are told: an admin and a mailbox may have one address.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(_) | Self::Address(_) => f.write_str(self.as_str()),
            Self::Admin(username) => write!(f, "admin {username}"),
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
