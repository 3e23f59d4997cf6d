//! From a `MailServer` as users write it to the objects: what users and cluster policies rely on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::api::MailServer;
use crate::server::Error;
use crate::server::apply::require_owned;
use crate::server::validate::{Images, Invalid, validate};

fn mail_server(name: &str, spec: &Value) -> MailServer {
    let metadata = json!({"namespace": "mail", "name": name, "uid": "7d1c", "generation": 1});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn validated(spec: &Value) -> ValidatedServer {
    let images = Images { postfix: "vmail-postfix:1".to_owned(), mariadb: "vmail-mariadb:1".to_owned() };
    validate(&mail_server("myhost", spec), &images).unwrap()
}

fn objects(spec: &Value) -> Objects {
    let config = RenderedConfig {
        files: BTreeMap::from([("main.cf".to_owned(), "myhostname = myhost.example.org\n".to_owned())]),
        hash: "0123456789abcdef".to_owned(),
    };
    let accounts =
        Accounts { root: "rootpw".to_owned(), writer: "writerpw".to_owned(), reader: "readerpw".to_owned() };
    let server = validated(spec);
    build(&server, &config, server.database.as_ref().map(|_| &accounts))
}

fn smallest() -> Value {
    json!({"hostname": "myhost.example.org"})
}

fn external() -> Value {
    let tls = json!({"caSecretRef": {"name": "db-ca", "key": "tls.crt"}});
    json!({"hostname": "myhost.example.org", "database": {"external": {
        "host": "db.example.org", "tls": tls, "writerSecretRef": {"name": "writer"}, "readerSecretRef": {"name": "reader"},
    }}})
}

fn pod_of(stateful_set: &StatefulSet) -> &PodSpec {
    stateful_set.spec.as_ref().unwrap().template.spec.as_ref().unwrap()
}

fn yaml(object: &impl serde::Serialize) -> String {
    serde_saphyr::to_string(object).unwrap()
}

#[test]
fn postfix_stateful_set() {
    insta::assert_snapshot!(yaml(&objects(&smallest()).postfix));
}

#[test]
fn database_stateful_set() {
    insta::assert_snapshot!(yaml(&objects(&smallest()).database.unwrap().stateful_set));
}

#[test]
fn init_statements_are_one_a_line_and_set_every_password() {
    let secret = objects(&smallest()).database.unwrap().init_secret;
    let sql = String::from_utf8(secret.data.unwrap()["init.sql"].0.clone()).unwrap();
    assert!(sql.lines().all(|line| line.ends_with(';') && line.matches(';').count() == 1), "{sql}");
    for password in ["rootpw", "writerpw", "readerpw"] {
        assert_eq!(sql.matches(password).count(), 1);
    }
    // Postfix's account gets its columns from the operator and no table from here.
    assert!(!sql.contains("TO postfixserver"), "{sql}");
}

#[test]
fn another_password_restarts_the_database_which_learns_it_at_its_start() {
    let server = validated(&smallest());
    let config = RenderedConfig { files: BTreeMap::new(), hash: String::new() };
    let database = |reader: &str| {
        let accounts =
            Accounts { root: "rootpw".to_owned(), writer: "writerpw".to_owned(), reader: reader.to_owned() };
        build(&server, &config, Some(&accounts)).database.unwrap().stateful_set
    };
    assert_eq!(database("same"), database("same"));
    assert_ne!(database("same"), database("other"));
}

#[test]
fn everything_but_the_mail_goes_with_the_server() {
    let objects = objects(&smallest());
    let database = objects.database.unwrap();
    let with_the_server = [
        &objects.config_map.metadata,
        &objects.postfix_service.metadata,
        &objects.postfix_pods_service.metadata,
        &objects.postfix.metadata,
        &database.init_secret.metadata,
        &database.service.metadata,
        &database.stateful_set.metadata,
    ];
    for metadata in with_the_server {
        let owner = &metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.uid.as_str(), owner.controller), ("7d1c", Some(true)), "{:?}", metadata.name);
    }
    assert_eq!(objects.mail_claim.unwrap().metadata.owner_references, None);
}

