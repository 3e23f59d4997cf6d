//! Passes as the set loop makes them, without clock and network.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::database::carry_out;
use super::world::{ADDRESSES, DOMAINS, Model, USERNAMES, servers, tell};
use super::*;
use crate::api::Address;
use crate::desired::{PasswordWant, unserved};
use crate::index::{Index, Work};

/// The id of a server's set loop.
pub(super) fn id(server: &ObjectName) -> String {
    format!("cluster/{server}")
}

/// What a pass depends on beside objects and rows.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    pub(super) existing_rows: ExistingRows,
    pub(super) drift: Drift,
    pub(super) held: BTreeSet<Key>,
}

impl Default for Circumstances {
    fn default() -> Self {
        Self { existing_rows: ExistingRows::Fail, drift: Drift::Correct, held: BTreeSet::new() }
    }
}

pub(super) fn circumstances() -> impl Strategy<Value = Circumstances> {
    let existing_rows = select(vec![ExistingRows::Fail, ExistingRows::Fail, ExistingRows::Adopt]);
    let drift = select(vec![Drift::Correct, Drift::Correct, Drift::Report]);
    let held = prop::option::weighted(0.3, subsequence(every_key(), 0..6));
    (existing_rows, drift, held).prop_map(|(existing_rows, drift, held)| Circumstances {
        existing_rows,
        drift,
        held: held.into_iter().flatten().collect(),
    })
}

/// Every key that may be declared.
pub(super) fn every_key() -> Vec<Key> {
    let rows = DOMAINS.iter().chain(&ADDRESSES).map(|key| Key::from_row(key).unwrap());
    rows.chain(USERNAMES.iter().map(|name| Key::Admin(Address::parse(name).unwrap()))).collect()
}

/// What stands in a Secret.
pub(super) fn in_secret(want: &PasswordWant) -> ResolvedPassword {
    let reference = want.source.reference();
    match want.version.as_deref() {
        None => ResolvedPassword::secret_not_found(&reference.name),
        Some("bad") => ResolvedPassword::Missing(Reason::SecretInvalid, "no such key".into()),
        Some(version) => {
            let form = if matches!(want.source, PasswordSource::Plain(_)) { "plain" } else { "hash" };
            let (namespace, name) = (&want.namespace, &reference.name);
            ResolvedPassword::Hash(format!("{{SHA512-CRYPT}}{form}-{namespace}-{name}-{version}"))
        }
    }
}

/// A pass that has been planned.
pub(super) struct Pass {
    pub(super) wanted: Vec<(Key, Desired)>,
    pub(super) plan: Plan,
}

impl Circumstances {
    pub(super) fn plan(
        &self,
        index: &Index,
        current: &Current,
        server: &ObjectName,
        keys: impl IntoIterator<Item = Key>,
        unobtained: &mut Unobtained,
    ) -> Pass {
        let all = |key: Key| {
            let mut desired = desired(index, server, &key);
            if desired.verdicts.is_empty() {
                desired.verdicts = unserved(index, &key);
            }
            (key, desired)
        };
        let mut wanted: Vec<_> = keys.into_iter().map(all).collect();
        let wants = wanted.iter().flat_map(|(_, desired)| &desired.wants);
        let fetched = wants.filter(|want| needs_password(want, current)).filter_map(|want| {
            Some(((want.row.table(), want.row.key().to_owned()), in_secret(want.password.as_ref()?)))
        });
        let passwords = fetched.collect();
        let terms = Terms {
            server: &id(server),
            drift: self.drift,
            is_served: &|owner| index.existing_servers().iter().any(|server| id(server) == owner),
            is_taken_over: &|key| index.is_taken_over(key, server),
            declared: &|owner| index.policy_of(&owner.object, &owner.object_uid),
            is_unreadable: &|uid| index.is_unreadable(uid),
            held: &self.held,
            passwords: &passwords,
            ..terms(self.existing_rows)
        };
        let plan = plan(&mut wanted, current, &terms, unobtained);
        Pass { wanted, plan }
    }

