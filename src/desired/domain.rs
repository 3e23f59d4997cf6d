//! What should stand under a domain: its row, and the row that makes it an alias of another.

use super::{
    Desired, Verdict, Want, Warning, conflict, is_judged, is_unknown, limit_exceeded, named, no_server,
    owner, routed, synced,
};
use crate::api::limits::megabytes;
use crate::api::next_hop::{TRANSPORT_MESSAGE, is_transport};
use crate::api::{DomainName, Reason};
use crate::index::rows::{DomainRow, ObjectId, ServerRow, VIRTUAL};
use crate::index::{Claim, Held, Index, Key};
use crate::routing::{self, Finding};
use crate::tables::{AliasDomainRow, DomainRow as DomainTableRow, Row, SharedColumn};

/// Why the server that a `MailDomain` names doesn't serve it, if so.
pub(super) fn unserved(index: &Index, domain: &ObjectId) -> Option<Verdict> {
    let row = index.domain(&domain.name)?;
    let server = &row.server;
    if index.server(server).is_none() {
        let message = no_server(index, server, "correct serverRef of the MailDomain");
        return Some(Verdict::new(domain, Reason::UnknownServer, message));
    }
    let message = format!(
        "MailServer {server} does not admit {domain}: add the namespace {} to its allowedNamespaces",
        domain.name.namespace
    );
    (!index.server_admits(&domain.name, row)).then(|| Verdict::new(domain, Reason::NotAllowed, message))
}

pub(super) fn served(index: &Index, server: &ServerRow, held: Held<'_>, key: &Key) -> Desired {
    let Held { holder, row, .. } = held;
    let catch_all = catch_all_finding(index, held);
    let alias_of = row.alias_of.as_ref().map(|target| alias_domain(index, holder, row, target));
    let obstacle = match &alias_of {
        Some(Err(verdict)) => Some(verdict.clone()),
        _ => invalid_transport(holder, row)
            .or_else(|| lost_catch_all(held))
            .or_else(|| catch_all_over_limit(held))
            .or_else(|| Some(routed(holder, Some(catch_all.problem.as_ref()?), None)))
            .or_else(|| owner::obstacle(index, server, holder)),
    };
    let warning = crowded(held).or(catch_all.warning);
    let verdict = |claim: &Claim| {
        if claim.object == *holder {
            obstacle.clone().unwrap_or_else(|| synced(&claim.object)).with_warning(warning.clone())
        } else {
            unserved(index, &claim.object).unwrap_or_else(|| conflict(&claim.object, holder, key.as_str()))
        }
    };
    let want = |row_wanted: Row, named| Want {
        row: row_wanted,
        object: holder.clone(),
        uid: row.meta.uid.clone(),
        policy: row.policy,
        password: None,
        keep_foreign_targets: false,
        named,
    };
    let active = named([(SharedColumn::Active, row.names_active)]);
    let unknown = row.alias_of.as_ref().is_some_and(|target| is_unknown(index, target.as_str()));
    let alias_domain = alias_of.and_then(Result::ok).map(Row::AliasDomain);
    Desired {
        wants: std::iter::once(want(domain_row(row), domain_columns(row)))
            .chain(alias_domain.map(|alias_domain| want(alias_domain, active)))
            .chain(owner::domain_row(server, row).map(|id| want(Row::Id(id), Vec::new())))
            .collect(),
        verdicts: index
            .claims_on(key)
            .iter()
            .filter(|claim| is_judged(index, claim, key))
            .map(verdict)
            .collect(),
        unknown,
        ..Desired::default()
    }
}

/// What is wrong with the way of the mail that the domain's catch-all gets.
fn catch_all_finding(index: &Index, held: Held<'_>) -> Finding {
    if held.row.catch_all.is_empty() || catch_all_over_limit(held).is_some() {
        return Finding::default();
    }
    let address = held.row.domain.catch_all();
    let winner = held.winner("").filter(|claim| claim.object == *held.holder);
    winner.map(|winner| routing::judge(index, &address, winner)).unwrap_or_default()
}

/// The domain's catch-all counts as an alias.
fn catch_all_over_limit(held: Held<'_>) -> Option<Verdict> {
    Some(limit_exceeded(held.holder, held.exceeded(held.holder)?))
}

