use serde_json::{Value, json};

use super::*;
use crate::api::{Mailbox, MailboxStatus};
use crate::index::Outline;
use crate::tables::{IdRow, Table};
use crate::testing::{World, myhost, object};

fn under(world: &World, key: &str) -> Desired {
    desired(&world.index, &myhost(), &Key::from_row(key).unwrap())
}

fn alias_row(desired: &Desired) -> &AliasRow {
    let rows = desired.wants.iter().filter_map(|want| match &want.row {
        Row::Alias(row) => Some(row),
        _ => None,
    });
    rows.reduce(|_, row| row).unwrap()
}

fn reasons(desired: &Desired) -> Vec<(String, Reason)> {
    desired.verdicts.iter().map(|verdict| (verdict.object.name.to_string(), verdict.reason)).collect()
}

#[test]
fn a_mailbox_wants_its_row_and_its_identity_alias() {
    let mut world = World::with_alpha();
    world.mailbox("mail", "alfred", 2, json!({"address": "Alfred@Alpha.example.org", "quota": "100M"}));
    let desired = under(&world, "alfred@alpha.example.org");
    let Row::Mailbox(mailbox) = &desired.wants[0].row else { panic!("no mailbox") };
    assert_eq!((mailbox.maildir.as_str(), mailbox.quota), ("alpha.example.org/alfred/", 100_000_000));
    assert_eq!(alias_row(&desired).goto, "alfred@alpha.example.org");
    assert_eq!(reasons(&desired), [("mail/alfred".into(), Reason::Synced)]);
}

#[test]
fn layout_and_format_give_the_seeds_paths() {
    let mut server = crate::index::rows::tests::server_row();
    let address = Address::parse("alfred@alpha.example.org").unwrap();
    assert_eq!(maildir(&server, &address), "alpha.example.org/alfred/");
    server.layout = MailboxLayout::Address;
    assert_eq!(maildir(&server, &address), "alpha.example.org/alfred@alpha.example.org/");
    server.format = MailboxFormat::Mbox;
    assert_eq!(maildir(&server, &address), "alpha.example.org/alfred@alpha.example.org");
}

#[test]
fn forwards_live_in_the_identity_row() {
    let mut world = World::with_alpha();
    let forward = |keep: bool| json!({"address": "a@alpha.example.org", "forwardTo": ["b@elsewhere.org", "B@elsewhere.org"], "keepCopy": keep});
    world.mailbox("mail", "a", 2, forward(true));
    assert_eq!(alias_row(&under(&world, "a@alpha.example.org")).goto, "a@alpha.example.org,b@elsewhere.org");
    world.mailbox("mail", "a", 2, forward(false));
    assert_eq!(alias_row(&under(&world, "a@alpha.example.org")).goto, "b@elsewhere.org");
}

#[test]
fn the_oldest_wins_and_the_next_takes_over() {
    let mut world = World::with_alpha();
    world.alias("mail", "late", 5, json!({"address": "x@alpha.example.org", "goto": ["y@elsewhere.org"]}));
    world.mailbox("mail", "early", 2, json!({"address": "x@alpha.example.org"}));
    let desired = under(&world, "x@alpha.example.org");
    assert_eq!(
        reasons(&desired),
        [("mail/early".into(), Reason::Synced), ("mail/late".into(), Reason::Conflict)]
    );
    assert_eq!(desired.wants.len(), 2);
    world.index.remove_mailbox(&ObjectName::new("mail", "early"));
    let desired = under(&world, "x@alpha.example.org");
    assert_eq!(reasons(&desired), [("mail/late".into(), Reason::Synced)]);
    assert_eq!(alias_row(&desired).goto, "y@elsewhere.org");
}

#[test]
fn a_stranger_gets_no_row_however_old() {
    let mut world = World::with_alpha();
    world.mailbox("tenant", "x", 0, json!({"address": "x@alpha.example.org"}));
    let desired = under(&world, "x@alpha.example.org");
    assert!(desired.wants.is_empty());
    assert_eq!(reasons(&desired), [("tenant/x".into(), Reason::NotAllowed)]);
    world.mailbox("mail", "x", 9, json!({"address": "x@alpha.example.org"}));
    assert_eq!(under(&world, "x@alpha.example.org").wants[0].object.name, ObjectName::new("mail", "x"));
}