#[test]
fn no_password_is_in_any_object_but_secrets() {
    let objects = objects(&smallest());
    let database = objects.database.as_ref().unwrap();
    let others = yaml(&objects.config_map) + &yaml(&objects.postfix) + &yaml(&database.stateful_set);
    assert!(!["rootpw", "writerpw", "readerpw"].iter().any(|password| others.contains(password)));
}

#[test]
fn the_configuration_is_not_part_of_the_pod_template_so_that_a_change_restarts_nothing() {
    let server = validated(&smallest());
    let config = |text: &str| RenderedConfig {
        files: BTreeMap::from([("main.cf".to_owned(), text.to_owned())]),
        hash: text.to_owned(),
    };
    let (one, other) = (build(&server, &config("a"), None), build(&server, &config("b"), None));
    assert_eq!(one.postfix, other.postfix);
    assert_ne!(one.config_map, other.config_map);
}

#[test]
fn an_external_database_makes_none_and_its_secrets_are_mounted() {
    let objects = objects(&external());
    assert!(objects.database.is_none());
    let pod = yaml(pod_of(&objects.postfix));
    for mounted in ["name: reader", "name: db-ca", "key: tls.crt", "path: ca.crt"] {
        assert!(pod.contains(mounted), "{mounted} is not in {pod}");
    }
    assert!(!pod.contains("writer"), "the account that writes never reaches the mail pod");
}

#[test]
fn secrets_that_postfix_can_begin_without_are_optional() {
    let relay = json!({"host": "smtp.example.net", "credentialsSecretRef": {"name": "relay-account"}});
    let postfix = json!({"tls": {"secretName": "mx1-tls"}, "relayHost": relay});
    let objects = objects(&json!({"hostname": "myhost.example.org", "postfix": postfix}));
    let pod = pod_of(&objects.postfix);
    let secrets = pod.volumes.iter().flatten().filter_map(|volume| volume.secret.as_ref());
    let secrets: Vec<_> = secrets.map(|secret| (secret.secret_name.as_deref(), secret.optional)).collect();
    assert_eq!(secrets, [(Some("mx1-tls"), Some(true)), (Some("relay-account"), Some(true))]);
    let mounted = yaml(&pod.containers[0].volume_mounts);
    assert!(mounted.contains("/etc/vmail/tls") && mounted.contains("/etc/vmail/relay"));
}

#[test]
fn an_existing_claim_is_used_and_none_is_made() {
    let objects =
        objects(&json!({"hostname": "myhost.example.org", "mailStore": {"existingClaim": "old-mail"}}));
    assert!(objects.mail_claim.is_none());
    assert!(yaml(pod_of(&objects.postfix)).contains("claimName: old-mail"));
}

#[test]
fn the_mail_store_is_as_written() {
    let store = json!({"path": "/srv/mail", "size": "5Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"], "uid": 5000, "gid": 5001});
    let objects = objects(&json!({"hostname": "myhost.example.org", "mailStore": store}));
    let claim = yaml(&objects.mail_claim.unwrap());
    for written in ["storage: 5Gi", "storageClassName: fast", "- ReadWriteMany"] {
        assert!(claim.contains(written), "{written} is not in {claim}");
    }
    let pod = yaml(pod_of(&objects.postfix));
    for written in ["mountPath: /srv/mail", "--uid=5000", "--gid=5001"] {
        assert!(pod.contains(written), "{written} is not in {pod}");
    }
}

/// Each pod has about 220 of them where every process of Postfix has its own (docs/postfix.md).
#[test]
fn the_embedded_database_has_connections_for_as_many_replicas_as_there_may_be() {
    let crd = serde_json::to_value(MailServer::crd()).unwrap();
    let replicas = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/postfix/properties/replicas/maximum";
    let replicas = crd.pointer(replicas).unwrap().as_f64().unwrap();
    let database = objects(&smallest()).database.unwrap().stateful_set;
    let args = pod_of(&database).containers[0].args.clone().unwrap();
    let most = args.iter().find_map(|arg| arg.strip_prefix("--max-connections=")).unwrap();
    assert!(most.parse::<f64>().unwrap() > replicas * 220.0, "{most}");
}

