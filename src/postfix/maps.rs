//! Look-up tables as files: the answers of [`super::queries`], as lines that postmap(1) reads.
//!
//! Pure: the rows that a server's objects want in, entries out. A value can't add a line, a key or a path: what a file
//! can't hold is refused, with a sentence for the object that declares it. Where the entries lie is
//! [`super::shards`]'s concern.

use std::collections::{BTreeMap, BTreeSet};

use crate::index::rows::VIRTUAL;
use crate::tables::{AliasRow, DomainRow, IdRow, MailboxRow, Row, Table};

mod identities;
mod owners;
#[cfg(test)]
mod tests;

/// Parameter of main.cf with the directory of the look-up files. Not one of Postfix's: the agent sets it, a new directory
/// for each set of files, so that every process has all of its tables from one set.
pub const DIRECTORY_PARAMETER: &str = "vmail_maps";

/// A look-up table, named as its query is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Map {
    /// Domains that mail is received for: `virtual_mailbox_domains`.
    Domains,
    /// Domains whose mail is only passed on: `relay_domains`.
    RelayDomains,
    /// What delivers the mail of a domain, or that nothing does while it is switched off: `transport_maps`.
    Transport,
    /// Path of a mailbox: `virtual_mailbox_maps`.
    Mailbox,
    /// Targets of an address: `virtual_alias_maps`.
    Alias,
    /// Addresses of mailboxes that are switched off: `check_recipient_access`.
    Disabled,
    /// User that mail is delivered as: `virtual_uid_maps`, where some domain or mailbox names its own.
    Uid,
    /// Group that mail is delivered as: `virtual_gid_maps`, likewise.
    Gid,
}

impl Map {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Domains,
        Self::RelayDomains,
        Self::Transport,
        Self::Mailbox,
        Self::Alias,
        Self::Disabled,
        Self::Uid,
        Self::Gid,
    ];

    /// Name of the compiled table's source file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Domains => "domains_maps",
            Self::RelayDomains => "relay_domains_maps",
            Self::Transport => "transport_maps",
            Self::Mailbox => "mailbox_maps",
            Self::Alias => "alias_maps",
            Self::Disabled => "disabled_maps",
            Self::Uid => "uid_maps",
            Self::Gid => "gid_maps",
        }
    }

    /// Whether its keys are addresses, so that each domain has a file of its own.
    #[must_use]
    pub fn holds_addresses(self) -> bool {
        matches!(self, Self::Mailbox | Self::Alias | Self::Disabled | Self::Uid | Self::Gid)
    }
}

/// Why a file can't hold a row. The display text says what to write instead.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// postmap(1) takes a line that begins with `#` for a comment, and no quoting helps: Postfix looks the bare
    /// address up.
    #[error(
        "a look-up file can't hold an address that begins with #: choose another, or a mysql look-up type"
    )]
    Comment,
    /// A key that postmap(1) would split or unquote.
    #[error(
        "a look-up file can't hold this address: write it without spaces, quotes and non-ASCII characters"
    )]
    Key,
    /// A value that is empty, more than one line, or would lose its outer spaces.
    #[error("a look-up file can't hold this value: write one line of text, without outer spaces")]
    Value,
    /// A path that leads out of the mail store.
    #[error("the path of the mailbox leads out of the mail store")]
    Path,
}

/// Answers by table and key.
pub type Entries = BTreeMap<(Map, String), String>;

/// What the rows of a server answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answers {
    /// What can be looked up.
    pub entries: Entries,
    /// Rows that a file can't hold, by table and primary key. Nothing of them is among the entries.
    pub refused: BTreeMap<(Table, String), Refusal>,
    /// Domains that have their entries from another domain.
    pub alias_domains: BTreeSet<String>,
}

/// What Postfix should find for the rows. The same as with the queries, for every key that Postfix asks for: what is
/// not active does not exist, and an alias domain's own rows come before those of its target.
///
/// `owner` is the user and group of mail whose domain and mailbox name none.
#[must_use]
pub fn answers<'a>(rows: impl IntoIterator<Item = &'a Row>, owner: (i32, i32)) -> Answers {
    let mut answers = Answers::default();
    let mut sound = Vec::new();
    for row in rows {
        match own_entry(row) {
            Ok(own) => {
                sound.push(row);
                answers.entries.extend(own);
            }
            Err(refusal) => {
                answers.refused.insert((row.table(), row.key().to_owned()), refusal);
            }
        }
    }
    let alias_domains = alias_domains(&sound);
    answers.alias_domains = alias_domains.values().flatten().map(|domain| (*domain).to_owned()).collect();
    let inherited: Vec<Entry> = sound
        .into_iter()
        .flat_map(|row| inherited(row, &alias_domains))
        .filter(|((map, key), _)| *map != Map::Disabled || !has_row(&answers.entries, key))
        .collect();
    for (key, value) in inherited {
        answers.entries.entry(key).or_insert(value);
    }
    owners::name(&mut answers.entries, owner);
    spare_tagged_addresses(&mut answers.entries);
    identities::name(&mut answers.entries);
    answers
}

/// Makes entries from elsewhere beside those of [`answers`] one whole, as those are: every mailbox has an owner where one
/// has, and stands for itself among the aliases where Postfix needs it, and only there.
pub fn complete(entries: &mut Entries, owner: (i32, i32)) {
    owners::name(entries, owner);
    identities::name(entries);
}

/// Whether mail to the address has a row to follow.
fn has_row(entries: &Entries, address: &str) -> bool {
    [Map::Mailbox, Map::Alias].into_iter().any(|map| entries.contains_key(&(map, address.to_owned())))
}

