//! Look-up tables in the database, `mysql_table(5)`.

use super::text::{Error, Parameters};
use super::{CONFIG_DIRECTORY, DatabaseEndpoint};

/// How the name of a file ends that describes a look-up in the database and needs credentials.
pub const SUFFIX: &str = "_maps.cf";

/// Name, in the configuration directory, of the certificate of the authority that signed the database's.
pub const AUTHORITY_FILE: &str = "ca.crt";

/// Name, in the configuration directory, of the options of the database's client library.
pub(super) const CLIENT_FILE: &str = "mysql.cnf";

/// Options that `mysql_table(5)` has no parameters for. Without a limit a process waits two minutes for the address of
/// a database that is gone, and all smtpd(8) wait for the one trivial-rewrite(8).
pub(super) const CLIENT: &str = "[client]\nconnect-timeout = 3\n";

/// File and query; main.cf names the files. What is not active does not exist. `{p}` is the prefix of the tables' names.
///
/// `%u@%d` keeps look-ups of parts of an address out of the database. Postfix asks for `@domain` last, so a tagged address
/// (`bill+tag@`) finds its mailbox before a catch-all.
pub(super) const ALL: [(&str, &str); 7] = [
    ("domains_maps.cf", "SELECT domain FROM {p}domain WHERE domain = '%s' AND backupmx = 0 AND active = 1"),
    (
        "relay_domains_maps.cf",
        "SELECT domain FROM {p}domain WHERE domain = '%s' AND backupmx = 1 AND active = 1",
    ),
    // Keys without an address, and the parents of a domain, have no answer. One that is switched off is in no class of
    // Postfix's: without an answer its mail would leave for the domain's MX hosts or the relay host.
    (
        "transport_maps.cf",
        "SELECT CASE active WHEN 0 THEN 'error:5.1.2 domain is switched off' ELSE transport END FROM {p}domain \
         WHERE domain = '%d' AND (active = 0 OR transport NOT IN ('', 'virtual'))",
    ),
    ("mailbox_maps.cf", "SELECT maildir FROM {p}mailbox WHERE username = '%s' AND active = 1"),
    ("alias_maps.cf", "SELECT goto FROM {p}alias WHERE address = '%s' AND active = 1"),
    // Asked where an address has no row of its own: the row of the same local part, or the catch-all, in the domain that its
    // domain is an alias of. In one query with the above it would cost every message: to plan both costs a server twice what
    // the above costs alone.
    (
        "alias_domain_maps.cf",
        "SELECT goto FROM {p}alias WHERE active = 1 AND address = (SELECT CONCAT(SUBSTRING_INDEX('%s', '@', 1), '@', target_domain) \
         FROM {p}alias_domain WHERE alias_domain = SUBSTRING_INDEX('%s', '@', -1) AND active = 1)",
    ),
    // A mailbox that is switched off, under its own domain or an alias of it. DUNNO ends the search: what has a row of its own
    // is not looked up without its extension.
    (
        "disabled_maps.cf",
        "SELECT COALESCE((SELECT IF(active = 0, '550 5.1.1 mailbox disabled', 'DUNNO') FROM {p}mailbox WHERE username = '%u@%d'), \
         (SELECT 'DUNNO' FROM {p}alias WHERE address = '%u@%d' AND active = 1), \
         (SELECT IF(active = 0, '550 5.1.1 mailbox disabled', 'DUNNO') FROM {p}mailbox WHERE username = \
         (SELECT CONCAT('%u@', target_domain) FROM {p}alias_domain WHERE alias_domain = '%d' AND active = 1)), \
         (SELECT 'DUNNO' FROM {p}alias WHERE active = 1 AND address = \
         (SELECT CONCAT('%u@', target_domain) FROM {p}alias_domain WHERE alias_domain = '%d' AND active = 1)))",
    ),
];

/// File and column of the look-ups of who mail is delivered as.
pub(super) const IDS: [(&str, &str); 2] = [("uid_maps.cf", "uid"), ("gid_maps.cf", "gid")];

/// The owner of the mailbox, else of the domain, else the server's. It answers where `mailbox_maps.cf` does, no more and no
/// less: Postfix takes an extension off in the same way for both, so the owner is that of the mailbox that was found. A
/// `static:` map after it would answer for the tagged address before the plain one is asked for.
pub(super) fn id(column: &str, otherwise: i32) -> String {
    let of = |key: &str| format!("(SELECT {column} FROM {{p}}vmail_id WHERE row_key = {key})");
    let [own, domain] = ["'%s'", "'%d'"].map(of);
    format!(
        "SELECT COALESCE({own}, {domain}, {otherwise}) FROM {{p}}mailbox WHERE username = '%s' AND active = 1"
    )
}

