//! How a server's mailboxes are stored now, whatever its spec says. Pure.
//!
//! Mail doesn't move by itself: with another format or layout what is there would be out of sight. So from the first
//! mailbox on a change counts only once somebody has said that the mail is taken care of. That there were mailboxes is
//! remembered in `status.mailStore`, and beside the mail itself, on its claim, which outlives the `MailServer` and every
//! mailbox.

use kube::ResourceExt;

use crate::api::MailServer;
use crate::api::mail_server::{MailboxFormat, MailboxLayout, StoredAs};

/// Annotation on the claim of a mail store: how the mail in it is stored, as `Maildir/LocalPart`.
pub const CLAIM_ANNOTATION: &str = "vmail.dev/mail-store";

/// Annotation on a `MailServer` that confirms a change of `mailStore.format` or `mailStore.layout`: `Maildir/Address`.
pub const CONFIRM_ANNOTATION: &str = "vmail.dev/confirm-mail-store";

/// What the spec asks for.
fn wanted(server: &MailServer) -> StoredAs {
    let store = server.spec.mail_store.as_ref();
    StoredAs {
        format: store.and_then(|store| store.format).unwrap_or_default(),
        layout: store.and_then(|store| store.layout).unwrap_or_default(),
    }
}

/// `Maildir/Address`
fn written(stored_as: StoredAs) -> String {
    format!("{:?}/{:?}", stored_as.format, stored_as.layout)
}

/// The value of [`CLAIM_ANNOTATION`] for mail that is stored so.
#[must_use]
pub fn claim_value(server: &MailServer) -> Option<String> {
    server.status.as_ref()?.mail_store?;
    Some(written(stored_as(server)))
}

/// Reads [`claim_value`] back; `None` for a text that is none.
#[must_use]
pub fn from_claim(value: &str) -> Option<StoredAs> {
    let all = [MailboxFormat::Maildir, MailboxFormat::Mbox].into_iter().flat_map(|format| {
        [MailboxLayout::LocalPart, MailboxLayout::Address].map(|layout| StoredAs { format, layout })
    });
    all.into_iter().find(|stored_as| written(*stored_as) == value.trim())
}

/// What is in force.
#[must_use]
pub fn stored_as(server: &MailServer) -> StoredAs {
    let wanted = wanted(server);
    let is_confirmed =
        server.annotations().get(CONFIRM_ANNOTATION).is_some_and(|said| said.trim() == written(wanted));
    let before = server.status.as_ref().and_then(|status| status.mail_store);
    before.filter(|_| !is_confirmed).unwrap_or(wanted)
}

/// What the status has to say, given the number of mailboxes if it is known: nothing before the first of them, so that a
/// new server can be changed at will.
#[must_use]
pub fn recorded(server: &MailServer, mailboxes: Option<i64>) -> Option<StoredAs> {
    let before = server.status.as_ref().and_then(|status| status.mail_store);
    (before.is_some() || mailboxes.is_some_and(|count| count > 0)).then(|| stored_as(server))
}

/// Why what the spec asks for is not in force, and what to do about it.
#[must_use]
pub fn refused_switch(server: &MailServer) -> Option<String> {
    let (wanted, now) = (wanted(server), stored_as(server));
    (wanted != now).then(|| {
        format!(
            "mailStore stays {}: as {} the mail that is there would be out of sight. Move it (docs/postfix.md) and annotate the MailServer with {CONFIRM_ANNOTATION}={}, or write {} again",
            written(now),
            written(wanted),
            written(wanted),
            written(now),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn server(layout: &str, status: &Value, confirmed: &str) -> MailServer {
        serde_json::from_value(json!({
            "metadata": {"name": "myhost", "annotations": {CONFIRM_ANNOTATION: confirmed}},
            "spec": {"hostname": "myhost.example.org", "mailStore": {"layout": layout}},
            "status": status,
        }))
        .unwrap()
    }

    fn in_force(mailboxes: u32) -> Value {
        json!({"mailboxes": mailboxes, "mailStore": {"format": "Maildir", "layout": "LocalPart"}})
    }

    const ADDRESS: StoredAs = StoredAs { format: MailboxFormat::Maildir, layout: MailboxLayout::Address };

    #[test]
    fn before_the_first_mailbox_a_server_is_stored_as_it_says() {
        for status in [json!({}), json!({"mailboxes": 0})] {
            let server = server("Address", &status, "");
            assert_eq!((stored_as(&server), refused_switch(&server)), (ADDRESS, None));
            assert_eq!((recorded(&server, Some(0)), recorded(&server, None)), (None, None));
            assert_eq!(claim_value(&server), None);
            assert_eq!(recorded(&server, Some(1)), Some(ADDRESS));
        }
    }

    /// The mail of mailboxes that are gone stays.
    #[test]
    fn a_switch_waits_until_it_and_no_other_is_confirmed() {
        for mailboxes in [0, 3] {
            for said in ["", "Mbox/Address", "Maildir/LocalPart", "true"] {
                let server = server("Address", &in_force(mailboxes), said);
                assert_eq!(stored_as(&server), StoredAs::default());
                assert_eq!(recorded(&server, Some(0)), Some(StoredAs::default()));
                assert_eq!(claim_value(&server).as_deref(), Some("Maildir/LocalPart"));
                let told = refused_switch(&server).unwrap();
                assert!(told.contains("vmail.dev/confirm-mail-store=Maildir/Address,"), "{told}");
            }
            let server = server("Address", &in_force(mailboxes), "Maildir/Address");
            assert_eq!((stored_as(&server), refused_switch(&server)), (ADDRESS, None));
            assert_eq!(claim_value(&server).as_deref(), Some("Maildir/Address"));
        }
    }

    #[test]
    fn what_the_claim_says_is_read_back() {
        for format in ["Maildir", "Mbox"] {
            for layout in ["LocalPart", "Address"] {
                let status = json!({"mailStore": {"format": format, "layout": layout}});
                let server = server("LocalPart", &status, "");
                assert_eq!(from_claim(&claim_value(&server).unwrap()), server.status.unwrap().mail_store);
            }
        }
        for unreadable in ["", "Maildir", "Maildir/", "maildir/address", "Maildir/Address/x"] {
            assert_eq!(from_claim(unreadable), None, "{unreadable}");
        }
    }
}
