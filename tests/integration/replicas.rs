//! Replicas on the real node: each takes mail into its own queue, one that is to go empties it first, and mail that waits
//! survives the end of its pod.

use std::time::Duration;

use crate::mail::{LIMIT, apply, await_true, install, kubectl, must, ready};
use crate::smtp::Session;

/// A port of the pod itself that nothing listens on: mail that goes there waits.
const NOWHERE: &str = "smtp:[127.0.0.1]:9";

fn field(object: &str, path: &str) -> String {
    let output = kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn patch(object: &str, spec: &str) {
    let patch = format!("{{\"spec\":{spec}}}");
    must(&kubectl(&["patch", object, "--type=merge", "-p", &patch]), "kubectl patch");
}

fn address(number: usize) -> String {
    format!("{}:25", field(&format!("pod/twins-postfix-{number}"), ".status.podIP"))
}

fn in_pod(number: usize, script: &str) -> String {
    let pod = format!("twins-postfix-{number}");
    let output = kubectl(&["exec", &pod, "-c", "postfix", "--", "sh", "-c", script]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn deferred(number: usize) -> usize {
    in_pod(number, "find /var/spool/postfix/deferred -type f | wc -l").trim().parse().unwrap_or(0)
}

fn send(number: usize, to: &str, subject: &str) {
    await_true(LIMIT, &format!("{subject} is taken by pod {number}"), || {
        Session::open(&address(number)).and_then(|mut session| session.send(to, subject)).is_ok()
    });
}

fn await_delivered(subject: &str) {
    await_true(LIMIT, &format!("{subject} in the mail store"), || {
        in_pod(0, &format!("grep -rl '^Subject: {subject}$' /var/vmail")).contains("/new/")
    });
}

/// Where the mail of the domain goes: nowhere for now, or into the mail store.
fn transport(transport: &str) {
    patch("maildomain/twins", &format!("{{\"transport\":\"{transport}\"}}"));
    // The answer is a second old at most when the configuration is; transports are looked up in the files.
    await_true(LIMIT, &format!("mail goes to {transport}"), || {
        (0..2).all(|number| {
            let query = "postmap -c /run/vmail/postfix -q twins.example.org lmdb:$(postconf -c /run/vmail/postfix -h vmail_maps)/transport_maps";
            let found = in_pod(number, query);
            let expected = if transport == "virtual" { "" } else { transport };
            found.trim() == expected || field(&format!("pod/twins-postfix-{number}"), ".metadata.name").is_empty()
        })
    });
}

#[test]
fn a_replica_that_is_to_go_empties_its_queue_first() {
    install();
    apply(
        "{apiVersion: vmail.dev/v1alpha1, kind: MailServer, metadata: {name: twins, namespace: mail}, \
         spec: {hostname: twins.example.org, lookupTables: lmdb, postfix: {replicas: 2}}}\n---\n\
         {apiVersion: vmail.dev/v1alpha1, kind: MailDomain, metadata: {name: twins, namespace: mail}, \
         spec: {serverRef: {name: twins}, domain: twins.example.org}}\n---\n\
         {apiVersion: vmail.dev/v1alpha1, kind: Mailbox, metadata: {name: castor, namespace: mail}, \
         spec: {address: castor@twins.example.org}}",
    );
    await_true(LIMIT, "both replicas run the same", || {
        let wanted = field("mailserver/twins", ".status.configHash");
        let runs = field("mailserver/twins", ".status.replicas[*].configHash");
        ready("mailserver/twins") && !wanted.is_empty() && runs == format!("{wanted} {wanted}")
    });
    for number in 0..2 {
        send(number, "castor@twins.example.org", &format!("through-{number}"));
        await_delivered(&format!("through-{number}"));
    }
    transport(NOWHERE);
    for number in 0..2 {
        send(number, "castor@twins.example.org", &format!("waits-{number}"));
        await_true(LIMIT, "the message waits", || deferred(number) == 1);
    }
    mail_that_waits_survives_its_pod();
    a_pod_that_is_kept_after_all_takes_mail_again();
    the_pod_waits_for_its_queue();
}

fn mail_that_waits_survives_its_pod() {
    let before = field("pod/twins-postfix-0", ".metadata.uid");
    must(&kubectl(&["delete", "pod", "twins-postfix-0"]), "kubectl delete pod");
    await_true(LIMIT, "the pod is back", || {
        let uid = field("pod/twins-postfix-0", ".metadata.uid");
        let path = ".status.conditions[?(@.type==\"Ready\")].status";
        uid != before && field("pod/twins-postfix-0", path) == "True"
    });
    await_true(LIMIT, "with the message in its queue", || deferred(0) == 1);
}

/// Messages in the queue of the pod that is to go, as the status has them.
fn left() -> String {
    field("mailserver/twins", ".status.replicas[?(@.name==\"twins-postfix-1\")].draining")
}

fn one_is_to_go(messages: &str) {
    patch("mailserver/twins", "{\"postfix\":{\"replicas\":1}}");
    await_true(LIMIT, "the status names what is left", || left() == messages);
    let message = field("mailserver/twins", ".status.conditions[?(@.type==\"PostfixReady\")].message");
    let told = format!("pod twins-postfix-1 goes when its queue is empty, messages in it: {messages}");
    assert!(message.contains(&told), "{message}");
    await_true(LIMIT, "it takes no more mail", || Session::open(&address(1)).is_err());
}

fn a_pod_that_is_kept_after_all_takes_mail_again() {
    let before = field("pod/twins-postfix-1", ".metadata.uid");
    one_is_to_go("1");
    patch("mailserver/twins", "{\"postfix\":{\"replicas\":2}}");
    send(1, "castor@twins.example.org", "kept-1");
    await_true(LIMIT, "nothing is said to be left", || left().is_empty());
    await_true(LIMIT, "the message waits beside the other", || deferred(1) == 2);
    assert_eq!(field("pod/twins-postfix-1", ".metadata.uid"), before);
}

fn the_pod_waits_for_its_queue() {
    one_is_to_go("2");
    assert_eq!(field("statefulset/twins-postfix", ".spec.replicas"), "2");
    send(0, "castor@twins.example.org", "the-other-goes-on");
    let waiting = std::time::Instant::now();
    await_true(LIMIT, "it has been asked several times", || waiting.elapsed() > Duration::from_secs(8));
    assert_eq!(field("pod/twins-postfix-1", ".status.phase"), "Running");
    transport("virtual");
    await_delivered("waits-1");
    await_delivered("kept-1");
    await_true(LIMIT, "the pod goes", || field("statefulset/twins-postfix", ".spec.replicas") == "1");
    await_true(LIMIT, "and is gone", || field("pod/twins-postfix-1", ".metadata.uid").is_empty());
    must(
        &kubectl(&[
            "exec",
            "twins-postfix-0",
            "-c",
            "postfix",
            "--",
            "postfix",
            "-c",
            "/run/vmail/postfix",
            "flush",
        ]),
        "flush",
    );
    await_delivered("waits-0");
    await_delivered("the-other-goes-on");
    await_true(LIMIT, "MailServer twins Ready", || ready("mailserver/twins"));
}
