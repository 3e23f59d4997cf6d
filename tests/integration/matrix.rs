//! Every look-up type, layout and format on the real node: the seed's nine mailboxes and the alias cases, down to the files.
//!
//! A server for each layout and format; all of them change through the look-up types, with mail in their queues.

use std::collections::BTreeSet;

use crate::node::{LIMIT, Server, apply, await_true, delete, install, manifest, patch};

const TYPES: [&str; 6] = ["proxy:mysql", "mysql", "hash", "lmdb", "cdb", "texthash"];

const MAILBOXES: [&str; 9] = [
    "alfred@alpha",
    "bob@alpha",
    "charlie@alpha",
    "auntie@beta",
    "bill@beta",
    "chou@beta",
    "alistair@gamma",
    "ben@gamma",
    "cinder@gamma",
];

/// An address and the mailboxes that have its mail in the end.
const ALIASES: [(&str, &[&str]); 7] = [
    ("info@alpha", &["alfred@alpha"]),
    ("hello@alpha", &["alfred@alpha"]),
    ("team@beta", &["bob@alpha", "bill@beta", "ben@gamma"]),
    ("whoever@gamma", &["ben@gamma"]),
    ("charlie@delta", &["charlie@alpha"]),
    ("hello@delta", &["alfred@alpha"]),
    ("Bob+Tag@Alpha", &["bob@alpha"]),
];

/// One target outside, for a relay host that doesn't answer.
const FRIEND: &str = "friend@alpha";

/// Its domain has a transport that doesn't answer, until the end.
const LATE: &str = "late@later";

struct Variant {
    server: Server,
    layout: &'static str,
    format: &'static str,
}

const VARIANTS: [Variant; 4] = [
    Variant { server: Server("user-maildir"), layout: "LocalPart", format: "Maildir" },
    Variant { server: Server("user-mbox"), layout: "LocalPart", format: "Mbox" },
    Variant { server: Server("address-maildir"), layout: "Address", format: "Maildir" },
    Variant { server: Server("address-mbox"), layout: "Address", format: "Mbox" },
];

#[test]
fn every_look_up_type_layout_and_format_delivers_as_the_seed_says() {
    install();
    let manifests: String = VARIANTS.iter().map(Variant::manifests).collect();
    apply(&manifests);
    std::thread::scope(|scope| {
        for variant in &VARIANTS {
            scope.spawn(|| variant.goes_through_all_types());
        }
    });
    delete(&manifests);
}

impl Variant {
    /// Domains are of one server only.
    fn full(&self, address: &str) -> String {
        format!("{address}.{}.example.org", self.server.0)
    }

    fn object(&self, kind: &str, name: &str, spec: &str) -> String {
        manifest(kind, &format!("{}-{name}", self.server.0), spec)
    }

    fn manifests(&self) -> String {
        let Self { server: Server(name), layout, format } = self;
        let spec = format!(
            "hostname: {name}.example.org, mailStore: {{layout: {layout}, format: {format}}}, \
             postfix: {{relayHost: {{host: 127.0.0.1, port: 2599}}}}"
        );
        let mut text = manifest("MailServer", name, &spec);
        for (domain, extra) in [
            ("alpha", String::new()),
            ("beta", String::new()),
            ("gamma", format!("catchAll: [{}]", self.full("ben@gamma"))),
            ("delta", format!("aliasOf: {}", self.full("alpha"))),
            ("later", "transport: 'lmtp:inet:127.0.0.1:2598'".to_owned()),
        ] {
            let spec = format!("serverRef: {{name: {name}}}, domain: {}, {extra}", self.full(domain));
            text += &self.object("MailDomain", domain, &spec);
        }
        for address in MAILBOXES.into_iter().chain([LATE]) {
            let user = address.split('@').next().unwrap();
            let forward = match user {
                "auntie" => format!(", forwardTo: [{}], keepCopy: true", self.full("alistair@gamma")),
                _ => String::new(),
            };
            text += &self.object("Mailbox", user, &format!("address: {}{forward}", self.full(address)));
        }
        for (address, goto) in [
            ("info@alpha", self.full("alfred@alpha")),
            ("hello@alpha", self.full("info@alpha")),
            ("team@beta", ["bob@alpha", "bill@beta", "ben@gamma"].map(|to| self.full(to)).join(", ")),
            (FRIEND, "friend@elsewhere.example.net".to_owned()),
        ] {
            let user = address.split('@').next().unwrap();
            let spec = format!("address: {}, goto: [{goto}]", self.full(address));
            text += &self.object("MailAlias", user, &spec);
        }
        text
    }

