//! The demo's mail system on the real node: the chart, the seed's accounts, mail by SMTP and the files in the mail store.
//!
//! One test, for one mail system: its parts build on each other.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::node::{
    LIMIT, NAMESPACE, Server, apply, await_ready, await_true, condition, install, kubectl, manifest, must,
    on_node, patch, tool,
};
use crate::smtp::Session;

const MYHOST: Server = Server("myhost");
const POSTFIX: &str = "app.kubernetes.io/name=postfix,app.kubernetes.io/instance=myhost";

fn code(to: &str) -> u16 {
    MYHOST.code(to)
}

fn send(to: &str, subject: &str) {
    MYHOST.send(to, subject);
}

fn store() -> Vec<String> {
    MYHOST.pod().store("/var/vmail")
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
    // More goes here within ten minutes than a person would delete.
    MYHOST.patch("{\"massDeletion\":{\"maxPercent\":100}}");
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
        patch("mailbox/alistair", &format!("{{\"active\":{active}}}"));
    };
    active(false);
    await_true(LIMIT, "a disabled mailbox is refused", || code("alistair@gamma.example.org") == 550);
    active(true);
    await_true(LIMIT, "an enabled mailbox is accepted", || code("alistair@gamma.example.org") == 250);
}

fn declare_domain(domain: &str, extra: &str) {
    let name = domain.split('.').next().unwrap();
    apply(&manifest("MailDomain", name, &format!("serverRef: {{name: myhost}}, domain: {domain}, {extra}")));
    await_ready(&format!("maildomain/{name}"));
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
    apply(&manifest("MailAlias", name, &format!("address: {name}@alpha.example.org, goto: [{goto}]")));
}

/// smtpd(8) remembers for as long as it lives that it would not relay to a domain.
fn a_domain_that_was_refused_before_is_accepted_soon() {
    let to = "zoe@iota.example.org";
    assert_eq!(code(to), 554);
    apply(&manifest("Mailbox", "zoe", "address: zoe@iota.example.org"));
    declare_domain("iota.example.org", "active: true");
    let took = await_true(LIMIT, "a domain is accepted that was refused before", || code(to) == 250);
    assert!(took < Duration::from_secs(5), "accepted only after {took:?}");
    must(&kubectl(&["delete", "mailbox/zoe", "maildomain/iota", "--wait=false"]), "kubectl delete");
}

/// Were the loop written, Postfix would answer 451 to the whole message, for its good recipient too.
fn an_alias_loop_defers_nobody() {
    declare_alias("ping", "pong@alpha.example.org");
    await_true(LIMIT, "ping's target is undeclared", || {
        condition("mailalias/ping", "Warning", "reason") == "UndeclaredTarget"
    });
    declare_alias("pong", "ping@alpha.example.org");
    await_true(LIMIT, "the younger alias closes the loop", || {
        condition("mailalias/pong", "Ready", "reason") == "AliasLoop"
    });
    assert_eq!(condition("mailalias/ping", "Ready", "reason"), "Synced");
    assert_eq!(code("pong@alpha.example.org"), 550, "the alias that closes the loop is not written");
    let mut session = MYHOST.session().unwrap();
    session.send_to(&["alfred@alpha.example.org", "ping@alpha.example.org"], "beside-a-loop").unwrap();
    await_delivered("alpha.example.org/alfred", "beside-a-loop");
    declare_alias("ping", "bob@alpha.example.org");
    await_true(LIMIT, "the loop is gone", || condition("mailalias/pong", "Ready", "reason") == "Synced");
    send("pong@alpha.example.org", "no-loop-any-more");
    await_delivered("alpha.example.org/bob", "no-loop-any-more");
    must(&kubectl(&["delete", "mailalias", "ping", "pong", "--wait=false"]), "kubectl delete");
}

