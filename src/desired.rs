//! What should stand in the tables under a key, and what to tell the objects that declare it.
//!
//! Pure, and a function of one key: a full comparison asks for every key, a pass after an event only for the touched
//! ones, and both get the same answer. Identity alias rows, computed maildirs, "the oldest wins" and "only the
//! namespace that holds the domain" are decided here.

mod admin;
mod domain;
pub mod owner;

use std::borrow::Cow;

use crate::api::mail_server::{MailboxFormat, MailboxLayout};
use crate::api::{Address, DeletionPolicy, Reason};
use crate::index::rows::{Kind, MailboxRow, ObjectId, PasswordSource, ServerRow};
use crate::index::{Claim, Exceeded, Held, Index, Key};
use crate::object::ObjectName;
use crate::routing::{self, Finding, Problem};
use crate::tables::{AliasRow, MailboxRow as MailboxTableRow, Row, SharedColumn};

/// A row that should be in the database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Want {
    /// The row; its password is empty here and comes from `password`.
    pub row: Row,
    /// The object that declares it.
    pub object: ObjectId,
    /// That object's uid.
    pub uid: Box<str>,
    /// What happens to the row when the object goes.
    pub policy: DeletionPolicy,
    /// Where the password of a mailbox or an admin comes from; `None`: nobody can log in.
    pub password: Option<PasswordWant>,
    /// Whether targets that others put into `goto` stay: so for the identity row of a mailbox.
    pub keep_foreign_targets: bool,
    /// Columns that the object names; what others wrote into the other [`SharedColumn`]s stays.
    pub named: Vec<SharedColumn>,
}

/// A password that has to be fetched from a Secret before it can be written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PasswordWant {
    /// Namespace of the Secret.
    pub namespace: std::sync::Arc<str>,
    /// Secret, key and form.
    pub source: PasswordSource,
    /// The Secret's `resourceVersion`; `None` where there is no such Secret.
    pub version: Option<Box<str>>,
}

/// What an object is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// The object.
    pub object: ObjectId,
    /// The reason; [`Reason::Synced`] is the only good one.
    pub reason: Reason,
    /// A sentence for people.
    pub message: Cow<'static, str>,
    /// What is in order by itself and probably not meant: the condition `Warning`.
    pub warning: Option<Warning>,
    /// Where the mail of a mailbox is, if not where [`maildir`] says: its row was there before it, and was adopted.
    pub maildir: Option<Box<str>>,
}

/// Why an object that is in order may not do what was meant, and a sentence for people.
pub type Warning = (Reason, Cow<'static, str>);

impl Verdict {
    /// A verdict on an object, without a warning.
    pub fn new(object: &ObjectId, reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { object: object.clone(), reason, message: message.into(), warning: None, maildir: None }
    }

    /// Whether all is well, and nothing is to be said beside it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.reason == Reason::Synced && self.warning.is_none()
    }

    /// The same verdict with a warning, if there is one.
    #[must_use]
    pub fn with_warning(self, warning: Option<Warning>) -> Self {
        Self { warning, ..self }
    }
}

/// What should be under one key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Desired {
    /// The rows, none where nothing should be.
    pub wants: Vec<Want>,
    /// One verdict for each object that declares the key, assuming that the rows can be written.
    pub verdicts: Vec<Verdict>,
    /// Where the object that gets the key is over a limit: its uid, then those of the younger ones that may have the key and
    /// wait for it. Nobody is given rows, and rows that these own stay as they are.
    pub kept: Vec<Box<str>>,
    /// Whether the server serves the key's domain.
    pub serving: Serving,
    /// Whether the domain has a catch-all, which gets the mail of an address whose alias is switched off.
    pub has_catch_all: bool,
    /// It can't be known now, since an object that may decide it can't be parsed, or it is nobody's to say any more, since the
    /// server is gone: the rows stay as they are.
    pub unknown: bool,
}

/// Whether a server serves a key's domain.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Serving {
    /// It does; of an admin's key, it is there.
    #[default]
    Served,
    /// It doesn't, and the key is declared all the same: the rows of objects that are still there sleep until it is served.
    Waiting,
    /// It doesn't, and nothing declares the key.
    Undeclared,
}

