//! Domains that are somebody else's in the tables.

use super::*;
use crate::tables::DomainRow;

/// `alpha.example.org` as somebody made it in `PostfixAdmin`.
fn by_hand() -> Row {
    Row::Domain(DomainRow {
        domain: "alpha.example.org".into(),
        description: "by hand".into(),
        transport: "virtual".into(),
        backupmx: false,
        aliases: 0,
        mailboxes: 0,
        maxquota: 0,
        quota: 0,
        active: true,
    })
}

/// A mailbox, an alias, a catch-all and an admin of `alpha.example.org`.
fn declared() -> World {
    let mut world = World::with_alpha();
    let alpha = json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "catchAll": [ALFRED]});
    world.domain("mail", "alpha", 1, alpha);
    alfred(&mut world, &json!({}));
    world.alias("mail", "info", 3, json!({"address": "info@alpha.example.org", "goto": [ALFRED]}));
    let boss = json!({"serverRef": {"name": "myhost"}, "username": "boss@nowhere.org", "domains": ["alpha.example.org"]});
    world.admin("mail", "boss", 4, boss);
    world
}

/// `alpha.example.org` as it was written, and with another owner.
fn alpha_of(change: impl FnMut(&mut OwnerRow)) -> Current {
    let mut current = Current::default();
    sync(&World::with_alpha(), &mut current);
    current.owners.values_mut().for_each(change);
    current
}

fn written(plan: &Plan) -> Vec<&Row> {
    plan.written().collect()
}

/// Else a tenant could give itself addresses in the domain of another one, and log in to `PostfixAdmin` as its admin.
#[test]
fn nothing_is_written_in_a_domain_that_was_there_before_its_object() {
    let (world, mut current) = (declared(), Current::default());
    insert(&mut current, by_hand());
    let planned = full(&world, &current);
    let [Row::Admin(admin)] = written(&planned.plan)[..] else { panic!("{:?}", planned.plan) };
    assert!(admin.domains.is_empty(), "{admin:?}");
    assert_eq!(planned.verdicts.len(), 4);
    for verdict in &planned.verdicts {
        assert_eq!(verdict.reason, Reason::RowExists, "{verdict:?}");
        assert!(verdict.message.contains("set existingRows: Adopt"), "{verdict:?}");
    }
    let keys = all_keys(&world, &current);
    let planned = plan_keys(&world, &current, keys, ExistingRows::Adopt);
    apply(&mut current, &planned.plan);
    assert!(
        planned.verdicts.iter().all(|verdict| verdict.reason == Reason::Synced),
        "{:?}",
        planned.verdicts
    );
    assert!(current.rows.contains_key(&(Table::Mailbox, ALFRED.to_owned())));
    assert!(full(&world, &current).plan.is_empty());
}

#[test]
fn nothing_is_written_in_the_domain_of_another_cluster() {
    let world = declared();
    let current = alpha_of(|owner| owner.server = "elsewhere/mail/myhost".into());
    let planned = full(&world, &current);
    assert!(written(&planned.plan).iter().all(|row| row.table() == Table::Admin), "{:?}", planned.plan);
    assert!(
        planned.verdicts.iter().all(|verdict| verdict.reason == Reason::Conflict),
        "{:?}",
        planned.verdicts
    );
}

#[test]
fn a_domain_that_turns_has_what_is_declared_in_it_looked_at() {
    let (mut world, mut current, mut unobtained) = (declared(), Current::default(), Unobtained::default());
    insert(&mut current, by_hand());
    let domain = Key::from_row("alpha.example.org").unwrap();
    let mut pass = |world: &World, current: &Current| {
        plan_knowing(world, current, [domain.clone()], ExistingRows::Fail, &mut unobtained);
        unobtained.take_turned()
    };
    assert_eq!(pass(&world, &current).len(), 1);
    assert!(pass(&world, &current).is_empty(), "all is known");
    current.rows.clear();
    let turned = pass(&world, &current);
    assert_eq!(turned.len(), 1);
    world.index.take_work(&myhost());
    world.index.reconsider(&turned);
    let work = world.index.take_work(&myhost()).keys;
    let address = Key::from_row(ALFRED).unwrap();
    assert!(work.contains(&address) && work.iter().any(|key| matches!(key, Key::Admin(_))), "{work:?}");
}

/// Its addresses work on: only the second row is in somebody's way.
#[test]
fn a_domain_that_lacks_its_alias_row_only_is_had() {
    let (mut world, mut current) = (declared(), Current::default());
    sync(&world, &mut current);
    world.domain("mail", "beta", 1, json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org"}));
    let alias = json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "aliasOf": "beta.example.org"});
    world.domain("mail", "alpha", 1, alias);
    let foreign = AliasDomainRow {
        alias_domain: "alpha.example.org".into(),
        target_domain: "hand.example.org".into(),
        active: true,
    };
    insert(&mut current, Row::AliasDomain(foreign));
    world.mailbox("mail", "bob", 5, json!({"address": "bob@alpha.example.org"}));
    let planned = full(&world, &current);
    let told =
        |name: &str| planned.verdicts.iter().find(|verdict| &*verdict.object.name.name == name).unwrap();
    assert_eq!((told("alpha").reason, told("bob").reason), (Reason::RowExists, Reason::Synced));
}

/// Whoever the row belongs to can't be asked, and whoever declares the domain now did not get it.
#[test]
fn nothing_is_written_in_a_domain_that_belongs_to_an_object_that_cannot_be_read() {
    let world = declared();
    let current = alpha_of(|owner| owner.object_uid = "theirs".into());
    let keys = all_keys(&world, &current);
    let mut wanted: Vec<_> =
        keys.into_iter().map(|key| (key.clone(), desired(&world.index, &myhost(), &key))).collect();
    let terms = Terms { is_unreadable: &|uid| uid == "theirs", ..terms(ExistingRows::Fail) };
    let plan = plan(&mut wanted, &current, &terms, &mut Unobtained::default());
    assert!(written(&plan).iter().all(|row| row.table() == Table::Admin), "{plan:?}");
    let mut verdicts = wanted.iter().flat_map(|(_, desired)| &desired.verdicts);
    assert!(verdicts.all(|verdict| verdict.reason == Reason::Conflict), "{wanted:?}");
}

#[test]
fn a_domain_whose_end_is_not_known_is_not_taken_for_ours() {
    let (mut world, mut current) = (World::default(), Current::default());
    world.server("mail", "myhost", json!({"hostname": "myhost.example.org"}));
    let alpha = json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "aliasOf": "beta.example.org"});
    world.domain("mail", "alpha", 1, alpha);
    alfred(&mut world, &json!({}));
    insert(&mut current, by_hand());
    let mut wanted: Vec<_> = world
        .index
        .keys_of(&myhost())
        .into_iter()
        .map(|key| {
            (
                key.clone(),
                Desired { unknown: matches!(key, Key::Domain(_)), ..desired(&world.index, &myhost(), &key) },
            )
        })
        .collect();
    let plan = plan(&mut wanted, &current, &terms(ExistingRows::Fail), &mut Unobtained::default());
    assert!(plan.is_empty(), "{plan:?}");
}
