//! The same of a `MailServer`.

use serde_json::{Value, json};

use super::{DOMAIN, SIZE, refusal, server};
use crate::cluster::Namespace;

pub(super) fn with_parameter(name: &str, value: &str) -> Value {
    server(&json!({"postfix": {"parameters": {name: value}}}))
}

const OWNED: &str = "these are set by the operator from other fields";
const ONE_LINE: &str = "write each value on one line";

#[tokio::test]
async fn a_postfix_that_serves_strangers_or_lies_to_clients_is_refused() {
    let namespace = Namespace::create("postfix").await;
    for (postfix, sentence) in [
        (json!({"trustedNetworks": ["0.0.0.0/0"]}), "is an open relay"),
        (json!({"trustedNetworks": ["10.0.0.0/8", "::/0"]}), "is an open relay"),
        (json!({"recipientDelimiter": "a"}), "write one or more of + - _ = ."),
        (json!({"banner": "a\nb"}), "write the greeting without the host name"),
        (json!({"relayHost": {"host": "smtp.example.net\n"}}), "write a host name in lower case"),
        (json!({"parameters": {"relayhost": "[smtp.example.net]"}}), OWNED),
    ] {
        let spec = server(&json!({"postfix": postfix}));
        let message = refusal(&namespace.client, &namespace.name, "MailServer", &spec).await;
        let message = message.unwrap_or_else(|| panic!("{spec} was taken"));
        assert!(message.contains(sentence), "{spec}: {message}");
    }
}

#[tokio::test]
async fn a_mail_server_that_could_not_run_is_refused() {
    let namespace = Namespace::create("schema-server").await;
    let refused: Vec<(Value, &str)> = vec![
        (json!({"hostname": "mx1\nrelayhost=evil.example.org"}), DOMAIN),
        (json!({"hostname": "$mydomain.example.org"}), DOMAIN),
        (json!({"hostname": "#mx1.example.org"}), DOMAIN),
        (with_parameter("mail_name", "hi\nrelayhost = evil.example.org"), ONE_LINE),
        (with_parameter("mail_name", "$config_directory"), ONE_LINE),
        (with_parameter("mail_name", "# nothing"), ONE_LINE),
        (with_parameter("smtpd banner", "x"), "write parameter names of lower-case letters"),
        (with_parameter("mydestination", "alpha.example.org"), OWNED),
        (with_parameter("virtual_mailbox_base", "/"), OWNED),
        (with_parameter("smtpd_upstream_proxy_protocol", "haproxy"), OWNED),
        (with_parameter("smtpd_tls_wrappermode", "yes"), OWNED),
        (with_parameter("syslog_name", "mx1"), OWNED),
        (with_parameter("smtpd_relay_restrictions", "permit"), OWNED),
        (server(&json!({"mailStore": {"uid": 0}})), "should be greater than or equal to 1"),
        (server(&json!({"mailStore": {"uid": 899}})), "write a uid of at least minimumUid"),
        (
            server(&json!({"mailStore": {"uid": 901, "minimumUid": 1000}})),
            "write a uid of at least minimumUid",
        ),
        (server(&json!({"mailStore": {"path": "/var/../etc"}})), "write an absolute path"),
        (server(&json!({"mailStore": {"path": "/etc/mail"}})), "write an absolute path"),
        (server(&json!({"mailStore": {"existingClaim": "c", "size": "1Gi"}})), "write existingClaim alone"),
        (server(&json!({"postfix": {"trustedNetworks": ["everybody"]}})), "write networks in CIDR notation"),
        (server(&json!({"postfix": {"messageSizeLimit": "-5"}})), SIZE),
        (server(&json!({"mailStore": {"size": "lots"}})), "write the size of a volume"),
        (server(&json!({"mailStore": {"size": "0"}})), "write the size of a volume"),
        (server(&json!({"postfix": {"queue": {"size": 0}}})), "write the size of a volume"),
        (server(&json!({"database": {"embedded": {"size": "-1Gi"}}})), "write the size of a volume"),
        (server(&json!({"database": {"embedded": {"size": "lots"}}})), "write the size of a volume"),
        (server(&json!({"lookupTables": "ldap"})), "Unsupported value"),
    ];
    for (spec, sentence) in refused {
        let message = refusal(&namespace.client, &namespace.name, "MailServer", &spec).await;
        let message = message.unwrap_or_else(|| panic!("{spec} was taken"));
        assert!(message.contains(sentence), "{spec}\n  says   {message}\n  wanted {sentence}");
    }
}