#[test]
fn a_disabled_mailbox_does_not_leak_to_the_catch_all() {
    let mut world = World::with_alpha();
    world.mailbox("mail", "x", 2, json!({"address": "x@alpha.example.org", "active": false}));
    assert!(!alias_row(&under(&world, "x@alpha.example.org")).active);
    world.alias("mail", "all", 3, json!({"address": "@alpha.example.org", "goto": ["y@alpha.example.org"]}));
    assert!(alias_row(&under(&world, "x@alpha.example.org")).active);
    assert!(world.index.take_work(&myhost()).keys.contains(&Key::from_row("x@alpha.example.org").unwrap()));
}

#[test]
fn a_catch_all_that_an_older_alias_declares_is_told_on_the_domain() {
    let mut world = World::with_alpha();
    world.alias("mail", "all", 0, json!({"address": "@alpha.example.org", "goto": ["y@alpha.example.org"]}));
    world.domain(
        "mail",
        "alpha",
        1,
        json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "catchAll": ["z@alpha.example.org"]}),
    );
    assert_eq!(alias_row(&under(&world, "@alpha.example.org")).goto, "y@alpha.example.org");
    assert_eq!(reasons(&under(&world, "alpha.example.org")), [("mail/alpha".into(), Reason::Conflict)]);
}

#[test]
fn without_a_domain_or_a_server_objects_are_told_what_is_missing() {
    let mut world = World::default();
    world.mailbox("mail", "x", 2, json!({"address": "x@alpha.example.org"}));
    let key = Key::from_row("x@alpha.example.org").unwrap();
    assert_eq!(world.index.take_unserved().into_iter().collect::<Vec<_>>(), std::slice::from_ref(&key));
    assert_eq!(unserved(&world.index, &key)[0].reason, Reason::UnknownDomain);
    world.domain("mail", "alpha", 1, json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org"}));
    assert_eq!(unserved(&world.index, &key)[0].reason, Reason::UnknownServer);
    assert!(under(&world, "x@alpha.example.org").wants.is_empty());
    world.server("mail", "myhost", json!({"hostname": "myhost.example.org"}));
    assert!(unserved(&world.index, &key).is_empty());
    assert_eq!(under(&world, "x@alpha.example.org").wants.len(), 2);
}

fn tenants_mailbox(world: &mut World) {
    world.mailbox("tenant", "bill", 2, json!({"address": "bill@alpha.example.org"}));
}

#[test]
fn a_domain_admits_other_namespaces_as_it_says() {
    for (allowed, labels, reason) in [
        (json!({"from": "Same"}), json!({}), Reason::NotAllowed),
        (json!({"from": "All"}), json!({}), Reason::Synced),
        (
            json!({"from": "Selector", "selector": {"matchLabels": {"mail": "yes"}}}),
            json!({}),
            Reason::NotAllowed,
        ),
        (
            json!({"from": "Selector", "selector": {"matchLabels": {"mail": "yes"}}}),
            json!({"mail": "yes"}),
            Reason::Synced,
        ),
    ] {
        let mut world = World::with_alpha();
        let spec = json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "allowedNamespaces": allowed});
        world.domain("mail", "alpha", 1, spec);
        world.index.apply_namespace("tenant", serde_json::from_value(labels).unwrap());
        tenants_mailbox(&mut world);
        let desired = under(&world, "bill@alpha.example.org");
        assert_eq!(reasons(&desired), [("tenant/bill".into(), reason)], "{allowed}");
        assert_eq!(desired.wants.is_empty(), reason != Reason::Synced);
    }
}