/// What should be under `key`, and nothing for a key that another server serves.
#[must_use]
pub fn desired(index: &Index, server: &ObjectName, key: &Key) -> Desired {
    let held = || served(index, server, key);
    let found = index.server(server).and_then(|row| match key {
        Key::Admin(username) => Some(admin::served(index, server, username)),
        Key::Domain(_) => held().map(|held| domain::served(index, row, held, key)),
        Key::Address(address) => held().map(|held| served_address(index, row, held, address)),
    });
    found.unwrap_or_else(|| Desired {
        serving: if index.claims_on(key).is_empty() { Serving::Undeclared } else { Serving::Waiting },
        unknown: index.server(server).is_none() || is_unknown(index, key.domain()),
        ..Desired::default()
    })
}

/// Whether nothing should be written under `key`, so that what is there may go. Answered at once where a mailbox gets the
/// address and fits: it has rows.
#[must_use]
pub fn is_empty(index: &Index, server: &ObjectName, key: &Key) -> bool {
    if let Key::Address(address) = key
        && let Some(held) = served(index, server, key)
        && let Some(winner) = held.winner(address.local_part())
        && winner.object.kind == Kind::Mailbox
        && held.exceeded(&winner.object).is_none()
    {
        return false;
    }
    let desired = desired(index, server, key);
    desired.wants.is_empty() && !desired.unknown
}

/// The key's domain, if `server` serves it.
fn served<'a>(index: &'a Index, server: &ObjectName, key: &Key) -> Option<Held<'a>> {
    index.held(key.domain()).filter(|held| held.server == Some(server))
}

/// Whether the `MailDomain` that holds a domain may be one that can't be parsed.
fn is_unknown(index: &Index, domain: &str) -> bool {
    index.unreadable_holder(domain).is_some()
}

/// The domains that `server` receives (`virtual`) or relays (`relay`) mail for, each with its class.
#[must_use]
pub fn domain_classes(index: &Index, server: &ObjectName) -> Vec<String> {
    let rows = index.domains_of(server).into_iter().flat_map(|key| desired(index, server, &key).wants);
    let class = |want: Want| match want.row {
        Row::Domain(row) if row.active => {
            Some(format!("{} {}", row.domain, if row.backupmx { "relay" } else { "virtual" }))
        }
        _ => None,
    };
    rows.filter_map(class).collect()
}

/// The verdicts on a key that no server serves; of an admin's, on those objects that none serves.
#[must_use]
pub fn unserved(index: &Index, key: &Key) -> Vec<Verdict> {
    if let Key::Admin(username) = key {
        return admin::unserved(index, username);
    }
    if index.server_of(key.domain()).is_some() {
        return Vec::new();
    }
    let waiting = |claim: &Claim| match (claim.object.kind, index.holder(key.domain())) {
        (Kind::Domain, None) => domain::unserved(index, &claim.object)
            .unwrap_or_else(|| Verdict::new(&claim.object, Reason::Conflict, no_holder(index, key.domain()))),
        (_, None) => Verdict::new(&claim.object, Reason::UnknownDomain, no_holder(index, key.domain())),
        (Kind::Domain, _) => domain::unserved(index, &claim.object).unwrap_or_else(|| synced(&claim.object)),
        (_, Some((holder, _))) => domain::unserved(index, holder).map_or_else(
            || synced(&claim.object),
            |verdict| Verdict { object: claim.object.clone(), ..verdict },
        ),
    };
    index.claims_on(key).iter().filter(|claim| is_judged(index, claim, key)).map(waiting).collect()
}

fn no_holder(index: &Index, domain: &str) -> String {
    match index.unreadable_holder(domain) {
        None => format!("no MailDomain declares {domain}: create one, or correct the address"),
        Some(unreadable) => format!(
            "no MailDomain that can be read holds {domain}, and MailDomain {unreadable} can't be read, the operator's log says why: until it can, rows of the domain stay as they are"
        ),
    }
}

/// What an object is told that names a `MailServer` which isn't known; `remedy`: what else may be done than to create it.
fn no_server(index: &Index, server: &ObjectName, remedy: &str) -> String {
    if index.is_unreadable_server(server) {
        format!(
            "MailServer {server} can't be read, the operator's log says why: until then its rows stay as they are"
        )
    } else {
        format!("MailServer {server} does not exist: create it, or {remedy}")
    }
}

