mod identities;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::postfix::tests::hostile::hostile;
use crate::tables::{AliasDomainRow, IdRow};

fn domain(domain: &str, transport: &str, backupmx: bool, active: bool) -> Row {
    Row::Domain(DomainRow {
        domain: domain.into(),
        description: String::new(),
        transport: transport.into(),
        backupmx,
        aliases: 0,
        mailboxes: 0,
        maxquota: 0,
        quota: 0,
        active,
    })
}

fn alias_domain(alias_domain: &str, target_domain: &str, active: bool) -> Row {
    Row::AliasDomain(AliasDomainRow {
        alias_domain: alias_domain.into(),
        target_domain: target_domain.into(),
        active,
    })
}

fn mailbox(username: &str, maildir: &str, active: bool) -> Row {
    Row::Mailbox(MailboxRow {
        username: username.into(),
        password: "{SHA512-CRYPT}$6$secret".into(),
        name: String::new(),
        maildir: maildir.into(),
        quota: 0,
        local_part: String::new(),
        domain: String::new(),
        active,
    })
}

fn alias(address: &str, goto: &str, active: bool) -> Row {
    Row::Alias(AliasRow {
        address: address.into(),
        goto: goto.into(),
        domain: String::new(),
        description: String::new(),
        active,
    })
}

