//! Reads what is in the tables under given keys.

use std::collections::BTreeSet;

use futures::TryStreamExt;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Either, Row as _};

use super::statement::{Statement, one_packet, padded, placeholders};
use super::{Error, STATEMENT_LIMIT, Store, grants, within};
use crate::api::DeletionPolicy;
use crate::index::Key;
use crate::plan::Current;
use crate::report::Counts;
use crate::tables::{AdminRow, AliasDomainRow, AliasRow, DomainRow, IdRow, MailboxRow, OwnerRow, Row, Table};

/// What a server owns.
#[derive(Debug, Default)]
pub struct Owned {
    /// Every key that it owns a row under, in order.
    pub keys: BTreeSet<Key>,
    /// Those of them that it owns a row of the table `alias_domain` under.
    pub alias_domains: BTreeSet<Key>,
    /// How many rows it owns in each table.
    pub counts: Counts,
}

impl Owned {
    fn add(&mut self, table: Table, key: Key) {
        self.counts.add(table, 1);
        if table == Table::AliasDomain {
            self.alias_domains.insert(key.clone());
        }
        self.keys.insert(key);
    }
}

/// Keys in one question. `MariaDB` makes a table of a list of a thousand or more (`in_predicate_conversion_threshold`), by which it
/// may choose to look at every row.
const LONGEST_LIST: usize = 500;

/// A question: the rows of a table, or with `None` their owners, under some keys.
struct Question<'q> {
    table: Option<Table>,
    keys: Vec<&'q str>,
}

impl Store {
    /// The rows and owners under the given keys.
    ///
    /// # Errors
    /// [`Error::Database`] when the connection breaks, [`Error::Timeout`]: it is of no use then.
    pub async fn read(&mut self, keys: &[&Key]) -> Result<Current, Error> {
        within(STATEMENT_LIMIT, self.read_all(keys)).await
    }

    async fn read_all(&mut self, keys: &[&Key]) -> Result<Current, Error> {
        let current = self.read_asked(keys).await?;
        // The domain of a server that has such rows came here.
        if !self.ids_in_use && current.owners.keys().any(|(table, _)| *table == Table::Id) {
            self.ids_in_use = true;
            return self.read_asked(keys).await;
        }
        Ok(current)
    }

    async fn read_asked(&mut self, keys: &[&Key]) -> Result<Current, Error> {
        let questions = self.questions(keys);
        if questions.is_empty() {
            return Ok(Current::default());
        }
        let mut current = match self.read_at_once(&questions).await? {
            Some(current) => current,
            None => self.read_prepared(&questions).await?,
        };
        let admins = self.under(Table::Admin, keys);
        grants::read(&mut self.connection, &self.names, &self.columns, &admins, &mut current.rows).await?;
        Ok(current)
    }

