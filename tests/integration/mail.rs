//! The demo's mail system on the real node: the chart, the seed's accounts, mail by SMTP and the files in the mail store.
//!
//! One test, for one mail system: its parts build on each other.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::smtp::Session;

const NAMESPACE: &str = "mail";
pub const LIMIT: Duration = Duration::from_mins(3);

pub fn tool(name: &str) -> Command {
    let directory = std::env::var("VMAIL_BIN_DIR").expect("VMAIL_BIN_DIR is not set: `make test` sets it");
    let mut command = Command::new(Path::new(&directory).join(name));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

pub fn kubectl(arguments: &[&str]) -> Output {
    tool("kubectl").args(["--request-timeout=60s", "-n", NAMESPACE]).args(arguments).output().unwrap()
}

pub fn must(output: &Output, what: &str) -> String {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn apply(yaml: &str) {
    with_file(yaml, &["apply"]);
}

/// Deletes what [`apply`] made: an object that another test finds without its server is never ready.
pub fn delete(yaml: &str) {
    with_file(yaml, &["delete", "--wait=false", "--ignore-not-found"]);
}

fn with_file(yaml: &str, verb: &[&str]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    must(&kubectl(&[verb, &["-f", file.path().to_str().unwrap()]].concat()), verb[0]);
}

pub fn await_true(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}\n{}", state());
        std::thread::sleep(Duration::from_millis(50));
    }
    started.elapsed()
}

/// What a reader of a failure wants to see.
fn state() -> String {
    let parts = [
        kubectl(&["get", "mailservers,maildomains,mailboxes,mailaliases,pods", "-o", "wide"]),
        kubectl(&["get", "mailservers", "-o", "jsonpath={.items[*].status}"]),
        kubectl(&["logs", "myhost-postfix-0", "--all-containers", "--tail=40"]),
        tool("kubectl")
            .args(["-n", "vmail-system", "logs", "deploy/vmail-operator", "--tail=40"])
            .output()
            .unwrap(),
    ];
    parts
        .map(|output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        .join("\n")
}

/// The operator and the seed's mail system, once for all tests of this process.
pub fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(install_now);
}

fn install_now() {
    // The operator's rights are in this namespace only, so it has to be there first.
    apply(
        "{apiVersion: v1, kind: Namespace, metadata: {name: mail, labels: {pod-security.kubernetes.io/enforce: baseline}}}",
    );
    let mut helm = tool("helm");
    helm.args([
        "upgrade",
        "--install",
        "vmail-operator",
        "charts/vmail-operator",
        "-n",
        "vmail-system",
        "--create-namespace",
    ]);
    // Other tests may have made the custom resource definitions before.
    helm.args(["--set", "watchNamespace=mail", "--take-ownership", "--wait", "--timeout=180s"]);
    for value in std::env::var("VMAIL_HELM_ARGUMENTS").unwrap_or_default().split_whitespace() {
        helm.arg(value);
    }
    must(&helm.output().unwrap(), "helm");
    must(&kubectl(&["apply", "-f", "deploy/samples/seed/"]), "kubectl apply -f deploy/samples/seed/");
    await_true(LIMIT, "MailServer myhost Ready", || ready("mailserver/myhost"));
    for kind in ["maildomain", "mailbox", "mailalias"] {
        must(&kubectl(&["wait", "--for=condition=Ready", kind, "--all", "--timeout=60s"]), kind);
    }
}

pub fn ready(object: &str) -> bool {
    let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    kubectl(&["get", object, "-o", path]).stdout == b"True"
}

fn endpoint() -> String {
    let address =
        must(&kubectl(&["get", "service", "myhost-postfix", "-o", "jsonpath={.spec.clusterIP}"]), "Service");
    format!("{address}:25")
}

fn code(to: &str) -> u16 {
    Session::open(&endpoint()).and_then(|mut session| session.recipient(to)).map_or(0, |reply| reply.code)
}

/// Sends again until the server takes the message, as any mail server would.
fn send(to: &str, subject: &str) {
    let mut last = None;
    await_true(LIMIT, &format!("{subject} to {to} is taken"), || {
        let result = Session::open(&endpoint()).and_then(|mut session| session.send(to, subject));
        last = result.err();
        last.is_none()
    });
}

