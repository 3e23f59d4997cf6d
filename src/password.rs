//! Passwords out of Secrets: fetched when they are needed, hashed, and never kept.

mod hash;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::api::{PasswordScheme, Reason};
use crate::desired::PasswordWant;
use crate::index::rows::PasswordSource;
use crate::plan::{ResolvedPassword, RowId};

/// Longest hash that fits `PostfixAdmin`'s column.
const MAX_HASH: usize = 255;

/// A row that needs its password.
pub struct Request<'a> {
    /// The row, of a mailbox or an admin.
    pub row: RowId,
    /// Where the password comes from.
    pub want: &'a PasswordWant,
    /// The hash that is stored now: kept where the plain text still fits it.
    pub stored: Option<&'a str>,
}

/// Fetches the Secrets that the requests name, each once, and gives a hash or a reason for each row.
///
/// # Errors
/// When the API server doesn't answer; a Secret or key that isn't there is an answer, not an error.
pub async fn resolve(
    client: &Client,
    scheme: PasswordScheme,
    requests: &[Request<'_>],
) -> Result<BTreeMap<RowId, ResolvedPassword>, kube::Error> {
    let mut secrets: BTreeMap<(&str, &str), Option<Secret>> = BTreeMap::new();
    let mut resolved = BTreeMap::new();
    for request in requests {
        let reference = request.want.source.reference();
        let id = (&*request.want.namespace, reference.name.as_str());
        let secret = match secrets.entry(id) {
            Entry::Occupied(fetched) => fetched.into_mut(),
            Entry::Vacant(new) => {
                new.insert(Api::<Secret>::namespaced(client.clone(), id.0).get_opt(id.1).await?)
            }
        };
        let data = secret.as_ref().and_then(|secret| secret.data.as_ref());
        let value = data.and_then(|data| data.get(&reference.key)).cloned();
        let (source, exists) = (request.want.source.clone(), secret.is_some());
        let stored = request.stored.map(str::to_owned);
        // A hash takes milliseconds of a processor on purpose: not on a thread that others wait for.
        let answer = tokio::task::spawn_blocking(move || {
            answer(&source, scheme, stored.as_deref(), exists, value.as_ref())
        });
        let answer = answer.await.unwrap_or_else(|_| refused(&request.want.source, "can't be hashed"));
        resolved.insert(request.row.clone(), answer);
    }
    Ok(resolved)
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
    use super::*;
    use crate::api::SecretKeyReference;

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
}
