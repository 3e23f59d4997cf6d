//! What Postfix finds with its queries, asked as it asks them, and that look-up files answer the same.

use sqlx::{AssertSqlSafe, Row as _, mysql::MySqlConnection};
use vmail_operator::api::{MailServerSpec, RecipientDelimiter};
use vmail_operator::object::ObjectName;
use vmail_operator::postfix::maps::{self, Entries, Map};
use vmail_operator::postfix::{self, DatabaseEndpoint, MailOwner, Needs};
use vmail_operator::store::Store;
use vmail_operator::tables::{IdRow, MailboxRow, Row};

use crate::mariadb::MariaDb;
use crate::store::{SERVER, alias, alpha_and_delta, execute, writing};

fn mailbox(name: &str, active: bool) -> Row {
    Row::Mailbox(MailboxRow {
        username: format!("{name}@alpha.example.org"),
        password: String::new(),
        name: String::new(),
        maildir: format!("alpha.example.org/{name}/"),
        quota: 0,
        local_part: name.into(),
        domain: "alpha.example.org".into(),
        active,
    })
}

fn rows() -> Vec<Row> {
    let id = |key: &str, uid| Row::Id(IdRow { key: key.into(), uid, gid: 901 });
    let boxes =
        [("a", true), ("a+b", true), ("a-b.c", true), ("off", false), ("off-list", true), ("a+off", false)];
    let identity = |(name, _): &(&str, bool)| {
        let address = format!("{name}@alpha.example.org");
        alias(&address, address.clone())
    };
    let mut rows = alpha_and_delta();
    rows.extend([
        id("a@alpha.example.org", 970),
        id("a+off@alpha.example.org", 980),
        alias("@alpha.example.org", "a@alpha.example.org".into()),
        alias("off.alias@alpha.example.org", "a@alpha.example.org".into()),
        alias("off@delta.example.org", "a@alpha.example.org".into()),
    ]);
    rows.extend(boxes.iter().map(identity));
    rows.extend(boxes.map(|(name, active)| mailbox(name, active)));
    rows
}

/// The queries of a server where some mail has an owner of its own, in the order in which Postfix asks them.
fn queries() -> Vec<(Map, String)> {
    let spec: MailServerSpec =
        serde_json::from_value(serde_json::json!({"hostname": "myhost.example.org"})).unwrap();
    let database =
        DatabaseEndpoint { host: "database", port: 3306, name: "mail", tls: false, table_prefix: "" };
    let needs = Needs {
        owners: vec![MailOwner { path: "alpha.example.org/a/".into(), uid: 970, gid: 901 }],
        ..Needs::default()
    };
    let files =
        postfix::render(&ObjectName::new("mail", "myhost"), &spec, Some(&database), &needs).unwrap().files;
    let query = |(map, table): (Map, &str)| {
        let text = &files[&format!("{table}.cf")];
        let query = text.lines().find_map(|line| line.strip_prefix("query = ")).unwrap();
        (map, query.to_owned())
    };
    let own = Map::ALL.into_iter().filter(|map| map.holds_addresses()).map(|map| (map, map.as_str()));
    own.chain([(Map::Alias, "alias_domain_maps")]).map(query).collect()
}

/// `db_common_expand`: a query without what it asks for is not sent.
fn expanded(query: &str, key: &str) -> Option<String> {
    let (user, domain) = key.rsplit_once('@')?;
    if user.is_empty() && query.contains("%u") {
        return None;
    }
    Some(query.replace("%s", key).replace("%u", user).replace("%d", domain))
}

/// The answers of a map to keys of every kind, by key.
async fn asked(reader: &mut MySqlConnection, map: Map, query: &str, keys: &[String]) -> Entries {
    let mut entries = Entries::new();
    for key in keys {
        let Some(query) = expanded(query, key) else { continue };
        let sql = format!("SELECT CAST(({query}) AS CHAR)");
        let answer = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut *reader).await.unwrap();
        entries.extend(answer.get::<Option<String>, _>(0).map(|answer| ((map, key.clone()), answer)));
    }
    entries
}

/// `mail_addr_find(3)`, and access(5) for a table that has no other keys.
fn found<'a>(
    entries: &'a Entries,
    map: Map,
    address: &str,
    delimiter: &RecipientDelimiter,
) -> Option<&'a str> {
    let (_, domain) = address.split_once('@').unwrap();
    let keys = [Some(address.to_owned()), delimiter.stripped(address), Some(format!("@{domain}"))];
    let mut answers = keys.into_iter().flatten().filter_map(|key| entries.get(&(map, key)));
    answers.next().map(String::as_str).filter(|answer| *answer != "DUNNO")
}

