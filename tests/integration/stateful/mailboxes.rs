//! Many mailboxes in one domain, which go with their rows.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::mysql::MySqlConnection;
use vmail_operator::index::rows::{Kind, ObjectId};
use vmail_operator::object::ObjectName;

use super::api_server::ApiServer;

/// `u0007@alpha.example.org`
pub fn address(number: usize) -> String {
    format!("u{number:04}@alpha.example.org")
}

/// The `Mailbox` of that address.
pub fn id(number: usize) -> ObjectId {
    ObjectId { kind: Kind::Mailbox, name: ObjectName::new("mail", &format!("u{number:04}")) }
}

/// The domain of all of them.
pub fn domain() -> ObjectId {
    ObjectId { kind: Kind::Domain, name: ObjectName::new("mail", "alpha") }
}

pub fn declare_domain(api: &ApiServer) {
    api.put(&domain(), 0, json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org"}));
}

pub fn declare(api: &ApiServer, number: usize) {
    api.put(&id(number), 1, json!({"address": address(number)}));
}

/// The addresses that have a mailbox.
pub async fn rows(root: &mut MySqlConnection) -> BTreeSet<String> {
    let rows: Vec<String> = sqlx::query_scalar("SELECT username FROM mailbox").fetch_all(root).await.unwrap();
    rows.into_iter().collect()
}
