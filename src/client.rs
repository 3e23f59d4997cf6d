//! The client of the API server: kube's own parts, on connections that send at once, and requests that end.
//!
//! kube's own assembly of them leaves Nagle's algorithm on (kube issue 2056): now and then a request waits 40 ms for an
//! acknowledgement that the API server delays.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{ClientBuilder, ConfigExt};
use kube::{Client, Config};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused it, or could not be asked.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// It did not answer.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl Error {
    /// Whether the API server is away or too busy, and would answer no other request either. A webhook that fails for one
    /// object (500) is none.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Api(kube::Error::Api(status)) => matches!(status.code, 429 | 503 | 504),
            Self::Api(error) => matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_)),
            Self::Timeout(_) => true,
        }
    }

    /// Whether the object that was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.is_not_found())
    }

    /// Whether somebody else has written to the object in the meantime.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.is_conflict())
    }

    /// Whether the operator may not ask for that, or the API server doesn't know it (401).
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.is_forbidden() || status.code == 401)
    }
}

/// What a request comes to, within twenty seconds: kube's own requests wait for ever.
///
/// # Errors
/// [`Error`]; a request that took too long may have been carried out all the same.
pub fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> impl Future<Output = Result<T, Error>> {
    within(REQUEST_LIMIT, request)
}

/// What a request comes to within `limit`.
///
/// # Errors
/// As [`bounded`].
pub async fn within<T>(limit: Duration, request: impl Future<Output = kube::Result<T>>) -> Result<T, Error> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Timeout(limit)),
    }
}

/// What became of a request, where an object that is gone is as good as one that was written or deleted.
///
/// # Errors
/// Any other.
pub fn unless_gone<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// A client with the addresses, credentials and limits of `config`. Proxies are not used.
///
/// # Errors
/// When the credentials can't be used.
pub fn connect(config: &Config) -> Result<Client, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(RetryLayer::new(RetryPolicy::server_retry()))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build(connector));
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}
