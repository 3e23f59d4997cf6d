//! The database: connects, takes the lock, reads what is there, applies a plan. The only SQL.
//!
//! One connection does everything and holds `GET_LOCK`: losing it loses the lock and rolls back what was under way, so
//! two operators can never write at once. Many rows go in statements whose texts are few and of fixed sizes, so each is
//! prepared once; usually what is there is read in one packet, and a few rows are written in another.
//! What should be in the tables is none of this room's business.

mod apply;
mod columns;
mod dialect;
mod expiry;
mod grants;
mod kept;
mod names;
mod piecemeal;
mod read;
mod schema;
mod statement;
mod unchanged;
mod writer;

use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlSslMode};
use sqlx::{ConnectOptions, Connection};

use crate::tables::{SharedColumn, Table};
use columns::Columns;
use dialect::Dialect;
use names::Names;
pub use read::Owned;

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection takes at most to be ready for use, with tables to be made.
const OPEN_LIMIT: Duration = Duration::from_mins(1);

/// How long the answer to a ping may take.
const PING_LIMIT: Duration = Duration::from_secs(10);

/// How long a plan may take to be applied, or a question to be answered: longer than a server waits for a row that somebody
/// else holds (`innodb_lock_wait_timeout`, 50 s), so that it is the server that tells.
const STATEMENT_LIMIT: Duration = Duration::from_mins(1);

/// An idle connection is asked this often whether it still works: a database that was replaced is compared anew soon.
pub const PING_INTERVAL: Duration = Duration::from_secs(3);

/// How long the server keeps a connection of which it hears nothing, and with it the lock: that of an operator whose node
/// is gone. Seconds; its own default is eight hours.
const WAIT_TIMEOUT: u32 = 60;

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server can't be reached, refuses the account, or the connection broke.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// No answer in time.
    #[error("no answer from the database within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Somebody else has changed a row since it was read: the plan doesn't hold any more.
    #[error("somebody else changed a row while it was being written")]
    Changed,
    /// Another operator writes to the same tables.
    #[error("another operator holds the lock {0} in this database")]
    Locked(String),
    /// The database has tables of these names that are not `PostfixAdmin`'s.
    #[error("the database can't be used, it lacks: {}", .0.join(", "))]
    Unfit(Vec<String>),
}

impl Error {
    /// Whether one row's content was refused, so that the others of the same plan may pass: wrong or too long data, a
    /// broken constraint, what a trigger forbids. SQLSTATE classes 22, 23 and 45, and what `MySQL` has no class for: a CHECK,
    /// and text that a column's character set doesn't hold.
    #[must_use]
    pub fn is_about_a_row(&self) -> bool {
        const NOT_IN_CHARACTER_SET: [u16; 2] = [1366, 3988];
        const CHECK_VIOLATED: u16 = 3819;
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        let number = error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number);
        NOT_IN_CHARACTER_SET.contains(&number)
            || number == CHECK_VIOLATED
            || error
                .code()
                .is_some_and(|state| ["22", "23", "45"].iter().any(|class| state.starts_with(class)))
    }

    /// Whether the database gave a transaction up so that another one could end: the same again may pass. SQLSTATE 40001.
    fn is_deadlock(&self) -> bool {
        let Self::Database(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|state| state == "40001")
    }

    /// Whether the database answered and is not one that can be used: nothing to retry soon.
    #[must_use]
    pub fn is_unfit(&self) -> bool {
        matches!(self, Self::Unfit(_))
    }
}

/// Where the database is and how to log in. Its `Debug` shows no password.
#[derive(Clone)]
pub struct Access {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Name of the database.
    pub database: String,
    /// What stands before the name of each table: letters, digits and `_`; usually nothing.
    pub table_prefix: String,
    /// Account that writes.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Certificate of the authority (PEM) that signed the server's, which has to name the host; `None`: no TLS.
    pub tls: Option<Vec<u8>>,
    /// The account that is granted SELECT on the columns that Postfix reads; `None` where somebody else manages accounts.
    pub reader: Option<String>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}:{}/{}", self.username, self.host, self.port, self.database)
    }
}

impl Access {
    fn options(&self) -> MySqlConnectOptions {
        let options = MySqlConnectOptions::new()
            .host(&self.host)
            .port(self.port)
            .database(&self.database)
            .username(&self.username)
            .password(&self.password)
            // The driver's own choice is UTC; PostfixAdmin's times are the server's.
            .timezone(None::<String>)
            // A server's tables are written, asked and cleared with some 130 texts.
            .statement_cache_capacity(256)
            // Statements carry password hashes as parameters only, but slow ones are no news for an administrator either.
            .disable_statement_logging();
        match &self.tls {
            None => options.ssl_mode(MySqlSslMode::Disabled),
            Some(authority) => {
                options.ssl_ca_from_pem(authority.clone()).ssl_mode(MySqlSslMode::VerifyIdentity)
            }
        }
    }
}

