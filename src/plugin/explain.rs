//! What happens to mail for an address, and why. Pure: what is declared in, an explanation out.
//!
//! It follows Postfix: smtpd(8) asks for the domain, for a mailbox that is switched off and for the recipient, and
//! refuses what it does not find; cleanup(8) expands aliases; virtual(8), or the domain's transport, delivers. Rows that
//! nobody declared, and targets that others put into `goto`, are not known here.

use std::collections::HashSet;

use super::declared::{Declared, Status};
use super::explanation::{Destination, Explanation, Step, Verdict, Way};
use super::rows::{Rows, ToldRow};
use crate::api::Address;
use crate::index::Claim;
use crate::index::rows::{DomainRow, ObjectId, VIRTUAL};
use crate::object::ObjectName;
use crate::routing::{self, Via};
use crate::server::validate::{MailStore, mail_store};
use crate::tables::{MailboxRow, Row};

/// Explains what happens to mail for `address` when it comes from a client that may not relay.
#[must_use]
pub fn explain(declared: &Declared, address: &Address) -> Explanation {
    let mut story = Story {
        declared,
        address,
        explanation: Explanation {
            address: address.to_string(),
            steps: Vec::new(),
            verdict: Verdict::refused(String::new(), String::new()),
            doubts: declared.unseen.clone(),
        },
    };
    let verdict = story.tell();
    story.explanation.verdict = verdict;
    story.explanation
}

/// An explanation while it is told.
struct Story<'a> {
    declared: &'a Declared,
    address: &'a Address,
    explanation: Explanation,
}

