//! Mail through the operator's Postfix, in each look-up type, beside a Postfix that somebody configured by hand: the same
//! image, node, accounts, database and class of volumes, and the rounds of the two take turns.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use vmail_operator::api::MailServer;

use crate::pod::{Pod, await_accepted, await_true};
use crate::smtp::Session;
use crate::{Figure, api_server, world};

const SERVER: &str = "rates";
const CLIENTS: usize = 20;
/// Of a round. Postfix makes clients wait for a second (`in_flow_delay`) where mail comes in faster than it goes out: a
/// shorter round would tell whether that happened in it, and little else.
const MESSAGES: usize = 1500;
const ROUNDS: usize = 4;
/// Before the first round, for processes that are there. The first time it is one message to each mailbox, whose directories
/// are made with it.
const WARM_UP: usize = 300;
const SETTLED_WITHIN: Duration = Duration::from_mins(2);
/// Those with a database first: a server that changes to files leaves its database alone.
const TYPES: [&str; 6] = ["proxy:mysql", "mysql", "hash", "lmdb", "cdb", "texthash"];

pub async fn measure(n: usize) {
    let client = Client::try_default().await.expect("KUBECONFIG: `make bench` starts a cluster and sets it");
    api_server::define(&client).await;
    let namespace = api_server::namespace(&client, "bench-mail").await;
    install(&namespace);
    let servers: Api<MailServer> = Api::namespaced(client.clone(), &namespace);
    let spec = json!({"hostname": "rates.example.org", "lookupTables": TYPES[0]});
    let server = MailServer::new(SERVER, serde_json::from_value(spec).unwrap());
    servers.create(&PostParams::default(), &server).await.unwrap();
    api_server::create_domains(&client, &namespace, SERVER).await;
    api_server::create_burst(&client, &namespace, n).await;
    start_hand_written(&namespace);
    let mut ours = Contestant::new(Pod { namespace: namespace.clone(), name: "rates-postfix-0" });
    let raw = Contestant::new(Pod { namespace, name: "raw" });

    let last = world::address(n - 1);
    for type_ in TYPES {
        let patch = json!({"spec": {"lookupTables": type_}});
        servers.patch(SERVER, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        await_true(&format!("Postfix runs with {type_}"), || ours.runs(type_));
        // A pod that has files in place of a database is a new one.
        ours.address = ours.pod.address();
        await_accepted(&ours.address, last.as_str());
        await_settled(&servers).await;
        write_by_hand(&ours.pod, &raw.pod, type_, n);
        await_accepted(&raw.address, last.as_str());
        compare(type_, &ours, &raw, n);
    }
}

/// Waits until Postfix runs with the configuration that is wanted: each reload begins with new processes.
async fn await_settled(servers: &Api<MailServer>) {
    let deadline = Instant::now() + SETTLED_WITHIN;
    while !is_settled(&servers.get(SERVER).await.unwrap()) {
        assert!(Instant::now() < deadline, "Postfix doesn't run with the configuration that is wanted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn is_settled(server: &MailServer) -> bool {
    let Some(status) = &server.status else { return false };
    let runs = |wanted: &str| status.replicas.iter().any(|replica| replica.config_hash == wanted);
    status.config_hash.as_deref().is_some_and(runs)
}

fn compare(type_: &str, ours: &Contestant, raw: &Contestant, n: usize) {
    for contestant in [ours, raw] {
        let has_all_directories = contestant.sent.load(Ordering::Relaxed) > 0;
        contestant.round(if has_all_directories { WARM_UP } else { n }, n);
    }
    let mut seconds = [0.0; 2];
    for round in 0..ROUNDS {
        let mut turns = [(ours, 0), (raw, 1)];
        turns.rotate_left(round % 2);
        for (contestant, which) in turns {
            seconds[which] += contestant.round(MESSAGES, n);
        }
    }
    for contestant in [ours, raw] {
        contestant.has_stored_all();
    }
    let messages = f64::from(u32::try_from(MESSAGES * ROUNDS).unwrap());
    let [value, limit] = seconds.map(|seconds| messages / seconds);
    let name = format!("mail_rate_{}", type_.replace(':', "_"));
    Figure { name: &name, value, unit: "messages/s", limit, n }.print();
}

/// A Postfix that takes mail.
struct Contestant {
    pod: Pod,
    address: String,
    sent: AtomicUsize,
}

impl Contestant {
    fn new(pod: Pod) -> Self {
        let address = pod.address();
        Self { pod, address, sent: AtomicUsize::new(0) }
    }

    fn runs(&self, type_: &str) -> bool {
        let domains = "postconf -c /run/vmail/postfix -h virtual_mailbox_domains; postfix -c /run/vmail/postfix status 2>&1";
        self.pod.print(domains).starts_with(&format!("{type_}:"))
    }

    /// Seconds from the first connection until the queue is empty.
    fn round(&self, messages: usize, n: usize) -> f64 {
        // The pod's clock is this machine's.
        let queue_empty = "read begin; cd /var/spool/postfix; \
            while [ -n \"$(find maildrop incoming active deferred -type f -print -quit)\" ]; do sleep 0.02; done; date +%s.%N";
        let mut command = self.pod.exec(queue_empty);
        let mut waiting = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.send_all(messages, n);
        waiting.stdin.take().unwrap().write_all(b"\n").unwrap();
        let output = waiting.wait_with_output().unwrap();
        let ended: f64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
        self.sent.fetch_add(messages, Ordering::Relaxed);
        ended - started.as_secs_f64()
    }

    fn send_all(&self, messages: usize, n: usize) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut session = Session::open(&self.address).unwrap();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= messages {
                            break;
                        }
                        session.send(world::address(number % n).as_str(), "rate").unwrap();
                    }
                });
            }
        });
    }

    fn has_stored_all(&self) {
        let files = self.pod.print("find /var/vmail -path '*/new/*' -type f | wc -l");
        assert_eq!(files.trim(), self.sent.load(Ordering::Relaxed).to_string(), "files in {}", self.pod.name);
    }
}

