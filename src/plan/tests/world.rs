//! Worlds for the properties: objects, servers, namespaces and Secrets that come, change and go.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api::{MailAdmin, MailAlias, MailDomain, MailServer, Mailbox};
use crate::index::Index;
use crate::index::rows::{Kind, ObjectId};
use crate::object::ObjectName;

/// The domains that objects name; addresses are in the first two.
pub(super) const DOMAINS: [&str; 3] = ["alpha.example.org", "beta.example.org", "gamma.example.org"];

/// The addresses that objects declare.
pub(super) const ADDRESSES: [&str; 7] = [
    "a@alpha.example.org",
    "b@alpha.example.org",
    "a@beta.example.org",
    "b@beta.example.org",
    "@alpha.example.org",
    "@beta.example.org",
    "a+x@alpha.example.org",
];

/// The usernames of admins; the first may be a mailbox as well.
pub(super) const USERNAMES: [&str; 2] = ["a@alpha.example.org", "boss@nowhere.org"];

/// What aliases and forwards name.
const TARGETS: [&str; 9] = [
    "a@alpha.example.org",
    "b@alpha.example.org",
    "a@beta.example.org",
    "b@beta.example.org",
    "c@alpha.example.org",
    "a+x@alpha.example.org",
    "a@gamma.example.org",
    "x@elsewhere.org",
    "y@elsewhere.org",
];

/// `PostfixAdmin`'s, in bytes.
const MB: i64 = 1_024_000;

/// The two servers.
pub(super) fn servers() -> [ObjectName; 2] {
    [ObjectName::new("mail", "myhost"), ObjectName::new("mail", "other")]
}

/// An account object, as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) uid: String,
    pub(super) created: i64,
    pub(super) spec: Value,
}

/// What may happen.
#[derive(Clone)]
pub(super) enum Step {
    Object(ObjectId, Option<Object>),
    Server(ObjectName, Option<Value>),
    /// Whether the namespace `tenant` has the label that selectors ask for; `None`: there is no such namespace.
    Tenant(Option<bool>),
    /// The version of a Secret; `bad` holds nothing that could be stored.
    Secret(ObjectName, Option<&'static str>),
}

/// A line each, so that a failure can be read.
impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let written = |spec: &Value| {
            let fields = spec.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
            fields.map(|(field, value)| format!("{field}: {value}")).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Object(id, None) => write!(f, "- {id}"),
            Self::Object(id, Some(Object { created, spec, .. })) => {
                write!(f, "+ {id} made at {created} {{{}}}", written(spec))
            }
            Self::Server(name, None) => write!(f, "- MailServer {name}"),
            Self::Server(name, Some(spec)) => write!(f, "+ MailServer {name} {{{}}}", written(spec)),
            Self::Tenant(label) => write!(f, "namespace tenant {label:?}"),
            Self::Secret(name, version) => write!(f, "Secret {name} {version:?}"),
        }
    }
}

/// What there is after some steps: nothing but lists of what was written, to be asked independently of the index.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) objects: BTreeMap<ObjectId, Object>,
    pub(super) servers: BTreeMap<ObjectName, Value>,
    pub(super) tenant: Option<bool>,
    pub(super) secrets: BTreeMap<ObjectName, &'static str>,
}

impl Model {
    pub(super) fn after<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Self {
        let mut model = Self::default();
        for step in steps {
            model.take(step);
        }
        model
    }

