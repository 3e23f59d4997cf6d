//! Names of the tables: `PostfixAdmin` may have been told to put a prefix before each (`$CONF['database_prefix']`).

use crate::tables::Table;

/// The prefix of all tables that are read and written, our own included: two prefixes are two sets of accounts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Names(String);

impl Names {
    /// Letters, digits and `_` only, so that a name never needs more than backquotes.
    pub(super) fn new(prefix: &str) -> Option<Self> {
        prefix.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_').then(|| Self(prefix.to_owned()))
    }

    /// A table's quoted name.
    pub(super) fn of(&self, table: &str) -> String {
        format!("`{}{table}`", self.0)
    }

    pub(super) fn table(&self, table: Table) -> String {
        self.of(table.as_str())
    }

    pub(super) fn owner(&self) -> String {
        self.of("vmail_owner")
    }

    /// The name without the prefix, of a table that has it.
    pub(super) fn strip<'a>(&self, name: &'a str) -> Option<&'a str> {
        let prefix = name.get(..self.0.len()).filter(|start| start.eq_ignore_ascii_case(&self.0))?;
        name.get(prefix.len()..)
    }
}
