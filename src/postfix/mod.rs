//! Postfix's configuration and look-up files as text.
//!
//! Pure: a `MailServer` in, the files of a Postfix configuration directory out; the same input gives the same bytes.
//! No IO, no clock, and no secret: the account that Postfix reads the tables with is joined in by the agent, with
//! [`queries::credential_lines`]. No value of a manifest can add a line, a parameter, a query or a path: each one
//! passes a check of this room, whatever the schema let through.

use std::collections::BTreeMap;

use crate::api::mail_server::{DEFAULT_OWNER, LookupTables, MailServerSpec};
use crate::object::ObjectName;
use crate::plan::fingerprint::digest;

mod kept;
mod main_cf;
pub mod maps;
mod master_cf;
mod networks;
pub mod owners;
pub mod queries;
pub mod relay_host;
pub mod shards;
mod text;
pub mod tls;

#[cfg(test)]
mod tests;

pub use kept::Kept;
pub use main_cf::DEFAULT_MAIL_STORE;
pub use text::Error;

/// Postfix's configuration directory in its pod: the agent writes it, in memory.
pub const CONFIG_DIRECTORY: &str = "/run/vmail/postfix";

/// Postfix's `queue_directory` in its pod, which is its default.
pub const QUEUE_DIRECTORY: &str = "/var/spool/postfix";

/// The parameter that closes ports: the agent sets it in a pod that is to leave.
pub const CLOSED_PARAMETER: &str = "master_service_disable";

/// The parameter that says which socket Postfix logs to: the agent's.
pub const LOG_PARAMETER: &str = "postlog_service_name";

/// What the agent adds to a rendered main.cf.
pub const AGENT_PARAMETERS: [&str; 3] = [maps::DIRECTORY_PARAMETER, CLOSED_PARAMETER, LOG_PARAMETER];

/// Main parameters, postconf(5).
pub const MAIN_CF: &str = "main.cf";

/// Identity of the set of domains in the database. Postfix reads no such file: smtpd(8) remembers that it would not relay to
/// a domain for as long as it lives, so a new domain is a changed configuration, and Postfix is reloaded.
pub const DOMAINS: &str = "domains.digest";

/// Daemons, master(5).
pub const MASTER_CF: &str = "master.cf";

/// Address that the agent's probe connects from: its lines in the mail log are told apart by it, and no limit on
/// clients applies to it. Loopback, so no other pod can come from it.
pub const PROBE_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 2);

/// The database that look-ups go to, as Postfix reaches it.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseEndpoint<'a> {
    /// Host name or IPv4 address.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
    /// Name of the database.
    pub name: &'a str,
    /// Whether TLS is asked for; the certificate is then checked up to the authority, and that it names the host.
    pub tls: bool,
    /// What stands before the name of each table, usually nothing.
    pub table_prefix: &'a str,
}

/// What the declared domains and mailboxes need of the configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// All domains, each with its address class, in order.
    pub domains: Vec<String>,
    /// Some domain has a transport of its own, or is switched off.
    pub transports: bool,
    /// Some mailbox is disabled, or some domain has a catch-all.
    pub disabled: bool,
    /// Directories and mbox files whose owner is not the server's, parents first; none: one owner for all mail.
    pub owners: Vec<MailOwner>,
    /// Directories that have to be there and belong to the server's owner: virtual(8) makes those of a maildir, and none
    /// for an mbox file.
    pub directories: Vec<MailOwner>,
}

/// A directory or an mbox file of the mail store, and who owns it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MailOwner {
    /// Below `virtual_mailbox_base`; a trailing slash makes it a directory.
    pub path: String,
    /// User.
    pub uid: i32,
    /// Group.
    pub gid: i32,
}

/// The files of a configuration directory, without credentials.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RenderedConfig {
    /// Text by file name.
    pub files: BTreeMap<String, String>,
    /// [`hash`] of the files.
    pub hash: String,
}

/// Renders the Postfix configuration of the `MailServer` called `name`; `database` is there where its look-up tables
/// are no files.
///
/// # Errors
/// [`Error`] names the field with a value that can't be written safely; the schema refuses all of these already.
pub fn render(
    name: &ObjectName,
    spec: &MailServerSpec,
    database: Option<&DatabaseEndpoint<'_>>,
    needs: &Needs,
) -> Result<RenderedConfig, Error> {
    let mut files = BTreeMap::from([
        (MAIN_CF.to_owned(), main_cf::render(name, spec, needs)?),
        (MASTER_CF.to_owned(), master_cf::render(spec.lookup_tables.unwrap_or_default(), needs)),
    ]);
    if !needs.owners.is_empty() || !needs.directories.is_empty() {
        files.insert(owners::FILE.to_owned(), owners::render(&needs.directories, &needs.owners)?);
    }
    if let Some(database) = database {
        files.extend(queries(spec, database, needs)?);
    }
    let hash = hash(&files);
    Ok(RenderedConfig { files, hash })
}

/// The type of the look-up files that a main.cf of ours names; `None`: it names a database.
#[must_use]
pub fn look_up_files(main_cf: &str) -> Option<LookupTables> {
    let names = |type_: &LookupTables| {
        main_cf.contains(&format!("{}:${}/", type_.as_str(), maps::DIRECTORY_PARAMETER))
    };
    // `hash:` is the end of `texthash:`.
    [LookupTables::Texthash, LookupTables::Hash, LookupTables::Lmdb, LookupTables::Cdb]
        .into_iter()
        .find(names)
}

/// The descriptions of the look-ups in the database, by file name.
fn queries(
    spec: &MailServerSpec,
    database: &DatabaseEndpoint<'_>,
    needs: &Needs,
) -> Result<BTreeMap<String, String>, Error> {
    let domains: Vec<&str> = needs.domains.iter().map(String::as_str).collect();
    let mut files = BTreeMap::from([
        (DOMAINS.to_owned(), format!("{}\n", digest(&domains))),
        (queries::CLIENT_FILE.to_owned(), queries::CLIENT.to_owned()),
    ]);
    for (file, query) in queries::ALL {
        files.insert(file.to_owned(), queries::render(query, database)?);
    }
    if !needs.owners.is_empty() {
        let store = spec.mail_store.as_ref();
        let server = [store.and_then(|store| store.uid), store.and_then(|store| store.gid)];
        for ((file, column), id) in queries::IDS.into_iter().zip(server) {
            let query = queries::id(column, id.unwrap_or(DEFAULT_OWNER));
            files.insert(file.to_owned(), queries::render(&query, database)?);
        }
    }
    Ok(files)
}

/// Identity of a configuration: the first 16 hexadecimal digits of a SHA-256 over names and texts.
#[must_use]
pub fn hash(files: &BTreeMap<String, String>) -> String {
    digest(&files.iter().flat_map(|(name, text)| [name.as_str(), text.as_str()]).collect::<Vec<_>>())
}
