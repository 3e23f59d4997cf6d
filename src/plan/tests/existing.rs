//! Rows that were there before their object, and what somebody else writes into ours.

use super::*;

#[test]
fn the_forwards_of_a_mailbox_are_followed_though_the_row_was_switched_off_before_it() {
    for (mailbox, expected) in [(None, true), (Some(true), true), (Some(false), false)] {
        let (mut world, mut current) = (World::with_alpha(), Current::default());
        alfred(&mut world, &json!({"forwardTo": ["x@elsewhere.org"]}));
        let off = AliasRow { active: false, ..alias_row(ALFRED, ALFRED) };
        insert(&mut current, Row::Alias(off));
        if let Some(active) = mailbox {
            insert(&mut current, unmanaged_mailbox(active));
        }
        adopt(&world, &mut current);
        assert_eq!(alias(&current, ALFRED).active, expected, "{mailbox:?}");
    }
}

/// Else whoever had the address before could log in to the next one's mailbox, and would get copies of its mail.
#[test]
fn another_namespaces_mailbox_leaves_no_password_and_no_forward_behind() {
    for (heir, inherits) in [("mail", true), ("team", false)] {
        let mut world = open_server();
        let open = json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "allowedNamespaces": {"from": "All"}});
        world.domain("mail", "alpha", 1, open);
        let mut current = Current::default();
        world.mailbox("mail", "first", 2, json!({"address": ALFRED}));
        world.mailbox(heir, "second", 3, json!({"address": ALFRED}));
        sync(&world, &mut current);
        let Some(Row::Mailbox(row)) = current.rows.get_mut(&id(Table::Mailbox, ALFRED)) else { panic!() };
        row.password = "{SHA512-CRYPT}$6$theirs".into();
        let Some(Row::Alias(row)) = current.rows.get_mut(&id(Table::Alias, ALFRED)) else { panic!() };
        row.goto = format!("{ALFRED},x@elsewhere.org");
        world.index.remove_mailbox(&ObjectName::new("mail", "first"));
        sync(&world, &mut current);
        let row = as_mailbox(&current.rows[&id(Table::Mailbox, ALFRED)]).unwrap();
        assert_eq!(row.password != LOCKED_PASSWORD, inherits, "{heir}");
        assert_eq!(alias(&current, ALFRED).goto != ALFRED, inherits, "{heir}");
    }
}

#[test]
fn targets_of_others_in_an_identity_row_stay() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({"forwardTo": ["b@elsewhere.org"]}));
    sync(&world, &mut current);
    let mut row = alias(&current, "alfred@alpha.example.org");
    row.goto.push_str(",alfred#alpha.example.org@vacation.example.org");
    insert(&mut current, Row::Alias(row.clone()));
    assert!(full(&world, &current).plan.is_empty(), "somebody else's target is no drift");
    alfred(&mut world, &json!({}));
    sync(&world, &mut current);
    assert_eq!(
        alias(&current, "alfred@alpha.example.org").goto,
        "alfred@alpha.example.org,alfred#alpha.example.org@vacation.example.org"
    );
}

#[test]
fn a_row_that_was_there_is_left_alone_or_adopted() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    insert(
        &mut current,
        unmanaged_alias("alfred@alpha.example.org", "alfred@alpha.example.org,x@elsewhere.org"),
    );
    alfred(&mut world, &json!({}));
    let planned = full(&world, &current);
    let verdict = planned.verdicts.iter().find(|verdict| verdict.object.kind == Kind::Mailbox).unwrap();
    assert_eq!(verdict.reason, Reason::RowExists);
    assert!(planned.plan.inserts.iter().all(|row| row.table() == Table::Domain));
    let keys = all_keys(&world, &current);
    let planned = plan_keys(&world, &current, keys, ExistingRows::Adopt);
    apply(&mut current, &planned.plan);
    assert_eq!(alias(&current, "alfred@alpha.example.org").goto, "alfred@alpha.example.org,x@elsewhere.org");
    assert!(full(&world, &current).plan.is_empty());
}

