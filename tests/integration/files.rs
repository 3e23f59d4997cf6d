//! Look-up files on the real node: every type of them, accounts that come and go, the brake, and the way from files to a
//! database and back with mail flowing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::node::{
    LIMIT, Server, apply, apply_all, await_true, condition, field, install, kubectl, manifest, must, send_to,
};
use crate::smtp::Session;

/// From an answer of the API server to what Postfix does: the kubelet projects a changed `ConfigMap` in about a second.
const SOON: Duration = Duration::from_secs(5);

const PAPER: Server = Server("paper");

fn declare(mailboxes: impl IntoIterator<Item = String>) {
    let mailbox = |name: String| {
        manifest("Mailbox", &format!("paper-{name}"), &format!("address: {name}@paper.example.org"))
    };
    apply(&mailboxes.into_iter().map(mailbox).collect::<String>());
}

fn delete(mailboxes: impl IntoIterator<Item = String>) {
    let names: Vec<String> = mailboxes.into_iter().map(|name| format!("paper-{name}")).collect();
    let mut arguments = vec!["delete", "mailbox", "--wait=false"];
    arguments.extend(names.iter().map(String::as_str));
    must(&kubectl(&arguments), "kubectl delete");
}

/// Asks for a declared address again and again: it may be put off, and is never refused.
struct Asker {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Asker {
    fn start(to: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (Arc::clone(&stop), PAPER.address());
        let thread = std::thread::spawn(move || {
            let mut refusals = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let reply = Session::open(&address).and_then(|mut session| session.recipient(to));
                refusals.extend(reply.ok().filter(|reply| reply.code >= 500).map(|reply| reply.text));
            }
            refusals
        });
        Self { stop, thread }
    }

