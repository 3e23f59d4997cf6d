//! Admins: what they may manage, and that it is gone when it is taken away.

use super::*;
use crate::tables::{ALL_DOMAINS, AdminRow};

const BOSS: &str = "boss@nowhere.org";

fn boss(world: &mut World, extra: &Value) {
    let mut spec = json!({"serverRef": {"name": "myhost"}, "username": "Boss@Nowhere.org"});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    world.admin("mail", "boss", 3, spec);
}

/// Everything that is declared.
fn wanted(world: &World) -> Vec<(Key, Desired)> {
    let keys = world.index.keys_of(&myhost()).into_iter();
    keys.map(|key| (key.clone(), desired(&world.index, &myhost(), &key))).collect()
}

fn row<'a>(current: &'a Current, username: &str) -> Option<&'a AdminRow> {
    current.rows.get(&(Table::Admin, username.to_owned())).map(|row| match row {
        Row::Admin(row) => row,
        other => panic!("{other:?}"),
    })
}

fn unmanaged(username: &str, domains: &[&str]) -> Row {
    Row::Admin(AdminRow {
        username: username.into(),
        password: "made by hand".into(),
        superadmin: true,
        active: true,
        domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
    })
}

fn verdict_on(verdicts: &[Verdict], name: &str) -> Verdict {
    verdicts.iter().find(|verdict| *verdict.object.name.name == *name).unwrap().clone()
}

#[test]
fn an_admin_and_a_mailbox_of_one_address_are_two_rows_with_a_password_each() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    let hash = |key: &str| json!({"passwordHashSecretKeyRef": {"name": "hashes", "key": key}});
    alfred(&mut world, &hash("mailbox"));
    let mut spec = hash("admin");
    spec.as_object_mut().unwrap().extend(
        json!({"serverRef": {"name": "myhost"}, "username": "alfred@alpha.example.org", "superAdmin": true})
            .as_object()
            .unwrap()
            .clone(),
    );
    world.admin("mail", "alfred-admin", 3, spec);
    world.index.apply_secret(ObjectName::new("mail", "hashes"), "1".into());
    let address = "alfred@alpha.example.org".to_owned();
    let passwords = BTreeMap::from([
        ((Table::Mailbox, address.clone()), ResolvedPassword::Hash("{BLF-CRYPT}$2y$10$mailbox".into())),
        ((Table::Admin, address.clone()), ResolvedPassword::Hash("82fU0EHEzA6wo".into())),
    ]);
    let mut wanted = wanted(&world);
    let plan = plan(
        &mut wanted,
        &current,
        &Terms { passwords: &passwords, ..terms(ExistingRows::Fail) },
        &mut Unobtained::default(),
    );
    apply(&mut current, &plan);
    assert_eq!(row(&current, &address).unwrap().password, "82fU0EHEzA6wo");
    let mailbox = current.rows[&(Table::Mailbox, address.clone())].password().unwrap();
    assert_eq!(mailbox, "{BLF-CRYPT}$2y$10$mailbox");
    let planned = full(&world, &current);
    assert!(planned.plan.is_empty());
    let warning = verdict_on(&planned.verdicts, "alfred-admin").warning.unwrap();
    assert_eq!(warning.0, Reason::WeakPassword);
    assert!(!warning.1.contains("82fU0EHEzA6wo"));

    world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
    sync(&world, &mut current);
    assert!(!current.rows.contains_key(&(Table::Mailbox, address.clone())));
    assert!(row(&current, &address).is_some(), "the mailbox's end is none of the admin's");
}

#[test]
fn changes_are_logged_as_postfixadmin_logs_admins() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    sync(&world, &mut current);
    let mut logged = |world: &World| {
        let plan = full(world, &current).plan;
        apply(&mut current, &plan);
        plan.log
    };
    boss(&mut world, &json!({"superAdmin": true}));
    let created = logged(&world);
    boss(&mut world, &json!({"domains": ["alpha.example.org"]}));
    let edited = logged(&world);
    boss(&mut world, &json!({"domains": ["alpha.example.org"], "active": false}));
    let disabled = logged(&world);
    world.index.remove_admin(&ObjectName::new("mail", "boss"));
    let deleted = logged(&world);
    for (log, action) in [
        (created, "create_admin"),
        (edited, "edit_admin"),
        (disabled, "edit_admin"),
        (deleted, "delete_admin"),
    ] {
        assert_eq!(log, [LogRow { domain: "admin".into(), action, data: BOSS.into() }]);
    }
}

