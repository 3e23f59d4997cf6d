use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::*;
use crate::api::Reason;
use crate::desired::{Verdict, desired};
use crate::index::Key;
use crate::tables::Row;
use crate::testing::{World, myhost};

mod properties;

/// What Postfix reads: the rows of the tables alias and `alias_domain` that are active.
#[derive(Debug, Default)]
struct Tables {
    alias: BTreeMap<String, Vec<String>>,
    alias_domain: BTreeMap<String, String>,
    delimiter: String,
}

/// `split_addr_internal`, word by word: where the extension begins.
fn split_addr(local_part: &str, delimiter_set: &str) -> Option<usize> {
    if ["postmaster", "mailer-daemon", "double-bounce"].contains(&local_part) {
        return None;
    }
    if delimiter_set.contains('-')
        && (local_part.starts_with("owner-") || (local_part.len() > 8 && local_part.ends_with("-request")))
    {
        return None;
    }
    let length = local_part.find(|c| delimiter_set.contains(c)).unwrap_or(local_part.len());
    (length != 0 && length != local_part.len()).then_some(length)
}

impl Tables {
    fn written(world: &World) -> Self {
        let server = world.index.server(&myhost()).unwrap();
        let delimiter = server.recipient_delimiter.as_str().to_owned();
        let mut tables = Self { delimiter, ..Self::default() };
        for key in world.index.keys_of(&myhost()) {
            for want in desired(&world.index, &myhost(), &key).wants {
                match want.row {
                    Row::Alias(row) if row.active => {
                        tables.alias.insert(row.address, row.goto.split(',').map(str::to_owned).collect());
                    }
                    Row::AliasDomain(row) if row.active => {
                        tables.alias_domain.insert(row.alias_domain, row.target_domain);
                    }
                    _ => {}
                }
            }
        }
        tables
    }

    /// The rows as they would be if nothing were left out.
    fn declared(world: &World) -> Self {
        let mut tables = Self::written(world);
        let router = rows::Router::new(&world.index, world.index.server_of("alpha.example.org").unwrap());
        for key in world.index.keys_of(&myhost()) {
            if let Key::Address(address) = key
                && let Some(row) = router.declared(address.local_part(), address.domain())
            {
                let targets = row.targets.iter().map(ToString::to_string).collect();
                tables.alias.insert(address.to_string(), targets);
            }
        }
        tables
    }

    /// The three queries of `virtual_alias_maps`, in their order.
    fn query(&self, key: &str) -> Option<&Vec<String>> {
        let (user, domain) = key.split_once('@').unwrap();
        let target = self.alias_domain.get(domain);
        let in_target = || self.alias.get(&format!("{user}@{}", target?));
        self.alias.get(key).or_else(in_target)
    }

    fn look_up(&self, address: &str) -> Option<Vec<String>> {
        let (user, domain) = address.split_once('@').unwrap();
        if let Some(found) = self.query(address).filter(|_| !user.is_empty()) {
            return Some(found.clone());
        }
        if let Some(at) = split_addr(user, &self.delimiter)
            && let Some(found) = self.query(&format!("{}@{domain}", &user[..at]))
        {
            let tag = &user[at..];
            return Some(found.iter().map(|found| found.replacen('@', &format!("{tag}@"), 1)).collect());
        }
        self.query(&format!("@{domain}")).cloned()
    }

    /// `cleanup_map1n_internal`, word by word.
    fn expand(&self, address: &str) -> Result<Vec<String>, ()> {
        let mut argv = vec![address.to_owned()];
        let mut been_here = BTreeSet::new();
        let mut arg = 0;
        while arg < argv.len() {
            if argv.len() > 1000 {
                return Err(());
            }
            let mut count = 0;
            while !been_here.contains(&argv[arg]) {
                if count >= 1000 {
                    return Err(());
                }
                let Some(found) = self.look_up(&argv[arg]) else { break };
                let lhs = argv[arg].clone();
                for (i, found) in found.into_iter().enumerate() {
                    if found.len() > 1000 {
                        return Err(());
                    }
                    if found == lhs {
                        been_here.insert(lhs.clone());
                    }
                    if i == 0 { argv[arg] = found } else { argv.push(found) }
                }
                count += 1;
            }
            arg += 1;
        }
        Ok(argv)
    }
}

