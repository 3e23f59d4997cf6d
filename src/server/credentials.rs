//! Whether the Secrets that a user names for an external database can be mounted into the Postfix pod. Reads no value
//! further than to see that it is there.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::Error;
use super::apply::bounded;
use super::build::{PASSWORD_KEY, USERNAME_KEY};
use super::database::Endpoint;
use super::validate::ValidatedServer;
use crate::api::Reason;
use crate::report::Finding;

/// The first thing that is missing, named; `None`: the pod can start.
///
/// # Errors
/// When the API server can't be asked.
pub async fn obstacle(client: &Client, server: &ValidatedServer) -> Result<Option<Finding>, Error> {
    let Some(endpoint) = server.endpoint.as_ref().filter(|endpoint| !endpoint.embedded) else {
        return Ok(None);
    };
    let secrets = Api::<Secret>::namespaced(client.clone(), &server.name.namespace);
    for (name, keys) in needed(endpoint) {
        let secret = bounded(&format!("Secret {name}"), secrets.get_opt(name)).await?;
        if let Some(finding) = missing(name, &keys, secret.as_ref()) {
            return Ok(Some(finding));
        }
    }
    Ok(None)
}

/// The first thing that is missing of the Secrets that Postfix goes on without, with what that means.
///
/// # Errors
/// When the API server can't be asked.
pub async fn shortcoming(client: &Client, server: &ValidatedServer) -> Result<Option<Finding>, Error> {
    let secrets = Api::<Secret>::namespaced(client.clone(), &server.name.namespace);
    for (name, keys, meaning) in [
        (
            &server.postfix.tls_secret,
            ["tls.crt", "tls.key"],
            "TLS is not offered, or with the certificate before it",
        ),
        (
            &server.postfix.relay_secret,
            [USERNAME_KEY, PASSWORD_KEY],
            "mail for the relay host waits in the queue",
        ),
    ] {
        let Some(name) = name else { continue };
        let secret = bounded(&format!("Secret {name}"), secrets.get_opt(name)).await?;
        if let Some(finding) = missing(name, &keys, secret.as_ref()) {
            return Ok(Some(Finding { message: format!("{}: {meaning}", finding.message), ..finding }));
        }
    }
    Ok(None)
}

/// What the pod mounts: Secrets and their keys.
fn needed(endpoint: &Endpoint) -> Vec<(&str, Vec<&str>)> {
    let account = (endpoint.reader_secret.as_str(), vec![USERNAME_KEY, PASSWORD_KEY]);
    let authority = endpoint.tls.as_ref().map(|ca| (ca.name.as_str(), vec![ca.key.as_str()]));
    [account].into_iter().chain(authority).collect()
}

fn missing(name: &str, keys: &[&str], secret: Option<&Secret>) -> Option<Finding> {
    let Some(secret) = secret else {
        return Some(Finding::bad(
            Reason::SecretNotFound,
            format!("there is no Secret {name} in this namespace"),
        ));
    };
    let has = |key: &str| {
        secret.data.as_ref().and_then(|data| data.get(key)).is_some_and(|value| !value.0.is_empty())
    };
    let absent = keys.iter().find(|key| !has(key))?;
    Some(Finding::bad(Reason::SecretInvalid, format!("Secret {name} has nothing under the key {absent}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_the_secret_and_the_key() {
        let secret: Secret =
            serde_json::from_value(json!({"data": {"username": "cg==", "password": ""}})).unwrap();
        let finding = missing("reader", &["username", "password"], Some(&secret)).unwrap();
        assert_eq!(finding.reason, Reason::SecretInvalid);
        assert!(finding.message.contains("reader") && finding.message.contains("password"));
        assert_eq!(missing("reader", &["username"], Some(&secret)), None);
        assert_eq!(missing("reader", &["username"], None).unwrap().reason, Reason::SecretNotFound);
    }
}
