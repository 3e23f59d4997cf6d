//! Rows that are inserted without a look at the tables: all of them, or none.

use sqlx::mysql::MySqlConnection;
use vmail_operator::plan::Plan;
use vmail_operator::store::Store;
use vmail_operator::tables::{IdRow, Row, Table};

use super::{SERVER, alias, execute, in_current, key, mailbox, writing};
use crate::mariadb::MariaDb;

const BOTH: [Table; 2] = [Table::Mailbox, Table::Alias];

fn both_rows(number: usize) -> [Row; 2] {
    let address = format!("u{number}@alpha.example.org");
    [mailbox(number), alias(&address, address.clone())]
}

/// Two new mailboxes; with `aliases` of 30 KB each more than goes in one packet.
fn plan(aliases: usize) -> Plan {
    let long = |number| {
        alias(&format!("long{number}@alpha.example.org"), "someone@elsewhere.example.org,".repeat(1000))
    };
    writing((1..3).flat_map(both_rows).chain((0..aliases).map(long)).collect())
}

async fn counts(root: &mut MySqlConnection) -> (i64, i64, i64) {
    let sql = "SELECT (SELECT COUNT(*) FROM mailbox), (SELECT COUNT(*) FROM alias), (SELECT COUNT(*) FROM vmail_owner)";
    sqlx::query_as(sql).fetch_one(root).await.unwrap()
}

#[tokio::test]
async fn what_is_new_is_inserted_with_its_owners() {
    let mariadb = MariaDb::shared();
    for (name, aliases) in [("unseen_few", 0), ("unseen_many", 20)] {
        let access = mariadb.database(name).await;
        let mut store = Store::open(&access, SERVER).await.unwrap();
        assert!(store.tells_by_inserting(&key("u1@alpha.example.org"), &BOTH), "{name}");
        let plan = plan(aliases);
        assert!(store.insert_unseen(&plan).await.unwrap(), "{name}");
        let keys: Vec<_> = plan.inserts.iter().map(|row| key(row.key())).collect();
        let current = store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(current, in_current(&plan.inserts), "{name}");
    }
}

#[tokio::test]
async fn where_one_is_not_new_none_is_written() {
    let mariadb = MariaDb::shared();
    let in_the_way = [
        (
            "row",
            "INSERT INTO alias (address, goto, domain) VALUES ('u2@alpha.example.org', 'theirs', 'alpha.example.org')",
        ),
        (
            "owner",
            "INSERT INTO vmail_owner (row_key, table_name, server, object_uid, object, policy, desired, goto) \
             VALUES ('u2@alpha.example.org', 'alias', 'another/mail/myhost', 'uid', 'x', 'Delete', '', '')",
        ),
    ];
    for (what, sql) in in_the_way {
        for aliases in [0, 20] {
            let name = format!("unseen_{what}_{aliases}");
            let access = mariadb.database(&name).await;
            let mut store = Store::open(&access, SERVER).await.unwrap();
            let mut root = mariadb.root(Some(&name)).await;
            execute(&mut root, sql).await;
            let before = counts(&mut root).await;
            assert!(!store.insert_unseen(&plan(aliases)).await.unwrap(), "{name}");
            assert_eq!(counts(&mut root).await, before, "{name}");
            let rest = writing(both_rows(1).into());
            assert!(store.insert_unseen(&rest).await.unwrap(), "{name}: the connection goes on");
        }
    }
}

#[tokio::test]
async fn tables_whose_keys_tell_nothing_are_looked_at() {
    let mariadb = MariaDb::shared();
    for (name, alter) in [
        ("unseen_keyless", "ALTER TABLE alias DROP PRIMARY KEY"),
        ("unseen_wider", "ALTER TABLE alias DROP PRIMARY KEY, ADD PRIMARY KEY (address, domain)"),
        ("unseen_myisam", "ALTER TABLE mailbox CONVERT TO CHARACTER SET latin1, ENGINE = MyISAM"),
    ] {
        let access = mariadb.database(name).await;
        Store::open(&access, SERVER).await.unwrap().close().await;
        execute(&mut mariadb.root(Some(name)).await, alter).await;
        let store = Store::open(&access, SERVER).await.unwrap();
        assert!(!store.tells_by_inserting(&key("u1@alpha.example.org"), &BOTH), "{name}");
    }
    let access = mariadb.database("unseen_id").await;
    let mut store = Store::open(&access, SERVER).await.unwrap();
    let owner = Row::Id(IdRow { key: "u9@alpha.example.org".into(), uid: 2000, gid: 2000 });
    store.apply(&writing(vec![owner])).await.unwrap();
    let bob = key("u1@alpha.example.org");
    assert!(!store.tells_by_inserting(&bob, &BOTH), "a row of vmail_id might be there");
    assert!(store.tells_by_inserting(&bob, &[Table::Mailbox, Table::Alias, Table::Id]));
}

#[tokio::test]
async fn a_row_of_vmail_id_that_came_with_a_domain_is_seen() {
    let mariadb = MariaDb::shared();
    let access = mariadb.database("moved_id").await;
    let mut here = Store::open(&access, SERVER).await.unwrap();
    let mut there = Store::open(&access, "cluster/mail/another").await.unwrap();
    let rows = vec![mailbox(0), Row::Id(IdRow { key: "u0@alpha.example.org".into(), uid: 2000, gid: 2000 })];
    there.apply(&writing(rows.clone())).await.unwrap();
    let current = here.read(&[&key("u0@alpha.example.org")]).await.unwrap();
    assert_eq!(current, in_current(&rows));
}
