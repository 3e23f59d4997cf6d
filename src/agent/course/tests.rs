//! A Postfix that accepts and refuses, and what is done about it.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::agent::tls::Certificate;
use crate::postfix::owners::FILE as OWNERS;
use crate::postfix::{DOMAINS, MAIN_CF};

const GOOD: &str = "myhostname = a\nrelayhost = [smtp.example.net]:587\nvirtual_uid_maps = static:901\n";

fn mounted(main_cf: &str) -> Mounted {
    Mounted::of(&[(MAIN_CF, main_cf), (DOMAINS, "1")])
        .with_certificate(Certificate::Usable("first".to_owned()))
}

/// With look-up files that the agent compiled into a directory of this name.
fn compiled(mounted: Mounted, maps: &str) -> Mounted {
    mounted.with_maps(Some(PathBuf::from(maps)))
}

fn refusal() -> Error {
    Error::Refused("fatal: bad numeric configuration".to_owned())
}

fn failure() -> Error {
    Error::system("postfix reload")(std::io::ErrorKind::StorageFull.into())
}

/// Runs with [`GOOD`], whose look-up files are `A`.
fn running() -> Course {
    let mut course = Course::new(compiled(mounted(GOOD), "A"));
    let candidate = Candidate::wanted(compiled(mounted(GOOD), "A"));
    course.done(candidate, compiled(mounted(GOOD), "A"), Complaints::default(), Instant::now());
    course
}

/// A look at the mounts, with look-up files that are compiled unless others are kept: what is to be done, and with what.
fn look(course: &mut Course, wanted: &Mounted, maps: &str, now: Instant) -> (Step, Candidate) {
    let mut candidate = course.candidate(wanted, now);
    if candidate.mounted.maps().is_none() {
        candidate.mounted = compiled(candidate.mounted, maps);
    }
    let (usable, _) = candidate.mounted.usable(Some(course.running()));
    (course.step(&candidate, &usable, now), candidate)
}

/// A look at which all goes well; gives what it did and whether deferred mail is to be tried.
fn accept(
    course: &mut Course,
    wanted: &Mounted,
    maps: &str,
    store: Option<&str>,
    now: Instant,
) -> (Step, bool) {
    let (step, candidate) = look(course, wanted, maps, now);
    if step == Step::Rest {
        return (step, false);
    }
    let (usable, secrets) = candidate.mounted.usable(Some(course.running()));
    let complaints = Complaints { secrets, store: store.map(str::to_owned) };
    (step, course.done(candidate, usable, complaints, now))
}

#[test]
fn what_did_not_change_is_left_alone_and_what_changed_is_taken() {
    let (mut course, now) = (running(), Instant::now());
    assert_eq!(accept(&mut course, &mounted(GOOD), "A", None, now), (Step::Rest, false));
    assert_eq!(accept(&mut course, &mounted(GOOD), "B", None, now), (Step::Exchange, false));
    assert_eq!(course.running().maps(), Some("B".as_ref()));
    assert_eq!(course.told(&mounted(GOOD)), None);
}

#[test]
fn a_refused_configuration_keeps_out_nothing_else() {
    let (mut course, now) = (running(), Instant::now());
    let wanted =
        mounted("myhostname = b\nrelayhost = [smtp.example.net]:587\nvirtual_uid_maps = static:901\n");
    assert_eq!(look(&mut course, &wanted, "A", now).0, Step::Exchange);
    course.refused(&wanted, &refusal(), now);
    assert_eq!(look(&mut course, &wanted, "A", now).0, Step::Rest);

    // Accounts come and go, a certificate is renewed, and the pod is to leave.
    let accounts = Mounted::of(&[(MAIN_CF, wanted.text(MAIN_CF)), (DOMAINS, "2"), (OWNERS, "970 970 a/\n")]);
    let now_mounted = accounts.with_certificate(Certificate::Usable("renewed".to_owned())).drained();
    let (step, candidate) = look(&mut course, &now_mounted, "B", now);
    assert!(step == Step::Exchange && candidate.is_wanted, "with another certificate it may be taken");
    course.refused(&now_mounted, &refusal(), now);
    assert_eq!(accept(&mut course, &now_mounted, "B", None, now), (Step::Exchange, true));
    let runs = course.running();
    assert_eq!((runs.text(MAIN_CF), runs.text(DOMAINS), runs.maps()), (GOOD, "2", Some("B".as_ref())));
    assert!(runs.is_draining() && runs.owners().len() == 1);
    assert!(*runs == runs.clone().with_certificate(Certificate::Usable("renewed".to_owned())));
    let told = course.told(&now_mounted).unwrap();
    assert_eq!(told.config_hash, now_mounted.hash(), "the operator looks for the one that it wants");
    assert!(told.error.contains("bad numeric configuration"), "{}", told.error);

    // Accounts say nothing about whether the configuration is good: no second check.
    let (step, candidate) = look(&mut course, &now_mounted, "C", now);
    assert!(step == Step::Exchange && !candidate.is_wanted);
}