/// A host that doesn't exist takes nothing: the queue says where the mail would go.
fn a_transport_and_a_backup_mx_decide_where_mail_goes() {
    declare_domain("zeta.example.org", "backupMX: true, transport: 'relay:[127.0.0.1]:2599'");
    declare_domain("eta.example.org", "transport: 'lmtp:inet:127.0.0.1:2598'");
    apply(&manifest("Mailbox", "emma", "address: emma@eta.example.org"));
    await_true(LIMIT, "a backup MX takes every address", || code("anybody@zeta.example.org") == 250);
    await_true(LIMIT, "Postfix looks transports up", || {
        MYHOST.pod().postconf("transport_maps").contains("transport_maps.cf")
    });
    assert_eq!(code("nobody@eta.example.org"), 550, "a transport opens no address");
    send("anybody@zeta.example.org", "relayed");
    send("emma@eta.example.org", "by-lmtp");
    await_true(LIMIT, "both wait in the queue for their next hop", || {
        let queue = MYHOST.pod().run("postqueue -c /run/vmail/postfix -p");
        queue.contains("127.0.0.1[127.0.0.1]:2599") && queue.contains("127.0.0.1[127.0.0.1]:2598")
    });
    MYHOST.pod().run("postsuper -c /run/vmail/postfix -d ALL deferred");
    must(&kubectl(&["delete", "maildomain", "zeta", "eta", "--wait=false"]), "kubectl delete");
    must(&kubectl(&["delete", "mailbox", "emma", "--wait=false"]), "kubectl delete");
}

fn mail_has_the_owner_that_its_domain_or_mailbox_names() {
    declare_domain("theta.example.org", "uid: 960, gid: 961");
    apply(&manifest("Mailbox", "max", "address: max@theta.example.org"));
    apply(&manifest("Mailbox", "moritz", "address: moritz@theta.example.org, uid: 970"));
    apply(&manifest("Mailbox", "moritz-own", "address: moritz+own@theta.example.org"));
    await_true(LIMIT, "Postfix looks owners up", || {
        MYHOST.pod().postconf("virtual_uid_maps").contains("uid_maps.cf")
    });
    await_true(LIMIT, "the directories are there", || {
        MYHOST.pod().run("stat -c %u:%g /var/vmail/theta.example.org/moritz").trim() == "970:961"
    });
    MYHOST.patch("{\"postfix\":{\"recipientDelimiter\":\"+-\"}}");
    await_true(LIMIT, "a tag may begin with a dash", || code("moritz-tag@theta.example.org") == 250);
    await_ready("mailbox/moritz-own");
    for (to, subject, owner) in [
        ("max@theta.example.org", "of-the-domain", "960:961 theta.example.org/max"),
        ("moritz@theta.example.org", "of-the-mailbox", "970:961 theta.example.org/moritz"),
        ("moritz+tag@theta.example.org", "of-the-mailbox-tagged", "970:961 theta.example.org/moritz"),
        ("moritz-tag@theta.example.org", "of-the-mailbox-dashed", "970:961 theta.example.org/moritz"),
        ("moritz+own@theta.example.org", "of-no-other-mailbox", "960:961 theta.example.org/moritz+own"),
        ("alfred@alpha.example.org", "of-the-server", "901:901 alpha.example.org/alfred"),
    ] {
        send(to, subject);
        await_true(LIMIT, subject, || {
            store().iter().any(|line| {
                line.starts_with(&format!("{owner}/new/")) && line.ends_with(&format!(" {subject}"))
            })
        });
    }
    MYHOST.patch("{\"postfix\":{\"recipientDelimiter\":null}}");
    another_owner_gets_the_mail_that_is_there_and_new_mail_too();
    must(&kubectl(&["delete", "mailbox", "max", "moritz", "moritz-own", "--wait=false"]), "kubectl delete");
    must(&kubectl(&["delete", "maildomain", "theta", "--wait=false"]), "kubectl delete");
}

/// Of a mailbox with mail in it: to an owner of its own, and back to that of the domain; then all of the domain's.
fn another_owner_gets_the_mail_that_is_there_and_new_mail_too() {
    let has = |mailbox: &str, owner: &str, subject: &str| {
        store().iter().any(|line| {
            line.starts_with(&format!("{owner} theta.example.org/{mailbox}/new/"))
                && line.ends_with(&format!(" {subject}"))
        })
    };
    for (object, spec, owner) in [
        ("mailbox/max", "{\"uid\":980}", "980:961"),
        ("mailbox/max", "{\"uid\":null}", "960:961"),
        ("maildomain/theta", "{\"uid\":990}", "990:961"),
    ] {
        patch(object, spec);
        await_true(LIMIT, &format!("{object} {spec}: the mail that is there is {owner}'s"), || {
            has("max", owner, "of-the-domain")
        });
        let subject = format!("after-{}-{}", object.replace('/', "-"), owner.replace(':', "-"));
        send("max@theta.example.org", &subject);
        await_true(LIMIT, &subject, || has("max", owner, &subject));
    }
    assert!(has("moritz", "970:961", "of-the-mailbox"), "whoever names an owner keeps it");
}

