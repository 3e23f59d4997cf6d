//! That nobody else has changed a row between the look at it and the write: every column of it is written, and would bring
//! back what was there before.

use futures::TryStreamExt;

use super::read::{asking, take};
use super::statement::padded;
use super::{Error, Store};
use crate::plan::{Current, Update};
use crate::tables::Table;

impl Store {
    /// Locks the rows of some updates until the end of the transaction, in which this has to be asked.
    ///
    /// # Errors
    /// [`Error::Changed`] where one is not as it was, [`Error::Database`].
    pub(super) async fn lock_unchanged(&mut self, updates: &[Update]) -> Result<(), Error> {
        // The domains of an admin are rows of another table.
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Admin) {
            let of_table: Vec<&Update> =
                updates.iter().filter(|update| update.row.table() == table).collect();
            let there = self.locked(table, &of_table).await?;
            let is_unchanged = |update: &&Update| {
                there.rows.get(&(table, update.before.key().to_owned())) == Some(&update.before)
            };
            if !of_table.iter().all(is_unchanged) {
                return Err(Error::Changed);
            }
        }
        Ok(())
    }

    async fn locked(&mut self, table: Table, updates: &[&Update]) -> Result<Current, Error> {
        let keys: Vec<&str> = updates.iter().map(|update| update.row.key()).collect();
        let questions: Vec<_> = padded(&keys)
            .map(|(chunk, size)| asking(format!("{} FOR UPDATE", self.select_rows(table, size)), chunk, size))
            .collect();
        let mut there = Current::default();
        for question in questions {
            let mut found = question.prepared().fetch(&mut self.connection);
            while let Some(row) = found.try_next().await? {
                take(Some(table), &row, &mut there)?;
            }
        }
        Ok(there)
    }
}