#[test]
fn a_server_serves_only_the_domains_that_it_admits() {
    let mut world = World::with_alpha();
    let spec = json!({"serverRef": {"name": "myhost", "namespace": "mail"}, "domain": "beta.example.org"});
    world.domain("tenant", "beta", 2, spec);
    let key = Key::from_row("beta.example.org").unwrap();
    assert!(under(&world, "beta.example.org").wants.is_empty());
    assert_eq!(unserved(&world.index, &key)[0].reason, Reason::NotAllowed);
    world.server(
        "mail",
        "myhost",
        json!({"hostname": "myhost.example.org", "allowedNamespaces": {"from": "All"}}),
    );
    assert_eq!(reasons(&under(&world, "beta.example.org")), [("tenant/beta".into(), Reason::Synced)]);
    assert!(world.index.take_work(&myhost()).keys.contains(&key));
}

#[test]
fn a_squatter_whom_the_server_does_not_admit_keeps_nobody_out() {
    let mut world = World::with_alpha();
    let spec = json!({"serverRef": {"name": "myhost", "namespace": "mail"}, "domain": "alpha.example.org"});
    world.domain("tenant", "squatter", 0, spec);
    assert_eq!(
        reasons(&under(&world, "alpha.example.org")),
        [("tenant/squatter".into(), Reason::NotAllowed), ("mail/alpha".into(), Reason::Synced)]
    );
}

#[test]
fn what_cannot_be_read_is_told_as_that_and_nothing_is_known_of_its_rows() {
    let mut world = World::default();
    let server = myhost();
    world.index.apply_unreadable_server(&server);
    world.domain("mail", "alpha", 1, json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org"}));
    world.admin("mail", "boss", 1, json!({"serverRef": {"name": "myhost"}, "username": "boss@nowhere.org"}));
    for key in
        [Key::from_row("alpha.example.org").unwrap(), Key::Admin(Address::parse("boss@nowhere.org").unwrap())]
    {
        let told = unserved(&world.index, &key).remove(0);
        assert_eq!(told.reason, Reason::UnknownServer);
        assert!(told.message.contains("MailServer mail/myhost can't be read"), "{}", told.message);
    }
    world.index.take_unserved();
    world.index.remove_server(&server);
    let keys = world.index.take_unserved();
    let key = keys.first().unwrap();
    assert!(unserved(&world.index, key)[0].message.contains("does not exist: create it"), "gone");

    let mut world = World::default();
    world.server("mail", "myhost", json!({"hostname": "myhost.example.org"}));
    world.mailbox("mail", "x", 2, json!({"address": "x@alpha.example.org"}));
    alias_domain(&mut world, "delta.example.org", "alpha.example.org");
    let unknown = |world: &World, key: &str| under(world, key).unknown;
    assert!(!unknown(&world, "x@alpha.example.org"));
    let alpha = ObjectId { kind: Kind::Domain, name: ObjectName::new("mail", "alpha") };
    world.index.take_unserved();
    world.index.apply_unreadable(alpha.clone(), Outline { uid: "7".into(), ..Outline::default() });
    for key in ["alpha.example.org", "x@alpha.example.org", "delta.example.org"] {
        assert!(unknown(&world, key), "{key}");
    }
    assert!(!unknown(&world, "y@delta.example.org"), "its domain is known");
    let key = Key::from_row("x@alpha.example.org").unwrap();
    assert!(world.index.take_unserved().contains(&key));
    let told = unserved(&world.index, &key).remove(0);
    assert_eq!(told.reason, Reason::UnknownDomain);
    assert!(told.message.contains("MailDomain mail/alpha can't be read"), "{}", told.message);
    world.domain("mail", "alpha", 1, json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org"}));
    world.index.apply_unreadable(alpha, Outline { uid: "7".into(), ..Outline::default() });
    assert!(!unknown(&world, "y@nowhere.example.org"), "its last readable row tells which domain is its own");
}

fn alias_domain(world: &mut World, domain: &str, target: &str) {
    let spec = json!({"serverRef": {"name": "myhost"}, "domain": domain, "aliasOf": target});
    world.domain("mail", domain, 3, spec);
}

#[test]
fn an_alias_domain_has_its_own_row_and_one_that_points_to_the_other() {
    let mut world = World::with_alpha();
    alias_domain(&mut world, "delta.example.org", "alpha.example.org");
    let desired = under(&world, "delta.example.org");
    let tables: Vec<_> = desired.wants.iter().map(|want| want.row.table()).collect();
    assert_eq!(tables, [Table::Domain, Table::AliasDomain]);
    assert_eq!(reasons(&desired), [("mail/delta.example.org".into(), Reason::Synced)]);
}

#[test]
fn an_alias_of_nothing_or_of_an_alias_is_told_and_not_written() {
    let mut world = World::with_alpha();
    alias_domain(&mut world, "delta.example.org", "alpha.example.org");
    alias_domain(&mut world, "epsilon.example.org", "delta.example.org");
    alias_domain(&mut world, "zeta.example.org", "elsewhere.example.org");
    world.index.take_work(&myhost());
    for (domain, reason) in
        [("epsilon.example.org", Reason::Invalid), ("zeta.example.org", Reason::UnknownDomain)]
    {
        let desired = under(&world, domain);
        assert_eq!(reasons(&desired), [(format!("mail/{domain}"), reason)]);
        assert!(desired.wants.iter().all(|want| want.row.table() == Table::Domain));
    }
    world.index.remove_domain(&ObjectName::new("mail", "alpha"));
    let touched = world.index.take_work(&myhost()).keys;
    assert!(touched.contains(&Key::from_row("delta.example.org").unwrap()), "its target is gone");
    assert_eq!(under(&world, "delta.example.org").verdicts[0].reason, Reason::UnknownDomain);
}

fn limited(world: &mut World, limits: &Value) {
    let spec = json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "limits": limits});
    world.domain("mail", "alpha", 1, spec);
}

