mod admins;
mod catch_alls;
mod database;
mod existing;
mod limits;
mod maildirs;
mod moves;
mod oracle;
mod passes;
mod policy;
mod properties;
mod reached;
mod unobtained;
mod unreadable;
mod world;
mod worlds;

use serde_json::{Value, json};

use super::shared::{as_mailbox, split};
use super::*;
use crate::desired::desired;
use crate::index::rows::{Kind, ObjectId};
use crate::object::ObjectName;
use crate::tables::{AliasDomainRow, AliasRow, MailboxRow};
use crate::testing::{World, myhost};

const SERVER: &str = "cluster/mail/myhost";
const ALFRED: &str = "alfred@alpha.example.org";
const CATCH_ALL: &str = "@alpha.example.org";

/// What a database does with a plan of [`SERVER`], which may adopt.
fn apply(current: &mut Current, plan: &Plan) {
    database::carry_out(current, plan, SERVER, ExistingRows::Adopt);
}

struct Planned {
    plan: Plan,
    verdicts: Vec<Verdict>,
}

fn terms(existing_rows: ExistingRows) -> Terms<'static> {
    static HELD: BTreeSet<Key> = BTreeSet::new();
    static PASSWORDS: BTreeMap<RowId, ResolvedPassword> = BTreeMap::new();
    Terms {
        ours: "cluster/",
        server: SERVER,
        existing_rows,
        drift: Drift::Correct,
        absent: &[],
        lacking: &[],
        is_served: &|_| true,
        is_taken_over: &|_| false,
        declared: &|_| None,
        is_unreadable: &|_| false,
        held: &HELD,
        passwords: &PASSWORDS,
    }
}

fn plan_keys(
    world: &World,
    current: &Current,
    keys: impl IntoIterator<Item = Key>,
    existing_rows: ExistingRows,
) -> Planned {
    plan_knowing(world, current, keys, existing_rows, &mut Unobtained::default())
}

/// As passes do that remember which domains can't be had.
fn plan_knowing(
    world: &World,
    current: &Current,
    keys: impl IntoIterator<Item = Key>,
    existing_rows: ExistingRows,
    unobtained: &mut Unobtained,
) -> Planned {
    let index = &world.index;
    let mut wanted: Vec<_> =
        keys.into_iter().map(|key| (key.clone(), desired(index, &myhost(), &key))).collect();
    let is_unreadable = |uid: &str| index.is_unreadable(uid);
    let declared = |owner: &OwnerRow| index.policy_of(&owner.object, &owner.object_uid);
    let terms = Terms { is_unreadable: &is_unreadable, declared: &declared, ..terms(existing_rows) };
    let plan = plan(&mut wanted, current, &terms, unobtained);
    Planned { plan, verdicts: wanted.into_iter().flat_map(|(_, desired)| desired.verdicts).collect() }
}

fn all_keys(world: &World, current: &Current) -> BTreeSet<Key> {
    let owned = current.owners.keys().filter_map(|(table, key)| Key::of_row(*table, key));
    world.index.keys_of(&myhost()).into_iter().chain(owned).collect()
}

fn full(world: &World, current: &Current) -> Planned {
    plan_keys(world, current, all_keys(world, current), ExistingRows::Fail)
}

fn sync(world: &World, current: &mut Current) -> Vec<Verdict> {
    let planned = full(world, current);
    apply(current, &planned.plan);
    planned.verdicts
}

fn alias(current: &Current, address: &str) -> AliasRow {
    as_alias(&current.rows[&(Table::Alias, address.to_owned())]).unwrap().clone()
}

fn unmanaged_alias(address: &str, goto: &str) -> Row {
    Row::Alias(AliasRow {
        address: address.into(),
        goto: goto.into(),
        domain: "alpha.example.org".into(),
        description: String::new(),
        active: true,
    })
}

fn insert(current: &mut Current, row: Row) {
    current.rows.insert((row.table(), row.key().to_owned()), row);
}

/// A server that admits a tenant by its labels.
fn open_server() -> World {
    let mut world = World::default();
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"mail": "yes"}}});
    world.server("mail", "myhost", json!({"hostname": "myhost.example.org", "allowedNamespaces": selector}));
    world
}

fn alfred(world: &mut World, extra: &Value) {
    let mut spec = json!({"address": "alfred@alpha.example.org"});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    world.mailbox("mail", "alfred", 2, spec);
}

fn alpha(world: &mut World, extra: &Value) {
    let mut spec = json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org"});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    world.domain("mail", "alpha", 1, spec);
}

fn id(table: Table, key: &str) -> RowId {
    (table, key.to_owned())
}

fn on(verdicts: &[Verdict], kind: Kind, name: &str) -> Reason {
    let mut on = verdicts
        .iter()
        .filter(|verdict| verdict.object.kind == kind && verdict.object.name.to_string() == name);
    let verdict = on.next().unwrap();
    assert!(on.next().is_none(), "one verdict");
    verdict.reason
}

fn active(current: &Current, table: Table, key: &str) -> Option<bool> {
    current.rows.get(&id(table, key)).and_then(Row::active)
}