fn alias(world: &mut World, created: i64, address: &str, goto: &[&str]) {
    world.alias("mail", &name(address), created, json!({"address": address, "goto": goto}));
}

fn mailbox(world: &mut World, created: i64, address: &str, extra: &Value) {
    let mut spec = json!({"address": address});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    world.mailbox("mail", &name(address), created, spec);
}

fn domain(world: &mut World, domain: &str, extra: &Value) {
    let mut spec = json!({"serverRef": {"name": "myhost"}, "domain": domain});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    world.domain("mail", domain.split('.').next().unwrap(), 1, spec);
}

fn server(world: &mut World, name: &str, delimiter: &str) {
    let postfix = json!({"recipientDelimiter": delimiter});
    world.server("mail", name, json!({"hostname": "myhost.example.org", "postfix": postfix}));
}

fn name(address: &str) -> String {
    address.replace('+', "-plus-").replace(['@', '.'], "-")
}

fn verdict(world: &World, key: &str) -> Verdict {
    desired(&world.index, &myhost(), &Key::from_row(key).unwrap()).verdicts.remove(0)
}

/// Reasons of `Ready` and of `Warning`.
fn told(world: &World, key: &str) -> (Reason, Option<Reason>) {
    let verdict = verdict(world, key);
    (verdict.reason, verdict.warning.map(|warning| warning.0))
}

fn goto(world: &World, address: &str) -> Option<Vec<String>> {
    Tables::written(world).alias.get(address).cloned()
}

#[test]
fn the_youngest_alias_of_a_loop_is_left_out() {
    let mut world = World::with_alpha();
    alias(&mut world, 5, "a@alpha.example.org", &["b@alpha.example.org"]);
    alias(&mut world, 3, "b@alpha.example.org", &["c@alpha.example.org", "x@elsewhere.org"]);
    alias(&mut world, 4, "c@alpha.example.org", &["a@alpha.example.org"]);
    alias(&mut world, 9, "d@alpha.example.org", &["a@alpha.example.org"]);
    let verdict = verdict(&world, "a@alpha.example.org");
    assert_eq!(verdict.reason, Reason::AliasLoop);
    let circle = "a@alpha.example.org -> b@alpha.example.org -> c@alpha.example.org -> a@alpha.example.org";
    assert!(verdict.message.ends_with(circle), "{}", verdict.message);
    assert_eq!(goto(&world, "a@alpha.example.org"), None);
    assert_eq!(told(&world, "b@alpha.example.org"), (Reason::Synced, None));
    assert_eq!(told(&world, "c@alpha.example.org"), (Reason::Synced, Some(Reason::UndeclaredTarget)));
    assert_eq!(told(&world, "d@alpha.example.org"), (Reason::Synced, Some(Reason::UndeclaredTarget)));
}

#[test]
fn what_is_in_its_own_result_closes_no_loop() {
    let mut world = World::with_alpha();
    mailbox(&mut world, 2, "a@alpha.example.org", &json!({"forwardTo": ["b@alpha.example.org"]}));
    mailbox(&mut world, 3, "b@alpha.example.org", &json!({"forwardTo": ["a@alpha.example.org"]}));
    for address in ["a@alpha.example.org", "b@alpha.example.org"] {
        assert_eq!(told(&world, address), (Reason::Synced, None));
        assert_eq!(goto(&world, address).unwrap().len(), 2);
    }
    alias(&mut world, 4, "all@alpha.example.org", &["all@alpha.example.org", "a@alpha.example.org"]);
    assert_eq!(told(&world, "all@alpha.example.org"), (Reason::Synced, Some(Reason::UndeclaredTarget)));
}

