//! The set loop's thinking and a real database, through anything that may happen: objects come, change and go, somebody else
//! writes to the tables, the operator starts anew. At each rest the tables are as declared, and nobody's rows are harmed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::mail_server::{Drift, ExistingRows};
use vmail_operator::api::{MailAlias, MailDomain, MailServer, Mailbox};
use vmail_operator::desired::{Verdict, desired};
use vmail_operator::index::{Index, Key};
use vmail_operator::object::ObjectName;
use vmail_operator::plan::{self, Current, Plan, Terms};
use vmail_operator::store::{Access, Store};
use vmail_operator::tables::Table;

use crate::mariadb::MariaDb;

const SERVER: &str = "cluster/mail/myhost";

/// Sequences of events, each in a database of its own.
const CASES: usize = 8;

/// What may happen.
#[derive(Clone, Debug)]
enum Event {
    Mailbox {
        number: u8,
        active: bool,
        forwards: bool,
        policy: u8,
        quota: u8,
    },
    Alias {
        number: u8,
        target: u8,
    },
    Domain {
        limit: u8,
        catch_all: bool,
    },
    RemoveMailbox(u8),
    RemoveAlias(u8),
    RemoveDomain,
    /// Somebody else changes, removes or makes a row.
    Sql(u8, u8),
    /// Whether rows that were there before their objects are taken over from now on.
    Adopt(bool),
    /// The operator begins anew, with nothing but the database and the objects.
    Restart,
    /// Everything is compared, and what must hold is looked at.
    Rest,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5u8, any::<bool>(), any::<bool>(), 0..3u8, 0..3u8).prop_map(
            |(number, active, forwards, policy, quota)| Event::Mailbox { number, active, forwards, policy, quota }
        ),
        3 => (0..5u8, 0..5u8).prop_map(|(number, target)| Event::Alias { number, target }),
        1 => (0..3u8, any::<bool>()).prop_map(|(limit, catch_all)| Event::Domain { limit, catch_all }),
        2 => (0..5u8).prop_map(Event::RemoveMailbox),
        1 => (0..5u8).prop_map(Event::RemoveAlias),
        1 => Just(Event::RemoveDomain),
        4 => (0..7u8, 0..5u8).prop_map(|(what, number)| Event::Sql(what, number)),
        1 => any::<bool>().prop_map(Event::Adopt),
        1 => Just(Event::Restart),
        3 => Just(Event::Rest),
    ]
}

fn address(number: u8) -> String {
    format!("u{number}@alpha.example.org")
}

