//! One kind of object: a list, and then what changes.
//!
//! kube's own watcher holds a page of a list as a whole, so that pages have to be small, or has the list streamed as events,
//! with which a start takes longer (docs/performance.md). Here pages are large and taken apart while they come. The
//! list is the most recent one: an object that a stale list lacks would lose its rows.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use futures::io::{AsyncBufRead, AsyncBufReadExt};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use kube::runtime::watcher::{Error, Event};
use kube::{Client, Resource, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::splitter::Splitter;

/// Objects in a page. The API server ends a request after a minute, and for each page it counts what is left.
const PAGE: u32 = 10_000;

/// How long a list may pause.
const LIST_PAUSE: Duration = Duration::from_secs(30);

/// The API server ends a watch after 290 seconds (kube's default); one that lasts longer is on a connection that is gone.
const WATCH_PAUSE: Duration = Duration::from_secs(295);

/// How much of the objects is asked for.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// All of them.
    Whole,
    /// Only their metadata: nothing else of them is sent.
    Metadata,
}

/// A list of all objects of a kind in `namespace` (`None`: in all), then what changes, then, where the API server doesn't
/// know any more what changed, another list. Goes on after errors; resting between them is the caller's.
pub(super) fn list_watch<K>(
    client: Client,
    namespace: Option<&str>,
    part: Part,
) -> impl Stream<Item = Result<Event<K>, Error>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Send + 'static,
{
    let requests = Request::new(K::url_path(&(), namespace));
    let source = Source { client, requests, part, kind: PhantomData };
    stream::unfold((source, State::Begin), |(source, mut state)| async {
        loop {
            let (event, next) = source.step(state).await;
            state = next;
            if let Some(event) = event {
                return Some((event, (source, state)));
            }
        }
    })
}

enum State<K> {
    Begin,
    Listing(Listing),
    /// A page of the list is read, and the next is to be asked for with this token.
    More(String),
    /// The list, or a watch, came to this `resourceVersion`.
    At(String),
    Watching(String, BoxStream<'static, kube::Result<WatchEvent<K>>>),
}

/// What happened, if it concerns anybody, and what is to be done next.
type Step<K> = (Option<Result<Event<K>, Error>>, State<K>);

struct Source<K> {
    client: Client,
    requests: Request,
    part: Part,
    kind: PhantomData<fn() -> K>,
}

impl<K> Source<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Send + 'static,
{
    async fn step(&self, state: State<K>) -> Step<K> {
        match state {
            State::Begin => match self.list(None).await {
                Ok(listing) => (Some(Ok(Event::Init)), State::Listing(listing)),
                Err(error) => (Some(Err(Error::InitialListFailed(error))), State::Begin),
            },
            State::More(token) => match self.list(Some(token)).await {
                Ok(listing) => (None, State::Listing(listing)),
                Err(error) => (Some(Err(Error::InitialListFailed(error))), State::Begin),
            },
            State::Listing(mut listing) => match listing.next().await {
                Ok(Listed::Object(object)) => (Some(Ok(Event::InitApply(object))), State::Listing(listing)),
                Ok(Listed::Page(token)) => (None, State::More(token)),
                Ok(Listed::All(version)) => (Some(Ok(Event::InitDone)), State::At(version)),
                Err(error) => (Some(Err(Error::InitialListFailed(error))), State::Begin),
            },
            State::At(version) => match self.watch(&version).await {
                Ok(events) => (None, State::Watching(version, events)),
                Err(error) => {
                    let next = if is_gone(&error) { State::Begin } else { State::At(version) };
                    (Some(Err(Error::WatchStartFailed(error))), next)
                }
            },
            State::Watching(version, events) => follow(version, events).await,
        }
    }

    /// Begins to read a page of the list: the first, or that after the one that gave the token.
    async fn list(&self, token: Option<String>) -> kube::Result<Listing> {
        let parameters = ListParams { limit: Some(PAGE), continue_token: token, ..ListParams::default() };
        let request = match self.part {
            Part::Whole => self.requests.list(&parameters),
            Part::Metadata => self.requests.list_metadata(&parameters),
        };
        let request = request.map_err(kube::Error::BuildRequest)?;
        let body = within(LIST_PAUSE, self.client.request_stream(request)).await?;
        Ok(Listing { body: Box::pin(body), splitter: Splitter::default() })
    }

