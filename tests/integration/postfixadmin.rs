//! Databases as `PostfixAdmin` makes them, of several of its versions: read and written without an error, altered nowhere.

use sqlx::mysql::MySqlConnection;
use vmail_operator::plan::{LOCKED_PASSWORD, Plan};
use vmail_operator::store::Store;
use vmail_operator::tables::{AliasDomainRow, MailboxRow, Row, SharedColumn, Table};

use crate::mariadb::MariaDb;
use crate::store::{SERVER, alias, changing, domain, execute, key, mailbox, named, writing};
use crate::store_admins;

/// Each step brings the tables from the version before to its own.
const VERSIONS: [(&str, &str); 3] = [
    ("1837", include_str!("fixtures/postfixadmin-1837.sql")),
    ("1849", include_str!("fixtures/postfixadmin-1849.sql")),
    ("1856", include_str!("fixtures/postfixadmin-1856.sql")),
];

/// What its setup and its users made before the operator came.
const BEFORE: &str = "
    INSERT INTO domain (domain, description, transport) VALUES ('ALL', '', ''), ('by-hand.example.org', 'José', 'virtual');
    INSERT INTO mailbox (username, password, name, maildir, local_part, domain)
      VALUES ('jose@by-hand.example.org', '$6$x', 'José', 'by-hand.example.org/jose/', 'jose', 'by-hand.example.org');
    INSERT INTO alias (address, goto, domain) VALUES ('jose@by-hand.example.org', 'jose@by-hand.example.org', 'by-hand.example.org')";

async fn columns(root: &mut MySqlConnection) -> Vec<(String, String, String)> {
    sqlx::query_as(
        "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR), CAST(column_type AS CHAR) FROM information_schema.columns \
         WHERE table_schema = DATABASE() AND table_name NOT LIKE 'vmail%' ORDER BY 1, 2",
    )
    .fetch_all(root)
    .await
    .unwrap()
}

#[tokio::test]
async fn every_version_is_read_and_written() {
    let mariadb = MariaDb::shared();
    for (number, (version, _)) in VERSIONS.iter().enumerate() {
        let name = format!("postfixadmin_{version}");
        let access = mariadb.database(&name).await;
        let mut root = mariadb.root(Some(&name)).await;
        for (_, sql) in &VERSIONS[..=number] {
            execute(&mut root, sql).await;
        }
        execute(&mut root, BEFORE).await;
        let before = columns(&mut root).await;

        let mut store = Store::open(&access, SERVER).await.unwrap();
        let has_description = *version == "1856";
        assert_eq!(
            store.absent_columns().contains(&(Table::Alias, SharedColumn::Description)),
            !has_description,
            "{version}"
        );
        let alias_domain = Row::AliasDomain(AliasDomainRow {
            alias_domain: "alpha.example.org".into(),
            target_domain: "by-hand.example.org".into(),
            active: true,
        });
        let mut rows = vec![
            domain("alpha.example.org"),
            alias_domain,
            mailbox(0),
            alias("u0@alpha.example.org", "u0@alpha.example.org".into()),
            Row::Admin(store_admins::admin("u0@alpha.example.org", &["alpha.example.org"])),
        ];
        if let Row::Alias(row) = &mut rows[3]
            && !has_description
        {
            row.description = String::new();
        }
        store.apply(&writing(rows.clone())).await.unwrap();
        let keys =
            ["alpha.example.org", "u0@alpha.example.org", "by-hand.example.org", "jose@by-hand.example.org"];
        let keys: Vec<_> =
            keys.map(key).into_iter().chain([store_admins::key("u0@alpha.example.org")]).collect();
        let read = store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap();
        for row in rows {
            assert_eq!(read.rows[&(row.table(), row.key().to_owned())], row, "{version}");
        }
        assert!(read.rows.contains_key(&(Table::Mailbox, "jose@by-hand.example.org".into())), "{version}");
        assert_eq!(columns(&mut root).await, before, "{version}: nothing is altered");
        let dated: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM mailbox WHERE created > '2020-01-01' AND modified > '2020-01-01'",
        )
        .fetch_one(&mut root)
        .await
        .unwrap();
        assert_eq!(dated, 1, "{version}: its list of mailboxes shows when one was made");
    }
}

/// How many days from now the password of the only mailbox expires.
async fn days_left(root: &mut MySqlConnection) -> i64 {
    let sql = "SELECT CAST(DATEDIFF(password_expiry, NOW()) AS SIGNED) FROM mailbox";
    sqlx::query_scalar(sql).fetch_one(root).await.unwrap()
}