fn object<K: serde::de::DeserializeOwned>(name: &str, created: u8, spec: &serde_json::Value) -> K {
    let metadata = json!({
        "namespace": "mail", "name": name, "uid": name, "generation": 1,
        "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
    });
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn declare(index: &mut Index, event: &Event) {
    match *event {
        Event::Mailbox { number, active, forwards, policy, quota } => {
            let forward = if forwards { json!(["x@elsewhere.example.net"]) } else { json!(null) };
            let policy = ["Delete", "Disable", "Retain"][usize::from(policy)];
            let spec = json!({
                "address": address(number), "active": active, "forwardTo": forward, "deletionPolicy": policy,
                "quota": u32::from(quota) * 1000,
            });
            let mailbox: Mailbox = object(&format!("m{number}"), number, &spec);
            index.apply_mailbox(ObjectName::of(&mailbox), (&mailbox).into());
        }
        Event::Alias { number, target } => {
            let spec =
                json!({"address": address(number), "goto": [address(target), "y@elsewhere.example.net"]});
            let alias: MailAlias = object(&format!("a{number}"), 2 + number, &spec);
            index.apply_alias(ObjectName::of(&alias), (&alias).into());
        }
        Event::Domain { limit, catch_all } => {
            let catch_all = if catch_all { json!([address(0)]) } else { json!(null) };
            let limits = if limit == 0 { json!(null) } else { json!({"mailboxes": limit}) };
            let spec = json!({
                "serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "catchAll": catch_all, "limits": limits,
            });
            let domain: MailDomain = object("alpha", 0, &spec);
            index.apply_domain(ObjectName::of(&domain), (&domain).into());
        }
        Event::RemoveMailbox(number) => index.remove_mailbox(&ObjectName::new("mail", &format!("m{number}"))),
        Event::RemoveAlias(number) => index.remove_alias(&ObjectName::new("mail", &format!("a{number}"))),
        Event::RemoveDomain => index.remove_domain(&ObjectName::new("mail", "alpha")),
        Event::Sql(..) | Event::Adopt(_) | Event::Restart | Event::Rest => {}
    }
}

/// Rows of somebody else are in a domain that nobody declares, or under addresses that are declared at times.
fn foreign_sql(what: u8, number: u8) -> String {
    let declared = address(number);
    match what {
        0 => format!("DELETE FROM mailbox WHERE username = '{declared}'"),
        1 => format!("UPDATE alias SET active = 1 - active WHERE address = '{declared}'"),
        2 => format!(
            "UPDATE alias SET goto = CONCAT(goto, ',z@elsewhere.example.net') WHERE address = '{declared}' AND goto NOT LIKE '%z@%'"
        ),
        3 => format!(
            "UPDATE mailbox SET name = 'Somebody', maildir = 'elsewhere/' WHERE username = '{declared}'"
        ),
        4 => format!(
            "INSERT IGNORE INTO alias (address, goto, domain) VALUES ('hand{number}@hand.example.org', 'made by hand', 'hand.example.org')"
        ),
        5 => format!(
            "INSERT IGNORE INTO alias (address, goto, domain) VALUES ('{declared}', 'made by hand', 'alpha.example.org')"
        ),
        _ => format!(
            "INSERT IGNORE INTO mailbox (username, password, name, maildir, local_part, domain) \
             VALUES ('{declared}', 'theirs', 'By Hand', 'hand/{number}/', 'u{number}', 'alpha.example.org')"
        ),
    }
}

/// The operator without its loops: the same rooms in the same order.
struct Operator {
    store: Store,
    existing_rows: ExistingRows,
}

impl Operator {
    /// Works on what events touched: what may be new is inserted without a look first.
    async fn touched(&mut self, index: &Index, keys: BTreeSet<Key>) {
        let server = ObjectName::new("mail", "myhost");
        let may_be_new = |key: &Key| {
            let tables: Vec<Table> =
                desired(index, &server, key).wants.iter().map(|want| want.row.table()).collect();
            matches!(key, Key::Address(_)) && self.store.tells_by_inserting(key, &tables)
        };
        let (new, mut seen): (BTreeSet<Key>, BTreeSet<Key>) =
            keys.into_iter().partition(|key| may_be_new(key));
        let (plan, _) = self.planned(index, new.clone(), &Current::default());
        if !new.is_empty() && !self.store.insert_unseen(&plan).await.unwrap() {
            seen.extend(new);
        }
        self.compare(index, seen).await;
    }

    async fn compare(&mut self, index: &Index, keys: BTreeSet<Key>) -> (Plan, Vec<Verdict>) {
        let current = self.store.read(&keys.iter().collect::<Vec<_>>()).await.unwrap();
        let (plan, verdicts) = self.planned(index, keys, &current);
        self.store.apply(&plan).await.unwrap();
        (plan, verdicts)
    }

    fn planned(&self, index: &Index, keys: BTreeSet<Key>, current: &Current) -> (Plan, Vec<Verdict>) {
        let server = ObjectName::new("mail", "myhost");
        let mut wanted: Vec<_> =
            keys.into_iter().map(|key| (key.clone(), desired(index, &server, &key))).collect();
        let absent = self.store.absent_columns();
        let terms = Terms {
            installation: "cluster",
            server: SERVER,
            existing_rows: self.existing_rows,
            drift: Drift::Correct,
            absent: &absent,
            lacking: &[],
            is_served: &|_| true,
            is_taken_over: &|_| false,
            declared: &|owner| index.policy_of(&owner.object, &owner.object_uid),
            is_unreadable: &|_| false,
            held: &BTreeSet::new(),
            passwords: &BTreeMap::new(),
        };
        let plan = plan::plan(&mut wanted, current, &terms);
        (plan, wanted.into_iter().flat_map(|(_, desired)| desired.verdicts).collect())
    }

    async fn all_keys(&mut self, index: &Index) -> BTreeSet<Key> {
        let owned = self.store.owned_keys(SERVER).await.unwrap().into_iter();
        owned.chain(index.keys_of(&ObjectName::new("mail", "myhost"))).collect()
    }
}

/// Rows that nobody of ours owns, whole.
async fn unowned(root: &mut MySqlConnection) -> Vec<(String, String, String, i64)> {
    let unowned = |table: &str, key: &str, text: &str| {
        format!(
            "SELECT CAST('{table}' AS CHAR), {key}, {text}, CAST(active AS SIGNED) FROM {table} WHERE NOT EXISTS \
             (SELECT 1 FROM vmail_owner o WHERE o.table_name = '{table}' AND o.row_key = {table}.{key})"
        )
    };
    let sql = format!(
        "{} UNION ALL {} ORDER BY 1, 2",
        unowned("alias", "address", "CAST(CONCAT(goto, modified) AS CHAR(200))"),
        unowned("mailbox", "username", "CAST(CONCAT(maildir, name, password, quota, modified) AS CHAR(200))")
    );
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(root).await.unwrap()
}

async fn rest(operator: &mut Operator, index: &Index, root: &mut MySqlConnection) {
    let before = unowned(root).await;
    let released: BTreeSet<String> = owned(root).await;
    let keys = operator.all_keys(index).await;
    operator.compare(index, keys).await;
    let after = unowned(root).await;
    let adopted = owned(root).await;
    for row in &before {
        let is_adopted = operator.existing_rows == ExistingRows::Adopt
            && adopted.contains(&format!("{} {}", row.0, row.1));
        assert!(is_adopted || after.contains(row), "somebody else's row {row:?} was changed, now {after:?}");
    }
    for (table, key, ..) in &after {
        let was_theirs = before.iter().any(|(old_table, old_key, ..)| (old_table, old_key) == (table, key));
        assert!(
            was_theirs || released.contains(&format!("{table} {key}")),
            "{table} {key} has lost its owner"
        );
    }
    let keys = operator.all_keys(index).await;
    let (second, verdicts) = operator.compare(index, keys).await;
    assert!(second.is_empty(), "a second plan changes nothing: {second:?}");
    let judged: BTreeSet<_> = verdicts.iter().map(|verdict| &verdict.object).collect();
    assert_eq!(judged.len(), verdicts.len(), "one verdict an object");
    let ownerless: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM vmail_owner o WHERE o.table_name = 'mailbox' AND NOT EXISTS (SELECT 1 FROM mailbox m WHERE m.username = o.row_key)",
    )
    .fetch_one(&mut *root)
    .await
    .unwrap();
    assert_eq!(ownerless, 0, "an owner has a row");
    let owners: Vec<(String, String, String)> =
        sqlx::query_as("SELECT row_key, object_uid, object FROM vmail_owner").fetch_all(root).await.unwrap();
    for (key, uid, object) in owners {
        let desired = desired(index, &ObjectName::new("mail", "myhost"), &Key::from_row(&key).unwrap());
        let owning = desired.wants.first().map(|want| &want.uid).or(desired.kept.as_ref());
        // Rows sleep while nobody serves their domain.
        let sleeps = desired.waits && index.policy_of(&object, &uid).is_some();
        assert!(
            sleeps || owning.is_some_and(|owning| **owning == *uid),
            "only the winner owns what is under {key}"
        );
    }
}

