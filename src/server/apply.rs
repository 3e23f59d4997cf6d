//! Objects -> the API server: server-side apply, only where something differs, every request with a time limit.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Error;
use super::build::names::{self, Component};
use super::build::{CONFIG_HASH_ANNOTATION, DRAIN_ANNOTATION, DatabaseObjects, Objects, short_hash};
use super::drain::{is_leaving, is_to_leave};
use super::pods::{PodState, pod_state};
use super::validate::ValidatedServer;
use crate::api::FIELD_MANAGER;
use crate::client;
use crate::object::ObjectName;

/// Annotation of an owned object: hash of what was applied last, which shows a field that is wanted no more.
const APPLIED_HASH_ANNOTATION: &str = "vmail.dev/applied-hash";

/// Waits for an answer, but not for ever. `what` names the object in errors.
///
/// # Errors
/// The API server's, or that it did not answer in time.
pub(super) async fn bounded<T>(
    what: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, Error> {
    client::bounded(request).await.map_err(|error| match error {
        client::Error::Api(source) => Error::Api { what: what.to_owned(), source: Box::new(source) },
        client::Error::Timeout(limit) => Error::Timeout { what: what.to_owned(), limit },
    })
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

/// Refuses an object that was there before the server: taking it over could destroy what somebody else needs, and one
/// of a namesake that was deleted is about to be collected.
///
/// # Errors
/// [`Error::NotOwned`] and [`Error::Leftover`].
pub(super) fn require_owned<K: Resource<DynamicType = ()>>(
    live: &K,
    server: &ValidatedServer,
) -> Result<(), Error> {
    let ours = &server.owner;
    let owners = live.owner_references();
    if owners.iter().any(|owner| owner.uid == ours.uid) {
        Ok(())
    } else if owners.iter().any(|owner| (&owner.kind, &owner.name) == (&ours.kind, &ours.name)) {
        Err(Error::Leftover(what(live)))
    } else {
        Err(Error::NotOwned(what(live)))
    }
}

fn what<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}", K::kind(&()), object.name_any())
}

/// Makes the server's objects true, in an order in which nothing waits for what comes later.
///
/// With `tables_first` Postfix is left as it is.
///
/// # Errors
/// At the first object that is refused or can't be written.
pub async fn apply(
    client: &Client,
    server: &ValidatedServer,
    objects: Objects,
    tables_first: bool,
) -> Result<(), Error> {
    // Without `..`, so that an object that is built and not applied doesn't compile.
    let Objects {
        config_map,
        postfix_service,
        postfix_pods_service,
        mail_claim,
        postfix,
        postfix_budget,
        database,
    } = objects;
    let applier = Applier { client, server };
    if let Some(DatabaseObjects { init_secret, service, stateful_set }) = database {
        applier.ensure(init_secret, keep_nothing).await?;
        applier.ensure(service, keep_nothing).await?;
        applier.ensure(stateful_set, keep_claim_templates).await?;
    }
    if tables_first {
        return Ok(());
    }
    applier.ensure(config_map, keep_nothing).await?;
    applier.ensure(postfix_pods_service, keep_nothing).await?;
    applier.ensure(postfix_service, keep_nothing).await?;
    if let Some(claim) = mail_claim {
        applier.create_if_absent(claim).await?;
    }
    applier.ensure(postfix_budget, keep_nothing).await?;
    applier.ensure(postfix, keep_claim_templates).await
}

fn keep_nothing<K>(_: &mut K, _: &K) {}

/// Claim templates can't be changed: those that the `StatefulSet` was made with count.
fn keep_claim_templates(wanted: &mut StatefulSet, live: &StatefulSet) {
    if let (Some(wanted), Some(live)) = (&mut wanted.spec, &live.spec) {
        wanted.volume_claim_templates.clone_from(&live.volume_claim_templates);
    }
}

struct Applier<'a> {
    client: &'a Client,
    server: &'a ValidatedServer,
}

