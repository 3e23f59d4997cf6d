//! A database that fails in the middle of things: nothing is half-written, and the next attempt ends right.

mod piecemeal;

use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::{MailServer, Mailbox};
use vmail_operator::store::{Access, Error, Store};
use vmail_operator::tables::Row;

use crate::bed::Bed;
use crate::cluster::eventually;
use crate::mariadb::{MariaDb, connections};
use crate::proxy::{Cut, cutting};
use crate::store::{SERVER, alias, execute, mailbox, writing};

const LIMIT: Duration = Duration::from_secs(20);

fn both_rows() -> Vec<Row> {
    vec![mailbox(0), alias("u0@alpha.example.org", "u0@alpha.example.org".into())]
}

/// The same with more than goes in one packet.
fn many_rows() -> Vec<Row> {
    let long = |number| {
        alias(&format!("long{number}@alpha.example.org"), "someone@elsewhere.example.org,".repeat(1000))
    };
    both_rows().into_iter().chain((0..20).map(long)).collect()
}

async fn count(root: &mut MySqlConnection, table: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(root).await.unwrap()
}

/// Waits until the writer's statement on `table` waits for somebody else; gives its connection's number.
async fn waiting_writer(root: &mut MySqlConnection, database: &str, table: &str) -> u64 {
    let sql = format!(
        "SELECT CAST(id AS UNSIGNED) FROM {} WHERE user = '{database}_writer' \
         AND (info LIKE 'INSERT INTO `{table}`%' OR info LIKE 'DELETE FROM `{table}`%')",
        connections()
    );
    for _ in 0..1000 {
        let waiting: Option<u64> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql.clone())).fetch_optional(&mut *root).await.unwrap();
        if let Some(waiting) = waiting {
            return waiting;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the writer never waited");
}

