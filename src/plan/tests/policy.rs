//! Rows whose object is there and doesn't have them any more, or whose domain nobody serves; rows of others beside ours.

use super::*;
use crate::api::DeletionPolicy;
use crate::tables::IdRow;

const CATCH_ALL: &str = "@alpha.example.org";

fn unmanaged_mailbox(active: bool) -> Row {
    Row::Mailbox(MailboxRow {
        username: ALFRED.into(),
        password: "theirs".into(),
        name: String::new(),
        maildir: "alpha.example.org/alfred/".into(),
        quota: 0,
        local_part: "alfred".into(),
        domain: "alpha.example.org".into(),
        active,
    })
}

fn adopt(world: &World, current: &mut Current) -> Vec<Verdict> {
    let planned = plan_keys(world, current, all_keys(world, current), ExistingRows::Adopt);
    apply(current, &planned.plan);
    planned.verdicts
}

#[test]
fn a_domain_is_told_what_becomes_of_its_catch_all() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    insert(&mut current, unmanaged_alias(CATCH_ALL, "theirs@elsewhere.org"));
    alpha(&mut world, &json!({"catchAll": ["x@elsewhere.org"]}));
    assert_eq!(on(&sync(&world, &mut current), Kind::Domain, "mail/alpha"), Reason::RowExists);

    let mut current = Current::default();
    sync(&world, &mut current);
    let ours = current.clone();
    let owner = current.owners.get_mut(&id(Table::Alias, CATCH_ALL)).unwrap();
    owner.server = "elsewhere/mail/myhost".into();
    assert_eq!(on(&sync(&world, &mut current), Kind::Domain, "mail/alpha"), Reason::Conflict);

    let mut current = ours;
    current.rows.remove(&id(Table::Alias, CATCH_ALL));
    assert_eq!(on(&drifted(&world, &current).verdicts, Kind::Domain, "mail/alpha"), Reason::DriftDetected);
}

#[test]
fn a_refused_catch_all_is_told_on_its_domain() {
    let mut world = World::with_alpha();
    alpha(&mut world, &json!({"catchAll": ["x@elsewhere.org"]}));
    let keys = all_keys(&world, &Current::default()).into_iter();
    let mut wanted: Vec<_> = keys.map(|key| (key.clone(), desired(&world.index, &myhost(), &key))).collect();
    let at = wanted.iter().position(|(key, _)| key.as_str() == CATCH_ALL).unwrap();
    tell_refused(&mut wanted, at, "too long");
    let verdicts: Vec<Verdict> = wanted.into_iter().flat_map(|(_, desired)| desired.verdicts).collect();
    assert_eq!(on(&verdicts, Kind::Domain, "mail/alpha"), Reason::RowRefused);
}

#[test]
fn a_domain_and_its_catch_all_are_looked_at_together() {
    let mut world = World::with_alpha();
    alpha(&mut world, &json!({"catchAll": ["x@alpha.example.org"], "limits": {"aliases": 1}}));
    world.index.take_work(&myhost());
    // The catch-all's way leads through the mailbox.
    world.mailbox("mail", "x", 5, json!({"address": "x@alpha.example.org", "active": false}));
    let keys = world.index.take_work(&myhost()).keys;
    let touched = |key: &str| keys.contains(&Key::from_row(key).unwrap());
    assert_eq!(touched(CATCH_ALL), touched("alpha.example.org"));
    assert!(touched(CATCH_ALL));
}

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
fn a_mailbox_that_is_switched_off_for_good_does_not_leak_to_the_catch_all() {
    for (catch_all, identity) in [(json!(["x@elsewhere.org"]), true), (Value::Null, false)] {
        let (mut world, mut current) = (World::with_alpha(), Current::default());
        alpha(&mut world, &json!({"catchAll": catch_all}));
        alfred(&mut world, &json!({"deletionPolicy": "Disable"}));
        sync(&world, &mut current);
        world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
        let plan = full(&world, &current).plan;
        assert_eq!(plan.lost.len(), 1, "counted by the brake");
        apply(&mut current, &plan);
        assert_eq!(active(&current, Table::Mailbox, ALFRED), Some(false));
        assert_eq!(active(&current, Table::Alias, ALFRED), Some(identity), "{catch_all}");
        assert!(current.owners.keys().all(|(_, key)| key != ALFRED));
    }
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
    let plan = plan(&mut wanted, &current, &Terms { held: &held, ..terms(ExistingRows::Fail) });
    assert!(plan.is_empty() && plan.lost.is_empty());
}

