//! The configuration: read from the mounts, joined with the credentials, written so that Postfix takes it at once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Error;
use super::contract::DRAIN_FILE;
use super::files::{current, empty, optional, read, write};
use super::log;
use super::tls::Certificate;
use crate::api::mail_server::LookupTables;
use crate::postfix::queries::{AUTHORITY_FILE, CredentialError, SUFFIX, credential_lines};
use crate::postfix::relay_host::{PASSWORD_FILE, password_table, without_account};
use crate::postfix::tls::{CHAIN_FILE, without_certificate};
use crate::postfix::{self, DOMAINS, MAIN_CF, MASTER_CF, MailOwner, maps, owners};

/// A configuration as it is mounted.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Mounted {
    files: BTreeMap<String, String>,
    /// User name and password at the database, where there is one.
    account: Option<(String, String)>,
    authority: Option<String>,
    certificate: Certificate,
    /// User name and password at the relay host.
    relay_account: Option<(String, String)>,
    /// Directory with the compiled look-up files, where accounts are looked up in files.
    maps: Option<PathBuf>,
    /// Whether the pod is to take no more mail, and to empty its queue.
    draining: bool,
}

impl Mounted {
    /// Reads the `ConfigMap` and the Secret as they are mounted now.
    pub(super) fn read(config: &Path, credentials: &Path) -> Result<Self, Error> {
        let (config, credentials) = (current(config)?, current(credentials)?);
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&config).map_err(Error::file(&config))? {
            let path = entry.map_err(Error::file(&config))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_file() {
                files.insert(name, fs::read_to_string(&path).map_err(Error::file(&path))?);
            }
        }
        for name in [MAIN_CF, MASTER_CF] {
            if !files.contains_key(name) {
                return Err(Error::file(config.join(name))(io::ErrorKind::NotFound.into()));
            }
        }
        let credential = |key: &str| Ok(without_line_end(&read(&credentials.join(key))?));
        let account = if files.keys().any(|name| name.ends_with(SUFFIX)) {
            Some((credential("username")?, credential("password")?))
        } else {
            None
        };
        Ok(Self {
            files,
            account,
            authority: optional(read(&credentials.join(AUTHORITY_FILE)))?,
            certificate: Certificate::Absent,
            relay_account: None,
            maps: None,
            draining: false,
        })
    }

    /// The same with the Secrets of the certificate and of the account at the relay host, if they are mounted.
    pub(super) fn with_secrets(self, tls: &Path, relay: &Path) -> Result<Self, Error> {
        let relay = current(relay)?;
        let file = |name: &str| optional(read(&relay.join(name)));
        let relay_account = file("username")?.zip(file("password")?);
        let without_line_ends = |(username, password): (String, String)| {
            (without_line_end(&username), without_line_end(&password))
        };
        Ok(Self {
            certificate: Certificate::read(tls)?,
            relay_account: relay_account.map(without_line_ends),
            ..self
        })
    }

    /// The type of the look-up files that main.cf names; `None`: it names a database.
    pub(super) fn look_up_files(&self) -> Option<LookupTables> {
        postfix::look_up_files(self.text(MAIN_CF))
    }

    /// The same with what the operator asks of this pod: the annotation that the kubelet writes into `pod`.
    pub(super) fn with_requests(self, pod: &Path) -> Result<Self, Error> {
        let asked = optional(read(&current(pod)?.join(DRAIN_FILE)))?;
        Ok(Self { draining: asked.is_some_and(|asked| !asked.trim().is_empty()), ..self })
    }

    /// Whether the pod is to take no more mail, and to empty its queue.
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Directory with the compiled look-up files, where accounts are looked up in files.
    pub(super) fn maps(&self) -> Option<&Path> {
        self.maps.as_deref()
    }

    /// The same with the compiled look-up files in a directory, where accounts are looked up in files.
    pub(super) fn with_maps(self, maps: Option<PathBuf>) -> Self {
        Self { maps, ..self }
    }

    /// Whether nothing but the accounts differs, which say nothing about whether the configuration is good.
    pub(super) fn differs_in_accounts_only(&self, other: &Self) -> bool {
        self.without_accounts() == other.without_accounts()
    }

    /// The same without what follows from accounts.
    pub(super) fn without_accounts(&self) -> Self {
        let mut mounted = Self { maps: None, ..self.clone() };
        mounted.files.remove(DOMAINS);
        mounted
    }

    /// The configuration that runs, with all else as it is mounted now, look-up files not yet compiled. An account at another
    /// server comes along if that server is the same, and owners of mail if Postfix delivers as them.
    pub(super) fn configured_as(&self, running: &Self) -> Self {
        let is_same = |names: &[&str]| names.iter().all(|name| self.setting(name) == running.setting(name));
        let mut files = running.files.clone();
        if let (Some(kept), Some(text)) = (files.get_mut(DOMAINS), self.files.get(DOMAINS)) {
            kept.clone_from(text);
        }
        if is_same(&["virtual_mailbox_base", "virtual_uid_maps", "virtual_gid_maps"]) {
            files.remove(owners::FILE);
            files.extend(
                self.files.get_key_value(owners::FILE).map(|(name, text)| (name.clone(), text.clone())),
            );
        }
        let with_database = if self.queries().eq(running.queries()) { self } else { running };
        let with_relay_host = if is_same(&["relayhost"]) { self } else { running };
        Self {
            files,
            account: with_database.account.clone(),
            authority: with_database.authority.clone(),
            certificate: self.certificate.clone(),
            relay_account: with_relay_host.relay_account.clone(),
            maps: None,
            draining: self.draining,
        }
    }

    /// The descriptions of look-ups in the database.
    fn queries(&self) -> impl Iterator<Item = (&String, &String)> {
        self.files.iter().filter(|(name, _)| name.ends_with(SUFFIX))
    }

    /// A parameter of main.cf, as the operator writes it.
    fn setting(&self, name: &str) -> Option<&str> {
        self.text(MAIN_CF).lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
    }

    /// What of it can be used, and what is wrong with the rest: a certificate that is gone or can't be used gives way
    /// to the one before, and mail for a relay host whose account can't be used waits.
    pub(super) fn usable(&self, before: Option<&Self>) -> (Self, Option<String>) {
        let mut usable = self.clone();
        let mut complaints = Vec::new();
        if let Certificate::Unusable(reason) = self.certificate {
            complaints.push(format!("the TLS certificate can't be used, {reason}"));
        }
        if !matches!(self.certificate, Certificate::Usable(_)) {
            usable.certificate = before.map_or(Certificate::Absent, |before| before.certificate.clone());
        }
        if let Err((key, error)) = self.password_table() {
            complaints.push(format!("the {key} of the Secret with the account at the relay host {error}"));
            usable.relay_account = None;
        }
        (usable, (!complaints.is_empty()).then(|| complaints.join("; ")))
    }

    fn password_table(&self) -> Result<Option<String>, (&'static str, CredentialError)> {
        match &self.relay_account {
            Some((username, password)) => password_table(self.text(MAIN_CF), username, password),
            None => Ok(None),
        }
    }

    /// main.cf for this agent and for what is mounted beside it.
    fn main_cf(&self) -> String {
        let text = match self.certificate {
            Certificate::Usable(_) => self.text(MAIN_CF).to_owned(),
            _ => without_certificate(self.text(MAIN_CF)),
        };
        let text = match self.password_table() {
            Ok(Some(_)) => text,
            _ => without_account(&text),
        };
        let maps = self.maps.iter();
        let maps = maps.map(|directory| format!("{} = {}\n", maps::DIRECTORY_PARAMETER, directory.display()));
        // master(8) closes its ports and goes on with what is in the queue.
        let closed = self.draining.then(|| format!("{} = inet\n", postfix::CLOSED_PARAMETER));
        let logged = format!("{} = {}\n", postfix::LOG_PARAMETER, log::SERVICE);
        maps.chain(closed).chain([logged]).fold(text, |text, line| text + &line)
    }

    /// Texts with private keys or passwords at other servers, by file name.
    fn secrets(&self) -> Vec<(&'static str, String)> {
        let certificate = match &self.certificate {
            Certificate::Usable(chain) => Some((CHAIN_FILE, chain.clone())),
            _ => None,
        };
        let account = self.password_table().ok().flatten().map(|table| (PASSWORD_FILE, table));
        [certificate, account].into_iter().flatten().collect()
    }

    /// The operator's hash of the files, credentials not counted.
    pub(super) fn hash(&self) -> String {
        postfix::hash(&self.files)
    }

    /// Text of a file, empty when there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        self.files.get(name).map_or("", String::as_str)
    }

    /// `virtual_mailbox_base`, which the operator writes as one absolute path.
    pub(super) fn mail_base(&self) -> PathBuf {
        self.setting("virtual_mailbox_base").unwrap_or_default().trim().into()
    }

    /// What has to be in the mail store with an owner of its own.
    pub(super) fn owners(&self) -> Vec<MailOwner> {
        owners::parse(self.text(owners::FILE))
    }

    /// Writes everything into a new directory. Files with credentials can be read by root and by Postfix, and by
    /// nobody else.
    pub(super) fn write(&self, directory: &Path, postfix_group: Option<u32>) -> Result<(), Error> {
        let credentials = match &self.account {
            Some((username, password)) => credential_lines(username, password)
                .map_err(|(key, error)| Error::Credential { key, error })?,
            None => String::new(),
        };
        empty(directory).map_err(Error::file(directory))?;
        for (name, content) in &self.files {
            let path = directory.join(name);
            let written = if name.ends_with(SUFFIX) {
                write(&path, &format!("{content}{credentials}"), 0o440, postfix_group)
            } else if name == MAIN_CF {
                write(&path, &self.main_cf(), 0o444, None)
            } else {
                write(&path, content, 0o444, None)
            };
            written.map_err(Error::file(&path))?;
        }
        for (name, text) in self.secrets() {
            let path = directory.join(name);
            write(&path, &text, 0o440, postfix_group).map_err(Error::file(&path))?;
        }
        if let Some(authority) = &self.authority {
            let path = directory.join(AUTHORITY_FILE);
            write(&path, authority, 0o444, None).map_err(Error::file(&path))?;
        }
        Ok(())
    }
}