fn mailbox_with_quota(world: &mut World, name: &str, created: i64, quota: i64) {
    let spec = json!({"address": format!("{name}@alpha.example.org"), "quota": quota});
    world.mailbox("mail", name, created, spec);
}

fn over(world: &World) -> Vec<String> {
    let reasons = ["a", "b", "c"].map(|name| under(world, &format!("{name}@alpha.example.org")));
    let over = reasons.iter().flat_map(|desired| &desired.verdicts);
    over.filter(|verdict| verdict.reason == Reason::LimitExceeded)
        .map(|verdict| verdict.object.name.name.to_string())
        .collect()
}

#[test]
fn the_youngest_objects_are_over_a_limit() {
    for (limits, expected) in [
        (json!({"mailboxes": 2}), vec!["a"]),
        (json!({"mailboxes": -1}), vec!["a", "b", "c"]),
        (json!({"mailboxes": 0}), vec![]),
        (json!({"mailboxQuota": 200}), vec!["c"]),
        // 300 and 200 are taken when a asks for 200 more.
        (json!({"totalQuota": 500}), vec!["a"]),
        (json!({"totalQuota": "1k"}), vec![]),
    ] {
        let mut world = World::with_alpha();
        mailbox_with_quota(&mut world, "c", 2, 300);
        mailbox_with_quota(&mut world, "b", 3, 200);
        mailbox_with_quota(&mut world, "a", 4, 200);
        limited(&mut world, &limits);
        assert_eq!(over(&world), expected, "{limits}");
    }
}

/// It may have a row from before, which stays: were its share given to others, the tables would hold more than the limit.
#[test]
fn what_an_object_over_a_quota_may_still_hold_is_given_to_nobody_younger() {
    for (limits, asks, expected) in [
        (json!({"totalQuota": 500}), json!(600), vec!["a", "b", "c"]),
        (json!({"totalQuota": 500}), Value::Null, vec!["a", "b", "c"]),
        (json!({"totalQuota": 500, "mailboxQuota": 200}), json!(600), vec!["a", "c"]),
        (json!({"totalQuota": 500, "mailboxQuota": 200}), Value::Null, vec!["a", "c"]),
        (json!({"mailboxes": 2, "mailboxQuota": 300}), json!(600), vec!["a", "c"]),
        (json!({"mailboxes": 3, "mailboxQuota": 300}), json!(600), vec!["a"]),
    ] {
        let mut world = World::with_alpha();
        world.mailbox("mail", "a", 2, json!({"address": "a@alpha.example.org", "quota": asks}));
        mailbox_with_quota(&mut world, "b", 3, 200);
        mailbox_with_quota(&mut world, "c", 4, 200);
        limited(&mut world, &limits);
        assert_eq!(over(&world), expected, "{limits} {asks}");
        let used = world.index.allotment("alpha.example.org").unwrap().quota;
        assert_eq!(used, 200 * i64::try_from(3 - expected.len()).unwrap(), "what fits is used");
    }
}