fn is_owned(current: &Current, table: Table, key: &str) -> bool {
    current.owners.contains_key(&id(table, key))
}

fn adopt(world: &World, current: &mut Current) -> Vec<Verdict> {
    let planned = plan_keys(world, current, all_keys(world, current), ExistingRows::Adopt);
    apply(current, &planned.plan);
    planned.verdicts
}

#[test]
fn a_loser_has_no_row_even_where_the_winner_can_have_none() {
    let mut world = World::with_alpha();
    world.alias("mail", "late", 5, json!({"address": "bob@alpha.example.org", "goto": ["x@elsewhere.org"]}));
    let mut current = Current::default();
    sync(&world, &mut current);
    let foreign = Row::Mailbox(MailboxRow {
        username: "bob@alpha.example.org".into(),
        password: "theirs".into(),
        name: String::new(),
        maildir: "theirs/".into(),
        quota: 0,
        local_part: "bob".into(),
        domain: "alpha.example.org".into(),
        active: true,
    });
    current.rows.insert((Table::Mailbox, "bob@alpha.example.org".into()), foreign.clone());
    world.mailbox("mail", "bob", 2, json!({"address": "bob@alpha.example.org"}));
    sync(&world, &mut current);
    let left: Vec<&Row> = current.rows.values().filter(|row| row.key() == "bob@alpha.example.org").collect();
    assert_eq!(left, [&foreign]);
    assert!(current.owners.keys().all(|(_, key)| key != "bob@alpha.example.org"));
}

#[test]
fn drift_is_mended_and_told_from_a_changed_wish() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({"displayName": "Alfred"}));
    sync(&world, &mut current);
    let synced = current.clone();
    current.rows.remove(&(Table::Mailbox, "alfred@alpha.example.org".into()));
    let planned = full(&world, &current);
    assert_eq!(planned.plan.drifted, [(Table::Mailbox, "alfred@alpha.example.org".into())]);
    apply(&mut current, &planned.plan);
    assert_eq!(current, synced);
    alfred(&mut world, &json!({"displayName": "Alfred the Great"}));
    let planned = full(&world, &current);
    assert_eq!((planned.plan.updates.len(), planned.plan.drifted.len()), (1, 0));
}

fn drifted(world: &World, current: &Current) -> Planned {
    let mut wanted: Vec<_> = all_keys(world, current)
        .into_iter()
        .map(|key| (key.clone(), desired(&world.index, &myhost(), &key)))
        .collect();
    let terms = Terms { drift: Drift::Report, ..terms(ExistingRows::Fail) };
    let plan = plan(&mut wanted, current, &terms, &mut Unobtained::default());
    Planned { plan, verdicts: wanted.into_iter().flat_map(|(_, desired)| desired.verdicts).collect() }
}

#[test]
fn reported_drift_is_left_and_told_until_the_object_changes() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({"displayName": "Alfred"}));
    sync(&world, &mut current);
    current.rows.remove(&(Table::Mailbox, "alfred@alpha.example.org".into()));
    for _ in 0..2 {
        let planned = drifted(&world, &current);
        assert!(planned.plan.is_empty());
        assert_eq!(planned.plan.drifted, [(Table::Mailbox, "alfred@alpha.example.org".into())]);
        assert!(planned.verdicts.iter().any(|verdict| verdict.reason == Reason::DriftDetected));
    }
    alfred(&mut world, &json!({"displayName": "Alfred the Great"}));
    let planned = drifted(&world, &current);
    assert_eq!((planned.plan.inserts.len(), planned.plan.drifted.len()), (1, 0));
}

#[test]
fn a_column_that_the_tables_lack_is_not_planned_again_and_again() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    let spec = json!({"address": "info@alpha.example.org", "goto": ["a@elsewhere.org"], "description": "d"});
    world.alias("mail", "info", 2, spec);
    sync(&world, &mut current);
    let Some(Row::Alias(row)) = current.rows.get_mut(&(Table::Alias, "info@alpha.example.org".into())) else {
        panic!("no row")
    };
    row.description = String::new();
    let key = Key::from_row("info@alpha.example.org").unwrap();
    let mut wanted = vec![(key.clone(), desired(&world.index, &myhost(), &key))];
    let terms = Terms { absent: &[(Table::Alias, SharedColumn::Description)], ..terms(ExistingRows::Fail) };
    assert!(plan(&mut wanted, &current, &terms, &mut Unobtained::default()).is_empty());
}

#[test]
fn the_log_tells_what_was_done_in_postfixadmins_words() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    let mut done = |change: &dyn Fn(&mut World)| {
        change(&mut world);
        let plan = full(&world, &current).plan;
        apply(&mut current, &plan);
        plan.log.iter().map(|row| row.action).collect::<Vec<_>>()
    };
    let actions = done(&|world| alfred(world, &json!({"deletionPolicy": "Disable"})));
    assert_eq!(actions, ["create_domain", "create_mailbox", "create_alias"]);
    let actions =
        done(&|world| alfred(world, &json!({"deletionPolicy": "Disable", "displayName": "Alfred"})));
    assert_eq!(actions, ["edit_mailbox"]);
    assert!(done(&|_| ()).is_empty());
    let actions = done(&|world| world.index.remove_mailbox(&ObjectName::new("mail", "alfred")));
    assert_eq!(actions, ["edit_mailbox_state", "edit_alias_state"]);
    assert_eq!(
        done(&|world| world.index.remove_domain(&ObjectName::new("mail", "alpha"))),
        ["delete_domain"]
    );
}

