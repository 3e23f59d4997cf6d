//! Schemes of password hashes, recognised by their text.
//!
//! Pure: nothing here makes or checks a hash ([`crate::password`] does), and nothing that is given back holds a part of
//! the text: what looks like a `{SCHEME}` may be somebody's password.

/// Schemes that are slow enough to guess, in Dovecot's names.
const STRONG: [&str; 12] = [
    "SHA256-CRYPT",
    "SHA512-CRYPT",
    "BLF-CRYPT",
    "ARGON2I",
    "ARGON2ID",
    "PBKDF2",
    "SCRAM-SHA-256",
    "SCRYPT",
    "YESCRYPT",
    "BCRYPT",
    "SHA256CRYPT",
    "SHA512CRYPT",
];

/// Schemes that are quick to guess, or no hash at all.
const WEAK: [&str; 29] = [
    "PLAIN",
    "PLAIN-TRUNC",
    "CLEAR",
    "CLEARTEXT",
    "DES-CRYPT",
    "MD5",
    "MD5-CRYPT",
    "PLAIN-MD4",
    "PLAIN-MD5",
    "LDAP-MD5",
    "SMD5",
    "CRAM-MD5",
    "HMAC-MD5",
    "DIGEST-MD5",
    "LANMAN",
    "NTLM",
    "RPA",
    "OTP",
    "SKEY",
    "MD5RAW",
    "SHA",
    "SHA1",
    "SSHA",
    "SHA256",
    "SSHA256",
    "SHA512",
    "SSHA512",
    "SCRAM-SHA-1",
    "MYSQL",
];

/// What crypt(5) writes before a hash that is slow to guess.
const STRONG_CRYPT: [&str; 10] =
    ["$5$", "$6$", "$2a$", "$2b$", "$2y$", "$argon2i$", "$argon2id$", "$y$", "$gy$", "$7$"];

/// A name that is none: the scheme can't be told from the text.
const UNKNOWN: &str = "no known scheme";

/// The scheme of a stored password if it is weak or not known, by a name that is safe to show; `None` where it is strong
/// or where the text only locks the account.
#[must_use]
pub fn weakness(stored: &str) -> Option<&'static str> {
    let Some((name, hash)) = stored.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return crypt_weakness(stored);
    };
    let name = name.to_ascii_uppercase();
    // Dovecot's suffixes say how the hash is written, not what it is.
    let name =
        [".B64", ".BASE64", ".HEX"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
    match name {
        "CRYPT" => crypt_weakness(hash),
        name if STRONG.contains(&name) => None,
        name => Some(WEAK.into_iter().find(|weak| *weak == name).unwrap_or(UNKNOWN)),
    }
}

fn crypt_weakness(hash: &str) -> Option<&'static str> {
    let is_crypt = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/'));
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    match hash.len() {
        1 if matches!(hash, "!" | "*") => None,
        _ if STRONG_CRYPT.iter().any(|prefix| hash.starts_with(prefix)) => None,
        _ if hash.starts_with("$1$") || hash.starts_with("$apr1$") => Some("MD5-CRYPT"),
        13 if is_crypt(hash) => Some("DES-CRYPT"),
        20 if hash.strip_prefix('_').is_some_and(is_crypt) => Some("DES-CRYPT"),
        32 if is_hex(hash) => Some("PLAIN-MD5"),
        40 if is_hex(hash) => Some("SHA1"),
        41 if hash.strip_prefix('*').is_some_and(is_hex) => Some("MYSQL"),
        _ => Some(UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_schemes_are_told_by_name() {
        for (stored, name) in [
            ("82fU0EHEzA6wo", "DES-CRYPT"),
            ("{CRYPT}82fU0EHEzA6wo", "DES-CRYPT"),
            ("_J9..rasmBYk8r9AiWNc", "DES-CRYPT"),
            ("$1$salt$qJH7.N4xYta3aEG/dfqo/0", "MD5-CRYPT"),
            ("5f4dcc3b5aa765d61d8327deb882cf99", "PLAIN-MD5"),
            ("{plain-md5}5f4dcc3b5aa765d61d8327deb882cf99", "PLAIN-MD5"),
            ("{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SSHA"),
            ("{SHA512.b64}sQnzu7wkTrgkQZF+0G1hi5AI3Qmzvv0b", "SHA512"),
            ("{PLAIN}secret", "PLAIN"),
            ("*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19", "MYSQL"),
        ] {
            assert_eq!(weakness(stored), Some(name), "{stored}");
        }
    }

    #[test]
    fn strong_schemes_and_locks_are_not_told() {
        for stored in [
            "{SHA512-CRYPT}$6$salt$hash",
            "{SHA512-CRYPT.B64}JDYk",
            "{CRYPT}$6$salt$hash",
            "{blf-crypt}$2y$10$hash",
            "$2y$10$hash",
            "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
            "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
            "!",
            "*",
        ] {
            assert_eq!(weakness(stored), None, "{stored}");
        }
    }

    #[test]
    fn no_part_of_an_unknown_text_is_shown() {
        assert_eq!(weakness("{hunter2}"), Some(UNKNOWN));
        assert_eq!(weakness("correct-horse"), Some(UNKNOWN));
        assert_eq!(weakness(""), Some(UNKNOWN));
    }
}
