//! The store against a real MariaDB.

mod session;
mod unseen;

use sqlx::{AssertSqlSafe, ConnectOptions, mysql::MySqlConnection};
use vmail_operator::api::DeletionPolicy;
use vmail_operator::index::Key;
use vmail_operator::plan::{Current, LogRow, Plan, Update};
use vmail_operator::store::{Access, Error, Store};
use vmail_operator::tables::{AliasDomainRow, AliasRow, DomainRow, MailboxRow, OwnerRow, Row, Table};

use crate::mariadb::MariaDb;

pub const SERVER: &str = "cluster/mail/myhost";

pub fn key(text: &str) -> Key {
    Key::from_row(text).unwrap()
}

pub fn domain(name: &str) -> Row {
    Row::Domain(DomainRow {
        domain: name.into(),
        description: "Alpha Tester".into(),
        transport: "virtual".into(),
        backupmx: false,
        aliases: 10,
        mailboxes: -1,
        maxquota: 100,
        quota: 2048,
        active: true,
    })
}

/// Two domains, of which delta is an alias of alpha.
pub fn alpha_and_delta() -> Vec<Row> {
    let alias = AliasDomainRow {
        alias_domain: "delta.example.org".into(),
        target_domain: "alpha.example.org".into(),
        active: true,
    };
    vec![domain("alpha.example.org"), domain("delta.example.org"), Row::AliasDomain(alias)]
}

pub fn mailbox(number: usize) -> Row {
    Row::Mailbox(MailboxRow {
        username: format!("u{number}@alpha.example.org"),
        password: "{SHA512-CRYPT}$6$x$y".into(),
        name: format!("Number {number}"),
        maildir: format!("alpha.example.org/u{number}/"),
        quota: 102_400_000,
        local_part: format!("u{number}"),
        domain: "alpha.example.org".into(),
        active: number.is_multiple_of(2),
    })
}

pub fn alias(address: &str, goto: String) -> Row {
    Row::Alias(AliasRow {
        address: address.into(),
        goto,
        domain: "alpha.example.org".into(),
        description: "d".into(),
        active: true,
    })
}

fn owner(row: &Row) -> OwnerRow {
    OwnerRow {
        table: row.table(),
        key: row.key().into(),
        server: SERVER.into(),
        object_uid: "uid".into(),
        object: "Mailbox mail/x".into(),
        policy: DeletionPolicy::Delete,
        desired: "0123456789abcdef".into(),
        password: String::new(),
        goto: String::new(),
        named: "description,quota".into(),
    }
}

pub fn writing(rows: Vec<Row>) -> Plan {
    Plan { owned: rows.iter().map(owner).collect(), inserts: rows, ..Plan::default() }
}

/// One row that becomes another.
pub fn changing(before: Row, row: Row) -> Plan {
    Plan { updates: vec![Update { before, row }], ..Plan::default() }
}

pub async fn execute(connection: &mut MySqlConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

fn in_current(rows: &[Row]) -> Current {
    let id = |row: &Row| (row.table(), row.key().to_owned());
    Current {
        rows: rows.iter().map(|row| (id(row), row.clone())).collect(),
        owners: rows.iter().map(|row| (id(row), owner(row))).collect(),
    }
}

#[tokio::test]
async fn an_empty_database_gets_tables_and_reads_back_what_was_written() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("round_trip").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let mut rows = vec![domain("alpha.example.org")];
    rows.extend((0..2345).map(mailbox));
    rows.extend((0..12).map(|number| {
        alias(&format!("long{number}@alpha.example.org"), "someone@elsewhere.example.org,".repeat(1000))
    }));
    store.apply(&writing(rows.clone())).await.unwrap();
    let keys: Vec<Key> = rows.iter().map(|row| key(row.key())).collect();
    assert_eq!(store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap(), in_current(&rows));
    let counts = store.owned(SERVER).await.unwrap().counts;
    assert_eq!((counts.domains, counts.mailboxes), (1, 2345));
    assert_eq!(store.owned(SERVER).await.unwrap().keys.len(), rows.len());

    let deletes: Vec<_> = rows.iter().map(|row| (row.table(), row.key().to_owned())).collect();
    store.apply(&Plan { disowned: deletes.clone(), deletes, ..Plan::default() }).await.unwrap();
    assert_eq!(store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap(), Current::default());
}

