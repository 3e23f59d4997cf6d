//! What may happen: objects come, change and go, somebody else writes to the tables, the operator starts anew.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use vmail_operator::index::rows::{Kind, ObjectId};
use vmail_operator::object::ObjectName;

/// How many addresses there are.
pub const ADDRESSES: u8 = 5;

/// What may happen. Nothing waits for the operator that doesn't say so.
#[derive(Clone, Debug)]
pub enum Event {
    /// An object is made or changed; made anew, where one of that name was of another age.
    Put(Object),
    Remove(Object),
    /// The operator has done all that there is to do.
    Idle,
    /// Everything is compared from now on.
    Compare,
    /// Somebody else changes, removes or makes a row.
    Sql(u8, u8),
    /// Somebody takes owners out of the operator's own table while it does nothing: what it is about to write it takes for its
    /// own.
    Disown(u8),
    /// Whether rows that were there before their objects are taken over from now on.
    Adopt(bool),
    /// So many deletions are always allowed from now on.
    Brake(u8),
    /// The operator begins anew, with nothing but the database and the objects.
    Restart,
    /// It is killed in the middle of a comparison: its connection brings it something this often before.
    Killed(u8),
    /// Everything is compared, and what must hold is looked at.
    Rest,
}

/// An object as it is declared.
#[derive(Clone, Debug)]
pub enum Object {
    Mailbox {
        number: u8,
        active: bool,
        forwards: bool,
        policy: u8,
        quota: u8,
    },
    /// `older`: than the mailbox of the same address.
    Alias {
        number: u8,
        target: u8,
        older: bool,
    },
    Domain {
        limit: u8,
        catch_all: bool,
    },
}

pub fn events() -> impl Strategy<Value = Vec<Event>> {
    let begun = Event::Put(Object::Domain { limit: 0, catch_all: false });
    // Without the domain there is little to see.
    prop::collection::vec(event(), 15..60).prop_map(move |events| [vec![begun.clone()], events].concat())
}

fn event() -> impl Strategy<Value = Event> {
    let removed = prop_oneof![5 => mailbox(), 3 => alias(), 1 => domain()];
    prop_oneof![
        4 => mailbox().prop_map(Event::Put),
        3 => alias().prop_map(Event::Put),
        2 => domain().prop_map(Event::Put),
        4 => removed.prop_map(Event::Remove),
        6 => Just(Event::Idle),
        2 => Just(Event::Compare),
        4 => (0..9u8, 0..ADDRESSES).prop_map(|(what, number)| Event::Sql(what, number)),
        1 => (0..ADDRESSES).prop_map(Event::Disown),
        1 => any::<bool>().prop_map(Event::Adopt),
        1 => prop_oneof![Just(0), Just(2), Just(100)].prop_map(Event::Brake),
        1 => Just(Event::Restart),
        2 => (0..9u8).prop_map(Event::Killed),
        3 => Just(Event::Rest),
    ]
}

fn mailbox() -> impl Strategy<Value = Object> {
    (0..ADDRESSES, any::<bool>(), any::<bool>(), 0..3u8, 0..3u8).prop_map(
        |(number, active, forwards, policy, quota)| Object::Mailbox {
            number,
            active,
            forwards,
            policy,
            quota,
        },
    )
}

fn alias() -> impl Strategy<Value = Object> {
    (0..ADDRESSES, 0..ADDRESSES, any::<bool>()).prop_map(|(number, target, older)| Object::Alias {
        number,
        target,
        older,
    })
}

fn domain() -> impl Strategy<Value = Object> {
    (0..3u8, any::<bool>()).prop_map(|(limit, catch_all)| Object::Domain { limit, catch_all })
}

pub fn address(number: u8) -> String {
    format!("u{number}@alpha.example.org")
}

/// `mail/myhost`
pub fn server() -> ObjectName {
    ObjectName::new("mail", "myhost")
}

impl Object {
    pub fn id(&self) -> ObjectId {
        let (kind, name) = match self {
            Self::Mailbox { number, .. } => (Kind::Mailbox, format!("m{number}")),
            Self::Alias { number, .. } => (Kind::Alias, format!("a{number}")),
            Self::Domain { .. } => (Kind::Domain, "alpha".to_owned()),
        };
        ObjectId { kind, name: ObjectName::new("mail", &name) }
    }