    fn goes_through_all_types(&self) {
        self.server.await_ready();
        await_true(LIMIT, "the last alias is accepted", || self.code(FRIEND) == 250);
        self.send(LATE, "kept");
        for (number, type_) in TYPES.into_iter().enumerate() {
            self.server.switch_to(type_);
            self.refuses_what_is_not_declared(type_);
            self.delivers(type_);
            self.send(FRIEND, "relayed");
            let waiting =
                |to: &str, count| self.queue().matches(&format!("\"address\": \"{to}\"")).count() == count;
            await_true(LIMIT, &format!("{}, {type_}: the external target waits", self.server.0), || {
                waiting("friend@elsewhere.example.net", number + 1)
            });
            assert!(waiting(&self.full(LATE), 1), "{}, {type_}: kept in the queue", self.server.0);
        }
        self.delivers_what_was_kept();
    }

    fn refuses_what_is_not_declared(&self, type_: &str) {
        for (to, code) in [("nobody@alpha", 550), ("nobody@delta", 550), ("nobody@elsewhere", 554)] {
            assert_eq!(self.code(to), code, "{}, {type_}: {to}", self.server.0);
        }
    }

    fn delivers(&self, type_: &str) {
        let mut expected = BTreeSet::new();
        let own = MAILBOXES.into_iter().map(|mailbox| match mailbox {
            "auntie@beta" => (mailbox, vec![mailbox, "alistair@gamma"]),
            _ => (mailbox, vec![mailbox]),
        });
        let aliases = ALIASES.into_iter().map(|(address, mailboxes)| (address, mailboxes.to_vec()));
        for (number, (to, mailboxes)) in own.chain(aliases).enumerate() {
            let subject = format!("{}-{number}", type_.replace(':', "-"));
            self.send(to, &subject);
            expected.extend(mailboxes.into_iter().map(|mailbox| self.message(to, mailbox, &subject)));
        }
        let prefix = format!(" {}-", type_.replace(':', "-"));
        let found =
            || -> Vec<String> { self.store().into_iter().filter(|line| line.contains(&prefix)).collect() };
        await_true(LIMIT, &format!("{}, {type_}: all is delivered", self.server.0), || {
            found().len() >= expected.len()
        });
        let found = found();
        assert_eq!(found.len(), expected.len(), "{}, {type_}: delivered once: {found:#?}", self.server.0);
        assert_eq!(BTreeSet::from_iter(found), expected, "{}, {type_}", self.server.0);
    }

    fn delivers_what_was_kept(&self) {
        patch(&format!("maildomain/{}-later", self.server.0), "{\"transport\":null}");
        let kept = self.message(LATE, LATE, "kept");
        await_true(
            LIMIT,
            &format!("{}: what was in the queue all the time is delivered", self.server.0),
            || {
                self.server.pod().run("postqueue -c /run/vmail/postfix -f");
                self.store().contains(&kept)
            },
        );
        assert_eq!(self.store().iter().filter(|line| line.ends_with(" kept")).count(), 1);
    }

    /// As [`Self::store`] shows it.
    fn message(&self, to: &str, mailbox: &str, subject: &str) -> String {
        let address = self.full(mailbox);
        let (user, domain) = address.split_once('@').unwrap();
        let user = if self.layout == "Address" { &address } else { user };
        let directory = if self.format == "Maildir" { "/new/" } else { "" };
        // The identity row answers for the mailbox, and virtual(8) keeps the tag.
        let tag = to.split_once('@').and_then(|(user, _)| user.split_once('+'));
        let delivered =
            tag.map_or_else(|| address.clone(), |(_, tag)| address.replace('@', &format!("+{tag}@")));
        format!(
            "901:901 600 {domain}/{user}{directory} <samt@example.net> {} {delivered} {subject}",
            self.full(to)
        )
    }

    /// A line for each message: owner, mode, place, `Return-Path`, `X-Original-To`, `Delivered-To`, `Subject`.
    fn store(&self) -> Vec<String> {
        let script = r#"cd /var/vmail && find . -type f -printf '%U:%G %m %P\n' | while read -r owner mode path; do
            awk -v "file=$owner $mode $path" '
                /^Return-Path: / { path = $2 } /^X-Original-To: / { to = $2 } /^Delivered-To: / { delivered = $2 }
                /^Subject: / { sub("/new/.*", "/new/", file); print file, path, to, delivered, $2 }' "$path"; done"#;
        self.server.pod().run(script).lines().map(str::to_owned).collect()
    }

    fn queue(&self) -> String {
        self.server.pod().run("postqueue -c /run/vmail/postfix -j")
    }

    /// The pod is made anew between a database and files: asks until somebody answers.
    fn code(&self, to: &str) -> u16 {
        let mut code = 0;
        await_true(LIMIT, &format!("{}: an answer for {to}", self.server.0), || {
            code = self.server.code(&self.full(to));
            code != 0
        });
        code
    }

    fn send(&self, to: &str, subject: &str) {
        self.server.send(&self.full(to), subject);
    }
}
