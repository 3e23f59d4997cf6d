//! What a MailServer's fields make of Postfix, on the real node: who may relay, what becomes of a domain that is switched off,
//! what is too large, where a tag begins, and what is counted. First with look-up files, then with a database.

use std::net::IpAddr;

use crate::node::{
    LIMIT, Pod, Server, apply, apply_all, await_true, condition, field, install, manifest, on_node,
    our_address,
};
use crate::plugin::Plugin;
use crate::smtp::Session;

const SETTINGS: Server = Server("settings");
const POD: Pod = Pod { server: "settings", number: 0 };
const SUE: &str = "sue@settings.example.org";

/// In a domain that is switched off: a mailbox, and an address that nobody has.
const OLE: &str = "ole@settings-off.example.org";
const NOBODY_OFF: &str = "nobody@settings-off.example.org";

/// Its target is [`OLE`].
const GHOST: &str = "ghost@settings.example.org";

const FOREIGN: &str = "friend@elsewhere.example.net";

/// 60 MiB: more than Postfix's default of `virtual_mailbox_limit`.
const LARGE: u64 = 60 << 20;

/// The pod's own address: a Service may hide who its client is.
fn session() -> Option<Session> {
    Session::open(&POD.address()).ok()
}

/// The reply to a recipient: code and text.
fn reply(to: &str) -> (u16, String) {
    let reply = session().and_then(|mut session| session.recipient(to).ok());
    reply.map_or((0, String::new()), |reply| (reply.code, reply.text))
}

fn await_code(to: &str, code: u16) {
    let mut last = (0, String::new());
    await_true(LIMIT, &format!("{to} is answered with {code}"), || {
        last = reply(to);
        last.0 == code
    });
}

fn send(to: &str, subject: &str) {
    crate::node::send_to(|| POD.address(), to, subject);
}

fn patch_postfix(fields: &str) {
    SETTINGS.patch(&format!("{{\"postfix\":{{{fields}}}}}"));
}

/// How many messages in the queue are for an address.
fn waiting(to: &str) -> usize {
    POD.queue().matches(&format!("\"address\": \"{to}\"")).count()
}