/// An open database whose tables can be used and whose lock is ours.
#[derive(Debug)]
pub struct Store {
    connection: MySqlConnection,
    /// The set loop that writes, as installation/namespace/name.
    server: String,
    /// Name of the lock.
    lock: String,
    names: Names,
    dialect: Dialect,
    columns: Columns,
    /// Whether anything is in `vmail_id`: most servers have one owner for all mail, and need not ask.
    ids_in_use: bool,
}

impl Store {
    /// Connects, takes the lock of `server` (installation/namespace/name), makes the tables of an empty database and
    /// checks those of another.
    ///
    /// # Errors
    /// [`Error`]; nothing is altered in a table that the operator didn't make.
    pub async fn open(access: &Access, server: &str) -> Result<Self, Error> {
        let names = Names::new(&access.table_prefix)
            .ok_or_else(|| Error::Unfit(vec!["a table prefix of letters, digits and _".to_owned()]))?;
        let options = access.options();
        let connection = tokio::time::timeout(CONNECT_TIMEOUT, options.connect())
            .await
            .map_err(|_| Error::Timeout(CONNECT_TIMEOUT))??;
        within(OPEN_LIMIT, Self::over(connection, access, names, server)).await
    }

    async fn over(
        mut connection: MySqlConnection,
        access: &Access,
        names: Names,
        server: &str,
    ) -> Result<Self, Error> {
        let lock = lock(&mut connection, access, server).await?;
        let columns = schema::ensure(&mut connection, &names).await?;
        if let Some(reader) = &access.reader {
            schema::grant(&mut connection, &names, reader).await?;
        }
        if !writer::leaves_out(&columns) {
            be_strict(&mut connection).await?;
        }
        let count = format!("SELECT COUNT(*) FROM {}", names.table(Table::Id));
        let ids: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&mut connection).await?;
        let version: String =
            sqlx::query_scalar("SELECT CAST(VERSION() AS CHAR)").fetch_one(&mut connection).await?;
        let server = server.to_owned();
        Ok(Self {
            connection,
            server,
            lock,
            names,
            dialect: Dialect::of(&version),
            columns,
            ids_in_use: ids > 0,
        })
    }

    /// Columns that an object may name and the tables don't have.
    #[must_use]
    pub fn absent_columns(&self) -> Vec<(Table, SharedColumn)> {
        self.columns.absent()
    }

    /// What the database lacks to hold admins, as in `table admin`; empty where it can.
    #[must_use]
    pub fn lacking_for_admins(&self) -> Vec<String> {
        self.columns.lacking_for_admins()
    }

    /// Asks the server whether the connection still works.
    ///
    /// # Errors
    /// [`Error::Database`] and [`Error::Timeout`] where it doesn't.
    pub async fn ping(&mut self) -> Result<(), Error> {
        within(PING_LIMIT, async { Ok(self.connection.ping().await?) }).await
    }

    /// Waits for something else than the database, and keeps the connection: the server lets go of one that is silent.
    ///
    /// # Errors
    /// Those of [`Store::ping`].
    pub async fn kept_during<T>(&mut self, other: impl Future<Output = T>) -> Result<T, Error> {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return Ok(done),
                () = tokio::time::sleep(PING_INTERVAL) => self.ping().await?,
            }
        }
    }

    /// Gives the lock back and closes the connection.
    pub async fn close(mut self) {
        let closed = within(PING_LIMIT, async {
            // The server notices the end of a connection in its own time; who comes next need not wait for that.
            sqlx::query("DO RELEASE_LOCK(?)").bind(&self.lock).execute(&mut self.connection).await?;
            Ok(self.connection.close().await?)
        });
        if let Err(error) = closed.await {
            tracing::debug!(%error, "the database connection did not close in order, its lock ends with it");
        }
    }
}

/// Waits for the database, but not for ever. What is not waited for any more leaves the connection in the middle of something.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, work).await.map_err(|_| Error::Timeout(limit))?
}

/// Has the server refuse a value that doesn't fit its column, where it would cut it off.
async fn be_strict(connection: &mut MySqlConnection) -> Result<(), Error> {
    let sql = "SET SESSION sql_mode = CONCAT(@@SESSION.sql_mode, ',STRICT_ALL_TABLES')";
    sqlx::raw_sql(sql).execute(connection).await?;
    Ok(())
}

/// Takes the lock of `server`; gives its name.
async fn lock(connection: &mut MySqlConnection, access: &Access, server: &str) -> Result<String, Error> {
    // Lock names are shared by all databases of a server, and have at most 64 characters.
    let name = format!(
        "vmail-operator:{}",
        crate::plan::fingerprint::digest(&[&access.database, &access.table_prefix, server])
    );
    let let_go = format!("SET SESSION wait_timeout = {WAIT_TIMEOUT}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(let_go)).execute(&mut *connection).await?;
    let taken: Option<i64> =
        sqlx::query_scalar("SELECT GET_LOCK(?, 0)").bind(&name).fetch_one(connection).await?;
    if taken == Some(1) { Ok(name) } else { Err(Error::Locked(name)) }
}
