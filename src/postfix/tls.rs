//! TLS for SMTP clients, `smtpd_tls_*` of postconf(5).

use super::text::Parameters;
use crate::api::mail_server::Postfix;

/// Name, in the configuration directory, of the file with the private key and the certificates: the agent writes it,
/// in memory.
pub const CHAIN_FILE: &str = "tls.pem";

/// The parameter that names [`CHAIN_FILE`].
pub const CHAIN_PARAMETER: &str = "smtpd_tls_chain_files";

/// What main.cf says only where there is a certificate.
const LINES: [(&str, &str); 2] =
    [("smtpd_tls_security_level", "may"), (CHAIN_PARAMETER, "$config_directory/tls.pem")];

pub(super) fn server(text: &mut Parameters, postfix: Option<&Postfix>) {
    if postfix.is_some_and(|postfix| postfix.tls.is_some()) {
        for (name, value) in LINES {
            text.fixed(name, value);
        }
    }
}

/// main.cf for as long as there is no certificate: STARTTLS is not offered and mail goes on without. A level that the
/// user wrote stays: who demands TLS gets no mail without it.
#[must_use]
pub fn without_certificate(main_cf: &str) -> String {
    let dropped = LINES.map(|(name, value)| format!("{name} = {value}"));
    main_cf.split_inclusive('\n').filter(|line| !dropped.iter().any(|drop| drop == line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_certificate_no_tls_is_offered_and_a_demand_for_it_stays() {
        let main = "myhostname = a\nsmtpd_tls_security_level = may\nsmtpd_tls_chain_files = $config_directory/tls.pem\n";
        assert_eq!(without_certificate(main), "myhostname = a\n");
        let demanded = "smtpd_tls_security_level = encrypt\n";
        assert_eq!(without_certificate(demanded), demanded);
    }
}