#[test]
fn a_mailbox_whose_forward_closes_a_loop_keeps_its_mail() {
    let mut world = World::with_alpha();
    for (created, from, to) in [(2, "a", "b"), (3, "b", "a")] {
        let forward = json!({"forwardTo": [format!("{to}@alpha.example.org")], "keepCopy": false});
        mailbox(&mut world, created, &format!("{from}@alpha.example.org"), &forward);
    }
    assert_eq!(told(&world, "b@alpha.example.org"), (Reason::AliasLoop, None));
    assert_eq!(goto(&world, "b@alpha.example.org").unwrap(), ["b@alpha.example.org"]);
    assert_eq!(told(&world, "a@alpha.example.org"), (Reason::Synced, None));
    assert_eq!(goto(&world, "a@alpha.example.org").unwrap(), ["b@alpha.example.org"]);
}

#[test]
fn a_loop_through_a_tag_a_catch_all_or_an_alias_domain_is_found() {
    for (from, to, back, last) in [
        ("a+x@alpha.example.org", "b+x@alpha.example.org", "b@alpha.example.org", "a@alpha.example.org"),
        ("@alpha.example.org", "b@beta.example.org", "b@beta.example.org", "whoever@alpha.example.org"),
        ("a@alpha.example.org", "b@delta.example.org", "b@alpha.example.org", "a@alpha.example.org"),
    ] {
        let mut world = World::with_alpha();
        domain(&mut world, "beta.example.org", &json!({}));
        domain(&mut world, "delta.example.org", &json!({"aliasOf": "alpha.example.org"}));
        alias(&mut world, 2, from, &[to]);
        alias(&mut world, 3, back, &[last]);
        let expansion = Tables::declared(&world).expand(to);
        assert!(expansion.is_err(), "{from}: {expansion:?}");
        let loops = [from, back].iter().filter(|key| told(&world, key).0 == Reason::AliasLoop).count();
        assert_eq!(loops, 1, "{from}");
    }
}

#[test]
fn an_alias_that_is_left_out_may_make_the_catch_all_loop() {
    let mut world = World::with_alpha();
    domain(&mut world, "alpha.example.org", &json!({"catchAll": ["b@alpha.example.org"]}));
    alias(&mut world, 2, "b@alpha.example.org", &["a@alpha.example.org"]);
    alias(&mut world, 3, "a@alpha.example.org", &["b@alpha.example.org"]);
    assert_eq!(told(&world, "a@alpha.example.org").0, Reason::AliasLoop);
    assert_eq!(told(&world, "alpha.example.org").0, Reason::AliasLoop, "mail for a@ would come to it");
    alias(&mut world, 3, "a@alpha.example.org", &["z@elsewhere.org"]);
    assert_eq!(told(&world, "a@alpha.example.org"), (Reason::Synced, None));
    assert_eq!(told(&world, "alpha.example.org"), (Reason::Synced, None));
}

#[test]
fn a_tag_that_grows_from_copy_to_copy_is_a_loop() {
    let mut world = World::with_alpha();
    mailbox(&mut world, 2, "a@alpha.example.org", &json!({"forwardTo": ["b+of-a@alpha.example.org"]}));
    mailbox(&mut world, 3, "b@alpha.example.org", &json!({"forwardTo": ["a@alpha.example.org"]}));
    assert!(Tables::declared(&world).expand("a@alpha.example.org").is_err());
    assert_eq!(told(&world, "a@alpha.example.org"), (Reason::Synced, None));
    assert_eq!(told(&world, "b@alpha.example.org"), (Reason::AliasLoop, None));
}

#[test]
fn a_row_that_is_left_out_for_its_tagged_addresses_may_make_catch_alls_loop() {
    let mut world = World::with_alpha();
    domain(&mut world, "beta.example.org", &json!({"catchAll": ["a@alpha.example.org"]}));
    domain(&mut world, "alpha.example.org", &json!({"catchAll": ["b@beta.example.org"]}));
    alias(&mut world, 2, "a@alpha.example.org", &["a+x@alpha.example.org"]);
    mailbox(&mut world, 2, "a+x@alpha.example.org", &json!({"forwardTo": ["nobody@alpha.example.org"]}));
    assert!(Tables::declared(&world).expand("a@alpha.example.org").is_ok());
    assert!(Tables::declared(&world).expand("a+y@alpha.example.org").is_err(), "the tag grows");
    assert_eq!(told(&world, "a@alpha.example.org").0, Reason::AliasLoop);
    assert!(Tables::written(&world).expand("a@alpha.example.org").is_ok(), "{:?}", Tables::written(&world));
}

