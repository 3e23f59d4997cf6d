//! The operator's own small web server: health, readiness, metrics.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::watches::SharedIndex;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Ready once every watch has delivered its first full list.
    pub index: SharedIndex,
    /// The operator's metrics.
    pub metrics: Metrics,
}

/// Serves `/healthz`, `/readyz` and `/metrics` until `shutdown`.
///
/// # Errors
/// When the address can't be listened on.
pub async fn serve(listen: SocketAddr, pages: Pages, shutdown: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages);
    let listener = TcpListener::bind(listen).await?;
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn ready(State(pages): State<Pages>) -> (StatusCode, &'static str) {
    if pages.index.is_complete() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the first lists from the API server")
    }
}

async fn metrics(State(pages): State<Pages>) -> OpenMetrics {
    openmetrics(pages.metrics.text().ok())
}

/// What a `/metrics` page answers.
pub type OpenMetrics = Result<([(HeaderName, &'static str); 1], String), StatusCode>;

/// Metrics as the page that Prometheus reads; without the type it would have to be told in which form they are.
///
/// # Errors
/// An internal error where there is no text.
pub fn openmetrics(text: Option<String>) -> OpenMetrics {
    let text = text.ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn metrics_say_in_which_form_they_are() {
        let answer = openmetrics(Metrics::default().text().ok()).into_response();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(
            answer.headers()[CONTENT_TYPE],
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        assert_eq!(openmetrics(None).into_response().status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
