//! What is declared, as the API server told it: the operator's own [`Index`], and what the objects' status says.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use crate::api::namespaces::AllowedNamespaces;
use crate::api::{MailAlias, MailDomain, MailServer, MailServerSpec, Mailbox, Reason};
use crate::index::Index;
use crate::index::rows::{Kind, ObjectId};
use crate::object::ObjectName;
use crate::plugin::rows::Rows;
use crate::watches::guard::Unreadable;

/// All objects that could be listed.
#[derive(Debug, Default)]
pub struct Declared {
    /// The same index that the operator works with.
    pub index: Index,
    /// What could not be listed or read, as sentences; empty where everything was.
    pub unseen: Vec<String>,
    /// Whether the labels of namespaces can't be read, so that no selector of an `allowedNamespaces` can be matched.
    pub labels_hidden: bool,
    servers: BTreeMap<ObjectName, (MailServerSpec, Status)>,
    status: HashMap<ObjectId, Status>,
    /// Where the status of each mailbox says that its mail is: an adopted row has a maildir of its own.
    maildirs: HashMap<ObjectName, String>,
}

/// An object and what its status says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Kind, namespace and name, as in `Mailbox mail/alfred`.
    pub object: String,
    /// Conditions that are worth telling: `Ready`, and what is not as it should be.
    pub conditions: Vec<Said>,
    /// Whether the operator has seen the object as it is now.
    pub current: bool,
}

/// A condition.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Said {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One of the reasons of docs/conditions.md.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl Status {
    fn of<K: kube::Resource<DynamicType = ()>>(
        object: &K,
        observed: Option<i64>,
        conditions: &[Condition],
    ) -> Self {
        let name = ObjectName::of(object);
        let worth_telling = |condition: &&Condition| match condition.type_.as_str() {
            "Ready" => true,
            "Warning" => condition.status == "True",
            _ => condition.status != "True",
        };
        let said = |condition: &Condition| Said {
            type_: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        };
        Self {
            object: format!("{} {name}", K::kind(&())),
            conditions: conditions.iter().filter(worth_telling).map(said).collect(),
            current: observed.is_some() && observed == object.meta().generation,
        }
    }

    /// Why the rows in the tables may not be those that the object declares; `None` where they are. A missing password
    /// keeps no mail away.
    #[must_use]
    pub fn doubt(&self) -> Option<String> {
        let ready = self.conditions.iter().find(|condition| condition.type_ == "Ready");
        let in_place = ready.is_some_and(|ready| {
            let reasons = [Reason::SecretNotFound, Reason::SecretInvalid].map(Reason::as_str);
            ready.status == "True" || reasons.contains(&ready.reason.as_str())
        });
        match ready {
            _ if in_place && self.current => None,
            Some(ready) if self.current => {
                Some(format!("{} is not in place: {}: {}", self.object, ready.reason, ready.message))
            }
            _ => Some(format!("the operator has not seen {} as it is now", self.object)),
        }
    }

    /// Whether the operator holds deletions back, so that rows are there which nothing declares.
    fn holds_deletions(&self) -> bool {
        self.conditions.iter().any(|said| said.reason == Reason::DeletionsHeld.as_str())
    }
}

impl Declared {
    /// Adds a `MailServer`; one that is being deleted serves nothing any more.
    pub fn add_server(&mut self, server: &MailServer) {
        if server.metadata.deletion_timestamp.is_some() {
            return;
        }
        self.note_selector(server, server.spec.allowed_namespaces.as_ref());
        let status = server.status.clone().unwrap_or_default();
        let status = Status::of(server, status.observed_generation, &status.conditions);
        self.servers.insert(ObjectName::of(server), (server.spec.clone(), status));
        self.index.apply_server(&ObjectName::of(server), server.into());
    }

    /// Adds a `MailDomain`.
    pub fn add_domain(&mut self, domain: &MailDomain) {
        self.note_selector(domain, domain.spec.allowed_namespaces.as_ref());
        let status = domain.status.clone().unwrap_or_default();
        let status = Status::of(domain, status.observed_generation, &status.conditions);
        self.remember(Kind::Domain, domain, status);
        self.index.apply_domain(ObjectName::of(domain), domain.into());
    }

    /// Adds a `Mailbox`.
    pub fn add_mailbox(&mut self, mailbox: &Mailbox) {
        let status = mailbox.status.clone().unwrap_or_default();
        let status = Status::of(mailbox, status.observed_generation, &status.conditions);
        self.remember(Kind::Mailbox, mailbox, status);
        let maildir = mailbox.status.as_ref().and_then(|status| status.maildir.clone());
        self.maildirs.extend(maildir.map(|maildir| (ObjectName::of(mailbox), maildir)));
        self.index.apply_mailbox(ObjectName::of(mailbox), mailbox.into());
    }

    /// Adds a `MailAlias`.
    pub fn add_alias(&mut self, alias: &MailAlias) {
        let status = alias.status.clone().unwrap_or_default();
        let status = Status::of(alias, status.observed_generation, &status.conditions);
        self.remember(Kind::Alias, alias, status);
        self.index.apply_alias(ObjectName::of(alias), alias.into());
    }

    /// Adds a `MailServer` that can't be parsed.
    pub(super) fn add_unreadable_server(&mut self, name: &ObjectName, object: &Unreadable) {
        self.unseen.push(format!("MailServer {name} can't be read: {}", object.error));
        self.index.apply_unreadable_server(name);
    }

    /// Adds an account object that can't be parsed.
    pub(super) fn add_unreadable(&mut self, id: ObjectId, object: &Unreadable) {
        self.unseen.push(format!("{id} can't be read: {}", object.error));
        let outline = object.outline(&id.name.namespace);
        self.index.apply_unreadable(id, outline);
    }

    fn note_selector<K>(&mut self, object: &K, allowed: Option<&AllowedNamespaces>)
    where
        K: kube::Resource<DynamicType = ()>,
    {
        if self.labels_hidden && allowed.is_some_and(|allowed| allowed.selector.is_some()) {
            let (kind, name) = (K::kind(&()), ObjectName::of(object));
            self.unseen.push(format!(
                "you may not list namespaces: which of them {kind} {name} admits by their labels is not known"
            ));
        }
    }

    fn remember<K: kube::Resource<DynamicType = ()>>(&mut self, kind: Kind, object: &K, status: Status) {
        self.status.insert(ObjectId { kind, name: ObjectName::of(object) }, status);
    }

    /// Why mail for what nothing declares may be received all the same.
    pub(super) fn doubts_of_absence(&self) -> Vec<String> {
        let holding = self.servers.values().filter(|(_, status)| status.holds_deletions());
        let held = holding.map(|(_, status)| {
            format!("{} holds deletions back: what was declared before may still receive mail", status.object)
        });
        self.unseen.iter().cloned().chain(held).collect()
    }

    /// The rows of one server.
    pub(super) fn rows<'a>(&'a self, server: &'a ObjectName) -> Rows<'a> {
        Rows { index: &self.index, server, maildirs: &self.maildirs }
    }

    /// What the status of an account object says.
    #[must_use]
    pub fn status(&self, object: &ObjectId) -> Option<&Status> {
        self.status.get(object)
    }

    /// The spec of a `MailServer` and what its status says.
    #[must_use]
    pub fn server(&self, name: &ObjectName) -> Option<(&MailServerSpec, &Status)> {
        self.servers.get(name).map(|(spec, status)| (spec, status))
    }
}
