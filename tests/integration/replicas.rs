//! Replicas on the real node: each takes mail into its own queue, one that is to go empties it first, and mail that waits
//! survives the end of its pod.

use std::time::Duration;

use crate::node::{
    LIMIT, Pod, Server, apply_all, await_true, condition, field, install, kubectl, manifest, must, patch,
    ready, send_to,
};
use crate::smtp::Session;

/// A port of the pod itself that nothing listens on: mail that goes there waits.
const NOWHERE: &str = "smtp:[127.0.0.1]:9";

const TWINS: Server = Server("twins");
const CASTOR: &str = "castor@twins.example.org";

fn pod(number: usize) -> Pod {
    Pod { number, ..TWINS.pod() }
}

fn deferred(number: usize) -> usize {
    pod(number).run("find /var/spool/postfix/deferred -type f | wc -l").trim().parse().unwrap_or(0)
}

fn send(number: usize, subject: &str) {
    send_to(|| pod(number).address(), CASTOR, subject);
}

fn await_delivered(subject: &str) {
    pod(0).await_delivered(subject);
}

/// Where the mail of the domain goes: nowhere for now, or into the mail store.
fn transport(transport: &str) {
    patch("maildomain/twins", &format!("{{\"transport\":\"{transport}\"}}"));
    // The answer is a second old at most when the configuration is; transports are looked up in the files.
    await_true(LIMIT, &format!("mail goes to {transport}"), || {
        (0..2).all(|number| {
            let query = "postmap -c /run/vmail/postfix -q twins.example.org lmdb:$(postconf -c /run/vmail/postfix -h vmail_maps)/transport_maps";
            let found = pod(number).run(query);
            let expected = if transport == "virtual" { "" } else { transport };
            found.trim() == expected || pod(number).field(".metadata.name").is_empty()
        })
    });
}

#[test]
fn a_replica_that_is_to_go_empties_its_queue_first() {
    install();
    apply_all(&[
        manifest(
            "MailServer",
            "twins",
            "hostname: twins.example.org, lookupTables: lmdb, postfix: {replicas: 2}",
        ),
        manifest("MailDomain", "twins", "serverRef: {name: twins}, domain: twins.example.org"),
        manifest("Mailbox", "castor", &format!("address: {CASTOR}")),
    ]);
    await_true(LIMIT, "both replicas run the same", || {
        let wanted = field(&TWINS.object(), ".status.configHash");
        let runs = field(&TWINS.object(), ".status.replicas[*].configHash");
        ready(&TWINS.object()) && !wanted.is_empty() && runs == format!("{wanted} {wanted}")
    });
    for number in 0..2 {
        send(number, &format!("through-{number}"));
        await_delivered(&format!("through-{number}"));
    }
    transport(NOWHERE);
    for number in 0..2 {
        send(number, &format!("waits-{number}"));
        await_true(LIMIT, "the message waits", || deferred(number) == 1);
    }
    mail_that_waits_survives_its_pod();
    a_pod_that_is_kept_after_all_takes_mail_again();
    the_pod_waits_for_its_queue();
    a_pod_that_can_not_answer_goes_if_it_never_had_mail_or_is_let_go();
}

fn mail_that_waits_survives_its_pod() {
    let before = pod(0).field(".metadata.uid");
    must(&kubectl(&["delete", "pod", "twins-postfix-0"]), "kubectl delete pod");
    await_true(LIMIT, "the pod is back", || {
        let uid = pod(0).field(".metadata.uid");
        uid != before && ready("pod/twins-postfix-0")
    });
    await_true(LIMIT, "with the message in its queue", || deferred(0) == 1);
}

/// Messages in the queue of the pod that is to go, as the status has them.
fn left() -> String {
    field(&TWINS.object(), ".status.replicas[?(@.name==\"twins-postfix-1\")].draining")
}

fn one_is_to_go(messages: &str) {
    TWINS.patch("{\"postfix\":{\"replicas\":1}}");
    await_true(LIMIT, "the status names what is left", || left() == messages);
    let message = condition(&TWINS.object(), "PostfixReady", "message");
    let told = format!("pod twins-postfix-1 goes when its queue is empty, messages in it: {messages}");
    assert!(message.contains(&told), "{message}");
    await_true(LIMIT, "it takes no more mail", || Session::open(&pod(1).address()).is_err());
}

fn a_pod_that_is_kept_after_all_takes_mail_again() {
    let before = pod(1).field(".metadata.uid");
    one_is_to_go("1");
    TWINS.patch("{\"postfix\":{\"replicas\":2}}");
    send(1, "kept-1");
    await_true(LIMIT, "nothing is said to be left", || left().is_empty());
    await_true(LIMIT, "the message waits beside the other", || deferred(1) == 2);
    assert_eq!(pod(1).field(".metadata.uid"), before);
}

fn the_pod_waits_for_its_queue() {
    one_is_to_go("2");
    assert_eq!(field("statefulset/twins-postfix", ".spec.replicas"), "2");
    send(0, "the-other-goes-on");
    let waiting = std::time::Instant::now();
    await_true(LIMIT, "it has been asked several times", || waiting.elapsed() > Duration::from_secs(8));
    assert_eq!(pod(1).field(".status.phase"), "Running");
    transport("virtual");
    await_delivered("waits-1");
    await_delivered("kept-1");
    await_true(LIMIT, "the pod goes", || field("statefulset/twins-postfix", ".spec.replicas") == "1");
    await_true(LIMIT, "and is gone", || pod(1).field(".metadata.uid").is_empty());
    pod(0).run("postfix -c /run/vmail/postfix flush");
    await_delivered("waits-0");
    await_delivered("the-other-goes-on");
    TWINS.await_ready();
}

/// The queue of number 1 has a claim from before; that of number 2 is made with the pod.
fn a_pod_that_can_not_answer_goes_if_it_never_had_mail_or_is_let_go() {
    TWINS.patch("{\"postfix\":{\"replicas\":3,\"image\":\"nowhere.invalid/postfix:0\"}}");
    for number in [1, 2] {
        await_true(LIMIT, "a pod whose image can't be pulled", || {
            pod(number).field(".status.initContainerStatuses[0].state.waiting.reason").contains("Image")
        });
    }
    TWINS.patch("{\"postfix\":{\"replicas\":1}}");
    await_true(LIMIT, "the one that never had mail goes", || {
        field("statefulset/twins-postfix", ".spec.replicas") == "2"
    });
    await_true(LIMIT, "the other says what lets it go", || {
        let message = condition(&TWINS.object(), "PostfixReady", "message");
        message.contains("pod twins-postfix-1 stays") && message.contains("vmail.dev/force-scale-down")
    });
    assert_eq!(field("statefulset/twins-postfix", ".spec.replicas"), "2");
    let annotate = ["annotate", "pod", "twins-postfix-1", "vmail.dev/force-scale-down=true"];
    must(&kubectl(&annotate), "kubectl annotate");
    await_true(LIMIT, "it is let go", || field("statefulset/twins-postfix", ".spec.replicas") == "1");
    assert_eq!(field("pvc/queue-twins-postfix-1", ".status.phase"), "Bound", "its queue stays");
    TWINS.patch("{\"postfix\":{\"image\":null}}");
    TWINS.await_ready();
    send(0, "after-pods-that-could-not-answer");
    await_delivered("after-pods-that-could-not-answer");
}
