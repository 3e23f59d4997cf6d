//! A plan as statements: which columns are written, and in which order.

use super::columns::Columns;
use super::dialect::Dialect;
use super::expiry::{self, Renewed};
use super::names::Names;
use super::statement::{Statement, pieces, placeholders};
use crate::plan::{LogRow, Plan, RowId};
use crate::tables::{OwnerRow, Row, Table};

/// The user that the table log names; `PostfixAdmin` writes `user (address)`.
const LOG_USER: &str = "vmail-operator (operator)";

/// What is known of the rows that are written.
#[derive(Clone, Copy)]
pub(super) enum Writing {
    /// They are not there. One that is, after all, is somebody else's: a plain INSERT is refused and harms nobody, where an
    /// ON DUPLICATE KEY UPDATE would take it over.
    New,
    /// They are there and ours.
    Changed,
}

/// How statements name tables and values.
#[derive(Clone, Copy)]
pub(super) struct Writer<'a> {
    pub(super) names: &'a Names,
    pub(super) dialect: Dialect,
    pub(super) columns: &'a Columns,
    /// The set loop that writes.
    pub(super) server: &'a str,
    /// What is known of the rows of `vmail_owner`.
    pub(super) owners: Writing,
}

impl<'a> Writer<'a> {
    /// What follows the values of an INSERT into a table with these columns, its key aside.
    fn updating<'c>(self, writing: Writing, columns: impl Iterator<Item = &'c str>) -> String {
        match writing {
            Writing::New => String::new(),
            Writing::Changed => {
                format!("{} ON DUPLICATE KEY UPDATE {}", self.dialect.alias(), self.dialect.updates(columns))
            }
        }
    }

    /// What brings a plan into the database, in the order in which it has to go there.
    pub(super) fn statements(self, plan: &'a Plan) -> Vec<Statement<'a>> {
        let written = Table::ALL.into_iter().flat_map(move |table| {
            let is_of_table = |row: &&Row| row.table() == table;
            let mut new: Vec<&Row> = plan.inserts.iter().filter(is_of_table).collect();
            // A server is quicker with rows in the order of their key.
            new.sort_unstable_by_key(|row| row.key());
            let changed: Vec<&Row> =
                plan.updates.iter().map(|update| &update.row).filter(is_of_table).collect();
            let new = self.write(table, Writing::New, &new);
            new.into_iter().chain(self.write(table, Writing::Changed, &changed))
        });
        written
            .chain(self.own(&plan.owned))
            .chain(self.delete(&plan.deletes))
            .chain(self.disown(&plan.disowned))
            .chain(self.log(&plan.log))
            .collect()
    }

    /// Writes rows of one table.
    pub(super) fn write<'q>(self, table: Table, writing: Writing, rows: &[&'q Row]) -> Vec<Statement<'q>> {
        let renew = |renewed| expiry::renew(self.names, self.columns, rows, renewed).into_iter();
        let written = self.insert(table, writing, rows);
        match (table, writing) {
            (Table::Mailbox, Writing::New) => written.into_iter().chain(renew(Renewed::All)).collect(),
            (Table::Mailbox, Writing::Changed) => renew(Renewed::Changed).chain(written).collect(),
            _ => written,
        }
    }

    fn insert<'q>(self, table: Table, writing: Writing, rows: &[&'q Row]) -> Vec<Statement<'q>> {
        let written = written(self.columns, table);
        let names = written.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(",");
        let values = format!("({})", written.iter().map(|(_, value)| *value).collect::<Vec<_>>().join(","));
        // The key and the time of creation stay as they are.
        let changed = written.iter().skip(1).filter(|(column, _)| *column != "created");
        let updating = self.updating(writing, changed.map(|(column, _)| *column));
        let statement = |piece: &[&'q Row]| {
            let rows = vec![values.as_str(); piece.len()].join(",");
            let sql = format!("INSERT INTO {} ({names}) VALUES {rows}{updating}", self.names.table(table));
            piece.iter().fold(Statement::new(sql), |statement, row| bind(statement, row, self.columns))
        };
        pieces(rows, |row| size(row)).into_iter().map(statement).collect()
    }

    /// Deletes rows that the server still owns when the statement gets there: another one with the same tables may have taken
    /// them over since they were read. Their keys may be in mixed case, in any collation; those of `vmail_owner` are ours.
    /// The order is opposite to that in which they are written.
    pub(super) fn delete(self, ids: &'a [RowId]) -> impl Iterator<Item = Statement<'a>> + use<'a> {
        Table::ALL.into_iter().rev().flat_map(move |table| {
            let keys: Vec<&str> = ids.iter().filter(|id| id.0 == table).map(|id| id.1.as_str()).collect();
            let (key, name, owner) = (key_column(table), self.names.table(table), self.names.owner());
            let statement = |piece: &[&'a str]| {
                let sql = format!(
                    "DELETE FROM {name} WHERE {key} IN ({}) AND EXISTS (SELECT 1 FROM {owner} o WHERE o.table_name = '{}' \
                     AND o.row_key = CONVERT(LOWER({name}.{key}) USING utf8mb4) COLLATE utf8mb4_bin AND o.server = ?)",
                    placeholders(piece.len()),
                    table.as_str()
                );
                piece.iter().fold(Statement::new(sql), |statement, key| statement.bind(*key)).bind(self.server)
            };
            pieces(&keys, |key| key.len()).into_iter().map(statement).collect::<Vec<_>>()
        })
    }

    /// Records owners.
    pub(super) fn own<'q>(self, owners: &'q [OwnerRow]) -> Vec<Statement<'q>> {
        let updating = self.updating(self.owners, OWNER_COLUMNS.into_iter().skip(2));
        let mut owners: Vec<&OwnerRow> = owners.iter().collect();
        owners.sort_unstable_by_key(|owner| (&owner.key, owner.table));
        let statement = |piece: &[&'q OwnerRow]| {
            let rows = vec!["(?,?,?,?,?,?,?,?,?,?)"; piece.len()].join(",");
            let columns = OWNER_COLUMNS.join(",");
            let sql = format!("INSERT INTO {} ({columns}) VALUES {rows}{updating}", self.names.owner());
            piece.iter().fold(Statement::new(sql), |statement, owner| bind_owner(statement, owner))
        };
        pieces(&owners, |owner| owner.goto.len() + 1024).into_iter().map(statement).collect()
    }

    /// Forgets rows that the server owns, after [`Writer::delete`] has looked for them.
    pub(super) fn disown(self, ids: &'a [RowId]) -> Vec<Statement<'a>> {
        let statement = |piece: &'a [RowId]| {
            let pairs = vec!["(?,?)"; piece.len()].join(",");
            let owner = self.names.owner();
            let sql = format!("DELETE FROM {owner} WHERE (row_key, table_name) IN ({pairs}) AND server = ?");
            piece
                .iter()
                .fold(Statement::new(sql), |statement, (table, key)| statement.bind(key).bind(table.as_str()))
                .bind(self.server)
        };
        pieces(ids, |id| id.1.len()).into_iter().map(statement).collect()
    }

    /// Writes `PostfixAdmin`'s log, where there is one.
    pub(super) fn log<'q>(self, rows: &'q [LogRow]) -> Vec<Statement<'q>> {
        if !self.columns.has("log", "action") {
            return Vec::new();
        }
        let statement = |piece: &'q [LogRow]| {
            let values = vec!["(NOW(),?,?,?,?)"; piece.len()].join(",");
            let sql = format!(
                "INSERT INTO {} (timestamp, username, domain, action, data) VALUES {values}",
                self.names.of("log")
            );
            piece.iter().fold(Statement::new(sql), |statement, row| {
                statement.bind(LOG_USER).bind(&row.domain).bind(row.action).bind(&row.data)
            })
        };
        pieces(rows, |row| row.data.len() + 512).into_iter().map(statement).collect()
    }
}

