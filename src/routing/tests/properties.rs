//! Whatever is declared, in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::AliasAddress;
use crate::desired::Desired;

const ADDRESSES: [&str; 10] = [
    "a@alpha.example.org",
    "b@alpha.example.org",
    "owner@alpha.example.org",
    "a@beta.example.org",
    "b@beta.example.org",
    "a+x@alpha.example.org",
    "a-x@alpha.example.org",
    "owner-x@alpha.example.org",
    "@alpha.example.org",
    "@beta.example.org",
];

/// Addresses that mail may be sent to, beside those that can be declared.
const OTHERS: [&str; 11] = [
    "nobody@alpha.example.org",
    "nobody@beta.example.org",
    "b+x@alpha.example.org",
    "b-x@alpha.example.org",
    "a+y@beta.example.org",
    "a-x+y@beta.example.org",
    "owner-x@beta.example.org",
    "owner@beta.example.org",
    "+a@alpha.example.org",
    "a@delta.example.org",
    "x@elsewhere.org",
];

#[derive(Clone, Debug)]
struct Object {
    age: i64,
    address: usize,
    targets: Vec<usize>,
    kind: u8,
}

/// An object for the first address.
fn object() -> impl Strategy<Value = Object> {
    let mailboxes_and_aliases = 0..8usize;
    let others = ADDRESSES.len()..ADDRESSES.len() + OTHERS.len();
    let targets = prop::collection::vec(prop_oneof![6 => mailboxes_and_aliases, 4 => others], 1..4);
    let object = (1..9i64, targets, 0..8u8);
    object.prop_map(|(age, targets, kind)| Object { age, address: 0, targets, kind })
}

/// Characters that begin a tag.
fn delimiter() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("+"), Just("-"), Just("+-"), Just("")]
}

/// One object for each address, with a random age.
fn objects() -> impl Strategy<Value = Vec<Object>> {
    prop::collection::vec(prop::option::weighted(0.8, object()), ADDRESSES.len()).prop_map(|objects| {
        let declared = objects.into_iter().enumerate();
        declared.filter_map(|(address, object)| Some(Object { address, ..object? })).collect()
    })
}

fn declare(world: &mut World, object: &Object) {
    let address = ADDRESSES[object.address];
    let targets: Vec<&str> = object
        .targets
        .iter()
        .map(|target| ADDRESSES.iter().chain(&OTHERS).nth(*target).copied().unwrap())
        .collect();
    match object.kind {
        0..=2 if !address.starts_with('@') => {
            let extra =
                json!({"forwardTo": targets, "keepCopy": object.kind != 1, "active": object.kind != 2});
            mailbox(world, object.age, address, &extra);
        }
        3 => {
            let spec = json!({"address": address, "goto": targets, "active": false});
            world.alias("mail", &name(address), object.age, spec);
        }
        _ => alias(world, object.age, address, &targets),
    }
}

fn world_of<'a>(objects: impl IntoIterator<Item = &'a Object>, delta: bool, delimiter: &str) -> World {
    let mut world = World::with_alpha();
    server(&mut world, "myhost", delimiter);
    domain(&mut world, "beta.example.org", &json!({}));
    if delta {
        domain(&mut world, "delta.example.org", &json!({"aliasOf": "alpha.example.org"}));
    }
    objects.into_iter().for_each(|object| declare(&mut world, object));
    world
}

/// Each of them with tags as well.
fn destinations() -> impl Iterator<Item = String> {
    let all = ADDRESSES.iter().chain(&OTHERS);
    let taggable = all.clone().filter(|address| !address.starts_with('@'));
    let tagged = taggable.flat_map(|address| ["+new@", "-new@"].map(|tag| address.replace('@', tag)));
    all.map(ToString::to_string).chain(tagged)
}

/// What is wanted and said of all that is declared.
fn wanted(world: &World) -> BTreeMap<Key, Desired> {
    let keys = world.index.keys_of(&myhost()).into_iter();
    keys.map(|key| (key.clone(), desired(&world.index, &myhost(), &key))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_can_always_be_expanded(
        objects in objects(), delta in any::<bool>(), delimiter in delimiter()
    ) {
        let world = world_of(&objects, delta, delimiter);
        let tables = Tables::written(&world);
        for address in destinations() {
            let reference = tables.expand(&address);
            prop_assert!(reference.is_ok(), "{address} in {tables:?}");
            let expansion = expand(&world.index, &myhost(), &address);
            prop_assert_eq!(expansion.recipients.map_err(|_| ()), reference, "{}", address);
        }
    }

    #[test]
    fn nothing_is_left_out_without_a_reason(
        objects in objects(), delta in any::<bool>(), delimiter in delimiter()
    ) {
        let world = world_of(&objects, delta, delimiter);
        let declared = Tables::declared(&world);
        let fails: BTreeSet<String> = destinations().filter(|address| declared.expand(address).is_err()).collect();
        let left_out: BTreeSet<&str> = ADDRESSES
            .into_iter()
            .filter(|address| {
                let address = AliasAddress::parse(address).unwrap().0;
                rows::Router::new(&world.index, &myhost()).problem(&address).is_some()
            })
            .collect();
        prop_assert_eq!(fails.is_empty(), left_out.is_empty(), "{:?} {:?}", &fails, &left_out);
    }

    #[test]
    fn the_order_of_events_does_not_matter(
        (objects, shuffled) in objects().prop_flat_map(|objects| (Just(objects.clone()), Just(objects).prop_shuffle())),
        delta in any::<bool>(),
        delimiter in delimiter(),
    ) {
        let (world, other) = (world_of(&objects, delta, delimiter), world_of(&shuffled, delta, delimiter));
        for key in world.index.keys_of(&myhost()) {
            let [here, there] = [&world, &other].map(|world| desired(&world.index, &myhost(), &key));
            prop_assert_eq!(here, there);
        }
    }

    #[test]
    fn whatever_an_event_changes_is_work(
        objects in objects(),
        delta in any::<bool>(),
        delimiters in (delimiter(), delimiter(), delimiter()),
        changed in prop::option::of(object()),
        at in 0..ADDRESSES.len(),
    ) {
        let mut world = world_of(&objects, delta, delimiters.0);
        // Which characters begin a tag for others changes nothing here.
        server(&mut world, "other", delimiters.1);
        world.index.take_work(&myhost());
        server(&mut world, "other", delimiters.2);
        let before = wanted(&world);
        let object = ObjectName::new("mail", &name(ADDRESSES[at]));
        world.index.remove_mailbox(&object);
        world.index.remove_alias(&object);
        if let Some(changed) = changed {
            declare(&mut world, &Object { address: at, ..changed });
        }
        let after = wanted(&world);
        let work = world.index.take_work(&myhost()).keys;
        let changed: BTreeSet<&Key> =
            before.keys().chain(after.keys()).filter(|key| before.get(key) != after.get(key)).collect();
        prop_assert!(changed.iter().all(|key| work.contains(key)), "{:?} of {:?}", work, changed);
    }
}
