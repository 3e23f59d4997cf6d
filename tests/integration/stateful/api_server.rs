//! An API server in memory, as far as the operator asks for anything: lists and watches, reads, Events, and the status of account
//! objects, which it remembers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::ObjectMeta;
use serde_json::{Value, json};
use vmail_operator::api::MailServer;
use vmail_operator::index::Index;
use vmail_operator::index::rows::{Kind, ObjectId, ServerRow};
use vmail_operator::object::ObjectName;

/// The namespace of all objects.
const NAMESPACE: &str = "mail";

const SERVERS: &str = "mailservers";
const SECRETS: &str = "secrets";

/// What is stored; cloning it shares it.
#[derive(Clone, Default)]
pub struct ApiServer(Arc<Mutex<Stored>>);

/// The plural of a kind, and a name.
type Id = (String, String);

#[derive(Default)]
struct Stored {
    objects: BTreeMap<Id, Value>,
    watches: Vec<Watch>,
    /// Everything that ever changed, for watches that begin with an older version.
    changes: Vec<Change>,
    /// Grows with every change.
    version: u64,
    /// Objects that were ever made: no two have the same uid.
    made: u64,
    patches: u64,
}

/// An event, in the version that it led to.
struct Change {
    version: u64,
    plural: String,
    line: String,
}

struct Watch {
    plural: String,
    events: UnboundedSender<String>,
}

/// What an object was told last.
#[derive(Debug)]
pub struct Told {
    /// Of the condition `Ready`.
    pub reason: String,
    /// Whether it was told of what it declares now.
    pub is_current: bool,
}

/// As in the paths of the API.
fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Domain => "maildomains",
        Kind::Mailbox => "mailboxes",
        Kind::Alias => "mailaliases",
        Kind::Admin => "mailadmins",
    }
}

fn id_of(object: &ObjectId) -> Id {
    (plural(object.kind).to_owned(), object.name.name.to_string())
}

impl ApiServer {
    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().unwrap()
    }

    /// A client of its own for each operator.
    pub fn client(&self) -> Client {
        let group = "/apis/vmail.dev/v1alpha1";
        let object = |group: &str| format!("{group}/namespaces/{NAMESPACE}/{{plural}}/{{name}}");
        let routes = Router::new()
            .route(&format!("{group}/{{plural}}"), get(list_or_watch))
            .route("/api/v1/{plural}", get(list_or_watch))
            .route(&object(group), get(read))
            .route(&object("/api/v1"), get(read))
            .route(&format!("{}/status", object(group)), patch(patch_status).put(replace_status))
            .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events", post(echo))
            .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events/{name}", patch(echo));
        Client::new(routes.with_state(self.clone()), NAMESPACE)
    }

    /// Declares an account: changes it, or makes it, anew where it is of another age.
    pub fn put(&self, object: &ObjectId, created: u8, spec: Value) {
        self.stored().put(id_of(object), created, spec);
    }

    pub fn put_server(&self, name: &str, spec: Value) {
        self.stored().put((SERVERS.to_owned(), name.to_owned()), 0, spec);
    }

    pub fn put_secret<const N: usize>(&self, name: &str, data: [(&str, String); N]) {
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.into()),
                namespace: Some(NAMESPACE.into()),
                ..ObjectMeta::default()
            },
            data: Some(data.into()),
            ..Secret::default()
        };
        self.stored().store("ADDED", (SECRETS.to_owned(), name.to_owned()), json!(secret));
    }

    pub fn remove(&self, object: &ObjectId) {
        self.stored().remove(&id_of(object));
    }

    pub fn annotate_server(&self, name: &str, annotation: &str, value: &str) {
        let mut stored = self.stored();
        let id = (SERVERS.to_owned(), name.to_owned());
        let mut object = stored.objects[&id].clone();
        object["metadata"]["annotations"][annotation] = json!(value);
        stored.store("MODIFIED", id, object);
    }

    pub fn told(&self, object: &ObjectId) -> Option<Told> {
        let stored = self.stored();
        let object = stored.objects.get(&id_of(object))?;
        let status = object.get("status")?;
        let ready = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")?;
        Some(Told {
            reason: ready["reason"].as_str()?.to_owned(),
            is_current: status["observedGeneration"] == object["metadata"]["generation"],
        })
    }

    /// How often an account was told anything; the counts of a domain don't matter, they are told some seconds later.
    pub fn patches(&self) -> u64 {
        self.stored().patches
    }

    /// Whether an index has heard of everything.
    pub fn is_seen_by(&self, index: &Index) -> bool {
        let stored = self.stored();
        let are_seen = |kind: Kind| {
            let names = index.names(kind);
            names.len() == stored.of(plural(kind)).count()
                && names.into_iter().all(|name| {
                    let id = ObjectId { kind, name };
                    let object = stored.objects.get(&id_of(&id)).map(|object| &object["metadata"]);
                    object.zip(index.meta(&id)).is_some_and(|(object, meta)| {
                        object["uid"] == *meta.uid && object["generation"] == meta.generation
                    })
                })
        };
        let is_seen = |object: &Value| {
            let server: MailServer = serde_json::from_value(object.clone()).unwrap();
            index.server(&ObjectName::of(&server)) == Some(&ServerRow::from(&server))
        };
        Kind::ALL.into_iter().all(are_seen) && stored.of(SERVERS).all(is_seen)
    }
}

