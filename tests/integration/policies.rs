//! Deletion policies, the brake and moves between servers, by the operator's process over a real API server and MariaDB.

use kube::api::{Patch, PatchParams};
use serde_json::json;
use vmail_operator::api::{MailDomain, MailServer, Mailbox};

use crate::bed::{Bed, execute};
use crate::mariadb::MariaDb;

async fn hold_back(bed: &mut Bed, mariadb: &MariaDb) -> String {
    bed.rows(mariadb, "mailbox", 30).await;
    bed.kill();
    for number in 0..29 {
        bed.delete::<Mailbox>(&format!("u{number}")).await;
    }
    bed.start();
    bed.says::<MailServer>("myhost", "TablesSynced", "DeletionsHeld").await
}

#[tokio::test]
async fn a_release_that_was_used_is_used_up() {
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("used_up", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..30).await;
    let message = hold_back(&mut bed, &mariadb).await;
    let hash = message.rsplit('=').next().unwrap();
    let release = json!({"metadata": {"annotations": {"vmail.dev/release-deletions": hash}}});
    bed.api::<MailServer>().patch("myhost", &PatchParams::default(), &Patch::Merge(release)).await.unwrap();
    bed.rows(&mariadb, "mailbox", 1).await;
    bed.says::<MailServer>("myhost", "TablesSynced", "Synced").await;
    // The same names once more, and the annotation is still there.
    bed.mailboxes(0..29).await;
    let again = hold_back(&mut bed, &mariadb).await;
    assert_ne!(again, message);
    bed.rows(&mariadb, "mailbox", 30).await;
}

/// A password that somebody else set would be lost with its row.
#[tokio::test]
async fn a_domain_that_moves_between_servers_of_one_database_keeps_its_rows() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("moving", &mariadb).await;
    bed.create::<MailServer>("other", &bed.server_spec(bed.access.port)).await;
    bed.domain().await;
    bed.mailboxes(0..20).await;
    bed.rows(&mariadb, "mailbox", 20).await;
    bed.says::<MailServer>("other", "TablesSynced", "Synced").await;
    execute(&bed, &mariadb, "UPDATE mailbox SET password = 'theirs'").await;
    for server in ["other", "myhost", "other"] {
        bed.change::<MailDomain>("alpha", json!({"serverRef": {"name": server}})).await;
        bed.rows(&mariadb, &format!("vmail_owner WHERE server LIKE '%/{server}'"), 41).await;
        bed.rows(&mariadb, "mailbox WHERE password = 'theirs' AND active = 1", 20).await;
        bed.says::<Mailbox>("u19", "Ready", "Synced").await;
    }
}

#[tokio::test]
async fn a_domain_that_is_made_anew_finds_its_mailboxes_rows() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("anew", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..2).await;
    bed.change::<Mailbox>("u0", json!({"deletionPolicy": "Disable"})).await;
    bed.change::<Mailbox>("u1", json!({"deletionPolicy": "Retain"})).await;
    bed.rows(&mariadb, "vmail_owner WHERE policy = 'Disable' OR policy = 'Retain'", 4).await;
    execute(&bed, &mariadb, "UPDATE mailbox SET password = 'theirs'").await;
    bed.delete::<MailDomain>("alpha").await;
    bed.rows(&mariadb, "domain", 0).await;
    bed.rows(&mariadb, "mailbox WHERE active = 0", 1).await;
    bed.rows(&mariadb, "vmail_owner", 4).await;
    bed.domain().await;
    bed.rows(&mariadb, "mailbox WHERE active = 1 AND password = 'theirs'", 2).await;
    for name in ["u0", "u1"] {
        bed.says::<Mailbox>(name, "Ready", "Synced").await;
    }
    // Nor is anything stuck when the mailboxes go last.
    bed.delete::<MailDomain>("alpha").await;
    bed.rows(&mariadb, "domain", 0).await;
    for name in ["u0", "u1"] {
        bed.delete::<Mailbox>(name).await;
    }
    bed.rows(&mariadb, "vmail_owner", 0).await;
    bed.rows(&mariadb, "mailbox WHERE active = 1", 1).await;
}

#[tokio::test]
async fn a_domain_is_told_of_a_catch_all_that_stands_in_the_way_until_it_is_gone() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("catch_all", &mariadb).await;
    bed.domain().await;
    bed.rows(&mariadb, "domain", 1).await;
    let theirs = "INSERT INTO alias (address, goto, domain) VALUES ('@alpha.example.org', 'theirs@example.net', 'alpha.example.org')";
    execute(&bed, &mariadb, theirs).await;
    bed.change::<MailDomain>("alpha", json!({"catchAll": ["ours@example.net"]})).await;
    bed.says::<MailDomain>("alpha", "Ready", "RowExists").await;
    // A count that changes tells the domain anew, and not that all is well.
    bed.mailboxes(0..1).await;
    bed.says::<Mailbox>("u0", "Ready", "Synced").await;
    bed.says::<MailDomain>("alpha", "Ready", "RowExists").await;
    execute(&bed, &mariadb, "DELETE FROM alias WHERE goto = 'theirs@example.net'").await;
    bed.says::<MailDomain>("alpha", "Ready", "Synced").await;
    bed.rows(&mariadb, "alias WHERE goto = 'ours@example.net'", 1).await;
}

/// Else a tenant could give itself addresses in a domain that somebody else has in PostfixAdmin.
#[tokio::test]
async fn nothing_is_written_in_somebody_elses_domain_until_it_is_adopted() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("somebody_elses", &mariadb).await;
    bed.says::<MailServer>("myhost", "DatabaseReady", "Ready").await;
    execute(&bed, &mariadb, "INSERT INTO domain (domain) VALUES ('alpha.example.org')").await;
    bed.domain().await;
    bed.says::<MailDomain>("alpha", "Ready", "RowExists").await;
    bed.mailboxes(0..2).await;
    for name in ["u0", "u1"] {
        let message = bed.says::<Mailbox>(name, "Ready", "RowExists").await;
        assert!(message.contains("existingRows: Adopt"), "{message}");
    }
    bed.rows(&mariadb, "mailbox", 0).await;
    bed.rows(&mariadb, "alias", 0).await;
    bed.change::<MailServer>("myhost", json!({"existingRows": "Adopt"})).await;
    bed.says::<MailDomain>("alpha", "Ready", "Synced").await;
    for name in ["u0", "u1"] {
        bed.says::<Mailbox>(name, "Ready", "Synced").await;
    }
    bed.rows(&mariadb, "mailbox", 2).await;
}
