//! Passwords out of Secrets: fetched when they are needed, hashed, and never kept.

mod hash;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::api::{PasswordScheme, Reason};
use crate::client;
use crate::index::rows::PasswordSource;
use crate::plan::{ResolvedPassword, RowId};

/// Longest hash that fits `PostfixAdmin`'s column.
const MAX_HASH: usize = 255;

/// Secrets that are fetched, and values that are hashed, at once.
const AT_ONCE: usize = 8;

/// A row that needs its password. Its hash is secret: there is no `Debug`.
pub struct Request {
    /// The row, of a mailbox or an admin.
    pub row: RowId,
    /// Namespace of the Secret.
    pub namespace: Arc<str>,
    /// Where the password comes from.
    pub source: PasswordSource,
    /// The hash that is stored now: kept where the plain text still fits it.
    pub stored: Option<String>,
}

/// Requests by the namespace and name of the Secret that they refer to.
type BySecret = BTreeMap<(Arc<str>, String), Vec<Request>>;

/// Fetches the Secrets that the requests name, each once, and gives a hash or a reason for each row. What a Secret holds is
/// kept for no longer than it takes to hash it.
///
/// # Errors
/// When the API server doesn't answer; a Secret or key that isn't there is an answer, not an error.
pub async fn resolve(
    client: &Client,
    scheme: PasswordScheme,
    requests: Vec<Request>,
) -> Result<BTreeMap<RowId, ResolvedPassword>, client::Error> {
    let mut by_secret = BySecret::new();
    for request in requests {
        let id = (request.namespace.clone(), request.source.reference().name.clone());
        by_secret.entry(id).or_default().push(request);
    }
    stream::iter(by_secret)
        .map(|((namespace, name), requests)| fetch(client.clone(), namespace, name, requests))
        .buffer_unordered(AT_ONCE)
        .map_ok(|fetched| stream::iter(fetched.into_iter().map(Ok::<_, client::Error>)))
        .try_flatten()
        .map_ok(|fetched| async move { Ok(fetched.hashed(scheme).await) })
        .try_buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// A request with what its Secret holds.
struct Fetched {
    request: Request,
    secret_exists: bool,
    value: Option<ByteString>,
}

async fn fetch(
    client: Client,
    namespace: Arc<str>,
    name: String,
    requests: Vec<Request>,
) -> Result<Vec<Fetched>, client::Error> {
    let secrets = Api::<Secret>::namespaced(client, &namespace);
    let secret = client::bounded(secrets.get_opt(&name)).await?;
    let value = |request: &Request| {
        let data = secret.as_ref().and_then(|secret| secret.data.as_ref());
        data.and_then(|data| data.get(&request.source.reference().key)).cloned()
    };
    let fetched = requests.into_iter().map(|request| Fetched {
        value: value(&request),
        secret_exists: secret.is_some(),
        request,
    });
    Ok(fetched.collect())
}

impl Fetched {
    /// A hash takes milliseconds of a processor on purpose: it is made on a thread that nobody else waits for.
    async fn hashed(self, scheme: PasswordScheme) -> (RowId, ResolvedPassword) {
        let Self { request: Request { row, source, stored, .. }, secret_exists, value } = self;
        let of = source.clone();
        let answer = tokio::task::spawn_blocking(move || {
            answer(&of, scheme, stored.as_deref(), secret_exists, value.as_ref())
        });
        (row, answer.await.unwrap_or_else(|_| refused(&source, "can't be hashed")))
    }
}

fn refused(source: &PasswordSource, what: &str) -> ResolvedPassword {
    let (name, key) = (&source.reference().name, &source.reference().key);
    ResolvedPassword::Missing(
        Reason::SecretInvalid,
        format!("key {key} of Secret {name} {what}: nobody can log in until it is corrected"),
    )
}

fn answer(
    source: &PasswordSource,
    scheme: PasswordScheme,
    stored: Option<&str>,
    secret_exists: bool,
    value: Option<&ByteString>,
) -> ResolvedPassword {
    let Some(value) = value else {
        return if secret_exists {
            refused(source, "does not exist")
        } else {
            ResolvedPassword::secret_not_found(&source.reference().name)
        };
    };
    let Some(text) = one_line(&value.0) else {
        return refused(source, "is empty or not one line of text");
    };
    match source {
        PasswordSource::Hash(_)
            if text.len() > MAX_HASH || text.contains(|c: char| c.is_whitespace() || !c.is_ascii()) =>
        {
            refused(source, "is not a password hash")
        }
        PasswordSource::Hash(_) => ResolvedPassword::Hash(text.to_owned()),
        PasswordSource::Plain(_) => match hash::hash(text, scheme, stored) {
            Ok(hash) => ResolvedPassword::Hash(hash),
            Err(what) => refused(source, what),
        },
    }
}

/// The text without the newline that `echo` and editors leave at its end.
fn one_line(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    (!text.is_empty() && !text.contains(|c: char| c.is_control())).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use axum::http;
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::api::SecretKeyReference;
    use crate::tables::Table;

    fn source(form: fn(SecretKeyReference) -> PasswordSource) -> PasswordSource {
        form(SecretKeyReference { name: "s".into(), key: "k".into() })
    }

    fn resolved(source: &PasswordSource, stored: Option<&str>, value: &str) -> Result<String, Reason> {
        let value = ByteString(value.as_bytes().to_vec());
        match answer(source, PasswordScheme::default(), stored, true, Some(&value)) {
            ResolvedPassword::Hash(hash) => Ok(hash),
            ResolvedPassword::Missing(reason, _) => Err(reason),
        }
    }

    #[test]
    fn a_plain_password_is_hashed_once() {
        let source = source(PasswordSource::Plain);
        let first = resolved(&source, None, "correct horse\n").unwrap();
        assert!(first.starts_with("{SHA512-CRYPT}$6$"), "{first}");
        assert_eq!(resolved(&source, Some(&first), "correct horse").unwrap(), first);
        assert_ne!(resolved(&source, Some(&first), "another").unwrap(), first);
    }

    #[test]
    fn a_given_hash_is_stored_as_it_is() {
        let source = source(PasswordSource::Hash);
        for hash in ["82fU0EHEzA6wo", "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "{PLAIN}secret"] {
            assert_eq!(resolved(&source, None, &format!("{hash}\n")).unwrap(), hash);
        }
        assert_eq!(resolved(&source, None, "two words"), Err(Reason::SecretInvalid));
        assert_eq!(resolved(&source, None, "two\nlines"), Err(Reason::SecretInvalid));
        assert_eq!(resolved(&source, None, ""), Err(Reason::SecretInvalid));
    }
    /// How many requests were made, how many are under way, and how many were at most.
    #[derive(Default)]
    struct Requests([AtomicUsize; 3]);

    /// An API server that has a Secret of every name, and takes its time.
    fn slow_server(requests: &Arc<Requests>) -> Client {
        let requests = requests.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let requests = requests.clone();
            async move {
                let [all, under_way, most] = &requests.0;
                all.fetch_add(1, Ordering::Relaxed);
                most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                under_way.fetch_sub(1, Ordering::Relaxed);
                let name = request.uri().path().rsplit('/').next().unwrap_or_default();
                // {PLAIN}secret
                let secret = json!({"metadata": {"name": name}, "data": {"k": "e1BMQUlOfXNlY3JldA=="}});
                Ok::<_, Infallible>(http::Response::new(Body::from(secret.to_string().into_bytes())))
            }
        });
        Client::new(service, "mail")
    }

    #[tokio::test]
    async fn each_secret_is_fetched_once_and_several_side_by_side() {
        let requests = Arc::new(Requests::default());
        let request = |number: usize| Request {
            row: (Table::Mailbox, format!("u{number}@alpha.example.org")),
            namespace: "mail".into(),
            source: PasswordSource::Hash(SecretKeyReference {
                name: format!("s{}", number / 2),
                key: "k".into(),
            }),
            stored: None,
        };
        let (server, wanted) = (slow_server(&requests), (0..40).map(request).collect());
        let resolved = resolve(&server, PasswordScheme::default(), wanted).await.unwrap();
        let hashes = resolved
            .values()
            .filter(|it| matches!(it, ResolvedPassword::Hash(hash) if hash == "{PLAIN}secret"));
        assert_eq!(hashes.count(), 40);
        let [all, _, most] = requests.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!((all, most), (20, AT_ONCE));
    }
}
