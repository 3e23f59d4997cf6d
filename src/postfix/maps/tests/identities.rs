//! Whom mail for a mailbox goes to.

use super::*;
use crate::api::RecipientDelimiter;

#[test]
fn a_mailbox_is_an_alias_of_itself_only_where_something_else_would_answer_for_it() {
    let named = |name: &str| {
        let address = format!("{name}@alpha.example.org");
        [mailbox(&address, "alpha.example.org/x/", true), alias(&address, &address, true)]
    };
    let mut rows = ["bill", "bill+list", "chou", "chou+list"].map(named).concat();
    rows.extend([
        mailbox("dora@alpha.example.org", "alpha.example.org/dora/", true),
        alias("dora@alpha.example.org", "dora@alpha.example.org,dora@elsewhere.org", true),
        alias_domain("delta.example.org", "alpha.example.org", true),
    ]);
    rows.retain(|row| row.key() != "chou@alpha.example.org");
    rows.push(alias("chou@alpha.example.org", "dora@alpha.example.org", true));
    let of_delta = ["bill+list", "bill", "chou+list"].map(|name| {
        let at = |domain: &str| format!("{name}@{domain}.example.org");
        (at("delta"), at("alpha"))
    });
    let mut expected = pairs(&[
        ("chou+list@alpha.example.org", "chou+list@alpha.example.org"),
        ("chou@alpha.example.org", "dora@alpha.example.org"),
        ("chou@delta.example.org", "dora@alpha.example.org"),
        ("dora@alpha.example.org", "dora@alpha.example.org,dora@elsewhere.org"),
        ("dora@delta.example.org", "dora@alpha.example.org,dora@elsewhere.org"),
    ]);
    expected.extend(of_delta);
    expected.sort();
    assert_eq!(source(&rows, Map::Alias), expected);
    rows.push(alias("@alpha.example.org", "x@elsewhere.org", true));
    expected.extend(pairs(&[
        ("@alpha.example.org", "x@elsewhere.org"),
        ("@delta.example.org", "x@elsewhere.org"),
    ]));
    expected.extend(
        ["bill", "bill+list"]
            .map(|name| format!("{name}@alpha.example.org"))
            .map(|name| (name.clone(), name)),
    );
    expected.sort();
    assert_eq!(source(&rows, Map::Alias), expected);
}

/// A row of a small world, in which addresses are often each other's tagged ones.
fn neighbour() -> impl Strategy<Value = Vec<Row>> {
    let address = "[ab]([+-][ab]){0,2}@[de][.]org";
    let target = prop_oneof![address, "@[de][.]org", Just("x@elsewhere.org".to_owned())];
    let with_identity = |address: String, active: bool| {
        vec![mailbox(&address, "x/", active), alias(&address, &address, true)]
    };
    prop_oneof![
        3 => (address, prop::bool::weighted(0.8)).prop_map(move |(address, active)| with_identity(address, active)),
        2 => (address, target.clone()).prop_map(|(address, target)| vec![alias(&address, &target, true)]),
        1 => ("@[de][.]org", target).prop_map(|(address, target)| vec![alias(&address, &target, true)]),
        1 => Just(vec![alias_domain("e.org", "d.org", true)]),
    ]
}

/// `mail_addr_find(3)`, for an address that is left as it is where nothing is found.
fn goes_to(entries: &Entries, address: &str, delimiter: &RecipientDelimiter) -> String {
    let domain = address.split_once('@').map(|(_, domain)| format!("@{domain}"));
    let keys = [Some(address.to_owned()), delimiter.stripped(address), domain];
    let found = keys.into_iter().flatten().find_map(|key| entries.get(&(Map::Alias, key)));
    found.map_or_else(|| address.to_owned(), Clone::clone)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_mail_goes_elsewhere_for_want_of_an_identity(
        rows in vec(neighbour(), 1..8),
        address in "[ab]([+-][ab]){0,2}@[de][.]org",
        delimiter in prop_oneof![Just(""), Just("+"), Just("+-")],
    ) {
        // One row under a key, as in the tables.
        let rows: BTreeMap<_, _> =
            rows.concat().into_iter().map(|row| ((row.table(), row.key().to_owned()), row)).collect();
        let spared = answers(rows.values(), (901, 901)).entries;
        let mut all = spared.clone();
        let identities = rows.values().filter(|row| matches!(row, Row::Alias(row) if row.goto == row.address));
        all.extend(identities.map(|row| ((Map::Alias, row.key().to_owned()), row.key().to_owned())));
        let spec = serde_json::json!({"hostname": "myhost.example.org", "postfix": {"recipientDelimiter": delimiter}});
        let delimiter = RecipientDelimiter::from(&serde_json::from_value(spec).unwrap());
        let (with, without) = (goes_to(&all, &address, &delimiter), goes_to(&spared, &address, &delimiter));
        // What finds the mailbox without the tag is left with it, and delivered there.
        let is_delivered_there = delimiter.stripped(&address) == Some(with.clone()) && without == address;
        prop_assert!(with == without || is_delivered_there, "{} goes to {}, not {}", address, without, with);
    }
}
