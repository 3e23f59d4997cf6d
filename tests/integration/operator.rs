//! The operator's process, with a real API server and a real MariaDB and without a node: the tables follow the objects.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use vmail_operator::api::{MailAlias, MailDomain, MailServer, Mailbox};

use crate::bed::{Bed, LIMIT};
use crate::cluster::eventually;
use crate::mariadb::MariaDb;

#[tokio::test]
async fn the_tables_follow_the_objects() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("follow", &mariadb).await;
    bed.domain().await;
    bed.secret("hashes", &[("u0", "82fU0EHEzA6wo")]).await;
    let reference = json!({"name": "hashes", "key": "u0"});
    bed.create::<Mailbox>(
        "u0",
        &json!({"address": "U0@alpha.example.org", "passwordHashSecretKeyRef": reference}),
    )
    .await;
    bed.create::<MailAlias>(
        "info",
        &json!({"address": "info@alpha.example.org", "goto": ["u0@alpha.example.org"]}),
    )
    .await;
    bed.rows(&mariadb, "mailbox WHERE username = 'u0@alpha.example.org' AND password = '82fU0EHEzA6wo'", 1)
        .await;
    bed.rows(&mariadb, "alias WHERE goto = 'u0@alpha.example.org'", 2).await;
    bed.says::<Mailbox>("u0", "Ready", "Synced").await;
    bed.says::<MailAlias>("info", "Ready", "Synced").await;
    bed.says::<MailDomain>("alpha", "Ready", "Synced").await;
    bed.says::<MailServer>("myhost", "TablesSynced", "Synced").await;

    bed.secret("hashes", &[("u0", "19rP1zls.evZQ")]).await;
    bed.rows(&mariadb, "mailbox WHERE password = '19rP1zls.evZQ'", 1).await;
    bed.delete::<Mailbox>("u0").await;
    bed.rows(&mariadb, "mailbox", 0).await;
    bed.rows(&mariadb, "alias", 1).await;
}

#[tokio::test]
async fn another_layout_waits_until_somebody_says_that_the_mail_is_taken_care_of() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("layout", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..1).await;
    let at = |maildir: &str| format!("mailbox WHERE maildir = 'alpha.example.org/{maildir}/'");
    bed.rows(&mariadb, &at("u0"), 1).await;
    eventually(LIMIT, "the server says how mailboxes are stored", || async {
        let status = bed.api::<MailServer>().get("myhost").await.unwrap().status.unwrap_or_default();
        status.mail_store.is_some() && status.mailboxes == Some(1)
    })
    .await;
    bed.change::<MailServer>("myhost", json!({"mailStore": {"layout": "Address"}})).await;
    let told = bed.says::<MailServer>("myhost", "ConfigValid", "ConfigInvalid").await;
    bed.mailboxes(1..2).await;
    bed.rows(&mariadb, &at("u1"), 1).await;
    let (annotation, value) =
        told.split_once("annotate the MailServer with ").unwrap().1.split_once('=').unwrap();
    let annotations = json!({annotation: value.split(',').next().unwrap()});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    bed.api::<MailServer>().patch("myhost", &PatchParams::default(), &patch).await.unwrap();
    for name in ["u0", "u1"] {
        bed.rows(&mariadb, &at(&format!("{name}@alpha.example.org")), 1).await;
    }
    bed.says::<MailServer>("myhost", "ConfigValid", "Ready").await;
}

