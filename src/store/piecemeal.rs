//! A plan for tables without transactions: `PostfixAdmin` made `MyISAM` tables for years, and nothing is undone there.
//!
//! So that no row of ours is ever without its owner, whenever the connection is cut, a new row is claimed before it is
//! there, and a deleted one let go of after it is gone. An owner without a row is what drift leaves as well; the
//! fingerprint of a claim is empty, so that nobody is told of drift for it. Rows go one by one: of many in one statement
//! nobody could tell which are there when one was refused.

use std::collections::BTreeSet;

use sqlx::Connection;
use sqlx::mysql::MySqlConnection;

use super::Error;
use super::apply::Admins;
use super::columns::Columns;
use super::statement::Statement;
use super::writer::{Writer, Writing};
use crate::plan::{Plan, RowId};
use crate::tables::{OwnerRow, Row, Table};

/// Whether a plan changes a table without transactions.
pub(super) fn is_needed(columns: &Columns, plan: &Plan) -> bool {
    let written = plan.written().map(Row::table);
    let mut tables = written.chain(plan.deletes.iter().map(|(table, _)| *table));
    tables.any(|table| !columns.has_transactions(table.as_str()))
}

/// Applies a plan. On an error that the server tells nothing new is left; a connection that breaks leaves rows with owners.
pub(super) async fn apply(
    connection: &mut MySqlConnection,
    writer: Writer<'_>,
    plan: &Plan,
    admins: &Admins<'_>,
) -> Result<(), Error> {
    let claims = claims(plan);
    in_transaction(connection, writer.own(&claims)).await?;
    let mut inserted = Vec::new();
    let written = write(connection, writer, plan, admins, &mut inserted).await;
    if let Err(Error::Database(sqlx::Error::Database(_))) = written {
        undo(connection, writer, &inserted, &claims).await?;
    }
    written?;
    let mut owners = writer.own(&plan.owned);
    owners.extend(writer.disown(&plan.disowned));
    owners.extend(writer.log(&plan.log));
    in_transaction(connection, owners).await
}

/// The owners of rows that are not there yet, without the fingerprint of what was written.
fn claims(plan: &Plan) -> Vec<OwnerRow> {
    let new: BTreeSet<(Table, &str)> = plan.inserts.iter().map(|row| (row.table(), row.key())).collect();
    let claimed = plan.owned.iter().filter(|owner| new.contains(&(owner.table, owner.key.as_str())));
    claimed.map(|owner| OwnerRow { desired: String::new(), ..owner.clone() }).collect()
}

/// `inserted` gets the rows that were not there before.
async fn write(
    connection: &mut MySqlConnection,
    writer: Writer<'_>,
    plan: &Plan,
    admins: &Admins<'_>,
    inserted: &mut Vec<RowId>,
) -> Result<(), Error> {
    for table in Table::ALL {
        for row in plan.inserts.iter().filter(|row| row.table() == table) {
            let mut insert = writer.write(table, Writing::New, &[row]);
            let after = insert.split_off(insert.len().min(1));
            execute(connection, insert).await?;
            inserted.push((table, row.key().to_owned()));
            execute(connection, after).await?;
        }
        let updates = plan.updates.iter().map(|update| &update.row);
        let changed: Vec<&Row> = updates.filter(|row| row.table() == table).collect();
        execute(connection, writer.write(table, Writing::Changed, &changed)).await?;
    }
    execute(connection, writer.delete(&plan.deletes).collect()).await?;
    admins.write(connection, writer).await
}

async fn undo(
    connection: &mut MySqlConnection,
    writer: Writer<'_>,
    inserted: &[RowId],
    claims: &[OwnerRow],
) -> Result<(), Error> {
    let claimed: Vec<RowId> = claims.iter().map(|owner| (owner.table, owner.key.clone())).collect();
    execute(connection, writer.delete(inserted).collect()).await?;
    execute(connection, writer.disown(&claimed)).await
}

async fn in_transaction(
    connection: &mut MySqlConnection,
    statements: Vec<Statement<'_>>,
) -> Result<(), Error> {
    let mut transaction = connection.begin().await?;
    execute(&mut transaction, statements).await?;
    Ok(transaction.commit().await?)
}

async fn execute(connection: &mut MySqlConnection, statements: Vec<Statement<'_>>) -> Result<(), Error> {
    for statement in statements {
        statement.prepared().execute(&mut *connection).await?;
    }
    Ok(())
}
