//! Look-up files on a real node: from a changed Mailbox to the reloaded map, and what the pod's programs take.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use vmail_operator::api::MailServer;
use vmail_operator::postfix::shards::{LIMIT, MANIFEST_FILE, Manifest, SLOTS};
use vmail_operator::server::build::names;

use crate::api_server;
use crate::operator::Operator;
use crate::pod::{Pod, await_accepted, await_code};
use crate::{Figure, percentile, world};

const SERVER: &str = "paper";
const POD: &str = "paper-postfix-0";
const SAMPLES: usize = 10;
/// The agent takes configurations two seconds apart.
const AT_REST: Duration = Duration::from_secs(2);

pub async fn measure(n: usize) {
    let client = Client::try_default().await.expect("KUBECONFIG: `make bench` starts a cluster and sets it");
    api_server::define(&client).await;
    let namespace = api_server::namespace(&client, "bench-files").await;
    let image = std::env::var("VMAIL_POSTFIX_IMAGE").expect("VMAIL_POSTFIX_IMAGE: `make bench` sets it");
    let mut operator = Operator::with_postfix(&namespace, &image);
    let spec = json!({"hostname": "paper.example.org", "lookupTables": "lmdb"});
    let server = MailServer::new(SERVER, serde_json::from_value(spec).unwrap());
    Api::namespaced(client.clone(), &namespace).create(&PostParams::default(), &server).await.unwrap();
    let pod = Pod { namespace: namespace.clone(), name: POD };
    let address = pod.address();
    await_code(&address, "nobody@example.net", 554);
    let programs = [("files_agent_memory", "vmail-operator"), ("files_smtpd_memory", "smtpd")];
    let empty = programs.map(|(_, program)| pod.memory(program));
    api_server::create_domains(&client, &namespace, SERVER).await;
    api_server::create_burst(&client, &namespace, n).await;
    await_accepted(&address, world::address(n - 1).as_str());
    shards(&client, &namespace, n).await;

    let mut raw = Vec::new();
    for number in 0..SAMPLES {
        raw.push(one_bare(&client, &pod, number).await);
    }
    let mut samples = Vec::new();
    for number in 0..SAMPLES {
        tokio::time::sleep(AT_REST).await;
        let to = format!("late{number}@d0.example.org");
        let answered = api_server::create_named(&client, &namespace, &format!("late{number}"), &to).await;
        await_accepted(&address, &to);
        samples.push(answered.elapsed().as_secs_f64());
    }
    for percent in [50, 90] {
        let (value, limit) = (percentile(&mut samples, percent), percentile(&mut raw, percent));
        Figure { name: &format!("files_one_mailbox_p{percent}"), value, unit: "s", limit, n }.print();
    }
    // Beside what they took before there was any account.
    for ((name, program), limit) in programs.into_iter().zip(empty) {
        Figure { name, value: pod.memory(program), unit: "MiB", limit, n }.print();
    }
    Figure {
        name: "files_operator_peak_memory",
        value: operator.peak_memory(),
        unit: "MiB",
        limit: 300.0,
        n,
    }
    .print();
    operator.stop();
    Api::<Namespace>::all(client.clone()).delete(&namespace, &DeleteParams::background()).await.unwrap();
}

/// How many `ConfigMap`s the accounts fill.
async fn shards(client: &Client, namespace: &str, n: usize) {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let manifest = config_maps.get(&names::maps(SERVER)).await.unwrap();
    let manifest = Manifest::parse(&manifest.data.unwrap()[MANIFEST_FILE]).unwrap();
    let count = |number: usize| f64::from(u32::try_from(number).unwrap());
    let value = count(manifest.shards.len());
    Figure { name: "files_config_maps", value, unit: "ConfigMaps", limit: count(n) / 10_000.0, n }.print();
}

/// A full shard written by a bare client until the pod has it, and the two tables of addresses compiled once.
async fn one_bare(client: &Client, pod: &Pod, number: usize) -> f64 {
    let marker = format!("marker{number}");
    let look = format!("until test -e /etc/vmail/maps/{marker}; do sleep 0.02; done");
    let mut waiting = pod.exec(&look).spawn().unwrap();
    let started = Instant::now();
    let config_map = ConfigMap {
        metadata: ObjectMeta { name: Some(names::maps_slot(SERVER, SLOTS - 1)), ..ObjectMeta::default() },
        data: Some([(marker, "x".repeat(LIMIT))].into()),
        ..ConfigMap::default()
    };
    let parameters = PatchParams::apply("vmail-bench").force();
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &pod.namespace);
    config_maps
        .patch(&names::maps_slot(SERVER, SLOTS - 1), &parameters, &Patch::Apply(&config_map))
        .await
        .unwrap();
    let annotation = json!({"metadata": {"annotations": {"example.org/bench": number.to_string()}}});
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), &pod.namespace);
    pods.patch(POD, &PatchParams::default(), &Patch::Merge(&annotation)).await.unwrap();
    assert!(waiting.wait().unwrap().success());
    let compile = "cd $(mktemp -d -p /var/lib/postfix) && m=$(postconf -c /run/vmail/postfix -h vmail_maps) && cp $m/alias_maps $m/mailbox_maps . && \
         postmap -c /run/vmail/postfix lmdb:$PWD/alias_maps lmdb:$PWD/mailbox_maps && rm -r $PWD";
    assert!(pod.exec(compile).status().unwrap().success());
    started.elapsed().as_secs_f64()
}
