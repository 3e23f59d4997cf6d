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
pub(super) struct Columns {
    there: BTreeSet<(String, String)>,
    /// Those of the columns that are in the primary key of a table.
    keys: BTreeSet<(String, String)>,
    /// Those of the columns that every new row has to give a value.
    valueless: BTreeSet<(String, String)>,
    /// The tables with transactions.
    transactional: BTreeSet<String>,
}

/// Table, column, whether it is in the primary key, whether it has to be given a value.
type Found = (String, String, i64, i64);

impl Columns {
    /// Two questions: `MariaDB` takes three times as long for a join of the two.
    pub(super) async fn read(connection: &mut MySqlConnection, names: &Names) -> Result<Self, Error> {
        let found: Vec<Found> = sqlx::query_as(
            "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR), CAST(column_key = 'PRI' AS SIGNED), \
             CAST(is_nullable = 'NO' AND column_default IS NULL AND COALESCE(extra, '') = '' AS SIGNED) \
             FROM information_schema.columns WHERE table_schema = DATABASE()",
        )
        .fetch_all(&mut *connection)
        .await?;
        let transactional: Vec<String> = sqlx::query_scalar(
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND engine = 'InnoDB'",
        )
        .fetch_all(connection)
        .await?;
        let ours = |table: &str| Some(names.strip(table)?.to_ascii_lowercase());
        let column = |(table, column, ..): &Found| Some((ours(table)?, column.to_ascii_lowercase()));
        let that = |is: fn(&Found) -> bool| found.iter().filter(move |found| is(found)).filter_map(column);
        Ok(Self {
            there: that(|_| true).collect(),
            keys: that(|found| found.2 != 0).collect(),
            valueless: that(|found| found.3 != 0).collect(),
            transactional: transactional.iter().filter_map(|table| ours(table)).collect(),
        })
    }

    /// Names of the tables that have the prefix, without it.
    pub(super) fn tables(&self) -> BTreeSet<&str> {
        self.there.iter().map(|(table, _)| table.as_str()).collect()
    }

    /// Whether a second row with the same value in `column` is refused, and what else its transaction did is undone: the
    /// column is the table's primary key by itself.
    pub(super) fn refuses_second(&self, table: &str, column: &str) -> bool {
        let mut keys = self.keys.iter().filter(|(of, _)| of == table).map(|(_, key)| key.as_str());
        self.has_transactions(table) && keys.next() == Some(column) && keys.next().is_none()
    }

    /// Whether what a transaction did in the table is undone with the transaction.
    pub(super) fn has_transactions(&self, table: &str) -> bool {
        self.transactional.contains(table)
    }

    /// The columns of a table that every new row has to give a value.
    pub(super) fn valueless<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a str> {
        self.valueless.iter().filter(move |(of, _)| of == table).map(|(_, column)| column.as_str())
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
        self.there.contains(&(table.to_owned(), column.to_owned()))
    }
}
