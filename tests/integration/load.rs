//! Ninety clients at once on the real node, in every look-up type, while accounts come and go and the configuration changes:
//! what was accepted is in the mail store once, and belongs to the mail's owner.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::node::{
    LIMIT, NAMESPACE, Server, apply, apply_all, await_true, field, install, kubectl, manifest, must, ready,
    tool,
};
use crate::smtp::Session;

const CLIENTS: usize = 90;
const MESSAGES: usize = 5000;
const MAILBOXES: usize = 30;

/// Most connections that proxymap(8) may hold; each process with `mysql` has its own.
const MOST_CONNECTIONS: usize = 40;

/// A database that is back is used again within this time.
const BACK: Duration = Duration::from_secs(10);

const LOAD: Server = Server("load");

/// A mailbox with an owner of its own, in the server's domain.
const OWNED: &str = "u28@load.example.org";

/// A mailbox of a domain with an owner of its own.
const OF_OWNED_DOMAIN: &str = "u29@load-owned.example.org";

/// Names what belongs to another than 970:971 of [`OWNED`], 960:961 of [`OF_OWNED_DOMAIN`], and the server's owner of all else.
const WRONG_OWNERS: &str = r"{
    find load.example.org -type f -not -path '*/u28/*' \( -not -user 901 -o -not -group 901 \)
    find load.example.org/u28 -type f \( -not -user 970 -o -not -group 971 \)
    find load-owned.example.org -type f \( -not -user 960 -o -not -group 961 \)
} | sed 's/^/0 wrong-owner /'";

fn recipient(number: usize) -> String {
    match number % MAILBOXES {
        28 => OWNED.to_owned(),
        29 => OF_OWNED_DOMAIN.to_owned(),
        number => format!("u{number}@load.example.org"),
    }
}

fn mailbox(name: &str) -> String {
    manifest("Mailbox", &format!("load-{name}"), &format!("address: {name}@load.example.org"))
}

fn declare() {
    let server = "hostname: load.example.org, massDeletion: {maxPercent: 100}, \
                  postfix: {parameters: {smtpd_client_connection_count_limit: \"0\"}}";
    let domain = "serverRef: {name: load}, domain: load.example.org";
    apply_all(&[
        manifest("MailServer", "load", server),
        manifest("MailDomain", "load", domain),
        manifest(
            "MailDomain",
            "load-owned",
            "serverRef: {name: load}, domain: load-owned.example.org, uid: 960, gid: 961",
        ),
        (0..28).map(|number| mailbox(&format!("u{number}"))).collect(),
        manifest("Mailbox", "load-u28", &format!("address: {OWNED}, uid: 970, gid: 971")),
        manifest("Mailbox", "load-u29", &format!("address: {OF_OWNED_DOMAIN}")),
    ]);
    LOAD.await_ready();
    for number in [0, 28, 29] {
        let to = recipient(number);
        await_true(LIMIT, &format!("{to} is accepted"), || LOAD.code(&to) == 250);
    }
    await_true(LIMIT, "Postfix looks owners up", || {
        LOAD.pod().postconf("virtual_uid_maps").contains("uid_maps")
    });
}

/// A command beside the load, until it is stopped. Those of its lines are kept that are asked for.
struct Watch {
    command: Child,
    lines: JoinHandle<Vec<String>>,
}

impl Watch {
    fn start(arguments: &[&str], is_kept: fn(&str) -> bool) -> Self {
        let mut command = tool("kubectl");
        let spawned = command.args(["-n", NAMESPACE]).args(arguments).stdout(Stdio::piped()).spawn();
        let mut command = spawned.unwrap();
        let output = BufReader::new(command.stdout.take().unwrap());
        let lines = output.lines().map_while(Result::ok);
        let lines = std::thread::spawn(move || lines.filter(|line| is_kept(line)).collect());
        Self { command, lines }
    }

    /// Connections of Postfix to the database, five times a second.
    fn connections() -> Self {
        let script = "while :; do awk '$3 ~ /:0CEA$/ && $4 == \"01\"' /proc/net/tcp | wc -l; sleep 0.2; done";
        let pod = LOAD.pod().name();
        Self::start(&["exec", &pod, "-c", "postfix", "--", "sh", "-c", script], |_| true)
    }

    /// What Postfix says from now on of a database that takes no more connections.
    fn refused_connections() -> Self {
        let pod = LOAD.pod().name();
        Self::start(&["logs", "--follow", "--since=1s", &pod, "-c", "postfix"], |line| {
            line.contains("Too many connections")
        })
    }

    fn lines(mut self) -> Vec<String> {
        self.command.kill().unwrap();
        self.command.wait().unwrap();
        self.lines.join().unwrap()
    }

    /// The largest of the numbers that it said.
    fn peak(self) -> usize {
        let counts = self.lines().into_iter().map(|line| line.trim().parse());
        counts.map(|count: Result<usize, _>| count.expect("a count")).max().expect("connections were counted")
    }
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    accepted: BTreeSet<String>,
    /// Answers that a mail server takes for the last word.
    refusals: Vec<String>,
}

/// Sends messages on many connections until `count` are accepted. An attempt that nobody answered for is not repeated under
/// the same subject: whether it counts is unknown.
fn send_all(type_: &str, count: usize) -> Told {
    let address = LOAD.address();
    let (next, accepted) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let told = Mutex::new(Told::default());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut session = None;
                while accepted.load(Ordering::Relaxed) < count {
                    assert!(started.elapsed() < LIMIT, "{type_}: {accepted:?} of {count} messages accepted");
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let subject = format!("{type_}-{number}");
                    let mut open = session.take().or_else(|| Session::open(&address).ok());
                    let result = open.as_mut().map(|session| session.send(&recipient(number), &subject));
                    match result {
                        Some(Ok(())) => {
                            accepted.fetch_add(1, Ordering::Relaxed);
                            told.lock().unwrap().accepted.insert(subject);
                            session = open;
                        }
                        Some(Err(error)) if error.to_string().starts_with('5') => {
                            told.lock().unwrap().refusals.push(error.to_string());
                        }
                        _ => std::thread::sleep(Duration::from_millis(50)),
                    }
                }
            });
        }
    });
    told.into_inner().unwrap()
}