#[test]
fn who_comes_to_fit_is_looked_at_again() {
    let mut world = World::with_alpha();
    limited(&mut world, &json!({"mailboxes": 1}));
    mailbox_with_quota(&mut world, "b", 2, 1);
    mailbox_with_quota(&mut world, "a", 3, 1);
    world.index.take_work(&myhost());
    assert_eq!(over(&world), ["a"]);
    assert_eq!(
        under(&world, "alpha.example.org").verdicts[0].warning.as_ref().unwrap().0,
        Reason::LimitExceeded
    );
    world.index.remove_mailbox(&ObjectName::new("mail", "b"));
    let touched = world.index.take_work(&myhost()).keys;
    assert!(touched.contains(&Key::from_row("a@alpha.example.org").unwrap()));
    assert!(over(&world).is_empty());
    assert_eq!(under(&world, "alpha.example.org").verdicts[0].warning, None);
}

#[test]
fn a_catch_all_counts_as_an_alias() {
    let mut world = World::with_alpha();
    world.alias("mail", "info", 0, json!({"address": "info@alpha.example.org", "goto": ["x@elsewhere.org"]}));
    let spec = json!({
        "serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "limits": {"aliases": 1},
        "catchAll": ["x@elsewhere.org"],
    });
    world.domain("mail", "alpha", 1, spec);
    assert_eq!(reasons(&under(&world, "alpha.example.org")), [("mail/alpha".into(), Reason::LimitExceeded)]);
    let catch_all = under(&world, "@alpha.example.org");
    assert!(catch_all.wants.is_empty() && catch_all.kept == ["mail-alpha".into()]);
}

fn ids(desired: &Desired) -> Option<(i32, i32)> {
    desired.wants.iter().find_map(|want| match &want.row {
        Row::Id(row) => Some((row.uid, row.gid)),
        _ => None,
    })
}

#[test]
fn what_a_mailbox_does_not_name_of_its_owner_is_its_domains_and_then_the_servers() {
    let mut world = World::with_alpha();
    world.mailbox("mail", "a", 2, json!({"address": "a@alpha.example.org", "uid": 950}));
    world.mailbox("mail", "b", 2, json!({"address": "b@alpha.example.org"}));
    assert_eq!(ids(&under(&world, "a@alpha.example.org")), Some((950, 901)));
    assert_eq!(ids(&under(&world, "b@alpha.example.org")), None);
    let before = world.index.needs_version(&myhost());
    let spec = json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "gid": 960});
    world.domain("mail", "alpha", 1, spec);
    assert!(world.index.needs_version(&myhost()) > before);
    assert_eq!(ids(&under(&world, "a@alpha.example.org")), Some((950, 960)));
    assert_eq!(ids(&under(&world, "alpha.example.org")), Some((901, 960)));
    let owners = owner::owners(&world.index, &myhost());
    let paths: Vec<_> = owners.iter().map(|owner| (owner.path.as_str(), owner.uid, owner.gid)).collect();
    assert_eq!(paths, [("alpha.example.org/", 901, 960), ("alpha.example.org/a/", 950, 960)]);
}