fn delimiter(characters: &str) -> RecipientDelimiter {
    let spec =
        serde_json::json!({"hostname": "myhost.example.org", "postfix": {"recipientDelimiter": characters}});
    RecipientDelimiter::from(&serde_json::from_value::<MailServerSpec>(spec).unwrap())
}

#[tokio::test]
async fn an_address_with_an_extension_is_found_with_any_delimiter_and_files_answer_the_same() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("lookups").await;
    Store::open(&access, SERVER).await.unwrap().apply(&writing(rows())).await.unwrap();
    let addresses: Vec<String> =
        ["a", "a+b", "a+x", "a-x", "a-b.c", "a-b", "a+off", "off", "off-list", "off+x"]
            .into_iter()
            .chain(["off-x", "off.alias", "off-list-x", "nobody", "nobody+x", "owner-a", "a-request"])
            .flat_map(|name| ["alpha", "delta"].map(|domain| format!("{name}@{domain}.example.org")))
            .collect();
    let at = |domain: &str| format!("@{domain}.example.org");
    let keys = [addresses.clone(), vec![at("alpha"), at("delta")]].concat();
    let mut reader = mariadb.root(Some("lookups")).await;
    let mut sql = Entries::new();
    for (map, query) in queries() {
        for (key, answer) in asked(&mut reader, map, &query, &keys).await {
            // maps_find(3): the first table that answers.
            sql.entry(key).or_insert(answer);
        }
    }
    let files = maps::answers(&rows(), (901, 901)).entries;
    for characters in ["+", "-", "+-", ".", ""] {
        let delimiter = delimiter(characters);
        for address in &addresses {
            let by_sql = |map| found(&sql, map, address, &delimiter);
            let by_file = |map| found(&files, map, address, &delimiter);
            for map in [Map::Alias, Map::Mailbox, Map::Disabled] {
                assert_eq!(by_sql(map), by_file(map), "{map:?} {address} {characters:?}");
            }
            let Some(maildir) = by_sql(Map::Mailbox) else { continue };
            let owner = if maildir == "alpha.example.org/a/" { "970" } else { "901" };
            for found in [by_sql(Map::Uid), by_file(Map::Uid)] {
                assert_eq!(found, Some(owner), "{address} {characters:?} in {maildir}");
            }
            assert_eq!((by_sql(Map::Gid), by_file(Map::Gid)), (Some("901"), Some("901")));
        }
    }
    let refused =
        |address: &str, characters| found(&sql, Map::Disabled, address, &delimiter(characters)).is_some();
    assert!(refused("off+x@alpha.example.org", "+") && refused("off-x@alpha.example.org", "+-"));
    assert!(!refused("off-x@alpha.example.org", "+") && !refused("off-x@delta.example.org", "-"));
    assert!(!refused("off-list@alpha.example.org", "-") && !refused("off.alias@delta.example.org", "."));
}

#[tokio::test]
async fn what_rows_need_of_the_configuration_is_found_whoever_wrote_them() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("needed").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let mut rows = alpha_and_delta();
    rows.extend([mailbox("a", true), alias("a@alpha.example.org", "a@alpha.example.org".into())]);
    store.apply(&writing(rows)).await.unwrap();
    let mut somebody = mariadb.root(Some("needed")).await;
    for (sql, transports, disabled) in [
        ("UPDATE domain SET transport = 'virtual'", false, false),
        (
            "UPDATE domain SET transport = 'lmtp:inet:dovecot:24' WHERE domain = 'delta.example.org'",
            true,
            false,
        ),
        ("UPDATE domain SET transport = '', active = domain <> 'delta.example.org'", true, false),
        ("UPDATE domain SET active = 1", false, false),
        ("UPDATE mailbox SET active = 0", false, true),
        ("UPDATE alias SET active = 0", false, false),
    ] {
        execute(&mut somebody, sql).await;
        assert_eq!(store.has_transports().await.unwrap(), transports, "{sql}");
        assert_eq!(store.has_disabled().await.unwrap(), disabled, "{sql}");
    }
    assert_eq!(store.ids().await.unwrap(), []);
    let id = IdRow { key: "alpha.example.org".into(), uid: 950, gid: 951 };
    store.apply(&writing(vec![Row::Id(id.clone())])).await.unwrap();
    assert_eq!(store.ids().await.unwrap(), [id]);
}
