//! What must hold around every comparison, and at each rest.

use std::collections::BTreeSet;

use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;
use vmail_operator::api::Reason;
use vmail_operator::desired::{Serving, Verdict, desired};
use vmail_operator::index::{Index, Key};

use super::SERVER;
use super::world::{ADDRESSES, Declared, Object, address, quota_bytes, server};

/// A row that we don't own: its table, its key, and all that may be harmed.
type Theirs = (String, String, String);

/// What is there of others, and what we own.
pub struct Seen {
    theirs: Vec<Theirs>,
    ours: BTreeSet<(String, String)>,
    /// Owners of other clusters.
    other_owners: Vec<(String, String)>,
}

impl Seen {
    pub async fn now(root: &mut MySqlConnection) -> Self {
        let unowned = |(table, key, text): (&str, &str, &str)| {
            format!(
                "SELECT CAST('{table}' AS CHAR), {key}, CAST(CONCAT_WS('|', {text}) AS CHAR(400)) FROM {table} WHERE NOT EXISTS \
                 (SELECT 1 FROM vmail_owner o WHERE o.table_name = '{table}' AND o.row_key = {table}.{key} AND o.server = '{SERVER}')"
            )
        };
        let selects = [
            ("alias", "address", "goto, description, active, modified"),
            ("mailbox", "username", "maildir, name, password, quota, active, modified"),
            ("domain", "domain", "description, transport, aliases, mailboxes, quota, active, modified"),
            ("alias_domain", "alias_domain", "target_domain, active, modified"),
            ("admin", "username", "password, superadmin, active, modified"),
            ("vmail_id", "row_key", "uid, gid"),
        ]
        .map(unowned);
        let admins = "SELECT 'domain_admins', username, domain FROM domain_admins";
        let sql = format!("{} UNION ALL {admins} ORDER BY 1, 2, 3", selects.join(" UNION ALL "));
        let theirs = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *root).await.unwrap();
        let ours = format!("SELECT table_name, row_key FROM vmail_owner WHERE server = '{SERVER}'");
        let ours: Vec<_> = sqlx::query_as(AssertSqlSafe(ours)).fetch_all(&mut *root).await.unwrap();
        let others =
            format!("SELECT row_key, desired FROM vmail_owner WHERE server <> '{SERVER}' ORDER BY 1");
        let other_owners = sqlx::query_as(AssertSqlSafe(others)).fetch_all(&mut *root).await.unwrap();
        Self { theirs, ours: ours.into_iter().collect(), other_owners }
    }

    /// Nobody's rows were harmed since; those that we adopted are ours now, and those that we let go are nobody's.
    pub fn assert_nobody_was_harmed(&self, after: &Self, adopts: bool) {
        let id = |(table, key, _): &Theirs| (table.clone(), key.clone());
        for row in &self.theirs {
            let is_adopted = adopts && after.ours.contains(&id(row));
            assert!(is_adopted || after.theirs.contains(row), "{row:?} was harmed, now {:?}", after.theirs);
        }
        for row in &after.theirs {
            let was_theirs = self.theirs.iter().any(|old| id(old) == id(row));
            assert!(was_theirs || self.ours.contains(&id(row)), "{row:?} was made and has no owner");
        }
        assert_eq!(self.other_owners, after.other_owners);
    }

    fn has(&self, table: &str, key: &str) -> bool {
        self.theirs.iter().any(|(other, row, _)| other == table && row == key)
    }
}

/// Who declares an address has its rows as declared, and is told so, unless there is a reason that can be seen.
pub async fn assert_declared_rows(
    declared: &Declared,
    (before, adopts): (&Seen, bool),
    verdicts: &[Verdict],
    root: &mut MySqlConnection,
) {
    let Some(Object::Domain { limit, .. }) = declared.domain() else { return };
    let domain_is_theirs = before.has("domain", "alpha.example.org");
    let domain: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM domain WHERE domain = 'alpha.example.org' AND active = 1")
            .fetch_one(&mut *root)
            .await
            .unwrap();
    assert!(domain == 1 || domain_is_theirs, "the domain is declared");
    for number in 0..ADDRESSES {
        let Some(object) = declared.winner(number) else { continue };
        let key = address(number);
        let told = verdicts.iter().find(|verdict| verdict.object.name == object.name()).unwrap();
        let row_is_theirs = before.has("alias", &key) || before.has("mailbox", &key);
        match (told.reason, object) {
            (Reason::Synced, _) => {}
            (Reason::RowExists, _) if row_is_theirs && !adopts => continue,
            // What a policy left of a mailbox keeps its address.
            (Reason::RowExists, Object::Alias { .. }) if row_is_theirs => continue,
            (Reason::LimitExceeded, Object::Mailbox { .. }) if *limit > 0 => continue,
            (Reason::AliasLoop, Object::Alias { .. }) => continue,
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
pub async fn assert_owners(index: &Index, root: &mut MySqlConnection) {
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
    for (key, uid, object) in owners {
        let desired = desired(index, &server(), &Key::from_row(&key).unwrap());
        let mut owning = desired.wants.iter().map(|want| &want.uid).chain(&desired.kept);
        // Rows sleep while nobody serves their domain.
        let sleeps = desired.serving == Serving::Waiting && index.policy_of(&object, &uid).is_some();
        assert!(
            sleeps || owning.any(|owning| **owning == *uid),
            "only the winner owns what is under {key}, or who waits behind one that is over a limit"
        );
    }
}