#[test]
fn an_alias_does_not_take_the_mail_of_a_mailbox_that_nobody_declares() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    insert(&mut current, unmanaged_mailbox(true));
    insert(&mut current, unmanaged_alias(ALFRED, ALFRED));
    world.alias("mail", "thief", 2, json!({"address": ALFRED, "goto": ["x@elsewhere.org"]}));
    let before = current.rows.clone();
    assert_eq!(on(&adopt(&world, &mut current), Kind::Alias, "mail/thief"), Reason::RowExists);
    current.rows.remove(&id(Table::Alias, ALFRED));
    assert_eq!(on(&adopt(&world, &mut current), Kind::Alias, "mail/thief"), Reason::RowExists);
    insert(&mut current, before[&id(Table::Alias, ALFRED)].clone());

    // Nor where the mailbox's object has just gone, and its row is to stay.
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({"deletionPolicy": "Retain"}));
    world.alias("mail", "next", 5, json!({"address": ALFRED, "goto": ["x@elsewhere.org"]}));
    sync(&world, &mut current);
    let before = current.rows.clone();
    world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
    for _ in 0..2 {
        assert_eq!(on(&sync(&world, &mut current), Kind::Alias, "mail/next"), Reason::RowExists);
        assert_eq!(current.rows, before);
    }
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

#[test]
fn a_vacation_that_is_set_in_postfixadmin_is_no_drift() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({"forwardTo": ["b@elsewhere.org"]}));
    sync(&world, &mut current);
    let mut row = alias(&current, ALFRED);
    row.goto = format!("alfred#alpha.example.org@vacation.example.org,{ALFRED},b@elsewhere.org");
    insert(&mut current, Row::Alias(row.clone()));
    assert!(full(&world, &current).plan.is_empty());
    row.goto = "alfred#alpha.example.org@vacation.example.org,b@elsewhere.org".into();
    insert(&mut current, Row::Alias(row));
    assert_eq!(full(&world, &current).plan.drifted, [id(Table::Alias, ALFRED)], "a target is missing");
}

#[test]
fn a_quota_that_postfixadmin_shows_as_it_was_is_no_drift() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({"quota": "100M"}));
    sync(&world, &mut current);
    let write = |current: &mut Current, quota: i64| {
        let Some(Row::Mailbox(row)) = current.rows.get_mut(&id(Table::Mailbox, ALFRED)) else { panic!() };
        row.quota = quota;
    };
    // 100 000 000 / 1 024 000 is shown as 97.66.
    write(&mut current, 9_766 * 10_240);
    assert!(full(&world, &current).plan.is_empty());
    for drifted in [9_767 * 10_240, 9_765 * 10_240, 0, -1] {
        write(&mut current, drifted);
        assert_eq!(full(&world, &current).plan.drifted.len(), 1, "{drifted}");
    }
    alfred(&mut world, &json!({"quota": 5000}));
    sync(&world, &mut current);
    write(&mut current, 0);
    assert_eq!(full(&world, &current).plan.drifted.len(), 1, "no limit is another thing than a small one");
}

#[test]
fn what_was_switched_off_before_its_object_stays_so_until_the_object_says_otherwise() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    insert(&mut current, unmanaged_mailbox(false));
    let identity = Row::Alias(AliasRow { active: false, ..alias_row(ALFRED, ALFRED) });
    insert(&mut current, identity);
    alfred(&mut world, &json!({}));
    let verdicts = adopt(&world, &mut current);
    let warning = verdicts.iter().find_map(|verdict| verdict.warning.clone()).unwrap();
    assert_eq!(warning.0, Reason::DisabledMailbox);
    let both = |current: &Current| [Table::Mailbox, Table::Alias].map(|table| active(current, table, ALFRED));
    assert_eq!(both(&current), [Some(false), Some(false)]);
    assert!(full(&world, &current).plan.is_empty());
    alpha(&mut world, &json!({"catchAll": ["x@elsewhere.org"]}));
    sync(&world, &mut current);
    assert_eq!(both(&current), [Some(false), Some(true)], "nothing leaks to the catch-all");
    alfred(&mut world, &json!({"active": true}));
    let verdicts = sync(&world, &mut current);
    assert!(verdicts.iter().all(|verdict| verdict.warning.is_none()));
    assert_eq!(both(&current), [Some(true), Some(true)]);
    alfred(&mut world, &json!({}));
    sync(&world, &mut current);
    assert_eq!(both(&current), [Some(true), Some(true)], "the default is the object's once it said so");

    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({}));
    sync(&world, &mut current);
    let Some(Row::Mailbox(row)) = current.rows.get_mut(&id(Table::Mailbox, ALFRED)) else { panic!() };
    row.active = false;
    assert_eq!(
        full(&world, &current).plan.drifted.len(),
        1,
        "of a row that was made for it the default is its own"
    );
}