const HOST_RULE: &str = "write a host name or IPv4 address, as in db.example.org, not localhost";
const PREFIX_RULE: &str = "write a prefix of letters, digits and _";
const DATABASE_RULE: &str = "write a name of letters, digits, _ and -";

pub(super) fn render(query: &str, database: &DatabaseEndpoint<'_>) -> Result<String, Error> {
    let mut text = Parameters::default();
    text.value(
        "database.external.tablePrefix",
        "query",
        &query.replace("{p}", prefix(database.table_prefix)?),
    )?;
    let host = format!("{}:{}", host(database.host)?, database.port);
    // After an error Postfix leaves a host alone for a minute. With the same host twice it tries the other one at once,
    // so that a lost connection defers no mail; and one second is enough (known since Postfix 3.9, ignored before).
    text.value("database.external.host", "hosts", &format!("{host} {host}"))?;
    text.fixed("retry_interval", "1");
    text.fixed("option_file", format!("{CONFIG_DIRECTORY}/{CLIENT_FILE}"));
    text.value("database.external.name", "dbname", name(database.name)?)?;
    if database.tls {
        text.value("database.external.tls", "tls_CAfile", &format!("{CONFIG_DIRECTORY}/{AUTHORITY_FILE}"))?;
        // MariaDB's client since 3.4 checks chain and name, or with `no` neither: never less than was asked for.
        text.fixed("tls_verify_cert", "yes");
    }
    Ok(text.into_text())
}

fn host(host: &str) -> Result<&str, Error> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'.' || c == b'-';
    // The client library takes localhost for a socket of its own, whatever the port says.
    let is_socket = host.eq_ignore_ascii_case("localhost");
    let usable =
        host.starts_with(|c: char| c.is_ascii_alphanumeric()) && host.bytes().all(allowed) && !is_socket;
    if usable { Ok(host) } else { Err(Error::new("database.external.host", HOST_RULE)) }
}

fn name(name: &str) -> Result<&str, Error> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    let usable = !name.is_empty() && name.bytes().all(allowed);
    if usable { Ok(name) } else { Err(Error::new("database.external.name", DATABASE_RULE)) }
}

fn prefix(prefix: &str) -> Result<&str, Error> {
    let usable = prefix.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    if usable { Ok(prefix) } else { Err(Error::new("database.external.tablePrefix", PREFIX_RULE)) }
}

/// A user name or password that can't stand in a look-up table's file, where a value is the rest of its line without
/// the white space around it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CredentialError {
    /// Nothing, or nothing but white space.
    #[error("is empty")]
    Empty,
    /// A new line or another control character: often the one at the end of a file that a Secret was made from.
    #[error("has a new line or another control character, which Postfix can't read: write it without")]
    ControlCharacter,
    /// White space that Postfix would take away.
    #[error("begins or ends with a space, which Postfix can't read: write it without")]
    OuterSpace,
    /// A colon, which ends the user name in a table of accounts.
    #[error("has a colon, which Postfix can't read: write it without")]
    Colon,
}

/// The lines that give a look-up table's file its account. `$`, `#` and quotes need no care: Postfix expands and
/// unquotes nothing in these files.
///
/// # Errors
/// Which of `username` and `password` can't be written, and why.
pub fn credential_lines(username: &str, password: &str) -> Result<String, (&'static str, CredentialError)> {
    let username = credential(username).map_err(|error| ("username", error))?;
    let password = credential(password).map_err(|error| ("password", error))?;
    Ok(format!("user = {username}\npassword = {password}\n"))
}

pub(super) fn credential(value: &str) -> Result<&str, CredentialError> {
    if value.contains(char::is_control) {
        return Err(CredentialError::ControlCharacter);
    }
    match value.trim() {
        "" => Err(CredentialError::Empty),
        trimmed if trimmed == value => Ok(value),
        _ => Err(CredentialError::OuterSpace),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_printable_password_is_written_as_it_is() {
        for password in
            ["p$word", "#hash", "\"quoted\" 'too'", "pässwörd", "a = b", "%s", "{x}", "back\\slash\\"]
        {
            let lines = credential_lines("postfixserver", password).unwrap();
            assert_eq!(lines, format!("user = postfixserver\npassword = {password}\n"));
        }
    }

    #[test]
    fn what_postfix_would_read_differently_is_refused() {
        for (password, error) in [
            ("", CredentialError::Empty),
            ("  ", CredentialError::Empty),
            (" leading", CredentialError::OuterSpace),
            ("trailing ", CredentialError::OuterSpace),
            ("line\n", CredentialError::ControlCharacter),
            ("a\nhosts = evil.example.org", CredentialError::ControlCharacter),
            ("nul\0", CredentialError::ControlCharacter),
        ] {
            assert_eq!(credential_lines("postfixserver", password), Err(("password", error)), "{password:?}");
            assert_eq!(credential_lines(password, "secret"), Err(("username", error)), "{password:?}");
        }
    }
}