    async fn watch(&self, version: &str) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<K>>>> {
        let request = match self.part {
            Part::Whole => self.requests.watch(&WatchParams::default(), version),
            Part::Metadata => self.requests.watch_metadata(&WatchParams::default(), version),
        };
        let request = request.map_err(kube::Error::BuildRequest)?;
        let events = within(LIST_PAUSE, self.client.request_events(request)).await?;
        Ok(events.boxed())
    }
}

async fn follow<K: Resource>(
    version: String,
    mut events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
) -> Step<K> {
    let Ok(Some(event)) = timeout(WATCH_PAUSE, events.next()).await else {
        return (None, State::At(version));
    };
    let at = |object: &K| object.resource_version().unwrap_or_default();
    match event {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
            let version = at(&object);
            (Some(Ok(Event::Apply(object))), State::Watching(version, events))
        }
        Ok(WatchEvent::Deleted(object)) => {
            let version = at(&object);
            (Some(Ok(Event::Delete(object))), State::Watching(version, events))
        }
        Ok(WatchEvent::Bookmark(bookmark)) => {
            (None, State::Watching(bookmark.metadata.resource_version, events))
        }
        Ok(WatchEvent::Error(status)) => {
            let next = if status.code == 410 { State::Begin } else { State::At(version) };
            (Some(Err(Error::WatchError(status.boxed()))), next)
        }
        // The next one may be read: from the same place it would come again.
        Err(error @ kube::Error::SerdeError(_)) => {
            (Some(Err(Error::WatchFailed(error))), State::Watching(version, events))
        }
        Err(error) => (Some(Err(Error::WatchFailed(error))), State::At(version)),
    }
}

/// Whether the API server doesn't know any more what changed since a `resourceVersion`.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

async fn within<T>(limit: Duration, answer: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let paused = |_| kube::Error::ReadEvents(io::Error::from(io::ErrorKind::TimedOut));
    timeout(limit, answer).await.map_err(paused)?
}

/// A page of a list that is being read.
struct Listing {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    splitter: Splitter,
}

/// What comes next in a list.
enum Listed<K> {
    Object(K),
    /// The next page, which is to be asked for with this token.
    Page(String),
    /// Nothing; the `resourceVersion` of the list.
    All(String),
}

/// What is read of a list beside its objects.
#[derive(Deserialize)]
struct Rest {
    metadata: ListMeta,
}

impl Listing {
    async fn next<K: DeserializeOwned>(&mut self) -> kube::Result<Listed<K>> {
        loop {
            let text = self.body.fill_buf();
            let text = within(LIST_PAUSE, async { text.await.map_err(kube::Error::ReadEvents) }).await?;
            if text.is_empty() {
                return self.end();
            }
            let (read, is_object) = self.splitter.read(text);
            self.body.consume_unpin(read);
            if is_object {
                let object = serde_json::from_slice(self.splitter.object());
                return object.map(Listed::Object).map_err(kube::Error::SerdeError);
            }
        }
    }