/// Mail is there when its mailboxes and its server are gone, and is out of sight as soon as another server looks elsewhere.
#[tokio::test]
async fn the_claim_of_the_mail_remembers_its_layout_without_mailboxes_and_without_a_server() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("kept_layout", &mariadb).await;
    // Before the first mailbox nothing waits.
    for layout in ["Address", "LocalPart"] {
        bed.change::<MailServer>("myhost", json!({"mailStore": {"layout": layout}})).await;
    }
    bed.domain().await;
    bed.mailboxes(0..1).await;
    let at = |maildir: &str| format!("mailbox WHERE maildir = 'alpha.example.org/{maildir}/'");
    bed.rows(&mariadb, &at("u0"), 1).await;
    let said = || async {
        let claim = bed.api::<PersistentVolumeClaim>().get_opt("myhost-mail").await.unwrap();
        claim.and_then(|claim| claim.annotations().get("vmail.dev/mail-store").cloned())
    };
    eventually(LIMIT, "the claim says how its mail is stored", || async {
        said().await.as_deref() == Some("Maildir/LocalPart")
    })
    .await;

    bed.delete::<Mailbox>("u0").await;
    bed.rows(&mariadb, "mailbox", 0).await;
    eventually(LIMIT, "the server counts no mailboxes", || async {
        let status = bed.api::<MailServer>().get("myhost").await.unwrap().status.unwrap_or_default();
        status.mailboxes == Some(0)
    })
    .await;
    let address = json!({"mailStore": {"layout": "Address"}});
    bed.change::<MailServer>("myhost", address.clone()).await;
    bed.says::<MailServer>("myhost", "ConfigValid", "ConfigInvalid").await;

    bed.delete::<MailServer>("myhost").await;
    eventually(LIMIT, "the server is gone", || async {
        bed.api::<MailServer>().get_opt("myhost").await.unwrap().is_none()
    })
    .await;
    assert_eq!(said().await.as_deref(), Some("Maildir/LocalPart"));
    let mut spec = bed.server_spec(bed.access.port);
    spec.as_object_mut().unwrap().extend(address.as_object().unwrap().clone());
    bed.create::<MailServer>("myhost", &spec).await;
    // What the first server owned is collected before.
    let told =
        bed.says_within::<MailServer>(Duration::from_mins(2), "myhost", "ConfigValid", "ConfigInvalid").await;
    assert!(told.contains("mailStore stays Maildir/LocalPart"), "{told}");
    bed.mailboxes(1..2).await;
    bed.rows(&mariadb, &at("u1"), 1).await;

    let confirmed = json!({"metadata": {"annotations": {"vmail.dev/confirm-mail-store": "Maildir/Address"}}});
    bed.api::<MailServer>().patch("myhost", &PatchParams::default(), &Patch::Merge(confirmed)).await.unwrap();
    bed.rows(&mariadb, &at("u1@alpha.example.org"), 1).await;
    eventually(LIMIT, "the claim says so too", || async {
        said().await.as_deref() == Some("Maildir/Address")
    })
    .await;
}

#[tokio::test]
async fn passwords_follow_their_secrets_and_the_scheme_of_the_server() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("passwords", &mariadb).await;
    bed.domain().await;
    bed.secret("given", &[("k", "82fU0EHEzA6wo")]).await;
    bed.secret("plain", &[("k", "correct horse")]).await;
    for (name, field, secret) in
        [("u0", "passwordHashSecretKeyRef", "given"), ("u1", "passwordSecretKeyRef", "plain")]
    {
        let reference = json!({"name": secret, "key": "k"});
        bed.create::<Mailbox>(
            name,
            &json!({"address": format!("{name}@alpha.example.org"), field: reference}),
        )
        .await;
    }
    assert!(bed.says::<Mailbox>("u0", "Warning", "WeakPassword").await.contains("DES-CRYPT"));
    bed.says::<Mailbox>("u0", "Ready", "Synced").await;
    bed.rows(&mariadb, "mailbox WHERE password LIKE '{SHA512-CRYPT}$6$%'", 1).await;

    bed.change::<MailServer>("myhost", json!({"passwordScheme": "BLF-CRYPT"})).await;
    bed.secret("given", &[("k", "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=")]).await;
    bed.rows(&mariadb, "mailbox WHERE password LIKE '{SSHA}%'", 1).await;
    bed.rows(&mariadb, "mailbox WHERE password LIKE '{SHA512-CRYPT}$6$%'", 1).await;
    bed.secret("plain", &[("k", "battery staple")]).await;
    bed.rows(&mariadb, "mailbox WHERE password LIKE '{BLF-CRYPT}$2y$%'", 1).await;

    bed.delete::<Secret>("plain").await;
    bed.rows(&mariadb, "mailbox WHERE username = 'u1@alpha.example.org' AND password = '!'", 1).await;
    bed.says::<Mailbox>("u1", "Ready", "SecretNotFound").await;
}

