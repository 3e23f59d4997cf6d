//! Lists what is declared, as far as the user may see it.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::command::Error;
use super::declared::Declared;
use crate::api::{MailAlias, MailDomain, MailServer, Mailbox};

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
        declared.add_server(&server);
    }
    for domain in lister.list::<MailDomain>(&mut unseen).await? {
        declared.add_domain(&domain);
    }
    for mailbox in lister.list::<Mailbox>(&mut unseen).await? {
        declared.add_mailbox(&mailbox);
    }
    for alias in lister.list::<MailAlias>(&mut unseen).await? {
        declared.add_alias(&alias);
    }
    declared.unseen.extend(unseen);
    Ok(declared)
}

struct Lister<'a> {
    client: &'a Client,
    namespace: Option<&'a str>,
    default: &'a str,
}

impl Lister<'_> {
    async fn list<K>(&self, unseen: &mut Vec<String>) -> Result<Vec<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
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