/// The operator as its users have it.
fn install(namespace: &str) {
    let mut helm = Command::new("helm");
    helm.current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["install", "vmail-operator", "charts/vmail-operator", "-n", "vmail-system"])
        .args(["--create-namespace", "--set", &format!("watchNamespace={namespace}")])
        .args(["--take-ownership", "--wait", "--timeout=180s"])
        .args(std::env::var("VMAIL_HELM_ARGUMENTS").unwrap_or_default().split_whitespace())
        .stdout(Stdio::null());
    assert!(helm.status().unwrap().success(), "helm");
}

/// The pod of the configuration that is written by hand; [`write_by_hand`] says what is in it. It logs to a file: by way of
/// postlogd(8) to the container's output it would wait for containerd, and its rate would tell of that.
fn start_hand_written(namespace: &str) {
    let image = std::env::var("VMAIL_POSTFIX_IMAGE").expect("VMAIL_POSTFIX_IMAGE: `make bench` sets it");
    let claim = |name: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
    };
    let volume = |name: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    let command = "chown 901:901 /var/vmail && chmod 755 /var/vmail /var/spool/postfix && mkdir -p /run/raw && cp /etc/postfix/master.cf /run/raw && \
        echo compatibility_level = 3.6 >/run/raw/main.cf && postconf -c /run/raw -F '*/*/chroot = n' && \
        postconf -c /run/raw maillog_file=/var/lib/postfix/mail.log data_directory=/var/lib/postfix/data && exec postfix -c /run/raw start-fg";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "raw"}, "spec": {
        "enableServiceLinks": false,
        "containers": [{"name": "postfix", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", command], "volumeMounts": [
            {"name": "raw-queue", "mountPath": "/var/spool/postfix", "subPath": "queue"},
            {"name": "raw-mail", "mountPath": "/var/vmail", "subPath": "mail"},
            {"name": "run", "mountPath": "/run"}, {"name": "data", "mountPath": "/var/lib/postfix"},
        ]}],
        "volumes": [volume("raw-queue"), volume("raw-mail"),
            {"name": "run", "emptyDir": {"medium": "Memory"}}, {"name": "data", "emptyDir": {}}],
    }});
    let list =
        json!({"apiVersion": "v1", "kind": "List", "items": [claim("raw-queue"), claim("raw-mail"), pod]});
    let mut command = Command::new("kubectl");
    command.args(["-n", namespace, "apply", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut applying = command.spawn().unwrap();
    applying.stdin.take().unwrap().write_all(list.to_string().as_bytes()).unwrap();
    assert!(applying.wait().unwrap().success(), "kubectl apply");
}

/// What the manuals tell to write for virtual domains, and no more: three look-ups and one owner.
fn write_by_hand(ours: &Pod, raw: &Pod, type_: &str, n: usize) {
    await_true("the hand-written Postfix runs", || {
        raw.print("postfix -c /run/raw status 2>&1 && echo runs").ends_with("runs\n")
    });
    let script = ["set -e; cd /run/raw\n".to_owned(), look_ups(ours, type_, n), parameters(type_)].concat();
    let mut shell = raw.exec("sh 2>&1").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success(), "{type_}: configuration by hand");
    // Postfix leaves files alone that are younger than a second.
    std::thread::sleep(Duration::from_secs(2));
}