/// The agent makes directories of two names, no deeper ones.
#[test]
fn an_adopted_mailbox_has_its_owner_where_its_mail_is() {
    let mut world = World::with_alpha();
    for (name, maildir) in [("a", "old/a/"), ("b", "o/l/d/"), ("c", "../c/")] {
        let spec = json!({"address": format!("{name}@alpha.example.org"), "uid": 950});
        let mut mailbox: Mailbox = object("mail", name, 2, &spec);
        mailbox.status =
            Some(MailboxStatus { maildir: Some(maildir.to_owned()), ..MailboxStatus::default() });
        world.index.apply_mailbox(ObjectName::of(&mailbox), (&mailbox).into());
    }
    let owners = owner::owners(&world.index, &myhost());
    let paths: Vec<_> = owners.iter().map(|owner| (owner.path.as_str(), owner.uid, owner.gid)).collect();
    assert_eq!(paths, [("old/", 901, 901), ("old/a/", 950, 901)]);
}

/// As after a restart with a `MailDomain` or `Mailbox` that can't be parsed, or while deletions are held back.
#[test]
fn rows_that_nothing_declares_have_their_owners_where_their_mail_is() {
    let world = World::with_alpha();
    let row = |key: &str, uid| IdRow { key: key.to_owned(), uid, gid: 901 };
    let rows = [
        row("a@alpha.example.org", 950),
        row("beta.example.org", 960),
        row("b@beta.example.org", 970),
        row("gone@beta.example.org", 980),
        row("deep@beta.example.org", 990),
    ];
    let maildirs = [
        ("a@alpha.example.org", "alpha.example.org/a/"),
        ("b@beta.example.org", "beta.example.org/b/"),
        ("deep@beta.example.org", "o/l/d/"),
    ];
    let maildirs = maildirs.map(|(key, path)| (key.to_owned(), path.to_owned())).into();
    let owners = owner::kept_owners(&world.index, &myhost(), &rows, &maildirs);
    let paths: Vec<_> = owners.iter().map(|owner| (owner.path.as_str(), owner.uid)).collect();
    assert_eq!(
        paths,
        [
            ("alpha.example.org/", 901),
            ("alpha.example.org/a/", 950),
            ("beta.example.org/", 960),
            ("beta.example.org/b/", 970)
        ]
    );
}

#[test]
fn a_uid_that_postfix_delivers_nothing_as_is_told_and_not_written() {
    let mut world = World::with_alpha();
    world.mailbox("mail", "a", 2, json!({"address": "a@alpha.example.org", "uid": 100}));
    let desired = under(&world, "a@alpha.example.org");
    assert_eq!((ids(&desired), desired.wants.len()), (None, 2));
    assert_eq!(reasons(&desired), [("mail/a".into(), Reason::Invalid)]);
}

#[test]
fn every_domain_has_its_class_and_one_that_is_switched_off_has_none() {
    let mut world = World::with_alpha();
    let domain = |domain: &str, extra: &str| -> serde_json::Value {
        let mut spec = json!({"serverRef": {"name": "myhost"}, "domain": domain});
        spec[extra] = json!(extra == "backupMX");
        spec
    };
    world.domain("mail", "backup", 2, domain("backup.example.org", "backupMX"));
    world.domain("mail", "off", 3, domain("off.example.org", "active"));
    assert_eq!(
        domain_classes(&world.index, &myhost()),
        ["alpha.example.org virtual", "backup.example.org relay"]
    );
}

/// smtp(8) and lmtp(8) end at a next hop that they can't parse, and with them the mail of all domains.
#[test]
fn a_transport_that_postfix_can_not_parse_is_told_and_not_written() {
    for transport in ["relay:x:99999", "smtp:a..b", "lmtp:inet:12345:24"] {
        let mut world = World::with_alpha();
        let spec =
            json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "transport": transport});
        world.domain("mail", "alpha", 1, spec);
        let desired = under(&world, "alpha.example.org");
        assert_eq!(reasons(&desired), [("mail/alpha".into(), Reason::Invalid)]);
        let Row::Domain(row) = &desired.wants[0].row else { panic!("{desired:?}") };
        assert_eq!(row.transport, "retry:4.3.5 the transport of the MailDomain is invalid");
        assert!(desired.verdicts[0].message.contains(transport), "{desired:?}");
    }
}
