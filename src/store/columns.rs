//! Which columns the tables have: older `PostfixAdmin` schemas, and the seed's of 2007, lack some.

use std::collections::BTreeSet;

use sqlx::mysql::MySqlConnection;

use super::Error;
use super::names::Names;
use crate::tables::{SharedColumn, Table};

/// Columns without which a table can't be used.
const REQUIRED: [(Table, &[&str]); 4] = [
    (
        Table::Domain,
        &[
            "domain",
            "description",
            "transport",
            "backupmx",
            "aliases",
            "mailboxes",
            "maxquota",
            "quota",
            "active",
        ],
    ),
    (Table::AliasDomain, &["alias_domain", "target_domain", "active"]),
    (Table::Mailbox, &["username", "password", "name", "maildir", "quota", "domain", "active"]),
    (Table::Alias, &["address", "goto", "domain", "active"]),
];

/// The columns that are there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Columns(BTreeSet<(String, String)>);

impl Columns {
    pub(super) async fn read(connection: &mut MySqlConnection, names: &Names) -> Result<Self, Error> {
        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.columns \
             WHERE table_schema = DATABASE()",
        )
        .fetch_all(connection)
        .await?;
        let ours = |(table, column): &(String, String)| {
            Some((names.strip(table)?.to_ascii_lowercase(), column.to_ascii_lowercase()))
        };
        let columns = Self(columns.iter().filter_map(ours).collect());
        let missing = columns.missing();
        if missing.is_empty() { Ok(columns) } else { Err(Error::Unfit(missing)) }
    }

    fn missing(&self) -> Vec<String> {
        let required = REQUIRED
            .iter()
            .flat_map(|(table, columns)| columns.iter().map(|column| (table.as_str(), *column)));
        let missing = required.filter(|(table, column)| !self.has(table, column));
        missing.map(|(table, column)| format!("column {table}.{column}")).collect()
    }

    /// Optional columns that an object may name and the tables don't have.
    pub(super) fn absent(&self) -> Vec<(Table, SharedColumn)> {
        let description = (Table::Alias, SharedColumn::Description);
        let absent = !self.has(description.0.as_str(), description.1.as_str());
        absent.then_some(description).into_iter().collect()
    }

    pub(super) fn has(&self, table: &str, column: &str) -> bool {
        self.0.contains(&(table.to_owned(), column.to_owned()))
    }
}
