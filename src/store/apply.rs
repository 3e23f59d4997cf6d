//! Applies a plan in one transaction: rows and their owners together, or neither.
//!
//! A few rows go to the server as one packet, which is what somebody waits for who makes one mailbox; if the server refuses
//! it, and for many rows, it is statement by statement. New mailboxes need not be looked for first: where the tables' keys
//! refuse a second row, the attempt tells as much as the look ([`Store::insert_unseen`]).

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::columns::Columns;
use super::dialect::Dialect;
use super::names::Names;
use super::statement::{Statement, pieces, placeholders};
use super::{Error, Store, grants};
use crate::index::Key;
use crate::plan::{LogRow, Plan, RowId};
use crate::tables::{AdminRow, OwnerRow, Row, Table};

/// The user that the table log names; `PostfixAdmin` writes `user (address)`.
const LOG_USER: &str = "vmail-operator (operator)";

/// A transaction that the database gave up for another one's sake is tried so often in all.
const DEADLOCK_ATTEMPTS: usize = 3;

/// At most so much goes as one packet, bytes: some hundreds of rows. Beyond it a prepared statement is the faster way.
const AT_ONCE: usize = 512 << 10;

impl Store {
    /// Applies a plan. On an error nothing of it is in the database.
    ///
    /// # Errors
    /// [`Error::Database`] when a statement fails or the connection breaks.
    pub async fn apply(&mut self, plan: &Plan) -> Result<(), Error> {
        if plan.is_empty() {
            return Ok(());
        }
        let mut attempts = 1;
        loop {
            match self.attempt(plan).await {
                Err(error) if error.is_deadlock() && attempts < DEADLOCK_ATTEMPTS => attempts += 1,
                result => return result,
            }
        }
    }

    /// Whether inserting under `key` tells what reading would: each table that may have a row under it gets one of `tables`,
    /// and refuses a second.
    #[must_use]
    pub fn tells_by_inserting(&self, key: &Key, tables: &[Table]) -> bool {
        let mut asked = key.tables().iter().filter(|table| self.is_asked(**table));
        asked.all(|table| {
            tables.contains(table) && self.columns.refuses_second(table.as_str(), key_column(*table))
        })
    }