#[test]
fn tags_begin_with_any_of_the_servers_delimiters() {
    for (delimiter, tag, loops) in
        [("-", "-", 1), ("-", "+", 0), ("+-", "-", 1), ("+-", "+", 1), ("", "+", 0)]
    {
        let mut world = World::with_alpha();
        server(&mut world, "myhost", delimiter);
        alias(&mut world, 2, "a@alpha.example.org", &[&format!("b{tag}x@alpha.example.org")]);
        alias(&mut world, 3, "b@alpha.example.org", &["a@alpha.example.org"]);
        let keys = ["a@alpha.example.org", "b@alpha.example.org"];
        let told = keys.iter().filter(|key| told(&world, key).0 == Reason::AliasLoop).count();
        assert_eq!(told, loops, "{delimiter:?} {tag}");
    }
}

#[test]
fn a_catch_all_changes_the_way_of_what_a_mailbox_does_not_take() {
    for (delimiter, target) in [
        ("+", "owner-x@alpha.example.org"),
        ("-", "owner-x@alpha.example.org"),
        ("+", "bob-x@alpha.example.org"),
    ] {
        let mut world = World::with_alpha();
        server(&mut world, "myhost", delimiter);
        server(&mut world, "other", "-");
        for name in ["owner", "bob"] {
            mailbox(&mut world, 2, &format!("{name}@alpha.example.org"), &json!({}));
        }
        alias(&mut world, 2, "info@alpha.example.org", &[target]);
        assert_eq!(told(&world, "info@alpha.example.org").1, Some(Reason::UndeclaredTarget), "{target}");
        world.index.take_work(&myhost());
        domain(&mut world, "alpha.example.org", &json!({"catchAll": ["z@elsewhere.org"]}));
        assert_eq!(told(&world, "info@alpha.example.org").1, None, "{target}");
        let info = Key::from_row("info@alpha.example.org").unwrap();
        assert!(world.index.take_work(&myhost()).keys.contains(&info), "{target}");
    }
}

