//! Look-up files on the real node: every type of them, accounts that come and go, the brake, and the way from files to a
//! database and back with mail flowing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::mail::{LIMIT, apply, await_true, install, kubectl, must, ready};
use crate::smtp::Session;

/// From an answer of the API server to what Postfix does: the kubelet projects a changed `ConfigMap` in about a second.
const SOON: Duration = Duration::from_secs(5);

const SERVER: &str = "paper";

fn address() -> String {
    let path = "jsonpath={.spec.clusterIP}:25";
    must(&kubectl(&["get", "service", "paper-postfix", "-o", path]), "Service")
}

fn code(to: &str) -> u16 {
    Session::open(&address()).and_then(|mut session| session.recipient(to)).map_or(0, |reply| reply.code)
}

fn declare(mailboxes: impl IntoIterator<Item = String>) {
    let mailbox = |name: String| {
        format!(
            "---\n{{apiVersion: vmail.dev/v1alpha1, kind: Mailbox, metadata: {{name: paper-{name}, namespace: mail}}, \
             spec: {{address: {name}@paper.example.org}}}}\n"
        )
    };
    apply(&mailboxes.into_iter().map(mailbox).collect::<String>());
}

fn delete(mailboxes: impl IntoIterator<Item = String>) {
    let names: Vec<String> = mailboxes.into_iter().map(|name| format!("paper-{name}")).collect();
    let mut arguments = vec!["delete", "mailbox", "--wait=false"];
    arguments.extend(names.iter().map(String::as_str));
    must(&kubectl(&arguments), "kubectl delete");
}

fn patch_server(spec: &str) {
    let patch = format!("{{\"spec\":{spec}}}");
    must(&kubectl(&["patch", "mailserver", SERVER, "--type=merge", "-p", &patch]), "kubectl patch");
}