#[tokio::test]
async fn what_is_wrong_is_told_on_the_object() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("told", &mariadb).await;
    bed.create::<Mailbox>("lost", &json!({"address": "x@nowhere.example.org"})).await;
    assert!(bed.says::<Mailbox>("lost", "Ready", "UnknownDomain").await.contains("nowhere.example.org"));
    bed.create::<MailDomain>("beta", &json!({"serverRef": {"name": "absent"}, "domain": "beta.example.org"}))
        .await;
    bed.says::<MailDomain>("beta", "Ready", "UnknownServer").await;
    bed.domain().await;
    let reference = json!({"name": "absent", "key": "k"});
    bed.create::<Mailbox>(
        "u0",
        &json!({"address": "u0@alpha.example.org", "passwordSecretKeyRef": reference}),
    )
    .await;
    assert!(bed.says::<Mailbox>("u0", "Ready", "SecretNotFound").await.contains("absent"));
    bed.rows(&mariadb, "mailbox WHERE password = '!'", 1).await;
    bed.secret("absent", &[("other", "x")]).await;
    assert!(bed.says::<Mailbox>("u0", "Ready", "SecretInvalid").await.contains("key k"));
    bed.secret("absent", &[("k", "correct horse")]).await;
    bed.says::<Mailbox>("u0", "Ready", "Synced").await;
    bed.rows(&mariadb, "mailbox WHERE password LIKE '{SHA512-CRYPT}$6$%'", 1).await;
    // Of two objects of one second the first by name is the older one.
    bed.create::<Mailbox>("u0-again", &json!({"address": "u0@alpha.example.org"})).await;
    assert!(bed.says::<Mailbox>("u0-again", "Ready", "Conflict").await.contains("Mailbox "));
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_told_on_the_server() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("unusable", &mariadb).await;
    bed.says::<MailServer>("myhost", "DatabaseReady", "Ready").await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let point_at = |port: u16| Patch::Merge(json!({"spec": bed.server_spec(port)}));
    bed.api::<MailServer>().patch("myhost", &PatchParams::default(), &point_at(unused)).await.unwrap();
    bed.says::<MailServer>("myhost", "DatabaseReady", "DatabaseUnavailable").await;
    bed.account("writer", &bed.access.username, "not the one").await;
    bed.api::<MailServer>()
        .patch("myhost", &PatchParams::default(), &point_at(bed.access.port))
        .await
        .unwrap();
    eventually(LIMIT, "the server refuses the account", || async {
        let message = bed.says::<MailServer>("myhost", "DatabaseReady", "DatabaseUnavailable").await;
        message.contains("Access denied") && !message.contains("not the one")
    })
    .await;
    bed.delete::<Secret>("writer").await;
    assert!(bed.says::<MailServer>("myhost", "DatabaseReady", "SecretNotFound").await.contains("writer"));
    bed.account("writer", &bed.access.username, "writes").await;
    bed.says::<MailServer>("myhost", "DatabaseReady", "Ready").await;
}

#[tokio::test]
async fn rows_that_somebody_else_made_are_left_alone_and_drift_is_mended() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("drift", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..3).await;
    bed.rows(&mariadb, "mailbox", 3).await;
    let mut root = mariadb.root(Some("drift")).await;
    for sql in [
        "INSERT INTO alias (address, goto, domain) VALUES ('hand@alpha.example.org', 'made', 'alpha.example.org')",
        "DELETE FROM mailbox WHERE username = 'u0@alpha.example.org'",
        "UPDATE mailbox SET active = 0 WHERE username = 'u1@alpha.example.org'",
    ] {
        sqlx::raw_sql(sql).execute(&mut root).await.unwrap();
    }
    bed.rows(&mariadb, "mailbox WHERE active = 1", 3).await;
    bed.create::<MailAlias>(
        "hand",
        &json!({"address": "hand@alpha.example.org", "goto": ["u0@alpha.example.org"]}),
    )
    .await;
    bed.says::<MailAlias>("hand", "Ready", "RowExists").await;
    bed.delete::<MailAlias>("hand").await;
    bed.rows(&mariadb, "alias WHERE goto = 'made'", 1).await;
}

