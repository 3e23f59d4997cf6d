//! The operator's own small web server: health, readiness, metrics.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
    let listener = bind(listen).await?;
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

/// Listens. `[::]` is every address of the machine: Linux takes it for those of IPv4 as well (unless
/// `net.ipv6.bindv6only` is set), and where there is no IPv6 `0.0.0.0` stands for it.
///
/// # Errors
/// When the address can't be listened on.
pub async fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(error) if is_any_v6(listen) && error.kind() != ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await
        }
        bound => bound,
    }
}

fn is_any_v6(listen: SocketAddr) -> bool {
    listen.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
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
    use tokio::net::TcpStream;

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

    const ANY: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

    #[tokio::test]
    async fn every_address_is_one_of_each_family_that_the_machine_has() {
        let listener = bind(ANY).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_not_shared_by_family() {
        let listener = bind(ANY).await.unwrap();
        let again = bind(SocketAddr::new(ANY.ip(), listener.local_addr().unwrap().port())).await;
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AddrInUse);
    }
}
