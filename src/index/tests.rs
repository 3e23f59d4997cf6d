use serde_json::{Value, json};

use super::*;
use crate::testing::{World, myhost};

fn key(text: &str) -> Key {
    Key::from_row(text).unwrap()
}

fn work(world: &mut World) -> Vec<String> {
    world.index.take_work(&myhost()).keys.iter().map(|key| key.as_str().to_owned()).collect()
}

#[test]
fn an_event_touches_the_address_and_the_counts_of_its_domain() {
    let mut world = World::with_alpha();
    world.index.take_work(&myhost());
    world.mailbox("mail", "alfred", 2, json!({"address": "Alfred@alpha.example.org"}));
    let work = world.index.take_work(&myhost());
    assert_eq!(work.keys, [key("alfred@alpha.example.org")].into());
    assert_eq!(work.counted, [DomainName::parse("alpha.example.org").unwrap()].into());
    assert!(world.index.take_work(&myhost()).is_empty());
}

/// As when it was deleted and made anew while nobody watched.
#[test]
fn a_mailbox_with_another_address_touches_what_leads_to_the_one_before() {
    let mut world = World::with_alpha();
    world.mailbox("mail", "bob", 2, json!({"address": "bob@alpha.example.org"}));
    world.alias(
        "mail",
        "info",
        2,
        json!({"address": "info@alpha.example.org", "goto": ["bob@alpha.example.org"]}),
    );
    world.index.take_work(&myhost());
    world.mailbox("mail", "bob", 3, json!({"address": "bill@alpha.example.org"}));
    assert_eq!(
        work(&mut world),
        ["bill@alpha.example.org", "bob@alpha.example.org", "info@alpha.example.org"]
    );
}

#[test]
fn an_event_that_only_brings_a_status_touches_nothing() {
    let mut world = World::with_alpha();
    world.mailbox("mail", "alfred", 2, json!({"address": "alfred@alpha.example.org"}));
    world.index.take_work(&myhost());
    world.mailbox("mail", "alfred", 2, json!({"address": "alfred@alpha.example.org"}));
    assert!(!world.index.has_work(&myhost()));
}

#[test]
fn a_changed_secret_touches_only_the_mailboxes_that_refer_to_it() {
    let mut world = World::with_alpha();
    let reference = json!({"name": "hashes", "key": "alfred"});
    world.mailbox(
        "mail",
        "alfred",
        2,
        json!({"address": "alfred@alpha.example.org", "passwordHashSecretKeyRef": reference}),
    );
    world.mailbox("mail", "bob", 2, json!({"address": "bob@alpha.example.org"}));
    world.index.take_work(&myhost());
    world.index.apply_secret(ObjectName::new("mail", "hashes"), "7".into());
    world.index.apply_secret(ObjectName::new("mail", "other"), "8".into());
    world.index.apply_secret(ObjectName::new("tenant", "hashes"), "9".into());
    assert_eq!(work(&mut world), ["alfred@alpha.example.org"]);
}

#[test]
fn a_secret_of_two_mailboxes_of_one_address_is_watched_until_both_are_gone() {
    let mut world = World::with_alpha();
    let spec = json!({"address": "alfred@alpha.example.org", "passwordHashSecretKeyRef": {"name": "hashes", "key": "alfred"}});
    world.mailbox("mail", "alfred", 2, spec.clone());
    world.mailbox("mail", "second", 3, spec);
    world.index.remove_mailbox(&ObjectName::new("mail", "second"));
    world.index.take_work(&myhost());
    world.index.apply_secret(ObjectName::new("mail", "hashes"), "7".into());
    assert_eq!(work(&mut world), ["alfred@alpha.example.org"]);
    world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
    world.index.take_work(&myhost());
    world.index.apply_secret(ObjectName::new("mail", "hashes"), "8".into());
    assert!(!world.index.has_work(&myhost()));
}

