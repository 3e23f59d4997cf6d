//! What Postfix asks the database, and what a real one answers: the queries as they are rendered, with the keys that Postfix
//! looks up, in its order.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use vmail_operator::object::ObjectName;
use vmail_operator::postfix::{DatabaseEndpoint, Needs, render};
use vmail_operator::store::Store;
use vmail_operator::tables::{AliasDomainRow, AliasRow, DomainRow, MailboxRow, Row};

use crate::mariadb::MariaDb;
use crate::store::{SERVER, alias, domain, mailbox, writing};

/// The look-ups of a server in a database with some rows.
struct LookUps {
    database: MySqlConnection,
    /// Queries by the name of their file.
    queries: BTreeMap<String, String>,
}

impl LookUps {
    async fn new(mariadb: &MariaDb, name: &str, rows: Vec<Row>) -> Self {
        let access = mariadb.database(name).await;
        let mut store = Store::open(&access, SERVER).await.unwrap();
        store.apply(&writing(rows)).await.unwrap();
        let endpoint = DatabaseEndpoint { host: "127.0.0.1", port: 3306, name, tls: false, table_prefix: "" };
        let spec = serde_json::from_value(json!({"hostname": "myhost.example.org"})).unwrap();
        let needs = Needs { transports: true, disabled: true, ..Needs::default() };
        let config = render(&ObjectName::new("mail", "myhost"), &spec, Some(&endpoint), &needs).unwrap();
        let query =
            |text: &str| Some(text.lines().find_map(|line| line.strip_prefix("query = "))?.to_owned());
        let queries =
            config.files.iter().filter_map(|(file, text)| Some((file.clone(), query(text)?))).collect();
        Self { database: mariadb.root(Some(name)).await, queries }
    }

    /// The answer for one key. A query with a part of an address in it is asked only for keys that have that part.
    async fn ask(&mut self, file: &str, key: &str) -> Option<String> {
        let query = &self.queries[file];
        let (user, domain) = key.rsplit_once('@').unwrap_or(("", ""));
        if (query.contains("%u") && user.is_empty()) || (query.contains("%d") && domain.is_empty()) {
            return None;
        }
        let sql = query.replace("%s", key).replace("%u", user).replace("%d", domain);
        let rows: Vec<Option<Vec<u8>>> =
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut self.database).await.unwrap();
        let answers: Vec<_> =
            rows.into_iter().flatten().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
        (!answers.is_empty()).then(|| answers.join(","))
    }

    /// The first answer of some files for the address, without its tag, and for the domain's catch-all.
    async fn find(&mut self, files: &[&str], address: &str) -> Option<String> {
        let (local_part, domain) = address.split_once('@').unwrap();
        let untagged = local_part.split('+').next().unwrap();
        for key in [address.to_owned(), format!("{untagged}@{domain}"), format!("@{domain}")] {
            for file in files {
                if let Some(answer) = self.ask(file, &key).await {
                    return Some(answer);
                }
            }
        }
        None
    }
}

fn domain_as(name: &str, change: fn(&mut DomainRow)) -> Row {
    let Row::Domain(mut row) = domain(name) else { unreachable!() };
    change(&mut row);
    Row::Domain(row)
}

fn mailbox_as(address: &str, active: bool) -> Row {
    let Row::Mailbox(row) = mailbox(0) else { unreachable!() };
    let (user, domain) = address.split_once('@').unwrap();
    let maildir = format!("{domain}/{user}/");
    Row::Mailbox(MailboxRow { username: address.into(), maildir, active, ..row })
}

fn alias_as(address: &str, goto: &str, active: bool) -> Row {
    let Row::Alias(row) = alias(address, goto.to_owned()) else { unreachable!() };
    Row::Alias(AliasRow { active, ..row })
}