#[tokio::test]
async fn many_deletions_at_once_wait_for_a_release() {
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("brake", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..30).await;
    bed.rows(&mariadb, "mailbox", 30).await;
    bed.kill();
    for number in 0..29 {
        bed.delete::<Mailbox>(&format!("u{number}")).await;
    }
    bed.start();
    let message = bed.says::<MailServer>("myhost", "TablesSynced", "DeletionsHeld").await;
    assert!(message.contains("29 deletions"), "{message}");
    bed.mailboxes(100..101).await;
    bed.rows(&mariadb, "mailbox", 31).await;
    let hash = message.rsplit('=').next().unwrap();
    let release = json!({"metadata": {"annotations": {"vmail.dev/release-deletions": hash}}});
    bed.api::<MailServer>().patch("myhost", &PatchParams::default(), &Patch::Merge(release)).await.unwrap();
    bed.rows(&mariadb, "mailbox", 2).await;
    bed.says::<MailServer>("myhost", "TablesSynced", "Synced").await;
    eventually(LIMIT, "the release is told to be used", || async {
        let status = bed.api::<MailServer>().get("myhost").await.unwrap().status;
        status.and_then(|status| status.last_release).as_deref() == Some(hash)
    })
    .await;
}

#[tokio::test]
async fn the_tables_are_right_soon_after_the_database_comes_back() {
    let mut mariadb = MariaDb::start();
    let bed = Bed::new("outage", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..5).await;
    bed.rows(&mariadb, "mailbox", 5).await;
    mariadb.stop();
    bed.mailboxes(5..10).await;
    bed.delete::<Mailbox>("u0").await;
    bed.says::<MailServer>("myhost", "DatabaseReady", "DatabaseUnavailable").await;
    mariadb.restart();
    let back = Instant::now();
    bed.rows(&mariadb, "mailbox WHERE username <> 'u0@alpha.example.org'", 9).await;
    bed.rows(&mariadb, "mailbox", 9).await;
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    bed.says::<MailServer>("myhost", "DatabaseReady", "Ready").await;
}

#[tokio::test]
async fn killed_in_mid_sync_the_operator_ends_where_it_would_have() {
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("killed", &mariadb).await;
    bed.domain().await;
    for round in 0..3 {
        bed.mailboxes(round * 100..round * 100 + 50).await;
        bed.kill();
        bed.mailboxes(round * 100 + 50..round * 100 + 100).await;
        bed.start();
    }
    bed.rows(&mariadb, "mailbox", 300).await;
    bed.rows(&mariadb, "vmail_owner", 601).await;
    let names: Vec<String> = bed
        .api::<Mailbox>()
        .list(&kube::api::ListParams::default())
        .await
        .unwrap()
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(names.len(), 300);
    bed.says::<Mailbox>("u299", "Ready", "Synced").await;
}

#[tokio::test]
async fn a_status_that_somebody_wiped_is_written_again() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("wiped", &mariadb).await;
    bed.domain().await;
    bed.mailboxes(0..1).await;
    bed.create::<Mailbox>("stray", &json!({"address": "stray@beta.example.org"})).await;
    for (name, reason) in [("u0", "Synced"), ("stray", "UnknownDomain")] {
        bed.says::<Mailbox>(name, "Ready", reason).await;
        let wipe = Patch::Merge(json!({"status": null}));
        let wiped = bed.api::<Mailbox>().patch_status(name, &PatchParams::default(), &wipe).await.unwrap();
        assert!(wiped.status.is_none_or(|status| status.conditions.is_empty()), "{name}");
        bed.says::<Mailbox>(name, "Ready", reason).await;
    }
}