/// The client library takes localhost for a socket of its own, whatever the port says.
#[tokio::test]
async fn a_database_at_localhost_is_refused() {
    let namespace = Namespace::create("schema-localhost").await;
    for (host, sentence) in [
        ("localhost", Some("localhost would be the pod itself")),
        ("db.example.org\nquery = SELECT 1", Some("write a host name or IPv4 address")),
        ("-db.example.org", Some("write a host name or IPv4 address")),
        ("db", None),
        ("127.0.0.1", None),
    ] {
        let external = json!({
            "host": host, "writerSecretRef": {"name": "writer"}, "readerSecretRef": {"name": "reader"},
        });
        let spec = server(&json!({"database": {"external": external}}));
        let message = refusal(&namespace.client, &namespace.name, "MailServer", &spec).await;
        let is_as_meant = match (sentence, &message) {
            (Some(sentence), Some(message)) => message.contains(sentence),
            (sentence, message) => sentence.is_none() && message.is_none(),
        };
        assert!(is_as_meant, "{host:?}: {message:?}");
    }
}

#[tokio::test]
async fn look_up_files_and_a_database_exclude_each_other() {
    let namespace = Namespace::create("schema-files").await;
    let spec = server(&json!({"lookupTables": "cdb", "database": {"embedded": {}}}));
    let message = refusal(&namespace.client, &namespace.name, "MailServer", &spec).await;
    assert!(message.is_some_and(|message| message.contains("look-up files need none")));
}

#[tokio::test]
async fn a_queue_has_room_for_the_largest_message() {
    let namespace = Namespace::create("schema-queue").await;
    for (postfix, taken) in [
        (json!({"messageSizeLimit": "512Mi"}), true),
        (json!({"messageSizeLimit": "513Mi"}), false),
        (json!({"messageSizeLimit": 0, "queue": {"size": "1Mi"}}), true),
        (json!({"messageSizeLimit": "1Gi", "queue": {"size": "2Gi"}}), true),
        (json!({"messageSizeLimit": "50M", "queue": {"size": "64M"}}), false),
        (json!({"queue": {"size": "10Mi"}}), false),
        (json!({"queue": {"size": 20_479_999}}), false),
        (json!({"queue": {"size": "20480k"}}), true),
        (json!({"queue": {}}), true),
    ] {
        let spec = server(&json!({"postfix": postfix}));
        let message = refusal(&namespace.client, &namespace.name, "MailServer", &spec).await;
        let as_meant = message
            .as_ref()
            .map_or(taken, |message| !taken && message.contains("at most half of queue.size"));
        assert!(as_meant, "{postfix}: {message:?}");
    }
}

#[tokio::test]
async fn the_mail_store_hides_no_directory_that_something_else_needs() {
    let namespace = Namespace::create("schema-path").await;
    for (path, taken) in [
        ("/var/vmail", true),
        ("/var/spool/postfix/vmail", true),
        ("/var/spool/postfix/activemail", true),
        ("/srv/mail", true),
        ("/var/run/mail", false),
        ("/var/lock", false),
        ("/var/tmp/mail", false),
        ("/tmp", false),
        ("/volumes/mail", false),
        ("/var/lib/postfix/data", false),
        ("/var/spool/postfix", false),
        ("/var/spool/postfix/active", false),
        ("/var/spool/postfix/pid/mail", false),
    ] {
        let spec = server(&json!({"mailStore": {"path": path}}));
        let message = refusal(&namespace.client, &namespace.name, "MailServer", &spec).await;
        let as_meant =
            message.as_ref().map_or(taken, |message| !taken && message.contains("write an absolute path"));
        assert!(as_meant, "{path}: {message:?}");
    }
}
