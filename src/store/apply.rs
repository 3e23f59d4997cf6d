//! Applies a plan in one transaction: rows and their owners together, or neither. Tables without transactions take it
//! [`piecemeal`].
//!
//! A few rows go to the server as one packet, which is what somebody waits for who makes one mailbox; if the server refuses
//! it, and for many rows, it is statement by statement. New mailboxes need not be looked for first: where the tables' keys
//! refuse a second row, the attempt tells as much as the look ([`Store::insert_unseen`]).

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::statement::{Statement, one_packet};
use super::writer::{Writer, Writing, key_column};
use super::{Error, STATEMENT_LIMIT, Store, grants, piecemeal, within};
use crate::index::Key;
use crate::plan::Plan;
use crate::tables::{AdminRow, Row, Table};

/// A transaction that the database gave up for another one's sake is tried so often in all.
const DEADLOCK_ATTEMPTS: usize = 3;

impl Store {
    /// Applies a plan. On an error nothing of it is in the database; where tables have no transactions, rows without their
    /// owners are not.
    ///
    /// # Errors
    /// [`Error::Changed`] when the plan doesn't hold any more: tables without transactions don't tell.
    /// [`Error::Database`] when a statement fails or the connection breaks, [`Error::Timeout`]: the connection is of no use
    /// then.
    pub async fn apply(&mut self, plan: &Plan) -> Result<(), Error> {
        if plan.is_empty() {
            return Ok(());
        }
        within(STATEMENT_LIMIT, self.apply_at_last(plan)).await
    }

    async fn apply_at_last(&mut self, plan: &Plan) -> Result<(), Error> {
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
    /// [`Error::Database`] when the connection breaks, [`Error::Timeout`]: it is of no use then.
    pub async fn insert_unseen(&mut self, plan: &Plan) -> Result<bool, Error> {
        self.note_ids(plan);
        within(STATEMENT_LIMIT, self.insert_if_new(plan)).await
    }

    async fn insert_if_new(&mut self, plan: &Plan) -> Result<bool, Error> {
        let (connection, writer) = self.writer(Writing::New);
        let statements = writer.statements(plan);
        if let Some(packet) = one_transaction(&statements) {
            return at_once(connection, packet).await;
        }
        let mut transaction = connection.begin().await?;
        for statement in statements {
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

    /// The connection, and what makes statements for it.
    fn writer(&mut self, owners: Writing) -> (&mut MySqlConnection, Writer<'_>) {
        let Self { connection, server, names, dialect, columns, .. } = self;
        (connection, Writer { names, dialect: *dialect, columns, server, owners })
    }

    fn note_ids(&mut self, plan: &Plan) {
        self.ids_in_use |= plan.written().any(|row| row.table() == Table::Id)
            || plan.owned.iter().any(|owner| owner.table == Table::Id);
    }

    async fn attempt(&mut self, plan: &Plan) -> Result<(), Error> {
        self.note_ids(plan);
        let (connection, writer) = self.writer(Writing::Changed);
        let admins = Admins::of(plan);
        if piecemeal::is_needed(writer.columns, plan) {
            return piecemeal::apply(connection, writer, plan, &admins).await;
        }
        // What is there is read before it is written: rows that change, and the domains of an admin. That is no packet.
        if plan.updates.is_empty()
            && admins.is_empty()
            && let Some(packet) = one_transaction(&writer.statements(plan))
            && at_once(connection, packet).await?
        {
            return Ok(());
        }
        sqlx::raw_sql("START TRANSACTION").execute(&mut self.connection).await?;
        let written = self.in_transaction(plan, &admins).await;
        let is_over = match &written {
            Ok(()) => "COMMIT",
            Err(Error::Changed | Error::Database(sqlx::Error::Database(_))) => "ROLLBACK",
            // The connection is of no use any more, and with it the transaction ends.
            Err(_) => return written,
        };
        sqlx::raw_sql(is_over).execute(&mut self.connection).await?;
        written
    }

    async fn in_transaction(&mut self, plan: &Plan, admins: &Admins<'_>) -> Result<(), Error> {
        self.lock_unchanged(&plan.updates).await?;
        let (connection, writer) = self.writer(Writing::Changed);
        for statement in writer.statements(plan) {
            statement.prepared().execute(&mut *connection).await?;
        }
        admins.write(connection, writer).await
    }
}

/// The admins whose domains a plan changes.
pub(super) struct Admins<'q> {
    written: Vec<&'q AdminRow>,
    gone: Vec<&'q str>,
}

impl<'q> Admins<'q> {
    fn of(plan: &'q Plan) -> Self {
        let admin = |row: &'q Row| match row {
            Row::Admin(row) => Some(row),
            _ => None,
        };
        let gone = plan.deletes.iter().filter(|(table, _)| *table == Table::Admin);
        Self {
            written: plan.written().filter_map(admin).collect(),
            gone: gone.map(|(_, username)| username.as_str()).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.written.is_empty() && self.gone.is_empty()
    }

    /// Gives them their domains.
    pub(super) async fn write(
        &self,
        connection: &mut MySqlConnection,
        writer: Writer<'_>,
    ) -> Result<(), Error> {
        grants::write(connection, writer.names, writer.columns, &self.written).await?;
        grants::delete(connection, writer.names, self.gone.iter().copied()).await
    }
}

/// The whole transaction as one text, if it is a small one.
fn one_transaction(statements: &[Statement<'_>]) -> Option<String> {
    one_packet(statements).map(|text| format!("START TRANSACTION;{text};COMMIT"))
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
