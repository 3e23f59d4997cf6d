//! Objects that can't be parsed, as after a downgrade and a restart of the operator.

use super::*;
use crate::api::DomainName;
use crate::index::Outline;

fn with_uid(uid: &str) -> Outline {
    Outline { uid: uid.into(), ..Outline::default() }
}

/// What can be read of the `MailDomain` that [`alpha`] declares.
fn outline(server: Option<ObjectName>) -> Outline {
    let domain = DomainName::parse("alpha.example.org").ok();
    Outline { created: 1, domain, server, ..with_uid("mail-alpha") }
}

fn alpha_id() -> ObjectId {
    ObjectId { kind: Kind::Domain, name: ObjectName::new("mail", "alpha") }
}

/// All that is declared beside the older `MailDomain` of alpha: a younger one of a tenant, and accounts of both.
fn beside_alpha() -> World {
    let mut world = World::default();
    let server = json!({"hostname": "myhost.example.org", "allowedNamespaces": {"from": "All"}});
    world.server("mail", "myhost", server);
    let younger =
        json!({"serverRef": {"name": "myhost", "namespace": "mail"}, "domain": "alpha.example.org"});
    world.domain("tenant", "younger", 5, younger);
    world.mailbox("tenant", "alfred", 6, json!({"address": ALFRED}));
    alfred(&mut world, &json!({"uid": 950}));
    let admin = json!({
        "serverRef": {"name": "myhost"}, "username": "boss@nowhere.org", "domains": ["alpha.example.org"],
    });
    world.admin("mail", "boss", 7, admin);
    world
}

/// The world before a restart, and that after it, in which alfred's mailbox can't be parsed, whose rows are there.
fn restarted_with_alfred_unreadable() -> ([World; 2], Current, ObjectId) {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({}));
    sync(&world, &mut current);
    let mut restarted = World::with_alpha();
    let id = ObjectId { kind: Kind::Mailbox, name: ObjectName::new("mail", "alfred") };
    restarted.index.apply_unreadable(id.clone(), with_uid("mail-alfred"));
    ([world, restarted], current, id)
}

#[test]
fn an_object_that_cannot_be_parsed_keeps_its_rows() {
    let ([_, mut restarted], current, id) = restarted_with_alfred_unreadable();
    assert!(full(&restarted, &current).plan.is_empty());
    restarted.index.remove(&id);
    assert_eq!(full(&restarted, &current).plan.deletes.len(), 2);
}

/// After a restart nothing is known of it, here not even which domain it declares.
#[test]
fn a_domain_that_cannot_be_parsed_costs_its_addresses_nothing() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({}));
    world.domain(
        "mail",
        "delta",
        1,
        json!({"serverRef": {"name": "myhost"}, "domain": "delta.example.org", "aliasOf": "alpha.example.org"}),
    );
    sync(&world, &mut current);
    let alpha = ObjectId { kind: Kind::Domain, name: ObjectName::new("mail", "alpha") };
    world.index.remove(&alpha);
    world.index.apply_unreadable(alpha.clone(), with_uid("mail-alpha"));
    assert!(full(&world, &current).plan.is_empty());
    world.index.remove(&alpha);
    assert_eq!(full(&world, &current).plan.deletes.len(), 4, "alpha, alfred's two and the alias domain");
}