/// What doesn't fit into the domain's limits is told on the domain as well.
fn crowded(held: Held<'_>) -> Option<Warning> {
    let over = &held.allotment()?.over;
    let mut others = over.keys().filter(|object| *object != held.holder);
    let example = others.next()?;
    let message = format!("{} objects don't fit into the limits, {example} among them", 1 + others.count());
    Some((Reason::LimitExceeded, message.into()))
}

/// What stands in the row in place of a transport that Postfix's clients can't parse: the domain's mail waits in the queue.
const WAITING: &str = "retry:4.3.5 the transport of the MailDomain is invalid";

/// The domain's transport; `None`: it names one that would end smtp(8) or lmtp(8), for the mail of all domains.
fn transport(row: &DomainRow) -> Option<&str> {
    Some(row.transport.as_deref().unwrap_or(VIRTUAL)).filter(|transport| is_transport(transport))
}

/// An object that came in when the schema knew no better.
fn invalid_transport(holder: &ObjectId, row: &DomainRow) -> Option<Verdict> {
    let refused = || {
        let written = row.transport.as_deref().unwrap_or_default();
        let message =
            format!("transport {written} is not used, the domain's mail waits: {TRANSPORT_MESSAGE}");
        Verdict::new(holder, Reason::Invalid, message)
    };
    transport(row).is_none().then(refused)
}

fn domain_row(row: &DomainRow) -> Row {
    let limits = row.limits.unwrap_or_default();
    Row::Domain(DomainTableRow {
        domain: row.domain.to_string(),
        description: row.description.as_deref().unwrap_or_default().to_owned(),
        transport: transport(row).unwrap_or(WAITING).to_owned(),
        backupmx: row.backup_mx.unwrap_or(false),
        aliases: limits.aliases.unwrap_or_default().into(),
        mailboxes: limits.mailboxes.unwrap_or_default().into(),
        maxquota: limits.mailbox_quota.map_or(0, megabytes),
        quota: limits.total_quota.map_or(0, megabytes),
        active: row.active,
    })
}

fn domain_columns(row: &DomainRow) -> Vec<SharedColumn> {
    let limits = row.limits.unwrap_or_default();
    named([
        (SharedColumn::Description, row.description.is_some()),
        (SharedColumn::Transport, row.transport.is_some()),
        (SharedColumn::Backupmx, row.backup_mx.is_some()),
        (SharedColumn::Aliases, limits.aliases.is_some()),
        (SharedColumn::Mailboxes, limits.mailboxes.is_some()),
        (SharedColumn::Maxquota, limits.mailbox_quota.is_some()),
        (SharedColumn::Quota, limits.total_quota.is_some()),
        (SharedColumn::Active, row.names_active),
    ])
}

/// The domain's catch-all is an address like any other: an older object may have it.
fn lost_catch_all(held: Held<'_>) -> Option<Verdict> {
    if held.row.catch_all.is_empty() {
        return None;
    }
    let winner = held.winner("").filter(|claim| claim.object != *held.holder)?;
    Some(conflict(held.holder, &winner.object, held.row.domain.catch_all().as_str()))
}

/// The row that makes a domain an alias of `target`, or why there is none. Postfix follows one such row, so an alias of
/// an alias would have no addresses.
fn alias_domain(
    index: &Index,
    holder: &ObjectId,
    row: &DomainRow,
    target: &DomainName,
) -> Result<AliasDomainRow, Verdict> {
    if index.alias_target(row.domain.as_str()).is_some() {
        return Ok(AliasDomainRow {
            alias_domain: row.domain.to_string(),
            target_domain: target.to_string(),
            active: row.active,
        });
    }
    let served =
        index.holder(target.as_str()).filter(|_| index.server_of(target.as_str()) == Some(&row.server));
    let (reason, message) = match served {
        Some((_, DomainRow { alias_of: Some(further), .. })) => (
            Reason::Invalid,
            format!("aliasOf names {target}, which is an alias of {further} itself: write {further}"),
        ),
        Some((other, _)) => (
            Reason::NotAllowed,
            format!(
                "{other} does not admit {holder}: add the namespace {} to its allowedNamespaces",
                holder.name.namespace
            ),
        ),
        None => (
            Reason::UnknownDomain,
            format!(
                "MailServer {} serves no domain {target}: create its MailDomain, or correct aliasOf",
                row.server
            ),
        ),
    };
    Err(Verdict::new(holder, reason, message))
}
