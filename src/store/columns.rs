//! Which columns the tables have: older `PostfixAdmin` schemas, and the seed's of 2007, lack some.

use std::collections::BTreeSet;

use sqlx::mysql::MySqlConnection;

use super::Error;
use super::names::Names;
use crate::tables::{SharedColumn, Table};

/// Columns without which a table can't be used. The table of alias domains alone may be missing.
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

/// Columns without which there are no admins. `admin.superadmin` is younger: before it only `domain_admins` said so.
const REQUIRED_FOR_ADMINS: [(&str, &[&str]); 2] =
    [("admin", &["username", "password", "active"]), ("domain_admins", &["username", "domain", "active"])];

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
        Ok(Self(columns.iter().filter_map(ours).collect()))
    }

    /// Names of the tables that have the prefix, without it.
    pub(super) fn tables(&self) -> BTreeSet<&str> {
        self.0.iter().map(|(table, _)| table.as_str()).collect()
    }

    /// Refuses tables that lack something, with everything that they lack.
    pub(super) fn check(&self) -> Result<(), Error> {
        let required = REQUIRED.map(|(table, columns)| (table.as_str(), columns));
        let missing = self.missing(&required, Some(Table::AliasDomain.as_str()));
        if missing.is_empty() { Ok(()) } else { Err(Error::Unfit(missing)) }
    }

    /// What is missing to hold admins. Mail does without.
    pub(super) fn lacking_for_admins(&self) -> Vec<String> {
        self.missing(&REQUIRED_FOR_ADMINS, None)
    }

    fn missing(&self, required: &[(&str, &[&str])], optional: Option<&str>) -> Vec<String> {
        let tables = self.tables();
        let mut missing = Vec::new();
        for &(table, columns) in required {
            if tables.contains(table) {
                let columns = columns.iter().filter(|column| !self.has(table, column));
                missing.extend(columns.map(|column| format!("column {table}.{column}")));
            } else if optional != Some(table) {
                missing.push(format!("table {table}"));
            }
        }
        missing
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