#[test]
fn a_domain_that_moves_is_work_for_both_servers() {
    let mut world = World::with_alpha();
    world.server("mail", "other", json!({"hostname": "other.example.org"}));
    world.mailbox("mail", "alfred", 2, json!({"address": "alfred@alpha.example.org"}));
    let other = ObjectName::new("mail", "other");
    world.index.take_work(&myhost());
    world.index.take_work(&other);
    world.domain("mail", "alpha", 1, json!({"serverRef": {"name": "other"}, "domain": "alpha.example.org"}));
    assert!(world.index.take_work(&myhost()).keys.contains(&key("alfred@alpha.example.org")));
    assert!(world.index.take_work(&other).keys.contains(&key("alfred@alpha.example.org")));
    assert_eq!(world.index.server_of("alpha.example.org"), Some(&other));
}

#[test]
fn the_oldest_domain_whose_server_exists_holds_it() {
    let mut world = World::with_alpha();
    world.domain(
        "squatter",
        "alpha",
        0,
        json!({"serverRef": {"name": "nowhere"}, "domain": "alpha.example.org"}),
    );
    let (holder, _) = world.index.holder("alpha.example.org").unwrap();
    assert_eq!(holder.name, ObjectName::new("mail", "alpha"));
}

#[test]
fn counts_follow_what_is_declared() {
    let mut world = World::with_alpha();
    world.mailbox("mail", "alfred", 2, json!({"address": "alfred@alpha.example.org"}));
    world.mailbox("mail", "alfred-again", 3, json!({"address": "alfred@alpha.example.org"}));
    world.alias(
        "mail",
        "info",
        2,
        json!({"address": "info@alpha.example.org", "goto": ["alfred@alpha.example.org"]}),
    );
    assert_eq!(world.index.counts("alpha.example.org"), (1, 1));
    world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
    assert_eq!(world.index.counts("alpha.example.org"), (1, 1));
    world.index.remove_mailbox(&ObjectName::new("mail", "alfred-again"));
    assert_eq!(world.index.counts("alpha.example.org"), (0, 1));
}

/// A tenant can't use up what a domain says it holds: who gets no address or doesn't fit is not counted.
#[test]
fn only_those_who_get_an_address_and_fit_are_counted() {
    let mut world = World::with_alpha();
    let counts = |world: &World| world.index.counts("alpha.example.org");
    world.mailbox("mail", "alfred", 3, json!({"address": "alfred@alpha.example.org"}));
    assert_eq!(counts(&world), (1, 0));
    world.mailbox("tenant", "bill", 1, json!({"address": "bill@alpha.example.org"}));
    world.alias("tenant", "cid", 1, json!({"address": "cid@alpha.example.org", "goto": ["x@elsewhere.org"]}));
    world.mailbox("tenant", "alfred", 1, json!({"address": "alfred@alpha.example.org"}));
    assert_eq!(counts(&world), (1, 0), "strangers");
    let alpha = |extra: Value| {
        let mut spec = json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org"});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    };
    world.domain("mail", "alpha", 1, alpha(json!({"allowedNamespaces": {"from": "All"}})));
    assert_eq!(counts(&world), (2, 1), "admitted");
    world.alias(
        "mail",
        "older",
        0,
        json!({"address": "bill@alpha.example.org", "goto": ["x@elsewhere.org"]}),
    );
    assert_eq!(counts(&world), (1, 2), "an older alias has the address");
    world.domain(
        "mail",
        "alpha",
        1,
        alpha(json!({"allowedNamespaces": {"from": "All"}, "limits": {"aliases": 1, "mailboxes": -1}})),
    );
    assert_eq!(counts(&world), (0, 1), "the limits");
    world.domain("mail", "alpha", 1, alpha(json!({"catchAll": ["x@elsewhere.org"]})));
    assert_eq!(counts(&world), (1, 2), "a catch-all is an alias");
}

/// Where nothing is disabled and no catch-all would take its mail, Postfix asks one query less for each recipient.
#[test]
fn a_server_with_a_catch_all_or_a_disabled_mailbox_says_so() {
    let mut world = World::with_alpha();
    let own = |catch_all: &[&str]| json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "catchAll": catch_all});
    let mailbox = |active: bool| json!({"address": "alfred@alpha.example.org", "active": active});
    let mut seen = world.index.needs_version(&myhost());
    let mut expect = |world: &World, guarded: bool| {
        assert_eq!(world.index.has_guarded(&myhost()), guarded);
        let before = std::mem::replace(&mut seen, world.index.needs_version(&myhost()));
        assert!(before < seen, "nobody would look at it");
    };
    world.mailbox("mail", "alfred", 2, mailbox(false));
    expect(&world, true);
    world.mailbox("mail", "alfred", 2, mailbox(true));
    expect(&world, false);
    world.domain("mail", "alpha", 1, own(&["x@elsewhere.org"]));
    expect(&world, true);
    world.alias("mail", "alpha", 2, json!({"address": "@alpha.example.org", "goto": ["x@elsewhere.org"]}));
    world.domain("mail", "alpha", 1, own(&[]));
    expect(&world, true);
    world.index.remove_alias(&ObjectName::new("mail", "alpha"));
    expect(&world, false);
    world.mailbox("mail", "other", 2, json!({"address": "other@beta.example.org", "active": false}));
    assert!(!world.index.has_guarded(&myhost()), "the domain is nobody's");
}

