//! How a status is written: put in place of the one before, where it is known which that is; else merged into whatever is there.
//!
//! The API server needs less time for a replacement than for a merge (docs/performance.md).

use axum::http;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{FIELD_MANAGER, MailAdmin, MailAlias, MailDomain, Mailbox};
use crate::index::rows::{Kind, ObjectId, version_of};

const STATUS: &str = "status";

/// What is read of an answer.
#[derive(Deserialize)]
struct Written {
    metadata: WrittenMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata {
    resource_version: Option<String>,
}

/// Writes a status to an object of which `version` was seen last (0: not known); gives the version that it has then.
pub(super) async fn write(
    client: &Client,
    object: &ObjectId,
    version: u64,
    status: &Value,
) -> Result<u64, kube::Error> {
    if version != 0 {
        match send(client, replacement(object, version, status)?).await {
            // Somebody has written to the object since.
            Err(kube::Error::Api(answer)) if answer.is_conflict() => {}
            written => return written,
        }
    }
    send(client, merge(object, status)?).await
}

async fn send(client: &Client, request: http::Request<Vec<u8>>) -> Result<u64, kube::Error> {
    let Written { metadata } = client.request(request).await?;
    Ok(version_of(metadata.resource_version.as_deref()))
}

fn replacement(
    object: &ObjectId,
    version: u64,
    status: &Value,
) -> Result<http::Request<Vec<u8>>, kube::Error> {
    let name = &*object.name.name;
    let body = json!({
        "apiVersion": Mailbox::api_version(&()),
        "kind": object.kind.as_str(),
        "metadata": {"namespace": &*object.name.namespace, "name": name, "resourceVersion": version.to_string()},
        "status": without_nulls(status),
    });
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let request =
        requests(object).replace_subresource(STATUS, name, &parameters, body.to_string().into_bytes());
    request.map_err(kube::Error::BuildRequest)
}

fn merge(object: &ObjectId, status: &Value) -> Result<http::Request<Vec<u8>>, kube::Error> {
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"status": status}));
    let request = requests(object).patch_subresource(STATUS, &object.name.name, &parameters, &patch);
    request.map_err(kube::Error::BuildRequest)
}

/// A null takes a field away from what is there; of a new status it is no part.
fn without_nulls(status: &Value) -> Value {
    let fields = status.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    fields.map(|(field, value)| (field.clone(), value.clone())).collect()
}

fn requests(object: &ObjectId) -> Request {
    let namespace = Some(&*object.name.namespace);
    Request::new(match object.kind {
        Kind::Domain => MailDomain::url_path(&(), namespace),
        Kind::Mailbox => Mailbox::url_path(&(), namespace),
        Kind::Alias => MailAlias::url_path(&(), namespace),
        Kind::Admin => MailAdmin::url_path(&(), namespace),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::object::ObjectName;
    use crate::testing::{api_server, failure};

    /// What a write asks an API server that refuses replacements; the methods, and the version that was given.
    async fn written(version: u64, is_changed: bool) -> (Vec<String>, u64) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let client = api_server(move |request| {
            assert_eq!(request.uri().path(), "/apis/vmail.dev/v1alpha1/namespaces/mail/mailboxes/bob/status");
            assert!(request.uri().query().unwrap().contains("fieldManager=vmail-operator"));
            seen.lock().unwrap().push(request.method().to_string());
            if request.method() == "PUT" && is_changed {
                failure(409, "Conflict", "the object has been modified")
            } else {
                (200, json!({"metadata": {"name": "bob", "resourceVersion": "8"}}))
            }
        });
        let bob = ObjectId { kind: Kind::Mailbox, name: ObjectName::new("mail", "bob") };
        let version =
            write(&client, &bob, version, &json!({"server": null, "observedGeneration": 1})).await.unwrap();
        let asked = asked.lock().unwrap().clone();
        (asked, version)
    }

    #[tokio::test]
    async fn a_status_takes_one_request_where_nobody_else_has_written() {
        assert_eq!(written(7, false).await, (vec!["PUT".to_owned()], 8));
        assert_eq!(written(0, false).await, (vec!["PATCH".to_owned()], 8), "the version is not known");
        assert_eq!(written(7, true).await, (vec!["PUT".to_owned(), "PATCH".to_owned()], 8));
    }

    #[test]
    fn a_replacement_has_no_nulls_and_says_what_it_replaces() {
        let bob = ObjectId { kind: Kind::Mailbox, name: ObjectName::new("mail", "bob") };
        let request = replacement(&bob, 7, &json!({"server": null, "observedGeneration": 1})).unwrap();
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["status"], json!({"observedGeneration": 1}));
        assert_eq!(body["metadata"]["resourceVersion"], "7");
        assert_eq!((&body["apiVersion"], &body["kind"]), (&json!("vmail.dev/v1alpha1"), &json!("Mailbox")));
    }
}
