use serde_json::{Value, json};

use super::*;
use crate::desired::{desired, unserved};
use crate::index::Key;
use crate::index::rows::Kind;
use crate::testing::{World, myhost};

fn key(username: &str) -> Key {
    Key::Admin(Address::parse(username).unwrap())
}

fn admin(world: &mut World, namespace: &str, created: i64, username: &str, extra: &Value) {
    let mut spec = json!({"serverRef": {"name": "myhost", "namespace": "mail"}, "username": username});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    world.admin(namespace, "admin", created, spec);
}

fn open_to_all(world: &mut World) {
    world.server(
        "mail",
        "myhost",
        json!({"hostname": "myhost.example.org", "allowedNamespaces": {"from": "All"}}),
    );
}

fn row(desired: &Desired) -> Option<&AdminTableRow> {
    desired.wants.first().map(|want| match &want.row {
        Row::Admin(row) => row,
        other => panic!("{other:?}"),
    })
}

fn reasons(verdicts: &[Verdict]) -> Vec<(String, Reason)> {
    verdicts.iter().map(|verdict| (verdict.object.name.to_string(), verdict.reason)).collect()
}

fn on_boss(world: &World) -> Desired {
    desired(&world.index, &myhost(), &key("boss@nowhere.org"))
}

#[test]
fn a_super_admin_has_all_domains_and_no_domain_must_be_served_for_it() {
    let mut world = World::default();
    world.server("mail", "myhost", json!({"hostname": "myhost.example.org"}));
    admin(&mut world, "mail", 2, "Boss@Nowhere.org", &json!({"superAdmin": true}));
    let desired = on_boss(&world);
    let row = row(&desired).unwrap();
    assert_eq!((row.username.as_str(), row.superadmin, row.active), ("boss@nowhere.org", true, true));
    assert_eq!(row.domains, ["ALL".to_owned()].into());
    assert_eq!(reasons(&desired.verdicts), [("mail/admin".into(), Reason::Synced)]);
    assert_eq!(world.index.keys_of(&myhost()), [key("boss@nowhere.org")]);
}

