//! `MailAdmin`, with a real API server and a real MariaDB: who may log in to `PostfixAdmin`, and manage what.

use k8s_openapi::api::core::v1::Secret;
use serde_json::json;
use vmail_operator::api::{MailAdmin, MailServer, Mailbox};

use crate::bed::{Bed, execute};
use crate::mariadb::MariaDb;

const SUPER: &str = "admin a JOIN domain_admins d USING (username) WHERE a.username = 'boss@nowhere.org' \
    AND a.superadmin = 1 AND a.active = 1 AND d.domain = 'ALL' AND d.active = 1";

#[tokio::test]
async fn admins_follow_their_objects() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("madm", &mariadb).await;
    bed.domain().await;
    bed.rows(&mariadb, "domain", 1).await;
    bed.secret("admins", &[("boss", "correct horse"), ("u0", "82fU0EHEzA6wo")]).await;
    bed.create::<MailAdmin>(
        "boss",
        &json!({
            "serverRef": {"name": "myhost"}, "username": "Boss@Nowhere.org", "superAdmin": true,
            "passwordSecretKeyRef": {"name": "admins", "key": "boss"},
        }),
    )
    .await;
    bed.rows(&mariadb, SUPER, 1).await;
    bed.rows(&mariadb, "admin WHERE password LIKE '{SHA512-CRYPT}$6$%'", 1).await;
    bed.says::<MailAdmin>("boss", "Ready", "Synced").await;
    bed.rows(
        &mariadb,
        "log WHERE action = 'create_admin' AND domain = 'admin' AND data = 'boss@nowhere.org'",
        1,
    )
    .await;

    // A mailbox of the same address is another account, with a password of its own.
    bed.mailboxes(0..1).await;
    bed.create::<MailAdmin>(
        "u0",
        &json!({
            "serverRef": {"name": "myhost"}, "username": "u0@alpha.example.org",
            "domains": ["alpha.example.org", "beta.example.org"],
            "passwordHashSecretKeyRef": {"name": "admins", "key": "u0"},
        }),
    )
    .await;
    let message = bed.says::<MailAdmin>("u0", "Ready", "UnknownDomain").await;
    assert!(message.contains("beta.example.org"), "{message}");
    bed.says::<MailAdmin>("u0", "Warning", "WeakPassword").await;
    bed.rows(
        &mariadb,
        "domain_admins WHERE username = 'u0@alpha.example.org' AND domain = 'alpha.example.org'",
        1,
    )
    .await;
    bed.rows(&mariadb, "domain_admins WHERE username = 'u0@alpha.example.org'", 1).await;
    bed.rows(&mariadb, "mailbox WHERE username = 'u0@alpha.example.org' AND password = '!'", 1).await;
    bed.change::<MailAdmin>("u0", json!({"domains": ["alpha.example.org"]})).await;
    bed.says::<MailAdmin>("u0", "Ready", "Synced").await;

    // Rights that somebody else gives or takes are drift; other admins are none of the operator's.
    execute(
        &bed,
        &mariadb,
        "INSERT INTO admin (username, password, superadmin) VALUES ('hand@nowhere.org', '$6$hand', 1);
         INSERT INTO domain_admins (username, domain) VALUES ('hand@nowhere.org', 'ALL'), ('u0@alpha.example.org', 'ALL');
         UPDATE admin SET superadmin = 1 WHERE username = 'u0@alpha.example.org';
         DELETE FROM domain_admins WHERE username = 'boss@nowhere.org'",
    )
    .await;
    bed.rows(&mariadb, SUPER, 1).await;
    bed.rows(&mariadb, "domain_admins WHERE username = 'u0@alpha.example.org'", 1).await;
    bed.rows(&mariadb, "admin WHERE superadmin = 1", 2).await;

    bed.secret("admins", &[("u0", "19rP1zls.evZQ")]).await;
    bed.rows(&mariadb, "admin WHERE username = 'u0@alpha.example.org' AND password = '19rP1zls.evZQ'", 1)
        .await;
    bed.delete::<Secret>("admins").await;
    bed.rows(&mariadb, "admin WHERE password = '!'", 2).await;
    bed.says::<MailAdmin>("boss", "Ready", "SecretNotFound").await;

    bed.delete::<Mailbox>("u0").await;
    bed.rows(&mariadb, "mailbox", 0).await;
    bed.rows(&mariadb, "admin", 3).await;
    bed.delete::<MailAdmin>("u0").await;
    bed.change::<MailAdmin>("boss", json!({"deletionPolicy": "Disable"})).await;
    bed.rows(&mariadb, "vmail_owner WHERE table_name = 'admin' AND policy = 'Disable'", 1).await;
    bed.delete::<MailAdmin>("boss").await;
    bed.rows(&mariadb, "admin WHERE username = 'boss@nowhere.org' AND active = 0", 1).await;
    bed.rows(&mariadb, "admin WHERE username = 'u0@alpha.example.org'", 0).await;
    bed.rows(&mariadb, "domain_admins WHERE username = 'u0@alpha.example.org'", 0).await;
    bed.rows(&mariadb, "vmail_owner WHERE table_name = 'admin'", 0).await;
    bed.rows(&mariadb, "admin WHERE username = 'hand@nowhere.org' AND password = '$6$hand'", 1).await;
}

#[tokio::test]
async fn a_database_without_the_tables_of_admins_goes_on_with_mail() {
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("noadmins", &mariadb).await;
    bed.domain().await;
    bed.rows(&mariadb, "domain", 1).await;
    bed.kill();
    execute(&bed, &mariadb, "DROP TABLE domain_admins").await;
    bed.start();
    bed.create::<MailAdmin>(
        "boss",
        &json!({"serverRef": {"name": "myhost"}, "username": "boss@nowhere.org", "superAdmin": true}),
    )
    .await;
    let message = bed.says::<MailAdmin>("boss", "Ready", "DatabaseInvalid").await;
    assert!(message.contains("table domain_admins"), "{message}");
    bed.mailboxes(0..1).await;
    bed.rows(&mariadb, "mailbox", 1).await;
    bed.says::<MailServer>("myhost", "TablesSynced", "Synced").await;
    bed.rows(&mariadb, "admin", 0).await;

    bed.create::<MailAdmin>(
        "lost",
        &json!({"serverRef": {"name": "absent"}, "username": "lost@nowhere.org", "superAdmin": true}),
    )
    .await;
    assert!(bed.says::<MailAdmin>("lost", "Ready", "UnknownServer").await.contains("absent"));
}
