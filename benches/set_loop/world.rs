//! Generated worlds: mailboxes over [`DOMAINS`] domains, one after the other; a million over 10 000.

use serde_json::json;
use vmail_operator::api::{Address, DeletionPolicy, MailDomain, MailServer};
use vmail_operator::index::Index;
use vmail_operator::index::rows::{DomainRow, Ids, MailboxRow, Meta, SeenStatus};
use vmail_operator::object::ObjectName;

pub fn server() -> ObjectName {
    ObjectName::new("mail", "myhost")
}

fn meta(number: usize) -> Meta {
    Meta {
        uid: format!("00000000-0000-0000-0000-{number:012}").into(),
        created: 1,
        generation: 1,
        status: SeenStatus::default(),
    }
}

/// Domains of a world, a million aside.
pub const DOMAINS: usize = 100;

fn domains(n: usize) -> usize {
    if n < 1_000_000 { DOMAINS } else { n / 100 }
}

pub fn address(number: usize) -> Address {
    address_in(number, DOMAINS)
}

fn address_in(number: usize, domains: usize) -> Address {
    Address::parse(&format!("u{number}@d{}.example.org", number % domains)).unwrap()
}

/// A mailbox of a world of `n`.
pub fn mailbox(number: usize, n: usize, name: &str) -> (ObjectName, MailboxRow) {
    let row = MailboxRow {
        meta: meta(number),
        address: address_in(number, domains(n)),
        display_name: Some(name.into()),
        password: None,
        quota: Some(0),
        ids: Ids::default(),
        told_maildir: None,
        active: true,
        names_active: false,
        forward_to: Box::default(),
        keep_copy: true,
        policy: DeletionPolicy::Delete,
    };
    (ObjectName::new("mail", &format!("u{number}")), row)
}

/// A world of `n` mailboxes.
pub fn index(n: usize) -> Index {
    let mut index = Index::default();
    let spec = serde_json::from_value(json!({"hostname": "myhost.example.org"})).unwrap();
    index.apply_server(&server(), (&MailServer::new("myhost", spec)).into());
    for number in 0..domains(n) {
        let spec = json!({"serverRef": {"name": "myhost"}, "domain": format!("d{number}.example.org")});
        let domain = MailDomain::new(&format!("d{number}"), serde_json::from_value(spec).unwrap());
        let row = DomainRow { meta: meta(number), server: server(), ..DomainRow::from(&domain) };
        index.apply_domain(ObjectName::new("mail", &format!("d{number}")), row);
    }
    for number in 0..n {
        let (name, row) = mailbox(number, n, "Somebody");
        index.apply_mailbox(name, row);
    }
    index
}
