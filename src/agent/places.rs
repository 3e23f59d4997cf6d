//! Where everything is in the pod.

use std::path::PathBuf;

use super::contract;
use crate::postfix::CONFIG_DIRECTORY;

/// Directories that the running agent works with. Tests have others.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The `ConfigMap`.
    pub config: PathBuf,
    /// The Secret of the database account.
    pub credentials: PathBuf,
    /// The look-up files, if accounts are looked up in files.
    pub maps: PathBuf,
    /// The compiled look-up files.
    pub compiled_maps: PathBuf,
    /// The Secret with the certificate for SMTP clients, if there is one.
    pub tls: PathBuf,
    /// The Secret with the account at the relay host, if there is one.
    pub relay: PathBuf,
    /// The pod's annotations.
    pub pod: PathBuf,
    /// Postfix's configuration directory; the agent works beside it.
    pub config_directory: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            config: contract::CONFIG.into(),
            credentials: contract::CREDENTIALS.into(),
            maps: contract::MAPS.into(),
            compiled_maps: PathBuf::from(contract::DATA).join("maps"),
            tls: contract::TLS.into(),
            relay: contract::RELAY.into(),
            pod: contract::POD.into(),
            config_directory: CONFIG_DIRECTORY.into(),
        }
    }
}