fn alias_row(address: &str, goto: &str) -> AliasRow {
    let Row::Alias(row) = unmanaged_alias(address, goto) else { unreachable!() };
    row
}

#[test]
fn what_is_adopted_and_slept_wakes_up() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    insert(&mut current, unmanaged_mailbox(true));
    alfred(&mut world, &json!({"deletionPolicy": "Disable"}));
    adopt(&world, &mut current);
    world.index.remove_domain(&ObjectName::new("mail", "alpha"));
    sync(&world, &mut current);
    assert_eq!(active(&current, Table::Mailbox, ALFRED), Some(false));
    alpha(&mut world, &json!({}));
    sync(&world, &mut current);
    assert_eq!(active(&current, Table::Mailbox, ALFRED), Some(true));
    assert!(full(&world, &current).plan.is_empty());
}

#[test]
fn an_adopted_alias_keeps_the_targets_that_its_object_does_not_name() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    let info = "info@alpha.example.org";
    for address in [info, CATCH_ALL] {
        insert(&mut current, unmanaged_alias(address, "theirs@elsewhere.org,ours@elsewhere.org"));
    }
    alpha(&mut world, &json!({"catchAll": ["ours@elsewhere.org"]}));
    let goto = |goto: Value| json!({"address": info, "goto": goto});
    world.alias("mail", "info", 2, goto(json!(["ours@elsewhere.org", "more@elsewhere.org"])));
    adopt(&world, &mut current);
    assert_eq!(alias(&current, info).goto, "ours@elsewhere.org,more@elsewhere.org,theirs@elsewhere.org");
    assert_eq!(alias(&current, CATCH_ALL).goto, "theirs@elsewhere.org,ours@elsewhere.org");
    assert!(full(&world, &current).plan.is_empty());
    world.alias("mail", "info", 2, goto(json!(["ours@elsewhere.org"])));
    sync(&world, &mut current);
    assert_eq!(
        alias(&current, info).goto,
        "ours@elsewhere.org,theirs@elsewhere.org",
        "a target of its own goes"
    );

    world.alias(
        "mail",
        "new",
        2,
        json!({"address": "new@alpha.example.org", "goto": ["ours@elsewhere.org"]}),
    );
    sync(&world, &mut current);
    insert(&mut current, unmanaged_alias("new@alpha.example.org", "ours@elsewhere.org,theirs@elsewhere.org"));
    assert_eq!(
        full(&world, &current).plan.drifted.len(),
        1,
        "what nobody adopted has the declared targets only"
    );
}

/// Two servers whose tables are the same.
fn two_servers() -> World {
    let mut world = World::default();
    for name in ["myhost", "other"] {
        let external = json!({
            "host": "db.example.org", "writerSecretRef": {"name": format!("{name}-writer")},
            "readerSecretRef": {"name": "reader"},
        });
        let spec = json!({"hostname": format!("{name}.example.org"), "database": {"external": external}});
        world.server("mail", name, spec);
    }
    world
}

/// What the set loop of one of the servers does with the keys that it owns something under, or that were touched.
fn pass_of(name: &str, world: &mut World, current: &mut Current) -> Plan {
    let server = ObjectName::new("mail", name);
    let server_id = format!("cluster/{server}");
    let owned = current.owners.values().filter(|owner| owner.server == server_id);
    let mut keys: BTreeSet<Key> = owned.filter_map(|owner| Key::of_row(owner.table, &owner.key)).collect();
    keys.extend(world.index.take_work(&server).keys);
    let index = &world.index;
    let mut wanted: Vec<_> =
        keys.into_iter().map(|key| (key.clone(), desired(index, &server, &key))).collect();
    let terms = Terms {
        server: &server_id,
        is_taken_over: &|key| index.is_taken_over(key, &server),
        declared: &|owner| index.policy_of(&owner.object, &owner.object_uid),
        ..terms(ExistingRows::Fail)
    };
    let plan = plan(&mut wanted, current, &terms);
    database::carry_out(current, &plan, &server_id, ExistingRows::Fail);
    plan
}

