use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
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

/// Anything, with what is dangerous in a look-up file more often than by chance.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n"),
        Just("\r"),
        Just("#"),
        Just(" "),
        Just("\t"),
        Just("\""),
        Just("\\"),
        Just("../"),
        Just("/"),
        Just("@"),
        Just("a"),
        Just("alpha.example.org"),
        Just("\u{a0}"),
        Just("\u{2028}"),
        Just("ß"),
        Just("\0"),
        Just(","),
        Just("{"),
        Just("\u{b}"),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn hostile_row() -> impl Strategy<Value = Row> {
    prop_oneof![
        (hostile(), hostile(), any::<bool>(), any::<bool>()).prop_map(|(d, t, b, a)| domain(&d, &t, b, a)),
        (hostile(), hostile(), any::<bool>()).prop_map(|(d, t, a)| alias_domain(&d, &t, a)),
        (hostile(), hostile(), any::<bool>()).prop_map(|(u, m, a)| mailbox(&u, &m, a)),
        (hostile(), hostile(), any::<bool>()).prop_map(|(a, g, x)| alias(&a, &g, x)),
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

proptest! {
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
