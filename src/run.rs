//! The operator's process: becomes the leader, starts the watches, the set loops, the controller and the web server,
//! and stops them in order.

mod parts;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Config, ResourceExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::FIELD_MANAGER;
use crate::client;
use crate::http::{self, Pages};
use crate::leadership::{self, Leadership};
use crate::metrics::Metrics;
use crate::report::Reports;
use crate::status::Statuses;
use crate::telemetry::{self, DEFAULT_FILTER, LogFormat};
use crate::watches::{self, SharedIndex};
use crate::{server, sync};
use parts::Parts;

/// How long the set loops may take to end their statement.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Arguments of `vmail-operator run`.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// Image of the Postfix pods, for a MailServer that names none
    #[arg(long, env = "VMAIL_POSTFIX_IMAGE")]
    pub postfix_image: String,
    /// Image of the embedded MariaDB, for a MailServer that names none
    #[arg(long, env = "VMAIL_MARIADB_IMAGE")]
    pub mariadb_image: String,
    /// Namespace of the Lease that decides which replica works
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub lease_namespace: String,
    /// Name of that Lease: operators of one name in one namespace are replicas of each other
    #[arg(long, env = "VMAIL_LEASE", default_value = FIELD_MANAGER)]
    pub lease: String,
    /// This replica's name in the Lease
    #[arg(long, env = "POD_NAME", default_value = "vmail-operator")]
    pub pod_name: String,
    /// Serve only the objects of this namespace; all namespaces when left out
    #[arg(long, env = "VMAIL_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Address for /healthz, /readyz and /metrics; by default all, of IPv6 and IPv4
    #[arg(long, env = "VMAIL_LISTEN", default_value = "[::]:8080")]
    pub listen: SocketAddr,
    /// Seconds between two full comparisons of the tables with what is declared
    #[arg(long, env = "VMAIL_DRIFT_CHECK_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub drift_check_seconds: u64,
    /// Form of the log
    #[arg(long, env = "VMAIL_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text,
        help = format!("Form of the log; RUST_LOG filters it (default: {DEFAULT_FILTER})"))]
    pub log_format: LogFormat,
}

/// Why the operator can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No configuration of the API server, or it doesn't answer.
    #[error("API server: {0}. Run in a cluster, or set KUBECONFIG")]
    Api(#[from] kube::Error),
    /// Not, or no longer, the replica that works.
    #[error(transparent)]
    Leadership(#[from] leadership::Error),
    /// The address can't be listened on, or signals can't be received.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The API server doesn't say which cluster this is.
    #[error("API server: {0}")]
    Request(#[from] client::Error),
    /// A part of the process ended that should not.
    #[error("{0} ended by itself")]
    Ended(&'static str),
    /// A set loop failed.
    #[error(transparent)]
    Sync(#[from] sync::Error),
    /// The controller stopped.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// The web server ended by itself.
    #[error("the web server ended")]
    Web,
}

/// Runs until TERM or INT (exit code 0), or until leadership is lost or a part of the process ends by itself (an error).
///
/// # Errors
/// [`Error`]; the process then ends with exit code 1 and is started again.
pub async fn run(arguments: RunArguments) -> Result<ExitCode, Error> {
    telemetry::start(arguments.log_format);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "vmail-operator starts");
    let shutdown = CancellationToken::new();
    let signals = stop_on_signal(shutdown.clone())?;
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    let client = client::connect(&config)?;
    let RunArguments { lease_namespace, lease, pod_name, .. } = &arguments;
    let leadership = Leadership::new(client::connect(&config)?, lease_namespace, lease, pod_name);
    let common = Common { client, index: SharedIndex::default(), metrics: Metrics::default(), shutdown };
    let pages = Pages { index: common.index.clone(), metrics: common.metrics.clone() };
    // Probes are answered until everything else has ended.
    let web_stop = CancellationToken::new();
    let web = tokio::spawn(http::serve(arguments.listen, pages, web_stop.clone()));
    let mut parts = Parts::new();
    let watching =
        watches::run(common.client.clone(), arguments.watch_namespace.clone(), common.index.clone());
    // A replica that waits watches, too: it knows everything when it takes over.
    let watching = parts.start("the watches", async move {
        Box::pin(watching).await;
        Err(Error::Ended("a watch"))
    });
    let shutdown = common.shutdown.clone();
    let result = tokio::select! {
        result = lead(&arguments, leadership, common, &mut parts) => result,
        ended = web => Err(ended.map_err(std::io::Error::other).and_then(|served| served).err().map_or(Error::Web, Error::Io)),
    };
    shutdown.cancel();
    web_stop.cancel();
    watching.abort();
    signals.abort();
    tracing::info!("vmail-operator ends");
    result.map(|()| ExitCode::SUCCESS)
}

fn stop_on_signal(shutdown: CancellationToken) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    }))
}