    /// Applies a plan that was made without a look at the tables: inserts and their owners, where [`Store::tells_by_inserting`].
    /// Gives whether they all are new; where one is not, nothing is written.
    ///
    /// # Errors
    /// [`Error::Database`] when the connection breaks.
    pub async fn insert_unseen(&mut self, plan: &Plan) -> Result<bool, Error> {
        self.note_ids(plan);
        let writer = Writer::new(&self.names, self.dialect, &self.columns, &self.server, Writing::New);
        if let Some(packet) = one_packet(writer.statements(plan)) {
            return at_once(&mut self.connection, packet).await;
        }
        let mut transaction = self.connection.begin().await?;
        for statement in writer.statements(plan) {
            match statement.prepared().execute(&mut *transaction).await {
                Ok(_) => {}
                Err(sqlx::Error::Database(_)) => {
                    transaction.rollback().await?;
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        transaction.commit().await?;
        Ok(true)
    }

    fn note_ids(&mut self, plan: &Plan) {
        self.ids_in_use |= plan.inserts.iter().any(|row| row.table() == Table::Id);
    }

    async fn attempt(&mut self, plan: &Plan) -> Result<(), Error> {
        self.note_ids(plan);
        let writer = Writer::new(&self.names, self.dialect, &self.columns, &self.server, Writing::Changed);
        let admins: Vec<&AdminRow> = plan.inserts.iter().chain(&plan.updates).filter_map(as_admin).collect();
        let gone = plan.deletes.iter().filter(|(table, _)| *table == Table::Admin);
        let gone: Vec<&str> = gone.map(|(_, username)| username.as_str()).collect();
        // The domains of an admin are read before they are written: that is no packet.
        if admins.is_empty()
            && gone.is_empty()
            && let Some(packet) = one_packet(writer.statements(plan))
            && at_once(&mut self.connection, packet).await?
        {
            return Ok(());
        }
        let mut transaction = self.connection.begin().await?;
        for statement in writer.statements(plan) {
            statement.prepared().execute(&mut *transaction).await?;
        }
        grants::write(&mut transaction, &self.names, &self.columns, &admins).await?;
        grants::delete(&mut transaction, &self.names, gone.into_iter()).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// The whole transaction as one text, if it is a small one.
fn one_packet<'q>(statements: impl Iterator<Item = Statement<'q>>) -> Option<String> {
    let mut packet = "START TRANSACTION;".to_owned();
    for statement in statements {
        if packet.len() + statement.weight() > AT_ONCE {
            return None;
        }
        packet.push_str(&statement.with_literals());
        packet.push(';');
    }
    packet.push_str("COMMIT");
    Some(packet)
}

/// Gives whether the server took it. It stops at the statement that it refuses, long before the COMMIT; the same statement by
/// statement tells by its error whether it is about a row.
async fn at_once(connection: &mut MySqlConnection, packet: String) -> Result<bool, Error> {
    match sqlx::raw_sql(AssertSqlSafe(packet)).execute(&mut *connection).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) => {
            tracing::debug!(
                code = error.code().as_deref(),
                "refused as one packet, trying statement by statement"
            );
            sqlx::raw_sql("ROLLBACK").execute(connection).await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// What is known of the rows that are written.
#[derive(Clone, Copy)]
enum Writing {
    /// They are not there. One that is, after all, is somebody else's: a plain INSERT is refused and harms nobody, where an
    /// ON DUPLICATE KEY UPDATE would take it over.
    New,
    /// They are there and ours.
    Changed,
}

/// How statements name tables and values.
#[derive(Clone, Copy)]
struct Writer<'a> {
    names: &'a Names,
    dialect: Dialect,
    columns: &'a Columns,
    /// The set loop that writes.
    server: &'a str,
    /// What is known of the rows of `vmail_owner`.
    owners: Writing,
}

impl<'a> Writer<'a> {
    fn new(
        names: &'a Names,
        dialect: Dialect,
        columns: &'a Columns,
        server: &'a str,
        owners: Writing,
    ) -> Self {
        Self { names, dialect, columns, server, owners }
    }

    /// What follows the values of an INSERT into a table with these columns, its key aside.
    fn updating<'c>(self, writing: Writing, columns: impl Iterator<Item = &'c str>) -> String {
        match writing {
            Writing::New => String::new(),
            Writing::Changed => {
                format!("{} ON DUPLICATE KEY UPDATE {}", self.dialect.alias(), self.dialect.updates(columns))
            }
        }
    }

    /// What brings a plan into the database, in the order in which it has to go there; made one by one.
    fn statements<'q>(self, plan: &'q Plan) -> impl Iterator<Item = Statement<'q>> + use<'a, 'q>
    where
        'a: 'q,
    {
        let writings = [(Writing::New, &plan.inserts), (Writing::Changed, &plan.updates)];
        let written = Table::ALL.into_iter().flat_map(move |table| {
            writings.into_iter().flat_map(move |(writing, rows)| {
                let rows: Vec<&Row> = rows.iter().filter(|row| row.table() == table).collect();
                write(self, table, writing, &rows)
            })
        });
        let deleted = Table::ALL.into_iter().rev().flat_map(move |table| {
            let ids: Vec<&RowId> = plan.deletes.iter().filter(|id| id.0 == table).collect();
            delete(self, table, &ids)
        });
        let logged: &[LogRow] = if self.columns.has("log", "action") { &plan.log } else { &[] };
        written
            .chain(own(self, &plan.owned))
            .chain(deleted)
            .chain(disown(self, &plan.disowned))
            .chain(log(self.names, logged))
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

fn write<'q>(writer: Writer<'_>, table: Table, writing: Writing, rows: &[&'q Row]) -> Vec<Statement<'q>> {
    let columns = writer.columns;
    let written = written(columns, table);
    let names = written.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(",");
    let values = format!("({})", written.iter().map(|(_, value)| *value).collect::<Vec<_>>().join(","));
    // The key and the time of creation stay as they are.
    let changed = written.iter().skip(1).filter(|(column, _)| *column != "created");
    let updating = writer.updating(writing, changed.map(|(column, _)| *column));
    let statement = |piece: &[&'q Row]| {
        let rows = vec![values.as_str(); piece.len()].join(",");
        let sql = format!("INSERT INTO {} ({names}) VALUES {rows}{updating}", writer.names.table(table));
        piece.iter().fold(Statement::new(sql), |statement, row| bind(statement, row, columns))
    };
    pieces(rows, |row| size(row)).into_iter().map(statement).collect()
}

fn as_admin(row: &Row) -> Option<&AdminRow> {
    match row {
        Row::Admin(row) => Some(row),
        _ => None,
    }
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
fn key_column(table: Table) -> &'static str {
    match table {
        Table::Domain => "domain",
        Table::AliasDomain => "alias_domain",
        Table::Mailbox | Table::Admin => "username",
        Table::Alias => "address",
        Table::Id => "row_key",
    }
}

/// Deletes rows that the server still owns when the statement gets there: another one with the same tables may have taken
/// them over since they were read. Their keys may be in mixed case, in any collation; those of `vmail_owner` are ours.
fn delete<'q>(writer: Writer<'q>, table: Table, ids: &[&'q RowId]) -> Vec<Statement<'q>> {
    let (key, name, owner) = (key_column(table), writer.names.table(table), writer.names.owner());
    let statement = |piece: &[&'q RowId]| {
        let sql = format!(
            "DELETE FROM {name} WHERE {key} IN ({}) AND EXISTS (SELECT 1 FROM {owner} o WHERE o.table_name = '{}' \
             AND o.row_key = CONVERT(LOWER({name}.{key}) USING utf8mb4) COLLATE utf8mb4_bin AND o.server = ?)",
            placeholders(piece.len()),
            table.as_str()
        );
        piece.iter().fold(Statement::new(sql), |statement, id| statement.bind(&id.1)).bind(writer.server)
    };
    pieces(ids, |id| id.1.len()).into_iter().map(statement).collect()
}

fn own<'q>(writer: Writer<'_>, owners: &'q [OwnerRow]) -> Vec<Statement<'q>> {
    let updating = writer.updating(writer.owners, OWNER_COLUMNS.into_iter().skip(2));
    let statement = |piece: &'q [OwnerRow]| {
        let rows = vec!["(?,?,?,?,?,?,?,?,?,?)"; piece.len()].join(",");
        let sql = format!(
            "INSERT INTO {} ({}) VALUES {rows}{updating}",
            writer.names.owner(),
            OWNER_COLUMNS.join(","),
        );
        piece.iter().fold(Statement::new(sql), |statement, owner| {
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
        })
    };
    pieces(owners, |owner| owner.goto.len() + 1024).into_iter().map(statement).collect()
}

/// Forgets rows that the server owns, after [`delete`] has looked for them.
fn disown<'q>(writer: Writer<'q>, ids: &'q [RowId]) -> Vec<Statement<'q>> {
    let statement = |piece: &'q [RowId]| {
        let pairs = vec!["(?,?)"; piece.len()].join(",");
        let owner = writer.names.owner();
        let sql = format!("DELETE FROM {owner} WHERE (row_key, table_name) IN ({pairs}) AND server = ?");
        piece
            .iter()
            .fold(Statement::new(sql), |statement, (table, key)| statement.bind(key).bind(table.as_str()))
            .bind(writer.server)
    };
    pieces(ids, |id| id.1.len()).into_iter().map(statement).collect()
}

fn log<'q>(names: &Names, rows: &'q [LogRow]) -> Vec<Statement<'q>> {
    let statement = |piece: &'q [LogRow]| {
        let values = vec!["(NOW(),?,?,?,?)"; piece.len()].join(",");
        let sql = format!(
            "INSERT INTO {} (timestamp, username, domain, action, data) VALUES {values}",
            names.of("log")
        );
        piece.iter().fold(Statement::new(sql), |statement, row| {
            statement.bind(LOG_USER).bind(&row.domain).bind(row.action).bind(&row.data)
        })
    };
    pieces(rows, |row| row.data.len() + 512).into_iter().map(statement).collect()
}
