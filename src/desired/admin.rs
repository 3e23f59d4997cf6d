//! What should stand under the username of an admin: its row, with the domains that it may manage.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::{Desired, Verdict, Want, conflict, is_unknown, named, no_holder, no_server, password_want};
use crate::api::{Address, DomainName, Reason};
use crate::index::rows::{AdminRow, ObjectId};
use crate::index::{Claim, Index};
use crate::object::ObjectName;
use crate::tables::{ALL_DOMAINS, AdminRow as AdminTableRow, Row, SharedColumn};

/// The verdicts on the admins of this username whose server isn't there or doesn't admit them.
pub(super) fn unserved(index: &Index, username: &Address) -> Vec<Verdict> {
    let refused = |(claim, row): (&Claim, &AdminRow)| {
        let (object, server) = (&claim.object, &row.server);
        if index.server(server).is_none() {
            let message = no_server(index, server, "correct serverRef");
            return Some(Verdict::new(object, Reason::UnknownServer, message));
        }
        let message = format!(
            "MailServer {server} does not admit {object}: add the namespace {} to its allowedNamespaces",
            object.name.namespace
        );
        (!index.server_admits_admin(&object.name, row))
            .then(|| Verdict::new(object, Reason::NotAllowed, message))
    };
    index.admin_claims(username).filter_map(refused).collect()
}

pub(super) fn served(index: &Index, server: &ObjectName, username: &Address) -> Desired {
    let claims: Vec<_> = index.admin_claims(username).filter(|(_, row)| row.server == *server).collect();
    if index.server(server).is_some_and(|row| row.files) {
        return Desired { verdicts: without_database(index, server, &claims), ..Desired::default() };
    }
    let winner = claims.iter().copied().find(|(claim, row)| may_have(index, &claim.object, row));
    let verdict = |(claim, row): (&Claim, &AdminRow)| match winner {
        Some((winner, _)) if winner == claim => granted(index, &claim.object, row).1,
        Some((winner, _)) if may_have(index, &claim.object, row) => {
            conflict(&claim.object, &winner.object, username.as_str())
        }
        _ => Verdict::new(
            &claim.object,
            Reason::NotAllowed,
            format!(
                "superAdmin is for the namespace {} of the MailServer: name domains, or declare this admin there",
                server.namespace
            ),
        ),
    };
    let admitted =
        claims.iter().copied().filter(|(claim, row)| index.server_admits_admin(&claim.object.name, row));
    Desired {
        wants: winner.map(|(claim, row)| want(index, &claim.object, row)).into_iter().collect(),
        verdicts: admitted.map(verdict).collect(),
        unknown: winner
            .is_some_and(|(_, row)| row.domains.iter().any(|domain| is_unknown(index, domain.as_str()))),
        ..Desired::default()
    }
}

/// Where accounts are looked up in files there is no `PostfixAdmin` to log in to.
fn without_database(index: &Index, server: &ObjectName, claims: &[(&Claim, &AdminRow)]) -> Vec<Verdict> {
    let admitted = claims.iter().filter(|(claim, row)| index.server_admits_admin(&claim.object.name, row));
    let message = format!(
        "MailServer {server} looks accounts up in files and has no database to log in to: name another MailServer, or delete this MailAdmin"
    );
    admitted.map(|(claim, _)| Verdict::new(&claim.object, Reason::Invalid, message.clone())).collect()
}

/// Tenants manage domains that admit them, and never all of them.
fn may_have(index: &Index, object: &ObjectId, row: &AdminRow) -> bool {
    index.server_admits_admin(&object.name, row)
        && (!row.super_admin || object.name.namespace == row.server.namespace)
}

fn want(index: &Index, object: &ObjectId, row: &AdminRow) -> Want {
    Want {
        row: Row::Admin(AdminTableRow {
            username: row.username.to_string(),
            password: String::new(),
            superadmin: row.super_admin,
            active: row.active,
            domains: granted(index, object, row).0,
        }),
        object: object.clone(),
        uid: row.meta.uid.clone(),
        policy: row.policy,
        password: password_want(index, object, row.password.as_deref()),
        keep_foreign_targets: false,
        named: named([(SharedColumn::Active, row.names_active)]),
    }
}

fn synced(object: &ObjectId) -> Verdict {
    Verdict::new(object, Reason::Synced, "the admin's rows are as declared")
}

/// The domains that an admin gets, and what it is told of those that it doesn't get.
fn granted(index: &Index, object: &ObjectId, row: &AdminRow) -> (BTreeSet<String>, Verdict) {
    if row.super_admin {
        return ([ALL_DOMAINS.to_owned()].into(), synced(object));
    }
    let mut refused = row.domains.iter().filter_map(|domain| refusal(index, object, row, domain));
    let verdict = refused.next().map_or_else(
        || synced(object),
        |(reason, message)| {
            let more = match refused.count() {
                0 => String::new(),
                others => format!("; so it is with {others} more of its domains"),
            };
            Verdict::new(object, reason, format!("{message}{more}"))
        },
    );
    let domains = row.domains.iter().filter(|domain| refusal(index, object, row, domain).is_none());
    (domains.map(ToString::to_string).collect(), verdict)
}

/// Why an admin may not manage a domain, if so.
fn refusal(
    index: &Index,
    object: &ObjectId,
    row: &AdminRow,
    domain: &DomainName,
) -> Option<(Reason, String)> {
    let server = &row.server;
    let holder = index.holder(domain.as_str()).filter(|_| index.server_of(domain.as_str()) == Some(server));
    match holder {
        Some((holder, held)) if index.domain_admits(&holder.name, held, &object.name.namespace) => None,
        Some((holder, _)) => {
            let namespace = &object.name.namespace;
            let message = format!(
                "{domain} is not given to this admin: {holder} does not admit the namespace {namespace}: add {namespace} to its allowedNamespaces, or take the domain out of domains"
            );
            Some((Reason::NotAllowed, message))
        }
        None if is_unknown(index, domain.as_str()) => {
            Some((Reason::UnknownDomain, no_holder(index, domain.as_str())))
        }
        None => {
            let message = format!(
                "{domain} is not given to this admin: MailServer {server} serves no such domain: create its MailDomain, or correct domains"
            );
            Some((Reason::UnknownDomain, message))
        }
    }
}