#[test]
fn a_load_balancer_keeps_the_clients_addresses() {
    let service = json!({"type": "LoadBalancer", "annotations": {"example.org/pool": "mail"}});
    let service =
        objects(&json!({"hostname": "myhost.example.org", "postfix": {"service": service}})).postfix_service;
    assert_eq!(service.metadata.annotations.unwrap()["example.org/pool"], "mail");
    let spec = service.spec.unwrap();
    assert_eq!(spec.type_.as_deref(), Some("LoadBalancer"));
    assert_eq!(spec.external_traffic_policy.as_deref(), Some("Local"));
}

#[test]
fn whoever_comes_from_outside_keeps_its_address_or_trusted_networks_would_be_an_open_relay() {
    for (type_, policy) in [("ClusterIP", None), ("NodePort", Some("Local")), ("LoadBalancer", Some("Local"))]
    {
        let postfix = json!({"service": {"type": type_}});
        let objects = objects(&json!({"hostname": "myhost.example.org", "postfix": postfix}));
        let spec = objects.postfix_service.spec.unwrap();
        assert_eq!((spec.type_.as_deref(), spec.external_traffic_policy.as_deref()), (Some(type_), policy));
    }
}

#[test]
fn a_name_that_no_service_could_have_is_refused_with_a_sentence() {
    let images = Images { postfix: String::new(), mariadb: String::new() };
    for name in ["my.host", "1host", &"x".repeat(41)] {
        let error = validate(&mail_server(name, &smallest()), &images).unwrap_err();
        assert!(matches!(&error, Invalid::Name(told) if told == name), "{error}");
    }
}

#[test]
fn nobody_elses_object_is_taken_over() {
    let server = validated(&smallest());
    let secret = |owners: Value| -> Secret {
        serde_json::from_value(
            json!({"metadata": {"name": "myhost-database-root", "ownerReferences": owners}}),
        )
        .unwrap()
    };
    let owner = |uid: &str| json!([{"apiVersion": "vmail.dev/v1alpha1", "kind": "MailServer", "name": "myhost", "uid": uid}]);
    assert!(require_owned(&secret(owner("7d1c")), &server).is_ok());
    let strange = require_owned(&secret(json!([])), &server).unwrap_err();
    assert!(matches!(&strange, Error::NotOwned(what) if what == "Secret myhost-database-root"), "{strange}");
    assert!(strange.finding().is_some(), "somebody has to do something about it");
    let leftover = require_owned(&secret(owner("of a deleted one")), &server).unwrap_err();
    assert!(matches!(&leftover, Error::Leftover(_)) && leftover.finding().is_none(), "{leftover}");
}

#[test]
fn both_workloads_run_where_the_server_says_with_what_it_gives_them() {
    let resources = json!({"requests": {"memory": "64Mi"}, "limits": {"memory": "256Mi"}});
    let spec = json!({
        "hostname": "myhost.example.org",
        "pods": {
            "imagePullSecrets": [{"name": "registry"}],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "mail", "operator": "Exists"}],
            "priorityClassName": "mail",
        },
        "postfix": {"resources": resources, "queue": {"size": "5Gi", "storageClassName": "fast"}},
        "database": {"embedded": {"resources": resources}},
    });
    let objects = objects(&spec);
    for stateful_set in [&objects.postfix, &objects.database.as_ref().unwrap().stateful_set] {
        let pod = serde_json::to_value(pod_of(stateful_set)).unwrap();
        for (field, value) in spec["pods"].as_object().unwrap() {
            assert_eq!(pod[field], *value);
        }
        let containers = ["initContainers", "containers"].map(|kind| pod[kind].as_array().unwrap());
        for container in containers.into_iter().flatten() {
            assert_eq!(container["resources"], resources, "{}", container["name"]);
        }
    }
    let queue =
        serde_json::to_value(&objects.postfix).unwrap()["spec"]["volumeClaimTemplates"][0]["spec"].clone();
    assert_eq!(queue["resources"]["requests"]["storage"], "5Gi");
    assert_eq!(queue["storageClassName"], "fast");
}