/// The table's source, as postmap(1) gets it.
fn source(rows: &[Row], map: Map) -> Vec<(String, String)> {
    let answers = answers(rows, (901, 901));
    assert_eq!(answers.refused, BTreeMap::new());
    let of_map = answers.entries.into_iter().filter(|((of, _), _)| *of == map);
    of_map.map(|((_, key), value)| (key, value)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn what_is_not_active_does_not_exist() {
    let rows = [
        domain("alpha.example.org", "virtual", false, true),
        domain("beta.example.org", "virtual", false, false),
        mailbox("alfred@alpha.example.org", "alpha.example.org/alfred/", true),
        mailbox("bill@alpha.example.org", "alpha.example.org/bill/", false),
        alias("info@alpha.example.org", "alfred@alpha.example.org,bill@alpha.example.org", true),
        alias("old@alpha.example.org", "alfred@alpha.example.org", false),
    ];
    assert_eq!(source(&rows, Map::Domains), pairs(&[("alpha.example.org", "alpha.example.org")]));
    // Else its mail would be relayed.
    let switched_off = [("beta.example.org", "error:5.1.2 domain is switched off")];
    assert_eq!(source(&rows, Map::Transport), pairs(&switched_off));
    assert_eq!(
        source(&rows, Map::Mailbox),
        pairs(&[("alfred@alpha.example.org", "alpha.example.org/alfred/")])
    );
    assert_eq!(
        source(&rows, Map::Alias),
        pairs(&[("info@alpha.example.org", "alfred@alpha.example.org,bill@alpha.example.org")])
    );
}

#[test]
fn a_mailbox_that_is_switched_off_is_refused_beside_a_catch_all_and_under_an_alias_domain() {
    let rows = [
        alias_domain("delta.example.org", "alpha.example.org", true),
        mailbox("bill@alpha.example.org", "alpha.example.org/bill/", false),
        alias("bill@alpha.example.org", "bill@alpha.example.org", true),
        alias("@alpha.example.org", "alfred@alpha.example.org", true),
    ];
    let disabled = "550 5.1.1 mailbox disabled";
    assert_eq!(
        source(&rows, Map::Disabled),
        pairs(&[("bill@alpha.example.org", disabled), ("bill@delta.example.org", disabled)])
    );
    assert_eq!(source(&rows, Map::Mailbox), []);
}

#[test]
fn an_alias_domain_has_the_addresses_of_its_target_and_its_own_come_first() {
    let rows = [
        alias_domain("delta.example.org", "alpha.example.org", true),
        alias_domain("gone.example.org", "alpha.example.org", false),
        alias("alfred@alpha.example.org", "alfred@alpha.example.org", true),
        alias("info@alpha.example.org", "alfred@alpha.example.org", true),
        alias("@alpha.example.org", "auntie@beta.example.org", true),
        alias("info@delta.example.org", "chou@beta.example.org", true),
    ];
    assert_eq!(
        source(&rows, Map::Alias),
        pairs(&[
            ("@alpha.example.org", "auntie@beta.example.org"),
            ("@delta.example.org", "auntie@beta.example.org"),
            ("alfred@alpha.example.org", "alfred@alpha.example.org"),
            ("alfred@delta.example.org", "alfred@alpha.example.org"),
            ("info@alpha.example.org", "alfred@alpha.example.org"),
            ("info@delta.example.org", "chou@beta.example.org"),
        ])
    );
}

#[test]
fn a_backup_mx_is_relayed_and_a_transport_named() {
    let rows = [
        domain("alpha.example.org", "lmtp:inet:dovecot.mail.svc:24", false, true),
        domain("beta.example.org", "smtp:[mx.example.net]", true, true),
        domain("gamma.example.org", "", false, true),
    ];
    assert_eq!(
        source(&rows, Map::Transport),
        pairs(&[
            ("alpha.example.org", "lmtp:inet:dovecot.mail.svc:24"),
            ("beta.example.org", "smtp:[mx.example.net]")
        ])
    );
    assert_eq!(source(&rows, Map::RelayDomains), pairs(&[("beta.example.org", "beta.example.org")]));
    assert_eq!(source(&rows, Map::Domains).len(), 2);
}

#[test]
fn a_domain_that_is_switched_off_is_not_relayed_whatever_it_was() {
    let rows = [
        domain("alpha.example.org", "lmtp:inet:dovecot.mail.svc:24", false, false),
        domain("beta.example.org", "relay:[mx.example.net]", true, false),
    ];
    let switched_off = ["alpha.example.org", "beta.example.org"]
        .map(|domain| (domain, "error:5.1.2 domain is switched off"));
    assert_eq!(source(&rows, Map::Transport), pairs(&switched_off));
    assert_eq!((source(&rows, Map::Domains), source(&rows, Map::RelayDomains)), (vec![], vec![]));
}

#[test]
fn owners_are_named_for_every_domain_where_one_names_its_own() {
    let domains = ["alpha.example.org", "beta.example.org"].map(|name| domain(name, "virtual", false, true));
    assert_eq!(source(&domains, Map::Uid), []);
    let id = |key: &str, uid, gid| Row::Id(IdRow { key: key.into(), uid, gid });
    let ids = [id("beta.example.org", 1001, 1002), id("bill@beta.example.org", 1003, 1002)];
    let rows = [domains, ids].concat();
    let uids =
        [("@alpha.example.org", "901"), ("@beta.example.org", "1001"), ("bill@beta.example.org", "1003")];
    assert_eq!(source(&rows, Map::Uid), pairs(&uids));
    let gids =
        [("@alpha.example.org", "901"), ("@beta.example.org", "1002"), ("bill@beta.example.org", "1002")];
    assert_eq!(source(&rows, Map::Gid), pairs(&gids));
}

#[test]
fn a_mailbox_whose_address_is_anothers_with_a_tag_has_its_own_owner() {
    let id = |key: &str, uid| Row::Id(IdRow { key: key.into(), uid, gid: 901 });
    let maildir =
        |name: &str, active| mailbox(&format!("{name}@alpha.example.org"), "alpha.example.org/x/", active);
    let rows = [
        domain("alpha.example.org", "virtual", false, true),
        id("alpha.example.org", 950),
        id("a@alpha.example.org", 970),
        id("a+off@alpha.example.org", 980),
        maildir("a", true),
        maildir("a+b", true),
        maildir("a-b.c", true),
        maildir("ab", true),
        maildir("a+off", false),
    ];
    let uids = [
        ("@alpha.example.org", "950"),
        ("a+b@alpha.example.org", "950"),
        ("a-b.c@alpha.example.org", "950"),
        ("a@alpha.example.org", "970"),
    ];
    assert_eq!(source(&rows, Map::Uid), pairs(&uids));
    let off = [
        domain("alpha.example.org", "virtual", false, true),
        id("a@alpha.example.org", 970),
        maildir("a", false),
    ];
    assert_eq!(source(&off, Map::Uid), pairs(&[("@alpha.example.org", "901")]), "main.cf names the table");
}

/// Mail for `off-list` would be looked up as `off`, and bounce.
#[test]
fn a_mailbox_is_not_taken_for_the_tagged_address_of_one_that_is_switched_off() {
    let (off, list) = ("off@alpha.example.org", "off-list@alpha.example.org");
    let rows = [
        mailbox(off, "alpha.example.org/off/", false),
        alias(off, off, true),
        mailbox(list, "alpha.example.org/off-list/", true),
        alias(list, list, true),
    ];
    assert_eq!(source(&rows, Map::Alias), pairs(&[(list, list), (off, off)]));
}

#[test]
fn what_is_whole_is_completed_to_the_same() {
    let id = |key: &str, uid| Row::Id(IdRow { key: key.into(), uid, gid: 901 });
    let rows = [
        domain("alpha.example.org", "", false, true),
        mailbox("off@alpha.example.org", "alpha.example.org/off/", false),
        mailbox("off-list@alpha.example.org", "alpha.example.org/off-list/", true),
        alias("@alpha.example.org", "off-list@alpha.example.org", true),
        id("alpha.example.org", 950),
        id("off-list@alpha.example.org", 960),
    ];
    let whole = answers(&rows, (901, 901)).entries;
    let mut completed = whole.clone();
    complete(&mut completed, (901, 901));
    assert_eq!(completed, whole);
}

#[test]
fn what_has_a_row_of_its_own_is_not_refused_for_a_mailbox_that_is_switched_off() {
    let rows = [
        alias_domain("delta.example.org", "alpha.example.org", true),
        mailbox("bill@alpha.example.org", "alpha.example.org/bill/", false),
        mailbox("bill-b@alpha.example.org", "alpha.example.org/bill-b/", true),
        mailbox("bill+off@alpha.example.org", "alpha.example.org/off/", false),
        alias("bill.b@alpha.example.org", "alfred@alpha.example.org", true),
        alias("bill@delta.example.org", "alfred@alpha.example.org", true),
        alias("billy@alpha.example.org", "alfred@alpha.example.org", true),
    ];
    let disabled = "550 5.1.1 mailbox disabled";
    assert_eq!(
        source(&rows, Map::Disabled),
        pairs(&[
            ("bill+off@alpha.example.org", disabled),
            ("bill+off@delta.example.org", disabled),
            ("bill-b@alpha.example.org", "DUNNO"),
            ("bill.b@alpha.example.org", "DUNNO"),
            ("bill@alpha.example.org", disabled),
        ])
    );
}

#[test]
fn what_a_file_cant_hold_is_refused_and_nothing_of_it_is_written() {
    for (row, refusal) in [
        (mailbox("#bill@alpha.example.org", "alpha.example.org/bill/", true), Refusal::Comment),
        (mailbox("a b@alpha.example.org", "alpha.example.org/bill/", true), Refusal::Key),
        (alias("\"a\"@alpha.example.org", "bill@alpha.example.org", true), Refusal::Key),
        (alias("a@alpha.example.org", "bill@alpha.example.org\nroot@x.org y", true), Refusal::Value),
        (alias("a@alpha.example.org", "", true), Refusal::Value),
        (domain("alpha.example.org", "smtp:x\nb.org y", false, true), Refusal::Value),
        (mailbox("a@alpha.example.org", "../../etc/", true), Refusal::Path),
        (mailbox("a@alpha.example.org", "/etc/", true), Refusal::Path),
        (mailbox("a@alpha.example.org", "alpha.example.org//a/", true), Refusal::Path),
    ] {
        let answers = answers([&row], (901, 901));
        assert_eq!(answers.refused, [((row.table(), row.key().to_owned()), refusal)].into());
        assert_eq!(answers.entries, Entries::new());
    }
}

fn hostile_row() -> impl Strategy<Value = Row> {
    prop_oneof![
        (hostile(), hostile(), any::<bool>(), any::<bool>()).prop_map(|(d, t, b, a)| domain(&d, &t, b, a)),
        (hostile(), hostile(), any::<bool>()).prop_map(|(d, t, a)| alias_domain(&d, &t, a)),
        (hostile(), hostile(), any::<bool>()).prop_map(|(u, m, a)| mailbox(&u, &m, a)),
        (hostile(), hostile(), any::<bool>()).prop_map(|(a, g, x)| alias(&a, &g, x)),
        (hostile(), any::<i32>(), any::<i32>()).prop_map(|(key, uid, gid)| Row::Id(IdRow { key, uid, gid })),
    ]
}

/// Reads a table's source as postmap(1) does.
fn postmap(source: &str) -> Vec<(String, String)> {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}');
    let lines = source.split('\n').filter(|line| !line.trim_start_matches(is_space).starts_with('#'));
    let full = lines.filter(|line| !line.trim_matches(is_space).is_empty());
    let pair = |line: &str| {
        assert!(!line.starts_with(is_space), "it continues the line before: {line:?}");
        let (key, value) = line.split_once(is_space).expect("no value");
        assert!(!key.contains(['"', '\\']), "postmap unquotes it: {key:?}");
        (key.to_owned(), value.trim_matches(is_space).to_owned())
    };
    full.map(pair).collect()
}

const ADDRESS: &str = "bill@alpha.example.org";

/// A row with one value that comes from a manifest, and its entries where that is good.
fn row_with(field: usize, value: &str) -> (Row, Vec<(Map, String, String)>) {
    let own = |map, key: &str, answer: &str| (map, key.to_owned(), answer.to_owned());
    match field {
        0 => (domain(value, "", false, true), vec![own(Map::Domains, value, value)]),
        1 => (
            domain("alpha.example.org", value, false, true),
            [own(Map::Domains, "alpha.example.org", "alpha.example.org")]
                .into_iter()
                .chain(
                    (!["", "virtual"].contains(&value))
                        .then(|| own(Map::Transport, "alpha.example.org", value)),
                )
                .collect(),
        ),
        2 => (
            mailbox(value, "alpha.example.org/bill/", true),
            vec![own(Map::Mailbox, value, "alpha.example.org/bill/")],
        ),
        3 => (mailbox(ADDRESS, value, true), vec![own(Map::Mailbox, ADDRESS, value)]),
        4 => (mailbox(value, "", false), vec![own(Map::Disabled, value, DISABLED)]),
        5 => (alias(value, ADDRESS, true), vec![own(Map::Alias, value, ADDRESS)]),
        6 => (alias(ADDRESS, value, true), vec![own(Map::Alias, ADDRESS, value)]),
        7 => (domain(value, "", false, false), vec![own(Map::Transport, value, SWITCHED_OFF)]),
        8 => (alias_domain("delta.example.org", value, true), Vec::new()),
        _ => {
            let key = if value.contains('@') { value.to_owned() } else { format!("@{value}") };
            let row = Row::Id(IdRow { key: value.into(), uid: 950, gid: 951 });
            (row, vec![own(Map::Uid, &key, "950"), own(Map::Gid, &key, "951")])
        }
    }
}

/// What is good for the field.
fn good(field: usize) -> &'static str {
    match field {
        0 | 7 | 8 => "[a-z]{1,9}[.]org",
        1 => r"virtual|(smtp|relay):\[[a-z]{1,9}\](:[0-9]{1,4})?",
        3 => "[a-z.]{0,5}[a-z]/[a-z.]{0,5}[a-z]/?",
        _ => "[a-z0-9+._-]{1,9}@[a-z]{1,9}[.]org",
    }
}

