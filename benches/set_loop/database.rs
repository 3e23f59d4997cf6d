//! Plan and store together on a real MariaDB, beside the same rows written by bare statements.

use std::time::Instant;

use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};
use vmail_operator::api::Address;
use vmail_operator::index::rows::MailboxRow;
use vmail_operator::index::{Index, Key};
use vmail_operator::object::ObjectName;
use vmail_operator::plan::{Current, Plan};
use vmail_operator::store::Store;
use vmail_operator::tables::Row;

use crate::mariadb::MariaDb;
use crate::{Figure, percentile, pure, world};

const SERVER: &str = "bench/mail/myhost";

pub async fn measure(n: usize) {
    let mariadb = MariaDb::start();
    let raw = raw_upserts_of(&mariadb, n).await;
    let access = mariadb.database("bench").await;
    let index = world::index(n);
    let keys = index.keys_of(&world::server());
    let mut store = Store::open(&access, SERVER).await.unwrap();

    let started = Instant::now();
    compare(&mut store, &index, &keys).await;
    Figure {
        name: "database_first_comparison",
        value: started.elapsed().as_secs_f64(),
        unit: "s",
        limit: raw,
        n,
    }
    .print();

    let mut root = mariadb.root(Some("bench")).await;
    let started = Instant::now();
    for table in ["mailbox", "alias", "domain"] {
        sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(&mut root).await.unwrap();
    }
    let select = started.elapsed().as_secs_f64();
    let started = Instant::now();
    compare(&mut store, &index, &keys).await;
    let value = started.elapsed().as_secs_f64();
    Figure { name: "database_unchanged_comparison", value, unit: "s", limit: select, n }.print();
    one_mailbox(&mut store, index, &mut root, n).await;
    store.close().await;
}

/// The rows of a world of `n` mailboxes, written by bare statements into an empty database, in seconds.
pub async fn raw_upserts_of(mariadb: &MariaDb, n: usize) -> f64 {
    let access = mariadb.database("bench").await;
    let store = Store::open(&access, SERVER).await.unwrap();
    let index = world::index(n);
    let keys = index.keys_of(&world::server());
    let raw = raw_upserts(mariadb, &pure::plan_keys(&index, &keys, &Current::default())).await;
    store.close().await;
    raw
}

/// The making of tables like those of the database `bench`, in seconds.
pub async fn raw_creates(mariadb: &MariaDb) -> f64 {
    let mut root = mariadb.root(Some("bench")).await;
    let tables = "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = 'bench' AND table_name NOT LIKE 'raw%'";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut root).await.unwrap();
    sqlx::raw_sql("CREATE OR REPLACE DATABASE raw_tables").execute(&mut root).await.unwrap();
    let started = Instant::now();
    for table in tables {
        let sql = format!("CREATE TABLE raw_tables.{table} LIKE {table}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut root).await.unwrap();
    }
    started.elapsed().as_secs_f64()
}

/// What the tables need for one new mailbox, beside a bare client's transaction of the same two rows.
async fn one_mailbox(store: &mut Store, mut index: Index, root: &mut MySqlConnection, n: usize) {
    sqlx::raw_sql("CREATE TABLE one_mailbox LIKE mailbox; CREATE TABLE one_alias LIKE alias")
        .execute(&mut *root)
        .await
        .unwrap();
    let (mut samples, mut raw) = (Vec::new(), Vec::new());
    for number in n..n + 200 {
        let (name, row) = world::mailbox(number % 100 + n, n, "Somebody");
        let row =
            MailboxRow { address: Address::parse(&format!("one{number}@d0.example.org")).unwrap(), ..row };
        let key = Key::Address(row.address.clone());
        index.apply_mailbox(ObjectName::new("mail", &format!("one-{}", name.name)), row);
        let started = Instant::now();
        compare(store, &index, std::slice::from_ref(&key)).await;
        samples.push(started.elapsed().as_secs_f64() * 1000.0);
        let started = Instant::now();
        let mut transaction = root.begin().await.unwrap();
        for sql in [
            "INSERT INTO one_mailbox (username, password, name, maildir, local_part, domain) VALUES (?, '!', '', '', '', '')",
            "INSERT INTO one_alias (address, goto, domain) VALUES (?, '', '')",
        ] {
            sqlx::query(sql).bind(key.as_str()).execute(&mut *transaction).await.unwrap();
        }
        transaction.commit().await.unwrap();
        raw.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    for percent in [50, 99] {
        let (value, limit) = (percentile(&mut samples, percent), percentile(&mut raw, percent));
        Figure { name: &format!("database_one_mailbox_p{percent}"), value, unit: "ms", limit, n }.print();
    }
}

async fn compare(store: &mut Store, index: &vmail_operator::index::Index, keys: &[Key]) {
    for keys in keys.chunks(1000) {
        let current = store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap();
        store.apply(&pure::plan_keys(index, keys, &current)).await.unwrap();
    }
}

/// The rows of mailbox and alias in bare statements of 1000 rows, in seconds.
async fn raw_upserts(mariadb: &MariaDb, plan: &Plan) -> f64 {
    let mut root = mariadb.root(Some("bench")).await;
    for table in ["mailbox", "alias"] {
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE TABLE raw_{table} LIKE {table}")))
            .execute(&mut root)
            .await
            .unwrap();
    }
    let started = Instant::now();
    let mut transaction = root.begin().await.unwrap();
    for rows in plan.inserts.chunks(1000) {
        let mailboxes: Vec<_> = rows
            .iter()
            .filter_map(|row| if let Row::Mailbox(row) = row { Some(row) } else { None })
            .collect();
        let sql = format!(
            "INSERT INTO raw_mailbox (username, password, name, maildir, quota, local_part, domain, active) VALUES {} \
             ON DUPLICATE KEY UPDATE maildir = VALUES(maildir)",
            vec!["(?,?,?,?,?,?,?,?)"; mailboxes.len()].join(",")
        );
        let query = mailboxes.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, row| {
            query
                .bind(&row.username)
                .bind(&row.password)
                .bind(&row.name)
                .bind(&row.maildir)
                .bind(row.quota)
                .bind(&row.local_part)
                .bind(&row.domain)
                .bind(row.active)
        });
        query.execute(&mut *transaction).await.unwrap();
        let aliases: Vec<_> =
            rows.iter().filter_map(|row| if let Row::Alias(row) = row { Some(row) } else { None }).collect();
        let sql = format!(
            "INSERT INTO raw_alias (address, goto, domain, active) VALUES {} ON DUPLICATE KEY UPDATE goto = VALUES(goto)",
            vec!["(?,?,?,?)"; aliases.len()].join(",")
        );
        let query = aliases.iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, row| {
            query.bind(&row.address).bind(&row.goto).bind(&row.domain).bind(row.active)
        });
        query.execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
    started.elapsed().as_secs_f64()
}
