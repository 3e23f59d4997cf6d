//! What may happen: objects come, change and go, somebody else writes to the tables, the operator starts anew.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::json;
use vmail_operator::api::{MailAlias, MailDomain, MailServer, Mailbox};
use vmail_operator::index::Index;
use vmail_operator::object::ObjectName;

/// How many addresses there are.
pub const ADDRESSES: u8 = 5;

/// What may happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// An object is made or changed; made anew, where one of that name was of another age.
    Put(Object),
    Remove(Object),
    /// Somebody else changes, removes or makes a row.
    Sql(u8, u8),
    /// Whether rows that were there before their objects are taken over from now on.
    Adopt(bool),
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
    prop::collection::vec(event(), 10..40).prop_map(move |events| [vec![begun.clone()], events].concat())
}

fn event() -> impl Strategy<Value = Event> {
    let removed = prop_oneof![5 => mailbox(), 3 => alias(), 1 => domain()];
    prop_oneof![
        4 => mailbox().prop_map(Event::Put),
        3 => alias().prop_map(Event::Put),
        2 => domain().prop_map(Event::Put),
        3 => removed.prop_map(Event::Remove),
        4 => (0..10u8, 0..ADDRESSES).prop_map(|(what, number)| Event::Sql(what, number)),
        1 => any::<bool>().prop_map(Event::Adopt),
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
    pub fn name(&self) -> ObjectName {
        let name = match self {
            Self::Mailbox { number, .. } => format!("m{number}"),
            Self::Alias { number, .. } => format!("a{number}"),
            Self::Domain { .. } => "alpha".to_owned(),
        };
        ObjectName::new("mail", &name)
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

    pub fn uid(&self) -> String {
        format!("{}-{}", self.name().name, self.created())
    }

    fn parsed<K: DeserializeOwned>(&self, spec: &serde_json::Value) -> K {
        let (name, created) = (self.name(), self.created());
        let metadata = json!({
            "namespace": "mail", "name": &*name.name, "uid": self.uid(), "generation": 1,
            "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
        });
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    pub fn declare(&self, index: &mut Index) {
        match self {
            Self::Mailbox { number, active, forwards, policy, quota } => {
                let forward = forwards.then_some(["x@elsewhere.example.net"]);
                let policy = ["Delete", "Disable", "Retain"][usize::from(*policy)];
                let spec = json!({
                    "address": address(*number), "active": active, "forwardTo": forward, "deletionPolicy": policy,
                    "quota": quota_bytes(*quota),
                });
                index.apply_mailbox(self.name(), (&self.parsed::<Mailbox>(&spec)).into());
            }
            Self::Alias { number, target, .. } => {
                let spec = json!({"address": address(*number), "goto": [address(*target), "y@elsewhere.example.net"]});
                index.apply_alias(self.name(), (&self.parsed::<MailAlias>(&spec)).into());
            }
            Self::Domain { limit, catch_all } => {
                let spec = json!({
                    "serverRef": {"name": "myhost"}, "domain": "alpha.example.org",
                    "catchAll": catch_all.then_some([address(0)]),
                    "limits": (*limit > 0).then_some(json!({"mailboxes": limit})),
                });
                index.apply_domain(self.name(), (&self.parsed::<MailDomain>(&spec)).into());
            }
        }
    }

    pub fn remove(&self, index: &mut Index) {
        match self {
            Self::Mailbox { .. } => index.remove_mailbox(&self.name()),
            Self::Alias { .. } => index.remove_alias(&self.name()),
            Self::Domain { .. } => index.remove_domain(&self.name()),
        }
    }
}

pub fn quota_bytes(quota: u8) -> i64 {
    i64::from(quota) * 102_400_000
}

/// What the API server has.
#[derive(Default)]
pub struct Declared(BTreeMap<ObjectName, Object>);

impl Declared {
    pub fn put(&mut self, object: &Object) {
        self.0.insert(object.name(), object.clone());
    }

    pub fn remove(&mut self, object: &Object) {
        self.0.remove(&object.name());
    }

    /// An index that was filled from the first lists.
    pub fn listed(&self) -> Index {
        let mut index = Index::default();
        let spec = serde_json::from_value(json!({"hostname": "myhost.example.org"})).unwrap();
        index.apply_server(&server(), (&MailServer::new("myhost", spec)).into());
        for object in self.0.values() {
            object.declare(&mut index);
        }
        index
    }

    pub fn domain(&self) -> Option<&Object> {
        self.0.values().find(|object| matches!(object, Object::Domain { .. }))
    }

    /// The object that gets an address.
    pub fn winner(&self, at: u8) -> Option<&Object> {
        self.domain()?;
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
        8 => "DELETE FROM domain WHERE domain = 'alpha.example.org'".to_owned(),
        _ => format!("DELETE FROM vmail_owner WHERE row_key = '{declared}'"),
    }
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