impl Applier<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.server.name.namespace)
    }

    /// Applies `wanted` unless it is there already. `keep` takes over from the live object what can't be changed.
    async fn ensure<K>(&self, mut wanted: K, keep: fn(&mut K, &K)) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let (api, what, name) = (self.api::<K>(), what(&wanted), wanted.name_any());
        let hash = short_hash(&serde_json::to_vec(&wanted)?);
        wanted.annotations_mut().insert(APPLIED_HASH_ANNOTATION.to_owned(), hash);
        let live = bounded(&what, api.get_opt(&name)).await?;
        if let Some(live) = &live {
            require_owned(live, self.server)?;
            keep(&mut wanted, live);
            if contains(&serde_json::to_value(live)?, &serde_json::to_value(&wanted)?) {
                return Ok(());
            }
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = match bounded(&what, api.patch(&name, &parameters, &Patch::Apply(&wanted))).await {
            // What somebody else put into one of our lists can't be applied away: then the lists are set as a whole.
            Err(error) if error.is_invalid() && live.is_some() => {
                bounded(&what, api.patch(&name, &patch_parameters(), &Patch::Merge(&wanted))).await?
            }
            applied => applied?,
        };
        // A value that the API server writes in another way, as 500m for 0.5, looks different and changes nothing.
        if live.and_then(|live| live.resource_version()) != applied.resource_version() {
            tracing::info!(server = %self.server.name, object = what, "applied");
        }
        Ok(())
    }

    async fn create_if_absent<K>(&self, wanted: K) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let (api, what, name) = (self.api::<K>(), what(&wanted), wanted.name_any());
        if bounded(&what, api.get_opt(&name)).await?.is_none() {
            let parameters =
                PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            bounded(&what, api.create(&parameters, &wanted)).await?;
            tracing::info!(server = %self.server.name, object = what, "created");
        }
        Ok(())
    }
}

/// Whether everything in `wanted` is in `live`, which has the API server's defaults besides.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| live.get(key).is_some_and(|live| contains(live, wanted)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        _ => live == wanted,
    }
}

/// Postfix's `StatefulSet`; `None`: there is none yet.
///
/// # Errors
/// When the API server can't be asked.
pub async fn live_stateful_set(client: &Client, server: &ObjectName) -> Result<Option<StatefulSet>, Error> {
    let api = Api::<StatefulSet>::namespaced(client.clone(), &server.namespace);
    let name = names::postfix(&server.name);
    bounded(&format!("StatefulSet {name}"), api.get_opt(&name)).await
}

/// The number of Postfix pods that there are to be, as was written last; `None`: there is no `StatefulSet` yet.
///
/// # Errors
/// When the API server can't be asked.
pub async fn live_replicas(client: &Client, server: &ObjectName) -> Result<Option<i32>, Error> {
    Ok(live_stateful_set(client, server).await?.and_then(|live| live.spec?.replicas))
}

/// The claim of a Postfix pod's queue, if it is there.
///
/// # Errors
/// When the API server can't be asked.
pub async fn queue_claim(
    client: &Client,
    server: &ObjectName,
    pod: &str,
) -> Result<Option<PersistentVolumeClaim>, Error> {
    let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &server.namespace);
    let name = names::queue_claim(pod);
    bounded(&format!("PersistentVolumeClaim {name}"), api.get_opt(&name)).await
}

/// Asks the pods past the `wanted` number to empty their queues, and takes it back from the others.
///
/// # Errors
/// When a pod can't be written; one that is gone is none.
pub async fn ask_to_leave(
    client: &Client,
    server: &ObjectName,
    pods: &[Pod],
    wanted: i32,
) -> Result<(), Error> {
    for pod in pods {
        let leaves = is_to_leave(&server.name, wanted, &pod.name_any());
        if leaves == is_leaving(pod) {
            continue;
        }
        let asked = if leaves { Value::from("true") } else { Value::Null };
        unless_gone(annotate(client, pod, DRAIN_ANNOTATION, asked).await)?;
    }
    Ok(())
}

/// The configuration that was handed to Postfix last; `None`: there is none yet.
///
/// # Errors
/// When the API server can't be asked.
pub async fn config_in_force(client: &Client, server: &ObjectName) -> Result<Option<ConfigMap>, Error> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), &server.namespace);
    let name = names::postfix(&server.name);
    bounded(&format!("ConfigMap {name}"), api.get_opt(&name)).await
}

/// Removes an embedded database that is used no more. Its claim and its accounts stay: with `embedded` again, it is as it was.
///
/// # Errors
/// When it can't be asked for or deleted.
pub async fn remove_database(client: &Client, server: &ValidatedServer) -> Result<(), Error> {
    let name = names::database(&server.name.name);
    remove::<StatefulSet>(client, server, &name).await?;
    remove::<Service>(client, server, &name).await
}

