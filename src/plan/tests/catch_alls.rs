//! Catch-alls, which have a key of their own and are told under that of their domain.

use super::*;

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