#[test]
fn what_is_not_granted_any_more_goes_whatever_the_deletion_policy() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    boss(&mut world, &json!({"domains": ["alpha.example.org"], "deletionPolicy": "Retain"}));
    sync(&world, &mut current);
    assert_eq!(row(&current, BOSS).unwrap().domains, ["alpha.example.org".to_owned()].into());
    world.index.remove_domain(&ObjectName::new("mail", "alpha"));
    let told = sync(&world, &mut current);
    assert_eq!(verdict_on(&told, "boss").reason, Reason::UnknownDomain);
    assert!(row(&current, BOSS).unwrap().domains.is_empty(), "the admin stays, the grant goes");

    world.server(
        "mail",
        "myhost",
        json!({"hostname": "myhost.example.org", "allowedNamespaces": {"from": "All"}}),
    );
    let tenant = json!({
        "serverRef": {"name": "myhost", "namespace": "mail"}, "username": "tenant@nowhere.org",
        "domains": ["alpha.example.org"], "deletionPolicy": "Retain",
    });
    world.admin("tenant", "tenant", 4, tenant);
    sync(&world, &mut current);
    assert!(row(&current, "tenant@nowhere.org").is_some());
    world.server("mail", "myhost", json!({"hostname": "myhost.example.org"}));
    sync(&world, &mut current);
    assert!(
        row(&current, "tenant@nowhere.org").is_none(),
        "nobody logs in from a namespace that is not admitted"
    );
}

#[test]
fn deletion_policies_hold_for_admins() {
    for (policy, left) in [("Delete", None), ("Disable", Some(false)), ("Retain", Some(true))] {
        let (mut world, mut current) = (World::with_alpha(), Current::default());
        boss(&mut world, &json!({"superAdmin": true, "deletionPolicy": policy}));
        sync(&world, &mut current);
        world.index.remove_admin(&ObjectName::new("mail", "boss"));
        sync(&world, &mut current);
        assert_eq!(row(&current, BOSS).map(|row| row.active), left, "{policy}");
        assert!(!current.owners.keys().any(|(table, _)| *table == Table::Admin), "{policy}");
    }
}

#[test]
fn an_admin_that_was_there_is_left_alone_or_adopted_with_its_password() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    insert(&mut current, unmanaged(BOSS, &[ALL_DOMAINS]));
    insert(&mut current, unmanaged("other@nowhere.org", &[ALL_DOMAINS]));
    boss(&mut world, &json!({"domains": ["alpha.example.org"]}));
    assert_eq!(verdict_on(&sync(&world, &mut current), "boss").reason, Reason::RowExists);
    assert!(row(&current, BOSS).unwrap().superadmin);
    let planned = plan_keys(&world, &current, all_keys(&world, &current), ExistingRows::Adopt);
    apply(&mut current, &planned.plan);
    let adopted = row(&current, BOSS).unwrap();
    assert_eq!((adopted.superadmin, adopted.password.as_str()), (false, "made by hand"));
    assert_eq!(adopted.domains, ["alpha.example.org".to_owned()].into());
    assert_eq!(
        current.rows[&(Table::Admin, "other@nowhere.org".into())],
        unmanaged("other@nowhere.org", &[ALL_DOMAINS])
    );
}

#[test]
fn grants_that_somebody_else_adds_are_drift() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    boss(&mut world, &json!({"domains": ["alpha.example.org"]}));
    sync(&world, &mut current);
    let Some(Row::Admin(admin)) = current.rows.get_mut(&(Table::Admin, BOSS.into())) else {
        panic!("no row")
    };
    admin.domains.insert(ALL_DOMAINS.into());
    let plan = full(&world, &current).plan;
    assert_eq!(plan.drifted, [(Table::Admin, BOSS.to_owned())]);
    apply(&mut current, &plan);
    assert_eq!(row(&current, BOSS).unwrap().domains, ["alpha.example.org".to_owned()].into());
}

#[test]
fn tables_that_cannot_hold_admins_are_told_on_the_admin_alone() {
    let mut world = World::with_alpha();
    boss(&mut world, &json!({"superAdmin": true}));
    let mut wanted = wanted(&world);
    let lacking = ["table domain_admins".to_owned()];
    let plan = plan(
        &mut wanted,
        &Current::default(),
        &Terms { lacking: &lacking, ..terms(ExistingRows::Fail) },
        &mut Unobtained::default(),
    );
    assert!(plan.inserts.iter().all(|row| row.table() == Table::Domain));
    let verdicts: Vec<Verdict> = wanted.into_iter().flat_map(|(_, desired)| desired.verdicts).collect();
    let told = verdict_on(&verdicts, "boss");
    assert_eq!(told.reason, Reason::DatabaseInvalid);
    assert!(told.message.contains("table domain_admins"), "{}", told.message);
    assert_eq!(verdict_on(&verdicts, "alpha").reason, Reason::Synced);
}

#[test]
fn of_two_servers_with_one_database_the_first_keeps_an_admin() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    boss(&mut world, &json!({"superAdmin": true}));
    sync(&world, &mut current);
    let owner = current.owners.get_mut(&(Table::Admin, BOSS.into())).unwrap();
    owner.server = "cluster/mail/other".into();
    owner.object_uid = "another".into();
    let told = verdict_on(&full(&world, &current).verdicts, "boss");
    assert_eq!(told.reason, Reason::Conflict);
    assert!(told.message.contains("cluster/mail/other"), "{}", told.message);
    let mut wanted = wanted(&world);
    let plan = plan(
        &mut wanted,
        &current,
        &Terms { is_served: &|_| false, ..terms(ExistingRows::Fail) },
        &mut Unobtained::default(),
    );
    apply(&mut current, &plan);
    assert_eq!(current.owners[&(Table::Admin, BOSS.into())].server, SERVER, "that server is gone");
}