/// What Postfix says, or would say too late: when port 25 is silent, when mail for others has piled up, and when a client
/// is put off.
fn a_bad_configuration_is_told_and_the_old_one_goes_on() {
    let parameter = |name: &str, value: &str| {
        MYHOST.patch(&format!("{{\"postfix\":{{\"parameters\":{{\"{name}\":{value}}}}}}}"));
    };
    let config_valid = |part: &str| condition(&MYHOST.object(), "ConfigValid", part);
    for (name, value, words) in [
        ("smtpd_hard_error_limit", "many", "smtpd_hard_error_limit"),
        ("smtpd_tls_security_level", "encrpt", "Invalid TLS level \"encrpt\""),
        ("smtp_tls_security_level", "encrpt", "Invalid TLS level \"encrpt\""),
        (
            "smtpd_sender_restrictions",
            "permit_mynetworks, reject_unknown_sender_domian",
            "unknown smtpd restriction: \"reject_unknown_sender_domian\"",
        ),
    ] {
        parameter(name, &format!("\"{value}\""));
        await_true(LIMIT, &format!("Postfix's own words about {name} in ConfigValid"), || {
            config_valid("reason") == "ConfigInvalid" && config_valid("message").contains(words)
        });
        assert_ne!(MYHOST.pod().postconf(name), value);
        let subject = format!("past-a-bad-{name}");
        send("alfred@alpha.example.org", &subject);
        await_delivered("alpha.example.org/alfred", &subject);
        parameter(name, "null");
        MYHOST.await_ready();
    }
    parameter("smtpd_hard_error_limit", "\"many\"");
    await_true(LIMIT, "ConfigInvalid", || config_valid("reason") == "ConfigInvalid");
    let restarts = || MYHOST.pod().field(".status.containerStatuses[0].restartCount");
    let before = restarts();
    kill_9(NAMESPACE, POSTFIX);
    await_true(LIMIT, "the container runs again, with what ran before", || {
        restarts() != before && code("alfred@alpha.example.org") == 250
    });
    await_true(LIMIT, "ConfigInvalid, still", || config_valid("reason") == "ConfigInvalid");
    parameter("smtpd_hard_error_limit", "null");
    MYHOST.await_ready();
    // Every one that smtpd(8) knows is taken.
    parameter("smtpd_sender_restrictions", "\"permit_mynetworks, reject_unlisted_sender\"");
    await_true(LIMIT, "a good restriction runs", || {
        MYHOST.pod().postconf("smtpd_sender_restrictions").contains("reject_unlisted_sender")
    });
    MYHOST.await_ready();
    parameter("smtpd_sender_restrictions", "null");
    MYHOST.await_ready();
}

fn a_tenth_mailbox_comes_and_goes() {
    let to = "dora@alpha.example.org";
    assert_eq!(code(to), 550);
    apply(&manifest("Mailbox", "dora", "address: dora@alpha.example.org"));
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
    on_node(&["ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", id]);
}

/// 500 messages, and kill -9 of the operator, of Postfix and of MariaDB while they come in.
fn nothing_accepted_is_lost() {
    let recipients = ["alfred@alpha.example.org", "bill@beta.example.org", "cinder@gamma.example.org"];
    let address = MYHOST.address();
    let mut accepted = BTreeSet::new();
    let mut session = Session::open(&address).ok();
    for number in 0..500 {
        match number {
            100 => kill_9("vmail-system", "app.kubernetes.io/name=vmail-operator"),
            200 => kill_9(NAMESPACE, POSTFIX),
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
    MYHOST.await_ready();
}