/// Cuts a connection, and waits until it is gone with its lock.
async fn kill(root: &mut MySqlConnection, connection: u64) {
    execute(root, &format!("KILL {connection}")).await;
    let found = format!("{} WHERE id = {connection}", connections());
    for _ in 0..1000 {
        if count(root, &found).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("connection {connection} stays");
}

/// Opens the store once the server has noticed that the connection before is gone.
async fn reopened(access: &Access) -> Store {
    let began = Instant::now();
    loop {
        match Store::open(access, SERVER).await {
            Err(Error::Locked(_)) if began.elapsed() < LIMIT => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

/// A transaction of somebody else that holds the alias row that the writer wants.
async fn holding_the_alias(mariadb: &MariaDb, database: &str) -> MySqlConnection {
    let mut holder = mariadb.root(Some(database)).await;
    execute(&mut holder, "BEGIN").await;
    execute(
        &mut holder,
        "INSERT INTO alias (address, goto, domain) VALUES ('u0@alpha.example.org', 'x', 'x')",
    )
    .await;
    holder
}

#[tokio::test]
async fn a_connection_cut_in_mid_transaction_leaves_nothing_behind() {
    let mariadb = MariaDb::shared();
    for (name, rows) in [("cut", both_rows()), ("cut_many", many_rows())] {
        let access = mariadb.database(name).await;
        let mut store = Store::open(&access, SERVER).await.unwrap();
        let mut root = mariadb.root(Some(name)).await;
        let mut holder = holding_the_alias(&mariadb, name).await;
        let plan = writing(rows);
        let applying = tokio::spawn({
            let plan = plan.clone();
            async move { store.apply(&plan).await }
        });
        let writer = waiting_writer(&mut root, name, "alias").await;
        kill(&mut root, writer).await;
        let error = applying.await.unwrap().unwrap_err();
        assert!(!error.is_about_a_row(), "{error}");
        execute(&mut holder, "ROLLBACK").await;
        assert_eq!((count(&mut root, "mailbox").await, count(&mut root, "vmail_owner").await), (0, 0));
        reopened(&access).await.apply(&plan).await.unwrap();
        assert_eq!(count(&mut root, "vmail_owner").await, i64::try_from(plan.owned.len()).unwrap());
    }
}

#[tokio::test]
async fn wherever_the_connection_is_cut_all_or_nothing_is_there() {
    let mariadb = MariaDb::shared();
    let plan = writing(many_rows());
    let all = i64::try_from(plan.owned.len()).unwrap();
    for (name, text, cut, expected) in [
        ("cut_between", "INSERT INTO `vmail_owner`", Cut::Before, 0),
        ("cut_before_commit", "COMMIT", Cut::Before, 0),
        ("cut_after_commit", "COMMIT", Cut::After, all),
    ] {
        let access = mariadb.database(name).await;
        let through = Access { port: cutting(access.port, text, cut).await, ..access.clone() };
        let mut store = Store::open(&through, SERVER).await.unwrap();
        let error = store.apply(&plan).await.unwrap_err();
        assert!(!error.is_about_a_row(), "{name}: {error}");
        let mut again = reopened(&access).await;
        let mut root = mariadb.root(Some(name)).await;
        let rows = count(&mut root, "mailbox").await + count(&mut root, "alias").await;
        assert_eq!((rows, count(&mut root, "vmail_owner").await), (expected, expected), "{name}");
        if expected == 0 {
            again.apply(&plan).await.unwrap();
        }
    }
}

#[tokio::test]
async fn who_loses_the_lock_writes_nothing_any_more() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("lost").await;
    let mut first = Store::open(&access, SERVER).await.unwrap();
    assert!(matches!(Store::open(&access, SERVER).await, Err(Error::Locked(_))));
    let mut root = mariadb.root(Some("lost")).await;
    let connections = connections();
    let sql = format!(
        "SELECT CAST(id AS UNSIGNED) FROM {connections} WHERE user = 'lost_writer' ORDER BY id LIMIT 1"
    );
    let writer: u64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut root).await.unwrap();
    kill(&mut root, writer).await;
    let mut second = reopened(&access).await;
    assert!(first.apply(&writing(both_rows())).await.is_err());
    assert_eq!(count(&mut root, "mailbox").await, 0);
    assert!(matches!(Store::open(&access, SERVER).await, Err(Error::Locked(_))), "the second one has it now");
    second.apply(&writing(both_rows())).await.unwrap();
}

/// As where the operator's node is gone: nobody tells the server.
#[tokio::test]
async fn who_is_silent_loses_the_lock_and_who_waits_for_something_else_does_not() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("silent").await;
    let silent = Store::open(&access, SERVER).await.unwrap();
    let mut kept = Store::open(&access, "cluster/mail/another").await.unwrap();
    let taken_over = async {
        while matches!(Store::open(&access, SERVER).await, Err(Error::Locked(_))) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(100), kept.kept_during(taken_over)).await;
    waited.expect("the lock of a silent connection is let go of").expect("one that is pinged stays");
    kept.apply(&writing(both_rows())).await.unwrap();
    drop(silent);
}

#[tokio::test]
async fn a_server_that_answers_no_more_is_given_up() {
    let mariadb = MariaDb::start();
    let access = mariadb.database("hung").await;
    let mut pinged = Store::open(&access, SERVER).await.unwrap();
    let mut read = Store::open(&access, "cluster/mail/read").await.unwrap();
    let mut written = Store::open(&access, "cluster/mail/written").await.unwrap();
    mariadb.pause();
    let (plan, keys) = (writing(both_rows()), [crate::store::key("u0@alpha.example.org")]);
    let keys = keys.each_ref();
    let all = async {
        tokio::join!(
            pinged.ping(),
            async { read.read(&keys).await.map(|_| ()) },
            written.apply(&plan),
            async { Store::open(&access, "cluster/mail/new").await.map(|_| ()) },
        )
    };
    let (ping, read, write, open) = tokio::time::timeout(Duration::from_secs(90), all).await.unwrap();
    for (what, result) in [("ping", ping), ("read", read), ("write", write), ("open", open)] {
        assert!(matches!(result, Err(Error::Timeout(_))), "{what}: {result:?}");
    }
    mariadb.resume();
}

#[tokio::test]
async fn what_a_deadlock_undid_is_done_again() {
    let mariadb = MariaDb::shared();
    for (name, rows) in [("deadlock", both_rows()), ("deadlock_many", many_rows())] {
        let access = mariadb.database(name).await;
        let mut store = Store::open(&access, SERVER).await.unwrap();
        let mut root = mariadb.root(Some(name)).await;
        let mut holder = holding_the_alias(&mariadb, name).await;
        // More work done than the writer's: the database gives up the smaller transaction.
        for number in 0..200 {
            let sql = format!(
                "INSERT INTO alias (address, goto, domain) VALUES ('h{number}@alpha.example.org', 'x', 'x')"
            );
            execute(&mut holder, &sql).await;
        }
        let plan = writing(rows);
        let all = i64::try_from(plan.owned.len()).unwrap();
        let applying = tokio::spawn(async move { store.apply(&plan).await });
        waiting_writer(&mut root, name, "alias").await;
        let insert = "INSERT INTO mailbox (username, password, name, maildir, local_part, domain) VALUES ('u0@alpha.example.org', '', '', '', '', '')";
        // It goes through, so the writer was the one that gave up.
        execute(&mut holder, insert).await;
        assert_eq!(count(&mut root, "vmail_owner").await, 0);
        execute(&mut holder, "ROLLBACK").await;
        applying.await.unwrap().unwrap();
        assert_eq!((count(&mut root, "mailbox").await, count(&mut root, "vmail_owner").await), (1, all));
        holder.close().await.unwrap();
    }
}

/// What the operator says and does while the database takes no rows, and after.
async fn told_and_made_up_for(name: &str, break_it: &str, mend_it: &str, words: &str) {
    let mariadb = MariaDb::start();
    let bed = Bed::new(name, &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..3).await;
    bed.rows(&mariadb, "mailbox", 3).await;
    let mut root = mariadb.root(Some(name)).await;
    execute(&mut root, break_it).await;
    bed.mailboxes(3..6).await;
    eventually(LIMIT, words, || async {
        let condition = bed.condition::<MailServer>("myhost", "DatabaseReady").await.unwrap_or_default();
        condition["status"] == "False" && condition["message"].as_str().unwrap_or_default().contains(words)
    })
    .await;
    assert_eq!(count(&mut root, "mailbox").await, 3, "what was there stays");
    execute(&mut root, mend_it).await;
    bed.rows(&mariadb, "mailbox", 6).await;
    bed.says::<MailServer>("myhost", "DatabaseReady", "Ready").await;
}

#[tokio::test]
async fn a_read_only_server_is_told_and_made_up_for() {
    told_and_made_up_for("readonly", "SET GLOBAL read_only = 1", "SET GLOBAL read_only = 0", "read-only")
        .await;
}

#[tokio::test]
async fn a_full_disk_is_told_and_made_up_for() {
    let full = "CREATE TRIGGER full BEFORE INSERT ON mailbox FOR EACH ROW \
                SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'";
    told_and_made_up_for("full", full, "DROP TRIGGER full", "The table is full").await;
}

#[tokio::test]
async fn a_hung_server_is_told_and_made_up_for() {
    let mariadb = MariaDb::start();
    let bed = Bed::new("hung_told", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..3).await;
    bed.rows(&mariadb, "mailbox", 3).await;
    mariadb.pause();
    // It may be in the middle of a statement, which gets a minute.
    let patience = Duration::from_secs(90);
    let message =
        bed.says_within::<MailServer>(patience, "myhost", "DatabaseReady", "DatabaseUnavailable").await;
    assert!(message.contains("no answer"), "{message}");
    mariadb.resume();
    bed.mailboxes(3..6).await;
    bed.rows(&mariadb, "mailbox", 6).await;
    bed.says::<MailServer>("myhost", "DatabaseReady", "Ready").await;
}

#[tokio::test]
async fn rows_that_the_database_keeps_are_told() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("refused_removal", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..2).await;
    bed.rows(&mariadb, "mailbox", 2).await;
    let mut root = mariadb.root(Some("refused_removal")).await;
    execute(
        &mut root,
        "CREATE TABLE theirs (username varchar(255) NOT NULL, FOREIGN KEY (username) REFERENCES mailbox (username)) \
         ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin; \
         INSERT INTO theirs VALUES ('u0@alpha.example.org')",
    )
    .await;
    bed.delete::<Mailbox>("u0").await;
    let message = bed.says::<MailServer>("myhost", "TablesSynced", "RowRefused").await;
    assert!(message.contains("u0@alpha.example.org"), "{message}");
    assert_eq!(count(&mut root, "mailbox").await, 2);
    execute(&mut root, "DROP TABLE theirs").await;
    bed.rows(&mariadb, "mailbox", 1).await;
    bed.says::<MailServer>("myhost", "TablesSynced", "Synced").await;
}
