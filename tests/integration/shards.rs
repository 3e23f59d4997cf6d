//! Look-up files that fill several `ConfigMap`s, without a node: a changed account changes one of them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use vmail_operator::api::{MailAlias, MailDomain, MailServer, Mailbox};

use crate::bed::{Bed, LIMIT};
use crate::cluster::eventually;
use crate::mariadb::MariaDb;

/// Aliases with as many targets that about ten of them fill a `ConfigMap`.
const ALIASES: usize = 32;
const TARGETS: usize = 900;

const MANIFEST: &str = "paper-maps";

/// Their `resourceVersion`s by name, those of the manifest and of the shards.
async fn versions(bed: &Bed) -> BTreeMap<String, String> {
    let parameters =
        ListParams::default().labels("app.kubernetes.io/name=look-up-files,app.kubernetes.io/instance=paper");
    let list = bed.api::<ConfigMap>().list_metadata(&parameters).await.unwrap();
    list.items.iter().map(|item| (item.name_any(), item.resource_version().unwrap())).collect()
}

/// The name of the `ConfigMap` that holds a line.
async fn holder(bed: &Bed, line: &str) -> Option<String> {
    let list = bed.api::<ConfigMap>().list(&ListParams::default()).await.unwrap();
    let holds =
        |map: &ConfigMap| map.data.iter().flatten().any(|(_, text)| text.lines().any(|found| found == line));
    list.items.iter().find(|map| holds(map)).map(ResourceExt::name_any)
}

fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

#[tokio::test]
async fn only_the_shard_of_a_changed_mailbox_is_written() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("shards", &mariadb).await;
    let server = json!({"hostname": "paper.example.org", "lookupTables": "lmdb"});
    bed.create::<MailServer>("paper", &server).await;
    for number in 0..8 {
        let spec = json!({"serverRef": {"name": "paper"}, "domain": format!("d{number}.example.org")});
        bed.create::<MailDomain>(&format!("d{number}"), &spec).await;
    }
    let label = "x".repeat(60);
    let goto: Vec<String> =
        (0..TARGETS).map(|number| format!("t{number}@{label}.{label}.example.net")).collect();
    for number in 0..ALIASES {
        let address = format!("all{number}@d{}.example.org", number % 8);
        bed.create::<MailAlias>(&format!("all{number}"), &json!({"address": address, "goto": goto})).await;
    }
    bed.create::<Mailbox>("bill", &json!({"address": "bill@d3.example.org"})).await;
    for number in 0..ALIASES {
        bed.says::<MailAlias>(&format!("all{number}"), "Ready", "Synced").await;
    }
    bed.says::<Mailbox>("bill", "Ready", "Synced").await;
    bed.says::<MailServer>("paper", "TablesSynced", "Synced").await;

    let before = versions(&bed).await;
    assert!(before.len() > 3, "the accounts fill several ConfigMaps: {before:?}");
    let line = "bill@d3.example.org d3.example.org/bill/";
    let shard = holder(&bed, line).await.expect("the mailbox is in a shard");
    bed.change::<Mailbox>("bill", json!({"active": false})).await;
    eventually(LIMIT, "the mailbox is switched off", || async {
        holder(&bed, "bill@d3.example.org 550 5.1.1 mailbox disabled").await.is_some()
    })
    .await;
    bed.says::<MailServer>("paper", "TablesSynced", "Synced").await;
    eventually(LIMIT, "the manifest names the changed shard", || async {
        versions(&bed).await.get(MANIFEST) != before.get(MANIFEST)
    })
    .await;
    assert_eq!(changed(&before, &versions(&bed).await), [MANIFEST.to_owned(), shard]);
}
