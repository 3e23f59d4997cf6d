//! What Postfix's configuration has to look up for rows that nothing declares: asked at rest, after passes that may have
//! left some, so that a burst of changes costs no statement more.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::super::chunk::chunks;
use super::super::serve::REPORT_INTERVAL;
use super::{LOOK, PassError, Passes};
use crate::desired::owner;
use crate::index::Key;
use crate::postfix::{Kept, MailOwner};
use crate::report::Settled;
use crate::tables::{IdRow, Row, Table};

/// What is known of what the rows need.
#[derive(Default)]
pub(super) struct Settling {
    /// What they needed when they were asked for last.
    pub(super) settled: Option<Settled>,
    asked: Option<Instant>,
    /// Somebody else may have changed them since.
    pub(super) is_doubted: bool,
}

impl Settling {
    /// When to ask, at `needs` of what is declared; `None`: all is known.
    fn due(&self, needs: u64, now: Instant) -> Option<Instant> {
        let is_known = self.settled.as_ref().is_some_and(|settled| settled.needs == needs);
        (!is_known || self.is_doubted).then(|| self.asked.map_or(now, |asked| asked + REPORT_INTERVAL))
    }
}

impl Passes<'_> {
    /// When [`Passes::settle`] is to be called if there is nothing else to do.
    pub(in super::super) fn settle_due(&self) -> Option<Instant> {
        self.settling.due(self.context.index.read().needs_version(self.server), Instant::now())
    }

    /// Asks what the rows need, unless they are about to change, and tells the `MailServer` controller.
    pub(in super::super) async fn settle(&mut self) -> Result<(), PassError> {
        let (needs, has_transports, has_guarded) = {
            let index = self.context.index.read();
            if index.has_work(self.server) {
                return Ok(());
            }
            (
                index.needs_version(self.server),
                index.has_transports(self.server),
                index.has_guarded(self.server),
            )
        };
        let kept = Kept {
            transports: has_transports || self.store.has_transports().await?,
            disabled: has_guarded || self.store.has_disabled().await?,
            owners: self.kept_owners().await?,
        };
        self.settling = Settling {
            settled: Some(Settled { needs, kept }),
            asked: Some(Instant::now()),
            is_doubted: false,
        };
        if self.teller.has_news(&self.current_report()) {
            self.report();
        }
        Ok(())
    }

    /// Where mail lies whose owner nothing declares, of rows that no other server owns.
    async fn kept_owners(&mut self) -> Result<Vec<MailOwner>, PassError> {
        let ids = self.store.ids().await?;
        let undeclared = self.undeclared(ids).await;
        let (mut rows, mut maildirs) = (Vec::new(), BTreeMap::new());
        for chunk in chunks(undeclared.keys().cloned()) {
            let current = self.current(&chunk).await?;
            for row in chunk.iter().filter_map(|key| undeclared.get(key)) {
                let owner = current.owners.get(&(Table::Id, row.key.clone()));
                if owner.is_some_and(|owner| owner.server != self.server_id) {
                    continue;
                }
                if let Some(Row::Mailbox(mailbox)) = current.rows.get(&(Table::Mailbox, row.key.clone())) {
                    maildirs.insert(row.key.clone(), mailbox.maildir.clone());
                }
                rows.push(row.clone());
            }
        }
        Ok(owner::kept_owners(&self.context.index.read(), self.server, &rows, &maildirs))
    }

    /// Those rows whose owner nothing declares, by key.
    async fn undeclared(&self, ids: Vec<IdRow>) -> BTreeMap<Key, IdRow> {
        let mut undeclared = BTreeMap::new();
        for chunk in ids.chunks(LOOK) {
            {
                let index = self.context.index.read();
                let keyed = chunk.iter().filter_map(|row| Some((Key::from_row(&row.key)?, row.clone())));
                undeclared.extend(keyed.filter(|(key, _)| !owner::is_declared(&index, self.server, key)));
            }
            tokio::task::yield_now().await;
        }
        undeclared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_asked_at_rest_and_not_more_often_than_it_is_told() {
        let now = Instant::now();
        let settled = |needs| Some(Settled { needs, kept: Kept::default() });
        assert_eq!(Settling::default().due(0, now), Some(now));
        let known = Settling { settled: settled(3), asked: Some(now), is_doubted: false };
        assert_eq!(known.due(3, now), None);
        assert_eq!(known.due(4, now), Some(now + REPORT_INTERVAL), "something is declared or gone");
        let doubted = Settling { is_doubted: true, ..known };
        assert_eq!(doubted.due(3, now), Some(now + REPORT_INTERVAL), "everything was compared");
    }
}
