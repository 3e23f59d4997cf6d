//! Mounts as the kubelet makes them, and what is written for Postfix.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use super::*;
use crate::agent::files::{names, take};

impl Mounted {
    /// Files that are mounted, and nothing beside them.
    pub(in crate::agent) fn of(files: &[(&str, &str)]) -> Self {
        Self {
            files: files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
            account: None,
            authority: None,
            certificate: Certificate::Absent,
            relay_account: None,
            maps: None,
            draining: false,
        }
    }

    pub(in crate::agent) fn with_certificate(self, certificate: Certificate) -> Self {
        Self { certificate, ..self }
    }

    /// Accounts at the database and at the relay host with this password.
    pub(in crate::agent) fn with_accounts(self, password: &str) -> Self {
        let account = Some(("me".to_owned(), password.to_owned()));
        Self { account: account.clone(), relay_account: account, ..self }
    }

    /// The same in a pod that is to leave.
    pub(in crate::agent) fn drained(self) -> Self {
        Self { draining: true, ..self }
    }
}

/// Mounts the way the kubelet makes them: `..data` leads to a directory, and every name into `..data`.
struct Mounts(tempfile::TempDir);

impl Mounts {
    fn new(password: &str) -> Self {
        let mounts = Self(tempfile::TempDir::new().unwrap());
        for directory in ["config", "credentials"] {
            fs::create_dir(mounts.path(directory)).unwrap();
        }
        mounts.project(
            "config",
            "1",
            &[
                ("main.cf", "myhostname = a.example.org\n"),
                ("master.cf", "smtp inet n - n - - smtpd\n"),
                ("alias_maps.cf", "query = SELECT 1\n"),
            ],
        );
        mounts.project("credentials", "1", &[("username", "postfixserver\n"), ("password", password)]);
        mounts
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Exchanges the content of a mount.
    fn project(&self, mount: &str, version: &str, files: &[(&str, &str)]) {
        let (mount, version) = (self.path(mount), format!("..{version}"));
        fs::create_dir(mount.join(&version)).unwrap();
        for (name, content) in files {
            fs::write(mount.join(&version).join(name), content).unwrap();
            if !mount.join(name).is_symlink() {
                symlink(format!("..data/{name}"), mount.join(name)).unwrap();
            }
        }
        symlink(version, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    }

    fn read(&self) -> Result<Mounted, Error> {
        Mounted::read(&self.path("config"), &self.path("credentials"))
    }

    fn write(&self) -> Result<PathBuf, Error> {
        let candidate = self.path("candidate");
        self.read()?.write(&candidate, None)?;
        Ok(candidate)
    }
}

fn text(directory: &Path, name: &str) -> String {
    fs::read_to_string(directory.join(name)).unwrap()
}

/// main.cf as the agent completes it.
fn logged(main: &str) -> String {
    format!("{main}postlog_service_name = vmail-agent\n")
}

#[test]
fn credentials_stand_in_the_look_up_files_only() {
    let mounts = Mounts::new("p $#\"'ß=x");
    let candidate = mounts.write().unwrap();
    assert_eq!(
        text(&candidate, "alias_maps.cf"),
        "query = SELECT 1\nuser = postfixserver\npassword = p $#\"'ß=x\n"
    );
    assert_eq!(text(&candidate, "main.cf"), logged("myhostname = a.example.org\n"));
    let mode = |name: &str| fs::metadata(candidate.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("alias_maps.cf"), mode("main.cf"), mode("")), (0o440, 0o444, 0o755));
}

#[test]
fn postfix_need_not_wait_for_the_files_to_age() {
    let mounts = Mounts::new("x");
    let candidate = mounts.write().unwrap();
    for name in names(&candidate).unwrap() {
        let modified = fs::metadata(candidate.join(name)).unwrap().modified().unwrap();
        assert!(modified.elapsed().unwrap() > Duration::from_secs(2));
    }
}

#[test]
fn credentials_that_a_look_up_file_would_change_are_refused() {
    for password in ["", "\n", " hunter2", "hunter2 ", "two\nhunter2", "hunter2\rx"] {
        let refused = Mounts::new(password).write();
        assert!(matches!(refused, Err(Error::Credential { key: "password", .. })), "{password:?}");
        assert!(!refused.unwrap_err().to_string().contains("hunter2"));
    }
}

#[test]
fn an_account_that_can_not_be_written_gives_way_to_the_one_before_at_the_same_database() {
    let before = Mounts::new("hunter2").read().unwrap();
    let mounts = Mounts::new(" hunter3");
    let (usable, complaint) = mounts.read().unwrap().usable(Some(&before));
    assert!(usable == before);
    assert!(complaint.is_some_and(|told| told.contains("password") && !told.contains("hunter")));
    // The first transport is declared: another look-up in the same database.
    let queries = [("alias_maps.cf", "query = SELECT 1\n"), ("transport_maps.cf", "query = SELECT 2\n")];
    mounts.project("config", "2", &[&[("main.cf", ""), ("master.cf", "")], &queries[..]].concat());
    assert!(mounts.read().unwrap().usable(Some(&before)).1.is_some());
    let files = [("main.cf", ""), ("master.cf", ""), ("alias_maps.cf", "hosts = another\n")];
    mounts.project("config", "3", &files);
    let elsewhere = mounts.read().unwrap();
    assert!(elsewhere.usable(Some(&before)).0 == elsewhere);
}

#[test]
fn the_authoritys_certificate_comes_along() {
    let mounts = Mounts::new("x");
    let before = mounts.read().unwrap();
    mounts.project(
        "credentials",
        "2",
        &[("username", "postfixserver"), ("password", "x"), ("ca.crt", "PEM")],
    );
    assert!(mounts.read().unwrap() != before);
    assert_eq!(text(&mounts.write().unwrap(), "ca.crt"), "PEM");
}

#[test]
fn a_changed_file_or_credential_is_a_change_and_a_new_projection_alone_is_none() {
    let mounts = Mounts::new("x");
    let before = mounts.read().unwrap();
    mounts.project("credentials", "2", &[("username", "postfixserver"), ("password", "x")]);
    assert!(mounts.read().unwrap() == before);
    mounts.project("credentials", "3", &[("username", "postfixserver"), ("password", "y")]);
    assert!(mounts.read().unwrap() != before);
    assert_eq!(mounts.read().unwrap().hash(), before.hash(), "a password is no part of the operator's hash");
}

#[test]
fn the_account_at_the_relay_host_is_for_postfix_alone_and_a_bad_one_stops_nothing() {
    let mounts = Mounts::new("x");
    let main = "relayhost = [smtp.example.net]:587\nsmtp_sasl_password_maps = texthash:$config_directory/sasl_passwd\n";
    mounts.project("config", "2", &[("main.cf", main), ("master.cf", "")]);
    fs::create_dir(mounts.path("relay")).unwrap();
    let read = || mounts.read().unwrap().with_secrets(&mounts.path("tls"), &mounts.path("relay")).unwrap();
    let candidate = mounts.path("candidate");
    // The Secret is not there yet: smtp(8) is not to look for a file that nobody wrote.
    read().usable(None).0.write(&candidate, None).unwrap();
    assert!(!candidate.join(PASSWORD_FILE).exists());
    assert!(!text(&candidate, MAIN_CF).contains(PASSWORD_FILE), "{}", text(&candidate, MAIN_CF));

    mounts.project("relay", "1", &[("username", "me\n"), ("password", "hunter2\n")]);
    let (usable, complaint) = read().usable(None);
    assert_eq!(complaint, None);
    usable.write(&candidate, None).unwrap();
    assert_eq!(text(&candidate, PASSWORD_FILE), "[smtp.example.net]:587 me:hunter2\n");
    assert_eq!(text(&candidate, MAIN_CF), logged(main));
    let mode = fs::metadata(candidate.join(PASSWORD_FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o440);

    mounts.project("relay", "2", &[("username", "me:too"), ("password", "hunter2")]);
    let (usable, complaint) = read().usable(None);
    assert!(complaint.is_some_and(|told| told.contains("username") && !told.contains("hunter2")));
    usable.write(&candidate, None).unwrap();
    assert!(!candidate.join(PASSWORD_FILE).exists());
    assert!(!text(&candidate, MAIN_CF).contains(PASSWORD_FILE));
}

#[test]
fn without_a_usable_certificate_the_one_before_stays_or_tls_is_not_offered() {
    let mounts = Mounts::new("x");
    let main = "smtpd_tls_security_level = may\nsmtpd_tls_chain_files = $config_directory/tls.pem\n";
    mounts.project("config", "2", &[("main.cf", main), ("master.cf", "")]);
    let with = |certificate| Mounted { certificate, ..mounts.read().unwrap() };
    let written = |mounted: &Mounted| {
        mounted.write(&mounts.path("candidate"), None).unwrap();
        text(&mounts.path("candidate"), MAIN_CF)
    };
    let running = with(Certificate::Usable("PEM".to_owned()));
    assert_eq!(written(&running), logged(main));
    for (certificate, told) in [(Certificate::Absent, false), (Certificate::Unusable("no PEM"), true)] {
        let (first, complaint) = with(certificate.clone()).usable(None);
        assert_eq!((written(&first), complaint.is_some()), (logged(""), told));
        let (later, _) = with(certificate).usable(Some(&running));
        assert_eq!(written(&later), logged(main));
        assert_eq!(text(&mounts.path("candidate"), CHAIN_FILE), "PEM");
    }
}

#[test]
fn a_mount_without_main_cf_is_an_error_that_names_it() {
    let mounts = Mounts::new("x");
    mounts.project("config", "2", &[("master.cf", "")]);
    assert!(mounts.read().err().unwrap().to_string().contains("main.cf"));
}

#[test]
fn a_taken_configuration_replaces_the_one_before() {
    let mounts = Mounts::new("x");
    let active = mounts.path("active");
    take(&mounts.write().unwrap(), &active).unwrap();
    assert!(active.join("alias_maps.cf").exists());
    mounts.project("config", "2", &[("main.cf", "myhostname = b.example.org\n"), ("master.cf", "")]);
    take(&mounts.write().unwrap(), &active).unwrap();
    assert_eq!(text(&active, "main.cf"), logged("myhostname = b.example.org\n"));
    assert!(!active.join("alias_maps.cf").exists());
}
