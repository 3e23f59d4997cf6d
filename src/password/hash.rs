//! Hashes of plain text passwords. No IO but the system's random numbers; slow on purpose.

use argon2::Argon2;
use sha_crypt::{PasswordHasher, PasswordVerifier, ShaCrypt};

use crate::api::PasswordScheme;

/// bcrypt's cost: that of PHP before 8.4 and the least that OWASP advises, some 50 ms.
const BCRYPT_COST: u32 = 10;

/// The `{SCHEME}hash` of a password: the stored one where it is of this scheme and the password still fits it, so that a
/// Secret that was written again with the same text changes nothing.
///
/// # Errors
/// What is wrong with the password, as the end of a sentence.
pub(super) fn hash(
    plain: &str,
    scheme: PasswordScheme,
    stored: Option<&str>,
) -> Result<String, &'static str> {
    let of_scheme = stored.and_then(|stored| stored.strip_prefix(scheme.prefix()));
    match (stored, of_scheme) {
        (Some(stored), Some(hash)) if verifies(plain, scheme, hash) => Ok(stored.to_owned()),
        _ => Ok(format!("{}{}", scheme.prefix(), new_hash(plain, scheme)?)),
    }
}

fn verifies(plain: &str, scheme: PasswordScheme, hash: &str) -> bool {
    let plain = plain.as_bytes();
    match scheme {
        PasswordScheme::Sha512Crypt => {
            PasswordVerifier::<str>::verify_password(&ShaCrypt::SHA512, plain, hash).is_ok()
        }
        PasswordScheme::BlfCrypt => bcrypt::non_truncating_verify(plain, hash).unwrap_or(false),
        PasswordScheme::Argon2id => {
            PasswordVerifier::<str>::verify_password(&Argon2::default(), plain, hash).is_ok()
        }
    }
}

fn new_hash(plain: &str, scheme: PasswordScheme) -> Result<String, &'static str> {
    let plain = plain.as_bytes();
    match scheme {
        PasswordScheme::Sha512Crypt => ShaCrypt::SHA512
            .hash_password(plain)
            .map(|hash| hash.as_str().to_owned())
            .map_err(|_| "can't be hashed"),
        // PHP, and PostfixAdmin with it, knows bcrypt's hashes as $2y$.
        PasswordScheme::BlfCrypt => bcrypt::non_truncating_hash_with_result(plain, BCRYPT_COST)
            .map(|parts| parts.format_for_version(bcrypt::Version::TwoY))
            .map_err(|error| match error {
                bcrypt::BcryptError::Truncation(_) => "is longer than the 71 bytes that BLF-CRYPT takes",
                _ => "can't be hashed",
            }),
        PasswordScheme::Argon2id => {
            Argon2::default().hash_password(plain).map(|hash| hash.to_string()).map_err(|_| "can't be hashed")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_writes_its_prefix_and_keeps_what_fits() {
        for (scheme, start) in [
            (PasswordScheme::Sha512Crypt, "{SHA512-CRYPT}$6$"),
            (PasswordScheme::BlfCrypt, "{BLF-CRYPT}$2y$10$"),
            (PasswordScheme::Argon2id, "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$"),
        ] {
            let first = hash("correct horse", scheme, None).unwrap();
            assert!(first.starts_with(start), "{first}");
            assert!(first.len() <= 255, "{first}");
            assert_eq!(hash("correct horse", scheme, Some(&first)).unwrap(), first);
            assert_ne!(hash("another", scheme, Some(&first)).unwrap(), first);
            assert_eq!(crate::scheme::weakness(&first), None);
        }
    }

    #[test]
    fn a_hash_of_another_scheme_is_made_anew() {
        let old = hash("correct horse", PasswordScheme::Sha512Crypt, None).unwrap();
        let new = hash("correct horse", PasswordScheme::BlfCrypt, Some(&old)).unwrap();
        assert!(new.starts_with("{BLF-CRYPT}"), "{new}");
    }

    #[test]
    fn a_password_that_bcrypt_would_cut_off_is_refused() {
        assert!(hash(&"x".repeat(71), PasswordScheme::BlfCrypt, None).is_ok());
        let refused = hash(&"x".repeat(72), PasswordScheme::BlfCrypt, None);
        assert_eq!(refused, Err("is longer than the 71 bytes that BLF-CRYPT takes"));
    }
}