#[test]
fn a_younger_domain_gets_nothing_of_an_older_one_that_cannot_be_parsed() {
    for server in [None, Some(myhost())] {
        let mut current = Current::default();
        let mut world = beside_alpha();
        alpha(&mut world, &json!({"catchAll": ["x@elsewhere.org"]}));
        sync(&world, &mut current);
        let mut restarted = beside_alpha();
        restarted.index.apply_unreadable(alpha_id(), outline(server));
        let planned = full(&restarted, &current);
        assert!(planned.plan.is_empty(), "{:?}", planned.plan);
        assert_eq!(on(&planned.verdicts, Kind::Admin, "mail/boss"), Reason::UnknownDomain);
        let told = |key: &str| crate::desired::unserved(&restarted.index, &Key::from_row(key).unwrap());
        let on_domain = told("alpha.example.org");
        assert_eq!(on(&on_domain, Kind::Domain, "tenant/younger"), Reason::Conflict);
        assert_eq!(on_domain.len(), 1, "nobody else is told");
        assert!(
            on_domain[0].message.contains("MailDomain mail/alpha can't be read"),
            "{}",
            on_domain[0].message
        );
        assert_eq!(on(&told(ALFRED), Kind::Mailbox, "mail/alfred"), Reason::UnknownDomain);

        restarted.index.take_work(&myhost());
        alpha(&mut restarted, &json!({"catchAll": ["x@elsewhere.org"]}));
        assert!(restarted.index.take_work(&myhost()).all);
        assert!(full(&restarted, &current).plan.is_empty(), "readable: as it was");
        restarted.index.apply_unreadable(alpha_id(), outline(None));
        restarted.index.remove(&alpha_id());
        let told = sync(&restarted, &mut current);
        assert_eq!(on(&told, Kind::Domain, "tenant/younger"), Reason::Synced, "gone: the next one's");
    }
}

#[test]
fn an_unreadable_domain_that_its_server_would_not_admit_keeps_nobody_out() {
    let world = |admits: &str| {
        let mut world = World::with_alpha();
        let server = json!({"hostname": "myhost.example.org", "allowedNamespaces": {"from": admits}});
        world.server("mail", "myhost", server);
        alfred(&mut world, &json!({}));
        world
    };
    let mut current = Current::default();
    sync(&world("Same"), &mut current);
    let squatter = ObjectId { kind: Kind::Domain, name: ObjectName::new("tenant", "squatter") };
    let mut restarted = world("Same");
    let older = Outline { created: 0, ..outline(Some(myhost())) };
    restarted.index.apply_unreadable(squatter.clone(), Outline { uid: "squatter".into(), ..older.clone() });
    let planned = full(&restarted, &current);
    assert!(planned.plan.is_empty());
    assert!(
        planned.verdicts.iter().all(|verdict| verdict.reason == Reason::Synced),
        "{:?}",
        planned.verdicts
    );
    restarted.server(
        "mail",
        "myhost",
        json!({"hostname": "myhost.example.org", "allowedNamespaces": {"from": "All"}}),
    );
    assert!(full(&restarted, &current).verdicts.is_empty(), "it may be the holder now");
    restarted.index.remove(&squatter);
    assert_eq!(full(&restarted, &current).verdicts.len(), 2);
}

#[test]
fn a_younger_domain_that_cannot_be_parsed_takes_nothing() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({}));
    let id = ObjectId { kind: Kind::Domain, name: ObjectName::new("mail", "younger") };
    world.index.apply_unreadable(id, Outline { created: 9, ..outline(Some(myhost())) });
    let told = sync(&world, &mut current);
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|verdict| verdict.reason == Reason::Synced), "{told:?}");
    assert_eq!(current.rows.len(), 3);
}

#[test]
fn who_would_take_over_what_an_unreadable_object_has_is_told_so() {
    let ([mut world, mut restarted], current, id) = restarted_with_alfred_unreadable();
    restarted.alias("mail", "next", 5, json!({"address": ALFRED, "goto": ["x@elsewhere.org"]}));
    let planned = full(&restarted, &current);
    assert!(planned.plan.is_empty());
    assert_eq!(on(&planned.verdicts, Kind::Alias, "mail/next"), Reason::Conflict);
    // As long as the operator runs, the last readable form counts.
    world.index.apply_unreadable(id, with_uid("mail-alfred"));
    assert_eq!(on(&full(&world, &current).verdicts, Kind::Mailbox, "mail/alfred"), Reason::Synced);
}
