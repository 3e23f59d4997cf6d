//! The server that mail for others is handed to, `relayhost` of postconf(5), and the account there.

use super::queries::CredentialError;
use super::text::{Error, Parameters};
use crate::api::mail_server::{Postfix, RelayHost};
use crate::api::next_hop::{HOST_MESSAGE, is_host};

/// Name, in the configuration directory, of the table with the account: the agent writes it, in memory.
pub const PASSWORD_FILE: &str = "sasl_passwd";

/// The parameter that names [`PASSWORD_FILE`].
pub const PASSWORD_PARAMETER: &str = "smtp_sasl_password_maps";

/// Its value where there is an account.
const PASSWORD_TABLE: &str = "texthash:$config_directory/sasl_passwd";

const PORT_RULE: &str = "write a port from 1 to 65535";
const LEVEL_RULE: &str = "with relayHost.credentialsSecretRef write encrypt, verify or secure, or leave it out: a password is not sent without TLS";

/// Levels of `smtp_tls_security_level` that never send without TLS.
const ENCRYPTED: [&str; 3] = ["encrypt", "verify", "secure"];

pub(super) fn render(text: &mut Parameters, postfix: Option<&Postfix>) -> Result<(), Error> {
    let Some((postfix, relay_host)) =
        postfix.and_then(|postfix| Some((postfix, postfix.relay_host.as_ref()?)))
    else {
        return Ok(());
    };
    text.value("postfix.relayHost", "relayhost", &destination(relay_host)?)?;
    if relay_host.credentials_secret_ref.is_some() {
        let written = postfix.parameters.as_ref().and_then(|all| all.get("smtp_tls_security_level"));
        if written.is_some_and(|level| !ENCRYPTED.contains(&level.as_str())) {
            return Err(Error::new("postfix.parameters.smtp_tls_security_level", LEVEL_RULE));
        }
        text.value("postfix.relayHost", "smtp_tls_security_level", "encrypt")?;
        text.fixed("smtp_sasl_auth_enable", "yes");
        text.fixed(PASSWORD_PARAMETER, PASSWORD_TABLE);
        // Plain passwords, but only where TLS hides them: without it Postfix's own default stands.
        text.fixed("smtp_sasl_security_options", "noplaintext, noanonymous");
        text.fixed("smtp_sasl_tls_security_options", "noanonymous");
    }
    Ok(())
}

/// In brackets: the host itself is meant, not its MX records.
fn destination(relay_host: &RelayHost) -> Result<String, Error> {
    let host = &relay_host.host;
    if !is_host(host) || host.contains(|c: char| c.is_ascii_uppercase()) {
        return Err(Error::new("postfix.relayHost.host", HOST_MESSAGE));
    }
    let port = u16::try_from(relay_host.port()).ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| Error::new("postfix.relayHost.port", PORT_RULE))?;
    Ok(format!("[{host}]:{port}"))
}

/// main.cf for as long as there is no account that can be used: the look-up for the relay host fails, and smtp(8) puts
/// its mail off in place of sending it without one. The look-up for any other server finds nothing, as it did before. A
/// table that is not there would be a complaint of smtp(8), for which the whole configuration is refused.
#[must_use]
pub fn without_account(main_cf: &str) -> String {
    let Some(destination) = relayhost(main_cf) else { return main_cf.to_owned() };
    let named = format!("{PASSWORD_PARAMETER} = {PASSWORD_TABLE}\n");
    let failing =
        format!("{PASSWORD_PARAMETER} = pipemap:{{inline:{{{destination}=none}}, fail:no-account}}\n");
    main_cf.split_inclusive('\n').map(|line| if line == named { failing.as_str() } else { line }).collect()
}

/// The server that mail for others is handed to, as main.cf writes it; `None`: there is none.
#[must_use]
pub fn relayhost(main_cf: &str) -> Option<&str> {
    main_cf.lines().find_map(|line| line.strip_prefix("relayhost = "))
}

/// The table with the account, for the relay host that `main_cf` names; `None` when it names none.
///
/// # Errors
/// The Secret's key with a value that the table can't hold, and why.
pub fn password_table(
    main_cf: &str,
    username: &str,
    password: &str,
) -> Result<Option<String>, (&'static str, CredentialError)> {
    let Some(destination) = relayhost(main_cf) else { return Ok(None) };
    let username = super::queries::credential(username).map_err(|error| ("username", error))?;
    let password = super::queries::credential(password).map_err(|error| ("password", error))?;
    // smtp(8) splits at the first colon.
    if username.contains(':') {
        return Err(("username", CredentialError::Colon));
    }
    Ok(Some(format!("{destination} {username}:{password}\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_the_destination_as_main_cf_does() {
        let main = "myhostname = a\nrelayhost = [smtp.example.net]:587\n";
        assert_eq!(
            password_table(main, "me", "p:$ #x").unwrap().as_deref(),
            Some("[smtp.example.net]:587 me:p:$ #x\n")
        );
        assert_eq!(password_table("myhostname = a\n", "me", "x").unwrap(), None);
    }

    #[test]
    fn a_relay_host_that_would_end_every_smtp_client_is_not_written() {
        let destination = |host: &str, port| {
            destination(&RelayHost { host: host.to_owned(), port, credentials_secret_ref: None })
        };
        assert_eq!(destination("smtp.example.net", None).unwrap(), "[smtp.example.net]:25");
        assert_eq!(destination("192.0.2.7", Some(65_535)).unwrap(), "[192.0.2.7]:65535");
        for host in ["", "..", "-", "a..b", "a.", "12345", "SMTP.example.net", "a]:25"] {
            assert!(destination(host, None).is_err(), "{host:?}");
        }
        for port in [-1, 0, 65_536] {
            assert!(destination("smtp.example.net", Some(port)).is_err(), "{port}");
        }
    }

    #[test]
    fn without_an_account_mail_for_the_relay_host_waits_and_no_other() {
        let main = "relayhost = [smtp.example.net]:587\nsmtp_sasl_auth_enable = yes\n\
            smtp_sasl_password_maps = texthash:$config_directory/sasl_passwd\nmyhostname = a\n";
        let waiting = "relayhost = [smtp.example.net]:587\nsmtp_sasl_auth_enable = yes\n\
            smtp_sasl_password_maps = pipemap:{inline:{[smtp.example.net]:587=none}, fail:no-account}\nmyhostname = a\n";
        assert_eq!(without_account(main), waiting);
        for main in ["myhostname = a\n", "relayhost = [smtp.example.net]:587\n"] {
            assert_eq!(
                without_account(main),
                main,
                "a relay host that wants no account is sent to without one"
            );
        }
    }

    #[test]
    fn an_account_that_postfix_would_read_differently_is_refused() {
        let main = "relayhost = [smtp.example.net]:587\n";
        assert_eq!(password_table(main, "m:e", "x"), Err(("username", CredentialError::Colon)));
        for bad in ["", "a\n[other]:25 you:y", " x", "x "] {
            assert!(
                password_table(main, bad, "x").is_err() && password_table(main, "me", bad).is_err(),
                "{bad:?}"
            );
        }
    }
}
