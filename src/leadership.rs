//! Which replica works: the one that holds the Lease.
//!
//! A Lease is kept through an outage of the API server that is shorter than what is left of it, as client-go does. What this
//! replica does with its leadership is not decided here.

use std::convert::Infallible;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Config};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::time::Instant;

use crate::api::FIELD_MANAGER;
use crate::client;

/// How long the Lease lasts without being renewed, and how long before its end it is renewed; seconds.
const LEASE: (u64, u64) = (15, 10);

/// A connection that takes longer to make has failed, and so has a request whose answer does.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);

/// How long a renewal is tried again. The Lease ends a little later; that two replicas never write to one database is the
/// matter of the lock there.
const RENEWAL_LIMIT: Duration = Duration::from_secs(6);

/// A Lease that is free is had within this time; who holds another is told after it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts.
const REST: Duration = Duration::from_millis(500);

/// Why the Lease is not, or no longer, held.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Lease can't be read or written.
    #[error("leadership: {0}")]
    Lease(#[from] LeaseManagerError),
    /// The API server can't be addressed.
    #[error("leadership: {0}")]
    Api(#[from] kube::Error),
    /// Another replica took the Lease.
    #[error("leadership lost, ending so that another start may begin clean")]
    Lost,
}

/// A claim to the Lease.
pub struct Leadership {
    manager: LeaseManager,
    api: Api<Lease>,
    lease: String,
}

impl Leadership {
    /// Claims the `lease` of a namespace under a replica's name. Requests are made with a client of their own, whose limits
    /// are shorter than the Lease.
    ///
    /// # Errors
    /// When no client can be made, or there is no Lease and none can be made.
    pub async fn claim(config: &Config, namespace: &str, lease: &str, replica: &str) -> Result<Self, Error> {
        let mut config = config.clone();
        config.connect_timeout = Some(REQUEST_LIMIT);
        config.read_timeout = Some(REQUEST_LIMIT);
        let client = client::connect(&config)?;
        let manager = LeaseManagerBuilder::new(client.clone(), lease)
            .with_namespace(namespace)
            .with_identity(replica)
            .with_duration(LEASE.0)
            .with_grace(LEASE.1)
            .with_field_manager(FIELD_MANAGER)
            .build()
            .await?;
        Ok(Self { manager, api: Api::namespaced(client, namespace), lease: lease.to_owned() })
    }

    /// Waits until the Lease is held, however long the API server is away.
    pub async fn gained(&self) {
        tokio::select! {
            () = self.acquire() => {}
            never = self.tell_holder() => match never {},
        }
    }

    async fn acquire(&self) {
        loop {
            match self.manager.changed().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the Lease can't be asked for, trying again");
                    tokio::time::sleep(REST).await;
                }
            }
        }
    }

    /// Says once whom this replica waits for, so that a second operator that was meant to work doesn't wait in silence.
    async fn tell_holder(&self) -> Infallible {
        let holder = loop {
            tokio::time::sleep(PATIENCE).await;
            let found = self.api.get_opt(&self.lease).await.ok().flatten();
            if let Some(holder) = found.and_then(|lease| lease.spec?.holder_identity) {
                break holder;
            }
        };
        tracing::info!("waiting for the Lease {}, held by {holder}", self.lease);
        std::future::pending().await
    }

    /// Keeps the Lease renewed; returns when it is held no longer, or can't be renewed.
    pub async fn lost(&self) -> Error {
        let mut failing_since = None;
        loop {
            let attempted = Instant::now();
            let error = match self.manager.changed().await {
                Ok(true) => continue,
                Ok(false) => return Error::Lost,
                Err(error) => error,
            };
            // No request lasts that long: it rested first, as it does after a renewal.
            if attempted.elapsed() > 2 * REQUEST_LIMIT {
                failing_since = None;
            }
            if failing_since.get_or_insert_with(Instant::now).elapsed() > RENEWAL_LIMIT {
                return error.into();
            }
            tracing::warn!(%error, "the Lease is not renewed, trying again");
            tokio::time::sleep(REST).await;
        }
    }

    /// Gives the Lease back, so that the next replica need not wait until it runs out.
    pub async fn give_back(&self) {
        match tokio::time::timeout(REQUEST_LIMIT, self.manager.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the Lease was not given back"),
            Err(_) => tracing::warn!("the Lease was not given back in time"),
        }
    }
}
