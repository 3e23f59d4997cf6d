//! The operator as it works once it leads: its watches, its set loops and its queue of status patches.

use std::time::Duration;

use kube::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vmail_operator::metrics::Metrics;
use vmail_operator::report::{Reports, ServerReport};
use vmail_operator::status::Statuses;
use vmail_operator::sync::{self, Context};
use vmail_operator::watches::{self, SharedIndex};

use super::INSTALLATION;
use super::world::server;

/// Full comparisons are asked for by the test, which waits for their end.
const NEVER: Duration = Duration::from_hours(1);

pub struct Operator {
    pub context: Context,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Operator {
    pub fn start(client: Client) -> Self {
        let (index, metrics) = (SharedIndex::default(), Metrics::default());
        let context = Context {
            statuses: Statuses::new(client.clone(), index.clone(), metrics.clone()),
            reports: Reports::default(),
            installation: INSTALLATION.to_owned(),
            namespace: None,
            drift_check_interval: NEVER,
            client,
            index,
            metrics,
        };
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(work(context.clone(), shutdown.clone()));
        Self { context, shutdown, task }
    }

    /// As TERM does.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }

    /// As KILL does.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()), "it failed by itself");
    }

    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }

    pub fn report(&self) -> Option<ServerReport> {
        self.context.reports.get(&server())
    }

    /// The number after the name of a metric, with its labels.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.context.metrics.text().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |number| number.trim().parse().unwrap())
    }
}

async fn work(context: Context, shutdown: CancellationToken) {
    let watches = Box::pin(watches::run(context.client.clone(), None, context.index.clone()));
    tokio::select! {
        () = watches => panic!("a watch ended"),
        () = context.statuses.clone().run() => panic!("the writing of status ended"),
        ended = sync::run(context, shutdown) => ended.unwrap(),
    }
}