#[test]
fn deletion_policies_delete_disable_or_retain() {
    for (policy, left) in [("Delete", None), ("Disable", Some(false)), ("Retain", Some(true))] {
        let (mut world, mut current) = (World::with_alpha(), Current::default());
        alfred(&mut world, &json!({"deletionPolicy": policy}));
        sync(&world, &mut current);
        world.index.remove_mailbox(&ObjectName::new("mail", "alfred"));
        sync(&world, &mut current);
        let row = current.rows.get(&(Table::Mailbox, "alfred@alpha.example.org".into()));
        assert_eq!(row.and_then(as_mailbox).map(|row| row.active), left, "{policy}");
        assert!(current.owners.keys().all(|(_, key)| key == "alpha.example.org"), "{policy}");
    }
}

#[test]
fn a_password_is_fetched_when_it_is_new_changed_or_drifted() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({"passwordHashSecretKeyRef": {"name": "hashes", "key": "alfred"}}));
    let key = Key::from_row("alfred@alpha.example.org").unwrap();
    let needs = |world: &World, current: &Current| {
        desired(&world.index, &myhost(), &key).wants.iter().any(|want| needs_password(want, current))
    };
    assert!(!needs(&world, &current), "there is no Secret yet");
    let missing = sync(&world, &mut current);
    assert!(missing.iter().any(|verdict| verdict.reason == Reason::SecretNotFound));
    world.index.apply_secret(ObjectName::new("mail", "hashes"), "1".into());
    assert!(needs(&world, &current));
    let mut wanted = vec![(key.clone(), desired(&world.index, &myhost(), &key))];
    let id = (Table::Mailbox, "alfred@alpha.example.org".to_owned());
    let passwords = BTreeMap::from([(id, ResolvedPassword::Hash("82fU0EHEzA6wo".into()))]);
    let terms = Terms { passwords: &passwords, ..terms(ExistingRows::Fail) };
    let written = plan(&mut wanted, &current, &terms, &mut Unobtained::default());
    apply(&mut current, &written);
    assert!(!needs(&world, &current));
    assert!(full(&world, &current).plan.is_empty());
    let id = (Table::Mailbox, "alfred@alpha.example.org".to_owned());
    let Some(Row::Mailbox(row)) = current.rows.get_mut(&id) else { panic!("no row") };
    row.password = "changed by hand".into();
    assert!(needs(&world, &current));
}

#[test]
fn a_weak_hash_is_told_at_every_pass_and_goes_with_its_secret() {
    let (mut world, mut current) = (World::with_alpha(), Current::default());
    alfred(&mut world, &json!({"passwordHashSecretKeyRef": {"name": "hashes", "key": "alfred"}}));
    let key = Key::from_row("alfred@alpha.example.org").unwrap();
    let secret = ObjectName::new("mail", "hashes");
    sync(&world, &mut current);
    let give = |world: &World, current: &mut Current, hash: &str| {
        let mut wanted = vec![(key.clone(), desired(&world.index, &myhost(), &key))];
        let hash = ResolvedPassword::Hash(hash.into());
        let id = (Table::Mailbox, "alfred@alpha.example.org".to_owned());
        let passwords = BTreeMap::from([(id, hash)]);
        let written = plan(
            &mut wanted,
            current,
            &Terms { passwords: &passwords, ..terms(ExistingRows::Fail) },
            &mut Unobtained::default(),
        );
        apply(current, &written);
        wanted[0].1.verdicts[0].clone()
    };
    world.index.apply_secret(secret.clone(), "1".into());
    let told = give(&world, &mut current, "82fU0EHEzA6wo");
    assert_eq!(told.reason, Reason::Synced);
    let warning = |verdicts: &[Verdict]| {
        verdicts
            .iter()
            .filter_map(|verdict| verdict.warning.clone())
            .find(|(reason, _)| *reason == Reason::WeakPassword)
    };
    let (_, message) = warning(&[told]).expect("a weak hash is told");
    assert!(message.contains("DES-CRYPT") && !message.contains("82fU0EHEzA6wo"), "{message}");
    assert!(warning(&full(&world, &current).verdicts).is_some(), "and again when nothing has changed");
    world.index.apply_secret(secret.clone(), "2".into());
    assert!(warning(&[give(&world, &mut current, "{BLF-CRYPT}$2y$10$hash")]).is_none());

    world.index.remove_secret(&secret);
    let told = sync(&world, &mut current);
    assert!(told.iter().any(|verdict| verdict.reason == Reason::SecretNotFound));
    let Some(Row::Mailbox(row)) = current.rows.get(&(Table::Mailbox, key.as_str().to_owned())) else {
        panic!("the row stays")
    };
    assert_eq!(row.password, LOCKED_PASSWORD);
}
