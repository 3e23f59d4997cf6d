//! What rows need of Postfix's configuration that nothing declares any more, without a node: the `ConfigMap` is looked at.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use vmail_operator::api::MailDomain;

use crate::bed::{Bed, LIMIT, execute};
use crate::cluster::eventually;
use crate::mariadb::MariaDb;

/// A file of the configuration that Postfix was handed last.
async fn file(bed: &Bed, name: &str) -> String {
    let config_map = bed.api::<ConfigMap>().get_opt("myhost-postfix").await.unwrap();
    let text = config_map.and_then(|config_map| config_map.data?.remove(name));
    text.unwrap_or_default()
}

async fn has(bed: &Bed, name: &str, line: &str, expected: bool) {
    let what = format!("{name} with {line}: {expected}");
    eventually(LIMIT, &what, || async { file(bed, name).await.contains(line) == expected }).await;
}

/// Its mail would leave for the domain's MX hosts.
#[tokio::test]
async fn a_domain_whose_policy_switches_it_off_is_looked_up_as_long_as_its_row_is_there() {
    let mariadb = MariaDb::shared();
    let mut bed = Bed::new("kept_off", &mariadb).await;
    let spec = json!({
        "serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "deletionPolicy": "Disable",
    });
    bed.create::<MailDomain>("alpha", &spec).await;
    bed.rows(&mariadb, "vmail_owner WHERE policy = 'Disable'", 1).await;
    has(&bed, "main.cf", "virtual_transport", true).await;
    has(&bed, "main.cf", "transport_maps", false).await;
    bed.delete::<MailDomain>("alpha").await;
    bed.rows(&mariadb, "domain WHERE active = 0", 1).await;
    has(&bed, "main.cf", "transport_maps", true).await;
    bed.kill();
    bed.start();
    // What is declared after the restart is in a configuration that was made after it.
    bed.create::<MailDomain>("beta", &json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org"}))
        .await;
    bed.says::<MailDomain>("beta", "Ready", "Synced").await;
    assert!(file(&bed, "main.cf").await.contains("transport_maps"));
    execute(&bed, &mariadb, "DELETE FROM domain WHERE active = 0").await;
    has(&bed, "main.cf", "transport_maps", false).await;
}

/// Mail that is there would be given to the server's owner, and more be delivered as the domain's.
#[tokio::test]
async fn a_domain_that_is_let_go_as_it_is_keeps_its_owner() {
    let mariadb = MariaDb::shared();
    let bed = Bed::new("kept_owner", &mariadb).await;
    let spec = json!({
        "serverRef": {"name": "myhost"}, "domain": "alpha.example.org", "uid": 950, "deletionPolicy": "Retain",
    });
    bed.create::<MailDomain>("alpha", &spec).await;
    bed.rows(&mariadb, "vmail_id", 1).await;
    has(&bed, "owners", "950 901 alpha.example.org/", true).await;
    bed.delete::<MailDomain>("alpha").await;
    bed.rows(&mariadb, "vmail_owner", 0).await;
    bed.rows(&mariadb, "vmail_id", 1).await;
    let other = json!({"serverRef": {"name": "myhost"}, "domain": "beta.example.org", "uid": 960});
    bed.create::<MailDomain>("beta", &other).await;
    has(&bed, "owners", "960 901 beta.example.org/", true).await;
    assert!(file(&bed, "owners").await.contains("950 901 alpha.example.org/"));
    execute(&bed, &mariadb, "DELETE FROM vmail_id WHERE row_key = 'alpha.example.org'").await;
    has(&bed, "owners", "alpha.example.org", false).await;
    assert!(file(&bed, "owners").await.contains("960 901 beta.example.org/"));
}