impl Stored {
    fn of(&self, plural: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((other, _), _)| other == plural).map(|(_, object)| object)
    }

    fn put(&mut self, id: Id, created: u8, spec: Value) {
        let created = format!("2026-01-01T00:00:{created:02}Z");
        match self.objects.get(&id) {
            Some(old) if old["metadata"]["creationTimestamp"] == *created => {
                let mut object = old.clone();
                if object["spec"] == spec {
                    return;
                }
                object["spec"] = spec;
                object["metadata"]["generation"] =
                    json!(object["metadata"]["generation"].as_i64().unwrap() + 1);
                self.store("MODIFIED", id, object);
            }
            _ => {
                self.remove(&id);
                self.made += 1;
                let metadata = json!({
                    "namespace": NAMESPACE, "name": id.1, "uid": format!("uid-{}", self.made), "generation": 1,
                    "creationTimestamp": created,
                });
                self.store("ADDED", id, json!({"metadata": metadata, "spec": spec}));
            }
        }
    }

    fn remove(&mut self, id: &Id) {
        if let Some(object) = self.objects.remove(id) {
            self.publish("DELETED", &id.0, object);
        }
    }

    fn store(&mut self, event: &str, id: Id, object: Value) {
        let object = self.publish(event, &id.0, object);
        self.objects.insert(id, object);
    }

    /// Gives the object with its new version.
    fn publish(&mut self, event: &str, plural: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let line = line(event, &object);
        // Whoever was killed watches no more.
        self.watches
            .retain(|watch| watch.plural != plural || watch.events.unbounded_send(line.clone()).is_ok());
        self.changes.push(Change { version: self.version, plural: plural.to_owned(), line });
        object
    }

    /// A merge patch of the status.
    fn patch_status(&mut self, id: &Id, patch: &Value) -> Option<Value> {
        let mut status = self.objects.get(id)?["status"].clone();
        for (field, value) in patch["status"].as_object().unwrap() {
            if value.is_null() {
                status.as_object_mut().map(|status| status.remove(field));
            } else {
                status[field] = value.clone();
            }
        }
        self.write_status(id, status)
    }

    /// Another status in the place of the one that is there; `None`: the object is gone.
    fn write_status(&mut self, id: &Id, status: Value) -> Option<Value> {
        let mut object = self.objects.get(id)?.clone();
        let is_of_counts =
            id.0 == plural(Kind::Domain) && object["status"]["conditions"] == status["conditions"];
        self.patches += u64::from(!is_of_counts);
        object["status"] = status;
        self.store("MODIFIED", id.clone(), object);
        self.objects.get(id).cloned()
    }
}

/// The type comes first: who reads it keeps the object as text.
fn line(event: &str, object: &Value) -> String {
    format!("{{\"type\": \"{event}\", \"object\": {object}}}\n")
}

async fn list_or_watch(
    State(server): State<ApiServer>,
    Path(plural): Path<String>,
    RawQuery(asked): RawQuery,
) -> Response {
    let mut stored = server.stored();
    let asked = asked.unwrap_or_default();
    let mut asked = asked.split('&').filter_map(|pair| pair.split_once('='));
    // Only a watch names one.
    let Some((_, version)) = asked.find(|(name, _)| *name == "resourceVersion") else {
        let items: Vec<&Value> = stored.of(&plural).collect();
        let metadata = json!({"resourceVersion": stored.version.to_string()});
        return Json(json!({"items": items, "metadata": metadata})).into_response();
    };
    let version: u64 = version.parse().unwrap();
    let (events, receiver) = unbounded();
    for change in stored.changes.iter().filter(|change| change.plural == plural && change.version > version) {
        events.unbounded_send(change.line.clone()).unwrap();
    }
    stored.watches.push(Watch { plural, events });
    Body::from_stream(receiver.map(Ok::<_, Infallible>)).into_response()
}

fn answer(object: Option<Value>) -> (StatusCode, Json<Value>) {
    let missing = || failure(StatusCode::NOT_FOUND, "NotFound");
    object.map_or_else(missing, |object| (StatusCode::OK, Json(object)))
}

fn failure(code: StatusCode, reason: &str) -> (StatusCode, Json<Value>) {
    let status = json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": reason});
    (code, Json(status))
}

async fn read(State(server): State<ApiServer>, Path(id): Path<Id>) -> (StatusCode, Json<Value>) {
    answer(server.stored().objects.get(&id).cloned())
}

async fn patch_status(
    State(server): State<ApiServer>,
    Path(id): Path<Id>,
    Json(patch): Json<Value>,
) -> (StatusCode, Json<Value>) {
    answer(server.stored().patch_status(&id, &patch))
}

/// Refused where the object is not in the version that the status was made for.
async fn replace_status(
    State(server): State<ApiServer>,
    Path(id): Path<Id>,
    Json(object): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let mut stored = server.stored();
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    if stored.objects.get(&id).is_some_and(|stored| version(stored) != version(&object)) {
        return failure(StatusCode::CONFLICT, "Conflict");
    }
    answer(stored.write_status(&id, object["status"].clone()))
}

async fn echo(Json(event): Json<Value>) -> Json<Value> {
    Json(event)
}
