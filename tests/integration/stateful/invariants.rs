//! What must hold at each rest.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use vmail_operator::desired::{Serving, desired, unserved};
use vmail_operator::index::{Index, Key};
use vmail_operator::watches::SharedIndex;

use super::SERVER;
use super::api_server::{ApiServer, Told};
use super::seen::Seen;
use super::world::{ADDRESSES, Declared, Object, address, quota_bytes, server};

/// Every object is told what became of what it declares now.
fn told(api: &ApiServer, object: &Object) -> Told {
    let told = api.told(&object.id());
    told.filter(|told| told.is_current).unwrap_or_else(|| panic!("{object:?} is not told"))
}

/// No object has two verdicts, which would be told in turn.
pub fn assert_one_verdict_each(index: &Index) {
    let served =
        index.keys_of(&server()).into_iter().flat_map(|key| desired(index, &server(), &key).verdicts);
    let verdicts = served.chain(index.unserved_keys().into_iter().flat_map(|key| unserved(index, &key)));
    let mut judged = BTreeSet::new();
    for verdict in verdicts {
        assert!(judged.insert(verdict.object.clone()), "{} has two verdicts", verdict.object);
    }
}

/// Who declares an address has its rows as declared, and is told so, unless there is a reason that can be seen.
pub async fn assert_declared_rows(
    declared: &Declared,
    (seen, adopts): (&Seen, bool),
    api: &ApiServer,
    root: &mut MySqlConnection,
) {
    let Some(domain @ Object::Domain { limit, catch_all }) = declared.domain() else {
        for object in declared.objects() {
            assert_eq!(told(api, object).reason, "UnknownDomain", "{object:?}");
        }
        return;
    };
    let domain_is_theirs = seen.has("domain", "alpha.example.org");
    let is_closed = domain_is_theirs && !adopts;
    let reason = told(api, domain).reason;
    assert!(
        reason == "Synced" || *catch_all || (reason == "RowExists" && is_closed),
        "the domain is told {reason}"
    );
    let active: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM domain WHERE domain = 'alpha.example.org' AND active = 1")
            .fetch_one(&mut *root)
            .await
            .unwrap();
    assert!(active == 1 || domain_is_theirs, "the domain is declared");
    for object in declared.objects() {
        let number = match object {
            Object::Mailbox { number, .. } | Object::Alias { number, .. } => *number,
            Object::Domain { .. } => continue,
        };
        if declared.winner(number).map(Object::id) != Some(object.id()) {
            assert_eq!(told(api, object).reason, "Conflict", "{object:?}");
        }
    }
    for number in 0..ADDRESSES {
        let Some(object) = declared.winner(number) else { continue };
        let key = address(number);
        let row_is_theirs = seen.has("alias", &key) || seen.has("mailbox", &key);
        let told = told(api, object);
        match (&*told.reason, object) {
            ("RowExists", _) if is_closed => continue,
            ("Synced", _) if !is_closed => {}
            ("RowExists", _) if row_is_theirs && !adopts => continue,
            // What a policy left of a mailbox keeps its address.
            ("RowExists", Object::Alias { .. }) if row_is_theirs => continue,
            ("LimitExceeded", Object::Mailbox { .. }) if *limit > 0 => continue,
            ("AliasLoop", Object::Alias { .. }) => continue,
            _ => panic!("{object:?} is told {told:?}"),
        }
        let alias: Option<(String, bool)> =
            sqlx::query_as("SELECT CAST(goto AS CHAR), active = 1 FROM alias WHERE address = ?")
                .bind(&key)
                .fetch_optional(&mut *root)
                .await
                .unwrap();
        let mailbox: Option<(i64, bool)> =
            sqlx::query_as("SELECT CAST(quota AS SIGNED), active = 1 FROM mailbox WHERE username = ?")
                .bind(&key)
                .fetch_optional(&mut *root)
                .await
                .unwrap();
        let (goto, _) = alias.unwrap_or_else(|| panic!("{object:?} has no alias row"));
        let has = |target: &str| goto.split(',').any(|other| other == target);
        match object {
            Object::Mailbox { active, quota, forwards, .. } => {
                assert_eq!(mailbox, Some((quota_bytes(*quota), *active)), "{object:?}");
                assert!(has(&key), "{goto} of {object:?}");
                assert!(has("x@elsewhere.example.net") || !forwards, "{goto} of {object:?}");
            }
            Object::Alias { target, .. } => {
                assert!(has(&address(*target)) && has("y@elsewhere.example.net"), "{goto} of {object:?}");
            }
            Object::Domain { .. } => {}
        }
    }
}

/// Owners have rows, and only winners are owners, and who waits behind a winner that is over a limit.
pub async fn assert_owners(index: &SharedIndex, root: &mut MySqlConnection) {
    let ownerless: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM vmail_owner o WHERE NOT EXISTS (SELECT 1 FROM mailbox m WHERE o.table_name = 'mailbox' AND m.username = o.row_key) \
         AND NOT EXISTS (SELECT 1 FROM alias a WHERE o.table_name = 'alias' AND a.address = o.row_key) \
         AND NOT EXISTS (SELECT 1 FROM domain d WHERE o.table_name = 'domain' AND d.domain = o.row_key)",
    )
    .fetch_one(&mut *root)
    .await
    .unwrap();
    assert_eq!(ownerless, 0, "an owner has a row");
    let owners = format!("SELECT row_key, object_uid, object FROM vmail_owner WHERE server = '{SERVER}'");
    let owners: Vec<(String, String, String)> =
        sqlx::query_as(AssertSqlSafe(owners)).fetch_all(root).await.unwrap();
    let index = index.read();
    for (key, uid, object) in owners {
        let desired = desired(&index, &server(), &Key::from_row(&key).unwrap());
        let mut owning = desired.wants.iter().map(|want| &want.uid).chain(&desired.kept);
        // Rows sleep while nobody serves their domain.
        let sleeps = desired.serving == Serving::Waiting && index.policy_of(&object, &uid).is_some();
        assert!(
            sleeps || owning.any(|owning| **owning == *uid),
            "only the winner owns what is under {key}, or who waits behind one that is over a limit"
        );
    }
}
