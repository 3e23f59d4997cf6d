//! Which replica works: the one that holds the Lease.
//!
//! As client-go does it: whoever writes the Lease names the version that it saw, so that of two only one succeeds; a Lease is over
//! when nobody has renewed it for as long as it lasts, by the clock of the one who watches it; and it is kept through an outage
//! of the API server that is shorter than what is left of it. What this replica does with its leadership is not decided here.

mod lease;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, timeout_at};

use crate::api::FIELD_MANAGER;
use crate::client::{self, within};
use lease::{Observed, free, holder, new, renewed, taken};

/// How long the Lease lasts without being renewed.
const DURATION: Duration = Duration::from_secs(15);

/// How long after a renewal the next one is due, and how often a replica that waits looks at the Lease.
const INTERVAL: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(2);

/// A request that takes longer has failed: it has to be tried again before the Lease ends.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// A Lease that was not renewed for so long is given up: there are three seconds left to end in. That two replicas never write
/// to one database is the matter of the lock there.
const RENEWAL_LIMIT: Duration = Duration::from_secs(12);

/// Between two attempts.
const REST: Duration = Duration::from_millis(500);

/// Why the Lease is not held any longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Lease can't be read or written.
    #[error("leadership: {0}")]
    Api(#[from] client::Error),
    /// Every attempt to renew it failed, and it ends soon.
    #[error("leadership given up: the Lease was not renewed for {} s", RENEWAL_LIMIT.as_secs())]
    NotRenewed,
    /// Another replica took the Lease.
    #[error("leadership lost, ending so that another start may begin clean")]
    Lost,
}

/// A claim to the Lease.
pub struct Leadership {
    api: Api<Lease>,
    name: String,
    replica: String,
    observed: Observed,
    /// The Lease as this replica wrote it last; `None`: it has not, or what became of it has to be seen.
    held: Option<Lease>,
    /// When that was begun.
    renewed: Instant,
    /// Whether this replica ever wrote to the Lease, or tried to.
    has_written: bool,
}

impl Leadership {
    /// A claim to the Lease `name` of a namespace, under a replica's name. The client is best one of its own: a connection that
    /// is dead costs a request, and others leave many behind.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, replica: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            replica: replica.to_owned(),
            observed: Observed::default(),
            held: None,
            renewed: Instant::now(),
            has_written: false,
        }
    }

    /// Waits until the Lease is held, however long the API server is away.
    ///
    /// # Errors
    /// [`Error::Api`] when this replica may not read or write it. Not so once it knows who else holds it: an API server that has
    /// just started refuses for a moment what it allows.
    pub async fn gained(&mut self) -> Result<(), Error> {
        let mut told = None;
        loop {
            match self.attempt().await {
                Ok(None) => return Ok(()),
                Ok(Some(holder)) => {
                    // A second operator that was meant to work must not wait in silence.
                    if told.as_ref() != Some(&holder) {
                        tracing::info!("waiting for the Lease {}, held by {holder}", self.name);
                        told = Some(holder);
                    }
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) if told.is_none() && error.is_forbidden() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "the Lease is not had, trying again");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    /// Keeps the Lease renewed; returns when it is held no longer, or can't be renewed.
    pub async fn lost(&mut self) -> Error {
        loop {
            tokio::time::sleep_until(self.renewed + INTERVAL).await;
            if let Err(error) = self.renew().await {
                return error;
            }
        }
    }

    /// Renews the Lease, trying again while it lasts.
    async fn renew(&mut self) -> Result<(), Error> {
        let limit = self.renewed + RENEWAL_LIMIT;
        loop {
            match timeout_at(limit, self.attempt()).await {
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(_))) => return Err(Error::Lost),
                Ok(Err(error)) => tracing::warn!(%error, "the Lease is not renewed, trying again"),
                Err(_) => return Err(Error::NotRenewed),
            }
            tokio::time::sleep(REST).await;
        }
    }

    /// Gives the Lease back, if it is held, so that the next replica need not wait until it runs out.
    pub async fn give_back(&mut self) {
        if !self.has_written {
            return;
        }
        let freed = match self.let_go().await {
            // An attempt that did not come to its end was carried out in between.
            Err(error) if error.is_conflict() => self.let_go().await,
            freed => freed,
        };
        if let Err(error) = freed {
            tracing::warn!(%error, "the Lease was not given back");
        }
    }

    async fn let_go(&mut self) -> Result<(), client::Error> {
        if let Some(lease) = self.get().await?.filter(|lease| holder(lease) == Some(&self.replica)) {
            self.replace(free(lease)).await?;
        }
        Ok(())
    }

    /// Writes the Lease, if this replica may. Gives who holds it otherwise.
    async fn attempt(&mut self) -> Result<Option<String>, client::Error> {
        let begun = Instant::now();
        if let Some(lease) = self.held.take() {
            match self.replace(renewed(lease, Timestamp::now())).await {
                // Somebody else wrote to it, or removed it.
                Err(error) if error.is_conflict() || error.is_not_found() => {}
                written => {
                    self.hold(written?, begun);
                    return Ok(None);
                }
            }
        }
        let written = match self.get().await? {
            None => self.create().await?,
            Some(found) => {
                let is_over = self.observed.is_over(&found, begun, Instant::now());
                match holder(&found) {
                    Some(other) if other != self.replica && !is_over => return Ok(Some(other.to_owned())),
                    _ => self.replace(taken(found, &self.replica, Timestamp::now())).await?,
                }
            }
        };
        self.hold(written, begun);
        Ok(None)
    }

    fn hold(&mut self, lease: Lease, begun: Instant) {
        (self.held, self.renewed) = (Some(lease), begun);
    }

    async fn get(&self) -> Result<Option<Lease>, client::Error> {
        within(REQUEST_LIMIT, self.api.get_opt(&self.name)).await
    }

    async fn create(&mut self) -> Result<Lease, client::Error> {
        let lease = new(&self.name, &self.replica, Timestamp::now());
        self.has_written = true;
        within(REQUEST_LIMIT, self.api.create(&parameters(), &lease)).await
    }

    async fn replace(&mut self, lease: Lease) -> Result<Lease, client::Error> {
        self.has_written = true;
        within(REQUEST_LIMIT, self.api.replace(&self.name, &parameters(), &lease)).await
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
