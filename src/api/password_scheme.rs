//! How plain text passwords are stored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Scheme of the hashes that the operator makes of plain text passwords, named as `PostfixAdmin` and Dovecot name it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, JsonSchema, PartialEq, Serialize)]
#[schemars(transform = crate::api::without_description)]
pub enum PasswordScheme {
    /// SHA-512 of crypt(5), with its default number of rounds.
    #[default]
    #[serde(rename = "SHA512-CRYPT")]
    Sha512Crypt,
    /// bcrypt with cost 10. Takes passwords of at most 71 bytes.
    #[serde(rename = "BLF-CRYPT")]
    BlfCrypt,
    /// Argon2id with 19 MiB, 2 passes and 1 lane.
    #[serde(rename = "ARGON2ID")]
    Argon2id,
}

impl PasswordScheme {
    /// What stands before its hashes.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Sha512Crypt => "{SHA512-CRYPT}",
            Self::BlfCrypt => "{BLF-CRYPT}",
            Self::Argon2id => "{ARGON2ID}",
        }
    }
}