/// Questions about them don't fit into one packet.
#[tokio::test]
async fn many_of_the_longest_addresses_are_read_as_well() {
    let mariadb = MariaDb::shared();
    let mut store = Store::open(&mariadb.database("longest").await, SERVER).await.unwrap();
    let domain = format!("{0}.{0}.{0}", "d".repeat(62));
    let rows: Vec<Row> = (0..1001)
        .map(|number| alias(&format!("{number:0>64}@{domain}"), "somebody@elsewhere.example.org".into()))
        .collect();
    store.apply(&writing(rows.clone())).await.unwrap();
    let mut keys: Vec<Key> = rows.iter().map(|row| key(row.key())).collect();
    keys.push(key("nobody@alpha.example.org"));
    assert_eq!(store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap(), in_current(&rows));
    assert_eq!(store.read(&[]).await.unwrap(), Current::default());
}

pub fn named(number: usize, name: &str) -> Row {
    let Row::Mailbox(row) = mailbox(number) else { unreachable!() };
    Row::Mailbox(MailboxRow { name: name.into(), ..row })
}

/// A few rows go in one packet, many in prepared statements.
#[tokio::test]
async fn whatever_a_text_holds_it_is_read_back_as_it_was_written() {
    let mariadb = MariaDb::shared();
    let texts = ["'; DROP TABLE mailbox; --", "\\'\"\0\n%_?", "Grüße", "日本 🎉", ""];
    for (name, count) in [("few", texts.len()), ("many", 1000)] {
        let access = mariadb.database(name).await;
        let mut store = Store::open(&access, SERVER).await.unwrap();
        let rows: Vec<Row> = (0..count).map(|number| named(number, texts[number % texts.len()])).collect();
        store.apply(&writing(rows.clone())).await.unwrap();
        let keys: Vec<Key> = rows.iter().map(|row| key(row.key())).collect();
        assert_eq!(store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap(), in_current(&rows), "{name}");
    }
}

#[tokio::test]
async fn postfix_may_read_what_it_looks_up_and_no_password() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("reader").await;
    Store::open(&access, SERVER).await.unwrap().apply(&writing(vec![mailbox(0)])).await.unwrap();
    let mut reader = sqlx::mysql::MySqlConnectOptions::new()
        .host(&access.host)
        .port(access.port)
        .username("reader_reader")
        .password("reads")
        .database("reader")
        .connect()
        .await
        .unwrap();
    let maildir: String = sqlx::query_scalar(
        "SELECT maildir FROM mailbox WHERE username = 'u0@alpha.example.org' AND active = 1",
    )
    .fetch_one(&mut reader)
    .await
    .unwrap();
    assert_eq!(maildir, "alpha.example.org/u0/");
    for forbidden in
        ["SELECT password FROM mailbox", "SELECT * FROM vmail_owner", "UPDATE mailbox SET active = 0"]
    {
        assert!(sqlx::raw_sql(forbidden).execute(&mut reader).await.is_err(), "{forbidden}");
    }
}

#[tokio::test]
async fn a_second_operator_is_locked_out_until_the_first_lets_go() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("locked").await;
    let first = Store::open(&access, SERVER).await.unwrap();
    assert!(matches!(Store::open(&access, SERVER).await, Err(Error::Locked(_))));
    assert!(Store::open(&access, "cluster/mail/another").await.is_ok());
    first.close().await;
    Store::open(&access, SERVER).await.unwrap();
}

#[tokio::test]
async fn a_refused_row_leaves_nothing_of_its_plan() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("refused").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let Row::Domain(mut long) = domain("long.example.org") else { unreachable!() };
    long.description = "x".repeat(300);
    let error =
        store.apply(&writing(vec![domain("alpha.example.org"), Row::Domain(long)])).await.unwrap_err();
    assert!(error.is_about_a_row(), "{error}");
    let (alpha, long) = (key("alpha.example.org"), key("long.example.org"));
    assert_eq!(store.read(&[&alpha, &long]).await.unwrap(), Current::default());
    store.apply(&writing(vec![domain("alpha.example.org")])).await.unwrap();
}

