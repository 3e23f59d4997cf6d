//! Watches of the API server into the index, which all tasks share.
//!
//! A watch delivers a full list first and after every interruption; objects that a list doesn't hold are gone. One
//! object that can't be parsed must not stop the rest, so every kind is read through [`guard`].

pub(crate) mod guard;
mod list_watch;
mod splitter;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch as channel;

use crate::api::{MailAdmin, MailAlias, MailDomain, MailServer, Mailbox};
use crate::index::Index;
use crate::index::rows::{Kind, ObjectId, ServerRow};
use crate::object::ObjectName;
use guard::{Guarded, Unreadable};
use list_watch::{Part, list_watch};

/// The index, shared by the watches that fill it and the tasks that read it.
#[derive(Clone)]
pub struct SharedIndex(Arc<Shared>);

struct Shared {
    index: RwLock<Index>,
    changed: channel::Sender<u64>,
    listed: channel::Sender<HashSet<&'static str>>,
}

/// How many watches there are: nothing is planned before each has delivered its first full list.
const WATCHES: usize = 7;

impl Default for SharedIndex {
    fn default() -> Self {
        let shared = Shared {
            index: RwLock::default(),
            changed: channel::Sender::new(0),
            listed: channel::Sender::new(HashSet::new()),
        };
        Self(Arc::new(shared))
    }
}

impl SharedIndex {
    /// Looks at the index; never hold the guard across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.0.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index and, where that touches anything, wakes those who wait in [`SharedIndex::subscribe`]'s receiver. The
    /// echo of a status that was just patched touches nothing.
    pub fn update(&self, change: impl FnOnce(&mut Index)) {
        let is_marked = self.quietly(|index| {
            let before = index.marks();
            change(index);
            index.marks() != before
        });
        if is_marked {
            self.0.changed.send_modify(|version| *version += 1);
        }
    }

    /// Changes the index without waking anybody, for what touches no key.
    pub fn quietly<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        change(&mut self.0.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// A receiver that sees every change from now on that touches anything.
    #[must_use]
    pub fn subscribe(&self) -> channel::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Whether every watch has delivered its first full list.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.0.listed.borrow().len() == WATCHES
    }

    /// Returns once every watch has delivered its first full list.
    pub async fn complete(&self) {
        let mut listed = self.0.listed.subscribe();
        // The sender lives as long as `self`.
        let _ = listed.wait_for(|listed| listed.len() == WATCHES).await;
    }

    /// Returns once the `MailServer`s have been listed; others may not have been.
    pub async fn servers_listed(&self) {
        let mut listed = self.0.listed.subscribe();
        let _ = listed.wait_for(|listed| listed.contains(Servers::NAME)).await;
    }

    fn listed(&self, watch: &'static str) {
        self.0.listed.send_if_modified(|listed| listed.insert(watch));
    }
}

/// Runs all watches, over one namespace or all; returns only where one of them ended, which none should.
pub async fn run(client: Client, namespace: Option<String>, index: SharedIndex) {
    let scope = Scope { client, namespace };
    tokio::select! {
        // The longest list is asked for first, then the one that others wait for; later on the order doesn't matter.
        biased;
        () = follow(scope.objects::<Guarded<Mailbox>>(), Accounts(Kind::Mailbox), index.clone()) => {}
        () = follow(scope.objects::<Guarded<MailServer>>(), Servers, index.clone()) => {}
        () = follow(scope.objects::<Guarded<MailDomain>>(), Accounts(Kind::Domain), index.clone()) => {}
        () = follow(scope.objects::<Guarded<MailAlias>>(), Accounts(Kind::Alias), index.clone()) => {}
        () = follow(scope.objects::<Guarded<MailAdmin>>(), Accounts(Kind::Admin), index.clone()) => {}
        () = follow(scope.secrets(), Secrets, index.clone()) => {}
        () = follow_namespaces(&scope, index.clone()) => {}
    }
}

/// An operator that watches one namespace needs no labels, and may not list namespaces.
async fn follow_namespaces(scope: &Scope, index: SharedIndex) {
    if scope.namespace.is_some() {
        index.listed(Namespaces::NAME);
        return std::future::pending().await;
    }
    follow(scope.namespaces(), Namespaces, index).await;
}

struct Scope {
    client: Client,
    namespace: Option<String>,
}

impl Scope {
    /// All of the objects of a kind that are served.
    fn objects<K>(&self) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + use<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Send
            + 'static,
    {
        list_watch(self.client.clone(), self.namespace.as_deref(), Part::Whole).default_backoff()
    }

    /// The metadata of the same; their values never come here.
    fn secrets(
        &self,
    ) -> impl Stream<Item = Result<Event<PartialObjectMeta<Secret>>, watcher::Error>> + Send + use<> {
        list_watch(self.client.clone(), self.namespace.as_deref(), Part::Metadata).default_backoff()
    }

    fn namespaces(
        &self,
    ) -> impl Stream<Item = Result<Event<PartialObjectMeta<Namespace>>, watcher::Error>> + Send + use<> {
        list_watch(self.client.clone(), None, Part::Metadata).default_backoff()
    }
}

