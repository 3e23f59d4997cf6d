//! Passwords out of Secrets: fetched when they are needed, hashed, and never kept.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use sha_crypt::{PasswordHasher, PasswordVerifier, ShaCrypt};

use crate::api::Reason;
use crate::desired::PasswordWant;
use crate::index::rows::PasswordSource;
use crate::plan::ResolvedPassword;

/// Scheme prefix of the hashes that the operator makes (Dovecot's and `PostfixAdmin`'s notation).
const SCHEME: &str = "{SHA512-CRYPT}";

/// Longest hash that fits `PostfixAdmin`'s column.
const MAX_HASH: usize = 255;

/// A mailbox that needs its password.
pub struct Request<'a> {
    /// Primary key of its row.
    pub username: &'a str,
    /// Where the password comes from.
    pub want: &'a PasswordWant,
    /// The hash that is stored now: kept where the plain text still fits it.
    pub stored: Option<&'a str>,
}

/// Fetches the Secrets that the requests name, each once, and gives a hash or a reason for each username.
///
/// # Errors
/// When the API server doesn't answer; a Secret or key that isn't there is an answer, not an error.
pub async fn resolve(
    client: &Client,
    requests: &[Request<'_>],
) -> Result<BTreeMap<String, ResolvedPassword>, kube::Error> {
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
        let value = data.and_then(|data| data.get(&reference.key));
        resolved.insert(request.username.to_owned(), answer(request, secret.is_some(), value));
    }
    Ok(resolved)
}

fn answer(request: &Request<'_>, secret_exists: bool, value: Option<&ByteString>) -> ResolvedPassword {
    let source = &request.want.source;
    let (name, key) = (&source.reference().name, &source.reference().key);
    let invalid = |what: &str| {
        ResolvedPassword::Missing(
            Reason::SecretInvalid,
            format!("key {key} of Secret {name} {what}: nobody can log in until it is corrected"),
        )
    };
    let Some(value) = value else {
        return if secret_exists {
            invalid("does not exist")
        } else {
            ResolvedPassword::secret_not_found(name)
        };
    };
    let Some(text) = one_line(&value.0) else { return invalid("is empty or not one line of text") };
    match source {
        PasswordSource::Hash(_)
            if text.len() > MAX_HASH || text.contains(|c: char| c.is_whitespace() || !c.is_ascii()) =>
        {
            invalid("is not a password hash")
        }
        PasswordSource::Hash(_) => ResolvedPassword::Hash(text.to_owned()),
        PasswordSource::Plain(_) => match hash(text, request.stored) {
            Some(hash) => ResolvedPassword::Hash(hash),
            None => invalid("can't be hashed"),
        },
    }
}

/// The text without the newline that `echo` and editors leave at its end.
fn one_line(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    (!text.is_empty() && !text.contains(|c: char| c.is_control())).then_some(text)
}

fn hash(plain: &str, stored: Option<&str>) -> Option<String> {
    let crypt = ShaCrypt::SHA512;
    let stored_text = stored.and_then(|stored| stored.strip_prefix(SCHEME));
    if let (Some(stored), Some(text)) = (stored, stored_text) {
        let verifies: Result<(), _> =
            PasswordVerifier::<str>::verify_password(&crypt, plain.as_bytes(), text);
        if verifies.is_ok() {
            return Some(stored.to_owned());
        }
    }
    let hash = crypt.hash_password(plain.as_bytes()).ok()?;
    Some(format!("{SCHEME}{}", hash.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::SecretKeyReference;

    fn want(source: fn(SecretKeyReference) -> PasswordSource) -> PasswordWant {
        let source = source(SecretKeyReference { name: "s".into(), key: "k".into() });
        PasswordWant { namespace: "mail".into(), source, version: Some("1".into()) }
    }

    fn resolved(want: &PasswordWant, stored: Option<&str>, value: &str) -> Result<String, Reason> {
        let request = Request { username: "u", want, stored };
        match answer(&request, true, Some(&ByteString(value.as_bytes().to_vec()))) {
            ResolvedPassword::Hash(hash) => Ok(hash),
            ResolvedPassword::Missing(reason, _) => Err(reason),
        }
    }

    #[test]
    fn a_plain_password_is_hashed_once() {
        let want = want(PasswordSource::Plain);
        let first = resolved(&want, None, "correct horse\n").unwrap();
        assert!(first.starts_with("{SHA512-CRYPT}$6$"), "{first}");
        assert_eq!(resolved(&want, Some(&first), "correct horse").unwrap(), first);
        assert_ne!(resolved(&want, Some(&first), "another").unwrap(), first);
    }

    #[test]
    fn a_given_hash_is_stored_as_it_is() {
        let want = want(PasswordSource::Hash);
        assert_eq!(resolved(&want, None, "82fU0EHEzA6wo\n").unwrap(), "82fU0EHEzA6wo");
        assert_eq!(resolved(&want, None, "two words"), Err(Reason::SecretInvalid));
        assert_eq!(resolved(&want, None, "two\nlines"), Err(Reason::SecretInvalid));
        assert_eq!(resolved(&want, None, ""), Err(Reason::SecretInvalid));
    }
}