/// Whether a claimant is judged under a key: a `MailDomain` under its domain and not under its catch-all's key, and nobody that
/// can't be read.
fn is_judged(index: &Index, claim: &Claim, key: &Key) -> bool {
    (claim.object.kind == Kind::Domain) == matches!(key, Key::Domain(_))
        && index.meta(&claim.object).is_some()
}

fn served_address(index: &Index, server: &ServerRow, held: Held<'_>, address: &Address) -> Desired {
    let has_catch_all = held.winner("").is_some();
    let claims = held.claims(address.local_part());
    let winner = held.winner_among(claims);
    let over = winner.and_then(|winner| held.exceeded(&winner.object));
    let finding = winner.filter(|_| over.is_none()).map(|winner| routing::judge(index, address, winner));
    let Finding { problem, warning } = finding.unwrap_or_default();
    let verdict = |claim: &Claim| match (winner, over) {
        (Some(winner), Some(exceeded)) if winner == claim => limit_exceeded(&claim.object, exceeded),
        (Some(winner), None) if winner == claim => {
            let routed = routed(&claim.object, problem.as_ref(), warning.clone());
            owner::obstacle(index, server, &claim.object)
                .filter(|_| routed.reason == Reason::Synced)
                .map_or(routed, |verdict| verdict.with_warning(warning.clone()))
        }
        (Some(winner), _) if held.admits(claim) => conflict(&claim.object, &winner.object, address.as_str()),
        _ => Verdict::new(
            &claim.object,
            Reason::NotAllowed,
            format!(
                "MailDomain {0} does not admit the namespace {1}: add {1} to its allowedNamespaces, or declare this address in {2}",
                held.holder.name, claim.object.name.namespace, held.holder.name.namespace
            ),
        ),
    };
    // A MailDomain is judged under its domain.
    let spoken_for = claims.iter().filter(|claim| claim.object.kind != Kind::Domain);
    let verdicts = spoken_for.map(verdict).collect();
    let desired = Desired { verdicts, has_catch_all, ..Desired::default() };
    let object = winner.map(|claim| &claim.object);
    match object {
        Some(_) if over.is_some() => {
            let waiting = claims.iter().filter(|claim| held.admits(claim));
            let kept = waiting.filter_map(|claim| Some(index.meta(&claim.object)?.uid.clone())).collect();
            Desired { kept, ..desired }
        }
        Some(object) if object.kind == Kind::Mailbox => {
            let row = index.mailbox(&object.name);
            let way = Way { forwards: problem.is_none(), has_catch_all };
            let wants =
                row.map(|row| mailbox_wants(index, server, held, object, row, way)).unwrap_or_default();
            Desired { wants, ..desired }
        }
        Some(object) if problem.is_none() => {
            let wants = alias_want(index, object, address).into_iter().collect();
            Desired { wants, ..desired }
        }
        _ => desired,
    }
}

/// The verdict on an object whose rows can be written, as far as the way that its mail takes allows it.
fn routed(object: &ObjectId, problem: Option<&Problem>, warning: Option<Warning>) -> Verdict {
    match problem {
        None => synced(object).with_warning(warning),
        Some(problem) if object.kind == Kind::Mailbox => {
            let message = format!("forwardTo is not followed, the mailbox keeps its mail: {problem}");
            Verdict::new(object, problem.reason(), message)
        }
        Some(problem) => {
            let what = if object.kind == Kind::Domain { "catch-all" } else { "alias" };
            Verdict::new(object, problem.reason(), format!("the {what} is not written: {problem}"))
        }
    }
}

fn limit_exceeded(object: &ObjectId, exceeded: Exceeded) -> Verdict {
    Verdict::new(object, Reason::LimitExceeded, exceeded.to_string())
}

fn synced(object: &ObjectId) -> Verdict {
    Verdict::new(object, Reason::Synced, "what Postfix looks up is as declared")
}

fn conflict(loser: &ObjectId, winner: &ObjectId, key: &str) -> Verdict {
    Verdict::new(loser, Reason::Conflict, format!("{winner} is older and declares {key} as well"))
}

