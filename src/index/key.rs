//! The key under which rows of the tables are planned.

use std::cmp::Ordering;

use crate::api::{Address, DomainName};

/// A domain (its row in the table domain) or an address (its rows in mailbox and alias).
///
/// Ordered by domain: the domain itself, its catch-all, its addresses.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Key {
    /// `alpha.example.org`
    Domain(DomainName),
    /// `alfred@alpha.example.org`, or `@alpha.example.org` for a catch-all.
    Address(Address),
}

impl Key {
    /// Reads the primary key of a row back; `None` for what we never write (`ALL`).
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
            Self::Address(address) => address.as_str(),
        }
    }

    /// The domain that it belongs to.
    #[must_use]
    pub fn domain(&self) -> &str {
        match self {
            Self::Domain(domain) => domain.as_str(),
            Self::Address(address) => address.domain(),
        }
    }

    /// Whether it is `@domain`.
    #[must_use]
    pub fn is_catch_all(&self) -> bool {
        matches!(self, Self::Address(address) if address.local_part().is_empty())
    }

    fn rank(&self) -> (&str, Option<&str>) {
        match self {
            Self::Domain(domain) => (domain.as_str(), None),
            Self::Address(address) => (address.domain(), Some(address.local_part())),
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
