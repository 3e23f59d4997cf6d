//! A start as a bare client would make it: anew, it asks for what any operator has to ask for, all at once, and does nothing
//! with it. What the operator needs beyond it is its own; what this needs beyond a list and a SELECT is the fixed part of every start.

use std::time::Instant;

use futures::TryStreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use vmail_operator::api::{MailAdmin, MailAlias, MailDomain, MailServer, Mailbox};
use vmail_operator::client::connect;
use vmail_operator::leadership::Leadership;

use crate::mariadb::MariaDb;
use crate::starts::select;

/// Seconds until everything is there: a Lease, every kind that is watched, a Secret, all rows.
pub async fn measure(namespace: &str, mariadb: &MariaDb) -> f64 {
    let config = Config::infer().await.unwrap();
    let started = Instant::now();
    let client = connect(&config).unwrap();
    let lists = async {
        tokio::join!(
            list::<MailServer>(&client, namespace),
            list::<MailDomain>(&client, namespace),
            list::<Mailbox>(&client, namespace),
            list::<MailAlias>(&client, namespace),
            list::<MailAdmin>(&client, namespace),
            list::<PartialObjectMeta<Secret>>(&client, namespace),
        )
    };
    let lease = async {
        let mut leadership = Leadership::new(connect(&config).unwrap(), namespace, "bare", "bare");
        leadership.gained().await.unwrap();
        leadership
    };
    let rows = async {
        Api::<Secret>::namespaced(client.clone(), namespace).get("writer").await.unwrap();
        select(&mut mariadb.root(Some("bench")).await).await;
    };
    let (_, mut leadership, ()) = tokio::join!(lists, lease, rows);
    let took = started.elapsed().as_secs_f64();
    leadership.give_back().await;
    took
}

/// All objects of a kind, decoded.
pub async fn list<K>(client: &Client, namespace: &str)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let events = watcher(api, watcher::Config::default().any_semantic());
    let mut events = std::pin::pin!(events);
    while !matches!(events.try_next().await.unwrap().unwrap(), watcher::Event::InitDone) {}
}
