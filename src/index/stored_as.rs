//! How a server's mailboxes are stored now, whatever its spec says. Pure.
//!
//! Mail doesn't move by itself: with another format or layout what is there would be out of sight. So where there are
//! mailboxes a change counts only once somebody has said that the mail is taken care of.

use kube::ResourceExt;

use crate::api::MailServer;
use crate::api::mail_server::StoredAs;

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

fn confirmation(stored_as: StoredAs) -> String {
    format!("{:?}/{:?}", stored_as.format, stored_as.layout)
}

/// What is in force.
#[must_use]
pub fn stored_as(server: &MailServer) -> StoredAs {
    let wanted = wanted(server);
    let status = server.status.as_ref();
    let is_confirmed =
        server.annotations().get(CONFIRM_ANNOTATION).is_some_and(|said| said.trim() == confirmation(wanted));
    match status.and_then(|status| status.mail_store) {
        Some(before) if !is_confirmed && status.and_then(|status| status.mailboxes) != Some(0) => before,
        _ => wanted,
    }
}

/// Why what the spec asks for is not in force, and what to do about it.
#[must_use]
pub fn refused_switch(server: &MailServer) -> Option<String> {
    let (wanted, now) = (wanted(server), stored_as(server));
    (wanted != now).then(|| {
        format!(
            "mailStore stays {}: as {} the mail that is there would be out of sight. Move it (docs/postfix.md) and annotate the MailServer with {CONFIRM_ANNOTATION}={}, or write {} again",
            confirmation(now),
            confirmation(wanted),
            confirmation(wanted),
            confirmation(now),
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::mail_server::{MailboxFormat, MailboxLayout};

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
    fn a_new_server_and_one_without_mailboxes_are_stored_as_they_say() {
        for status in [json!({}), in_force(0)] {
            let server = server("Address", &status, "");
            assert_eq!((stored_as(&server), refused_switch(&server)), (ADDRESS, None));
        }
    }

    #[test]
    fn a_switch_waits_until_it_and_no_other_is_confirmed() {
        for said in ["", "Mbox/Address", "Maildir/LocalPart", "true"] {
            let server = server("Address", &in_force(3), said);
            assert_eq!(stored_as(&server), StoredAs::default());
            let told = refused_switch(&server).unwrap();
            assert!(told.contains("vmail.dev/confirm-mail-store=Maildir/Address,"), "{told}");
        }
        let server = server("Address", &in_force(3), "Maildir/Address");
        assert_eq!((stored_as(&server), refused_switch(&server)), (ADDRESS, None));
    }
}