/// An empty table of owners would have all mail put off, a domain without its transport would be stored or relayed, and a
/// disabled mailbox bounced.
#[test]
fn look_up_files_that_do_not_fit_what_runs_wait_until_the_configuration_is_accepted() {
    let owned =
        "virtual_uid_maps = hash:$vmail_maps/uid_maps\nvirtual_gid_maps = hash:$vmail_maps/gid_maps\n";
    let transports = "transport_maps = hash:$vmail_maps/transport_maps\n";
    let disabled = "smtpd_recipient_restrictions = check_recipient_access hash:$vmail_maps/disabled_maps\n";
    let owners = "virtual_uid_maps = static:901\nvirtual_gid_maps = static:901\n";
    for (runs, mounts) in [(owned, owners), (owners, owned), ("", transports), ("", disabled)] {
        let wanted = |parameter: &str, number: &str| {
            let main_cf = format!("{mounts}{parameter}");
            Mounted::of(&[(MAIN_CF, &main_cf), (DOMAINS, number), (OWNERS, "970 970 a/\n")])
        };
        let before = compiled(mounted(runs), "A");
        let (mut course, now) = (Course::new(before.clone()), Instant::now());
        let bad = wanted("bad = x\n", "1").with_certificate(Certificate::Usable("renewed".to_owned()));
        course.refused(&bad, &refusal(), now);
        assert_eq!(accept(&mut course, &bad, "B", None, now).0, Step::Exchange, "a certificate fits");
        let kept = course.running();
        assert_eq!((kept.maps(), kept.owners().len()), (Some("A".as_ref()), 0), "{mounts}");
        let good = wanted("", "1");
        assert_eq!(accept(&mut course, &good, "B", None, now).0, Step::Exchange);
        let taken = course.running();
        assert_eq!((taken.maps(), taken.owners().len()), (Some("B".as_ref()), 1), "{mounts}");
    }
}

#[test]
fn owners_of_mail_follow_also_while_the_type_of_the_look_up_files_is_refused() {
    let main_cf = |type_: &str| {
        format!(
            "virtual_uid_maps = {type_}:$vmail_maps/uid_maps\nvirtual_gid_maps = {type_}:$vmail_maps/gid_maps\n"
        )
    };
    let with = |type_: &str, owner: &str| Mounted::of(&[(MAIN_CF, &main_cf(type_)), (OWNERS, owner)]);
    let running = compiled(with("hash", "970 970 a/\n"), "A");
    let candidate = with("cdb", "980 980 a/\n").configured_as(&running);
    assert!(candidate == with("hash", "980 980 a/\n"), "with look-up files that are to be compiled");
}

#[test]
fn a_configuration_that_is_put_right_is_taken_and_one_that_is_put_back_is_told_as_good() {
    for mended in [GOOD, "myhostname = c\n"] {
        let (mut course, now) = (running(), Instant::now());
        let bad = mounted("myhostname = b\n");
        course.refused(&bad, &refusal(), now);
        accept(&mut course, &bad, "B", None, now);
        accept(&mut course, &mounted(mended), "B", None, now);
        assert_eq!(course.running().text(MAIN_CF), mended);
        assert_eq!(course.told(&mounted(mended)), None, "{mended}");
    }
}

#[test]
fn an_account_goes_to_the_server_that_it_is_for_and_to_no_other() {
    let (database, relay) = ("hosts = old\ndbname = a\n", "relayhost = old\n");
    let with = |database: &str, relay: &str, password: &str| {
        Mounted::of(&[(MAIN_CF, relay), ("alias_maps.cf", database)]).with_accounts(password)
    };
    let running = with(database, relay, "1");
    let kept = |database: &str, relay: &str| with(database, relay, "2").configured_as(&running);
    assert!(kept(database, relay) == with(database, relay, "2"));
    assert!(kept(&format!("query = SELECT 2\n{database}"), relay) == with(database, relay, "2"));
    for database in [
        "hosts = new\ndbname = a\n",
        "hosts = old\ndbname = b\n",
        "hosts = old\ndbname = a\ntls_CAfile = x\n",
    ] {
        assert!(kept(database, "relayhost = new\n") == running, "{database}");
    }
    // What is asked of the same database comes and goes.
    let asks_more =
        Mounted::of(&[(MAIN_CF, relay), ("alias_maps.cf", database), ("transport_maps.cf", database)]);
    assert!(asks_more.with_accounts("2").configured_as(&running) == with(database, relay, "2"));
}