async fn remove<K>(client: &Client, server: &ValidatedServer, name: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), &server.name.namespace);
    let what = format!("{} {name}", K::kind(&()));
    let Some(live) = bounded(&what, api.get_opt(name)).await? else { return Ok(()) };
    if require_owned(&live, server).is_err() {
        return Ok(());
    }
    unless_gone(bounded(&what, api.delete(name, &DeleteParams::default())).await)?;
    tracing::info!(server = %server.name, object = what, "removed, its claim stays");
    Ok(())
}

/// Removes the look-up files of a server that looks accounts up in a database.
///
/// # Errors
/// When they can't be listed or deleted.
pub async fn remove_look_up_files(client: &Client, server: &ObjectName) -> Result<(), Error> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), &server.namespace);
    let parameters = ListParams::default().labels(&Component::LookUpFiles.selector(&server.name));
    for file in bounded("look-up files", api.list_metadata(&parameters)).await? {
        unless_gone(bounded("look-up files", api.delete(&file.name_any(), &DeleteParams::default())).await)?;
    }
    Ok(())
}

/// The pods of one of the server's workloads.
///
/// # Errors
/// When the API server can't be asked.
pub async fn pods(client: &Client, server: &ObjectName, component: Component) -> Result<Vec<Pod>, Error> {
    let api = Api::<Pod>::namespaced(client.clone(), &server.namespace);
    let parameters = ListParams::default().labels(&component.selector(&server.name));
    Ok(bounded("pods", api.list(&parameters)).await?.items)
}

/// Has Postfix pods look at a configuration that they were not asked to look at yet: one that runs by an annotation, for
/// the kubelet projects a changed `ConfigMap` when the pod changes, within a second, else a minute and more later; one
/// that refused the configuration before by its deletion, for its restarts come at ever longer intervals.
///
/// # Errors
/// When a pod can't be written; one that is gone is none.
pub async fn touch(client: &Client, pods: &[Pod], config_hash: &str) -> Result<(), Error> {
    for pod in pods {
        let seen = pod.annotations().get(CONFIG_HASH_ANNOTATION);
        if seen.is_some_and(|seen| seen == config_hash) {
            continue;
        }
        let refused = matches!(pod_state(std::slice::from_ref(pod)), PodState::Refused(_));
        let result = if seen.is_some() && refused {
            restart(client, pod).await
        } else {
            annotate(client, pod, CONFIG_HASH_ANNOTATION, config_hash).await
        };
        unless_gone(result)?;
    }
    Ok(())
}

/// Annotates a pod (`null` takes the annotation away), which makes the kubelet look at what is mounted in it.
///
/// # Errors
/// When the pod can't be written.
pub async fn annotate(
    client: &Client,
    pod: &Pod,
    annotation: &str,
    value: impl Into<Value>,
) -> Result<(), Error> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let patch = json!({"metadata": {"annotations": {annotation: value.into()}}});
    bounded(&what(pod), api.patch_metadata(&pod.name_any(), &patch_parameters(), &Patch::Merge(&patch)))
        .await?;
    Ok(())
}

/// Deletes the pod, and no later one of the same name; its `StatefulSet` makes it anew.
async fn restart(client: &Client, pod: &Pod) -> Result<(), Error> {
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let preconditions = Some(Preconditions { uid: pod.uid(), resource_version: None });
    let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
    bounded(&what(pod), api.delete(&pod.name_any(), &parameters)).await?;
    Ok(())
}

pub(super) fn patch_parameters() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_the_api_server_are_no_difference() {
        let live = json!({"a": {"b": 1, "default": true}, "list": [{"x": 1, "y": 2}]});
        assert!(contains(&live, &json!({"a": {"b": 1}, "list": [{"x": 1}]})));
    }

    #[test]
    fn another_value_a_missing_one_and_another_length_are() {
        let live = json!({"a": {"b": 1}, "list": [1, 2]});
        for wanted in [json!({"a": {"b": 2}}), json!({"c": 1}), json!({"list": [1]}), json!({"list": [2, 1]})]
        {
            assert!(!contains(&live, &wanted), "{wanted}");
        }
    }
}
