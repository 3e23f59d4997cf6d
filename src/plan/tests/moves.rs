//! Domains that move between two servers.

use super::*;

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
    let plan = plan(&mut wanted, current, &terms, &mut Unobtained::default());
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
fn an_operator_of_one_namespace_leaves_the_rows_of_another_namespaces_alone() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({}));
    sync(&world, &mut current);
    for owner in current.owners.values_mut() {
        owner.server = "cluster/team/myhost".into();
    }
    for (ours, is_taken_over) in [("cluster/", true), ("cluster/mail/", false)] {
        let keys: Vec<_> = all_keys(&world, &current).into_iter().collect();
        let mut wanted: Vec<_> =
            keys.into_iter().map(|key| (key.clone(), desired(&world.index, &myhost(), &key))).collect();
        let plan = plan(
            &mut wanted,
            &current,
            &Terms { ours, ..terms(ExistingRows::Adopt) },
            &mut Unobtained::default(),
        );
        assert_eq!(!plan.is_empty(), is_taken_over, "{ours}");
        let reasons: BTreeSet<_> =
            wanted.iter().flat_map(|(_, desired)| &desired.verdicts).map(|verdict| verdict.reason).collect();
        assert_eq!(reasons.contains(&Reason::Conflict), !is_taken_over, "{ours}");
    }
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