/// A Secret that was made from a file often ends with the file's line end, which nobody means.
fn without_line_end(text: &str) -> String {
    text.trim_end_matches(['\r', '\n']).to_owned()
}

#[cfg(test)]
impl Mounted {
    /// Files that are mounted, and nothing beside them.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
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

    pub(super) fn with_certificate(self, certificate: Certificate) -> Self {
        Self { certificate, ..self }
    }

    /// Accounts at the database and at the relay host with this password.
    pub(super) fn with_accounts(self, password: &str) -> Self {
        let account = Some(("me".to_owned(), password.to_owned()));
        Self { account: account.clone(), relay_account: account, ..self }
    }

    /// The same in a pod that is to leave.
    pub(super) fn drained(self) -> Self {
        Self { draining: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    use super::super::files::{names, take};
    use super::*;

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
        assert_eq!(
            mounts.read().unwrap().hash(),
            before.hash(),
            "a password is no part of the operator's hash"
        );
    }

    #[test]
    fn the_account_at_the_relay_host_is_for_postfix_alone_and_a_bad_one_stops_nothing() {
        let mounts = Mounts::new("x");
        let main = "relayhost = [smtp.example.net]:587\nsmtp_sasl_password_maps = texthash:$config_directory/sasl_passwd\n";
        mounts.project("config", "2", &[("main.cf", main), ("master.cf", "")]);
        fs::create_dir(mounts.path("relay")).unwrap();
        let read =
            || mounts.read().unwrap().with_secrets(&mounts.path("tls"), &mounts.path("relay")).unwrap();
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
}