    /// What comes after a page, if that has come to its end: one that broke off would let everything go that was to come.
    fn end<K>(&self) -> kube::Result<Listed<K>> {
        let broken = || kube::Error::ReadEvents(io::Error::from(io::ErrorKind::UnexpectedEof));
        let rest = self.splitter.rest().ok_or_else(broken)?;
        let Rest { metadata } = serde_json::from_slice(rest).map_err(kube::Error::SerdeError)?;
        if let Some(token) = metadata.continue_.filter(|token| !token.is_empty()) {
            return Ok(Listed::Page(token));
        }
        let version = metadata.resource_version.filter(|version| !version.is_empty());
        version.map(Listed::All).ok_or_else(broken)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::SeqCst;

    use futures::TryStreamExt;
    use k8s_openapi::api::core::v1::Secret;
    use kube::core::PartialObjectMeta;
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Mailbox;
    use crate::testing::{api_server, failure, text_server};

    /// Code and text.
    type Answer = fn() -> (u16, String);

    type Secrets = PartialObjectMeta<Secret>;

    fn mailbox(name: &str, version: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "mail", "resourceVersion": version},
            "spec": {"address": format!("{name}@alpha.example.org")}})
    }

    fn list(items: &[Value], version: &str) -> String {
        json!({"kind": "MailboxList", "items": items, "metadata": {"resourceVersion": version}}).to_string()
    }

    fn event(type_: &str, object: &Value) -> String {
        json!({"type": type_, "object": object}).to_string() + "\n"
    }

    /// An API server that answers one request after the other, and then none; each has to be asked with this in its query.
    fn answering(answers: &'static [(&'static str, Answer)]) -> Client {
        let asked = AtomicUsize::new(0);
        text_server(move |request| {
            let (query, answer) = answers.get(asked.fetch_add(1, SeqCst))?;
            let (asked, is_watch) = (request.uri().query()?, query.starts_with("resourceVersion"));
            assert!(asked.contains(query) && is_watch == asked.contains("watch=true"), "{asked}");
            Some(answer())
        })
    }

    /// The first events, in short.
    async fn events(client: Client, count: usize) -> Vec<String> {
        let events = list_watch::<Mailbox>(client, Some("mail"), Part::Whole).take(count);
        let short = |event: Result<Event<Mailbox>, Error>| match event {
            Ok(Event::Init) => "list".to_owned(),
            Ok(Event::InitApply(object)) => format!("has {}", object.name_any()),
            Ok(Event::InitDone) => "end".to_owned(),
            Ok(Event::Apply(object)) => format!("now {}", object.name_any()),
            Ok(Event::Delete(object)) => format!("gone {}", object.name_any()),
            Err(_) => "error".to_owned(),
        };
        events.map(short).collect().await
    }

    #[tokio::test]
    async fn after_a_list_come_changes_and_after_a_watch_another_from_where_it_ended() {
        let client = answering(&[
            ("", || (200, list(&[mailbox("bob", "3"), mailbox("eve", "5")], "7"))),
            ("resourceVersion=7", || {
                (200, event("MODIFIED", &mailbox("bob", "8")) + &event("DELETED", &mailbox("eve", "9")))
            }),
            ("resourceVersion=9", || (200, event("ADDED", &mailbox("zoe", "11")))),
        ]);
        let expected = ["list", "has bob", "has eve", "end", "now bob", "gone eve", "now zoe"];
        assert_eq!(events(client, 7).await, expected);
    }

    #[tokio::test]
    async fn a_long_list_comes_in_pages() {
        let client = answering(&[
            ("", || {
                let metadata = json!({"resourceVersion": "7", "continue": "page-2"});
                (200, json!({"metadata": metadata, "items": [mailbox("bob", "3")]}).to_string())
            }),
            ("continue=page-2", || (200, list(&[mailbox("eve", "5")], "7"))),
            ("resourceVersion=7", || (200, event("ADDED", &mailbox("zoe", "11")))),
        ]);
        assert_eq!(events(client, 5).await, ["list", "has bob", "has eve", "end", "now zoe"]);
    }

    #[tokio::test]
    async fn a_list_that_breaks_off_has_no_end_and_is_asked_for_again() {
        let client = answering(&[
            ("", || {
                let text = list(&[mailbox("bob", "3"), mailbox("eve", "5")], "7");
                (200, text[..text.len() - 60].to_owned())
            }),
            ("", || (500, failure(500, "InternalError", "away").1.to_string())),
            ("", || (200, list(&[mailbox("bob", "3")], "7"))),
        ]);
        let told = events(client, 7).await;
        let begin = told.iter().position(|told| told == "error").unwrap();
        assert!(!told[..begin].contains(&"end".to_owned()), "{told:?}");
        assert_eq!(told[begin..begin + 2], ["error", "error"]);
        assert_eq!(told[begin + 2..begin + 5], ["list", "has bob", "end"]);
    }

    /// Too old a `resourceVersion`, as the API server says it.
    #[tokio::test]
    async fn what_the_api_server_has_forgotten_is_listed_anew() {
        let client = answering(&[
            ("", || (200, list(&[mailbox("bob", "3")], "7"))),
            ("resourceVersion=7", || {
                let bookmark = json!({"kind": "Mailbox", "apiVersion": "vmail.dev/v1alpha1", "metadata": {"resourceVersion": "20"}});
                let (_, gone) = failure(410, "Expired", "too old resource version");
                (200, event("BOOKMARK", &bookmark) + &event("ERROR", &gone))
            }),
            ("", || (200, list(&[], "30"))),
            ("resourceVersion=30", || (200, event("ADDED", &mailbox("zoe", "31")))),
        ]);
        let expected = ["list", "has bob", "end", "error", "list", "end", "now zoe"];
        assert_eq!(events(client, 7).await, expected);
    }

    #[tokio::test]
    async fn of_secrets_only_the_metadata_is_asked_for() {
        let client = api_server(|request| {
            let accept = request.headers()["accept"].to_str().unwrap().to_owned();
            assert!(accept.contains("as=PartialObjectMetadataList"), "{accept}");
            (
                200,
                json!({"kind": "PartialObjectMetadataList", "metadata": {"resourceVersion": "7"}, "items": []}),
            )
        });
        let events = list_watch::<Secrets>(client, Some("mail"), Part::Metadata).take(2);
        let events: Vec<_> = events.try_collect().await.unwrap();
        assert!(matches!(events[..], [Event::Init, Event::InitDone]), "{events:?}");
    }
}
