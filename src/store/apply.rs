//! Applies a plan in one transaction: rows and their owners together, or neither.

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::columns::Columns;
use super::dialect::Dialect;
use super::names::Names;
use super::statement::{pieces, placeholders};
use super::{Arguments, Error, Store, grants};
use crate::plan::{LogRow, Plan, RowId};
use crate::tables::{AdminRow, OwnerRow, Row, Table};

/// The user that the table log names; `PostfixAdmin` writes `user (address)`.
const LOG_USER: &str = "vmail-operator (operator)";

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

    async fn attempt(&mut self, plan: &Plan) -> Result<(), Error> {
        self.ids_in_use |= plan.inserts.iter().any(|row| row.table() == Table::Id);
        let writer = Writer { names: &self.names, dialect: self.dialect, columns: &self.columns };
        let mut transaction = self.connection.begin().await?;
        for table in Table::ALL {
            for (writing, rows) in [(Writing::New, &plan.inserts), (Writing::Changed, &plan.updates)] {
                let rows: Vec<&Row> = rows.iter().filter(|row| row.table() == table).collect();
                write(&mut transaction, &writer, table, writing, &rows).await?;
            }
        }
        let admins = plan.inserts.iter().chain(&plan.updates).filter_map(as_admin).collect::<Vec<_>>();
        grants::write(&mut transaction, &self.names, &self.columns, &admins).await?;
        let gone = plan.deletes.iter().filter(|(table, _)| *table == Table::Admin);
        grants::delete(&mut transaction, &self.names, gone.map(|(_, username)| username.as_str())).await?;
        for table in Table::ALL.into_iter().rev() {
            let keys: Vec<&RowId> = plan.deletes.iter().filter(|id| id.0 == table).collect();
            delete(&mut transaction, &self.names, table, &keys).await?;
        }
        own(&mut transaction, &writer, &plan.owned).await?;
        disown(&mut transaction, &self.names, &plan.disowned).await?;
        if self.columns.has("log", "action") {
            log(&mut transaction, &self.names, &plan.log).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// A transaction that the database gave up for another one's sake is tried so often in all.
const DEADLOCK_ATTEMPTS: usize = 3;

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
struct Writer<'a> {
    names: &'a Names,
    dialect: Dialect,
    columns: &'a Columns,
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

async fn write(
    connection: &mut MySqlConnection,
    Writer { names: names_of, dialect, columns }: &Writer<'_>,
    table: Table,
    writing: Writing,
    rows: &[&Row],
) -> Result<(), Error> {
    let written = written(columns, table);
    let names = written.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(",");
    let values = format!("({})", written.iter().map(|(_, value)| *value).collect::<Vec<_>>().join(","));
    // The key and the time of creation stay as they are.
    let changed = written.iter().skip(1).filter(|(column, _)| *column != "created");
    let updating = match writing {
        Writing::New => String::new(),
        Writing::Changed => format!(
            "{} ON DUPLICATE KEY UPDATE {}",
            dialect.alias(),
            dialect.updates(changed.map(|(column, _)| *column))
        ),
    };
    for piece in pieces(rows, |row| size(row)) {
        let rows = vec![values.as_str(); piece.len()].join(",");
        let sql = format!("INSERT INTO {} ({names}) VALUES {rows}{updating}", names_of.table(table));
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for row in piece {
            query = bind(query, row, columns);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
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

fn bind<'q>(query: Arguments<'q>, row: &'q Row, columns: &Columns) -> Arguments<'q> {
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

async fn delete(
    connection: &mut MySqlConnection,
    names: &Names,
    table: Table,
    ids: &[&RowId],
) -> Result<(), Error> {
    let key = match table {
        Table::Domain => "domain",
        Table::AliasDomain => "alias_domain",
        Table::Mailbox | Table::Admin => "username",
        Table::Alias => "address",
        Table::Id => "row_key",
    };
    for piece in pieces(ids, |id| id.1.len()) {
        let sql =
            format!("DELETE FROM {} WHERE {key} IN ({})", names.table(table), placeholders(piece.len()));
        let query = piece.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, id| query.bind(&id.1));
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn own(
    connection: &mut MySqlConnection,
    Writer { names, dialect, .. }: &Writer<'_>,
    owners: &[OwnerRow],
) -> Result<(), Error> {
    for piece in pieces(owners, |owner| owner.goto.len() + 1024) {
        let rows = vec!["(?,?,?,?,?,?,?,?,?,?)"; piece.len()].join(",");
        let sql = format!(
            "INSERT INTO {} ({}) VALUES {rows}{} ON DUPLICATE KEY UPDATE {}",
            names.owner(),
            OWNER_COLUMNS.join(","),
            dialect.alias(),
            dialect.updates(OWNER_COLUMNS.into_iter().skip(2))
        );
        let query = piece.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, owner| {
            query
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
        });
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn disown(connection: &mut MySqlConnection, names: &Names, ids: &[RowId]) -> Result<(), Error> {
    for piece in pieces(ids, |id| id.1.len()) {
        let pairs = vec!["(?,?)"; piece.len()].join(",");
        let sql = format!("DELETE FROM {} WHERE (row_key, table_name) IN ({pairs})", names.owner());
        let query = piece.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, (table, key)| {
            query.bind(key).bind(table.as_str())
        });
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn log(connection: &mut MySqlConnection, names: &Names, rows: &[LogRow]) -> Result<(), Error> {
    for piece in pieces(rows, |row| row.data.len() + 512) {
        let values = vec!["(NOW(),?,?,?,?)"; piece.len()].join(",");
        let sql = format!(
            "INSERT INTO {} (timestamp, username, domain, action, data) VALUES {values}",
            names.of("log")
        );
        let query = piece.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, row| {
            query.bind(LOG_USER).bind(&row.domain).bind(row.action).bind(&row.data)
        });
        query.execute(&mut *connection).await?;
    }
    Ok(())
}