#[test]
fn a_domain_that_is_not_served_here_is_named_and_the_others_are_given() {
    let mut world = World::with_alpha();
    let domains = json!({"domains": ["alpha.example.org", "beta.example.org", "gamma.example.org"]});
    admin(&mut world, "mail", 2, "boss@nowhere.org", &domains);
    let desired = on_boss(&world);
    assert_eq!(row(&desired).unwrap().domains, ["alpha.example.org".to_owned()].into());
    assert_eq!(desired.verdicts[0].reason, Reason::UnknownDomain);
    assert!(desired.verdicts[0].message.starts_with("beta.example.org is not given"));
    assert!(desired.verdicts[0].message.contains("1 more"));

    world.index.take_work(&myhost());
    world.domain("mail", "beta", 3, json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org"}));
    assert!(world.index.take_work(&myhost()).keys.contains(&key("boss@nowhere.org")));
    assert_eq!(row(&on_boss(&world)).unwrap().domains.len(), 2);
}

#[test]
fn a_tenant_manages_what_admits_it_and_is_never_a_super_admin() {
    let mut world = World::with_alpha();
    open_to_all(&mut world);
    world.domain("mail", "beta", 1, json!({
        "serverRef": {"name": "myhost"}, "domain": "beta.example.org", "allowedNamespaces": {"from": "All"},
    }));
    let both = json!({"domains": ["alpha.example.org", "beta.example.org"]});
    admin(&mut world, "tenant", 2, "boss@nowhere.org", &both);
    let desired = on_boss(&world);
    assert_eq!(row(&desired).unwrap().domains, ["beta.example.org".to_owned()].into());
    assert_eq!(desired.verdicts[0].reason, Reason::NotAllowed);
    assert!(
        desired.verdicts[0].message.contains("MailDomain mail/alpha does not admit the namespace tenant")
    );

    admin(&mut world, "tenant", 2, "boss@nowhere.org", &json!({"superAdmin": true}));
    let desired = on_boss(&world);
    assert_eq!(row(&desired), None);
    assert_eq!(reasons(&desired.verdicts), [("tenant/admin".into(), Reason::NotAllowed)]);
}

#[test]
fn a_stranger_does_not_keep_a_username_from_those_who_may_have_it() {
    let mut world = World::with_alpha();
    admin(&mut world, "tenant", 1, "boss@nowhere.org", &json!({"domains": ["alpha.example.org"]}));
    admin(&mut world, "mail", 9, "boss@nowhere.org", &json!({"superAdmin": true}));
    let desired = on_boss(&world);
    assert_eq!(*desired.wants[0].uid, *"mail-admin");
    assert_eq!(reasons(&desired.verdicts), [("mail/admin".into(), Reason::Synced)]);
    let strangers = unserved(&world.index, &key("boss@nowhere.org"));
    assert_eq!(reasons(&strangers), [("tenant/admin".into(), Reason::NotAllowed)]);

    open_to_all(&mut world);
    let desired = on_boss(&world);
    assert_eq!(
        reasons(&desired.verdicts),
        [("tenant/admin".into(), Reason::NotAllowed), ("mail/admin".into(), Reason::Conflict)]
    );
}

#[test]
fn an_admin_waits_for_its_server() {
    let mut world = World::default();
    admin(&mut world, "mail", 2, "boss@nowhere.org", &json!({"superAdmin": true}));
    assert_eq!(world.index.take_unserved(), [key("boss@nowhere.org")].into());
    let told = unserved(&world.index, &key("boss@nowhere.org"));
    assert_eq!(reasons(&told), [("mail/admin".into(), Reason::UnknownServer)]);
    assert!(told[0].message.contains("mail/myhost"));
    world.server("mail", "myhost", json!({"hostname": "myhost.example.org"}));
    world.index.take_unserved();
    assert!(world.index.take_work(&myhost()).keys.contains(&key("boss@nowhere.org")));
    assert!(unserved(&world.index, &key("boss@nowhere.org")).is_empty());
}

#[test]
fn admins_follow_their_secrets_their_server_and_the_labels_of_their_namespace() {
    let mut world = World::with_alpha();
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"mail": "yes"}}});
    world.server("mail", "myhost", json!({"hostname": "myhost.example.org", "allowedNamespaces": selector}));
    let password = json!({
        "domains": ["alpha.example.org"], "passwordSecretKeyRef": {"name": "passwords", "key": "boss"},
    });
    admin(&mut world, "tenant", 2, "boss@nowhere.org", &password);
    world.index.take_work(&myhost());
    let touched =
        |world: &mut World| world.index.take_work(&myhost()).keys == [key("boss@nowhere.org")].into();
    world.index.apply_secret(ObjectName::new("tenant", "passwords"), "1".into());
    assert!(touched(&mut world));
    world.index.apply_namespace("tenant", Some([("mail".to_owned(), "yes".to_owned())].into()));
    assert!(touched(&mut world));
    assert_eq!(on_boss(&world).wants[0].password.as_ref().unwrap().version.as_deref(), Some("1"));
    admin(&mut world, "tenant", 2, "boss@nowhere.org", &json!({"domains": ["alpha.example.org"]}));
    assert!(touched(&mut world));
    world.index.apply_secret(ObjectName::new("tenant", "passwords"), "2".into());
    assert!(!world.index.has_work(&myhost()), "the password is not referred to any more");
    world.index.remove(&ObjectId { kind: Kind::Admin, name: ObjectName::new("tenant", "admin") });
    assert!(touched(&mut world));
    assert_eq!(on_boss(&world), Desired::default());
}

#[test]
fn without_a_database_there_is_nothing_to_log_in_to() {
    let mut world = World::with_alpha();
    world.server("mail", "myhost", json!({"hostname": "myhost.example.org", "lookupTables": "lmdb"}));
    admin(&mut world, "mail", 2, "boss@nowhere.org", &json!({"superAdmin": true}));
    let desired = on_boss(&world);
    assert!(desired.wants.is_empty());
    assert_eq!(reasons(&desired.verdicts), [("mail/admin".into(), Reason::Invalid)]);
}
