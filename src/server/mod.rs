//! The `MailServer` controller: validate -> build -> apply -> status.
//!
//! Few objects, each owning Kubernetes objects: an ordinary controller. The middle ([`validate`], [`build`], [`pods`],
//! [`status`]) is pure; [`accounts`], [`credentials`] and [`apply`] speak with the API server,
//! [`agent`] with the Postfix pod. Rows of the tables are the
//! set loop's; what it found arrives as reports, and this room alone writes a `MailServer`'s status.
//!
//! Owned objects go with their `MailServer` by owner references, so there is no finalizer. Claims are not owned: neither
//! the mail nor the embedded database's data is ever deleted by the operator.

pub mod accounts;
pub mod agent;
pub mod apply;
pub mod build;
pub mod credentials;
pub mod database;
pub mod drain;
mod error;
mod mail_claim;
mod needs;
pub mod pods;
pub mod status;
mod unused;
pub mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::api::{ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{FIELD_MANAGER, MailServer, MailServerStatus, Reason};
use crate::index::rows::ServerRow;
use crate::index::stored_as::refused_switch;
use crate::object::ObjectName;
use crate::postfix;
use crate::report::{Finding, Reports, ServerReport};
use crate::watches::SharedIndex;
use apply::bounded;
use build::names::{CONTROLLED_SELECTOR, Component, INSTANCE_LABEL};
use build::{TABLES_ANNOTATION, tables};
use database::Endpoint;
pub use error::Error;
use status::Observed;
use validate::{Images, ValidatedServer};

/// Servers that are worked on at once.
const CONCURRENCY: u16 = 4;

/// Shortest and longest rest after a failure. Between them it is as long as the server has been failing: events that cause
/// many attempts in a short outage don't make it longer.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Rest of the watches after a failure of one of them.
const WATCH_REST: Duration = Duration::from_secs(1);

/// What every reconciliation shares.
pub struct Context {
    client: Client,
    index: SharedIndex,
    reports: Reports,
    /// Where servers are looked for; `None`: in all namespaces.
    namespace: Option<String>,
    images: Images,
    recorder: Recorder,
    /// Servers that fail, and since when.
    failing: Mutex<BTreeMap<ObjectName, Instant>>,
}

impl Context {
    /// A context for all namespaces, with no failures so far. The images are for servers that name none.
    #[must_use]
    pub fn new(
        client: Client,
        index: SharedIndex,
        reports: Reports,
        postfix_image: String,
        mariadb_image: String,
    ) -> Self {
        let recorder = Recorder::new(client.clone(), Reporter::from(FIELD_MANAGER));
        let images = Images { postfix: postfix_image, mariadb: mariadb_image };
        Self { client, index, reports, namespace: None, images, recorder, failing: Mutex::default() }
    }

    /// The same for the servers of one namespace only, if one is given.
    #[must_use]
    pub fn within(self, namespace: Option<String>) -> Self {
        Self { namespace, ..self }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Whether every server's set loop has told what it found, for the first time.
    fn is_compared(&self) -> bool {
        let servers = self.index.read().server_names();
        servers.iter().all(|server| self.reports.get(server).is_some())
    }

    fn succeeded(&self, server: &ObjectName) {
        self.failing().remove(server);
    }

    /// How long to rest after a failure.
    fn failed(&self, server: &ObjectName) -> Duration {
        let since = *self.failing().entry(server.clone()).or_insert_with(Instant::now);
        since.elapsed().clamp(BACK_OFF.0, BACK_OFF.1)
    }

    fn failing(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Instant>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the workloads wait for the accounts at a start.
const ACCOUNTS_FIRST: Duration = Duration::from_secs(1);

/// How long what is under way may take to end. With what ends after it, it has to fit into a pod's thirty seconds.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Keeps every `MailServer`'s workloads true until `shutdown`; ends what is under way first, but waits for it no longer than
/// for a few seconds.
///
/// # Errors
/// When `MailServer`s can't be listed at the start: the API server is not there, or the kind or the right to list is
/// missing. Later failures are logged and tried again.
pub async fn run(context: Context, shutdown: CancellationToken) -> Result<(), Error> {
    bounded("MailServers", context.api::<MailServer>().list(&ListParams::default().limit(1))).await?;
    accounts_compared(&context, &shutdown).await;
    let managed = || watcher::Config::default().labels(CONTROLLED_SELECTOR);
    let servers = Controller::new(
        context.api::<DeserializeGuard<MailServer>>(),
        watcher::Config::default().any_semantic(),
    );
    let store = servers.store();
    let controller = servers
        .with_config(Config::default().concurrency(CONCURRENCY))
        .trigger_backoff(SteadyBackoff)
        .owns(context.api::<StatefulSet>(), managed())
        .owns(context.api::<Service>(), managed())
        .owns(context.api::<ConfigMap>(), managed())
        .owns(context.api::<PartialObjectMeta<Secret>>(), managed())
        .watches(context.api::<Pod>(), managed(), |pod| server_of(&pod))
        .reconcile_all_on(context.reports.changed())
        .graceful_shutdown_on(shutdown.clone().cancelled_owned())
        .run(reconcile, |server, error, context| back_off(&server, error, &context), Arc::new(context))
        .for_each(log_interruption);
    tokio::select! {
        () = controller => {}
        () = overdue(&shutdown, &store) => {}
    }
    Ok(())
}

/// Lets the accounts be listed and compared first, for a moment: each watch of the workloads is one more connection and list, and
/// they run already, while the tables wait.
async fn accounts_compared(context: &Context, shutdown: &CancellationToken) {
    let compared = async {
        context.index.complete().await;
        let mut changed = std::pin::pin!(context.reports.changed());
        while !context.is_compared() && changed.next().await.is_some() {}
    };
    tokio::select! {
        () = compared => {}
        () = tokio::time::sleep(ACCOUNTS_FIRST) => {}
        () = shutdown.cancelled() => {}
    }
}

/// Waits until the controller should have ended. Told to end before its first list is there, it would wait for that for ever.
async fn overdue(shutdown: &CancellationToken, store: &Store<DeserializeGuard<MailServer>>) {
    shutdown.cancelled().await;
    if store.wait_until_ready().now_or_never().is_some() {
        tokio::time::sleep(STOP_LIMIT).await;
        tracing::warn!("work on a MailServer did not end in time");
    }
}

/// The rest of all watches after a failure of one, which the controller has only one of. One that grew would grow with each
/// watch that fails, and after a restart of the API server each one does: it would be a minute.
struct SteadyBackoff;

impl Iterator for SteadyBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(WATCH_REST)
    }
}

impl Backoff for SteadyBackoff {
    fn reset(&mut self) {}
}

/// A watch that is interrupted begins anew by itself; that a server failed is logged where its rest is decided.
async fn log_interruption<T, Q: std::error::Error>(result: Result<T, controller::Error<Error, Q>>) {
    if let Err(controller::Error::QueueError(error)) = result {
        tracing::warn!(%error, "watch of the MailServers or of what they own interrupted, trying again");
    }
}

/// The server that a pod belongs to: its `StatefulSet` is what owns it, so its labels tell.
fn server_of(pod: &Pod) -> Option<ObjectRef<DeserializeGuard<MailServer>>> {
    let name = pod.labels().get(INSTANCE_LABEL)?;
    Some(ObjectRef::new(name).within(&pod.namespace()?))
}

async fn reconcile(
    object: Arc<DeserializeGuard<MailServer>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let server = match &object.0 {
        Ok(server) => server,
        Err(invalid) => {
            tracing::warn!(server = object.name_any(), error = %invalid.error, "MailServer can't be parsed, its workloads are left as they are");
            return Ok(Action::await_change());
        }
    };
    if server.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if mail_claim::adopt(server, &context).await? {
        return Ok(Action::await_change());
    }
    // The objects are large: pinned, they don't lie on the stack of every task.
    let made = Box::pin(make(server, &context)).await;
    let (mut next, mut agents) = (status::RESYNC, BTreeMap::new());
    if let Some(observed) = observe(server, &context, &made).await? {
        next = observed.look_again_after();
        agents.clone_from(&observed.replicas);
        update_status(server, &context, status::status(server, observed, Timestamp::now())).await?;
    }
    let made = made?;
    if !made.tables_first {
        unused::remove(&context.client, &made.server, &agents, &made.config_hash).await?;
    }
    context.succeeded(&ObjectName::of(server));
    Ok(Action::requeue(next))
}

fn back_off(server: &DeserializeGuard<MailServer>, error: &Error, context: &Context) -> Action {
    let name = ObjectName::of(server);
    let rest = context.failed(&name);
    tracing::warn!(server = %name, %error, again_after_seconds = rest.as_secs(), "MailServer not reconciled");
    Action::requeue(rest)
}

/// What became of a server's objects.
struct Made {
    server: ValidatedServer,
    /// Postfix was left as it is.
    tables_first: bool,
    config_hash: String,
    credentials: Option<Finding>,
    shortcoming: Option<Finding>,
}

async fn make(server: &MailServer, context: &Context) -> Result<Made, Error> {
    let mut validated = validate::validate(server, &context.images)?;
    // What the domains need is not known before all of them are: better late than a configuration that lacks a look-up.
    context.index.complete().await;
    let in_force = apply::config_in_force(&context.client, &validated.name).await?;
    let report = context.reports.get(&validated.name);
    let needs = needs::needs(
        &context.index.read(),
        (&validated.name, validated.tables),
        report.as_ref(),
        in_force.as_ref(),
    );
    let database = validated.endpoint.as_ref().map(Endpoint::for_postfix);
    let config = postfix::render(&validated.name, &server.spec, database.as_ref(), &needs)?;
    let accounts = match validated.database {
        Some(_) => Some(accounts::ensure(&context.client, &validated).await?),
        None => None,
    };
    let pods = apply::pods(&context.client, &validated.name, Component::Postfix).await?;
    let wanted = validated.postfix.replicas;
    validated.postfix.replicas = replicas(&validated, context, &pods).await?;
    let objects = build::build(&validated, &config, accounts.as_ref());
    let tables_first = tables_first(&validated, report.as_ref(), in_force.as_ref());
    Box::pin(apply::apply(&context.client, &validated, objects, tables_first)).await?;
    mail_claim::keep(server, &validated, &context.client).await?;
    apply::ask_to_leave(&context.client, &validated.name, &pods, wanted).await?;
    if !tables_first {
        apply::touch(&context.client, &pods, &config.hash).await?;
    }
    let credentials = credentials::obstacle(&context.client, &validated).await?;
    let shortcoming = credentials::shortcoming(&context.client, &validated).await?;
    Ok(Made { server: validated, tables_first, config_hash: config.hash, credentials, shortcoming })
}

/// As many replicas as it takes until those that are to go have emptied their queues.
async fn replicas(server: &ValidatedServer, context: &Context, pods: &[Pod]) -> Result<i32, Error> {
    let wanted = server.postfix.replicas;
    let live = apply::live_replicas(&context.client, &server.name).await?;
    // Only of a pod that is one too many it counts what is in its queue.
    if live.is_none_or(|live| live <= wanted) {
        return Ok(wanted);
    }
    let agents = agent::statuses(pods).await;
    let mut may_go = BTreeSet::new();
    for name in drain::silent(&server.name.name, wanted, live, &agents) {
        let pod = pods.iter().find(|pod| pod.name_any() == name);
        if pod.is_some_and(drain::is_forced)
            || drain::never_had_mail(
                pod,
                apply::queue_claim(&context.client, &server.name, &name).await?.as_ref(),
            )
        {
            may_go.insert(name);
        }
    }
    Ok(drain::replicas(&server.name.name, wanted, live, &agents, &may_go))
}

/// Whether Postfix would be handed other tables than it has, and these don't have all accounts yet: it would refuse mail for
/// those that are missing.
fn tables_first(
    server: &ValidatedServer,
    report: Option<&ServerReport>,
    in_force: Option<&ConfigMap>,
) -> bool {
    let in_force = in_force.and_then(|config_map| config_map.annotations().get(TABLES_ANNOTATION));
    let complete = report.and_then(|report| report.complete);
    in_force.is_some_and(|in_force| *in_force != tables(server)) && complete != Some(server.tables)
}

/// What there is to tell; `None` after a failure that says nothing about the server, as an outage of the API server.
async fn observe(
    server: &MailServer,
    context: &Context,
    made: &Result<Made, Error>,
) -> Result<Option<Observed>, Error> {
    let name = ObjectName::of(server);
    let postfix = apply::pods(&context.client, &name, Component::Postfix).await?;
    let agents = agent::statuses(&postfix).await;
    let (config, config_hash, credentials) = match made {
        Ok(Made { config_hash, credentials, shortcoming, .. }) => {
            let config = agent::config_finding(agents.values(), config_hash);
            let switch = refused_switch(server).map(|told| Finding::bad(Reason::ConfigInvalid, told));
            let shortcoming = switch.or(shortcoming.clone());
            let config = shortcoming.filter(|_| config.ok).unwrap_or(config);
            (config, Some(config_hash.clone()), credentials.clone())
        }
        Err(error) => match error.finding() {
            Some(finding) => (finding, None, None),
            None => return Ok(None),
        },
    };
    let endpoint = database::endpoint(&name, &ServerRow::from(server));
    let uses_database = endpoint.is_some();
    let database = if endpoint.is_some_and(|endpoint| endpoint.embedded) {
        Some(apply::pods(&context.client, &name, Component::MariaDb).await?)
    } else {
        None
    };
    Ok(Some(Observed {
        config,
        config_hash,
        replicas: agents,
        leaving: drain::leaving(&postfix),
        credentials,
        report: context.reports.get(&name),
        postfix: pods::pod_state(&postfix),
        uses_database,
        database: database.as_deref().map(pods::pod_state),
    }))
}

async fn update_status(
    server: &MailServer,
    context: &Context,
    status: MailServerStatus,
) -> Result<(), Error> {
    if server.status.as_ref() == Some(&status) {
        return Ok(());
    }
    patch_status(server, context, &json!({"status": status})).await?;
    if let Some(event) = status::event(server.status.as_ref(), &status) {
        let reference = server.object_ref(&());
        if let Err(error) = bounded("event", context.recorder.publish(&event, &reference)).await {
            tracing::warn!(server = %ObjectName::of(server), %error, "event not published");
        }
    }
    Ok(())
}

async fn patch_status(
    server: &MailServer,
    context: &Context,
    patch: &serde_json::Value,
) -> Result<(), Error> {
    let api = Api::<MailServer>::namespaced(context.client.clone(), &server.namespace().unwrap_or_default());
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    bounded("status", api.patch_status(&server.name_any(), &parameters, &Patch::Merge(patch))).await?;
    Ok(())
}