/// What becomes of the objects of one watch.
trait Sink<K> {
    /// Name of the watch, for logs and for the guard on the first list.
    fn name(&self) -> &'static str;
    fn apply(&self, index: &mut Index, name: ObjectName, object: K);
    fn remove(&self, index: &mut Index, name: &ObjectName);
    fn names(&self, index: &Index) -> Vec<ObjectName>;
}

async fn follow<K, S>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    sink: S,
    index: SharedIndex,
) where
    K: Resource<DynamicType = ()>,
    S: Sink<K>,
{
    let mut events = std::pin::pin!(events);
    // What was there before the list that is being read and has not come in it.
    let mut unlisted = HashSet::new();
    loop {
        match events.try_next().await {
            Ok(Some(Event::Init)) => unlisted = sink.names(&index.read()).into_iter().collect(),
            Ok(Some(Event::InitApply(object))) => {
                let name = ObjectName::of(&object);
                unlisted.remove(&name);
                index.update(|index| sink.apply(index, name, object));
            }
            Ok(Some(Event::InitDone)) => {
                let gone = std::mem::take(&mut unlisted);
                index.update(|index| gone.iter().for_each(|name| sink.remove(index, name)));
                index.listed(sink.name());
            }
            Ok(Some(Event::Apply(object))) => {
                index.update(|index| sink.apply(index, ObjectName::of(&object), object));
            }
            Ok(Some(Event::Delete(object))) => {
                index.update(|index| sink.remove(index, &ObjectName::of(&object)));
            }
            Ok(None) => return,
            Err(error) => tracing::warn!(watch = sink.name(), %error, "watch interrupted, trying again"),
        }
    }
}

struct Servers;

impl Servers {
    const NAME: &'static str = "MailServer";
}

impl Sink<Guarded<MailServer>> for Servers {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn apply(&self, index: &mut Index, name: ObjectName, object: Guarded<MailServer>) {
        match object.0 {
            // A server that is being deleted is served no more: its rows stay for whoever comes after it.
            Ok(server) if server.meta().deletion_timestamp.is_some() => index.remove_server(&name),
            Ok(server) => index.apply_server(&name, ServerRow::from(&server)),
            Err(invalid) => {
                tracing::warn!(%name, error = %invalid.error, "MailServer can't be parsed, its last readable form counts");
                index.apply_unreadable_server(&name);
            }
        }
    }

    fn remove(&self, index: &mut Index, name: &ObjectName) {
        index.remove_server(name);
    }

    fn names(&self, index: &Index) -> Vec<ObjectName> {
        index.existing_servers().into_iter().collect()
    }
}

struct Accounts(Kind);

impl Accounts {
    fn unreadable(&self, index: &mut Index, name: ObjectName, object: &Unreadable) {
        let outline = object.outline(&name.namespace);
        let id = ObjectId { kind: self.0, name };
        tracing::warn!(object = %id, error = object.error, "object can't be parsed, its rows are left as they are");
        index.apply_unreadable(id, outline);
    }
}

macro_rules! account_sink {
    ($kind:ty, $apply:ident) => {
        impl Sink<Guarded<$kind>> for Accounts {
            fn name(&self) -> &'static str {
                self.0.as_str()
            }

            fn apply(&self, index: &mut Index, name: ObjectName, object: Guarded<$kind>) {
                match object.0 {
                    Ok(object) => index.$apply(name, (&object).into()),
                    Err(invalid) => self.unreadable(index, name, &invalid),
                }
            }

            fn remove(&self, index: &mut Index, name: &ObjectName) {
                index.remove(&ObjectId { kind: self.0, name: name.clone() });
            }

            fn names(&self, index: &Index) -> Vec<ObjectName> {
                index.names(self.0)
            }
        }
    };
}

account_sink!(MailDomain, apply_domain);
account_sink!(Mailbox, apply_mailbox);
account_sink!(MailAlias, apply_alias);
account_sink!(MailAdmin, apply_admin);

struct Secrets;

impl Sink<PartialObjectMeta<Secret>> for Secrets {
    fn name(&self) -> &'static str {
        "Secret"
    }

    fn apply(&self, index: &mut Index, name: ObjectName, object: PartialObjectMeta<Secret>) {
        index.apply_secret(name, object.resource_version().unwrap_or_default().into());
    }

    fn remove(&self, index: &mut Index, name: &ObjectName) {
        index.remove_secret(name);
    }

    fn names(&self, index: &Index) -> Vec<ObjectName> {
        index.secret_names()
    }
}

struct Namespaces;

impl Namespaces {
    const NAME: &'static str = "Namespace";
}

impl Sink<PartialObjectMeta<Namespace>> for Namespaces {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn apply(&self, index: &mut Index, name: ObjectName, object: PartialObjectMeta<Namespace>) {
        index.apply_namespace(&name.name, Some(object.metadata.labels.unwrap_or_default()));
    }

    fn remove(&self, index: &mut Index, name: &ObjectName) {
        index.apply_namespace(&name.name, None);
    }

    fn names(&self, index: &Index) -> Vec<ObjectName> {
        index.namespace_names().iter().map(|name| ObjectName::new("", name)).collect()
    }
}
