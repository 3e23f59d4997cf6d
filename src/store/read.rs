//! Reads what is in the tables under given keys.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::statement::{padded, placeholders};
use super::{Arguments, Error, Store, grants};
use crate::api::DeletionPolicy;
use crate::index::Key;
use crate::plan::{Current, RowId};
use crate::report::Counts;
use crate::tables::{AdminRow, AliasDomainRow, AliasRow, DomainRow, IdRow, MailboxRow, OwnerRow, Row, Table};

/// The keys and policies of the rows that a server owns: enough to see what has to go.
pub type OwnedKeys = BTreeMap<Key, DeletionPolicy>;

impl Store {
    /// The rows and owners under the given keys.
    ///
    /// # Errors
    /// [`Error::Database`] when the connection breaks.
    pub async fn read(&mut self, keys: &[&Key]) -> Result<Current, Error> {
        let mut current = Current::default();
        let texts: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
        for table in Table::ALL.into_iter().filter(|table| self.is_asked(*table)).collect::<Vec<_>>() {
            let held = keys.iter().filter(|key| key.tables().contains(&table));
            let keys: Vec<&str> = held.map(|key| key.as_str()).collect();
            self.read_rows(table, &keys, &mut current.rows).await?;
        }
        self.read_owners(&texts, &mut current.owners).await?;
        Ok(current)
    }

    fn is_asked(&self, table: Table) -> bool {
        match table {
            Table::Id => self.ids_in_use,
            Table::Admin => self.columns.lacking_for_admins().is_empty(),
            _ => true,
        }
    }

    async fn read_rows(
        &mut self,
        table: Table,
        keys: &[&str],
        rows: &mut BTreeMap<RowId, Row>,
    ) -> Result<(), Error> {
        for (chunk, size) in padded(keys) {
            let mut found = asking(self.select(table, size), chunk, size).fetch(&mut self.connection);
            while let Some(row) = found.try_next().await? {
                let row = row_of(table, &row)?;
                rows.insert((table, row.key().to_owned()), row);
            }
        }
        if table == Table::Admin {
            grants::read(&mut self.connection, &self.names, &self.columns, keys, rows).await?;
        }
        Ok(())
    }

    fn select(&self, table: Table, size: usize) -> String {
        let (keys, name) = (placeholders(size), self.names.table(table));
        let optional = |column: &str, otherwise: &str| {
            if self.columns.has(table.as_str(), column) { column.to_owned() } else { otherwise.to_owned() }
        };
        match table {
            Table::Domain => format!(
                "SELECT domain, description, COALESCE(transport, ''), backupmx <> 0, CAST(aliases AS SIGNED), CAST(mailboxes AS SIGNED), \
                 CAST(maxquota AS SIGNED), CAST(quota AS SIGNED), active <> 0 FROM {name} WHERE domain IN ({keys})"
            ),
            Table::AliasDomain => format!(
                "SELECT alias_domain, target_domain, active <> 0 FROM {name} WHERE alias_domain IN ({keys})"
            ),
            Table::Mailbox => format!(
                "SELECT username, password, name, maildir, CAST(quota AS SIGNED), {}, domain, active <> 0 FROM {name} \
                 WHERE username IN ({keys})",
                optional("local_part", "SUBSTRING_INDEX(username, '@', 1)")
            ),
            Table::Id => format!("SELECT row_key, uid, gid FROM {name} WHERE row_key IN ({keys})"),
            Table::Admin => format!(
                "SELECT username, password, {}, active <> 0 FROM {name} WHERE username IN ({keys})",
                optional("superadmin", "0")
            ),
            Table::Alias => format!(
                "SELECT address, goto, domain, {}, active <> 0 FROM {name} WHERE address IN ({keys})",
                optional("description", "''")
            ),
        }
    }

    async fn read_owners(
        &mut self,
        keys: &[&str],
        owners: &mut BTreeMap<RowId, OwnerRow>,
    ) -> Result<(), Error> {
        for (chunk, size) in padded(keys) {
            let sql = format!(
                "SELECT table_name, row_key, server, object_uid, object, policy, desired, password, goto, named FROM {} \
                 WHERE row_key IN ({})",
                self.names.owner(),
                placeholders(size)
            );
            let mut found = asking(sql, chunk, size).fetch(&mut self.connection);
            while let Some(row) = found.try_next().await? {
                if let Some(owner) = owner_of(&row)? {
                    owners.insert((owner.table, owner.key.clone()), owner);
                }
            }
        }
        Ok(())
    }

