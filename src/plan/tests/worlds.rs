//! What holds of the verdicts in any world: catch-alls, policies, fields that come and go, objects that are made anew.

use proptest::prelude::*;

use super::*;
use crate::api::{MailAdmin, MailAlias, MailDomain, Mailbox};
use crate::desired::is_empty;
use crate::index::rows::Kind;

/// What may happen. `anew`: the object is deleted and made again, with another uid, and no pass in between.
#[derive(Clone, Debug)]
enum Edit {
    Mailbox {
        tenant: bool,
        at: u8,
        anew: bool,
        active: Option<bool>,
        forwards: bool,
        uid: bool,
        policy: u8,
    },
    Alias {
        tenant: bool,
        at: u8,
        anew: bool,
        active: Option<bool>,
        to: u8,
        policy: u8,
    },
    Domain {
        number: u8,
        anew: bool,
        catch_all: bool,
        alias_of: bool,
        uid: bool,
        policy: u8,
        open: bool,
    },
    Admin {
        tenant: bool,
        policy: u8,
        superior: bool,
    },
    Remove {
        kind: u8,
        tenant: bool,
        at: u8,
    },
    /// The server admits the tenant's domains and admins, or not any more.
    Admit(bool),
    /// The row of somebody else, or a change of one of ours.
    Foreign {
        mailbox: bool,
        at: u8,
    },
}

fn edit() -> impl Strategy<Value = Edit> {
    let active = || prop::option::of(any::<bool>());
    prop_oneof![
        4 => (any::<bool>(), 0..4u8, any::<bool>(), active(), any::<bool>(), any::<bool>(), 0..3u8).prop_map(
            |(tenant, at, anew, active, forwards, uid, policy)| Edit::Mailbox { tenant, at, anew, active, forwards, uid, policy }
        ),
        3 => (any::<bool>(), 0..6u8, any::<bool>(), active(), 0..9u8, 0..3u8).prop_map(
            |(tenant, at, anew, active, to, policy)| Edit::Alias { tenant, at, anew, active, to, policy }
        ),
        3 => (0..4u8, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0..3u8, any::<bool>()).prop_map(
            |(number, anew, catch_all, alias_of, uid, policy, open)| Edit::Domain { number, anew, catch_all, alias_of, uid, policy, open }
        ),
        1 => (any::<bool>(), 0..3u8, any::<bool>()).prop_map(
            |(tenant, policy, superior)| Edit::Admin { tenant, policy, superior }
        ),
        3 => (0..4u8, any::<bool>(), 0..6u8).prop_map(|(kind, tenant, at)| Edit::Remove { kind, tenant, at }),
        1 => any::<bool>().prop_map(Edit::Admit),
        1 => (any::<bool>(), 0..6u8).prop_map(|(mailbox, at)| Edit::Foreign { mailbox, at }),
    ]
}

fn address(number: u8) -> String {
    match number {
        0 => "a@alpha.example.org".into(),
        1 => "b@alpha.example.org".into(),
        2 => "a@beta.example.org".into(),
        3 => "b@beta.example.org".into(),
        4 => "@alpha.example.org".into(),
        5 => "@beta.example.org".into(),
        6 => "a+x@alpha.example.org".into(),
        7 => "nobody@beta.example.org".into(),
        _ => "x@elsewhere.org".into(),
    }
}

/// An address that an alias may name: no catch-all.
fn target(number: u8) -> String {
    address(number).replacen("@alpha", "c@alpha", usize::from(number == 4)).replacen(
        "@beta",
        "c@beta",
        usize::from(number == 5),
    )
}

fn namespace(tenant: bool) -> &'static str {
    if tenant { "tenant" } else { "mail" }
}

/// A world in which objects are made anew.
struct Live {
    world: World,
    current: Current,
    unobtained: Unobtained,
    /// How often something was made.
    made: u32,
    uids: BTreeMap<ObjectId, u32>,
}

impl Live {
    fn new() -> Self {
        Self {
            world: open_server(),
            current: Current::default(),
            unobtained: Unobtained::default(),
            made: 0,
            uids: BTreeMap::new(),
        }
    }

