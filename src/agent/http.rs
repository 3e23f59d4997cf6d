//! The agent's pages: the kubelet's probes, and what the operator wants to know.

use std::net::{SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State as Extracted;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::watch;
use tokio::task::JoinError;

use super::Error;
use super::contract::AgentStatus;
use super::metrics::Metrics;
use super::probe::Probe;
use super::queue;
use crate::http::{OpenMetrics, bind, openmetrics};
use crate::postfix::QUEUE_DIRECTORY;

/// What runs, and why a newer configuration does not.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// What others are told of it; messages in the queue are counted when somebody asks.
    pub told: AgentStatus,
    /// When the configuration was taken.
    pub taken: Option<Instant>,
    /// Directory with the compiled look-up files, where accounts are looked up in files.
    pub maps: Option<PathBuf>,
}

#[derive(Clone)]
struct Pages {
    probe: Arc<Probe>,
    state: watch::Receiver<State>,
    metrics: Metrics,
}

/// Serves until the agent ends. `/healthz` needs no check: the agent ends when Postfix does.
pub(super) async fn serve(
    listen: SocketAddr,
    smtp: SocketAddrV4,
    state: watch::Receiver<State>,
    metrics: Metrics,
) -> std::io::Result<()> {
    let probe = Arc::new(Probe::new(smtp, metrics.clone()));
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/metrics", get(metrics_page))
        .with_state(Pages { probe, state, metrics });
    axum::serve(bind(listen).await?, router).await
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
    if pages.state.borrow().told.draining {
        return (StatusCode::SERVICE_UNAVAILABLE, "the queue is emptied before the pod goes".to_owned());
    }
    match pages.probe.answer().await {
        Ok(greeting) => (StatusCode::OK, greeting),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

async fn metrics_page(Extracted(pages): Extracted<Pages>) -> OpenMetrics {
    let state = pages.state.borrow().clone();
    // The queue may be long, and lies on a disk.
    let text = tokio::task::spawn_blocking(move || pages.metrics.text(&state, Path::new(QUEUE_DIRECTORY)));
    openmetrics(text.await.ok().and_then(Result::ok))
}

async fn status(Extracted(pages): Extracted<Pages>) -> Json<AgentStatus> {
    let mut status = pages.state.borrow().told.clone();
    if status.draining {
        let counted = tokio::task::spawn_blocking(|| queue::all_messages(Path::new(QUEUE_DIRECTORY)));
        status.queued = counted.await.ok().and_then(Result::ok);
    }
    Json(status)
}