fn is_a_key(text: &str) -> bool {
    let harmless = |c: u8| c.is_ascii_graphic() && !b"\"\\".contains(&c);
    !text.is_empty() && !text.starts_with('#') && text.bytes().all(harmless)
}

fn is_a_value(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && !text.contains(char::is_control)
}

/// Whether the entries of a row with this value can stand in a file.
fn is_good(field: usize, value: &str) -> bool {
    let is_below = |path: &str| {
        let path = path.strip_suffix('/').unwrap_or(path);
        path.split('/').all(|name| !["", ".", ".."].contains(&name))
    };
    match field {
        1 => value.is_empty() || is_a_value(value),
        3 => is_a_value(value) && is_below(value),
        6 => is_a_value(value),
        _ => is_a_key(value),
    }
}

fn field_and_value() -> impl Strategy<Value = (usize, String)> {
    (0..10usize).prop_flat_map(|field| (Just(field), prop_oneof![1 => good(field), 2 => hostile()]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_value_is_one_answer_or_refused((field, value) in field_and_value()) {
        let (row, expected) = row_with(field, &value);
        let answers = answers([&row], (901, 901));
        prop_assert_eq!(answers.refused.is_empty(), is_good(field, &value), "field {}: {:?}", field, &value);
        if answers.refused.is_empty() {
            let expected: Entries = expected.into_iter().map(|(map, key, answer)| ((map, key), answer)).collect();
            let lines: Vec<_> = expected.iter().map(|((_, key), answer)| format!("{key} {answer}\n")).collect();
            prop_assert_eq!(postmap(&lines.concat()).len(), expected.len(), "{}", lines.concat());
            prop_assert_eq!(answers.entries, expected);
        } else {
            prop_assert_eq!(answers.entries, Entries::new());
        }
    }

    #[test]
    fn no_hostile_value_adds_a_line_or_a_path(rows in vec(hostile_row(), 0..12)) {
        let answers = answers(&rows, (901, 901));
        let lines: Vec<_> = answers.entries.iter().map(|((_, key), value)| format!("{key} {value}\n")).collect();
        let expected: Vec<_> =
            answers.entries.iter().map(|((_, key), value)| (key.clone(), value.clone())).collect();
        prop_assert_eq!(postmap(&lines.concat()), expected);
        for ((map, _), value) in &answers.entries {
            prop_assert!(*map != Map::Mailbox || !(value.starts_with('/') || value.split('/').any(|s| s == "..")));
        }
    }

    #[test]
    fn every_address_of_the_api_is_held_but_those_of_a_comment(
        local in "[A-Za-z0-9_+=&~#*{}|?^][A-Za-z0-9_+=&~#*{}|?^-]{0,8}"
    ) {
        let address = crate::api::Address::parse(&format!("{local}@alpha.example.org")).unwrap();
        let row = mailbox(address.as_str(), "alpha.example.org/x/", true);
        let refused = answers([&row], (901, 901)).refused.into_values().next();
        prop_assert_eq!(refused, local.starts_with('#').then_some(Refusal::Comment));
    }
}