/// `PostfixAdmin`'s own query for an IMAP server lets nobody in whose password has expired.
#[tokio::test]
async fn a_new_password_is_valid_for_as_long_as_its_domain_says() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("expiring").await;
    let mut root = mariadb.root(Some("expiring")).await;
    for (_, sql) in &VERSIONS {
        execute(&mut root, sql).await;
    }
    let domain = "INSERT INTO domain (domain, description, transport, password_expiry) VALUES ('alpha.example.org', '', 'virtual', 365)";
    execute(&mut root, domain).await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    store.apply(&writing(vec![mailbox(0)])).await.unwrap();
    assert!((364..=366).contains(&days_left(&mut root).await));
    let expired = "UPDATE mailbox SET password_expiry = '2000-01-01'";
    execute(&mut root, expired).await;
    let Row::Mailbox(row) = named(0, "Renamed") else { unreachable!() };
    let renamed = changing(mailbox(0), Row::Mailbox(row.clone()));
    store.apply(&renamed).await.unwrap();
    assert!(days_left(&mut root).await < 0, "the old password stays as old as it is");
    let before = Row::Mailbox(row.clone());
    let row = MailboxRow { password: "{SHA512-CRYPT}$6$x$another".into(), ..row };
    store.apply(&changing(before, Row::Mailbox(row.clone()))).await.unwrap();
    assert!((364..=366).contains(&days_left(&mut root).await), "a new one is valid again");
    execute(&mut root, "DELETE FROM mailbox").await;
    let locked = MailboxRow { password: LOCKED_PASSWORD.into(), ..row.clone() };
    store.apply(&Plan { inserts: vec![Row::Mailbox(locked.clone())], ..Plan::default() }).await.unwrap();
    assert!(days_left(&mut root).await < 0, "nobody can log in, and no date says otherwise");
    store.apply(&changing(Row::Mailbox(locked), Row::Mailbox(row))).await.unwrap();
    assert!((364..=366).contains(&days_left(&mut root).await), "the first password is valid");
    execute(&mut root, "UPDATE domain SET password_expiry = 0; DELETE FROM mailbox").await;
    let again = Plan { inserts: vec![mailbox(0)], ..Plan::default() };
    store.apply(&again).await.unwrap();
    let left: String = sqlx::query_scalar("SELECT CAST(password_expiry AS CHAR) FROM mailbox")
        .fetch_one(&mut root)
        .await
        .unwrap();
    assert_eq!(left, "2000-01-01 00:00:00", "where passwords don't expire, PostfixAdmin's default stays");
}

#[tokio::test]
async fn a_name_that_a_latin1_column_does_not_hold_is_refused_and_the_others_pass() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("latin1_name").await;
    let mut root = mariadb.root(Some("latin1_name")).await;
    execute(&mut root, VERSIONS[0].1).await;
    execute(&mut root, "ALTER TABLE mailbox MODIFY name varchar(255) CHARACTER SET latin1 NOT NULL").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let error = store.apply(&writing(vec![named(1, "Снежана")])).await.unwrap_err();
    assert!(error.is_about_a_row(), "{error}");
    let passes = named(0, "José");
    store.apply(&writing(vec![passes.clone()])).await.unwrap();
    let keys = ["u0@alpha.example.org", "u1@alpha.example.org"].map(key);
    let current = store.read(&keys.each_ref()).await.unwrap();
    assert_eq!(current.rows.into_values().collect::<Vec<_>>(), [passes]);
}

/// MySQL keeps a count of warnings for each statement; MariaDB, which deprecates nothing that is used, does not by default.
#[tokio::test]
async fn no_statement_is_deprecated() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("warned").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let rows = vec![
        domain("alpha.example.org"),
        mailbox(0),
        alias("u0@alpha.example.org", "x@elsewhere.org".into()),
    ];
    store.apply(&writing(rows)).await.unwrap();
    store.read(&[&key("alpha.example.org"), &key("u0@alpha.example.org")]).await.unwrap();
    let mut root = mariadb.root(Some("warned")).await;
    let warned: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(digest_text AS CHAR) FROM performance_schema.events_statements_summary_by_digest \
         WHERE schema_name = 'warned' AND sum_warnings > 0 AND (digest_text LIKE 'INSERT%' OR digest_text LIKE 'SELECT%' OR digest_text LIKE 'DELETE%')",
    )
    .fetch_all(&mut root)
    .await
    .unwrap();
    assert!(warned.is_empty(), "{warned:?}");
}
