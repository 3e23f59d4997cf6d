//! The certificate that SMTP clients are shown, from a Secret of the type kubernetes.io/tls.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Error;
use super::files::{current, optional, read};

/// What is mounted.
#[derive(Clone, Eq, PartialEq)]
pub(super) enum Certificate {
    /// No Secret, or one without both keys.
    Absent,
    /// Key and certificates, PEM, in the order that `smtpd_tls_chain_files` wants.
    Usable(String),
    /// Why Postfix could not use it: it would only log a warning and go on without TLS.
    Unusable(&'static str),
}

impl Certificate {
    /// Reads the Secret as it is mounted now.
    pub(super) fn read(mount: &Path) -> Result<Self, Error> {
        let mount = current(mount)?;
        let file = |name: &str| optional(read(&mount.join(name)));
        Ok(match (file("tls.crt")?, file("tls.key")?) {
            (Some(certificates), Some(key)) => Self::checked(&certificates, &key),
            _ => Self::Absent,
        })
    }

    fn checked(certificates: &str, key: &str) -> Self {
        match check(certificates, key) {
            Ok(()) => Self::Usable(format!("{}\n{}\n", key.trim_end(), certificates.trim_end())),
            Err(reason) => Self::Unusable(reason),
        }
    }
}

fn check(certificates: &str, key: &str) -> Result<(), &'static str> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| "tls.crt is not PEM")?;
    if chain.is_empty() {
        return Err("tls.crt has no certificate");
    }
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "tls.key has no private key in PEM")?;
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|_| "no version of TLS")?;
    builder
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map(|_| ())
        .map_err(|_| "tls.crt and tls.key don't belong together, or are of an unknown kind")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed certificate that nobody trusts, its key, and another key.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBijCCATGgAwIBAgIUG+7IUiTXzzuS9J2pRf8FR2E7VyowCgYIKoZIzj0EAwIw
GjEYMBYGA1UEAwwPbXgxLmV4YW1wbGUub3JnMCAXDTI2MTEyMzA5MDEzNFoYDzIx
MjYxMDMwMDkwMTM0WjAaMRgwFgYDVQQDDA9teDEuZXhhbXBsZS5vcmcwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAATO6bUo+w7OM8UVSamPEDFSyEJ2XCxQuZ/Q+Nax
r7vI3q4mSM1FnrQOinpF/gHqQaILY55/iMLB+JPx1zeFQBSDo1MwUTAdBgNVHQ4E
FgQUK25xUoZjb5wP6F82m1qQw98+cgcwHwYDVR0jBBgwFoAUK25xUoZjb5wP6F82
m1qQw98+cgcwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiBbdeLn
xIX0iK8j4GU7bb0+XgXi/dV1U4Y9tRo4L43szgIgFn6t4qOh3CFmQBOZXxm5z/kN
/GIFand25tkShxJJx/8=
-----END CERTIFICATE-----
";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglmWCWtqUSLvK6abH
2vy+YCh+LsPjuKpvrwHQQK6EnUmhRANCAATO6bUo+w7OM8UVSamPEDFSyEJ2XCxQ
uZ/Q+Naxr7vI3q4mSM1FnrQOinpF/gHqQaILY55/iMLB+JPx1zeFQBSD
-----END PRIVATE KEY-----
";
    const ANOTHER_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgMf9zLFXyos1QsC0u
UgaDE/GCVzCAAnRdLTA0qBnwPC6hRANCAAT5sorObHl2W3eoAGBIj6Sa2xDlMZCB
NLuyAb/FQhaWcEKU4jZtj1Hh8LE5Tf6Y18rPvmA/aV0UsRCv8cfoP3JG
-----END PRIVATE KEY-----
";

    #[test]
    fn key_and_certificates_are_joined_if_they_belong_together() {
        let chain = format!("{KEY}{CERTIFICATE}");
        assert!(Certificate::checked(CERTIFICATE, KEY) == Certificate::Usable(chain));
        assert!(matches!(Certificate::checked(CERTIFICATE, ANOTHER_KEY), Certificate::Unusable(_)));
    }

    #[test]
    fn what_is_no_certificate_is_told_without_the_key_in_it() {
        for (certificates, key) in
            [("", ""), ("hunter2", "hunter2"), ("-----BEGIN CERTIFICATE-----\n!\n", "")]
        {
            let Certificate::Unusable(reason) = Certificate::checked(certificates, key) else {
                panic!("{certificates:?} was taken");
            };
            assert!(!reason.contains("hunter2"));
        }
    }

    #[test]
    fn a_missing_secret_is_no_error() {
        let mount = tempfile::TempDir::new().unwrap();
        assert!(Certificate::read(mount.path()).unwrap() == Certificate::Absent);
        assert!(Certificate::read(&mount.path().join("nowhere")).unwrap() == Certificate::Absent);
    }
}
