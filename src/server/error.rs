//! What can go wrong with a server, and what of it its status tells.

use std::time::Duration;

use super::validate::Invalid;
use crate::api::Reason;
use crate::postfix;
use crate::report::Finding;

/// Why a server was not reconciled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused a request or could not be asked.
    #[error("{what}: {}", words(source))]
    Api {
        /// The object, or what was listed.
        what: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("{what}: no answer from the API server within {} s", limit.as_secs())]
    Timeout {
        /// The object, or what was listed.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The spec can't be used.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A value of the spec can't be written into Postfix's configuration.
    #[error(transparent)]
    Config(#[from] postfix::Error),
    /// An object that the server needs is somebody else's.
    #[error(
        "{0} is there already and belongs to somebody else: remove it, or make the MailServer under another name"
    )]
    NotOwned(String),
    /// An object of a deleted `MailServer` of the same name is still there.
    #[error("{0} is left from a deleted MailServer of this name and about to be removed, trying again")]
    Leftover(String),
    /// An account Secret was changed by hand.
    #[error(
        "Secret {0} has no password of letters and digits under the key password: put it back, or delete the Secret to have a new one made"
    )]
    AccountSecret(String),
    /// The system gives no random numbers.
    #[error("no random numbers from the system")]
    Random,
    /// An object has no JSON form.
    #[error("object can't be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// Whether the object that was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether the API server finds fault with an object's content.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.code() == Some(422)
    }

    /// The API server's status code.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }

    /// What the condition `ConfigValid` tells; `None` for what passes by itself.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let told = match self {
            Self::Config(_) => return Some(Finding::bad(Reason::ConfigInvalid, self.to_string())),
            Self::Invalid(_) | Self::NotOwned(_) | Self::AccountSecret(_) => true,
            // Trying again helps only after something was changed.
            Self::Api { .. } => self.code().is_some_and(|code| [400, 403, 422].contains(&code)),
            Self::Leftover(_) | Self::Timeout { .. } | Self::Random | Self::Json(_) => false,
        };
        told.then(|| Finding::bad(Reason::Invalid, self.to_string()))
    }
}

/// What the API server says, without the fields around it.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}
