//! What a bare client does at the API server: definitions, namespaces, creates and patches on 16 connections, and counts.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use vmail_operator::api::{MailDomain, Mailbox, crds};

use crate::cluster::LIMIT;
use crate::world;

pub const CONNECTIONS: usize = 16;

pub async fn define(client: &Client) {
    let api = Api::all(client.clone());
    for crd in crds().unwrap() {
        let parameters = PatchParams::apply("vmail-bench").force();
        api.patch(&crd.name_any(), &parameters, &Patch::Apply(&crd)).await.unwrap();
        let name = crd.name_any();
        let established = kube::runtime::wait::await_condition(
            api.clone(),
            &name,
            kube::runtime::conditions::is_crd_established(),
        );
        tokio::time::timeout(Duration::from_secs(30), established).await.unwrap().unwrap();
    }
}

pub async fn namespace(client: &Client, prefix: &str) -> String {
    let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
    let object = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap().name_any()
}

fn mailbox(number: usize) -> Mailbox {
    let spec = json!({"address": world::address(number).as_str(), "displayName": "Somebody"});
    Mailbox::new(&format!("u{number}"), serde_json::from_value(spec).unwrap())
}

/// Creates the domains, one after the other.
pub async fn create_domains(client: &Client, namespace: &str, server: &str) {
    let domains: Api<MailDomain> = Api::namespaced(client.clone(), namespace);
    for number in 0..world::DOMAINS {
        let spec = json!({"serverRef": {"name": server}, "domain": format!("d{number}.example.org")});
        let domain = MailDomain::new(&format!("d{number}"), serde_json::from_value(spec).unwrap());
        domains.create(&PostParams::default(), &domain).await.unwrap();
    }
}

/// Creates `n` mailboxes on 16 connections; the time that it took.
pub async fn create_burst(client: &Client, namespace: &str, n: usize) -> f64 {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let started = Instant::now();
    let create = |number| {
        let api = api.clone();
        async move { api.create(&PostParams::default(), &mailbox(number)).await.map(|_| ()) }
    };
    stream::iter((0..n).map(create)).buffer_unordered(CONNECTIONS).try_collect::<Vec<()>>().await.unwrap();
    started.elapsed().as_secs_f64()
}

/// A patch as long as the operator's.
pub async fn patch_ready(api: &Api<Mailbox>, name: &str, message: &str) -> kube::Result<()> {
    let condition = json!({"type": "Ready", "status": "True", "reason": "Synced", "message": message,
        "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"observedGeneration": 1, "conditions": [condition], "server": "bench/myhost", "maildir": format!("d0.example.org/{name}/")});
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch).await.map(|_| ())
}

pub async fn patch_burst(client: &Client, namespace: &str, n: usize, message: &str) -> f64 {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let started = Instant::now();
    let send = |number| {
        let api = api.clone();
        async move { patch_ready(&api, &format!("u{number}"), message).await }
    };
    stream::iter((0..n).map(send)).buffer_unordered(CONNECTIONS).try_collect::<Vec<()>>().await.unwrap();
    started.elapsed().as_secs_f64()
}

/// Writes the status of `n` mailboxes in the place of the one that is there, as the operator does; the time that it took.
pub async fn replace_burst(client: &Client, namespace: &str, n: usize, message: &str) -> f64 {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let mailboxes = api.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(mailboxes.len(), n);
    let requests = Request::new(api.resource_url());
    let request = |mailbox: Mailbox| {
        let (name, mut status) = (mailbox.name_any(), json!(mailbox.status));
        status["conditions"][0]["message"] = json!(message);
        let metadata =
            json!({"name": name, "namespace": namespace, "resourceVersion": mailbox.resource_version()});
        let body = json!({"apiVersion": "vmail.dev/v1alpha1", "kind": "Mailbox", "metadata": metadata, "status": status});
        let body = body.to_string().into_bytes();
        requests.replace_subresource("status", &name, &PostParams::default(), body).unwrap()
    };
    let requests: Vec<_> = mailboxes.into_iter().map(request).collect();
    let started = Instant::now();
    let send = |request| async move { client.request::<Mailbox>(request).await.map(|_| ()) };
    let answers = stream::iter(requests.into_iter().map(send)).buffer_unordered(CONNECTIONS);
    answers.try_collect::<Vec<()>>().await.unwrap();
    started.elapsed().as_secs_f64()
}

/// Creates one more mailbox; gives the time of the answer.
pub async fn create_named(client: &Client, namespace: &str, name: &str, address: &str) -> Instant {
    let mailbox = Mailbox::new(name, serde_json::from_value(json!({"address": address})).unwrap());
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &mailbox).await.unwrap();
    Instant::now()
}

/// Waits until every mailbox says that it is in place.
pub async fn await_ready(client: &Client, namespace: &str, n: usize) {
    let api: Api<Mailbox> = Api::namespaced(client.clone(), namespace);
    let mut waiting: HashSet<String> = (0..n).map(|number| format!("u{number}")).collect();
    let mut events =
        std::pin::pin!(watcher(api, watcher::Config::default().any_semantic()).applied_objects());
    let all =
        async {
            while !waiting.is_empty() {
                let mailbox = events.next().await.unwrap().unwrap();
                if mailbox.status.as_ref().is_some_and(|status| {
                    status.conditions.iter().any(|condition| condition.status == "True")
                }) {
                    waiting.remove(&mailbox.name_any());
                }
            }
        };
    tokio::time::timeout(LIMIT, all).await.expect("every status is written");
}

/// Writes that the API server has answered, of what an operator writes; without Leases, and Events, which the kubelet writes too.
pub struct Writes(BTreeMap<String, f64>);

impl Writes {
    pub async fn count(client: &Client) -> Self {
        const WRITTEN: [&str; 11] = [
            "mailservers",
            "maildomains",
            "mailboxes",
            "mailaliases",
            "mailadmins",
            "configmaps",
            "secrets",
            "services",
            "statefulsets",
            "poddisruptionbudgets",
            "persistentvolumeclaims",
        ];
        let request = axum::http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = client.request_text(request).await.unwrap();
        let mut writes = BTreeMap::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")) {
            let label = |name: &str| {
                line.split_once(&format!("{name}=\""))
                    .and_then(|(_, rest)| rest.split('"').next())
                    .unwrap_or_default()
            };
            let is_write = matches!(label("verb"), "POST" | "PUT" | "PATCH" | "APPLY" | "DELETE");
            if is_write && WRITTEN.contains(&label("resource")) {
                let name = format!("{}/{}", label("resource"), label("subresource"));
                *writes.entry(name).or_insert(0.0) +=
                    line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            }
        }
        Self(writes)
    }

    /// How many there were since `before`, of one resource and subresource or of all.
    pub fn since(&self, before: &Self, of: Option<&str>) -> f64 {
        let counted = self.0.iter().filter(|(name, _)| of.is_none_or(|of| of == **name));
        counted.map(|(name, count)| count - before.0.get(name).unwrap_or(&0.0)).sum()
    }
}