/// Lines `owner:group path subject` of every message in the mail store.
fn store() -> Vec<String> {
    let script = "cd /var/vmail && find . -type f -path '*/new/*' -printf '%U:%G %P ' -exec sed -n 's/^Subject: //p;/^$/q' {} \\;";
    let output = kubectl(&["exec", "myhost-postfix-0", "-c", "postfix", "--", "sh", "-c", script]);
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn delivered(maildir: &str, subject: &str) -> bool {
    store().iter().any(|line| {
        line.starts_with(&format!("901:901 {maildir}/new/")) && line.ends_with(&format!(" {subject}"))
    })
}

fn await_delivered(maildir: &str, subject: &str) {
    await_true(LIMIT, &format!("{subject} in {maildir}"), || delivered(maildir, subject));
}

#[test]
fn mail_to_declared_addresses_arrives_and_to_any_other_is_refused() {
    install();
    the_seeds_mail_run();
    a_disabled_mailbox_is_refused_and_the_catch_all_does_not_get_its_mail();
    an_alias_domain_has_the_addresses_of_its_target();
    a_domain_that_was_refused_before_is_accepted_soon();
    an_alias_loop_defers_nobody();
    a_transport_and_a_backup_mx_decide_where_mail_goes();
    mail_has_the_owner_that_its_domain_or_mailbox_names();
    a_bad_configuration_is_told_and_the_old_one_goes_on();
    a_tenth_mailbox_comes_and_goes();
    nothing_accepted_is_lost();
}

fn the_seeds_mail_run() {
    for (to, subject, maildirs) in [
        ("charlie@alpha.example.org", "one", &["alpha.example.org/charlie"][..]),
        ("Chou@Beta.example.org", "two", &["beta.example.org/chou"]),
        ("cinder@gamma.example.org", "three", &["gamma.example.org/cinder"]),
        ("info@alpha.example.org", "one-target", &["alpha.example.org/alfred"]),
        ("hello@alpha.example.org", "chain", &["alpha.example.org/alfred"]),
        (
            "team@beta.example.org",
            "several",
            &["alpha.example.org/bob", "beta.example.org/bill", "gamma.example.org/ben"],
        ),
        ("auntie@beta.example.org", "copy", &["beta.example.org/auntie", "gamma.example.org/alistair"]),
        ("whoever@gamma.example.org", "catch-all", &["gamma.example.org/ben"]),
        ("bob+lists@alpha.example.org", "tagged", &["alpha.example.org/bob"]),
    ] {
        send(to, subject);
        for maildir in maildirs {
            await_delivered(maildir, subject);
        }
    }
    assert!(
        !delivered("gamma.example.org/ben", "three"),
        "the catch-all must not take a real mailbox's mail"
    );
    assert_eq!(code("nobody@alpha.example.org"), 550);
    assert_eq!(code("someone@elsewhere.example.net"), 554);
    assert_eq!(code("root@localhost"), 550);
}

fn a_disabled_mailbox_is_refused_and_the_catch_all_does_not_get_its_mail() {
    let active = |active: bool| {
        let patch = format!("{{\"spec\":{{\"active\":{active}}}}}");
        must(&kubectl(&["patch", "mailbox", "alistair", "--type=merge", "-p", &patch]), "kubectl patch");
    };
    active(false);
    await_true(LIMIT, "a disabled mailbox is refused", || code("alistair@gamma.example.org") == 550);
    active(true);
    await_true(LIMIT, "an enabled mailbox is accepted", || code("alistair@gamma.example.org") == 250);
}

fn declare_domain(domain: &str, extra: &str) {
    let name = domain.split('.').next().unwrap();
    apply(&format!(
        "{{apiVersion: vmail.dev/v1alpha1, kind: MailDomain, metadata: {{name: {name}, namespace: mail}}, \
         spec: {{serverRef: {{name: myhost}}, domain: {domain}, {extra}}}}}"
    ));
    await_true(LIMIT, domain, || ready(&format!("maildomain/{name}")));
}

fn an_alias_domain_has_the_addresses_of_its_target() {
    declare_domain("delta.example.org", "aliasOf: alpha.example.org");
    declare_domain("epsilon.example.org", "aliasOf: gamma.example.org");
    for (to, subject, maildir) in [
        ("alfred@delta.example.org", "alias-domain", "alpha.example.org/alfred"),
        ("hello@delta.example.org", "alias-domain-alias", "alpha.example.org/alfred"),
        ("bob+tag@delta.example.org", "alias-domain-tagged", "alpha.example.org/bob"),
        ("cinder+tag@epsilon.example.org", "alias-domain-tag-no-catch-all", "gamma.example.org/cinder"),
        ("whoever@epsilon.example.org", "alias-domain-catch-all", "gamma.example.org/ben"),
    ] {
        send(to, subject);
        await_delivered(maildir, subject);
    }
    assert_eq!(code("nobody@delta.example.org"), 550);
}

fn declare_alias(name: &str, goto: &str) {
    apply(&format!(
        "{{apiVersion: vmail.dev/v1alpha1, kind: MailAlias, metadata: {{name: {name}, namespace: mail}}, \
         spec: {{address: {name}@alpha.example.org, goto: [{goto}]}}}}"
    ));
}

fn condition(object: &str, type_: &str) -> String {
    let path = format!("jsonpath={{.status.conditions[?(@.type==\"{type_}\")].reason}}");
    String::from_utf8_lossy(&kubectl(&["get", object, "-o", &path]).stdout).into_owned()
}

/// Were the loop written, Postfix would answer 451 to the whole message, for its good recipient too.
/// smtpd(8) remembers for as long as it lives that it would not relay to a domain.
fn a_domain_that_was_refused_before_is_accepted_soon() {
    let to = "zoe@iota.example.org";
    assert_eq!(code(to), 554);
    apply(
        "{apiVersion: vmail.dev/v1alpha1, kind: Mailbox, metadata: {name: zoe, namespace: mail}, spec: {address: zoe@iota.example.org}}",
    );
    declare_domain("iota.example.org", "active: true");
    let took = await_true(LIMIT, "a domain is accepted that was refused before", || code(to) == 250);
    assert!(took < Duration::from_secs(5), "accepted only after {took:?}");
    must(&kubectl(&["delete", "mailbox/zoe", "maildomain/iota", "--wait=false"]), "kubectl delete");
}

fn an_alias_loop_defers_nobody() {
    declare_alias("ping", "pong@alpha.example.org");
    await_true(LIMIT, "ping's target is undeclared", || {
        condition("mailalias/ping", "Warning") == "UndeclaredTarget"
    });
    declare_alias("pong", "ping@alpha.example.org");
    await_true(LIMIT, "the younger alias closes the loop", || {
        condition("mailalias/pong", "Ready") == "AliasLoop"
    });
    assert_eq!(condition("mailalias/ping", "Ready"), "Synced");
    assert_eq!(code("pong@alpha.example.org"), 550, "the alias that closes the loop is not written");
    let mut session = Session::open(&endpoint()).unwrap();
    session.send_to(&["alfred@alpha.example.org", "ping@alpha.example.org"], "beside-a-loop").unwrap();
    await_delivered("alpha.example.org/alfred", "beside-a-loop");
    declare_alias("ping", "bob@alpha.example.org");
    await_true(LIMIT, "the loop is gone", || condition("mailalias/pong", "Ready") == "Synced");
    send("pong@alpha.example.org", "no-loop-any-more");
    await_delivered("alpha.example.org/bob", "no-loop-any-more");
    must(&kubectl(&["delete", "mailalias", "ping", "pong", "--wait=false"]), "kubectl delete");
}

/// A host that doesn't exist takes nothing: the queue says where the mail would go.
fn a_transport_and_a_backup_mx_decide_where_mail_goes() {
    declare_domain("zeta.example.org", "backupMX: true, transport: 'relay:[127.0.0.1]:2599'");
    declare_domain("eta.example.org", "transport: 'lmtp:inet:127.0.0.1:2598'");
    apply(
        "{apiVersion: vmail.dev/v1alpha1, kind: Mailbox, metadata: {name: emma, namespace: mail}, spec: {address: emma@eta.example.org}}",
    );
    await_true(LIMIT, "a backup MX takes every address", || code("anybody@zeta.example.org") == 250);
    await_true(LIMIT, "Postfix looks transports up", || {
        let show = [
            "exec",
            "myhost-postfix-0",
            "--",
            "postconf",
            "-c",
            "/run/vmail/postfix",
            "-h",
            "transport_maps",
        ];
        String::from_utf8_lossy(&kubectl(&show).stdout).contains("transport_maps.cf")
    });
    assert_eq!(code("nobody@eta.example.org"), 550, "a transport opens no address");
    send("anybody@zeta.example.org", "relayed");
    send("emma@eta.example.org", "by-lmtp");
    await_true(LIMIT, "both wait in the queue for their next hop", || {
        let queue =
            kubectl(&["exec", "myhost-postfix-0", "--", "postqueue", "-c", "/run/vmail/postfix", "-p"]);
        let queue = String::from_utf8_lossy(&queue.stdout).into_owned();
        queue.contains("127.0.0.1[127.0.0.1]:2599") && queue.contains("127.0.0.1[127.0.0.1]:2598")
    });
    must(
        &kubectl(&[
            "exec",
            "myhost-postfix-0",
            "--",
            "postsuper",
            "-c",
            "/run/vmail/postfix",
            "-d",
            "ALL",
            "deferred",
        ]),
        "postsuper",
    );
    must(&kubectl(&["delete", "maildomain", "zeta", "eta", "--wait=false"]), "kubectl delete");
    must(&kubectl(&["delete", "mailbox", "emma", "--wait=false"]), "kubectl delete");
}

fn mail_has_the_owner_that_its_domain_or_mailbox_names() {
    declare_domain("theta.example.org", "uid: 960, gid: 961");
    apply(
        "{apiVersion: vmail.dev/v1alpha1, kind: Mailbox, metadata: {name: max, namespace: mail}, spec: {address: max@theta.example.org}}",
    );
    apply(
        "{apiVersion: vmail.dev/v1alpha1, kind: Mailbox, metadata: {name: moritz, namespace: mail}, spec: {address: moritz@theta.example.org, uid: 970}}",
    );
    let shown =
        ["exec", "myhost-postfix-0", "--", "postconf", "-c", "/run/vmail/postfix", "-h", "virtual_uid_maps"];
    await_true(LIMIT, "Postfix looks owners up", || {
        String::from_utf8_lossy(&kubectl(&shown).stdout).contains("uid_maps.cf")
    });
    let directory =
        ["exec", "myhost-postfix-0", "--", "stat", "-c", "%u:%g", "/var/vmail/theta.example.org/moritz"];
    await_true(LIMIT, "the directories are there", || kubectl(&directory).stdout == b"970:961\n");
    for (to, subject, owner) in [
        ("max@theta.example.org", "of-the-domain", "960:961 theta.example.org/max"),
        ("moritz@theta.example.org", "of-the-mailbox", "970:961 theta.example.org/moritz"),
        ("moritz+tag@theta.example.org", "of-the-mailbox-tagged", "970:961 theta.example.org/moritz"),
        ("alfred@alpha.example.org", "of-the-server", "901:901 alpha.example.org/alfred"),
    ] {
        send(to, subject);
        await_true(LIMIT, subject, || {
            store().iter().any(|line| {
                line.starts_with(&format!("{owner}/new/")) && line.ends_with(&format!(" {subject}"))
            })
        });
    }
    must(&kubectl(&["delete", "mailbox", "max", "moritz", "--wait=false"]), "kubectl delete");
    must(&kubectl(&["delete", "maildomain", "theta", "--wait=false"]), "kubectl delete");
}

fn a_bad_configuration_is_told_and_the_old_one_goes_on() {
    let limit = |value: &str| {
        let patch = format!(
            "{{\"spec\":{{\"postfix\":{{\"parameters\":{{\"smtpd_hard_error_limit\":\"{value}\"}}}}}}}}"
        );
        must(&kubectl(&["patch", "mailserver", "myhost", "--type=merge", "-p", &patch]), "kubectl patch");
    };
    let config_valid = || {
        let path = "jsonpath={.status.conditions[?(@.type==\"ConfigValid\")].reason} {.status.conditions[?(@.type==\"ConfigValid\")].message}";
        String::from_utf8_lossy(&kubectl(&["get", "mailserver", "myhost", "-o", path]).stdout).into_owned()
    };
    limit("many");
    await_true(LIMIT, "Postfix's own words in ConfigValid", || {
        config_valid().starts_with("ConfigInvalid") && config_valid().contains("smtpd_hard_error_limit")
    });
    assert_eq!(code("alfred@alpha.example.org"), 250, "the configuration before goes on");
    limit("21");
    await_true(LIMIT, "MailServer myhost Ready again", || ready("mailserver/myhost"));
}

fn a_tenth_mailbox_comes_and_goes() {
    let to = "dora@alpha.example.org";
    assert_eq!(code(to), 550);
    apply(
        "{apiVersion: vmail.dev/v1alpha1, kind: Mailbox, metadata: {name: dora, namespace: mail}, spec: {address: dora@alpha.example.org}}",
    );
    let took = await_true(LIMIT, "a new mailbox is accepted", || code(to) == 250);
    assert!(took < Duration::from_secs(2), "accepted only after {took:?}");
    send(to, "tenth");
    await_delivered("alpha.example.org/dora", "tenth");
    must(&kubectl(&["delete", "mailbox", "dora", "--wait=false"]), "kubectl delete");
    let took = await_true(LIMIT, "a deleted mailbox is refused", || code(to) == 550);
    assert!(took < Duration::from_secs(2), "refused only after {took:?}");
    assert!(delivered("alpha.example.org/dora", "tenth"), "mail on disk is never removed");
}

fn kill_9(namespace: &str, selector: &str) {
    let path = "jsonpath={.items[0].status.containerStatuses[0].containerID}";
    let output =
        tool("kubectl").args(["-n", namespace, "get", "pods", "-l", selector, "-o", path]).output().unwrap();
    let id = must(&output, selector);
    let id = id.trim_start_matches("containerd://");
    assert!(!id.is_empty(), "no container for {selector}");
    let node = std::env::var("VMAIL_ON_NODE").expect("VMAIL_ON_NODE is not set: `make test` sets it");
    let mut words = node.split_whitespace();
    let killed = Command::new(words.next().unwrap())
        .args(words)
        .args(["ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    must(&killed, "ctr tasks kill");
}

/// 500 messages, and kill -9 of the operator, of Postfix and of MariaDB while they come in.
fn nothing_accepted_is_lost() {
    let recipients = ["alfred@alpha.example.org", "bill@beta.example.org", "cinder@gamma.example.org"];
    let address = endpoint();
    let mut accepted = BTreeSet::new();
    let mut session = Session::open(&address).ok();
    for number in 0..500 {
        match number {
            100 => kill_9("vmail-system", "app.kubernetes.io/name=vmail-operator"),
            200 => kill_9(NAMESPACE, "app.kubernetes.io/name=postfix,app.kubernetes.io/instance=myhost"),
            350 => kill_9(NAMESPACE, "app.kubernetes.io/name=mariadb,app.kubernetes.io/instance=myhost"),
            _ => {}
        }
        let subject = format!("m{number}");
        await_true(LIMIT, &format!("{subject} is taken"), || {
            let mut open = session.take().or_else(|| Session::open(&address).ok());
            let taken =
                open.as_mut().is_some_and(|session| session.send(recipients[number % 3], &subject).is_ok());
            session = open.filter(|_| taken);
            taken
        });
        accepted.insert(subject);
    }
    await_true(LIMIT, "every accepted message is in the mail store", || {
        let there: BTreeSet<String> =
            store().iter().filter_map(|line| line.rsplit(' ').next().map(str::to_owned)).collect();
        accepted.is_subset(&there)
    });
    await_true(LIMIT, "MailServer myhost Ready again", || ready("mailserver/myhost"));
}
