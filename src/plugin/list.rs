//! Lists what is declared, as far as the user may see it.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::command::Error;
use super::declared::Declared;
use crate::api::MailServer;
use crate::index::rows::{Kind, ObjectId};
use crate::object::ObjectName;
use crate::watches::guard::{Guarded, Parted};

/// Objects a request, as kubectl lists.
const PAGE: u32 = 500;

/// Everything in `namespace`, or in all namespaces. What the user may not list everywhere is listed in the namespace
/// `default`, and the gap is told.
pub(super) async fn declared(
    client: &Client,
    namespace: Option<&str>,
    default: &str,
) -> Result<Declared, Error> {
    let lister = Lister { client, namespace, default };
    let mut declared = Declared::default();
    let mut unseen = Vec::new();
    lister.namespaces(&mut declared).await?;
    for server in lister.list::<MailServer>(&mut unseen).await? {
        let name = ObjectName::of(&server);
        match server.0 {
            Ok(server) => declared.add_server(&server),
            Err(unreadable) => declared.add_unreadable_server(&name, &unreadable),
        }
    }
    add(&mut declared, Kind::Domain, lister.list(&mut unseen).await?, Declared::add_domain);
    add(&mut declared, Kind::Mailbox, lister.list(&mut unseen).await?, Declared::add_mailbox);
    add(&mut declared, Kind::Alias, lister.list(&mut unseen).await?, Declared::add_alias);
    declared.unseen.extend(unseen);
    Ok(declared)
}

/// Adds account objects of one kind, those that can't be parsed too.
fn add<K: Resource<DynamicType = ()>>(
    declared: &mut Declared,
    kind: Kind,
    objects: Vec<Guarded<K>>,
    readable: fn(&mut Declared, &K),
) {
    for object in objects {
        let name = ObjectName::of(&object);
        match object.0 {
            Ok(object) => readable(declared, &object),
            Err(unreadable) => declared.add_unreadable(ObjectId { kind, name }, &unreadable),
        }
    }
}

struct Lister<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    default: &'a str,
}

impl Lister<'_> {
    async fn list<K>(&self, unseen: &mut Vec<String>) -> Result<Vec<Guarded<K>>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Parted,
    {
        let what = || format!("listing {}", K::plural(&()));
        if let Some(namespace) = self.namespace {
            return pages(&Api::namespaced(self.client.clone(), namespace)).await.map_err(Error::api(what()));
        }
        match pages(&Api::all(self.client.clone())).await {
            Err(error) if is_forbidden(&error) => {
                let api = Api::namespaced(self.client.clone(), self.default);
                let objects = pages(&api).await.map_err(Error::api(what()))?;
                unseen.push(format!(
                    "you may list {} in the namespace {} only: others may declare the address or its domain",
                    K::plural(&()),
                    self.default
                ));
                Ok(objects)
            }
            listed => listed.map_err(Error::api(what())),
        }
    }

    /// The labels of namespaces decide only where an `allowedNamespaces` has a selector; without the right to read them
    /// such a selector admits nobody here.
    async fn namespaces(&self, declared: &mut Declared) -> Result<(), Error> {
        match pages::<Namespace>(&Api::all(self.client.clone())).await {
            Ok(namespaces) => {
                for namespace in namespaces {
                    declared.index.apply_namespace(&namespace.name_any(), Some(namespace.labels().clone()));
                }
                Ok(())
            }
            Err(error) if is_forbidden(&error) => {
                declared.labels_hidden = true;
                Ok(())
            }
            Err(error) => Err(Error::api("listing namespaces")(error)),
        }
    }
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

async fn pages<K: Clone + Debug + DeserializeOwned>(api: &Api<K>) -> kube::Result<Vec<K>> {
    let mut objects = Vec::new();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await?;
        objects.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters.continue_token = Some(token),
            None => return Ok(objects),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Address;
    use crate::plugin::explain::explain;
    use crate::plugin::explanation::Outcome;
    use crate::testing::{api_server, object};

    /// An API server that holds these objects, by the plural of their kind, and nothing else.
    fn holding(objects: impl Fn(&str) -> Vec<Value> + Clone + Send + Sync + 'static) -> Client {
        api_server(move |request| {
            let plural = request.uri().path().rsplit('/').next().unwrap_or_default();
            (200, json!({"metadata": {"resourceVersion": "7"}, "items": objects(plural)}))
        })
    }

    #[tokio::test]
    async fn what_can_not_be_read_is_told_and_hides_nothing_else() {
        let client = holding(|plural| {
            let server = json!({"name": "myhost"});
            match plural {
                "mailservers" => vec![
                    object("mail", "myhost", 0, &json!({"hostname": "myhost.example.org"})),
                    object("mail", "newer", 0, &json!({"hostname": 7})),
                ],
                "maildomains" => vec![
                    object("mail", "alpha", 1, &json!({"serverRef": server, "domain": "alpha.example.org"})),
                    object(
                        "mail",
                        "beta",
                        1,
                        &json!({"serverRef": server, "domain": "beta.example.org", "deletionPolicy": "Later"}),
                    ),
                ],
                "mailboxes" => vec![
                    object("mail", "alfred", 2, &json!({"address": "alfred@alpha.example.org"})),
                    object("mail", "eve", 2, &json!({"address": 7})),
                ],
                _ => Vec::new(),
            }
        });
        let declared = declared(&client, None, "mail").await.unwrap();
        let unseen = ["MailServer mail/newer", "MailDomain mail/beta", "Mailbox mail/eve"];
        assert_eq!(declared.unseen.len(), unseen.len(), "{:?}", declared.unseen);
        for (told, object) in declared.unseen.iter().zip(unseen) {
            assert!(told.starts_with(&format!("{object} can't be read: ")), "{told}");
        }
        let explanation = explain(&declared, &Address::parse("alfred@alpha.example.org").unwrap());
        assert_eq!(explanation.verdict.outcome, Outcome::Accepted);
        assert!(unseen.iter().all(|object| explanation.doubts.iter().any(|doubt| doubt.starts_with(object))));
        let beta = declared.index.unreadable_holder("beta.example.org");
        assert_eq!(beta, Some(&ObjectName::new("mail", "beta")));
    }
}