/// Whatever Postfix has no answer for goes to the domain's MX hosts or to the relay host, where it may relay.
#[tokio::test]
async fn a_domain_that_is_switched_off_is_no_transports_business_but_error_s() {
    let rows = vec![
        domain("alpha.example.org"),
        domain_as("way.example.org", |row| row.transport = "lmtp:inet:dovecot.mail.svc:24".into()),
        domain_as("empty.example.org", |row| row.transport = String::new()),
        domain_as("backup.example.org", |row| row.backupmx = true),
        domain_as("off.example.org", |row| row.active = false),
        domain_as("off-way.example.org", |row| {
            (row.active, row.transport) = (false, "smtp:[mx.example.net]".into());
        }),
        domain_as("off-backup.example.org", |row| (row.active, row.backupmx) = (false, true)),
    ];
    let mariadb = MariaDb::shared();
    let mut look_ups = LookUps::new(&mariadb, "queries_off", rows).await;
    let error = Some("error:5.1.2 domain is switched off");
    for (domain, virtual_, relayed, transport) in [
        ("alpha.example.org", true, false, None),
        ("way.example.org", true, false, Some("lmtp:inet:dovecot.mail.svc:24")),
        ("empty.example.org", true, false, None),
        ("backup.example.org", false, true, None),
        ("off.example.org", false, false, error),
        ("off-way.example.org", false, false, error),
        ("off-backup.example.org", false, false, error),
        ("elsewhere.example.net", false, false, None),
    ] {
        assert_eq!(look_ups.ask("domains_maps.cf", domain).await.is_some(), virtual_, "{domain}");
        assert_eq!(look_ups.ask("relay_domains_maps.cf", domain).await.is_some(), relayed, "{domain}");
        for key in ["somebody", "some+tag"].map(|user| format!("{user}@{domain}")) {
            assert_eq!(look_ups.ask("transport_maps.cf", &key).await.as_deref(), transport, "{key}");
        }
        assert_eq!(
            look_ups.ask("transport_maps.cf", domain).await,
            None,
            "{domain}: asked without an address"
        );
    }
}

#[tokio::test]
async fn beside_a_catch_all_a_tag_a_disabled_mailbox_and_an_inactive_alias_are_what_they_are() {
    let delta = AliasDomainRow {
        alias_domain: "delta.example.org".into(),
        target_domain: "alpha.example.org".into(),
        active: true,
    };
    let rows = vec![
        domain("alpha.example.org"),
        domain("delta.example.org"),
        Row::AliasDomain(delta),
        mailbox_as("bill@alpha.example.org", true),
        alias_as("bill@alpha.example.org", "bill@alpha.example.org", true),
        mailbox_as("off@alpha.example.org", false),
        alias_as("off@alpha.example.org", "off@alpha.example.org", true),
        alias_as("old@alpha.example.org", "bill@alpha.example.org", false),
        alias_as("@alpha.example.org", "auntie@alpha.example.org", true),
    ];
    let mariadb = MariaDb::shared();
    let mut look_ups = LookUps::new(&mariadb, "queries_catch_all", rows).await;
    for (address, goto, disabled) in [
        ("bill", "bill@alpha.example.org", false),
        ("bill+tag", "bill@alpha.example.org", false),
        ("off", "off@alpha.example.org", true),
        ("off+tag", "off@alpha.example.org", true),
        ("old", "auntie@alpha.example.org", false),
        ("whoever", "auntie@alpha.example.org", false),
    ] {
        for domain in ["alpha", "delta"] {
            let address = format!("{address}@{domain}.example.org");
            let found = look_ups.find(&["alias_maps.cf", "alias_domain_maps.cf"], &address).await;
            assert_eq!(found.as_deref(), Some(goto), "{address}");
            let found = look_ups.find(&["disabled_maps.cf"], &address).await;
            assert_eq!(found.is_some_and(|answer| answer.starts_with("550 ")), disabled, "{address}");
        }
    }
    let maildir = look_ups.find(&["mailbox_maps.cf"], "bill+tag@alpha.example.org").await;
    assert_eq!(maildir.as_deref(), Some("alpha.example.org/bill/"));
    assert_eq!(look_ups.find(&["mailbox_maps.cf"], "off@alpha.example.org").await, None);
}