/// A counter's or a gauge's value, 0 before it counted anything.
fn metric(name: &str) -> u64 {
    POD.metrics().lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn fields_do_what_they_say_with_files_and_with_a_database() {
    install();
    let server = "hostname: settings.example.org, lookupTables: lmdb, \
                  postfix: {relayHost: {host: 127.0.0.1, port: 2599}}";
    apply_all(&[
        manifest("MailServer", "settings", server),
        manifest("MailDomain", "settings", "serverRef: {name: settings}, domain: settings.example.org"),
        manifest(
            "MailDomain",
            "settings-off",
            "serverRef: {name: settings}, domain: settings-off.example.org, active: false",
        ),
        manifest("Mailbox", "sue", &format!("address: {SUE}")),
        manifest("Mailbox", "ole", &format!("address: {OLE}")),
        manifest("MailAlias", "settings-ghost", &format!("address: {GHOST}, goto: [{OLE}]")),
        manifest(
            "MailAlias",
            "settings-away",
            &format!("address: away@settings.example.org, goto: [{FOREIGN}]"),
        ),
    ]);
    SETTINGS.await_ready();
    await_code(SUE, 250);
    a_server_of_look_up_files_is_green();
    what_happens_to_messages_is_counted();
    the_configuration_has_a_hash_and_an_age();
    what_is_too_large_is_refused();
    a_tag_begins_at_the_delimiter();
    only_a_trusted_network_may_relay_and_never_to_a_domain_that_is_switched_off();
    a_type_that_the_image_lacks_is_told_and_changes_nothing();
    let relayed = waiting(FOREIGN);
    SETTINGS.switch_to("mysql");
    await_code(SUE, 250);
    assert_eq!(waiting(FOREIGN), relayed, "what was in the queue still is");
    a_tag_begins_at_the_delimiter();
    only_a_trusted_network_may_relay_and_never_to_a_domain_that_is_switched_off();
}

fn a_server_of_look_up_files_is_green() {
    let (code, said) = Plugin::install().ask(&["check", "settings", "-n", "mail"]);
    assert!(code == 0 && !said.contains("FAILED"), "{said}");
    for name in ["status", "postconf", "look-up", "smtp", "mail store", "free space"] {
        let is_told = said.lines().any(|line| line.starts_with("ok ") && line.contains(name));
        assert!(is_told, "no {name} in\n{said}");
    }
}

fn what_happens_to_messages_is_counted() {
    let names = [
        "vmail_postfix_messages_received_total",
        "vmail_postfix_deliveries_total{outcome=\"delivered\"}",
        "vmail_postfix_deliveries_total{outcome=\"bounced\"}",
        "vmail_postfix_queue_messages{queue=\"deferred\"}",
    ];
    let deferred = || metric("vmail_postfix_deliveries_total{outcome=\"deferred\"}");
    let (before, deferred_before) = (names.map(metric), deferred());
    send(SUE, "counted");
    send("away@settings.example.org", "counted-away");
    send(GHOST, "counted-ghost");
    // Three messages and the notice that the third bounced, which waits for the relay host as the second does.
    let expected = [4, 1, 1, 2];
    await_true(LIMIT, "all are counted", || {
        let now = names.map(metric);
        now.iter().zip(before).map(|(now, before)| now.saturating_sub(before)).eq(expected)
    });
    assert!(deferred() >= deferred_before + 2);
    for queue in ["maildrop", "incoming", "active", "hold"] {
        let name = format!("vmail_postfix_queue_messages{{queue=\"{queue}\"}} ");
        assert!(POD.metrics().contains(&name), "{name}");
    }
}

fn the_configuration_has_a_hash_and_an_age() {
    let age = || metric("vmail_postfix_configuration_age_seconds");
    let runs = |hash: &str| {
        POD.metrics().contains(&format!("vmail_postfix_configuration_info{{hash=\"{hash}\"}} 1"))
    };
    let wanted = || field(&SETTINGS.object(), ".status.configHash");
    let before = wanted();
    assert!(!before.is_empty() && runs(&before));
    await_true(LIMIT, "the configuration grows older", || age() >= 3);
    patch_postfix("\"banner\":\"ESMTP Younger\"");
    await_true(LIMIT, "the next configuration runs", || wanted() != before && runs(&wanted()));
    assert!(!runs(&before), "only one configuration runs");
    assert!(age() < 3, "it is new: {} s", age());
}

fn what_is_too_large_is_refused() {
    let limit = |limit: &str, bytes: u64| {
        patch_postfix(&format!("\"messageSizeLimit\":\"{limit}\""));
        await_true(LIMIT, &format!("at most {limit}"), || {
            POD.postconf("message_size_limit") == bytes.to_string() && SETTINGS.runs("lmdb")
        });
    };
    limit("60Mi", LARGE);
    for (size, code) in [(LARGE, 250), (LARGE + 1, 552)] {
        let reply = session().unwrap().say(&format!("MAIL FROM:<samt@example.net> SIZE={size}")).unwrap();
        assert_eq!(reply.code, code, "{size} bytes: {}", reply.text);
    }
    // virtual(8) would end with `virtual_mailbox_limit is smaller than message_size_limit`.
    send(SUE, "below-a-large-limit");
    POD.await_delivered("below-a-large-limit");
    let too_large = "vmail_postfix_rejected_total{reason=\"too_large\"}";
    await_true(LIMIT, "the refusal is counted", || metric(too_large) > 0);
    limit("64Ki", 64 << 10);
    let mut session = session().unwrap();
    for (line, code) in
        [("MAIL FROM:<samt@example.net>", 250), (&format!("RCPT TO:<{SUE}>"), 250), ("DATA", 354)]
    {
        assert_eq!(session.say(line).unwrap().code, code, "{line}");
    }
    let body = "Hopefully this is too much.\r\n".repeat(4000);
    let reply = session.say(&format!("Subject: too-large\r\n\r\n{body}.")).unwrap();
    assert_eq!(reply.code, 552, "{}", reply.text);
    limit("20Mi", 20 << 20);
}

fn a_tag_begins_at_the_delimiter() {
    let tagged = |delimiter: &str| SUE.replace('@', &format!("{delimiter}tag@"));
    for (delimiter, plus, dash) in [("-", 550, 250), ("", 550, 550), ("+", 250, 550)] {
        patch_postfix(&format!("\"recipientDelimiter\":\"{delimiter}\""));
        await_true(LIMIT, &format!("the delimiter is {delimiter:?}"), || {
            POD.postconf("recipient_delimiter") == delimiter
                && [("+", plus), ("-", dash)].iter().all(|(tag, code)| reply(&tagged(tag)).0 == *code)
        });
        assert_eq!(reply(SUE).0, 250, "{delimiter:?}");
        if !delimiter.is_empty() {
            let type_ = POD.postconf("virtual_mailbox_domains");
            let type_ = type_.split(':').next().unwrap_or_default();
            let subject = format!("{type_}-{}", if delimiter == "-" { "dash" } else { "plus" });
            send(&tagged(delimiter), &subject);
            POD.await_delivered(&subject);
        }
    }
}

/// Takes the table type cdb out of the running pod, as an image without Debian's package postfix-cdb has none.
fn remove_cdb() {
    let container = POD.field(".status.containerStatuses[0].containerID");
    let id = container.trim_start_matches("containerd://");
    let script = format!(
        "cd \"$(awk '$2 ~ \"{id}/rootfs$\" {{ print $2 }}' /proc/self/mounts)\" && sed -i '/^cdb/d' etc/postfix/dynamicmaps.cf && \
         rm -f etc/postfix/dynamicmaps.cf.d/*cdb* usr/lib/postfix/postfix-cdb.so"
    );
    on_node(&["sh", "-c", &script]);
    let types = POD.run("postconf -m");
    assert!(!types.lines().any(|type_| type_ == "cdb"), "{types}");
}

fn a_type_that_the_image_lacks_is_told_and_changes_nothing() {
    remove_cdb();
    SETTINGS.patch("{\"lookupTables\":\"cdb\"}");
    let told = |part: &str| condition(&SETTINGS.object(), "ConfigValid", part);
    await_true(LIMIT, "ConfigInvalid", || told("reason") == "ConfigInvalid");
    let message = told("message");
    assert!(message.contains("unsupported dictionary type: cdb"), "{message}");
    assert!(POD.postconf("virtual_mailbox_domains").starts_with("lmdb:"));
    assert_eq!(reply(SUE).0, 250);
    send(SUE, "without-cdb");
    POD.await_delivered("without-cdb");
    let late = "late@settings.example.org";
    apply(&manifest("Mailbox", "late", &format!("address: {late}")));
    await_code(late, 250);
    assert_eq!(told("reason"), "ConfigInvalid", "a mailbox does not wait for the configuration");
    SETTINGS.switch_to("lmdb");
}

fn trust(networks: &str) {
    patch_postfix(&format!("\"trustedNetworks\":{networks}"));
}

fn only_a_trusted_network_may_relay_and_never_to_a_domain_that_is_switched_off() {
    for to in [FOREIGN, OLE, NOBODY_OFF] {
        assert_eq!(reply(to).0, 554, "{to}, from a stranger");
    }
    let ours: IpAddr = our_address(POD);
    trust(&format!("[\"{ours}/32\"]"));
    await_code(FOREIGN, 250);
    let relayed = waiting(FOREIGN);
    send(FOREIGN, "relayed");
    await_true(LIMIT, "what is for others leaves", || waiting(FOREIGN) == relayed + 1);
    // A mailbox that is an alias of itself is taken for one that leads somewhere. In files it is none.
    let in_files = !POD.postconf("virtual_alias_maps").contains("mysql:");
    let (refused, bounced): (&[&str], &[&str]) =
        if in_files { (&[NOBODY_OFF, OLE], &[GHOST]) } else { (&[NOBODY_OFF], &[OLE, GHOST]) };
    for to in refused {
        let (code, text) = reply(to);
        assert!(code == 550 && text.contains("switched off"), "{to}: {code} {text}");
    }
    let notices = waiting("samt@example.net");
    for (number, to) in bounced.iter().enumerate() {
        send(to, "never-relayed");
        await_true(LIMIT, &format!("{to} bounces"), || waiting("samt@example.net") == notices + number + 1);
        assert_eq!(waiting(OLE), 0, "{to} is not relayed");
    }
    let log = POD.log();
    let is_delivery = |line: &&str| line.contains(&format!("to=<{OLE}>")) && line.contains("status=");
    let fate: Vec<&str> = log.lines().filter(is_delivery).collect();
    assert!(
        fate.len() >= bounced.len()
            && fate.iter().all(|line| line.contains("status=bounced") && line.contains("switched off")),
        "{fate:#?}"
    );
    assert_eq!(reply(SUE).0, 250);
    trust("[\"192.0.2.0/24\"]");
    await_code(FOREIGN, 554);
    trust("null");
    await_true(LIMIT, "nobody is trusted", || POD.postconf("mynetworks").is_empty());
    assert_eq!(reply(FOREIGN).0, 554);
    let warning = condition("mailalias/settings-ghost", "Warning", "reason");
    assert_eq!(warning, "DisabledMailbox", "the alias says that its mail bounces");
}
