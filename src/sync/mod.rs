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
mod pace;
mod pass;
mod serve;
mod tally;
mod teller;

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::desired;
use crate::metrics::Metrics;
use crate::object::ObjectName;
use crate::report::Reports;
use crate::status::Statuses;
use crate::watches::SharedIndex;

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
    /// Time between two full comparisons; each is shortened by up to a tenth, so that servers don't keep step.
    pub drift_check_interval: Duration,
}

impl Context {
    /// The id of a server's set loop in the ownership table.
    fn server_id(&self, server: &ObjectName) -> String {
        format!("{}/{server}", self.installation)
    }
}

/// Runs a set loop for every server, until `shutdown`; then lets each end its statement and give its lock back.
pub async fn run(context: Context, shutdown: CancellationToken) {
    let mut changed = context.index.subscribe();
    tokio::select! {
        () = context.index.servers_listed() => {}
        () = shutdown.cancelled() => return,
    }
    let mut tasks = JoinSet::new();
    let mut loops: BTreeMap<ObjectName, CancellationToken> = BTreeMap::new();
    loop {
        let servers = context.index.read().server_names();
        loops.retain(|server, stop| {
            let kept = servers.contains(server);
            if !kept {
                stop.cancel();
                context.reports.remove(server);
            }
            kept
        });
        for server in servers {
            loops.entry(server.clone()).or_insert_with(|| {
                let stop = shutdown.child_token();
                tasks.spawn(serve::serve(context.clone(), server, stop.clone()));
                stop
            });
        }
        // The loops connect while the rest is listed; who has no server is not known before.
        let complete = context.index.is_complete();
        if complete {
            tell_unserved(&context);
        }
        tokio::select! {
            result = changed.changed(), if complete => if result.is_err() { break },
            () = context.index.complete(), if !complete => {}
            () = shutdown.cancelled() => break,
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Objects that no server serves wait for a verdict all the same.
fn tell_unserved(context: &Context) {
    let keys = context.index.quietly(crate::index::Index::take_unserved);
    if keys.is_empty() {
        return;
    }
    let verdicts: Vec<_> = {
        let index = context.index.read();
        keys.iter().flat_map(|key| desired::unserved(&index, key)).collect()
    };
    context.statuses.offer(verdicts);
}