    /// Every key that `server` owns a row under, with the policy that all rows of a key share.
    ///
    /// # Errors
    /// [`Error::Database`] when the connection breaks.
    pub async fn owned_keys(&mut self, server: &str) -> Result<OwnedKeys, Error> {
        let mut keys = OwnedKeys::new();
        let sql = format!("SELECT table_name, row_key, policy FROM {} WHERE server = ?", self.names.owner());
        let mut found = sqlx::query(AssertSqlSafe(sql)).bind(server).fetch(&mut self.connection);
        while let Some(row) = found.try_next().await? {
            let (table, key, policy): (String, String, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if let Some(key) = Table::from_name(&table).and_then(|table| Key::of_row(table, &key)) {
                keys.insert(key, DeletionPolicy::from_stored(&policy));
            }
        }
        Ok(keys)
    }

    /// How many rows `server` owns in each table.
    ///
    /// # Errors
    /// [`Error::Database`] when the connection breaks.
    pub async fn counts(&mut self, server: &str) -> Result<Counts, Error> {
        let owner = self.names.owner();
        let sql = format!("SELECT table_name, COUNT(*) FROM {owner} WHERE server = ? GROUP BY table_name");
        let counts: Vec<(String, i64)> =
            sqlx::query_as(AssertSqlSafe(sql)).bind(server).fetch_all(&mut self.connection).await?;
        let of = |table: Table| {
            counts.iter().find(|(name, _)| name == table.as_str()).map_or(0, |(_, count)| *count)
        };
        let mailboxes = of(Table::Mailbox);
        Ok(Counts { domains: of(Table::Domain), mailboxes, aliases: of(Table::Alias) - mailboxes })
    }
}

/// A statement for `size` keys; the last key fills the places that `chunk` leaves.
pub(super) fn asking<'q>(sql: String, chunk: &[&'q str], size: usize) -> Arguments<'q> {
    let places = chunk.iter().chain(std::iter::repeat(&chunk[chunk.len() - 1])).take(size);
    places.fold(sqlx::query(AssertSqlSafe(sql)), |query, key| query.bind(*key))
}

fn row_of(table: Table, row: &MySqlRow) -> Result<Row, sqlx::Error> {
    // An existing table may hold its keys in mixed case; ours are lower-cased.
    let key = row.try_get::<String, _>(0)?.to_lowercase();
    let flag = |at: usize| row.try_get::<i64, _>(at).map(|value| value != 0);
    Ok(match table {
        Table::Domain => Row::Domain(DomainRow {
            domain: key,
            description: row.try_get(1)?,
            transport: row.try_get(2)?,
            backupmx: flag(3)?,
            aliases: row.try_get(4)?,
            mailboxes: row.try_get(5)?,
            maxquota: row.try_get(6)?,
            quota: row.try_get(7)?,
            active: flag(8)?,
        }),
        Table::AliasDomain => Row::AliasDomain(AliasDomainRow {
            alias_domain: key,
            target_domain: row.try_get(1)?,
            active: flag(2)?,
        }),
        Table::Mailbox => Row::Mailbox(MailboxRow {
            username: key,
            password: row.try_get(1)?,
            name: row.try_get(2)?,
            maildir: row.try_get(3)?,
            quota: row.try_get(4)?,
            local_part: row.try_get(5)?,
            domain: row.try_get(6)?,
            active: flag(7)?,
        }),
        Table::Admin => Row::Admin(AdminRow {
            username: key,
            password: row.try_get(1)?,
            superadmin: flag(2)?,
            active: flag(3)?,
            domains: BTreeSet::new(),
        }),
        Table::Id => Row::Id(IdRow { key, uid: row.try_get(1)?, gid: row.try_get(2)? }),
        Table::Alias => Row::Alias(AliasRow {
            address: key,
            goto: row.try_get(1)?,
            domain: row.try_get(2)?,
            description: row.try_get(3)?,
            active: flag(4)?,
        }),
    })
}

fn owner_of(row: &MySqlRow) -> Result<Option<OwnerRow>, sqlx::Error> {
    let Some(table) = Table::from_name(row.try_get(0)?) else { return Ok(None) };
    Ok(Some(OwnerRow {
        table,
        key: row.try_get(1)?,
        server: row.try_get(2)?,
        object_uid: row.try_get(3)?,
        object: row.try_get(4)?,
        policy: DeletionPolicy::from_stored(row.try_get(5)?),
        desired: row.try_get(6)?,
        password: row.try_get(7)?,
        goto: row.try_get(8)?,
        named: row.try_get(9)?,
    }))
}