fn field(object: &str, path: &str) -> String {
    let output = kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether every replica runs the configuration that is wanted, with tables of this type.
fn runs(type_: &str) -> bool {
    let domains = kubectl(&[
        "exec",
        "paper-postfix-0",
        "-c",
        "postfix",
        "--",
        "postconf",
        "-c",
        "/run/vmail/postfix",
        "-h",
        "virtual_mailbox_domains",
    ]);
    let wanted = field("mailserver/paper", ".status.configHash");
    String::from_utf8_lossy(&domains.stdout).starts_with(&format!("{type_}:"))
        && field("mailserver/paper", ".status.replicas[*].configHash") == wanted
        && ready("mailserver/paper")
}

/// Asks for a declared address again and again: it may be put off, and is never refused.
struct Asker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Asker {
    fn start(to: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (Arc::clone(&stop), address());
        let thread = std::thread::spawn(move || {
            let mut refusals = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let reply = Session::open(&address).and_then(|mut session| session.recipient(to));
                refusals.extend(reply.ok().filter(|reply| reply.code >= 500).map(|reply| reply.text));
            }
            refusals
        });
        Self { stop, thread }
    }

    fn refusals(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn send(to: &str, subject: &str) {
    await_true(LIMIT, &format!("{subject} to {to} is taken"), || {
        Session::open(&address()).and_then(|mut session| session.send(to, subject)).is_ok()
    });
    let file = "cd /var/vmail && grep -rl --include='*' \"^Subject: $0$\" . | head -1";
    await_true(LIMIT, &format!("{subject} in the mail store"), || {
        let found = kubectl(&["exec", "paper-postfix-0", "-c", "postfix", "--", "sh", "-c", file, subject]);
        String::from_utf8_lossy(&found.stdout).contains("/new/")
    });
}

#[test]
fn accounts_in_files_come_and_go_and_the_type_can_be_changed_under_way() {
    install();
    apply(
        "{apiVersion: vmail.dev/v1alpha1, kind: MailServer, metadata: {name: paper, namespace: mail}, \
         spec: {hostname: paper.example.org, lookupTables: hash}}\n---\n\
         {apiVersion: vmail.dev/v1alpha1, kind: MailDomain, metadata: {name: paper, namespace: mail}, \
         spec: {serverRef: {name: paper}, domain: paper.example.org}}",
    );
    declare(["ada".to_owned()]);
    await_true(LIMIT, "MailServer paper Ready", || ready("mailserver/paper"));
    let pod = field("pod/paper-postfix-0", ".metadata.uid");
    assert_eq!(field("mailserver/paper", ".status.conditions[?(@.type==\"DatabaseReady\")].status"), "");
    for type_ in ["hash", "lmdb", "cdb", "texthash"] {
        every_type_takes_changes(type_);
    }
    assert_eq!(field("pod/paper-postfix-0", ".metadata.uid"), pod, "the pod was not made anew");
    mass_deletion_is_held_back();
    a_database_takes_over_and_gives_back();
}

fn every_type_takes_changes(type_: &str) {
    let asker = Asker::start("ada@paper.example.org");
    patch_server(&format!("{{\"lookupTables\":\"{type_}\"}}"));
    await_true(LIMIT, &format!("Postfix runs with {type_}"), || runs(type_));
    send("ada@paper.example.org", &format!("with-{type_}"));
    let (name, to) = (format!("new-{type_}"), format!("new-{type_}@paper.example.org"));
    assert_eq!(code(&to), 550);
    declare([name.clone()]);
    let took = await_true(LIMIT, "a new mailbox is accepted", || code(&to) == 250);
    assert!(took < SOON, "{type_}: accepted only after {took:?}");
    send(&to, &format!("new-with-{type_}"));
    delete([name]);
    let took = await_true(LIMIT, "a deleted mailbox is refused", || code(&to) == 550);
    assert!(took < SOON, "{type_}: refused only after {took:?}");
    assert_eq!(asker.refusals(), Vec::<String>::new(), "{type_}");
}

fn mass_deletion_is_held_back() {
    let many = || (0..60).map(|number| format!("many{number}"));
    declare(many());
    await_true(LIMIT, "the last of many is accepted", || code("many59@paper.example.org") == 250);
    delete(many());
    let reason = || field("mailserver/paper", ".status.conditions[?(@.type==\"TablesSynced\")].reason");
    await_true(LIMIT, "DeletionsHeld", || reason() == "DeletionsHeld");
    declare(["late".to_owned()]);
    await_true(LIMIT, "additions go on", || code("late@paper.example.org") == 250);
    assert_eq!(code("many59@paper.example.org"), 250);
    let message = field("mailserver/paper", ".status.conditions[?(@.type==\"TablesSynced\")].message");
    let release = message.rsplit(' ').next().unwrap();
    must(&kubectl(&["annotate", "mailserver", SERVER, release]), "kubectl annotate");
    await_true(LIMIT, "released", || code("many59@paper.example.org") == 550);
    assert_eq!(code("late@paper.example.org"), 250);
}

fn a_database_takes_over_and_gives_back() {
    let asker = Asker::start("ada@paper.example.org");
    for type_ in ["proxy:mysql", "hash"] {
        patch_server(&format!("{{\"lookupTables\":\"{type_}\"}}"));
        await_true(LIMIT, &format!("Postfix runs with {type_}"), || runs(type_));
        send("ada@paper.example.org", &format!("after-{}", type_.replace(':', "-")));
        assert_eq!(code("nobody@paper.example.org"), 550);
    }
    assert_eq!(
        asker.refusals(),
        Vec::<String>::new(),
        "no declared address is refused while tables are exchanged"
    );
    await_true(LIMIT, "the database that is used no more is gone", || {
        field("statefulset/paper-database", ".metadata.name").is_empty()
    });
    assert_eq!(field("pvc/data-paper-database-0", ".status.phase"), "Bound", "its data stays");
}

/// Lines `owner:group path subject` of every message below a mail store.
fn stored(pod: &str, base: &str) -> Vec<String> {
    let script = format!(
        "cd {base} && find . -type f -path '*/new/*' -printf '%U:%G %P ' -exec sed -n 's/^Subject: //p;/^$/q' {{}} \\;"
    );
    let output = kubectl(&["exec", pod, "-c", "postfix", "--", "sh", "-c", &script]);
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn files_name_owners_and_the_seeds_base_directory_is_one() {
    install();
    let mailbox = |name: &str, extra: &str| {
        format!(
            "---\n{{apiVersion: vmail.dev/v1alpha1, kind: Mailbox, metadata: {{name: based-{name}, namespace: mail}}, \
             spec: {{address: {name}@based.example.org{extra}}}}}\n"
        )
    };
    apply(&format!(
        "{{apiVersion: vmail.dev/v1alpha1, kind: MailServer, metadata: {{name: based, namespace: mail}}, \
         spec: {{hostname: based.example.org, lookupTables: hash, mailStore: {{path: /var/spool/postfix/vmail}}}}}}\n---\n\
         {{apiVersion: vmail.dev/v1alpha1, kind: MailDomain, metadata: {{name: based, namespace: mail}}, \
         spec: {{serverRef: {{name: based}}, domain: based.example.org, uid: 960, gid: 961}}}}\n{}{}",
        mailbox("max", ""),
        mailbox("moritz", ", uid: 970")
    ));
    await_true(LIMIT, "MailServer based Ready", || ready("mailserver/based"));
    let shown = [
        "exec",
        "based-postfix-0",
        "-c",
        "postfix",
        "--",
        "postconf",
        "-c",
        "/run/vmail/postfix",
        "-h",
        "virtual_uid_maps",
    ];
    await_true(LIMIT, "Postfix looks owners up", || {
        String::from_utf8_lossy(&kubectl(&shown).stdout).contains("/uid_maps")
    });
    let address = || format!("{}:25", field("pod/based-postfix-0", ".status.podIP"));
    for (name, owner) in [("max", "960:961"), ("moritz", "970:961")] {
        let to = format!("{name}@based.example.org");
        await_true(LIMIT, &format!("a message for {to} is taken"), || {
            Session::open(&address()).and_then(|mut session| session.send(&to, name)).is_ok()
        });
        await_true(LIMIT, &format!("{to} has it, as {owner}"), || {
            stored("based-postfix-0", "/var/spool/postfix/vmail").iter().any(|line| {
                line.starts_with(&format!("{owner} based.example.org/{name}/new/"))
                    && line.ends_with(&format!(" {name}"))
            })
        });
    }
}