/// The columns of `vmail_owner`, its key first.
const OWNER_COLUMNS: [&str; 10] = [
    "row_key",
    "table_name",
    "server",
    "object_uid",
    "object",
    "policy",
    "desired",
    "password",
    "goto",
    "named",
];

/// Columns that are written, and the SQL value of each: `?`, or an expression without a parameter.
fn written(columns: &Columns, table: Table) -> Vec<(&'static str, &'static str)> {
    let bound: &[&str] = match table {
        Table::Domain => &[
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
        Table::AliasDomain => &["alias_domain", "target_domain", "active"],
        Table::Mailbox => {
            &["username", "password", "name", "maildir", "quota", "local_part", "domain", "active"]
        }
        Table::Id => &["row_key", "uid", "gid"],
        Table::Admin => &["username", "password", "superadmin", "active"],
        Table::Alias => &["address", "goto", "domain", "description", "active"],
    };
    let bound = bound.iter().map(|column| (*column, "?"));
    let dated = ["created", "modified"].into_iter().map(|column| (column, "NOW()"));
    bound.chain(dated).filter(|(column, _)| columns.has(table.as_str(), column)).collect()
}

/// Whether the tables have a column that is not written and wants a value: a server that is strict about values takes no row
/// then.
pub(super) fn leaves_out(columns: &Columns) -> bool {
    let is_left_out = |table: Table| {
        let written = written(columns, table);
        let mut valueless = columns.valueless(table.as_str());
        valueless.any(|column| !written.iter().any(|(name, _)| *name == column))
    };
    Table::ALL.into_iter().any(is_left_out)
}

/// Bytes of a row's long columns; the others are covered by a constant.
fn size(row: &Row) -> usize {
    let long = match row {
        Row::Alias(row) => row.goto.len(),
        Row::Mailbox(row) => row.password.len() + row.maildir.len(),
        Row::Domain(row) => row.description.len(),
        Row::Admin(row) => row.password.len(),
        Row::AliasDomain(_) | Row::Id(_) => 0,
    };
    long + 1024
}

fn bind<'q>(query: Statement<'q>, row: &'q Row, columns: &Columns) -> Statement<'q> {
    match row {
        Row::Domain(row) => query
            .bind(&row.domain)
            .bind(&row.description)
            .bind(&row.transport)
            .bind(row.backupmx)
            .bind(row.aliases)
            .bind(row.mailboxes)
            .bind(row.maxquota)
            .bind(row.quota)
            .bind(row.active),
        Row::AliasDomain(row) => query.bind(&row.alias_domain).bind(&row.target_domain).bind(row.active),
        Row::Mailbox(row) => {
            let mut query = query
                .bind(&row.username)
                .bind(&row.password)
                .bind(&row.name)
                .bind(&row.maildir)
                .bind(row.quota);
            if columns.has("mailbox", "local_part") {
                query = query.bind(&row.local_part);
            }
            query.bind(&row.domain).bind(row.active)
        }
        Row::Id(row) => query.bind(&row.key).bind(row.uid).bind(row.gid),
        Row::Admin(row) => {
            let mut query = query.bind(&row.username).bind(&row.password);
            if columns.has("admin", "superadmin") {
                query = query.bind(row.superadmin);
            }
            query.bind(row.active)
        }
        Row::Alias(row) => {
            let mut query = query.bind(&row.address).bind(&row.goto).bind(&row.domain);
            if columns.has("alias", "description") {
                query = query.bind(&row.description);
            }
            query.bind(row.active)
        }
    }
}

/// The column that rows are found by.
pub(super) fn key_column(table: Table) -> &'static str {
    match table {
        Table::Domain => "domain",
        Table::AliasDomain => "alias_domain",
        Table::Mailbox | Table::Admin => "username",
        Table::Alias => "address",
        Table::Id => "row_key",
    }
}

fn bind_owner<'q>(statement: Statement<'q>, owner: &'q OwnerRow) -> Statement<'q> {
    statement
        .bind(&owner.key)
        .bind(owner.table.as_str())
        .bind(&owner.server)
        .bind(&owner.object_uid)
        .bind(&owner.object)
        .bind(owner.policy.as_str())
        .bind(&owner.desired)
        .bind(&owner.password)
        .bind(&owner.goto)
        .bind(&owner.named)
}