fn alias_want(index: &Index, object: &ObjectId, address: &Address) -> Option<Want> {
    let (meta, goto, description, (active, names_active), policy) = match object.kind {
        Kind::Alias => {
            let row = index.alias(&object.name)?;
            let active = (row.active, row.names_active);
            (&row.meta, &row.goto, row.description.as_deref(), active, row.policy)
        }
        Kind::Domain => {
            let row = index.domain(&object.name)?;
            (&row.meta, &row.catch_all, None, (row.active, row.names_active), row.policy)
        }
        Kind::Mailbox | Kind::Admin => return None,
    };
    Some(Want {
        row: Row::Alias(AliasRow {
            address: address.to_string(),
            goto: join(goto.iter()),
            domain: address.domain().to_owned(),
            description: description.unwrap_or_default().to_owned(),
            active,
        }),
        object: object.clone(),
        uid: meta.uid.clone(),
        policy,
        password: None,
        keep_foreign_targets: false,
        named: named([
            (SharedColumn::Description, description.is_some()),
            (SharedColumn::Active, names_active),
        ]),
    })
}

/// The password that an object refers to, with the version that its Secret has now.
fn password_want(index: &Index, object: &ObjectId, source: Option<&PasswordSource>) -> Option<PasswordWant> {
    let source = source?;
    let namespace = object.name.namespace.clone();
    let secret = ObjectName { namespace: namespace.clone(), name: source.reference().name.as_str().into() };
    let version = index.secret_version(&secret).map(Into::into);
    Some(PasswordWant { namespace, source: source.clone(), version })
}

/// The columns that are named.
fn named<const N: usize>(columns: [(SharedColumn, bool); N]) -> Vec<SharedColumn> {
    columns.into_iter().filter(|(_, named)| *named).map(|(column, _)| column).collect()
}

/// What the identity row of a mailbox depends on beside the mailbox.
#[derive(Clone, Copy)]
struct Way {
    /// Whether its forwards are followed: without them it keeps all mail.
    forwards: bool,
    /// Whether its domain has a catch-all.
    has_catch_all: bool,
}

/// The rows of a mailbox.
fn mailbox_wants(
    index: &Index,
    server: &ServerRow,
    held: Held<'_>,
    object: &ObjectId,
    row: &MailboxRow,
    way: Way,
) -> Vec<Want> {
    let address = &row.address;
    let password = password_want(index, object, row.password.as_deref());
    let want = |row_wanted: Row, named| Want {
        row: row_wanted,
        object: object.clone(),
        uid: row.meta.uid.clone(),
        policy: row.policy,
        password: None,
        keep_foreign_targets: false,
        named,
    };
    let mailbox = Row::Mailbox(MailboxTableRow {
        username: address.to_string(),
        password: String::new(),
        name: row.display_name.as_deref().unwrap_or_default().to_owned(),
        maildir: maildir(server, address),
        quota: row.quota.unwrap_or_default(),
        local_part: address.local_part().to_owned(),
        domain: address.domain().to_owned(),
        active: row.active,
    });
    let identity = Row::Alias(AliasRow {
        address: address.to_string(),
        goto: if way.forwards { join(row.targets()) } else { address.to_string() },
        domain: address.domain().to_owned(),
        description: String::new(),
        // Without it the catch-all's owner would get the mail of a disabled mailbox.
        active: row.active || way.has_catch_all,
    });
    let mailbox_named = named([
        (SharedColumn::Name, row.display_name.is_some()),
        (SharedColumn::Quota, row.quota.is_some()),
        (SharedColumn::Active, row.names_active),
    ]);
    let identity_named = named([(SharedColumn::Active, row.names_active)]);
    let owner = owner::mailbox_row(server, held.row, row).map(|id| want(Row::Id(id), Vec::new()));
    let mut wants = Vec::with_capacity(3);
    wants.push(Want { password, ..want(mailbox, mailbox_named) });
    wants.push(Want { keep_foreign_targets: true, ..want(identity, identity_named) });
    wants.extend(owner);
    wants
}

/// Where a mailbox's mail is, below the mail store: computed, never taken from the user.
#[must_use]
pub fn maildir(server: &ServerRow, address: &Address) -> String {
    let folder = match server.layout {
        MailboxLayout::LocalPart => address.local_part(),
        MailboxLayout::Address => address.as_str(),
    };
    let slash = match server.format {
        MailboxFormat::Maildir => "/",
        MailboxFormat::Mbox => "",
    };
    format!("{}/{folder}{slash}", address.domain())
}

fn join<'a>(targets: impl Iterator<Item = &'a Address>) -> String {
    targets.map(Address::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