/// What Postfix would look up after an address, whatever its `recipient_delimiter` is: the address without an extension.
fn without_extension(address: &str) -> impl Iterator<Item = String> {
    let (local_part, domain) = address.split_once('@').unwrap_or((address, ""));
    let ends = local_part.char_indices().skip(1).filter(|(_, c)| "+-_=.".contains(*c));
    ends.map(move |(at, _)| format!("{}@{domain}", &local_part[..at]))
}

/// What has a row of its own is not looked up without its extension: a mailbox of that name may be switched off.
fn spare_tagged_addresses(entries: &mut Entries) {
    if !entries.keys().any(|(map, _)| *map == Map::Disabled) {
        return;
    }
    let is_disabled = |address: String| entries.contains_key(&(Map::Disabled, address));
    let spared: Vec<String> = entries
        .keys()
        .filter(|(map, address)| {
            matches!(map, Map::Mailbox | Map::Alias)
                && !is_disabled(address.clone())
                && without_extension(address).any(is_disabled)
        })
        .map(|(_, address)| address.clone())
        .collect();
    entries.extend(spared.into_iter().map(|address| ((Map::Disabled, address), NOT_DISABLED.to_owned())));
}

type Entry = ((Map, String), String);

/// What a row answers under its own key.
fn own_entry(row: &Row) -> Result<Vec<Entry>, Refusal> {
    check_key(row.key())?;
    let entry = |map, key: &str, value: &str| ((map, key.to_owned()), value.to_owned());
    match row {
        Row::Domain(DomainRow { domain, transport, backupmx, active: true, .. }) => {
            let map = if *backupmx { Map::RelayDomains } else { Map::Domains };
            let mut own = vec![entry(map, domain, domain)];
            if !transport.is_empty() && transport != VIRTUAL {
                check_value(transport)?;
                own.push(entry(Map::Transport, domain, transport));
            }
            Ok(own)
        }
        Row::Domain(DomainRow { domain, active: false, .. }) => {
            Ok(vec![entry(Map::Transport, domain, SWITCHED_OFF)])
        }
        Row::Mailbox(MailboxRow { username, maildir, active: true, .. }) => {
            check_path(maildir)?;
            Ok(vec![entry(Map::Mailbox, username, maildir)])
        }
        Row::Mailbox(row) => Ok(vec![entry(Map::Disabled, &row.username, DISABLED)]),
        Row::Alias(AliasRow { address, goto, active: true, .. }) => {
            check_value(goto)?;
            Ok(vec![entry(Map::Alias, address, goto)])
        }
        Row::AliasDomain(row) => check_key(&row.target_domain).map(|()| Vec::new()),
        Row::Id(IdRow { key, uid, gid }) => {
            let key = if key.contains('@') { key.clone() } else { format!("@{key}") };
            Ok(vec![entry(Map::Uid, &key, &uid.to_string()), entry(Map::Gid, &key, &gid.to_string())])
        }
        Row::Alias(_) | Row::Admin(_) => Ok(Vec::new()),
    }
}

/// The transport of a domain that is switched off. Postfix calls it foreign, and would relay its mail: what aliases and
/// trusted clients send there.
const SWITCHED_OFF: &str = "error:5.1.2 domain is switched off";

/// access(5)'s answer for a mailbox that is switched off.
const DISABLED: &str = "550 5.1.1 mailbox disabled";

/// access(5)'s answer that ends the search for one.
const NOT_DISABLED: &str = "DUNNO";

/// Active alias domains by their target.
fn alias_domains<'a>(rows: &[&'a Row]) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut by_target: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows {
        if let Row::AliasDomain(row) = row
            && row.active
        {
            by_target.entry(&row.target_domain).or_default().push(&row.alias_domain);
        }
    }
    by_target
}

/// What a row answers for the alias domains of its domain. A file knows no joins: each address is written out, so that
/// one that does not exist is refused at RCPT TO.
fn inherited(row: &Row, alias_domains: &BTreeMap<&str, Vec<&str>>) -> Vec<Entry> {
    let (map, address, value) = match row {
        Row::Alias(row) if row.active => (Map::Alias, &row.address, row.goto.as_str()),
        Row::Mailbox(row) if !row.active => (Map::Disabled, &row.username, DISABLED),
        _ => return Vec::new(),
    };
    let Some((local_part, domain)) = address.rsplit_once('@') else { return Vec::new() };
    let aliases = alias_domains.get(domain).into_iter().flatten();
    aliases.map(|alias| ((map, format!("{local_part}@{alias}")), value.to_owned())).collect()
}

fn check_key(key: &str) -> Result<(), Refusal> {
    let harmless = |c: u8| c.is_ascii_graphic() && c != b'"' && c != b'\\';
    if key.starts_with('#') {
        Err(Refusal::Comment)
    } else if !key.is_empty() && key.bytes().all(harmless) {
        Ok(())
    } else {
        Err(Refusal::Key)
    }
}

fn check_value(value: &str) -> Result<(), Refusal> {
    let harmless = !value.is_empty() && !value.contains(char::is_control) && value.trim() == value;
    if harmless { Ok(()) } else { Err(Refusal::Value) }
}

/// virtual(8) follows `..` out of the mail store.
fn check_path(path: &str) -> Result<(), Refusal> {
    check_value(path)?;
    let segments = path.strip_suffix('/').unwrap_or(path).split('/');
    let below = segments.into_iter().all(|segment| !matches!(segment, "" | "." | ".."));
    if below { Ok(()) } else { Err(Refusal::Path) }
}