/// Else everybody behind that one row would wait for it.
#[tokio::test]
async fn what_a_trigger_refuses_is_about_a_row() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("house_rule").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let mut root = mariadb.root(Some("house_rule")).await;
    let trigger = "CREATE TRIGGER house_rule BEFORE INSERT ON alias FOR EACH ROW \
         IF NEW.address LIKE 'root@%' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no roots here'; END IF";
    sqlx::raw_sql(trigger).execute(&mut root).await.unwrap();
    let error = store.apply(&writing(vec![alias("root@alpha.example.org", "x".into())])).await.unwrap_err();
    assert!(error.is_about_a_row() && error.to_string().contains("no roots here"), "{error}");
    store.apply(&writing(vec![alias("info@alpha.example.org", "x".into())])).await.unwrap();
}

/// Every column is written: what a user has just set would be put back.
#[tokio::test]
async fn a_row_that_somebody_changed_in_the_meantime_is_not_put_back() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("lost_update").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let before = alias("u0@alpha.example.org", "u0@alpha.example.org".into());
    let with_info = vec![before.clone(), alias("info@alpha.example.org", "u0@alpha.example.org".into())];
    store.apply(&writing(with_info)).await.unwrap();
    let mut root = mariadb.root(Some("lost_update")).await;
    execute(&mut root, "UPDATE alias SET goto = 'u0@alpha.example.org,vacation' WHERE address LIKE 'u0@%'")
        .await;
    let ours = alias("u0@alpha.example.org", "u0@alpha.example.org,x@elsewhere.org".into());
    let mut plan = changing(before, ours);
    plan.inserts.push(mailbox(1));
    assert!(matches!(store.apply(&plan).await, Err(Error::Changed)));
    let current = store.read(&[&key("u0@alpha.example.org"), &key("u1@alpha.example.org")]).await.unwrap();
    let Row::Alias(row) = &current.rows[&(Table::Alias, "u0@alpha.example.org".into())] else {
        unreachable!()
    };
    assert_eq!(
        (&*row.goto, current.rows.len()),
        ("u0@alpha.example.org,vacation", 1),
        "nor is anything else written"
    );
    let ours = Row::Alias(AliasRow { goto: format!("{},x@elsewhere.org", row.goto), ..row.clone() });
    store.apply(&changing(Row::Alias(row.clone()), ours)).await.unwrap();
}

#[tokio::test]
async fn a_row_that_somebody_made_in_the_meantime_is_not_taken_over() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("meantime").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let mut root = mariadb.root(Some("meantime")).await;
    let theirs = "INSERT INTO alias (address, goto, domain) VALUES ('u0@alpha.example.org', 'theirs', 'alpha.example.org')";
    execute(&mut root, theirs).await;
    let ours = vec![mailbox(0), alias("u0@alpha.example.org", "ours".into())];
    let error = store.apply(&writing(ours)).await.unwrap_err();
    assert!(error.is_about_a_row(), "{error}");
    let current = store.read(&[&key("u0@alpha.example.org")]).await.unwrap();
    assert_eq!((current.rows.len(), current.owners.len()), (1, 0));
    let Row::Alias(row) = &current.rows[&(Table::Alias, "u0@alpha.example.org".into())] else {
        unreachable!()
    };
    assert_eq!(row.goto, "theirs");
}

/// To such a collation, José and Jose are one.
#[tokio::test]
async fn an_address_that_the_tables_collation_takes_for_another_is_refused() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("collated").await;
    Store::open(&access, SERVER).await.unwrap().close().await;
    let mut root = mariadb.root(Some("collated")).await;
    execute(&mut root, "ALTER TABLE alias CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci").await;
    let theirs = "INSERT INTO alias (address, goto, domain) VALUES ('josé@alpha.example.org', 'theirs', 'alpha.example.org')";
    execute(&mut root, theirs).await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let current = store.read(&[&key("jose@alpha.example.org")]).await.unwrap();
    assert!(!current.rows.contains_key(&(Table::Alias, "jose@alpha.example.org".into())));
    let ours = vec![alias("jose@alpha.example.org", "ours".into())];
    assert!(store.apply(&writing(ours)).await.unwrap_err().is_about_a_row());
    let goto: String = sqlx::query_scalar("SELECT goto FROM alias").fetch_one(&mut root).await.unwrap();
    assert_eq!(goto, "theirs");
}