/// Mail that is there stays where its owner finds it.
#[test]
fn an_adopted_mailbox_keeps_its_maildir_and_its_password() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    let theirs = MailboxRow {
        username: "alfred@alpha.example.org".into(),
        password: "82fU0EHEzA6wo".into(),
        name: "Alfred".into(),
        maildir: "old/alfred/".into(),
        quota: 5_120_000,
        local_part: "alfred".into(),
        domain: "alpha.example.org".into(),
        active: true,
    };
    insert(&mut current, Row::Mailbox(theirs.clone()));
    let row = |current: &Current| {
        let id = (Table::Mailbox, "alfred@alpha.example.org".to_owned());
        current.rows.get(&id).and_then(as_mailbox).cloned()
    };
    let adopting = |world: &World, current: &mut Current| {
        let keys = all_keys(world, current);
        let planned = plan_keys(world, current, keys, ExistingRows::Adopt);
        apply(current, &planned.plan);
        let mut verdicts = planned.verdicts.into_iter();
        verdicts.find(|verdict| verdict.object.kind == Kind::Mailbox).and_then(|verdict| verdict.maildir)
    };
    alfred(&mut world, &json!({}));
    assert_eq!(adopting(&world, &mut current).as_deref(), Some("old/alfred/"));
    assert_eq!(row(&current).as_ref(), Some(&theirs));
    assert_eq!(adopting(&world, &mut current).as_deref(), Some("old/alfred/"), "at every pass");
    assert!(full(&world, &current).plan.is_empty());
    alfred(&mut world, &json!({"displayName": "Alfred the Great", "active": false}));
    adopting(&world, &mut current);
    assert_eq!(row(&current), Some(MailboxRow { name: "Alfred the Great".into(), active: false, ..theirs }));

    current.rows.remove(&(Table::Mailbox, "alfred@alpha.example.org".to_owned()));
    assert_eq!(adopting(&world, &mut current), None, "a new row has a maildir of ours");
    let Some(Row::Mailbox(row)) = current.rows.get_mut(&(Table::Mailbox, "alfred@alpha.example.org".into()))
    else {
        panic!("no row")
    };
    assert_eq!(row.maildir, "alpha.example.org/alfred/");
    row.maildir = "elsewhere/".into();
    assert_eq!(full(&world, &current).plan.drifted.len(), 1, "which nobody else changes");
}

#[test]
fn what_an_object_does_not_name_stays_as_somebody_else_wrote_it() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({"displayName": "Alfred"}));
    sync(&world, &mut current);
    let id = (Table::Mailbox, "alfred@alpha.example.org".to_owned());
    let change = |current: &mut Current, name: &str| {
        let Some(Row::Mailbox(row)) = current.rows.get_mut(&id) else { panic!("no row") };
        (row.quota, row.name) = (102_400_000, name.into());
    };
    let row = |current: &Current| as_mailbox(&current.rows[&id]).map(|row| (row.name.clone(), row.quota));
    change(&mut current, "Alfred");
    assert!(full(&world, &current).plan.is_empty(), "a quota that the object doesn't name is no drift");
    change(&mut current, "Somebody else");
    sync(&world, &mut current);
    assert_eq!(row(&current), Some(("Alfred".into(), 102_400_000)));
    alfred(&mut world, &json!({}));
    sync(&world, &mut current);
    assert_eq!(row(&current), Some((String::new(), 102_400_000)), "named before: back to the default");
    change(&mut current, "Somebody else");
    assert!(full(&world, &current).plan.is_empty(), "not named any more: somebody else's");
}

#[test]
fn a_row_of_another_cluster_is_never_touched() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({}));
    sync(&world, &mut current);
    for owner in current.owners.values_mut() {
        owner.server = owner.server.replace("cluster/", "elsewhere/");
    }
    let planned = full(&world, &current);
    assert!(planned.plan.is_empty());
    assert!(planned.verdicts.iter().all(|verdict| verdict.reason == Reason::Conflict));
    let gone = World::default();
    assert!(full(&gone, &current).plan.is_empty());
}

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
    let verdicts = sync(&world, &mut current);
    assert_eq!(active(&current, Table::Mailbox, ALFRED), Some(true));
    assert!(verdicts.iter().all(Verdict::is_sound), "it does not stay switched off: {verdicts:?}");
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
