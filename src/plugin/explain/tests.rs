use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::plugin::explanation::Outcome;
use crate::testing::object;

/// The seed's accounts and more, as the operator has them when all is in place.
fn world() -> Declared {
    let mut world = Declared::default();
    server(&mut world, &json!({"hostname": "myhost.example.org"}));
    domain(&mut world, "alpha", 1, &json!({"domain": "alpha.example.org"}));
    domain(&mut world, "beta", 1, &json!({"domain": "beta.example.org", "limits": {"mailboxes": 2}}));
    domain(
        &mut world,
        "gamma",
        1,
        &json!({"domain": "gamma.example.org", "catchAll": ["ben@gamma.example.org"]}),
    );
    domain(&mut world, "delta", 1, &json!({"domain": "delta.example.org", "aliasOf": "gamma.example.org"}));
    domain(&mut world, "spare", 1, &json!({"domain": "spare.example.org", "backupMX": true}));
    domain(
        &mut world,
        "imap",
        1,
        &json!({"domain": "imap.example.org", "transport": "lmtp:inet:dovecot.mail.svc:24"}),
    );
    for address in
        ["alfred@alpha", "bob@alpha", "auntie@beta", "bill@beta", "ben@gamma", "cinder@gamma", "carl@imap"]
    {
        let name = address.split('@').next().unwrap();
        mailbox(&mut world, name, 2, &json!({"address": format!("{address}.example.org"), "quota": 0}));
    }
    mailbox(&mut world, "chou", 3, &json!({"address": "chou@beta.example.org"}));
    mailbox(
        &mut world,
        "alistair",
        2,
        &json!({
            "address": "alistair@gamma.example.org",
            "forwardTo": ["alistair@elsewhere.example.net"],
            "quota": "100M"
        }),
    );
    mailbox(&mut world, "off", 2, &json!({"address": "off@gamma.example.org", "active": false}));
    alias(
        &mut world,
        "info",
        &json!({"address": "info@alpha.example.org", "goto": ["alfred@alpha.example.org"]}),
    );
    alias(
        &mut world,
        "hello",
        &json!({"address": "hello@alpha.example.org", "goto": ["info@alpha.example.org"]}),
    );
    alias(
        &mut world,
        "lost",
        &json!({"address": "lost@alpha.example.org", "goto": ["nobody@alpha.example.org", "bob@alpha.example.org"]}),
    );
    world
}

fn in_place(mut object: Value) -> Value {
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Synced", "lastTransitionTime": "2026-11-23T08:00:00Z",
        "message": "what Postfix looks up is as declared",
    });
    object["status"] = json!({"observedGeneration": 1, "conditions": [ready]});
    object
}

macro_rules! declare {
    ($function:ident, $kind:ty, $add:ident) => {
        fn $function(world: &mut Declared, name: &str, created: i64, spec: &Value) {
            let object: Value = object("mail", name, created, spec);
            world.$add(&serde_json::from_value::<$kind>(in_place(object)).unwrap());
        }
    };
}

declare!(add_server, crate::api::MailServer, add_server);
declare!(add_domain, crate::api::MailDomain, add_domain);
declare!(mailbox, crate::api::Mailbox, add_mailbox);
declare!(add_alias, crate::api::MailAlias, add_alias);

fn server(world: &mut Declared, spec: &Value) {
    add_server(world, "myhost", 0, spec);
}

fn domain(world: &mut Declared, name: &str, created: i64, spec: &Value) {
    let mut spec = spec.clone();
    spec["serverRef"] = json!({"name": "myhost"});
    add_domain(world, name, created, &spec);
}

fn alias(world: &mut Declared, name: &str, spec: &Value) {
    add_alias(world, name, 2, spec);
}

fn about(world: &Declared, address: &str) -> Explanation {
    explain(world, &Address::parse(address).unwrap())
}

#[test]
fn a_mailbox() {
    insta::assert_snapshot!(about(&world(), "alfred@alpha.example.org"));
}

#[test]
fn an_alias_chain() {
    insta::assert_snapshot!(about(&world(), "Hello+lists@alpha.example.org"));
}

#[test]
fn a_forward_with_a_copy() {
    insta::assert_snapshot!(about(&world(), "alistair@gamma.example.org"));
}

#[test]
fn a_catch_all_through_an_alias_domain() {
    insta::assert_snapshot!(about(&world(), "whoever@delta.example.org"));
}