    /// The older of two wins an address.
    pub fn created(&self) -> u8 {
        match self {
            Self::Domain { .. } => 0,
            Self::Mailbox { number, .. } => 1 + number,
            Self::Alias { number, older, .. } => {
                if *older {
                    *number
                } else {
                    2 + number
                }
            }
        }
    }

    pub fn spec(&self) -> Value {
        match self {
            Self::Mailbox { number, active, forwards, policy, quota } => {
                let forward = forwards.then_some(["x@elsewhere.example.net"]);
                let policy = ["Delete", "Disable", "Retain"][usize::from(*policy)];
                json!({
                    "address": address(*number), "active": active, "forwardTo": forward, "deletionPolicy": policy,
                    "quota": quota_bytes(*quota),
                })
            }
            Self::Alias { number, target, .. } => {
                json!({"address": address(*number), "goto": [address(*target), "y@elsewhere.example.net"]})
            }
            Self::Domain { limit, catch_all } => json!({
                "serverRef": {"name": "myhost"}, "domain": "alpha.example.org",
                "catchAll": catch_all.then_some([address(0)]),
                "limits": (*limit > 0).then_some(json!({"mailboxes": limit})),
            }),
        }
    }
}

pub fn quota_bytes(quota: u8) -> i64 {
    i64::from(quota) * 102_400_000
}

/// What is declared.
#[derive(Default)]
pub struct Declared(BTreeMap<ObjectId, Object>);

impl Declared {
    pub fn put(&mut self, object: &Object) {
        self.0.insert(object.id(), object.clone());
    }

    pub fn remove(&mut self, object: &Object) {
        self.0.remove(&object.id());
    }

    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.0.values()
    }

    pub fn domain(&self) -> Option<&Object> {
        self.0.values().find(|object| matches!(object, Object::Domain { .. }))
    }

    /// The object that gets an address, where there is a domain.
    pub fn winner(&self, at: u8) -> Option<&Object> {
        let claims = self.0.values().filter(|object| match object {
            Object::Mailbox { number, .. } | Object::Alias { number, .. } => *number == at,
            Object::Domain { .. } => false,
        });
        claims.min_by_key(|object| object.created())
    }
}

/// Rows of somebody else are in a domain that nobody declares, or under keys that are declared at times.
pub fn foreign_sql(what: u8, number: u8) -> String {
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
        6 => format!(
            "INSERT IGNORE INTO mailbox (username, password, name, maildir, local_part, domain) \
             VALUES ('{declared}', 'theirs', 'By Hand', 'hand/{number}/', 'u{number}', 'alpha.example.org')"
        ),
        7 => "INSERT IGNORE INTO domain (domain, description) VALUES ('alpha.example.org', 'by hand')"
            .to_owned(),
        _ => "DELETE FROM domain WHERE domain = 'alpha.example.org'".to_owned(),
    }
}

/// Nobody owns what is under an address any more.
pub fn disowning(number: u8) -> String {
    format!("DELETE FROM vmail_owner WHERE row_key = '{}'", address(number))
}

/// What is there before us: `PostfixAdmin`'s own row, and accounts that nobody ever declares.
pub const STRANGERS: &str = "
    INSERT INTO domain (domain, description) VALUES ('ALL', ''), ('hand.example.org', 'by hand');
    INSERT INTO alias_domain (alias_domain, target_domain) VALUES ('too.example.org', 'hand.example.org');
    INSERT INTO mailbox (username, password, maildir, local_part, domain)
        VALUES ('hand@hand.example.org', 'theirs', 'hand/', 'hand', 'hand.example.org');
    INSERT INTO alias (address, goto, domain) VALUES ('hand@hand.example.org', 'hand@hand.example.org', 'hand.example.org');
    INSERT INTO admin (username, password) VALUES ('hand@hand.example.org', 'theirs');
    INSERT INTO domain_admins (username, domain) VALUES ('hand@hand.example.org', 'ALL');
    INSERT INTO vmail_id (row_key, uid, gid) VALUES ('hand@hand.example.org', 1000, 1000);
    INSERT INTO alias (address, goto, domain) VALUES ('other@hand.example.org', 'x', 'hand.example.org');
    INSERT INTO vmail_owner (row_key, table_name, server, object_uid, object, policy, desired, goto)
        VALUES ('other@hand.example.org', 'alias', 'elsewhere/mail/myhost', 'theirs', 'MailAlias mail/theirs', 'Delete', '', '');
";
