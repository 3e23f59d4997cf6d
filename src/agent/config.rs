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

#[cfg(test)]
mod tests;

/// Parameters of main.cf that name a look-up table only while something is declared that needs it.
const ON_DEMAND: [&str; 4] =
    ["transport_maps", "smtpd_recipient_restrictions", "virtual_uid_maps", "virtual_gid_maps"];

/// The description of a look-up that every configuration with a database has.
const ANY_QUERY: &str = "alias_maps.cf";

/// How the lines of a description begin that say which database is asked.
const DATABASE_LINES: [&str; 3] = ["hosts = ", "dbname = ", "tls_"];

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

    /// The same without the account at the database.
    pub(super) fn without_account(self) -> Self {
        Self { account: None, ..self }
    }

    /// The configuration that runs, with all else as it is mounted now. Look-up files are still to be compiled, but where the two
    /// name different tables: then those of the mounted one don't fit the one that runs, which keeps its own, and the owners of
    /// mail with them. An account at another server comes along if that server is the same, and owners of mail if Postfix
    /// delivers as them.
    pub(super) fn configured_as(&self, running: &Self) -> Self {
        let is_same = |names: &[&str]| names.iter().all(|name| self.look_up(name) == running.look_up(name));
        let maps = if is_same(&ON_DEMAND) { None } else { running.maps.clone() };
        let mut files = running.files.clone();
        if let (Some(kept), Some(text)) = (files.get_mut(DOMAINS), self.files.get(DOMAINS)) {
            kept.clone_from(text);
        }
        if maps.is_none() && is_same(&["virtual_mailbox_base", "virtual_uid_maps", "virtual_gid_maps"]) {
            files.remove(owners::FILE);
            files.extend(
                self.files.get_key_value(owners::FILE).map(|(name, text)| (name.clone(), text.clone())),
            );
        }
        let with_database = if self.database().eq(running.database()) { self } else { running };
        let with_relay_host = if is_same(&["relayhost"]) { self } else { running };
        Self {
            files,
            account: with_database.account.clone(),
            authority: with_database.authority.clone(),
            certificate: self.certificate.clone(),
            relay_account: with_relay_host.relay_account.clone(),
            maps,
            draining: self.draining,
        }
    }

    /// Which database is asked, whatever it is asked for; nothing where accounts are looked up in files.
    fn database(&self) -> impl Iterator<Item = &str> {
        let lines = self.text(ANY_QUERY).lines();
        lines.filter(|line| DATABASE_LINES.iter().any(|start| line.starts_with(start)))
    }

    /// A parameter of main.cf, as the operator writes it.
    fn setting(&self, name: &str) -> Option<&str> {
        self.text(MAIN_CF).lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
    }

    /// The same, a look-up file in it without its type, which says nothing about what is in it.
    fn look_up(&self, name: &str) -> Option<&str> {
        let value = self.setting(name)?;
        let is_file = |path: &&str| {
            path.strip_prefix('$').is_some_and(|path| path.starts_with(maps::DIRECTORY_PARAMETER))
        };
        Some(value.split_once(':').map(|(_, path)| path).filter(is_file).unwrap_or(value))
    }

    /// What of it can be used, and what is wrong with the rest: a certificate that is gone or can't be used gives way
    /// to the one before, so does an account at the same database, and mail for a relay host whose account can't be used waits.
    pub(super) fn usable(&self, before: Option<&Self>) -> (Self, Option<String>) {
        let mut usable = self.clone();
        let mut complaints = Vec::new();
        if let Certificate::Unusable(reason) = self.certificate {
            complaints.push(format!("the TLS certificate can't be used, {reason}"));
        }
        if !matches!(self.certificate, Certificate::Usable(_)) {
            usable.certificate = before.map_or(Certificate::Absent, |before| before.certificate.clone());
        }
        if let (Some((username, password)), Some(before)) = (&self.account, before)
            && let Err((key, error)) = credential_lines(username, password)
            && self.database().eq(before.database())
        {
            complaints.push(Error::Credential { key, error }.to_string());
            usable.account.clone_from(&before.account);
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

    /// Writes the files alone, as they are mounted, into a directory that [`Self::read`] takes like a mount. They hold no
    /// credentials.
    pub(super) fn keep(&self, directory: &Path) -> Result<(), Error> {
        let new = directory.with_extension("new");
        empty(&new).map_err(Error::file(&new))?;
        for (name, text) in &self.files {
            let path = new.join(name);
            write(&path, text, 0o444, None).map_err(Error::file(&path))?;
        }
        if directory.exists() {
            fs::remove_dir_all(directory).map_err(Error::file(directory))?;
        }
        fs::rename(&new, directory).map_err(Error::file(directory))
    }
}

/// A Secret that was made from a file often ends with the file's line end, which nobody means.
fn without_line_end(text: &str) -> String {
    text.trim_end_matches(['\r', '\n']).to_owned()
}