#[test]
fn keys_sort_a_domain_before_its_catch_all_and_addresses() {
    let mut keys = [key("b@a.org"), key("@a.org"), key("b.org"), key("a.org")];
    keys.sort();
    assert_eq!(keys.map(|key| key.as_str().to_owned()), ["a.org", "@a.org", "b@a.org", "b.org"]);
    assert_eq!(Key::from_row("ALL"), None);
}

#[test]
fn transports_are_needed_while_a_domain_names_one_or_is_switched_off() {
    let mut world = World::with_alpha();
    let domain = |world: &mut World, extra: &serde_json::Value| {
        let mut spec = json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org"});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        world.domain("mail", "beta", 2, spec);
    };
    for (extra, needed) in [
        (json!({}), false),
        (json!({"active": false}), true),
        (json!({"active": false, "transport": "smtp:[mx.example.net]"}), true),
        (json!({"transport": "smtp:[mx.example.net]"}), true),
        (json!({"transport": "virtual"}), false),
        (json!({"active": false}), true),
    ] {
        let before = world.index.needs_version(&myhost());
        domain(&mut world, &extra);
        assert_eq!(world.index.has_transports(&myhost()), needed, "{extra}");
        assert!(world.index.needs_version(&myhost()) > before, "{extra}");
    }
    world.index.remove_domain(&ObjectName::new("mail", "beta"));
    assert!(!world.index.has_transports(&myhost()));
}

#[test]
fn what_a_status_says_is_no_news_for_the_set_loops() {
    let mut world = World::with_alpha();
    let spec = json!({"address": "bob@alpha.example.org"});
    world.mailbox("mail", "bob", 2, spec.clone());
    let marks = world.index.marks();
    let mut patched: crate::api::Mailbox = crate::testing::object("mail", "bob", 2, &spec);
    patched.status =
        serde_json::from_value(json!({"server": "mail/myhost", "observedGeneration": 1})).unwrap();
    world.index.apply_mailbox(ObjectName::of(&patched), (&patched).into());
    assert_eq!(world.index.marks(), marks);
    world.index.remove_server(&myhost());
    assert!(world.index.marks() > marks);
    assert_eq!(world.index.unserved_keys().len(), 2);
}

#[test]
fn work_that_is_given_back_is_taken_again() {
    let mut world = World::with_alpha();
    let work = world.index.take_work(&myhost());
    assert!(!work.is_empty() && !world.index.has_work(&myhost()));
    world.index.give_back(&myhost(), work.clone());
    assert_eq!(world.index.take_work(&myhost()), work);
}

