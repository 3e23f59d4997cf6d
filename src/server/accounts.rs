//! Accounts of the embedded database: made once, kept in Secrets, read back ever after.

use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};

use super::Error;
use super::apply::{bounded, require_owned};
use super::build::{PASSWORD_KEY, account_secret, names};
use super::validate::ValidatedServer;

/// Characters of a password: none that SQL, a Postfix query file or an option file reads in a way of its own.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Length of a password: 190 bits.
const PASSWORD_LENGTH: usize = 32;

/// An account of the embedded database.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Account {
    /// The superuser, from inside the pod only.
    Root,
    /// Writes the tables: the operator.
    Writer,
    /// Reads the columns that look-ups name: Postfix.
    Reader,
}

impl Account {
    /// Its name in the database.
    #[must_use]
    pub fn username(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Writer => "postfixadmin",
            Self::Reader => "postfixserver",
        }
    }

    /// Name of its Secret, given the name of the `MailServer`.
    #[must_use]
    pub fn secret(self, server: &str) -> String {
        match self {
            Self::Root => names::root_secret(server),
            Self::Writer => names::writer_secret(server),
            Self::Reader => names::reader_secret(server),
        }
    }
}

/// The passwords of the three accounts: letters and digits. No `Debug`, so that they get into no log.
#[derive(Clone)]
pub struct Accounts {
    /// Of [`Account::Root`].
    pub root: String,
    /// Of [`Account::Writer`].
    pub writer: String,
    /// Of [`Account::Reader`].
    pub reader: String,
}

/// The accounts of a server's embedded database, made where they are missing.
///
/// # Errors
/// When the API server can't be asked, or a Secret of that name is somebody else's or has been spoilt.
pub async fn ensure(client: &Client, server: &ValidatedServer) -> Result<Accounts, Error> {
    let secrets = Api::namespaced(client.clone(), &server.name.namespace);
    Ok(Accounts {
        root: password(&secrets, server, Account::Root).await?,
        writer: password(&secrets, server, Account::Writer).await?,
        reader: password(&secrets, server, Account::Reader).await?,
    })
}

async fn password(
    secrets: &Api<Secret>,
    server: &ValidatedServer,
    account: Account,
) -> Result<String, Error> {
    let name = account.secret(&server.name.name);
    let what = format!("Secret {name}");
    if let Some(secret) = bounded(&what, secrets.get_opt(&name)).await? {
        require_owned(&secret, server)?;
        return stored_password(&secret).ok_or(Error::AccountSecret(name));
    }
    let password = generate()?;
    let secret = account_secret(server, account, &password);
    // Not applied but created: a Secret that appeared meanwhile is an error here, and read at the next attempt.
    bounded(&what, secrets.create(&PostParams::default(), &secret)).await?;
    Ok(password)
}

/// The password of an account Secret, if it is one that the operator could have made.
fn stored_password(secret: &Secret) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(PASSWORD_KEY)?.0;
    let fits = bytes.len() >= PASSWORD_LENGTH && bytes.iter().all(u8::is_ascii_alphanumeric);
    fits.then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn generate() -> Result<String, Error> {
    let mut password = String::with_capacity(PASSWORD_LENGTH);
    let mut random = [0; PASSWORD_LENGTH * 2];
    while password.len() < PASSWORD_LENGTH {
        getrandom::fill(&mut random).map_err(|_| Error::Random)?;
        // Bytes that would make some letters likelier than others are thrown away.
        let even = random.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        let letters = even.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]));
        password.extend(letters.take(PASSWORD_LENGTH - password.len()));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(password: &str) -> Secret {
        let data = [(PASSWORD_KEY.to_owned(), ByteString(password.as_bytes().to_vec()))];
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn passwords_are_long_plain_and_different() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert_eq!(one.len(), 32);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, other);
        assert_eq!(stored_password(&secret(&one)), Some(one));
    }

    #[test]
    fn a_password_that_could_break_out_of_a_statement_is_none_of_ours() {
        assert_eq!(stored_password(&secret("x'; DROP DATABASE mail; -- xxxxxxxxxxxxx")), None);
        assert_eq!(stored_password(&secret("short")), None);
        assert_eq!(stored_password(&Secret::default()), None);
    }
}