#[test]
fn an_unknown_address() {
    insta::assert_snapshot!(about(&world(), "nobody@alpha.example.org"));
}

#[test]
fn an_unknown_domain() {
    insta::assert_snapshot!(about(&world(), "alfred@elsewhere.example.net"));
}

#[test]
fn a_mailbox_over_a_limit() {
    insta::assert_snapshot!(about(&world(), "chou@beta.example.org"));
}

#[test]
fn the_json_of_an_explanation() {
    insta::assert_snapshot!(
        serde_json::to_string_pretty(&about(&world(), "info@alpha.example.org")).unwrap()
    );
}

/// `world()` behind a server with such a delimiter, and an alias that would be the tagged address of a disabled mailbox.
fn delimited(delimiter: &str) -> Declared {
    let mut world = world();
    let postfix = json!({"recipientDelimiter": delimiter});
    server(&mut world, &json!({"hostname": "myhost.example.org", "postfix": postfix}));
    let spec = json!({"address": "off-list@gamma.example.org", "goto": ["cinder@gamma.example.org"]});
    alias(&mut world, "off-list", &spec);
    world
}

#[test]
fn a_tag_begins_where_the_server_says() {
    insta::assert_snapshot!("a_tag_after_a_dash", about(&delimited("-"), "hello-lists@alpha.example.org"));
    insta::assert_snapshot!("no_tags", about(&delimited(""), "hello+lists@alpha.example.org"));
    for (delimiter, address, words) in [
        ("-", "cinder-tag@delta.example.org", "delivered to cinder-tag@gamma.example.org"),
        ("-", "cinder+tag@delta.example.org", "delivered to ben@gamma.example.org"),
        ("+-", "cinder+tag@delta.example.org", "delivered to cinder+tag@gamma.example.org"),
        ("", "cinder+tag@delta.example.org", "delivered to ben@gamma.example.org"),
        ("-", "off-tag@delta.example.org", "Recipient address rejected: mailbox disabled"),
        ("", "off-tag@delta.example.org", "delivered to ben@gamma.example.org"),
        ("-", "off-list@delta.example.org", "delivered to cinder@gamma.example.org"),
        ("-", "owner-off@gamma.example.org", "delivered to ben@gamma.example.org"),
    ] {
        let told = about(&delimited(delimiter), address).to_string();
        assert!(told.contains(words), "{delimiter}: {told}");
    }
}