#[test]
fn a_type_of_look_up_files_that_can_not_be_compiled_is_tried_again_and_the_accounts_go_on() {
    let (mut course, mut now) = (running(), Instant::now());
    let wanted = mounted("virtual_alias_maps = cdb:$vmail_maps/alias_maps\nvirtual_uid_maps = static:901\n");
    course.not_compiled(&wanted, &refusal(), now);
    assert_eq!(accept(&mut course, &wanted, "B", None, now), (Step::Exchange, false));
    assert!(course.told(&wanted).is_some());
    now += Duration::from_secs(1);
    assert!(course.candidate(&wanted, now).is_wanted);
    course.not_compiled(&wanted, &refusal(), now);
    assert!(!course.candidate(&wanted, now + Duration::from_millis(1900)).is_wanted, "it rests longer");
    now += Duration::from_secs(2);
    assert_eq!(accept(&mut course, &wanted, "C", None, now), (Step::Exchange, false));
    assert_eq!(course.told(&wanted), None);
}

/// A full disk, say: what is wanted is what runs.
#[test]
fn what_could_not_be_compiled_for_a_while_is_not_told_for_ever() {
    let (mut course, now) = (running(), Instant::now());
    let wanted = mounted(GOOD);
    course.not_compiled(&wanted, &refusal(), now);
    assert!(!course.candidate(&wanted, now).is_wanted);
    course.left(&refusal());
    assert_eq!(course.told(&wanted).map(|told| told.error), Some(refusal().to_string()), "once");
    accept(&mut course, &wanted, "A", None, now);
    assert!(course.told(&wanted).is_some(), "until it is tried");
    accept(&mut course, &wanted, "A", None, now + Duration::from_secs(1));
    assert_eq!(course.told(&wanted), None);
}

/// `No space left on device`, say, in a daemon's words: they don't tell that it passes.
#[test]
fn what_postfix_refused_is_tried_again_later_whether_it_is_all_that_is_mounted_or_not() {
    let full = Error::Refused("fatal: open lock file: No space left on device".to_owned());
    let (mut course, mut now) = (running(), Instant::now());
    let wanted = mounted("myhostname = b\nvirtual_uid_maps = static:901\n");
    course.refused(&wanted, &refusal(), now);
    let (step, candidate) = look(&mut course, &wanted, "B", now);
    assert_eq!((step, candidate.is_wanted), (Step::Exchange, false));
    course.failed(candidate, &full, now);
    for minutes in [1, 2] {
        let almost = now + Duration::from_secs(minutes * 59);
        assert_eq!(look(&mut course, &wanted, "B", almost).0, Step::Rest);
        now += Duration::from_mins(minutes);
        let (step, candidate) = look(&mut course, &wanted, "B", now);
        assert_eq!((step, candidate.is_wanted), (Step::Exchange, true));
        course.refused(&wanted, &refusal(), now);
        assert!(course.told(&wanted).is_some_and(|told| told.error.contains("No space left")));
        let (step, candidate) = look(&mut course, &wanted, "B", now);
        assert_eq!((step, candidate.is_wanted), (Step::Exchange, false));
        course.failed(candidate, &full, now);
    }
    now += Duration::from_mins(4);
    assert_eq!(accept(&mut course, &wanted, "B", None, now), (Step::Exchange, false));
    assert_eq!((course.told(&wanted), course.running().maps()), (None, Some("B".as_ref())));
}

#[test]
fn an_exchange_that_failed_half_way_is_made_up_for() {
    let (mut course, mut now) = (running(), Instant::now());
    let wanted = mounted("myhostname = b\n");
    let (_, candidate) = look(&mut course, &wanted, "A", now);
    course.failed(candidate, &failure(), now);
    assert!(course.told(&wanted).is_some_and(|told| told.config_hash == wanted.hash()));
    assert_eq!(look(&mut course, &wanted, "A", now).0, Step::Rest);
    now += Duration::from_secs(1);
    assert_eq!(look(&mut course, &wanted, "A", now).0, Step::Exchange);
    // It may be in place by now, so what ran before is no longer there to be left alone.
    assert_eq!(accept(&mut course, &mounted(GOOD), "A", None, now), (Step::Exchange, false));
    assert_eq!(course.told(&mounted(GOOD)), None);
}

#[test]
fn deferred_mail_is_tried_when_the_mail_store_is_in_another_order_and_not_with_every_try() {
    let (mut course, mut now) = (running(), Instant::now());
    let owned = Mounted::of(&[(MAIN_CF, GOOD), (OWNERS, "970 970 a/\n970 970 b/\n")]);
    let (one, both) = (Some("a: Not a directory"), Some("a: Not a directory; b: Not a directory"));
    assert_eq!(accept(&mut course, &owned, "A", both, now), (Step::Exchange, true));
    for _ in 0..3 {
        now += Duration::from_mins(1);
        assert_eq!(accept(&mut course, &owned, "A", both, now), (Step::Own, false));
    }
    for store in [one, None] {
        now += Duration::from_mins(1);
        assert_eq!(accept(&mut course, &owned, "A", store, now), (Step::Own, true));
    }
    assert_eq!(accept(&mut course, &owned, "A", None, now + Duration::from_hours(1)), (Step::Rest, false));
}
