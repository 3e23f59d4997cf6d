//! Rows whose object is there and doesn't have them any more, or whose domain nobody serves; rows of those that are gone.

use super::*;
use crate::api::DeletionPolicy;
use crate::tables::IdRow;

#[test]
fn a_field_that_is_taken_out_and_put_back_is_as_it_was_whatever_the_policy() {
    for policy in ["Delete", "Disable", "Retain"] {
        let (mut world, mut current) = (open_server(), Current::default());
        let beta = json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org"});
        world.domain("mail", "beta", 1, beta);
        let with = |field: &str, value: Value| json!({"deletionPolicy": policy, field: value});
        let without = json!({"deletionPolicy": policy});
        alpha(&mut world, &with("catchAll", json!(["x@elsewhere.org"])));
        alfred(&mut world, &with("uid", json!(950)));
        sync(&world, &mut current);
        let before = current.clone();
        alpha(&mut world, &without);
        alfred(&mut world, &without);
        let plan = full(&world, &current).plan;
        assert_eq!(plan.lost, [Key::from_row(CATCH_ALL).unwrap()].into(), "{policy}: counted by the brake");
        apply(&mut current, &plan);
        for gone in [id(Table::Alias, CATCH_ALL), id(Table::Id, ALFRED)] {
            assert!(
                !current.rows.contains_key(&gone) && !current.owners.contains_key(&gone),
                "{policy} {gone:?}"
            );
        }
        alpha(&mut world, &with("catchAll", json!(["x@elsewhere.org"])));
        alfred(&mut world, &with("uid", json!(950)));
        let verdicts = sync(&world, &mut current);
        assert!(verdicts.iter().all(|verdict| verdict.reason == Reason::Synced), "{policy}: {verdicts:?}");
        assert_eq!(current, before, "{policy}");

        alpha(&mut world, &with("aliasOf", json!("beta.example.org")));
        sync(&world, &mut current);
        assert!(is_owned(&current, Table::AliasDomain, "alpha.example.org"), "{policy}");
        alpha(&mut world, &without);
        sync(&world, &mut current);
        assert!(!current.rows.contains_key(&id(Table::AliasDomain, "alpha.example.org")), "{policy}");
    }
}

#[test]
fn who_is_not_admitted_any_more_keeps_no_row_and_stands_in_nobodys_way() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alpha(&mut world, &json!({"allowedNamespaces": {"from": "All"}}));
    let spec = json!({"address": ALFRED, "deletionPolicy": "Retain"});
    world.mailbox("tenant", "alfred", 2, spec);
    sync(&world, &mut current);
    assert_eq!(active(&current, Table::Mailbox, ALFRED), Some(true));
    alpha(&mut world, &json!({}));
    let plan = full(&world, &current).plan;
    assert_eq!(plan.lost.len(), 1);
    apply(&mut current, &plan);
    assert_eq!(on(&sync(&world, &mut current), Kind::Mailbox, "tenant/alfred"), Reason::NotAllowed);
    assert!(current.rows.keys().all(|(_, key)| key != ALFRED), "neither a row nor a password");
    alfred(&mut world, &json!({}));
    assert_eq!(on(&sync(&world, &mut current), Kind::Mailbox, "mail/alfred"), Reason::Synced);
}

#[test]
fn of_several_admins_who_are_turned_out_none_keeps_the_login() {
    let (mut world, mut current) = (World::default(), Current::default());
    let server =
        |admits: &str| json!({"hostname": "myhost.example.org", "allowedNamespaces": {"from": admits}});
    world.server("mail", "myhost", server("All"));
    let admin = |policy: &str| {
        json!({
            "serverRef": {"name": "myhost", "namespace": "mail"}, "username": "boss@nowhere.org",
            "domains": ["alpha.example.org"], "deletionPolicy": policy,
        })
    };
    world.admin("tenant", "second", 2, admin("Retain"));
    sync(&world, &mut current);
    // Older, so it is the first of the two, but the row is the other one's.
    world.server("mail", "myhost", server("Same"));
    world.admin("tenant", "first", 1, admin("Retain"));
    sync(&world, &mut current);
    assert_eq!(current, Current::default());
}

