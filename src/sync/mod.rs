//! The set loops, one a `MailServer`: gather -> plan -> apply -> report. The only room that knows the others.
//!
//! Group commit, not a settling delay: an idle loop works on a change at once, and what arrives while a pass runs is
//! the next pass; while a burst lasts, passes keep a distance of some milliseconds. A pass after an event plans the touched keys; a full comparison runs on every new connection and at
//! each drift check.

mod ahead;
mod brake;
mod chunk;
mod drift;
mod files;
mod losses;
mod pace;
mod pass;
mod refused;
mod serve;
mod tally;
mod teller;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kube::Client;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::desired;
use crate::index::Key;
use crate::metrics::Metrics;
use crate::object::ObjectName;
use crate::report::{Reports, ServerReport};
use crate::status::Statuses;
use crate::watches::SharedIndex;
use serve::jittered;

/// What every set loop shares.
#[derive(Clone)]
pub struct Context {
    /// Client of the API server, for Secrets and Events.
    pub client: Client,
    /// What is declared.
    pub index: SharedIndex,
    /// Where verdicts go.
    pub statuses: Statuses,
    /// Where findings on servers go.
    pub reports: Reports,
    /// The operator's metrics.
    pub metrics: Metrics,
    /// Id of this installation, the same for its lifetime and different in every cluster.
    pub installation: String,
    /// The one namespace that is watched; `None`: all.
    pub namespace: Option<String>,
    /// Time between two full comparisons; each is shortened by up to a tenth, so that servers don't keep step.
    pub drift_check_interval: Duration,
}

/// Why the set loops can't go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The loop of a server ended by itself, which none should: it panicked.
    #[error("the set loop of the MailServer {0} failed")]
    Ended(ObjectName),
}

impl Context {
    /// Tells the controller and the metrics of a server.
    fn report(&self, server: &ObjectName, report: ServerReport) {
        self.metrics.tables_synced(server, report.tables.ok);
        self.reports.set(server, report);
    }

    /// A server is gone, and its loop has ended.
    fn forget(&self, server: &ObjectName) {
        self.reports.remove(server);
        self.metrics.forget(server);
    }

    /// How the ids of all set loops begin that this operator may run. Another one may serve another namespace of the cluster.
    fn ours(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{}/{namespace}/", self.installation),
            None => format!("{}/", self.installation),
        }
    }

    /// The id of a server's set loop in the ownership table.
    fn server_id(&self, server: &ObjectName) -> String {
        format!("{}/{server}", self.installation)
    }
}

/// Keys whose objects are told together that no server serves them.
const UNSERVED: usize = 1000;

/// Runs a set loop for every server, until `shutdown`; then lets each end its statement and give its lock back.
///
/// # Errors
/// [`Error`], once the other loops have ended.
pub async fn run(context: Context, shutdown: CancellationToken) -> Result<(), Error> {
    let mut changed = context.index.subscribe();
    tokio::select! {
        () = context.index.servers_listed() => {}
        () = shutdown.cancelled() => return Ok(()),
    }
    let stop = shutdown.child_token();
    let mut loops = Loops::new(&context, stop.clone());
    let mut next_check = Instant::now() + jittered(context.drift_check_interval);
    let mut result = Ok(());
    while result.is_ok() {
        loops.follow();
        // The loops connect while the rest is listed; who has no server is not known before.
        let complete = context.index.is_complete();
        if complete && context.index.read().has_unserved() {
            let keys = context.index.quietly(crate::index::Index::take_unserved);
            tell_unserved(&context, &keys.into_iter().collect::<Vec<_>>()).await;
        }
        tokio::select! {
            result = changed.changed(), if complete => if result.is_err() { break },
            () = context.index.complete(), if !complete => {}
            Some(ended) = loops.tasks.join_next_with_id() => result = loops.ended(ended),
            () = tokio::time::sleep_until(next_check), if complete => {
                // A status that somebody wiped is written again.
                let keys = context.index.read().unserved_keys();
                tell_unserved(&context, &keys).await;
                next_check = Instant::now() + jittered(context.drift_check_interval);
            }
            () = shutdown.cancelled() => break,
        }
    }
    stop.cancel();
    while let Some(ended) = loops.tasks.join_next_with_id().await {
        result = result.and(loops.ended(ended));
    }
    result
}

/// The loops, one a server.
struct Loops<'a> {
    context: &'a Context,
    /// Stops all of them.
    stop: CancellationToken,
    /// What stops each.
    running: BTreeMap<ObjectName, CancellationToken>,
    tasks: JoinSet<()>,
    /// Whose each task is, and what stops it.
    of: HashMap<task::Id, (ObjectName, CancellationToken)>,
}

impl<'a> Loops<'a> {
    fn new(context: &'a Context, stop: CancellationToken) -> Self {
        let (running, tasks, of) = (BTreeMap::new(), JoinSet::new(), HashMap::new());
        Self { context, stop, running, tasks, of }
    }

    /// Stops those whose server is gone, and starts those of new ones.
    fn follow(&mut self) {
        let servers = self.context.index.read().server_names();
        self.running.retain(|server, stop| {
            let kept = servers.contains(server);
            if !kept {
                stop.cancel();
                // One of the same name must not be taken for it.
                self.context.reports.remove(server);
            }
            kept
        });
        for server in servers {
            self.running.entry(server.clone()).or_insert_with(|| {
                let stop = self.stop.child_token();
                let task = self.tasks.spawn(serve::serve(self.context.clone(), server.clone(), stop.clone()));
                self.of.insert(task.id(), (server, stop.clone()));
                stop
            });
        }
    }

    /// One that panicked must not leave its server without a loop and everybody else in the belief that all is well.
    fn ended(&mut self, ended: Result<(task::Id, ()), JoinError>) -> Result<(), Error> {
        let (id, panicked) = match ended {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), true),
        };
        let Some((server, stop)) = self.of.remove(&id) else { return Ok(()) };
        if panicked || !stop.is_cancelled() {
            return Err(Error::Ended(server));
        }
        if !self.running.contains_key(&server) {
            self.context.forget(&server);
        }
        Ok(())
    }
}

/// Objects that no server serves wait for a verdict all the same.
async fn tell_unserved(context: &Context, keys: &[Key]) {
    for chunk in keys.chunks(UNSERVED) {
        let verdicts: Vec<_> = {
            let index = context.index.read();
            chunk.iter().flat_map(|key| desired::unserved(&index, key)).collect()
        };
        context.statuses.offer(verdicts);
        tokio::task::yield_now().await;
    }
}