    pub(super) fn take(&mut self, step: &Step) {
        fn set<K: Clone + Ord, V: Clone>(map: &mut BTreeMap<K, V>, key: &K, value: Option<&V>) {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
        match step {
            Step::Object(id, object) => set(&mut self.objects, id, object.as_ref()),
            Step::Server(name, spec) => set(&mut self.servers, name, spec.as_ref()),
            Step::Tenant(label) => self.tenant = *label,
            Step::Secret(name, version) => set(&mut self.secrets, name, version.as_ref()),
        }
    }

    /// The steps that make `goal` of it.
    pub(super) fn steps_to(&self, goal: &Self) -> Vec<Step> {
        fn differing<K: Clone + Ord, V: Clone + PartialEq>(
            a: &BTreeMap<K, V>,
            b: &BTreeMap<K, V>,
        ) -> Vec<(K, Option<V>)> {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            keys.filter(|key| a.get(*key) != b.get(*key))
                .map(|key| (key.clone(), b.get(key).cloned()))
                .collect()
        }
        let objects = differing(&self.objects, &goal.objects).into_iter();
        let servers = differing(&self.servers, &goal.servers).into_iter();
        let secrets = differing(&self.secrets, &goal.secrets).into_iter();
        let tenant = (self.tenant != goal.tenant).then_some(Step::Tenant(goal.tenant));
        (objects.map(|(id, object)| Step::Object(id, object)))
            .chain(servers.map(|(name, spec)| Step::Server(name, spec)))
            .chain(secrets.map(|(name, version)| Step::Secret(name, version)))
            .chain(tenant)
            .collect()
    }
}

/// Tells an index, as the watches would.
pub(super) fn tell(index: &mut Index, step: &Step) {
    match step {
        Step::Object(id, None) => index.remove(id),
        Step::Object(id, Some(object)) => {
            let name = id.name.clone();
            match id.kind {
                Kind::Domain => index.apply_domain(name, (&parsed::<MailDomain>(id, object)).into()),
                Kind::Mailbox => index.apply_mailbox(name, (&parsed::<Mailbox>(id, object)).into()),
                Kind::Alias => index.apply_alias(name, (&parsed::<MailAlias>(id, object)).into()),
                Kind::Admin => index.apply_admin(name, (&parsed::<MailAdmin>(id, object)).into()),
            }
        }
        Step::Server(name, None) => index.remove_server(name),
        Step::Server(name, Some(spec)) => {
            let server = MailServer::new(&name.name, serde_json::from_value(spec.clone()).unwrap());
            index.apply_server(name, (&server).into());
        }
        Step::Tenant(label) => {
            let labels =
                |yes: &bool| [("mail".to_owned(), if *yes { "yes" } else { "no" }.to_owned())].into();
            index.apply_namespace("tenant", label.as_ref().map(labels));
        }
        Step::Secret(name, None) => index.remove_secret(name),
        Step::Secret(name, Some(version)) => index.apply_secret(name.clone(), (*version).into()),
    }
}

fn parsed<K: DeserializeOwned>(id: &ObjectId, object: &Object) -> K {
    let metadata = json!({
        "namespace": &*id.name.namespace, "name": &*id.name.name, "uid": object.uid, "generation": 1,
        "creationTimestamp": jiff::Timestamp::from_second(object.created).unwrap().to_string(),
    });
    serde_json::from_value(json!({"metadata": metadata, "spec": object.spec})).unwrap()
}

/// What a world may hold of that whose end depends on what was before, by design.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    /// What is kept over limits, and what `Disable` and `Retain` leave.
    pub(super) remains: bool,
    /// Admins of both servers: of two that share a database the one that was first has a username.
    pub(super) both_servers_admins: bool,
}

/// Servers and a namespace to begin with, most of the time.
pub(super) fn beginning() -> impl Strategy<Value = Vec<Step>> {
    servers().map(server).prop_map(Vec::from)
}