    fn object<K: serde::de::DeserializeOwned>(
        &mut self,
        kind: Kind,
        (tenant, name): (bool, &str),
        anew: bool,
        spec: &Value,
    ) -> K {
        let id = ObjectId { kind, name: ObjectName::new(namespace(tenant), name) };
        self.made += 1;
        if anew {
            self.world.index.remove(&id);
            self.uids.remove(&id);
        }
        let made = *self.uids.entry(id).or_insert(self.made);
        let created = jiff::Timestamp::from_second(i64::from(made)).unwrap().to_string();
        let metadata = json!({
            "namespace": namespace(tenant), "name": name, "uid": format!("uid-{made}"), "generation": 1,
            "creationTimestamp": created,
        });
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn take(&mut self, edit: &Edit) {
        let policies = ["Delete", "Disable", "Retain"];
        match *edit {
            Edit::Mailbox { tenant, at, anew, active, forwards, uid, policy } => {
                let spec = json!({
                    "address": address(at), "active": active, "uid": uid.then_some(950),
                    "forwardTo": forwards.then_some(["x@elsewhere.org"]), "deletionPolicy": policies[usize::from(policy)],
                });
                let name = format!("m{at}");
                let object: Mailbox = self.object(Kind::Mailbox, (tenant, &name), anew, &spec);
                self.world.index.apply_mailbox(ObjectName::of(&object), (&object).into());
            }
            Edit::Alias { tenant, at, anew, active, to, policy } => {
                let spec = json!({
                    "address": address(at), "goto": [target(to)], "active": active,
                    "deletionPolicy": policies[usize::from(policy)],
                });
                let name = format!("a{at}");
                let object: MailAlias = self.object(Kind::Alias, (tenant, &name), anew, &spec);
                self.world.index.apply_alias(ObjectName::of(&object), (&object).into());
            }
            Edit::Domain { number, anew, catch_all, alias_of, uid, policy, open } => {
                let (tenant, beta) = (number & 1 != 0, number & 2 != 0);
                let domains = ["alpha.example.org", "beta.example.org"];
                let (domain, other) = (domains[usize::from(beta)], domains[usize::from(!beta)]);
                let spec = json!({
                    "serverRef": {"name": "myhost", "namespace": "mail"}, "domain": domain,
                    "catchAll": catch_all.then(|| [format!("a@{domain}")]), "aliasOf": (alias_of && !catch_all).then_some(other),
                    "uid": uid.then_some(960), "deletionPolicy": policies[usize::from(policy)],
                    "allowedNamespaces": {"from": if open { "All" } else { "Same" }},
                });
                let name = format!("d{number}");
                let object: MailDomain = self.object(Kind::Domain, (tenant, &name), anew, &spec);
                self.world.index.apply_domain(ObjectName::of(&object), (&object).into());
            }
            Edit::Admin { tenant, policy, superior } => {
                let mut spec = json!({
                    "serverRef": {"name": "myhost", "namespace": "mail"}, "username": "boss@nowhere.org",
                    "deletionPolicy": policies[usize::from(policy)],
                });
                if superior {
                    spec["superAdmin"] = json!(true);
                } else {
                    spec["domains"] = json!(["alpha.example.org"]);
                }
                let object: MailAdmin = self.object(Kind::Admin, (tenant, "boss"), false, &spec);
                self.world.index.apply_admin(ObjectName::of(&object), (&object).into());
            }
            Edit::Remove { kind, tenant, at } => {
                let (kind, tenant, name) = match kind {
                    0 => (Kind::Mailbox, tenant, format!("m{at}")),
                    1 => (Kind::Alias, tenant, format!("a{at}")),
                    2 => (Kind::Domain, at & 1 != 0, format!("d{at}")),
                    _ => (Kind::Admin, tenant, "boss".to_owned()),
                };
                let id = ObjectId { kind, name: ObjectName::new(namespace(tenant), &name) };
                self.world.index.remove(&id);
                self.uids.remove(&id);
            }
            Edit::Admit(admitted) => {
                let labels = [("mail".to_owned(), if admitted { "yes" } else { "no" }.to_owned())];
                self.world.index.apply_namespace("tenant", Some(labels.into()));
            }
            Edit::Foreign { mailbox, at } => self.write_by_hand(mailbox, at),
        }
    }

    fn write_by_hand(&mut self, mailbox: bool, at: u8) {
        let key = address(at);
        let row = if mailbox && at < 4 {
            Row::Mailbox(MailboxRow {
                username: key.clone(),
                password: "theirs".into(),
                name: "By Hand".into(),
                maildir: "hand/".into(),
                quota: 0,
                local_part: "hand".into(),
                domain: "alpha.example.org".into(),
                active: false,
            })
        } else {
            unmanaged_alias(&key, "z@elsewhere.org")
        };
        self.current.rows.entry((row.table(), key)).or_insert(row);
    }

    /// Passes over what was touched, and over what those turned; gives what they say.
    fn pass(&mut self, existing_rows: ExistingRows) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        while self.world.index.has_work(&myhost()) {
            let keys = self.world.index.take_work(&myhost()).keys;
            let planned = plan_knowing(&self.world, &self.current, keys, existing_rows, &mut self.unobtained);
            apply(&mut self.current, &planned.plan);
            self.world.index.reconsider(&self.unobtained.take_turned());
            verdicts.extend(planned.verdicts);
        }
        verdicts
    }