async fn owned(root: &mut MySqlConnection) -> BTreeSet<String> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT table_name, row_key FROM vmail_owner").fetch_all(root).await.unwrap();
    rows.into_iter().map(|(table, key)| format!("{table} {key}")).collect()
}

async fn live_through(access: &Access, mariadb: &MariaDb, events: &[Event]) {
    let mut index = Index::default();
    let server =
        MailServer::new("myhost", serde_json::from_value(json!({"hostname": "myhost.example.org"})).unwrap());
    let name = ObjectName::new("mail", "myhost");
    index.apply_server(&name, (&server).into());
    let store = Store::open(access, SERVER).await.unwrap();
    let mut operator = Operator { store, existing_rows: ExistingRows::Fail };
    let mut root = mariadb.root(Some(&access.database)).await;
    for event in events {
        match event {
            Event::Sql(what, number) => {
                sqlx::raw_sql(AssertSqlSafe(foreign_sql(*what, *number))).execute(&mut root).await.unwrap();
            }
            Event::Restart => {
                operator.store.close().await;
                operator = Operator { store: Store::open(access, SERVER).await.unwrap(), ..operator };
            }
            Event::Adopt(adopt) => {
                operator.existing_rows = if *adopt { ExistingRows::Adopt } else { ExistingRows::Fail };
            }
            Event::Rest => rest(&mut operator, &index, &mut root).await,
            declared => {
                declare(&mut index, declared);
                let touched = index.take_work(&name).keys;
                operator.touched(&index, touched).await;
            }
        }
    }
    rest(&mut operator, &index, &mut root).await;
    operator.store.close().await;
}

#[tokio::test]
async fn whatever_happens_the_tables_end_right_and_nobodys_rows_are_harmed() {
    let mariadb = MariaDb::shared();
    let mut runner = TestRunner::new(Config::default());
    for case in 0..CASES {
        let events = prop::collection::vec(event(), 10..40).new_tree(&mut runner).unwrap().current();
        let access = mariadb.database(&format!("stateful_{case}")).await;
        // What a failure shows.
        eprintln!("case {case}: {events:?}");
        live_through(&access, &mariadb, &events).await;
    }
}
