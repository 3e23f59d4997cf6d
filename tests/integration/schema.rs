//! What the API server refuses, and the sentence that it refuses it with.

mod mail_server;

use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::Namespace;

fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let resource = match kind {
        "Mailbox" => "mailboxes",
        "MailAlias" => "mailaliases",
        "MailAdmin" => "mailadmins",
        "MailDomain" => "maildomains",
        _ => "mailservers",
    };
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("vmail.dev", "v1alpha1", kind), resource);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

fn object(kind: &str, spec: &Value) -> DynamicObject {
    let object =
        json!({"apiVersion": "vmail.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

/// What the API server says to an object; `None`: it takes it.
async fn refusal(client: &Client, namespace: &str, kind: &str, spec: &Value) -> Option<String> {
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    match api(client, namespace, kind).create(&parameters, &object(kind, spec)).await {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some(status.message),
        Err(error) => panic!("{error}"),
    }
}

fn mailbox(address: &str) -> Value {
    json!({"address": address})
}

fn domain(domain: &str) -> Value {
    json!({"serverRef": {"name": "myhost"}, "domain": domain})
}

fn admin(extra: &Value) -> Value {
    let mut spec = json!({"serverRef": {"name": "myhost"}, "username": "boss@nowhere.org"});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    spec
}

fn server(extra: &Value) -> Value {
    let mut spec = json!({"hostname": "mx1.example.org"});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    spec
}

const EITHER: &str = "write either superAdmin: true or the domains";
const ONE_AT: &str = "write one local part, one @ and one domain";
const LOCAL_PART: &str = "before the @ write letters, digits";
const LENGTH: &str = "write at most 64 characters before the @";
const DOMAIN: &str = "write a domain of two or more labels";
const SIZE: &str = "write a size from 0 (unlimited) to 100Ti";

#[tokio::test]
async fn an_admin_manages_all_domains_or_some() {
    let namespace = Namespace::create("schema-admin").await;
    let password = json!({"name": "s", "key": "k"});
    for (spec, sentence) in [
        (json!({}), EITHER),
        (json!({"superAdmin": false}), EITHER),
        (json!({"superAdmin": true, "domains": ["alpha.example.org"]}), EITHER),
        (json!({"domains": ["ALL"]}), DOMAIN),
        (json!({"username": "root", "superAdmin": true}), ONE_AT),
        (
            json!({"superAdmin": true, "passwordSecretKeyRef": password, "passwordHashSecretKeyRef": password}),
            "write passwordSecretKeyRef or passwordHashSecretKeyRef, not both",
        ),
    ] {
        let message = refusal(&namespace.client, &namespace.name, "MailAdmin", &admin(&spec)).await;
        let message = message.unwrap_or_else(|| panic!("{spec} was taken"));
        assert!(message.contains(sentence), "{spec}: {message}");
    }
}

#[tokio::test]
async fn bad_input_is_refused_with_a_sentence_that_says_what_to_write() {
    let namespace = Namespace::create("schema").await;
    let long_local = format!("{}@alpha.example.org", "a".repeat(65));
    let long_domain = format!("{}.org", vec!["a".repeat(60); 5].join("."));
    let password = json!({"name": "s", "key": "k"});
    let refused: Vec<(&str, Value, &str)> = vec![
        ("Mailbox", mailbox("alfred"), ONE_AT),
        ("Mailbox", mailbox("alfred@alpha@example.org"), ONE_AT),
        ("Mailbox", mailbox("@alpha.example.org"), ONE_AT),
        ("Mailbox", mailbox("a/b@alpha.example.org"), LOCAL_PART),
        ("Mailbox", mailbox("a..b@alpha.example.org"), LOCAL_PART),
        ("Mailbox", mailbox("..@alpha.example.org"), LOCAL_PART),
        ("Mailbox", mailbox("a b@alpha.example.org"), LOCAL_PART),
        ("Mailbox", mailbox("\"a\"@alpha.example.org"), LOCAL_PART),
        ("Mailbox", mailbox("o'brien@alpha.example.org"), LOCAL_PART),
        ("Mailbox", mailbox("a\u{7}@alpha.example.org"), LOCAL_PART),
        ("Mailbox", mailbox("a\n@alpha.example.org"), LOCAL_PART),
        ("Mailbox", mailbox("josé@alpha.example.org"), LOCAL_PART),
        ("Mailbox", mailbox("-a@alpha.example.org"), LOCAL_PART),
        ("Mailbox", mailbox(&long_local), LENGTH),
        ("Mailbox", mailbox(&format!("a@{long_domain}")), LENGTH),
        ("Mailbox", mailbox("alfred@localhost"), DOMAIN),
        ("Mailbox", mailbox("alfred@-alpha.example.org"), DOMAIN),
        ("Mailbox", mailbox("alfred@alpha.example.org\n"), DOMAIN),
        ("Mailbox", json!({"address": "a@alpha.example.org", "quota": "-1"}), SIZE),
        ("Mailbox", json!({"address": "a@alpha.example.org", "quota": -1}), SIZE),
        ("Mailbox", json!({"address": "a@alpha.example.org", "quota": "101Ti"}), SIZE),
        ("Mailbox", json!({"address": "a@alpha.example.org", "quota": "lots"}), SIZE),
        ("Mailbox", json!({"address": "a@alpha.example.org", "forwardTo": ["nobody"]}), ONE_AT),
        (
            "Mailbox",
            json!({"address": "a@alpha.example.org", "keepCopy": false}),
            "write keepCopy only beside forwardTo",
        ),
        ("Mailbox", json!({"address": "a@alpha.example.org", "displayName": "two\nlines"}), "write one line"),
        (
            "Mailbox",
            json!({"address": "a@alpha.example.org", "passwordSecretKeyRef": password, "passwordHashSecretKeyRef": password}),
            "write passwordSecretKeyRef or passwordHashSecretKeyRef, not both",
        ),
        ("MailDomain", domain("localhost"), DOMAIN),
        ("MailDomain", domain("ALL"), DOMAIN),
        ("MailDomain", domain("-alpha.example.org"), DOMAIN),
        ("MailDomain", domain("alpha..org"), DOMAIN),
        ("MailDomain", domain("al_pha.example.org"), DOMAIN),
        ("MailDomain", domain(&long_domain), DOMAIN),
        ("MailAlias", json!({"address": "a@alpha.example.org", "goto": []}), "write at least one address"),
        ("MailAlias", json!({"address": "a@alpha.example.org", "goto": ["b"]}), ONE_AT),
        (
            "MailAlias",
            json!({"address": "a@alpha.example.org", "goto": ["b@alpha.example.org, c@x.org"]}),
            ONE_AT,
        ),
        (
            "MailAlias",
            json!({"address": "a", "goto": ["b@alpha.example.org"]}),
            "write an address as in info@alpha.example.org",
        ),
    ];
    for (kind, spec, sentence) in refused {
        let message = refusal(&namespace.client, &namespace.name, kind, &spec).await;
        let message = message.unwrap_or_else(|| panic!("{kind} {spec} was taken"));
        assert!(message.contains(sentence), "{kind} {spec}\n  says   {message}\n  wanted {sentence}");
    }
}

/// smtp(8) and lmtp(8) end at a next hop that they can't parse, and with them the mail of all domains.
#[tokio::test]
async fn a_next_hop_is_one_that_postfix_can_parse() {
    let namespace = Namespace::create("schema-next-hop").await;
    let label = "a".repeat(63);
    for (transport, taken) in [
        ("virtual", true),
        ("lmtp:inet:dovecot.mail.svc:24", true),
        ("lmtp:inet:[fd00::7]:24", true),
        ("smtp:3com.example.org", true),
        ("smtp:[192.0.2.7]", true),
        ("relay:[2001:db8::1]:65535", true),
        ("relay:[IPv6:2001:db8::1]:25", true),
        ("lmtp:inet:[ipv6:fd00::7]", true),
        ("relay:[ipv6]", true),
        ("relay:[IPv6:]", false),
        ("relay:[IPv6:10.0.0.1]", false),
        ("relay:[IPv6:x.example.org]", false),
        ("relay:[IPv6:IPv6:2001:db8::1]", false),
        (&format!("relay:{label}.example.org:1"), true),
        (&format!("relay:a{label}.example.org:1"), false),
        ("relay:x:0", false),
        ("relay:x:65536", false),
        ("relay:x:99999", false),
        ("relay:x:025", false),
        ("smtp:..", false),
        ("smtp:-", false),
        ("smtp:a..b", false),
        ("smtp:a.", false),
        ("smtp:12345", false),
        ("smtp:1.2.3", false),
        ("smtp:256.1.1.1", false),
        ("smtp:0.1.2.3", false),
        ("smtp:2001:db8::1", false),
        ("smtp:[:::1]", false),
        ("smtp:[]:25", false),
        ("lmtp:unix:private/lmtp", false),
        ("local", false),
    ] {
        let mut spec = domain("alpha.example.org");
        spec["transport"] = json!(transport);
        let message = refusal(&namespace.client, &namespace.name, "MailDomain", &spec).await;
        let as_meant = message
            .as_ref()
            .map_or(taken, |message| !taken && message.contains("write virtual, lmtp:inet:HOST:PORT"));
        assert!(as_meant, "{transport}: {message:?}");
    }
    for (host, taken) in [
        ("smtp.example.net", true),
        ("192.0.2.7", true),
        ("..", false),
        ("-", false),
        ("a..b", false),
        ("12345", false),
        (&format!("a{label}.example.org"), false),
    ] {
        let spec = server(&json!({"postfix": {"relayHost": {"host": host}}}));
        let message = refusal(&namespace.client, &namespace.name, "MailServer", &spec).await;
        let as_meant = message
            .as_ref()
            .map_or(taken, |message| !taken && message.contains("write a host name in lower case"));
        assert!(as_meant, "{host}: {message:?}");
    }
}

#[tokio::test]
async fn a_selector_of_namespaces_is_one_that_kubernetes_knows() {
    let namespace = Namespace::create("schema-selector").await;
    for (requirement, taken) in [
        (json!({"operator": "In", "values": ["a"]}), true),
        (json!({"operator": "NotIn", "values": ["a"]}), true),
        (json!({"operator": "Exists"}), true),
        (json!({"operator": "DoesNotExist", "values": []}), true),
        (json!({"operator": "NotIn", "values": []}), false),
        (json!({"operator": "NotIn"}), false),
        (json!({"operator": "In"}), false),
        (json!({"operator": "Exists", "values": ["a"]}), false),
        (json!({"operator": "Like", "values": ["a"]}), false),
    ] {
        let mut requirement = requirement;
        requirement["key"] = json!("tenant");
        let allowed = json!({"from": "Selector", "selector": {"matchExpressions": [requirement]}});
        let mut domain = domain("alpha.example.org");
        domain["allowedNamespaces"] = allowed.clone();
        let server = server(&json!({"allowedNamespaces": allowed}));
        for (kind, spec) in [("MailDomain", domain), ("MailServer", server)] {
            let message = refusal(&namespace.client, &namespace.name, kind, &spec).await;
            let as_meant = message.as_ref().map_or(taken, |message| {
                !taken && message.contains("write matchExpressions with the operator")
            });
            assert!(as_meant, "{kind} {requirement}: {message:?}");
        }
    }
}

#[tokio::test]
async fn good_input_is_taken() {
    let namespace = Namespace::create("schema-good").await;
    let taken: Vec<(&str, Value)> = vec![
        ("Mailbox", mailbox("Alfred.Great+tag@Alpha.example.org")),
        (
            "Mailbox",
            json!({"address": "a@alpha.example.org", "quota": 102_400_000, "forwardTo": ["b@x.org"], "keepCopy": false}),
        ),
        ("Mailbox", json!({"address": "a@alpha.example.org", "quota": "2Gi", "deletionPolicy": "Retain"})),
        ("MailAlias", json!({"address": "@alpha.example.org", "goto": ["b@alpha.example.org"]})),
        ("MailAlias", json!({"address": "a@alpha.example.org", "goto": vec!["b@alpha.example.org"; 1000]})),
        ("MailDomain", domain("xn--mgbh0fb.example.org")),
        ("MailAdmin", admin(&json!({"superAdmin": true, "deletionPolicy": "Disable"}))),
        (
            "MailAdmin",
            admin(&json!({"superAdmin": false, "domains": ["alpha.example.org", "beta.example.org"]})),
        ),
        (
            "MailDomain",
            json!({"serverRef": {"name": "s"}, "domain": "alpha.example.org", "catchAll": ["b@alpha.example.org"]}),
        ),
        (
            "MailServer",
            server(
                &json!({"mailStore": {"uid": 5000, "gid": 5000, "path": "/var/spool/postfix/vmail", "layout": "Address"}}),
            ),
        ),
        (
            "MailServer",
            server(&json!({"postfix": {
                "recipientDelimiter": "", "banner": "ESMTP Example", "tls": {"secretName": "mx1-tls"},
                "relayHost": {"host": "smtp.example.net", "port": 587, "credentialsSecretRef": {"name": "relay"}},
            }})),
        ),
        ("MailServer", server(&json!({"lookupTables": "lmdb"}))),
        ("MailServer", server(&json!({"lookupTables": "mysql", "database": {"embedded": {"size": "2Gi"}}}))),
        ("MailServer", mail_server::with_parameter("mail_name", "mx1.example.org ESMTP # not a comment")),
        (
            "MailServer",
            server(
                &json!({"postfix": {"trustedNetworks": ["10.0.0.0/8", "fd00::/8"], "messageSizeLimit": "50M"}}),
            ),
        ),
    ];
    for (kind, spec) in taken {
        let message = refusal(&namespace.client, &namespace.name, kind, &spec).await;
        assert_eq!(message, None, "{kind} {spec}");
    }
}

#[tokio::test]
async fn what_is_fixed_cannot_be_changed() {
    let namespace = Namespace::create("schema-fixed").await;
    let cases = [
        (
            "Mailbox",
            mailbox("a@alpha.example.org"),
            json!({"address": "b@alpha.example.org"}),
            "address can't be changed",
        ),
        (
            "MailDomain",
            domain("alpha.example.org"),
            json!({"domain": "beta.example.org"}),
            "domain can't be changed",
        ),
        (
            "MailAlias",
            json!({"address": "c@alpha.example.org", "goto": ["a@alpha.example.org"]}),
            json!({"address": "d@alpha.example.org"}),
            "address can't be changed",
        ),
        (
            "MailAdmin",
            admin(&json!({"superAdmin": true})),
            json!({"username": "chief@nowhere.org"}),
            "username can't be changed",
        ),
    ];
    for (kind, spec, change, sentence) in cases {
        let api = api(&namespace.client, &namespace.name, kind);
        api.create(&PostParams::default(), &object(kind, &spec)).await.unwrap();
        let error = api
            .patch("x", &PatchParams::default(), &Patch::Merge(json!({"spec": change})))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(sentence), "{kind}: {error}");
    }
}