    /// Everything that anything could be declared under.
    fn every_key(&self) -> BTreeSet<Key> {
        let rows = (0..6).map(address).chain(["alpha.example.org".to_owned(), "beta.example.org".to_owned()]);
        let owned = all_keys(&self.world, &self.current).into_iter();
        rows.filter_map(|row| Key::from_row(&row))
            .chain(Key::of_row(Table::Admin, "boss@nowhere.org"))
            .chain(owned)
            .collect()
    }

    /// Everything that is said at a full comparison, by the set loop and where no server serves.
    fn verdicts(&self, existing_rows: ExistingRows) -> Planned {
        let keys = self.every_key();
        let mut planned = plan_keys(&self.world, &self.current, keys.clone(), existing_rows);
        planned.verdicts.extend(keys.iter().flat_map(|key| crate::desired::unserved(&self.world.index, key)));
        planned
    }
}

/// Whether the tables have what an object wants, and have it for the object. What it took over may be switched off.
fn has(current: &Current, want: &Want) -> bool {
    let id = (want.row.table(), want.row.key().to_owned());
    let is_owned = current.owners.get(&id).is_some_and(|owner| *owner.object_uid == *want.uid);
    let is_there = current.rows.get(&id).is_some_and(|row| match (row, &want.row) {
        (Row::Alias(row), Row::Alias(wanted)) => {
            wanted.goto.split(',').all(|target| row.goto.split(',').any(|there| there == target))
        }
        (Row::Admin(row), Row::Admin(wanted)) => row.domains == wanted.domains,
        (Row::Mailbox(row), Row::Mailbox(wanted)) => row.username == wanted.username,
        (Row::Domain(row), Row::Domain(wanted)) => row.domain == wanted.domain,
        (Row::AliasDomain(row), Row::AliasDomain(wanted)) => row.target_domain == wanted.target_domain,
        (row, wanted) => row == wanted,
    });
    is_owned && is_there
}

proptest! {
    #[test]
    fn who_is_told_that_all_is_well_has_every_row(
        edits in prop::collection::vec(edit(), 0..40),
        adopts in any::<bool>(),
    ) {
        let existing_rows = if adopts { ExistingRows::Adopt } else { ExistingRows::Fail };
        let mut live = Live::new();
        let mut said = BTreeMap::new();
        for edit in &edits {
            live.take(edit);
            let verdicts = live.pass(existing_rows);
            said.extend(verdicts.into_iter().map(|verdict| (verdict.object.clone(), verdict)));
            if let Edit::Foreign { .. } = edit {
                // Nothing tells a pass of it: that is what the full comparison is for.
                let planned = live.verdicts(existing_rows);
                apply(&mut live.current, &planned.plan);
                said.extend(planned.verdicts.into_iter().map(|verdict| (verdict.object.clone(), verdict)));
            }
        }
        let planned = live.verdicts(existing_rows);
        prop_assert!(planned.plan.is_empty(), "passes and a full comparison agree: {:?}", planned.plan);
        let mut judged = BTreeMap::new();
        for verdict in &planned.verdicts {
            prop_assert!(judged.insert(&verdict.object, verdict.reason).is_none(), "one verdict for {}", verdict.object);
        }
        for object in live.uids.keys() {
            prop_assert!(judged.contains_key(object), "a verdict for {object}");
        }
        prop_assert_eq!(judged.len(), live.uids.len());
        for key in live.every_key() {
            let wanted = desired(&live.world.index, &myhost(), &key);
            let is_empty_as_a_whole = wanted.wants.is_empty() && !wanted.unknown;
            prop_assert_eq!(is_empty(&live.world.index, &myhost(), &key), is_empty_as_a_whole, "{}", key);
            for want in wanted.wants.iter().filter(|want| judged[&want.object] == Reason::Synced) {
                prop_assert!(has(&live.current, want), "{} is told Synced and lacks {want:?}", want.object);
            }
            let served = desired(&live.world.index, &myhost(), &key).verdicts;
            for verdict in served {
                let told = planned.verdicts.iter().find(|told| told.object == verdict.object);
                prop_assert_eq!(said.get(&verdict.object), told, "what a pass said still holds");
            }
        }
        for (id, owner) in &live.current.owners {
            prop_assert!(live.current.rows.contains_key(id), "an owner has a row: {owner:?}");
        }
    }
}
