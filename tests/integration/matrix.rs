//! Every look-up type, layout and format on the real node: the seed's nine mailboxes and the alias cases, down to the files.
//!
//! A server for each layout and format; all of them change through the look-up types, with mail in their queues.

use std::collections::BTreeSet;

use crate::node::{LIMIT, Server, apply, await_true, delete, install, manifest, patch};

const TYPES: [&str; 6] = ["proxy:mysql", "mysql", "hash", "lmdb", "cdb", "texthash"];

/// Those of them that are files.
const FILES: [&str; 4] = ["hash", "lmdb", "cdb", "texthash"];

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
const ALIASES: [(&str, &[&str]); 11] = [
    ("info@alpha", &["alfred@alpha"]),
    ("hello@alpha", &["alfred@alpha"]),
    ("team@beta", &["bob@alpha", "bill@beta", "ben@gamma"]),
    ("whoever@gamma", &["ben@gamma"]),
    ("charlie@delta", &["charlie@alpha"]),
    ("hello@delta", &["alfred@alpha"]),
    ("Bob+Tag@Alpha", &["bob@alpha"]),
    // Beside a catch-all: a tagged address is its mailbox's, an alias that is switched off is nobody's.
    ("cinder+tag@gamma", &["cinder@gamma"]),
    ("old@gamma", &["ben@gamma"]),
    ("cinder+tag@epsilon", &["cinder@gamma"]),
    ("whoever@epsilon", &["ben@gamma"]),
];

/// Beside a catch-all, under its domain and under an alias of that.
const SWITCHED_OFF: [&str; 3] = ["off@gamma", "off+tag@gamma", "off@epsilon"];

/// Its target's domain is switched off.
const GHOST: &str = "ghost@alpha";

/// Owned by another than the mail that was in its domain before.
const DORA: &str = "dora@beta";

/// One target outside, for a relay host that doesn't answer.
const FRIEND: &str = "friend@alpha";

/// Its domain has a transport that doesn't answer, until the end.
const LATE: &str = "late@later";

struct Variant {
    server: Server,
    layout: &'static str,
    format: &'static str,
    /// The first look-up type with which a mailbox names its owner.
    owners_with: &'static str,
}

impl Variant {
    const fn new(
        server: &'static str,
        layout: &'static str,
        format: &'static str,
        owners_with: &'static str,
    ) -> Self {
        Self { server: Server(server), layout, format, owners_with }
    }
}

const VARIANTS: [Variant; 4] = [
    Variant::new("user-maildir", "LocalPart", "Maildir", "mysql"),
    Variant::new("user-mbox", "LocalPart", "Mbox", "lmdb"),
    Variant::new("address-maildir", "Address", "Maildir", "hash"),
    Variant::new("address-mbox", "Address", "Mbox", "proxy:mysql"),
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
    let later: String = VARIANTS.iter().map(Variant::mailbox_with_an_owner).collect();
    delete(&(later + &manifests));
}

impl Variant {
    /// Domains are of one server only.
    fn full(&self, address: &str) -> String {
        format!("{address}.{}.example.org", self.server.0)
    }

    fn object(&self, kind: &str, name: &str, spec: &str) -> String {
        manifest(kind, &format!("{}-{name}", self.server.0), spec)
    }

    fn mailbox_with_an_owner(&self) -> String {
        self.object("Mailbox", "dora", &format!("address: {}, uid: 970, gid: 971", self.full(DORA)))
    }