    /// Which of the keys a table is asked for.
    fn under<'q>(&self, table: Table, keys: &[&'q Key]) -> Vec<&'q str> {
        if !self.is_asked(table) {
            return Vec::new();
        }
        keys.iter().filter(|key| key.tables().contains(&table)).map(|key| key.as_str()).collect()
    }

    /// Every question in one packet. `None`: it would be too long, or the server refuses it; as for a plan: whatever it has against
    /// the packet, it may take the same one by one.
    async fn read_at_once(&mut self, questions: &[Question<'_>]) -> Result<Option<Current>, Error> {
        let statements: Vec<_> = questions.iter().map(|question| self.asking(question)).collect();
        let Some(packet) = one_packet(&statements) else { return Ok(None) };
        match self.answers(questions, packet).await {
            Err(Error::Database(sqlx::Error::Database(error))) => {
                tracing::debug!(
                    code = error.code().as_deref(),
                    %error,
                    "refused as one packet, asking one by one"
                );
                Ok(None)
            }
            answers => answers.map(Some),
        }
    }

    /// The answers to a packet of questions, which come in the same order.
    async fn answers(&mut self, questions: &[Question<'_>], packet: String) -> Result<Current, Error> {
        let mut current = Current::default();
        let mut tables = questions.iter().map(|question| question.table);
        let mut table = tables.next().flatten();
        let mut found = sqlx::raw_sql(AssertSqlSafe(packet)).fetch_many(&mut self.connection);
        while let Some(answer) = found.try_next().await? {
            match answer {
                Either::Left(_) => table = tables.next().flatten(),
                Either::Right(row) => take(table, &row, &mut current)?,
            }
        }
        Ok(current)
    }

    pub(super) fn is_asked(&self, table: Table) -> bool {
        match table {
            Table::Id => self.ids_in_use,
            Table::Admin => self.columns.lacking_for_admins().is_empty(),
            _ => true,
        }
    }

    async fn read_prepared(&mut self, questions: &[Question<'_>]) -> Result<Current, Error> {
        let mut current = Current::default();
        for Question { table, keys } in questions {
            for (chunk, size) in padded(keys) {
                let statement = asking(self.select(*table, size), chunk, size);
                let mut found = statement.prepared().fetch(&mut self.connection);
                while let Some(row) = found.try_next().await? {
                    take(*table, &row, &mut current)?;
                }
            }
        }
        Ok(current)
    }

    fn questions<'q>(&self, keys: &[&'q Key]) -> Vec<Question<'q>> {
        let owners = (None, keys.iter().map(|key| key.as_str()).collect());
        let all = Table::ALL.into_iter().map(|table| (Some(table), self.under(table, keys))).chain([owners]);
        let cut = |(table, keys): (Option<Table>, Vec<&'q str>)| {
            let cut: Vec<Vec<&str>> = keys.chunks(LONGEST_LIST).map(<[&str]>::to_vec).collect();
            cut.into_iter().map(move |keys| Question { table, keys })
        };
        all.flat_map(cut).collect()
    }

    fn asking<'q>(&self, Question { table, keys }: &Question<'q>) -> Statement<'q> {
        asking(self.select(*table, keys.len()), keys, keys.len())
    }

    fn select(&self, table: Option<Table>, size: usize) -> String {
        table.map_or_else(|| self.select_owners(size), |table| self.select_rows(table, size))
    }

    pub(super) fn select_rows(&self, table: Table, size: usize) -> String {
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

    fn select_owners(&self, size: usize) -> String {
        format!(
            "SELECT table_name, row_key, server, object_uid, object, policy, desired, password, goto, named FROM {} \
             WHERE row_key IN ({})",
            self.names.owner(),
            placeholders(size)
        )
    }

    /// Every key that `server` owns a row under.
    ///
    /// # Errors
    /// [`Error::Database`] when the connection breaks, [`Error::Timeout`]: it is of no use then.
    pub async fn owned(&mut self, server: &str) -> Result<Owned, Error> {
        within(STATEMENT_LIMIT, self.read_owned(server)).await
    }

    async fn read_owned(&mut self, server: &str) -> Result<Owned, Error> {
        let mut owned = Owned::default();
        let sql = format!("SELECT table_name, row_key FROM {} WHERE server = ?", self.names.owner());
        let mut found = sqlx::query(AssertSqlSafe(sql)).bind(server).fetch(&mut self.connection);
        while let Some(row) = found.try_next().await? {
            let (table, key): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let Some(table) = Table::from_name(&table) else { continue };
            let Some(key) = Key::of_row(table, &key) else { continue };
            owned.add(table, key);
        }
        Ok(owned)
    }
}

/// A statement for `size` keys; the last key fills the places that `chunk` leaves.
pub(super) fn asking<'q>(sql: String, chunk: &[&'q str], size: usize) -> Statement<'q> {
    let places = chunk.iter().chain(std::iter::repeat(&chunk[chunk.len() - 1])).take(size);
    places.fold(Statement::new(sql), |statement, key| statement.bind(*key))
}

/// Keeps what a question was answered with.
pub(super) fn take(table: Option<Table>, row: &MySqlRow, current: &mut Current) -> Result<(), sqlx::Error> {
    if let Some(table) = table {
        let row = row_of(table, row)?;
        current.rows.insert((table, row.key().to_owned()), row);
    } else if let Some(owner) = owner_of(row)? {
        current.owners.insert((owner.table, owner.key.clone()), owner);
    }
    Ok(())
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