/// Accounts come and go, and the configuration changes, until `stop`.
fn churn(stop: &AtomicBool) -> usize {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("churn{}", rounds % 5);
        apply(&mailbox(&name));
        LOAD.patch(&format!("{{\"postfix\":{{\"messageSizeLimit\":\"{}Mi\"}}}}", 20 + rounds % 7));
        must(&kubectl(&["delete", "mailbox", &format!("load-{name}"), "--wait=false"]), "kubectl delete");
        rounds += 1;
    }
    rounds
}

/// How often each subject of a type is in the mail store, and files whose owner is another.
fn stored(type_: &str) -> BTreeMap<(String, String), usize> {
    let script = format!(
        "cd /var/vmail && grep -rhm1 '^Subject: {type_}-' load.example.org load-owned.example.org | sort | uniq -c; {WRONG_OWNERS}"
    );
    let text = LOAD.pod().run(&script);
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [count, kind, subject] = words[..] {
            found.insert((kind.to_owned(), subject.to_owned()), count.parse().unwrap());
        }
    }
    found
}

#[test]
fn ninety_clients_lose_nothing_in_any_look_up_type() {
    install();
    declare();
    for type_ in ["proxy:mysql", "mysql", "hash", "lmdb", "cdb", "texthash"] {
        LOAD.switch_to(type_);
        one_type(type_);
    }
}

fn one_type(type_: &str) {
    // The mail of an earlier run is in the store as well.
    let name = format!("{}-{}", type_.replace(':', "-"), std::process::id());
    if type_ == "proxy:mysql" {
        connections_are_few(&name);
    }
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    let refused = Watch::refused_connections();
    let (told, rounds) = std::thread::scope(|scope| {
        let churning = scope.spawn(|| churn(&stop));
        let told = send_all(&name, MESSAGES);
        stop.store(true, Ordering::Relaxed);
        (told, churning.join().unwrap())
    });
    let took = started.elapsed();
    assert_eq!(told.refusals, Vec::<String>::new(), "{type_}: no declared address is refused");
    assert!(rounds > 0, "{type_}: accounts came and went meanwhile");
    all_are_there_once(type_, &name, &told.accepted);
    assert_eq!(refused.lines(), Vec::<String>::new(), "{type_}: the database has connections for all");
    println!("{type_}: {MESSAGES} messages accepted in {took:?}, {rounds} rounds of changes");
    if type_.contains("mysql") {
        a_database_restart_defers_at_worst(type_, &name);
    }
}

/// Without a reload: after one, those of the processes from before are there for a while too.
fn connections_are_few(name: &str) {
    let watch = Watch::connections();
    let name = format!("{name}-steady");
    let told = send_all(&name, 1000);
    let peak = watch.peak();
    println!("{peak} connections to the database");
    assert_eq!(told.refusals, Vec::<String>::new());
    assert!((1..MOST_CONNECTIONS).contains(&peak), "{peak} connections to the database");
}

fn all_are_there_once(type_: &str, name: &str, accepted: &BTreeSet<String>) {
    let subject = |subject: &String| ("Subject:".to_owned(), subject.clone());
    await_true(LIMIT, &format!("{type_}: every accepted message is in the mail store"), || {
        let stored = stored(name);
        accepted.iter().all(|accepted| stored.contains_key(&subject(accepted)))
    });
    let stored = stored(name);
    let twice: Vec<_> = accepted.iter().filter(|accepted| stored[&subject(accepted)] > 1).collect();
    assert!(twice.is_empty(), "{type_}: {} delivered twice, {:?} for one", twice.len(), twice.first());
    let foreign: Vec<_> = stored.keys().filter(|(kind, _)| kind == "wrong-owner").collect();
    assert!(foreign.is_empty(), "{type_}: files of a wrong owner: {foreign:?}");
}

/// The database's pod is deleted while mail flows: nothing is refused or bounced, and mail is taken soon after it is back.
fn a_database_restart_defers_at_worst(type_: &str, name: &str) {
    let name = format!("{name}-restart");
    let database = || field("pod/load-database-0", ".metadata.uid");
    let before = database();
    must(&kubectl(&["delete", "pod", "load-database-0", "--wait=false"]), "kubectl delete pod");
    let told = std::thread::scope(|scope| {
        let sending = scope.spawn(|| send_all(&name, 500));
        await_true(LIMIT, "the database is back", || database() != before && ready("pod/load-database-0"));
        let took = await_true(LIMIT, "mail is taken again", || LOAD.code(&recipient(0)) == 250);
        assert!(took < BACK, "{type_}: mail is taken {took:?} after the database is back");
        sending.join().unwrap()
    });
    assert_eq!(told.refusals, Vec::<String>::new(), "{type_}: a declared address is put off at worst");
    all_are_there_once(type_, &name, &told.accepted);
    let log = kubectl(&["logs", &LOAD.pod().name(), "-c", "postfix", "--since=5m"]);
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    let bounced: Vec<&str> = log.lines().filter(|line| line.contains("status=bounced")).collect();
    assert!(bounced.is_empty(), "{type_}: {bounced:?}");
}