    fn manifests(&self) -> String {
        let Self { server: Server(name), layout, format, .. } = self;
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
            ("epsilon", format!("aliasOf: {}", self.full("gamma"))),
            ("gone", "active: false".to_owned()),
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
        let off = format!("address: {}, active: false", self.full("off@gamma"));
        text += &self.object("Mailbox", "off", &off);
        for domain in ["beta", "gamma"] {
            let old = self.full(&format!("old@{domain}"));
            let spec = format!("address: {old}, goto: [{}], active: false", self.full("alfred@alpha"));
            text += &self.object("MailAlias", &format!("old-{domain}"), &spec);
        }
        for (address, goto) in [
            ("info@alpha", self.full("alfred@alpha")),
            ("hello@alpha", self.full("info@alpha")),
            ("team@beta", ["bob@alpha", "bill@beta", "ben@gamma"].map(|to| self.full(to)).join(", ")),
            (FRIEND, "friend@elsewhere.example.net".to_owned()),
            (GHOST, self.full("somebody@gone")),
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
        let mut has_owners = false;
        for (number, type_) in TYPES.into_iter().enumerate() {
            self.server.switch_to(type_);
            self.refuses_what_is_not_declared(type_);
            if type_ == self.owners_with {
                has_owners = true;
                self.declare_owner();
            }
            self.delivers(type_, has_owners);
            self.bounces_what_is_for_a_domain_that_is_switched_off(type_, number + 1);
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
        let undeclared = ["nobody@alpha", "nobody@delta", "old@beta"].into_iter().chain(SWITCHED_OFF);
        let foreign = ["nobody@elsewhere", "somebody@gone"].map(|to| (to, 554));
        for (to, code) in undeclared.map(|to| (to, 550)).chain(foreign) {
            assert_eq!(self.code(to), code, "{}, {type_}: {to}", self.server.0);
        }
    }

    /// The directory of its domain is there, and belongs to whom virtual(8) made it for.
    fn declare_owner(&self) {
        self.send("bill@beta", "before");
        let domain = self.full("@beta").replace('@', "");
        await_true(LIMIT, &format!("{}: {domain} has mail", self.server.0), || {
            self.store().iter().any(|line| line.contains(&domain) && line.ends_with(" before"))
        });
        let owner = self.server.pod().run(&format!("stat -c %u /var/vmail/{domain}"));
        assert_eq!(owner.trim(), "901", "{}: the directory is the first owner's", self.server.0);
        apply(&self.mailbox_with_an_owner());
        await_true(LIMIT, &format!("{}: owners are looked up", self.server.0), || {
            self.server.pod().postconf("virtual_uid_maps").contains("/uid_maps")
        });
        await_true(LIMIT, &format!("{}: {DORA} is accepted", self.server.0), || self.code(DORA) == 250);
    }

    /// The relay host doesn't answer, so whatever leaves is in the queue: nothing but the notices to the sender.
    fn bounces_what_is_for_a_domain_that_is_switched_off(&self, type_: &str, times: usize) {
        self.send(GHOST, "for-nobody");
        await_true(LIMIT, &format!("{}, {type_}: the sender is told", self.server.0), || {
            self.queue().matches("\"address\": \"samt@example.net\"").count() == times
        });
        assert!(!self.queue().contains("somebody@gone"), "{}, {type_}: it is not relayed", self.server.0);
    }

    fn delivers(&self, type_: &str, has_owners: bool) {
        let mut expected = BTreeSet::new();
        let own = MAILBOXES.into_iter().map(|mailbox| match mailbox {
            "auntie@beta" => (mailbox, vec![mailbox, "alistair@gamma"]),
            _ => (mailbox, vec![mailbox]),
        });
        let own = own.chain(has_owners.then(|| (DORA, vec![DORA])));
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
        let tag = to.split_once('@').and_then(|(user, _)| user.split_once('+'));
        let tagged =
            tag.map_or_else(|| address.clone(), |(_, tag)| address.replace('@', &format!("+{tag}@")));
        // Where no alias answers for the mailbox it stays as the sender wrote it. In files one does beside a catch-all only.
        let answers = !FILES.iter().any(|type_| subject.starts_with(type_)) || mailbox.ends_with("@gamma");
        let written = self.full(to);
        let delivered = if answers || !written.eq_ignore_ascii_case(&tagged) { tagged } else { written };
        let owner = if mailbox == DORA { "970:971" } else { "901:901" };
        format!(
            "{owner} 600 {domain}/{user}{directory} <samt@example.net> {} {delivered} {subject}",
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
        self.server.pod().queue()
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
