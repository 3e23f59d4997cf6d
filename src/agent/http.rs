//! The agent's pages: the kubelet's probes, and what the operator wants to know.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use axum::extract::State as Extracted;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinError;

use super::Error;
use super::probe::Probe;

/// What runs, and why a newer configuration does not.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// The operator's hash of the configuration that Postfix runs with.
    pub config_hash: Option<String>,
    /// The last changed configuration, if it was refused; gone when one is taken.
    pub refused: Option<Refused>,
}

/// A configuration that Postfix does not run with.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Refused {
    /// Its hash: the operator may want another one by now.
    pub config_hash: String,
    /// Postfix's own words.
    pub error: String,
}

#[derive(Clone)]
struct Pages {
    probe: Arc<Probe>,
    state: watch::Receiver<State>,
}

/// Serves until the agent ends. `/healthz` needs no check: the agent ends when Postfix does.
pub(super) async fn serve(
    listen: SocketAddr,
    smtp: SocketAddrV4,
    state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(Pages { probe: Arc::new(Probe::new(smtp)), state });
    axum::serve(TcpListener::bind(listen).await?, router).await
}

/// Why the pages are no longer served.
pub(super) fn ended(result: Result<std::io::Result<()>, JoinError>) -> Error {
    let error = match result {
        Ok(Ok(())) => std::io::ErrorKind::Interrupted.into(),
        Ok(Err(error)) => error,
        Err(error) => std::io::Error::other(error),
    };
    Error::System { what: "the agent's web server".to_owned(), error }
}

async fn ready(Extracted(pages): Extracted<Pages>) -> (StatusCode, String) {
    match pages.probe.answer().await {
        Ok(greeting) => (StatusCode::OK, greeting),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

async fn status(Extracted(pages): Extracted<Pages>) -> Json<State> {
    Json(pages.state.borrow().clone())
}