#[test]
fn mail_for_others_goes_to_the_relay_host() {
    let mut world = world();
    let postfix = json!({"relayHost": {"host": "smtp.example.net", "port": 587}});
    server(&mut world, &json!({"hostname": "myhost.example.org", "postfix": postfix}));
    for (address, words) in [
        ("alistair@gamma.example.org", "through the relay host smtp.example.net:587"),
        ("anybody@spare.example.org", "through the relay host smtp.example.net:587, as a backup MX"),
        ("carl@imap.example.org", "through the transport lmtp:inet:dovecot.mail.svc:24"),
    ] {
        let told = about(&world, address).to_string();
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn verdicts_and_exit_codes() {
    let world = world();
    for (address, code, words) in [
        (
            "bob@alpha.example.org",
            0,
            "delivered to bob@alpha.example.org, in /var/vmail/alpha.example.org/bob/",
        ),
        (
            "cinder+tag@delta.example.org",
            0,
            "delivered to cinder+tag@gamma.example.org, in /var/vmail/gamma.example.org/cinder/",
        ),
        ("whoever@gamma.example.org", 0, "delivered to ben@gamma.example.org"),
        ("anybody@spare.example.org", 0, "through the MX hosts of spare.example.org, as a backup MX"),
        ("carl@imap.example.org", 0, "through the transport lmtp:inet:dovecot.mail.svc:24"),
        ("nobody@imap.example.org", 1, "refused with 550 5.1.1"),
        ("off@gamma.example.org", 1, "Recipient address rejected: mailbox disabled"),
        ("off+tag@delta.example.org", 1, "Recipient address rejected: mailbox disabled"),
        ("lost@alpha.example.org", 1, "accepted, then bounced to the sender for nobody@alpha.example.org"),
        (
            "x@elsewhere.example.net",
            1,
            "refused with 554 5.7.1 <x@elsewhere.example.net>: Relay access denied",
        ),
    ] {
        let explanation = about(&world, address);
        let told = explanation.to_string();
        assert!(told.contains(words), "{told}");
        assert_eq!(explanation.exit_code(), code, "{told}");
    }
}

#[test]
fn what_is_not_in_place_or_not_seen_leaves_a_doubt() {
    let mut world = world();
    let new = object("mail", "dora", 9, &json!({"address": "dora@alpha.example.org"}));
    world.add_mailbox(&new);
    let explanation = about(&world, "dora@alpha.example.org");
    assert_eq!(explanation.exit_code(), 3);
    assert!(explanation.to_string().contains("the operator has not seen Mailbox mail/dora as it is now"));
    assert_eq!(about(&world, "bob@alpha.example.org").exit_code(), 0, "another object's doubt");
    world.unseen.push("you may list maildomains in the namespace mail only".to_owned());
    assert_eq!(about(&world, "x@elsewhere.example.net").exit_code(), 3);
}

/// As after a `kubectl delete` of all `MailDomain`s: Postfix goes on receiving their mail.
#[test]
fn deletions_that_are_held_back_leave_a_doubt() {
    let mut world = world();
    let mut holding: Value =
        in_place(object("mail", "myhost", 0, &json!({"hostname": "myhost.example.org"})));
    holding["status"]["conditions"] = json!(["Ready", "TablesSynced"].map(|type_| json!({
        "type": type_, "status": "False", "reason": "DeletionsHeld", "lastTransitionTime": "2026-11-23T08:00:00Z",
        "message": "12 deletions are held back",
    })));
    world.add_server(&serde_json::from_value(holding).unwrap());
    let elsewhere = json!({"domain": "unserved.example.org", "serverRef": {"name": "another"}});
    add_domain(&mut world, "unserved", 1, &elsewhere);
    for address in ["bob@pruned.example.org", "bob@unserved.example.org"] {
        let explanation = about(&world, address);
        let told = explanation.to_string();
        assert!(told.contains("MailServer mail/myhost holds deletions back"), "{told}");
        assert_eq!(explanation.exit_code(), 3);
    }
    assert_eq!(about(&world, "bob@alpha.example.org").exit_code(), 3, "one of its rows may be older");
}

#[test]
fn an_adopted_mailbox_has_its_mail_where_its_status_says() {
    let mut world = world();
    let mut adopted: Value = in_place(object("mail", "old", 2, &json!({"address": "old@alpha.example.org"})));
    adopted["status"]["maildir"] = json!("attic/old/");
    world.add_mailbox(&serde_json::from_value(adopted).unwrap());
    let destinations = about(&world, "old@alpha.example.org").verdict.destinations;
    assert_eq!(destinations[0].place, "/var/vmail/attic/old/");
}

#[test]
fn a_mailbox_without_a_password_receives_mail() {
    let mut world = world();
    let mut object: Value = in_place(object("mail", "bob", 2, &json!({"address": "bob@alpha.example.org"})));
    object["status"]["conditions"][0]["status"] = "False".into();
    object["status"]["conditions"][0]["reason"] = "SecretNotFound".into();
    world.add_mailbox(&serde_json::from_value(object).unwrap());
    assert_eq!(about(&world, "bob@alpha.example.org").exit_code(), 0);
}

proptest! {
    /// Whatever is declared, an explanation ends, and agrees with the rows that the operator wants.
    #[test]
    fn verdicts_agree_with_the_rows(edges in proptest::collection::vec((0_u8..6, 0_u8..8), 0..12), asked in 0_u8..8) {
        let address = |number: u8| format!("a{number}@alpha.example.org");
        let mut world = Declared::default();
        server(&mut world, &json!({"hostname": "myhost.example.org"}));
        domain(&mut world, "alpha", 1, &json!({"domain": "alpha.example.org"}));
        for (from, to) in &edges {
            alias(&mut world, &format!("from{from}"), &json!({"address": address(*from), "goto": [address(*to), address(to / 2)]}));
        }
        mailbox(&mut world, "a6", 2, &json!({"address": address(6)}));
        let explanation = about(&world, &address(asked));
        let server = ObjectName::new("mail", "myhost");
        let rows = world.rows(&server);
        let has_row = rows.alias(&address(asked)).is_some();
        prop_assert_eq!(explanation.verdict.outcome == Outcome::Refused, !has_row);
        for destination in &explanation.verdict.destinations {
            let is_mailbox = rows.mailbox(&destination.recipient).is_some();
            prop_assert_eq!(destination.way == Way::Delivered, is_mailbox);
        }
    }
}