fn is_query(type_: &str) -> bool {
    type_.contains("mysql")
}

/// Shell commands that write what main.cf names.
fn look_ups(ours: &Pod, type_: &str, n: usize) -> String {
    let write = |(name, text)| {
        let compile = match type_ {
            "hash" | "lmdb" | "cdb" => format!("postmap -c /run/raw {type_}:/run/raw/{name}\n"),
            _ => String::new(),
        };
        format!("cat >{name} <<'END'\n{text}END\n{compile}")
    };
    if is_query(type_) { queries(ours) } else { tables(n) }.into_iter().map(write).collect()
}

fn parameters(type_: &str) -> String {
    let suffix = if is_query(type_) { ".cf" } else { "" };
    let table = |name: &str| format!("{type_}:/run/raw/{name}{suffix}");
    format!(
        "postconf -c /run/raw myhostname=raw.example.org mydestination=localhost alias_maps= alias_database= local_recipient_maps= \
         smtpd_peername_lookup=no inet_interfaces=all mynetworks=127.0.0.0/8 'smtpd_relay_restrictions=permit_mynetworks, reject_unauth_destination' \
         virtual_mailbox_base=/var/vmail virtual_minimum_uid=900 virtual_uid_maps=static:901 virtual_gid_maps=static:901 virtual_alias_domains= \
         virtual_mailbox_domains={} virtual_mailbox_maps={} virtual_alias_maps={}\n\
         postfix -c /run/raw reload 2>&1\n",
        table("domains"),
        table("mailboxes"),
        table("aliases"),
    )
}

/// On the same database, with the same account.
fn queries(ours: &Pod) -> Vec<(&'static str, String)> {
    let access = ours
        .print("sed -n '/^\\(user\\|password\\|hosts\\|dbname\\) *=/p' /run/vmail/postfix/mailbox_maps.cf");
    let with_access = |query: &str| format!("{access}query = {query}\n");
    vec![
        (
            "domains.cf",
            with_access("SELECT domain FROM domain WHERE domain = '%s' AND backupmx = 0 AND active = 1"),
        ),
        ("mailboxes.cf", with_access("SELECT maildir FROM mailbox WHERE username = '%s' AND active = 1")),
        ("aliases.cf", with_access("SELECT goto FROM alias WHERE address = '%s' AND active = 1")),
    ]
}

fn tables(n: usize) -> Vec<(&'static str, String)> {
    let domains = (0..world::DOMAINS).map(|number| format!("d{number}.example.org anything\n"));
    let mailboxes = (0..n).map(|number| {
        let address = world::address(number);
        let (user, domain) = address.as_str().split_once('@').unwrap();
        format!("{address} {domain}/{user}/\n", address = address.as_str())
    });
    vec![
        ("domains", domains.collect()),
        ("mailboxes", mailboxes.collect()),
        ("aliases", "postmaster@d0.example.org u0@d0.example.org\n".to_owned()),
    ]
}