pub(super) fn step(scope: Scope) -> impl Strategy<Value = Step> {
    let gone = (select(vec![Kind::Domain, Kind::Mailbox, Kind::Alias, Kind::Admin]), who());
    prop_oneof![
        5 => mailbox(scope),
        4 => alias(scope),
        4 => domain(scope),
        2 => admin(scope),
        3 => gone.prop_map(|(kind, who)| Step::Object(who.id(kind), None)),
        1 => select(servers().to_vec()).prop_flat_map(server),
        1 => select(servers().to_vec()).prop_map(|name| Step::Server(name, None)),
        1 => prop::option::weighted(0.8, any::<bool>()).prop_map(Step::Tenant),
        2 => (tenant(), select(vec!["s0", "s1"]), prop::option::weighted(0.8, select(vec!["1", "2", "bad"])))
            .prop_map(|(tenant, name, version)| Step::Secret(ObjectName::new(tenant, name), version)),
    ]
}

/// Who declares: namespace, number, and whether it was deleted and made again.
#[derive(Clone, Debug)]
struct Who {
    namespace: &'static str,
    number: u8,
    again: bool,
}

impl Who {
    fn id(&self, kind: Kind) -> ObjectId {
        ObjectId { kind, name: ObjectName::new(self.namespace, &format!("n{}", self.number)) }
    }

    /// Some are of one age. What can't be changed (`key`) is another in another object only, so it is part of the uid.
    fn declares(&self, kind: Kind, key: &str, spec: Value) -> Step {
        let created = 2 * i64::from(self.number) + if self.again { 5 } else { 0 };
        let uid = format!("{}-{}-{}-{key}-{created}", kind.as_str(), self.namespace, self.number);
        Step::Object(self.id(kind), Some(Object { uid, created, spec }))
    }
}

fn tenant() -> impl Strategy<Value = &'static str> {
    prop_oneof![2 => Just("mail"), 1 => Just("tenant")]
}

fn who() -> impl Strategy<Value = Who> {
    (tenant(), 0..4u8, prop::bool::weighted(0.15)).prop_map(|(namespace, number, again)| Who {
        namespace,
        number,
        again,
    })
}

/// Usually the same for one number, so that objects are changed, not made anew.
fn other(count: usize) -> impl Strategy<Value = Option<usize>> {
    prop::option::weighted(0.3, 0..count)
}

fn own(of: &[&'static str], who: &Who, other: Option<usize>) -> &'static str {
    of[other.unwrap_or(usize::from(who.number) % of.len())]
}

fn maybe<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.4, select(values))
}

fn policy(scope: Scope) -> impl Strategy<Value = &'static str> {
    select(if scope.remains { vec!["Delete", "Disable", "Retain"] } else { vec!["Delete"] })
}

fn targets() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(select(TARGETS.to_vec()), 1..3)
}

fn active() -> impl Strategy<Value = Option<bool>> {
    prop::option::weighted(0.5, prop::bool::weighted(0.7))
}

/// A field with a reference to a Secret, of either form.
fn password() -> impl Strategy<Value = Option<(&'static str, &'static str)>> {
    let field = select(vec!["passwordSecretKeyRef", "passwordHashSecretKeyRef"]);
    prop::option::weighted(0.4, (field, select(vec!["s0", "s1"])))
}

fn with_password(mut spec: Value, password: Option<(&str, &str)>) -> Value {
    if let Some((field, secret)) = password {
        spec[field] = json!({"name": secret, "key": "k"});
    }
    spec
}

fn mailbox(scope: Scope) -> impl Strategy<Value = Step> {
    let forwards = (prop::option::weighted(0.3, targets()), any::<bool>());
    let columns = (maybe(vec!["Alfred", "Bill"]), maybe(vec![0, 100 * MB, 200 * MB]), maybe(vec![100, 950]));
    (who(), other(4), active(), forwards, columns, password(), policy(scope)).prop_map(
        |(who, other, active, (forwards, keep), (name, quota, uid), password, policy)| {
            let address = own(&ADDRESSES[..4], &who, other);
            let spec = json!({
                "address": address, "active": active, "forwardTo": forwards, "keepCopy": keep, "displayName": name,
                "quota": quota, "uid": uid, "deletionPolicy": policy,
            });
            who.declares(Kind::Mailbox, address, with_password(spec, password))
        },
    )
}

