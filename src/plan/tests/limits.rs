//! What becomes of the rows under a key whose winner is over a limit.

use super::*;
use crate::desired::is_empty;

/// What there is of alfred, with who owns it.
fn alfreds(current: &Current) -> BTreeMap<RowId, (Row, Option<OwnerRow>)> {
    let rows = current.rows.iter().filter(|((_, key), _)| key == ALFRED);
    rows.map(|(id, row)| (id.clone(), (row.clone(), current.owners.get(id).cloned()))).collect()
}

fn closed() -> Value {
    json!({"limits": {"mailboxes": -1}})
}

#[test]
fn an_object_over_the_limit_keeps_the_row_that_it_had() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({}));
    sync(&world, &mut current);
    let spec =
        json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "limits": {"mailboxes": -1}});
    world.domain("mail", "alpha", 1, spec);
    alfred(&mut world, &json!({"displayName": "Alfred the Great"}));
    world.mailbox("mail", "bill", 3, json!({"address": "bill@alpha.example.org"}));
    let before = current.clone();
    let verdicts = sync(&world, &mut current);
    assert_eq!(verdicts.iter().filter(|verdict| verdict.reason == Reason::LimitExceeded).count(), 2);
    let mailboxes = |current: &Current| {
        current.rows.values().filter(|row| row.table() == Table::Mailbox).cloned().collect::<Vec<_>>()
    };
    assert_eq!(mailboxes(&current), mailboxes(&before), "neither changed nor deleted, and no new one");
    world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
    sync(&world, &mut current);
    assert!(mailboxes(&current).is_empty());
}

/// With `drift: Report` an object that was made anew gets the rows that are as they were, and not the one that differs.
#[test]
fn rows_of_one_that_is_gone_beside_its_own_stay_for_who_is_over_the_limit() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    let spec = json!({"address": ALFRED, "displayName": "Alfred"});
    world.mailbox("mail", "alfred", 2, spec.clone());
    sync(&world, &mut current);
    let Some(Row::Mailbox(row)) = current.rows.get_mut(&id(Table::Mailbox, ALFRED)) else { panic!("no row") };
    row.name = "Somebody else".into();
    world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
    world.mailbox("mail", "again", 3, spec);
    let plan = drifted(&world, &current).plan;
    apply(&mut current, &plan);
    let before = alfreds(&current);
    let owners: BTreeSet<&str> =
        before.values().flat_map(|(_, owner)| owner).map(|owner| &*owner.object_uid).collect();
    assert_eq!(owners, ["mail-alfred", "mail-again"].into());
    alpha(&mut world, &closed());
    assert_eq!(on(&sync(&world, &mut current), Kind::Mailbox, "mail/again"), Reason::LimitExceeded);
    assert_eq!(alfreds(&current), before);
    world.index.remove_mailbox(&ObjectName::new("mail", "again"));
    sync(&world, &mut current);
    assert!(alfreds(&current).is_empty(), "its end is the end of both");
}

#[test]
fn who_waits_for_a_key_keeps_its_rows_until_an_older_one_that_is_over_the_limit_takes_them_over() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    let limits = json!({"mailboxQuota": "100Mi"});
    alpha(&mut world, &json!({"limits": limits}));
    alfred(&mut world, &json!({"quota": "10Mi"}));
    world.mailbox("tenant", "older", 1, json!({"address": ALFRED}));
    sync(&world, &mut current);
    let before = alfreds(&current);
    assert_eq!(before.len(), 2);
    alpha(&mut world, &json!({"limits": limits, "allowedNamespaces": {"from": "All"}}));
    let told = sync(&world, &mut current);
    assert_eq!(on(&told, Kind::Mailbox, "tenant/older"), Reason::LimitExceeded);
    assert_eq!(on(&told, Kind::Mailbox, "mail/alfred"), Reason::Conflict);
    assert_eq!(alfreds(&current), before, "nobody takes them over");
    world.mailbox("tenant", "older", 1, json!({"address": ALFRED, "quota": "10Mi"}));
    sync(&world, &mut current);
    let is_taken =
        |(_, owner): &(Row, Option<OwnerRow>)| owner.as_ref().unwrap().object_uid == "tenant-older";
    assert!(alfreds(&current).values().all(is_taken));
}

#[test]
fn who_may_not_have_a_key_keeps_no_row_though_the_next_one_is_over_the_limit() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alpha(&mut world, &json!({"allowedNamespaces": {"from": "All"}}));
    world.mailbox("tenant", "alfred", 1, json!({"address": ALFRED, "deletionPolicy": "Retain"}));
    alfred(&mut world, &json!({}));
    sync(&world, &mut current);
    alpha(&mut world, &closed());
    let told = sync(&world, &mut current);
    assert_eq!(on(&told, Kind::Mailbox, "tenant/alfred"), Reason::NotAllowed);
    assert_eq!(on(&told, Kind::Mailbox, "mail/alfred"), Reason::LimitExceeded);
    assert!(alfreds(&current).is_empty());
}

#[test]
fn what_is_gone_goes_by_its_policy_though_the_next_one_is_over_the_limit() {
    for (policy, left) in [("Delete", None), ("Disable", Some(false)), ("Retain", Some(true))] {
        let (mut world, mut current) = (World::with_alpha(), Current::default());
        alfred(&mut world, &json!({"deletionPolicy": policy}));
        world.mailbox("mail", "next", 3, json!({"address": ALFRED}));
        sync(&world, &mut current);
        world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
        alpha(&mut world, &closed());
        let key = Key::from_row(ALFRED).unwrap();
        assert!(is_empty(&world.index, &myhost(), &key), "{policy}: looked at by the brake");
        let lost = full(&world, &current).plan.lost;
        assert_eq!(lost.contains(&key), policy != "Retain", "{policy}: counted by the brake");
        sync(&world, &mut current);
        assert_eq!(active(&current, Table::Mailbox, ALFRED), left, "{policy}");
        assert!(!is_owned(&current, Table::Mailbox, ALFRED), "{policy}");
    }
}
