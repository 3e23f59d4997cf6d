//! Objects for the tests of the pure rooms: as small as they can be written, as real as the API server would store them.

use std::convert::Infallible;

use axum::http::{Request, Response};
use kube::client::Body;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::api::{MailAdmin, MailAlias, MailDomain, MailServer, Mailbox};
use crate::index::Index;
use crate::object::ObjectName;

/// An index that is filled the way the watches fill it.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) index: Index,
}

/// Metadata of an object made at second `created`.
fn metadata(namespace: &str, name: &str, created: i64) -> Value {
    let time = jiff::Timestamp::from_second(created).unwrap();
    json!({
        "namespace": namespace, "name": name, "uid": format!("{namespace}-{name}"), "generation": 1,
        "creationTimestamp": time.to_string(),
    })
}

/// An object of any kind of ours, made at second `created`.
pub(crate) fn object<K: serde::de::DeserializeOwned>(
    namespace: &str,
    name: &str,
    created: i64,
    spec: &Value,
) -> K {
    serde_json::from_value(json!({"metadata": metadata(namespace, name, created), "spec": spec})).unwrap()
}

impl World {
    /// A world with the server `mail/myhost` and the domain `alpha.example.org`, both in namespace `mail`.
    pub(crate) fn with_alpha() -> Self {
        let mut world = Self::default();
        world.server("mail", "myhost", json!({"hostname": "myhost.example.org"}));
        world.domain(
            "mail",
            "alpha",
            1,
            json!({"serverRef": {"name": "myhost"}, "domain": "alpha.example.org"}),
        );
        world
    }

    pub(crate) fn server(&mut self, namespace: &str, name: &str, spec: Value) {
        let server: MailServer = object(namespace, name, 0, &spec);
        self.index.apply_server(&ObjectName::of(&server), (&server).into());
    }

    pub(crate) fn domain(&mut self, namespace: &str, name: &str, created: i64, spec: Value) {
        let domain: MailDomain = object(namespace, name, created, &spec);
        self.index.apply_domain(ObjectName::of(&domain), (&domain).into());
    }

    pub(crate) fn mailbox(&mut self, namespace: &str, name: &str, created: i64, spec: Value) {
        let mailbox: Mailbox = object(namespace, name, created, &spec);
        self.index.apply_mailbox(ObjectName::of(&mailbox), (&mailbox).into());
        assert_eq!(mailbox.name_any(), name);
    }

    pub(crate) fn admin(&mut self, namespace: &str, name: &str, created: i64, spec: Value) {
        let admin: MailAdmin = object(namespace, name, created, &spec);
        self.index.apply_admin(ObjectName::of(&admin), (&admin).into());
    }

    pub(crate) fn alias(&mut self, namespace: &str, name: &str, created: i64, spec: Value) {
        let alias: MailAlias = object(namespace, name, created, &spec);
        self.index.apply_alias(ObjectName::of(&alias), (&alias).into());
    }
}

/// An API server that answers with a code and an object.
pub(crate) fn api_server(
    answer: impl Fn(&Request<Body>) -> (u16, Value) + Clone + Send + Sync + 'static,
) -> Client {
    text_server(move |request| {
        let (code, body) = answer(request);
        Some((code, body.to_string()))
    })
}

/// An API server that answers with a code and a text, or never.
pub(crate) fn text_server(
    answer: impl Fn(&Request<Body>) -> Option<(u16, String)> + Send + Sync + 'static,
) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = answer(&request);
        async {
            let Some((code, text)) = answer else { return std::future::pending().await };
            let body = Body::from(text.into_bytes());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    Client::new(service, "mail")
}

/// What an API server answers that refuses a request.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> (u16, Value) {
    (code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}))
}

/// `mail/myhost`
pub(crate) fn myhost() -> ObjectName {
    ObjectName::new("mail", "myhost")
}