/// `kubectl replace --force`, or a Helm release that is made anew.
#[test]
fn a_domain_that_is_made_anew_finds_its_mailboxes_rows() {
    for (policy, asleep) in [("Retain", Some(true)), ("Disable", Some(false))] {
        let (mut world, mut current) = (World::with_alpha(), Current::default());
        alfred(&mut world, &json!({"deletionPolicy": policy}));
        let info = json!({"address": "info@alpha.example.org", "goto": ["x@elsewhere.org"], "deletionPolicy": policy});
        world.alias("mail", "info", 3, info);
        sync(&world, &mut current);
        let before = current.clone();
        world.index.remove_domain(&ObjectName::new("mail", "alpha"));
        sync(&world, &mut current);
        assert!(full(&world, &current).plan.is_empty(), "{policy}: a second plan changes nothing");
        assert_eq!(active(&current, Table::Mailbox, ALFRED), asleep, "{policy}");
        assert_eq!(active(&current, Table::Alias, "info@alpha.example.org"), asleep, "{policy}");
        assert!(is_owned(&current, Table::Mailbox, ALFRED), "{policy}");
        let domain = json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org"});
        world.domain("mail", "alpha-2", 9, domain);
        let plan = full(&world, &current).plan;
        assert_eq!(plan.drifted, [], "{policy}: nobody else changed it");
        apply(&mut current, &plan);
        assert_eq!(current.rows, before.rows, "{policy}");
        assert!(full(&world, &current).plan.is_empty(), "{policy}");
    }
}

#[test]
fn what_sleeps_goes_by_its_policy_when_its_object_goes() {
    for (policy, left) in [("Delete", None), ("Retain", Some(true)), ("Disable", Some(false))] {
        let (mut world, mut current) = (World::with_alpha(), Current::default());
        alfred(&mut world, &json!({"deletionPolicy": "Retain"}));
        sync(&world, &mut current);
        world.index.remove_domain(&ObjectName::new("mail", "alpha"));
        sync(&world, &mut current);
        // The policy that counts is the last one.
        alfred(&mut world, &json!({"deletionPolicy": policy}));
        sync(&world, &mut current);
        world.index.take_work(&myhost());
        world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
        let keys = world.index.take_work(&myhost()).keys;
        let plan = plan_keys(&world, &current, keys, ExistingRows::Fail).plan;
        apply(&mut current, &plan);
        assert_eq!(active(&current, Table::Mailbox, ALFRED), left, "{policy}");
        assert!(current.owners.is_empty(), "{policy}");
    }
}

#[test]
fn a_domain_that_its_server_does_not_admit_any_more_gets_no_mail() {
    let mut world = World::default();
    let server =
        |admits: &str| json!({"hostname": "myhost.example.org", "allowedNamespaces": {"from": admits}});
    world.server("mail", "myhost", server("All"));
    let spec = json!({
        "serverRef": {"name": "myhost", "namespace": "mail"}, "domain": "alpha.example.org",
        "deletionPolicy": "Retain",
    });
    world.domain("tenant", "alpha", 1, spec);
    let mut current = Current::default();
    sync(&world, &mut current);
    let before = current.clone();
    world.server("mail", "myhost", server("Same"));
    sync(&world, &mut current);
    assert_eq!(
        active(&current, Table::Domain, "alpha.example.org"),
        Some(false),
        "nothing that hangs on the row is lost"
    );
    world.server("mail", "myhost", server("All"));
    assert_eq!(full(&world, &current).plan.drifted, []);
    sync(&world, &mut current);
    assert_eq!(current, before);
}

#[test]
fn what_is_held_back_stays_with_its_owner() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({}));
    sync(&world, &mut current);
    world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
    let key = Key::from_row(ALFRED).unwrap();
    let held: BTreeSet<Key> = [key.clone()].into();
    let mut wanted = vec![(key.clone(), desired(&world.index, &myhost(), &key))];
    let plan = plan(
        &mut wanted,
        &current,
        &Terms { held: &held, ..terms(ExistingRows::Fail) },
        &mut Unobtained::default(),
    );
    assert!(plan.is_empty() && plan.lost.is_empty());
}

#[test]
fn an_alias_domain_that_is_held_back_stays_one() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    let beta = |extra: Value| {
        let mut spec = json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org"});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    };
    world.domain("mail", "beta", 2, beta(json!({"aliasOf": "alpha.example.org"})));
    sync(&world, &mut current);
    world.domain("mail", "beta", 2, beta(json!({})));
    let key = Key::from_row("beta.example.org").unwrap();
    let planned = |held: &BTreeSet<Key>| {
        let mut wanted = vec![(key.clone(), desired(&world.index, &myhost(), &key))];
        plan(&mut wanted, &current, &Terms { held, ..terms(ExistingRows::Fail) }, &mut Unobtained::default())
    };
    assert_eq!(planned(&[key.clone()].into()).deletes, []);
    assert_eq!(planned(&BTreeSet::new()).deletes, [id(Table::AliasDomain, "beta.example.org")]);
}