    /// A full comparison of every server, in turn.
    pub(super) fn compare_all(&self, index: &Index, current: &mut Current) {
        for server in servers() {
            let keys = all_keys(index, current, &server);
            let pass = self.plan(index, current, &server, keys, &mut Unobtained::default());
            carry_out(current, &pass.plan, &id(&server), self.existing_rows);
        }
    }
}

/// Everything that is declared for a server, and everything that it owns.
pub(super) fn all_keys(index: &Index, current: &Current, server: &ObjectName) -> BTreeSet<Key> {
    if index.server(server).is_none() {
        return BTreeSet::new();
    }
    let owned = current.owners.values().filter(|owner| owner.server == id(server));
    let owned = owned.filter_map(|owner| Key::of_row(owner.table, &owner.key));
    index.keys_of(server).into_iter().chain(owned).collect()
}

/// What is told of every object, by every server and by nobody's.
pub(super) fn every_verdict(index: &Index, model: &Model) -> Vec<Verdict> {
    let keys: BTreeSet<Key> = model.objects.keys().map(|id| key_of(model, id)).collect();
    let told = |key: &Key| {
        let served = servers().map(|server| desired(index, &server, key).verdicts);
        served.into_iter().flatten().chain(unserved(index, key)).collect::<Vec<_>>()
    };
    keys.iter().flat_map(told).collect()
}

fn key_of(model: &Model, id: &ObjectId) -> Key {
    let spec = &model.objects[id].spec;
    let text = |field: &str| spec[field].as_str().unwrap();
    match id.kind {
        Kind::Domain => Key::from_row(text("domain")).unwrap(),
        Kind::Mailbox | Kind::Alias => Key::from_row(text("address")).unwrap(),
        Kind::Admin => Key::Admin(Address::parse(text("username")).unwrap()),
    }
}

/// The operator, from event to event.
#[derive(Default)]
pub(super) struct Running {
    pub(super) index: Index,
    pub(super) current: Current,
    pub(super) circumstances: Circumstances,
    pub(super) unobtained: BTreeMap<ObjectName, Unobtained>,
    /// What each object was told last.
    pub(super) said: BTreeMap<ObjectId, Verdict>,
}

impl Running {
    pub(super) fn tell(&mut self, step: &world::Step) {
        tell(&mut self.index, step);
        if let world::Step::Object(id, None) = step {
            self.said.remove(id);
        }
    }

    /// Only the counts of a domain changed: where all was well it is told so again, else it is looked at.
    fn tell_counts(&mut self, server: &ObjectName, key: Key) -> Vec<Key> {
        let verdicts = desired(&self.index, server, &key).verdicts;
        let was_sound = |verdict: &Verdict| self.said.get(&verdict.object).is_some_and(Verdict::is_sound);
        if verdicts.iter().all(was_sound) {
            self.said.extend(verdicts.into_iter().map(|verdict| (verdict.object.clone(), verdict)));
            return Vec::new();
        }
        self.index.told_beside(&key).into_iter().chain([key]).collect()
    }

    /// Every server works on what the events touched, and then on what that turned.
    pub(super) fn pass(&mut self) {
        self.pass_once();
        while servers().iter().any(|server| self.index.has_work(server)) {
            self.pass_once();
        }
    }

    fn pass_once(&mut self) {
        let at_rest = self.circumstances.clone();
        for server in servers() {
            let Work { all, mut keys, counted } = self.index.take_work(&server);
            for key in counted.into_iter().map(Key::Domain) {
                keys.extend(self.tell_counts(&server, key));
            }
            if all {
                keys.extend(all_keys(&self.index, &self.current, &server));
            }
            let unobtained = self.unobtained.entry(server.clone()).or_default();
            let pass = at_rest.plan(&self.index, &self.current, &server, keys, unobtained);
            carry_out(&mut self.current, &pass.plan, &id(&server), at_rest.existing_rows);
            self.index.reconsider(&unobtained.take_turned());
            let verdicts = pass.wanted.into_iter().flat_map(|(_, desired)| desired.verdicts);
            self.said.extend(verdicts.map(|verdict| (verdict.object.clone(), verdict)));
        }
        for key in self.index.take_unserved() {
            let verdicts = unserved(&self.index, &key);
            self.said.extend(verdicts.into_iter().map(|verdict| (verdict.object.clone(), verdict)));
        }
    }
}