    fn refusals(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn arrives(to: &str, subject: &str) {
    PAPER.send(to, subject);
    PAPER.pod().await_delivered(subject);
}

#[test]
fn accounts_in_files_come_and_go_and_the_type_can_be_changed_under_way() {
    install();
    apply_all(&[
        manifest("MailServer", "paper", "hostname: paper.example.org, lookupTables: hash"),
        manifest("MailDomain", "paper", "serverRef: {name: paper}, domain: paper.example.org"),
    ]);
    declare(["ada".to_owned()]);
    PAPER.await_ready();
    let pod = PAPER.pod().field(".metadata.uid");
    assert_eq!(condition(&PAPER.object(), "DatabaseReady", "status"), "");
    for type_ in ["hash", "lmdb", "cdb", "texthash"] {
        every_type_takes_changes(type_);
    }
    assert_eq!(PAPER.pod().field(".metadata.uid"), pod, "the pod was not made anew");
    mass_deletion_is_held_back();
    a_database_takes_over_and_gives_back();
}

fn every_type_takes_changes(type_: &str) {
    let asker = Asker::start("ada@paper.example.org");
    PAPER.switch_to(type_);
    arrives("ada@paper.example.org", &format!("with-{type_}"));
    let (name, to) = (format!("new-{type_}"), format!("new-{type_}@paper.example.org"));
    assert_eq!(PAPER.code(&to), 550);
    declare([name.clone()]);
    let took = await_true(LIMIT, "a new mailbox is accepted", || PAPER.code(&to) == 250);
    assert!(took < SOON, "{type_}: accepted only after {took:?}");
    arrives(&to, &format!("new-with-{type_}"));
    delete([name]);
    let took = await_true(LIMIT, "a deleted mailbox is refused", || PAPER.code(&to) == 550);
    assert!(took < SOON, "{type_}: refused only after {took:?}");
    assert_eq!(asker.refusals(), Vec::<String>::new(), "{type_}");
}

fn mass_deletion_is_held_back() {
    let many = || (0..60).map(|number| format!("many{number}"));
    declare(many());
    await_true(LIMIT, "the last of many is accepted", || PAPER.code("many59@paper.example.org") == 250);
    delete(many());
    let reason = || condition(&PAPER.object(), "TablesSynced", "reason");
    await_true(LIMIT, "DeletionsHeld", || reason() == "DeletionsHeld");
    declare(["late".to_owned()]);
    await_true(LIMIT, "additions go on", || PAPER.code("late@paper.example.org") == 250);
    assert_eq!(PAPER.code("many59@paper.example.org"), 250);
    let message = condition(&PAPER.object(), "TablesSynced", "message");
    let release = message.rsplit(' ').next().unwrap();
    must(&kubectl(&["annotate", "mailserver", PAPER.0, release]), "kubectl annotate");
    await_true(LIMIT, "released", || PAPER.code("many59@paper.example.org") == 550);
    assert_eq!(PAPER.code("late@paper.example.org"), 250);
}

fn a_database_takes_over_and_gives_back() {
    let asker = Asker::start("ada@paper.example.org");
    for type_ in ["proxy:mysql", "hash"] {
        PAPER.switch_to(type_);
        arrives("ada@paper.example.org", &format!("after-{}", type_.replace(':', "-")));
        assert_eq!(PAPER.code("nobody@paper.example.org"), 550);
    }
    assert_eq!(
        asker.refusals(),
        Vec::<String>::new(),
        "no declared address is refused while tables are exchanged"
    );
    await_true(LIMIT, "the database that is used no more is gone", || {
        field("statefulset/paper-database", ".metadata.name").is_empty()
    });
    assert_eq!(field("pvc/data-paper-database-0", ".status.phase"), "Bound", "its data stays");
}

const BASED: Server = Server("based");

/// The seed's base directory.
const BASE: &str = "/var/spool/postfix/vmail";

fn based_mailbox(name: &str, domain: &str, extra: &str) -> String {
    manifest("Mailbox", &format!("based-{name}"), &format!("address: {name}@{domain}.example.org{extra}"))
}

#[test]
fn files_name_owners_and_the_seeds_base_directory_is_one() {
    install();
    let server = format!("hostname: based.example.org, lookupTables: hash, mailStore: {{path: {BASE}}}");
    apply_all(&[
        manifest("MailServer", "based", &server),
        manifest(
            "MailDomain",
            "based",
            "serverRef: {name: based}, domain: based.example.org, uid: 960, gid: 961",
        ),
        manifest("MailDomain", "plain", "serverRef: {name: based}, domain: plain.example.org"),
        based_mailbox("max", "based", ""),
        based_mailbox("moritz", "based", ", uid: 970"),
        based_mailbox("pia", "plain", ""),
    ]);
    BASED.await_ready();
    await_true(LIMIT, "Postfix looks owners up", || {
        BASED.pod().postconf("virtual_uid_maps").contains("/uid_maps")
    });
    for (name, domain, owner) in
        [("max", "based", "960:961"), ("moritz", "based", "970:961"), ("pia", "plain", "901:901")]
    {
        arrives_as(name, domain, owner, name);
    }
    a_path_that_is_in_the_way_is_told_and_stops_nobody_else();
    the_servers_new_owner_gets_the_mail_that_was_the_old_ones();
}

fn is_there_as(name: &str, domain: &str, owner: &str, subject: &str) -> bool {
    BASED.pod().store(BASE).iter().any(|line| {
        line.starts_with(&format!("{owner} {domain}.example.org/{name}/new/"))
            && line.ends_with(&format!(" {subject}"))
    })
}

fn arrives_as(name: &str, domain: &str, owner: &str, subject: &str) {
    let to = format!("{name}@{domain}.example.org");
    send_to(|| BASED.pod().address(), &to, subject);
    await_true(LIMIT, &format!("{to} has {subject}, as {owner}"), || {
        is_there_as(name, domain, owner, subject)
    });
}

/// As a program of the mailbox's user could put it there.
fn a_path_that_is_in_the_way_is_told_and_stops_nobody_else() {
    let path = format!("{BASE}/based.example.org/eve");
    BASED.pod().run(&format!("ln -s /tmp {path}"));
    apply_all(&[based_mailbox("eve", "based", ", uid: 971"), based_mailbox("ned", "based", ", uid: 972")]);
    await_true(LIMIT, "ConfigValid names the path", || {
        condition(&BASED.object(), "ConfigValid", "reason") == "ConfigInvalid"
            && condition(&BASED.object(), "ConfigValid", "message").contains(&path)
    });
    // It was declared second, and may be a configuration later.
    await_true(LIMIT, "ned is known", || BASED.code("ned@based.example.org") == 250);
    arrives_as("ned", "based", "972:961", "past-a-path-in-the-way");
    assert_eq!(BASED.pod().run("stat -c %u:%g /tmp").trim(), "0:0", "the link was not followed");
    BASED.pod().run(&format!("rm {path}"));
    BASED.await_ready();
    arrives_as("eve", "based", "971:961", "out-of-the-way");
}

fn the_servers_new_owner_gets_the_mail_that_was_the_old_ones() {
    BASED.patch("{\"mailStore\":{\"uid\":902}}");
    await_true(LIMIT, "the mail that is there is the new owner's", || {
        is_there_as("pia", "plain", "902:901", "pia")
    });
    arrives_as("pia", "plain", "902:901", "of-the-new-owner");
    assert!(is_there_as("moritz", "based", "970:961", "moritz"), "whoever names an owner keeps it");
}