#[test]
fn a_server_that_goes_while_a_pass_runs_takes_no_row_along() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({}));
    world.admin(
        "mail",
        "root",
        3,
        json!({"serverRef": {"name": "myhost"}, "username": "root@example.org", "superAdmin": true}),
    );
    sync(&world, &mut current);
    let keys = all_keys(&world, &current);
    world.index.remove_server(&myhost());
    let planned = plan_keys(&world, &current, keys, ExistingRows::Fail);
    assert!(planned.plan.is_empty(), "{:?}", planned.plan);
}

#[test]
fn a_mailbox_whose_row_is_to_go_makes_way_for_the_next_without_a_gap() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({}));
    world.alias("mail", "next", 5, json!({"address": ALFRED, "goto": ["x@elsewhere.org"]}));
    sync(&world, &mut current);
    world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
    let plan = full(&world, &current).plan;
    assert_eq!(plan.deletes, [id(Table::Mailbox, ALFRED)], "the alias row is changed, not made anew");
    assert_eq!(plan.lost.len(), 1);
    apply(&mut current, &plan);
    assert_eq!(alias(&current, ALFRED).goto, "x@elsewhere.org");
}

/// Else the next one's domain would be an alias of another, or its mail somebody else's.
#[test]
fn what_the_next_object_does_not_declare_goes_whatever_the_policy_of_the_last_one() {
    for policy in ["Delete", "Disable", "Retain"] {
        let (mut world, mut current) = (World::with_alpha(), Current::default());
        let domain = |domain: &str, extra: Value| {
            let mut spec =
                json!({"serverRef": {"name": "myhost"}, "domain": domain, "deletionPolicy": policy});
            spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            spec
        };
        let first = domain("beta.example.org", json!({"aliasOf": "alpha.example.org", "uid": 950}));
        world.domain("mail", "first", 2, first);
        world.domain("mail", "next", 3, domain("beta.example.org", json!({})));
        sync(&world, &mut current);
        assert_eq!(current.rows.len(), 4, "{policy}");
        world.index.remove_domain(&ObjectName::new("mail", "first"));
        sync(&world, &mut current);
        let left: BTreeSet<&RowId> = current.rows.keys().collect();
        let domains = ["alpha.example.org", "beta.example.org"].map(|key| id(Table::Domain, key));
        assert_eq!(left, domains.iter().collect(), "{policy}");
    }
}

#[test]
fn the_brake_is_told_of_rows_and_not_of_their_ownership() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({"deletionPolicy": "Retain"}));
    sync(&world, &mut current);
    world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
    let plan = full(&world, &current).plan;
    assert_eq!((plan.disowned.len(), plan.lost.len()), (2, 0));
}

#[test]
fn objects_are_known_by_what_the_ownership_table_says_of_them() {
    let mut world = World::with_alpha();
    alfred(&mut world, &json!({"deletionPolicy": "Disable"}));
    let policy = |object: &str, uid: &str| world.index.policy_of(object, uid);
    assert_eq!(policy("Mailbox mail/alfred", "mail-alfred"), Some(DeletionPolicy::Disable));
    assert_eq!(policy("Mailbox mail/alfred", "another"), None);
    assert_eq!(policy("MailAlias mail/alfred", "mail-alfred"), None);
    assert_eq!(policy("nonsense", "mail-alfred"), None);
}

#[test]
fn an_id_row_of_another_object_is_no_obstacle_for_long() {
    // Two claimants, of whom only the loser names a uid.
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    world.mailbox("mail", "late", 5, json!({"address": ALFRED, "uid": 950, "deletionPolicy": "Retain"}));
    sync(&world, &mut current);
    let row = Row::Id(IdRow { key: ALFRED.into(), uid: 950, gid: 901 });
    assert_eq!(current.rows.get(&id(Table::Id, ALFRED)), Some(&row));
    alfred(&mut world, &json!({}));
    let plan = full(&world, &current).plan;
    assert_eq!((&plan.deletes, plan.inserts.len()), (&vec![id(Table::Id, ALFRED)], 0));
    apply(&mut current, &plan);
    assert_eq!(current.owners[&id(Table::Mailbox, ALFRED)].object_uid, "mail-alfred");
}
