//! What rows need of Postfix's configuration, whoever wrote them.

use sqlx::{AssertSqlSafe, Row as _};

use super::{Error, STATEMENT_LIMIT, Store, within};
use crate::tables::{ALL_DOMAINS, IdRow, Table};

impl Store {
    /// Whether some domain has a transport of its own or is switched off. Looks at every domain until one is.
    ///
    /// # Errors
    /// [`Error::Database`] when the connection breaks, [`Error::Timeout`]: it is of no use then.
    pub async fn has_transports(&mut self) -> Result<bool, Error> {
        let domain = self.names.table(Table::Domain);
        self.exists(format!(
            "SELECT 1 FROM {domain} WHERE domain <> '{ALL_DOMAINS}' AND (active = 0 OR transport NOT IN ('', 'virtual'))"
        ))
        .await
    }

    /// Whether an alias stands for a mailbox that is switched off, so that its mail would be accepted. Looks at every mailbox
    /// until one does.
    ///
    /// # Errors
    /// As [`Store::has_transports`].
    pub async fn has_disabled(&mut self) -> Result<bool, Error> {
        let (mailbox, alias) = (self.names.table(Table::Mailbox), self.names.table(Table::Alias));
        let found = self
            .exists(format!(
                "SELECT 1 FROM {mailbox} AS m JOIN {alias} AS a ON a.address = m.username WHERE m.active = 0 AND a.active = 1"
            ))
            .await;
        match found {
            // Columns of two character sets, say, which can't be compared: a look-up too many harms nobody.
            Err(Error::Database(sqlx::Error::Database(_))) => Ok(true),
            found => found,
        }
    }

    async fn exists(&mut self, sql: String) -> Result<bool, Error> {
        let sql = AssertSqlSafe(format!("SELECT EXISTS({sql})"));
        within(STATEMENT_LIMIT, async {
            Ok(sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut self.connection).await? != 0)
        })
        .await
    }

    /// All rows that name an owner of mail.
    ///
    /// # Errors
    /// As [`Store::has_transports`].
    pub async fn ids(&mut self) -> Result<Vec<IdRow>, Error> {
        if !self.ids_in_use {
            return Ok(Vec::new());
        }
        let sql = AssertSqlSafe(format!("SELECT row_key, uid, gid FROM {}", self.names.table(Table::Id)));
        within(STATEMENT_LIMIT, async {
            let rows = sqlx::query(sql).fetch_all(&mut self.connection).await?;
            let row = |row: &sqlx::mysql::MySqlRow| {
                Ok(IdRow { key: row.try_get(0)?, uid: row.try_get(1)?, gid: row.try_get(2)? })
            };
            rows.iter().map(row).collect()
        })
        .await
    }
}
