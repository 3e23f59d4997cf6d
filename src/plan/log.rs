//! What `PostfixAdmin`'s viewlog page shows of a change. Pure.
//!
//! The page knows a fixed list of actions, and fails on a row with any other.

use crate::index::Key;
use crate::tables::{Row, Table};

/// A row of `PostfixAdmin`'s table log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogRow {
    /// Domain of the changed row; `admin` for one of the table admin.
    pub domain: String,
    /// One of the actions that `PostfixAdmin`'s viewlog page knows.
    pub action: &'static str,
    /// Primary key of the changed row.
    pub data: String,
}

impl LogRow {
    /// `None` for our own table, of which `PostfixAdmin` knows nothing.
    pub(super) fn of(change: Change, table: Table, key: &Key) -> Option<Self> {
        let action = action(change, table)?;
        // PostfixAdmin logs the deletion of an admin so.
        let domain = if table == Table::Admin { "admin" } else { key.domain() };
        Some(Self { domain: domain.to_owned(), action, data: key.as_str().to_owned() })
    }
}

/// What happened to a row.
#[derive(Clone, Copy)]
pub(super) enum Change {
    Create,
    Edit,
    /// Switched on or off, and nothing else.
    State,
    Delete,
}

impl Change {
    /// What makes `row` of a `current` row that differs from it.
    pub(super) fn between(current: &Row, row: &Row) -> Self {
        let mut switched = row.clone();
        if let Some(active) = switched.active_mut() {
            *active = !*active;
        }
        if switched == *current { Self::State } else { Self::Edit }
    }
}

/// `None` for our own table, of which `PostfixAdmin` knows nothing.
fn action(change: Change, table: Table) -> Option<&'static str> {
    Some(match (change, table) {
        (Change::Create, Table::Domain) => "create_domain",
        (Change::Create, Table::AliasDomain) => "create_alias_domain",
        (Change::Create, Table::Mailbox) => "create_mailbox",
        (Change::Create, Table::Alias) => "create_alias",
        // There is no edit_domain_state: PostfixAdmin's page that switches a domain logs edit_domain as well.
        (Change::Edit | Change::State, Table::Domain) => "edit_domain",
        (Change::Edit, Table::AliasDomain) => "edit_alias_domain",
        (Change::Edit, Table::Mailbox) => "edit_mailbox",
        (Change::Edit, Table::Alias) => "edit_alias",
        (Change::State, Table::AliasDomain) => "edit_alias_domain_state",
        (Change::State, Table::Mailbox) => "edit_mailbox_state",
        (Change::State, Table::Alias) => "edit_alias_state",
        (Change::Create, Table::Admin) => "create_admin",
        (Change::Edit | Change::State, Table::Admin) => "edit_admin",
        (Change::Delete, Table::Admin) => "delete_admin",
        (Change::Delete, Table::Domain) => "delete_domain",
        (Change::Delete, Table::AliasDomain) => "delete_alias_domain",
        (Change::Delete, Table::Mailbox) => "delete_mailbox",
        (Change::Delete, Table::Alias) => "delete_alias",
        (_, Table::Id) => return None,
    })
}