impl Story<'_> {
    fn tell(&mut self) -> Verdict {
        let index = &self.declared.index;
        let Some((holder, row)) = index.holder(self.address.domain()) else { return self.foreign_domain() };
        let Some(server) = index.server_of(self.address.domain()) else {
            return self.unserved_domain(holder, row);
        };
        let rows = self.declared.rows(server);
        self.server(server);
        self.domain(rows, holder);
        self.losers(self.address.as_str(), rows);
        if let Some(untagged) = rows.untagged(self.address.as_str()) {
            self.losers(&untagged, rows);
        }
        if let Some(refusal) = self.refusal(rows) {
            return refusal;
        }
        self.expand(rows)
    }

    /// Adds a step about the objects that stand behind it; what they are not sure of is a doubt.
    fn step<'b>(&mut self, title: String, objects: impl IntoIterator<Item = &'b ObjectId>) -> &mut Step {
        let objects: Vec<Status> =
            objects.into_iter().filter_map(|object| self.declared.status(object).cloned()).collect();
        for doubt in objects.iter().filter_map(Status::doubt) {
            self.doubt(doubt);
        }
        self.add(Step { title, objects, ..Step::default() })
    }

    fn add(&mut self, step: Step) -> &mut Step {
        self.explanation.steps.push(step);
        let last = self.explanation.steps.len() - 1;
        &mut self.explanation.steps[last]
    }

    fn doubt(&mut self, doubt: String) {
        if !self.explanation.doubts.contains(&doubt) {
            self.explanation.doubts.push(doubt);
        }
    }

    fn reply(&self, code: &str, words: &str) -> String {
        format!("{code} <{}>: {words}", self.address)
    }

    fn relay_denied(&self, why: String) -> Verdict {
        Verdict::refused(self.reply("554 5.7.1", "Relay access denied"), why)
    }

    fn foreign_domain(&mut self) -> Verdict {
        let domain = self.address.domain();
        let claims = self
            .declared
            .index
            .entry(domain)
            .map_or(&[][..], |entry| entry.claims(self.address.local_part()));
        self.step(format!("no MailDomain declares {domain}"), claims.iter().map(|claim| &claim.object));
        self.explanation.doubts = self.declared.doubts_of_absence();
        self.relay_denied(format!(
            "no MailServer receives mail for {domain}; only trustedNetworks may send there"
        ))
    }

    fn unserved_domain(&mut self, holder: &ObjectId, row: &DomainRow) -> Verdict {
        let why = match self.declared.index.server(&row.server) {
            None => format!("MailServer {} does not exist", row.server),
            Some(_) => format!("MailServer {} does not admit its namespace", row.server),
        };
        let step = self.step(format!("domain {}", row.domain), [holder]);
        step.facts.push(why.clone());
        self.explanation.doubts = self.declared.doubts_of_absence();
        self.relay_denied(why)
    }

    fn server(&mut self, name: &ObjectName) {
        let Some((spec, status)) = self.declared.server(name) else { return };
        let step = Step {
            title: format!("server {}", spec.hostname.as_str()),
            objects: vec![status.clone()],
            ..Step::default()
        };
        if let Some(doubt) = status.doubt() {
            self.doubt(doubt);
        }
        self.add(step);
    }

    fn domain(&mut self, rows: Rows<'_>, holder: &ObjectId) {
        let wants = rows.under(self.address.domain()).wants;
        let entry = self.declared.index.entry(self.address.domain());
        let others: Vec<ObjectId> = entry
            .map_or(&[][..], |entry| entry.domain_claims())
            .iter()
            .map(|claim| claim.object.clone())
            .filter(|object| object != holder)
            .collect();
        let (mailboxes, aliases) = self.declared.index.counts(self.address.domain());
        let step = self.step(format!("domain {}", self.address.domain()), [holder]);
        step.rows = wants.iter().map(|want| ToldRow::from(&want.row)).collect();
        step.facts.push(format!("in it: mailboxes {mailboxes}, aliases {aliases}"));
        step.facts.extend(others.iter().map(|other| format!("{other} declares it too and has no row")));
    }

    /// Objects that declare a key and don't get it.
    fn losers(&mut self, key: &str, rows: Rows<'_>) {
        let desired = rows.under(key);
        let winners: Vec<&ObjectId> = desired.wants.iter().map(|want| &want.object).collect();
        let lost = desired.verdicts.iter().filter(|verdict| !winners.contains(&&verdict.object));
        let facts: Vec<String> = lost
            .map(|verdict| format!("{}: {}: {}", verdict.object, verdict.reason.as_str(), verdict.message))
            .collect();
        if !desired.kept.is_empty() {
            self.doubt(format!("a row that {key} had before is kept, and can't be seen from here"));
        }
        if !facts.is_empty() {
            self.add(Step {
                title: format!("declarations of {key} without a row"),
                facts,
                ..Step::default()
            });
        }
    }

    /// The reply of smtpd(8), where it is a refusal.
    fn refusal(&mut self, rows: Rows<'_>) -> Option<Verdict> {
        let domain = rows.domain(self.address.domain())?.row;
        if !domain.active {
            return Some(self.relay_denied(format!("the domain {} is switched off", domain.domain)));
        }
        if let Some(disabled) = self.disabled_mailbox(rows) {
            let step = self.step(format!("mailbox {} is switched off", disabled.0.username), [&disabled.1]);
            step.rows.push(ToldRow::from(&Row::Mailbox(disabled.0)));
            let reply = self.reply("550 5.1.1", "Recipient address rejected: mailbox disabled");
            return Some(Verdict::refused(reply, "the mailbox is switched off (active: false)".to_owned()));
        }
        let listed =
            domain.backupmx || self.has_alias(rows) || mailbox(rows, self.address.as_str()).is_some();
        if listed {
            return None;
        }
        let switched_off = claims(self.declared, self.address)
            .iter()
            .find(|claim| self.declared.index.alias(&claim.object.name).is_some_and(|alias| !alias.active));
        let why = match switched_off.map(|claim| claim.object.clone()) {
            Some(object) => {
                self.step(format!("alias {} is switched off", self.address), [&object]);
                format!("{object} is switched off (active: false)")
            }
            None => {
                format!("no Mailbox, no MailAlias and no catch-all of {} takes it", self.address.domain())
            }
        };
        let reply =
            self.reply("550 5.1.1", "Recipient address rejected: User unknown in virtual mailbox table");
        Some(Verdict::refused(reply, why))
    }

    /// Whether the first row that answers for the address is in the table: one over a limit of its domain may not be.
    fn has_alias(&self, rows: Rows<'_>) -> bool {
        let expansion = routing::expand(rows.index, rows.server, self.address.as_str());
        expansion.steps.first().is_some_and(|step| rows.alias(step.row.as_str()).is_some())
    }

    /// What `check_recipient_access` finds: a mailbox that is switched off, with a tag or under an alias domain too. A row for
    /// the tagged address itself ends the search.
    fn disabled_mailbox(&self, rows: Rows<'_>) -> Option<(MailboxRow, ObjectId)> {
        let full = self.address.as_str();
        let asked = [Some(full.to_owned()), rows.untagged(full)].into_iter().flatten().flat_map(|address| {
            let in_target = address.split_once('@').and_then(|(local_part, domain)| {
                Some(format!("{local_part}@{}", rows.alias_target(domain)?.as_str()))
            });
            [Some(address), in_target].into_iter().flatten()
        });
        let mut answers = asked.filter_map(|address| match rows.mailbox(&address) {
            Some(found) => Some((!found.row.active).then_some((found.row, found.object))),
            None => rows.alias(&address).map(|_| None),
        });
        answers.next().flatten()
    }

    fn expand(&mut self, rows: Rows<'_>) -> Verdict {
        if let Some(untagged) = rows.untagged(self.address.as_str()) {
            let delimiter =
                rows.index.server(rows.server).map_or("", |server| server.recipient_delimiter.as_str());
            let facts = vec![format!(
                "what has no row of its own is looked up as {untagged} (recipient_delimiter = {delimiter})"
            )];
            self.add(Step { title: "tag".to_owned(), facts, ..Step::default() });
        }
        let expansion = routing::expand(rows.index, rows.server, self.address.as_str());
        let mut told = Vec::new();
        for step in expansion.steps {
            if !told.contains(&step) {
                self.alias(rows, &step);
                told.push(step);
            }
        }
        let recipients = match expansion.recipients {
            Ok(recipients) => recipients,
            Err(why) => {
                return Verdict::deferred("451 4.6.0 Alias expansion error".to_owned(), why.to_string());
            }
        };
        let mut seen = HashSet::new();
        let recipients = recipients.into_iter().filter(|recipient| seen.insert(recipient.clone()));
        let destinations = recipients.map(|recipient| self.destination(rows, &recipient)).collect();
        Verdict::accepted(destinations)
    }

    fn alias(&mut self, rows: Rows<'_>, found: &routing::Step) {
        let how = match found.via {
            _ if found.results == [found.address.as_str()] => "its own row",
            Via::Address => "alias",
            Via::AliasDomain => "alias domain",
            Via::CatchAll => "catch-all",
        };
        let wants = rows.under(found.row.as_str()).wants;
        let row = wants.iter().map(|want| &want.row).find(|row| matches!(row, Row::Alias(_)));
        let title = format!("{how}: {} -> {}", found.address, found.results.join(", "));
        let step = self.step(title, [&found.object]);
        step.rows = row.map(ToldRow::from).into_iter().collect();
    }

    /// Where a recipient's mail goes in the end.
    fn destination(&mut self, rows: Rows<'_>, recipient: &str) -> Destination {
        let to = |way, place: String| Destination { recipient: recipient.to_owned(), way, place };
        let domain = recipient.split_once('@').map_or("", |(_, domain)| domain);
        let Some(found) = rows.domain(domain) else {
            return to(Way::Forwarded, self.next_hop(rows.server, format!("the mail server of {domain}")));
        };
        let row = found.row;
        let transport = if row.transport == VIRTUAL { None } else { Some(row.transport.as_str()) };
        if !row.active {
            return to(Way::Bounced, format!("the domain {domain} is switched off"));
        }
        if row.backupmx {
            let hosts = || self.next_hop(rows.server, format!("the MX hosts of {domain}"));
            let next_hop = transport.map_or_else(hosts, str::to_owned);
            return to(Way::Forwarded, format!("{next_hop}, as a backup MX"));
        }
        if let Some(transport) = transport {
            return to(Way::Forwarded, format!("the transport {transport}"));
        }
        if let Some((row, object)) = mailbox(rows, recipient) {
            let place = self.mailbox(rows, row, &object);
            to(Way::Delivered, place)
        } else {
            self.losers(recipient, rows);
            to(Way::Bounced, "User unknown in virtual mailbox table".to_owned())
        }
    }

    /// Tells of the mailbox and returns its path on disk.
    fn mailbox(&mut self, rows: Rows<'_>, row: MailboxRow, object: &ObjectId) -> String {
        let store = self.mail_store(rows.server);
        let (uid, gid) = rows.owner(&row).unwrap_or((store.uid, store.gid));
        let path = format!("{}/{}", store.path, row.maildir);
        let quota = match row.quota {
            0 => "no quota".to_owned(),
            bytes => format!("quota {bytes} bytes, for an IMAP server to enforce"),
        };
        let step = self.step(format!("mailbox {}", row.username), [object]);
        step.facts = vec![format!("{path}, owner {uid}:{gid}, {quota}")];
        step.rows.push(ToldRow::from(&Row::Mailbox(row)));
        path
    }

    /// Where smtp(8) hands over what no transport of a domain takes: to the relay host in place of `hosts`, if there is one.
    fn next_hop(&self, server: &ObjectName, hosts: String) -> String {
        let postfix = self.declared.server(server).and_then(|(spec, _)| spec.postfix.as_ref());
        let relay_host = postfix.and_then(|postfix| postfix.relay_host.as_ref());
        relay_host.map_or(hosts, |relay| format!("the relay host {}:{}", relay.host, relay.port()))
    }

    fn mail_store(&self, server: &ObjectName) -> MailStore {
        let written = self.declared.server(server).and_then(|(spec, _)| spec.mail_store.clone());
        mail_store(written.unwrap_or_default())
    }
}

fn claims<'a>(declared: &'a Declared, address: &Address) -> &'a [Claim] {
    declared.index.entry(address.domain()).map_or(&[], |entry| entry.claims(address.local_part()))
}

/// The mailbox that virtual(8) finds for a recipient, with a tag or without.
fn mailbox(rows: Rows<'_>, recipient: &str) -> Option<(MailboxRow, ObjectId)> {
    [Some(recipient.to_owned()), rows.untagged(recipient)]
        .into_iter()
        .flatten()
        .filter_map(|address| rows.mailbox(&address))
        .find(|found| found.row.active)
        .map(|found| (found.row, found.object))
}

#[cfg(test)]
mod tests;