fn alias(scope: Scope) -> impl Strategy<Value = Step> {
    (who(), other(ADDRESSES.len()), targets(), active(), maybe(vec!["by us"]), policy(scope)).prop_map(
        |(who, other, goto, active, description, policy)| {
            let address = own(&ADDRESSES, &who, other);
            let spec = json!({
                "address": address, "goto": goto, "active": active, "description": description, "deletionPolicy": policy,
            });
            who.declares(Kind::Alias, address, spec)
        },
    )
}

/// Whom an object admits.
fn admitted() -> impl Strategy<Value = Value> {
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"mail": "yes"}}});
    select(vec![Value::Null, json!({"from": "All"}), selector])
}

fn limits(scope: Scope) -> impl Strategy<Value = Option<Value>> {
    let limits = vec![
        json!({"mailboxes": 1}),
        json!({"aliases": 1}),
        json!({"totalQuota": 250 * MB, "aliases": -1}),
        json!({"totalQuota": 250 * MB, "mailboxQuota": 100 * MB}),
    ];
    maybe(limits).prop_map(move |limits| limits.filter(|_| scope.remains))
}

fn domain(scope: Scope) -> impl Strategy<Value = Step> {
    let server = prop_oneof![8 => Just("myhost"), 2 => Just("other"), 1 => Just("nowhere")];
    let way = (maybe(vec![true, false]), maybe(vec!["smtp:elsewhere.org", "virtual"]), active());
    let catch_all = prop::option::weighted(0.25, targets());
    let of = prop::option::weighted(0.25, select(DOMAINS.to_vec()));
    let rest = (maybe(vec!["by us"]), maybe(vec![100, 950]), policy(scope));
    (who(), other(DOMAINS.len()), server, way, (catch_all, of), admitted(), limits(scope), rest).prop_map(
        |(who, other, server, (backup, transport, active), (catch_all, of), admitted, limits, rest)| {
            let domain = own(&DOMAINS, &who, other);
            let (description, uid, policy) = rest;
            let spec = json!({
                "serverRef": {"name": server, "namespace": "mail"}, "domain": domain, "active": active,
                "backupMX": backup, "transport": transport, "catchAll": catch_all,
                "aliasOf": of.filter(|of| *of != domain), "allowedNamespaces": admitted, "limits": limits,
                "description": description, "uid": uid, "deletionPolicy": policy,
            });
            who.declares(Kind::Domain, domain, spec)
        },
    )
}

fn admin(scope: Scope) -> impl Strategy<Value = Step> {
    let server = if scope.both_servers_admins { vec!["myhost", "other"] } else { vec!["myhost"] };
    let managed = prop::option::weighted(0.7, prop::sample::subsequence(DOMAINS.to_vec(), 0..=3));
    (who(), other(USERNAMES.len()), select(server), managed, active(), password(), policy(scope)).prop_map(
        |(who, other, server, managed, active, password, policy)| {
            let username = own(&USERNAMES, &who, other);
            let spec = json!({
                "serverRef": {"name": server, "namespace": "mail"}, "username": username, "active": active,
                "superAdmin": managed.is_none(), "domains": managed, "deletionPolicy": policy,
            });
            who.declares(Kind::Admin, username, with_password(spec, password))
        },
    )
}

fn server(name: ObjectName) -> impl Strategy<Value = Step> {
    (admitted(), maybe(vec![50])).prop_map(move |(admitted, minimum)| {
        let store = json!({"minimumUid": minimum});
        // They have the same tables.
        let external = json!({
            "host": "db.example.org", "writerSecretRef": {"name": format!("{}-writer", name.name)},
            "readerSecretRef": {"name": "reader"},
        });
        let spec = json!({
            "hostname": "mx.example.org", "allowedNamespaces": admitted, "mailStore": store,
            "database": {"external": external},
        });
        Step::Server(name.clone(), Some(spec))
    })
}