#[test]
fn a_thousand_targets_are_taken_and_one_more_is_not() {
    let mut world = World::with_alpha();
    let targets: Vec<String> = (0..1000).map(|number| format!("x{number}@elsewhere.org")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    alias(&mut world, 2, "big@alpha.example.org", &targets);
    alias(&mut world, 3, "outer@alpha.example.org", &["big@alpha.example.org"]);
    assert_eq!(told(&world, "outer@alpha.example.org"), (Reason::Synced, None));
    alias(&mut world, 1, "bigger@alpha.example.org", &["big@alpha.example.org", "y@elsewhere.org"]);
    assert_eq!(told(&world, "bigger@alpha.example.org"), (Reason::TooManyTargets, None));
    assert_eq!(goto(&world, "bigger@alpha.example.org"), None);
    assert_eq!(told(&world, "big@alpha.example.org"), (Reason::Synced, None));
}

#[test]
fn a_chain_that_is_too_long_is_left_out_where_it_gets_too_long() {
    let mut world = World::with_alpha();
    for number in 0..1002 {
        let target = format!("n{}@alpha.example.org", number + 1);
        alias(&mut world, 2, &format!("n{number}@alpha.example.org"), &[&target]);
    }
    alias(&mut world, 2, "n1002@alpha.example.org", &["z@elsewhere.org"]);
    assert_eq!(told(&world, "n3@alpha.example.org"), (Reason::Synced, None));
    assert_eq!(told(&world, "n2@alpha.example.org"), (Reason::TooManyTargets, None));
    assert!(expand(&world.index, &myhost(), "n3@alpha.example.org").recipients.is_ok());
}

#[test]
fn targets_that_would_bounce_are_told() {
    let mut world = World::with_alpha();
    domain(&mut world, "off.example.org", &json!({"active": false}));
    domain(&mut world, "backup.example.org", &json!({"backupMX": true}));
    domain(&mut world, "no-backup.example.org", &json!({"backupMX": true, "active": false}));
    domain(&mut world, "all.example.org", &json!({"catchAll": ["z@elsewhere.org"]}));
    mailbox(&mut world, 2, "on@alpha.example.org", &json!({}));
    mailbox(&mut world, 2, "off@alpha.example.org", &json!({"active": false}));
    mailbox(&mut world, 2, "x@off.example.org", &json!({}));
    world.alias(
        "mail",
        "old",
        2,
        json!({"address": "old@alpha.example.org", "goto": ["z@elsewhere.org"], "active": false}),
    );
    for (target, warning) in [
        ("on@alpha.example.org", None),
        ("on+tag@alpha.example.org", None),
        ("nobody@alpha.example.org", Some(Reason::UndeclaredTarget)),
        ("nobody@elsewhere.org", None),
        ("nobody@backup.example.org", None),
        ("nobody@all.example.org", None),
        ("off@alpha.example.org", Some(Reason::DisabledMailbox)),
        ("old@alpha.example.org", Some(Reason::DisabledMailbox)),
        ("x@off.example.org", Some(Reason::DisabledMailbox)),
        ("nobody@off.example.org", Some(Reason::DisabledMailbox)),
        ("nobody@no-backup.example.org", Some(Reason::DisabledMailbox)),
    ] {
        alias(&mut world, 3, "info@alpha.example.org", &[target]);
        assert_eq!(told(&world, "info@alpha.example.org"), (Reason::Synced, warning), "{target}");
        mailbox(&mut world, 3, "m@alpha.example.org", &json!({"forwardTo": [target]}));
        assert_eq!(told(&world, "m@alpha.example.org"), (Reason::Synced, warning), "{target}");
    }
    let targets = ["off@alpha.example.org", "nobody@alpha.example.org", "nothing@alpha.example.org"];
    alias(&mut world, 3, "info@alpha.example.org", &targets);
    insta::assert_snapshot!(verdict(&world, "info@alpha.example.org").warning.unwrap().1, @"mail will bounce: nobody declares the target nobody@alpha.example.org: create its Mailbox or MailAlias, or take it out; so for 2 more targets");
}

#[test]
fn a_disabled_mailbox_beside_a_catch_all_is_told() {
    let mut world = World::with_alpha();
    mailbox(&mut world, 2, "off@alpha.example.org", &json!({"active": false}));
    assert_eq!(told(&world, "off@alpha.example.org"), (Reason::Synced, None));
    domain(&mut world, "alpha.example.org", &json!({"catchAll": ["z@elsewhere.org"]}));
    assert_eq!(told(&world, "off@alpha.example.org"), (Reason::Synced, Some(Reason::DisabledMailbox)));
}

#[test]
fn an_expansion_shows_every_step() {
    let mut world = World::with_alpha();
    domain(&mut world, "delta.example.org", &json!({"aliasOf": "alpha.example.org", "catchAll": null}));
    domain(&mut world, "gamma.example.org", &json!({"catchAll": ["hello@delta.example.org"]}));
    mailbox(&mut world, 2, "alfred@alpha.example.org", &json!({"forwardTo": ["copy@elsewhere.org"]}));
    alias(&mut world, 2, "hello@alpha.example.org", &["alfred@alpha.example.org"]);
    let expansion = expand(&world.index, &myhost(), "whoever+tag@gamma.example.org");
    let steps: Vec<_> =
        expansion.steps.iter().map(|step| (step.address.as_str(), step.row.as_str(), step.via)).collect();
    assert_eq!(
        steps,
        [
            ("whoever+tag@gamma.example.org", "@gamma.example.org", Via::CatchAll),
            ("hello@delta.example.org", "hello@alpha.example.org", Via::AliasDomain),
            ("alfred@alpha.example.org", "alfred@alpha.example.org", Via::Address),
        ]
    );
    assert_eq!(expansion.recipients.unwrap(), ["alfred@alpha.example.org", "copy@elsewhere.org"]);
}