#[test]
fn a_domain_is_looked_at_when_an_unreadable_one_may_hold_it_and_not_any_more() {
    let mut world = World::with_alpha();
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"mail": "yes"}}});
    let server = json!({"hostname": "myhost.example.org", "allowedNamespaces": selector});
    world.server("mail", "myhost", server.clone());
    let older = ObjectId { kind: Kind::Domain, name: ObjectName::new("tenant", "older") };
    let domain = DomainName::parse("alpha.example.org").unwrap();
    let outline = |server| Outline { domain: Some(domain.clone()), server, ..Outline::default() };
    let key = Key::Domain(domain.clone());
    let label = |yes: &str| Some([("mail".to_owned(), yes.to_owned())].into());
    world.index.apply_unreadable(older.clone(), outline(Some(myhost())));
    for (admitted, holds) in [("yes", None), ("no", Some("mail/alpha"))] {
        world.index.take_work(&myhost());
        world.index.take_unserved();
        world.index.apply_namespace("tenant", label(admitted));
        let holder = world.index.holder(domain.as_str()).map(|(id, _)| id.name.to_string());
        assert_eq!(holder.as_deref(), holds);
        let looked_at =
            if holds.is_some() { world.index.take_work(&myhost()).keys } else { world.index.take_unserved() };
        assert!(looked_at.contains(&key), "{admitted}");
    }
    world.index.apply_unreadable(older.clone(), outline(None));
    assert!(world.index.take_unserved().contains(&key), "its server may be any now");
    world.index.remove(&older);
    assert!(world.index.take_work(&myhost()).keys.contains(&key));
}

#[test]
fn what_postfix_may_need_for_an_unreadable_object_it_has() {
    let mut world = World::with_alpha();
    let id = |kind| ObjectId { kind, name: ObjectName::new("mail", "beta") };
    let needs = |world: &World| (world.index.has_transports(&myhost()), world.index.has_guarded(&myhost()));
    assert_eq!(needs(&world), (false, false));
    for (kind, server, needed) in [
        (Kind::Domain, None, (true, true)),
        (Kind::Domain, Some(myhost()), (true, true)),
        (Kind::Domain, Some(ObjectName::new("mail", "other")), (false, false)),
        (Kind::Mailbox, None, (false, true)),
        (Kind::Admin, Some(myhost()), (false, false)),
    ] {
        let version = world.index.needs_version(&myhost());
        world.index.apply_unreadable(id(kind), Outline { server, ..Outline::default() });
        assert_eq!(needs(&world), needed, "{kind:?}");
        assert_ne!(world.index.needs_version(&myhost()), version);
        let version = world.index.needs_version(&myhost());
        world.index.remove(&id(kind));
        assert_eq!(needs(&world), (false, false));
        assert_ne!(world.index.needs_version(&myhost()), version);
    }
    world.index.apply_unreadable(
        ObjectId { kind: Kind::Domain, name: ObjectName::new("mail", "alpha") },
        Outline::default(),
    );
    assert_eq!(needs(&world), (false, false), "its last readable form counts");
}

#[test]
fn what_may_have_waited_for_an_unreadable_object_is_looked_at_when_that_is_readable_or_gone() {
    let domain = |name: &str| ObjectId { kind: Kind::Domain, name: ObjectName::new("mail", name) };
    let mut world = World::with_alpha();
    world.index.apply_unreadable(domain("beta"), Outline { uid: "7".into(), ..Outline::default() });
    world.index.apply_unreadable(domain("gamma"), Outline { uid: "8".into(), ..Outline::default() });
    world.index.apply_unreadable(domain("alpha"), Outline { uid: "9".into(), ..Outline::default() });
    world.index.take_work(&myhost());
    world.index.remove(&domain("beta"));
    assert!(world.index.take_work(&myhost()).all, "nobody knows which domain it held");
    world.domain("mail", "gamma", 2, json!({"serverRef": {"name": "myhost"}, "domain": "gamma.example.org"}));
    assert!(world.index.take_work(&myhost()).all);
    world.index.remove(&domain("alpha"));
    assert!(!world.index.take_work(&myhost()).all, "its domain was known");
    assert!(!world.index.has_unreadable());
}

/// The operator itself writes it, after a pass that did what was to be done.
#[test]
fn a_release_that_is_used_touches_nothing() {
    let mut world = World::with_alpha();
    world.index.take_work(&myhost());
    let row = world.index.server(&myhost()).unwrap().clone();
    world.index.apply_server(&myhost(), ServerRow { last_release: Some("0123".into()), ..row });
    assert!(world.index.take_work(&myhost()).is_empty());
    assert_eq!(world.index.server(&myhost()).unwrap().last_release.as_deref(), Some("0123"));
}