#[tokio::test]
async fn changes_stand_in_postfixadmins_log() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("logged").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let log = vec![LogRow {
        domain: "alpha.example.org".into(),
        action: "create_mailbox",
        data: "u0@alpha.example.org".into(),
    }];
    store.apply(&Plan { log, ..writing(vec![mailbox(0)]) }).await.unwrap();
    let mut root = mariadb.root(Some("logged")).await;
    let logged: Vec<(String, String, String)> =
        sqlx::query_as("SELECT domain, action, data FROM log").fetch_all(&mut root).await.unwrap();
    assert_eq!(
        logged,
        [("alpha.example.org".into(), "create_mailbox".into(), "u0@alpha.example.org".into())]
    );
}

/// The seed's tables of 2007 (ENGINE= in place of TYPE=): no `local_part`, no `alias.description`, int quotas, NULL transport.
pub const SEED_TABLES: &str = "
    CREATE TABLE alias (address varchar(255) NOT NULL default '', goto text NOT NULL, domain varchar(255) NOT NULL default '',
      created datetime NOT NULL default '2000-01-01', modified datetime NOT NULL default '2000-01-01', active tinyint(1) NOT NULL default '1',
      PRIMARY KEY (address)) ENGINE=MyISAM;
    CREATE TABLE domain (domain varchar(255) NOT NULL default '', description varchar(255) NOT NULL default '', aliases int(10) NOT NULL default '0',
      mailboxes int(10) NOT NULL default '0', maxquota int(10) NOT NULL default '0', quota int(10) NOT NULL default '0',
      transport varchar(255) default NULL, backupmx tinyint(1) NOT NULL default '0', created datetime NOT NULL default '2000-01-01',
      modified datetime NOT NULL default '2000-01-01', active tinyint(1) NOT NULL default '1', PRIMARY KEY (domain)) ENGINE=MyISAM;
    CREATE TABLE mailbox (username varchar(255) NOT NULL default '', password varchar(255) NOT NULL default '', name varchar(255) NOT NULL default '',
      maildir varchar(255) NOT NULL default '', quota int(10) NOT NULL default '0', domain varchar(255) NOT NULL default '',
      created datetime NOT NULL default '2000-01-01', modified datetime NOT NULL default '2000-01-01', active tinyint(1) NOT NULL default '1',
      PRIMARY KEY (username)) ENGINE=MyISAM;
    INSERT INTO domain (domain) VALUES ('ALL'), ('Alpha.example.org');";

async fn altered(access: &Access, mariadb: &MariaDb) -> Vec<(String, String)> {
    let mut root = mariadb.root(Some(&access.database)).await;
    sqlx::query_as(
        "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name NOT IN ('vmail_owner', 'vmail_id', 'alias_domain') ORDER BY 1, 2",
    )
    .fetch_all(&mut root)
    .await
    .unwrap()
}

#[tokio::test]
async fn the_seeds_tables_are_used_as_they_are() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("seed").await;
    execute(&mut mariadb.root(Some("seed")).await, SEED_TABLES).await;
    let before = altered(&access, &mariadb).await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let there = store.read(&[&key("alpha.example.org")]).await.unwrap();
    assert!(
        there.rows.contains_key(&(Table::Domain, "alpha.example.org".into())),
        "mixed case is one domain"
    );
    let Row::Mailbox(written) = mailbox(0) else { unreachable!() };
    store
        .apply(&writing(vec![mailbox(0), alias("u0@alpha.example.org", "u0@alpha.example.org".into())]))
        .await
        .unwrap();
    let read = store.read(&[&key("u0@alpha.example.org")]).await.unwrap();
    assert_eq!(read.rows[&(Table::Mailbox, "u0@alpha.example.org".into())], Row::Mailbox(written));
    assert_eq!(altered(&access, &mariadb).await, before, "no table of somebody else's is altered");
}

#[tokio::test]
async fn a_database_that_is_not_postfixadmins_is_refused_with_what_is_missing() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("unfit").await;
    let mut root = mariadb.root(Some("unfit")).await;
    execute(&mut root, "CREATE TABLE posts (id int)").await;
    let error = Store::open(&access, SERVER).await.unwrap_err();
    let lacks = "the database can't be used, it lacks: table domain, table mailbox, table alias";
    assert_eq!(error.to_string(), lacks);
    execute(&mut root, "CREATE TABLE alias (address varchar(255), goto text)").await;
    let error = Store::open(&access, SERVER).await.unwrap_err();
    assert!(error.is_unfit());
    let lacks = "it lacks: table domain, table mailbox, column alias.domain, column alias.active";
    assert!(error.to_string().ends_with(lacks), "{error}");
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1",
    )
    .fetch_all(&mut root)
    .await
    .unwrap();
    assert_eq!(tables, ["alias", "posts"], "nothing is added to it");
}