#[test]
fn a_domain_that_moves_to_another_server_with_the_same_tables_loses_no_row() {
    for order in [["myhost", "other"], ["other", "myhost"]] {
        let (mut world, mut current) = (two_servers(), Current::default());
        let domain = |server: &str, limit: i64| json!({"serverRef": {"name": server}, "domain": "alpha.example.org", "limits": {"mailboxes": limit}});
        world.domain("mail", "alpha", 1, domain("myhost", 0));
        alfred(&mut world, &json!({"quota": 1}));
        world.mailbox("mail", "kept", 3, json!({"address": "kept@alpha.example.org"}));
        pass_of("myhost", &mut world, &mut current);
        let before = current.rows.clone();
        assert_eq!(before.len(), 5);
        // One of the two is over the limit and keeps what it has.
        world.domain("mail", "alpha", 1, domain("myhost", 1));
        pass_of("myhost", &mut world, &mut current);
        world.domain("mail", "alpha", 1, domain("other", 1));
        for name in order {
            let plan = pass_of(name, &mut world, &mut current);
            assert_eq!((plan.deletes, plan.log), (vec![], vec![]), "{order:?}: {name}");
        }
        assert_eq!(current.rows.len(), 5, "{order:?}");
        assert!(current.owners.values().all(|owner| owner.server == "cluster/mail/other"), "{order:?}");
        for name in order {
            assert!(pass_of(name, &mut world, &mut current).is_empty(), "{order:?}: {name}");
        }
        world.index.remove_mailbox(&ObjectName::new("mail", "kept"));
        pass_of("other", &mut world, &mut current);
        assert_eq!(current.rows.len(), 3, "{order:?}");
    }
}

/// The server that had the rows may be deleting them at this moment.
#[test]
fn what_is_taken_over_is_written_again() {
    let (mut world, mut current) = (two_servers(), Current::default());
    let domain = |server: &str| json!({"serverRef": {"name": server}, "domain": "alpha.example.org"});
    world.domain("mail", "alpha", 1, domain("myhost"));
    alfred(&mut world, &json!({}));
    pass_of("myhost", &mut world, &mut current);
    world.domain("mail", "alpha", 1, domain("other"));
    let plan = pass_of("other", &mut world, &mut current);
    assert_eq!((plan.updates.len(), plan.owned.len(), plan.drifted.len()), (3, 3, 0));
}

#[test]
fn a_server_with_tables_of_its_own_takes_nothing_over() {
    let mut world = World::default();
    for name in ["myhost", "other"] {
        world.server("mail", name, json!({"hostname": "myhost.example.org"}));
    }
    let domain = json!({"serverRef": {"name": "other"}, "domain": "alpha.example.org"});
    world.domain("mail", "alpha", 1, domain);
    let key = Key::from_row("alpha.example.org").unwrap();
    assert!(!world.index.is_taken_over(&key, &myhost()), "each has an embedded database");
}

#[test]
fn a_row_that_its_former_server_left_goes_with_its_object() {
    let (mut world, mut current) = (two_servers(), Current::default());
    world.domain("mail", "alpha", 1, json!({"serverRef": {"name": "other"}, "domain": "alpha.example.org"}));
    alfred(&mut world, &json!({}));
    pass_of("other", &mut world, &mut current);
    for owner in current.owners.values_mut() {
        owner.server = "cluster/mail/myhost".into();
    }
    world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
    let plan = pass_of("other", &mut world, &mut current);
    assert!(
        plan.deletes
            .iter()
            .all(|id| plan.owned.iter().any(|owner| (owner.table, &owner.key) == (id.0, &id.1))),
        "taken over before it is deleted, since the database deletes for the owner only"
    );
    assert_eq!(current.rows.len(), 1);
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
        let left: Vec<&RowId> = current.rows.keys().collect();
        let domains = ["alpha.example.org", "beta.example.org"].map(|key| id(Table::Domain, key));
        assert_eq!(left, domains.iter().collect::<Vec<_>>(), "{policy}");
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

#[test]
fn a_catch_all_that_is_taken_out_while_nobody_serves_its_domain_goes() {
    let mut world = World::default();
    let server =
        |admits: &str| json!({"hostname": "myhost.example.org", "allowedNamespaces": {"from": admits}});
    let domain = |catch_all: Value| {
        json!({
            "serverRef": {"name": "myhost", "namespace": "mail"}, "domain": "alpha.example.org",
            "deletionPolicy": "Disable", "catchAll": catch_all,
        })
    };
    world.server("mail", "myhost", server("All"));
    world.domain("tenant", "alpha", 1, domain(json!(["x@elsewhere.org"])));
    let mut current = Current::default();
    sync(&world, &mut current);
    world.server("mail", "myhost", server("Same"));
    sync(&world, &mut current);
    assert_eq!(active(&current, Table::Alias, CATCH_ALL), Some(false));
    world.index.take_work(&myhost());
    world.domain("tenant", "alpha", 1, domain(Value::Null));
    let keys = world.index.take_work(&myhost()).keys;
    let plan = plan_keys(&world, &current, keys, ExistingRows::Fail).plan;
    assert_eq!(plan.deletes, [id(Table::Alias, CATCH_ALL)]);
}
