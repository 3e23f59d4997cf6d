//! What the set loop tells the `MailServer` controller, which alone writes a `MailServer`'s status.
//!
//! Holds the last report of each server in memory; nothing here is stored or decides anything.

use std::collections::BTreeMap;

use tokio::sync::watch;

use crate::api::Reason;
use crate::object::ObjectName;
use crate::postfix::Kept;
use crate::tables::Table;

/// The substance of a condition: whether it holds, why, and a sentence for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Whether the condition is `True`.
    pub ok: bool,
    /// Its machine-readable reason.
    pub reason: Reason,
    /// Its message; never holds a secret.
    pub message: String,
}

impl Finding {
    /// A condition that holds.
    #[must_use]
    pub fn good(reason: Reason, message: impl Into<String>) -> Self {
        Self { ok: true, reason, message: message.into() }
    }

    /// A condition that doesn't hold.
    #[must_use]
    pub fn bad(reason: Reason, message: impl Into<String>) -> Self {
        Self { ok: false, reason, message: message.into() }
    }
}

/// What the last pass of a server's set loop found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerReport {
    /// The condition `DatabaseReady`; `None`: there is no database.
    pub database: Option<Finding>,
    /// The condition `TablesSynced`.
    pub tables: Finding,
    /// Which tables ([`crate::index::rows::ServerRow::database`]) have had all accounts, at least once since the set loop
    /// began with them; `None`: none yet.
    pub complete: Option<u64>,
    /// Grows with each change of what Postfix's configuration depends on beside the `MailServer` itself.
    pub needs: u64,
    /// What the rows need that are in the tables; `None`: not known.
    pub settled: Option<Settled>,
    /// Hash of the held deletions that were released and carried out last; `None`: none since the process began.
    pub released: Option<String>,
    /// Managed rows that somebody else changed and that are left as they are.
    pub drifted: usize,
    /// Managed rows in the table `domain`, `mailbox`, and `alias` without identity rows.
    pub counts: Counts,
}

/// What the tables needed of Postfix's configuration, once they were as was declared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settled {
    /// [`ServerReport::needs`] of what was declared.
    pub needs: u64,
    /// What their rows need beside what is declared.
    pub kept: Kept,
}

/// Managed rows of a server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Rows of the table domain.
    pub domains: i64,
    /// Rows of the table mailbox.
    pub mailboxes: i64,
    /// Rows of the table alias, the identity rows of mailboxes left out.
    pub aliases: i64,
}

impl Counts {
    /// Takes in that there are `change` rows more in a table: each of a mailbox comes with its identity row in alias.
    pub fn add(&mut self, table: Table, change: i64) {
        match table {
            Table::Domain => self.domains += change,
            Table::Mailbox => {
                self.mailboxes += change;
                self.aliases -= change;
            }
            Table::Alias => self.aliases += change,
            Table::AliasDomain | Table::Id | Table::Admin => {}
        }
    }
}

/// The last report of every server; cloning it shares them.
#[derive(Clone, Debug)]
pub struct Reports(watch::Sender<BTreeMap<ObjectName, ServerReport>>);

impl Default for Reports {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Reports {
    /// Records a report; those who wait in [`Reports::changed`] wake only if it differs from the last one.
    pub fn set(&self, server: &ObjectName, report: ServerReport) {
        self.0.send_if_modified(|reports| {
            let changed = reports.get(server) != Some(&report);
            if changed {
                reports.insert(server.clone(), report);
            }
            changed
        });
    }

    /// Forgets a server that is gone.
    pub fn remove(&self, server: &ObjectName) {
        self.0.send_if_modified(|reports| reports.remove(server).is_some());
    }

    /// The last report of a server, if its set loop made one.
    #[must_use]
    pub fn get(&self, server: &ObjectName) -> Option<ServerReport> {
        self.0.borrow().get(server).cloned()
    }

    /// An endless stream with one item after each change of any report.
    pub fn changed(&self) -> impl futures::Stream<Item = ()> + Send + 'static {
        futures::stream::unfold(self.0.subscribe(), |mut receiver| async {
            receiver.changed().await.ok()?;
            Some(((), receiver))
        })
    }
}