#[tokio::test]
async fn tables_that_a_killed_operator_began_to_make_are_completed() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("unfinished").await;
    Store::open(&access, SERVER).await.unwrap().close().await;
    let mut root = mariadb.root(Some("unfinished")).await;
    let left =
        "DROP TABLE alias, alias_domain, vacation_notification, vacation, vmail_id; DELETE FROM config";
    execute(&mut root, left).await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    store.apply(&writing(vec![mailbox(0), alias("u0@alpha.example.org", "x".into())])).await.unwrap();
    store.close().await;
    execute(&mut root, "DROP TABLE alias").await;
    assert!(Store::open(&access, SERVER).await.unwrap_err().is_unfit(), "this one was lost, not unmade");
}

#[tokio::test]
async fn a_wrong_password_is_told_without_it() {
    let mariadb = MariaDb::shared();
    let access = Access { password: "not the one".into(), ..mariadb.database("wrong_password").await };
    let error = Store::open(&access, SERVER).await.unwrap_err().to_string();
    assert!(error.contains("Access denied") && !error.contains("not the one"), "{error}");
    assert!(!format!("{access:?}").contains("not the one"));
}

#[tokio::test]
async fn tls_is_used_on_request_and_its_certificate_checked() {
    let mariadb = MariaDb::shared();
    let plain = mariadb.database("encrypted").await;
    let mut root = mariadb.root(None).await;
    execute(&mut root, "ALTER USER encrypted_writer@'%' REQUIRE SSL").await;
    assert!(Store::open(&plain, SERVER).await.is_err(), "the account wants TLS");
    let access = Access { tls: Some(mariadb.authority()), ..plain.clone() };
    Store::open(&access, SERVER).await.unwrap().close().await;
    let by_name = Access { host: "localhost".into(), ..access };
    assert!(Store::open(&by_name, SERVER).await.is_err(), "the certificate is for 127.0.0.1");
    let other = MariaDb::start();
    let access = Access { tls: Some(other.authority()), ..plain };
    assert!(Store::open(&access, SERVER).await.is_err(), "another authority's certificate");
}

#[tokio::test]
async fn after_a_crash_of_the_database_all_or_nothing_of_a_plan_is_there() {
    let mut mariadb = MariaDb::start();
    let access = mariadb.database("crashed").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let rows: Vec<Row> = (0..1000).map(mailbox).collect();
    store.apply(&writing(rows.clone())).await.unwrap();
    mariadb.stop();
    mariadb.restart();
    assert!(
        store.apply(&writing(vec![domain("alpha.example.org")])).await.is_err(),
        "the lock went with the connection"
    );
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let owned = store.owned(SERVER).await.unwrap().keys.len();
    assert!(owned == 0 || owned == 1000, "{owned}");
}

#[tokio::test]
async fn a_prefix_stands_before_every_table() {
    let mariadb = MariaDb::shared();
    let access = Access { table_prefix: "pfa_".into(), ..mariadb.database("prefixed").await };
    let mut root = mariadb.root(Some("prefixed")).await;
    execute(&mut root, "CREATE TABLE alias (somebody_elses int)").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let rows = vec![
        domain("alpha.example.org"),
        mailbox(0),
        alias("u0@alpha.example.org", "x@elsewhere.org".into()),
    ];
    store.apply(&writing(rows.clone())).await.unwrap();
    let keys = ["alpha.example.org", "u0@alpha.example.org"].map(key);
    let read = store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap();
    assert_eq!((read.rows.len(), read.owners.len()), (3, 3));
    assert_eq!(store.owned(SERVER).await.unwrap().counts.mailboxes, 1);
    let plain: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name NOT LIKE 'pfa\\_%'",
    )
    .fetch_all(&mut root)
    .await
    .unwrap();
    assert_eq!(plain, ["alias"], "nothing without the prefix is made or used");
    // Another prefix in the same database is another mail system: its lock is another one.
    let other = Access { table_prefix: "other_".into(), ..access.clone() };
    Store::open(&other, SERVER).await.unwrap().close().await;
    let hostile = Access { table_prefix: "x` (id int); DROP TABLE `alias".into(), ..access };
    assert!(Store::open(&hostile, SERVER).await.unwrap_err().is_unfit());
}