/// What all parts of the process have in common.
#[derive(Clone)]
struct Common {
    client: Client,
    index: SharedIndex,
    metrics: Metrics,
    /// Asks everything to end.
    shutdown: CancellationToken,
}

/// Waits for the Lease, then works while it is held, and gives it back.
async fn lead(
    arguments: &RunArguments,
    mut leadership: Leadership,
    common: Common,
    parts: &mut Parts,
) -> Result<(), Error> {
    let result = work_while_leading(arguments, &mut leadership, common, parts).await;
    leadership.give_back().await;
    result
}

async fn work_while_leading(
    arguments: &RunArguments,
    leadership: &mut Leadership,
    common: Common,
    parts: &mut Parts,
) -> Result<(), Error> {
    let shutdown = common.shutdown.clone();
    let installation = tokio::select! {
        installation = gained(leadership, &common.client) => installation?,
        () = shutdown.cancelled() => return Ok(()),
        failure = parts.failure() => return Err(failure),
    };
    tracing::info!("leading");
    common.metrics.leads(true);
    tokio::select! {
        result = work(arguments, common, installation, parts) => result,
        lost = leadership.lost() => {
            // The set loops are told before anybody else can have it.
            shutdown.cancel();
            Err(lost.into())
        }
    }
}

/// Waits for the Lease; gives the installation's id.
async fn gained(leadership: &mut Leadership, client: &Client) -> Result<String, Error> {
    let (gained, asked_before) = tokio::join!(leadership.gained(), installation(client));
    gained?;
    match asked_before {
        Ok(installation) => Ok(installation),
        // The API server may have been away then, and here it was asked for the Lease a moment ago.
        Err(_) => Ok(installation(client).await?),
    }
}

async fn work(
    arguments: &RunArguments,
    Common { client, index, metrics, shutdown }: Common,
    installation: String,
    parts: &mut Parts,
) -> Result<(), Error> {
    let reports = Reports::default();
    let statuses = Statuses::new(client.clone(), index.clone(), metrics.clone());
    let patching = statuses.clone().run();
    let patching = parts.start("the writing of status", async move {
        patching.await;
        Err(Error::Ended("the writing of status"))
    });
    let context = sync::Context {
        client: client.clone(),
        index: index.clone(),
        statuses,
        reports: reports.clone(),
        metrics,
        installation,
        namespace: arguments.watch_namespace.clone(),
        drift_check_interval: Duration::from_secs(arguments.drift_check_seconds),
    };
    let loops = sync::run(context, shutdown.clone());
    let loops = parts.start("the set loops", async move { Ok(loops.await?) });
    let controller = server::Context::new(
        client,
        index,
        reports,
        arguments.postfix_image.clone(),
        arguments.mariadb_image.clone(),
    )
    .within(arguments.watch_namespace.clone());
    let result = tokio::select! {
        result = server::run(controller, shutdown.clone()) => result.map_err(Error::from),
        failure = parts.failure() => Err(failure),
    };
    // Where it failed, nobody told the set loops to end.
    shutdown.cancel();
    if tokio::time::timeout(STOP_LIMIT, loops).await.is_err() {
        tracing::warn!("a set loop did not end in time");
    }
    patching.abort();
    result
}

/// The cluster's own id, as is the custom: the uid of its namespace kube-system.
async fn installation(client: &Client) -> Result<String, client::Error> {
    let namespace = client::bounded(Api::<Namespace>::all(client.clone()).get("kube-system")).await?;
    Ok(namespace.uid().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use crate::testing::{api_server, failure};

    /// An operator may wait for the Lease through an outage, or for weeks.
    #[tokio::test]
    async fn what_could_not_be_asked_before_the_lease_is_asked_again_after_it() {
        let asked = Arc::new(AtomicUsize::new(0));
        let client = api_server(move |request| match (request.uri().path(), request.method().as_str()) {
            ("/api/v1/namespaces/kube-system", _) if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
                failure(503, "ServiceUnavailable", "away")
            }
            ("/api/v1/namespaces/kube-system", _) => {
                (200, json!({"metadata": {"name": "kube-system", "uid": "7"}}))
            }
            (_, "GET") => failure(404, "NotFound", "there is no Lease"),
            _ => (201, json!({"metadata": {"name": "vmail", "resourceVersion": "1"}})),
        });
        let mut leadership = Leadership::new(client.clone(), "mail", "vmail", "a");
        assert_eq!(gained(&mut leadership, &client).await.unwrap(), "7");
    }
}
