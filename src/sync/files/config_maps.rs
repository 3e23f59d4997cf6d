//! The `ConfigMap`s of a server's look-up files: read back, written where they differ, and shown to the pods.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};

use super::FilesError;
use super::set::Set;
use crate::api::{FIELD_MANAGER, MailServer};
use crate::client::{bounded, unless_gone};
use crate::object::ObjectName;
use crate::postfix;
use crate::postfix::shards::{
    self, Files, MANIFEST_FILE, Manifest, Placement, Shards, from_mounted_name, mounted_name,
};
use crate::server::apply;
use crate::server::build::names::{Component, maps, maps_slot, slot_of};

/// Annotation of a Postfix pod: hash of the look-up files that it was last asked to look at.
const MAPS_HASH_ANNOTATION: &str = "vmail.dev/maps-hash";

/// They, and what they hold as far as we know.
pub(super) struct ConfigMaps {
    client: Client,
    server: ObjectName,
    owner: OwnerReference,
    manifest: Option<Manifest>,
    /// Hash of what each slot holds.
    held: BTreeMap<u32, String>,
}

impl ConfigMaps {
    /// Reads them, and the set that they hold, as far as it can be read.
    pub(super) async fn open(client: Client, server: &ObjectName) -> Result<(Self, Set), FilesError> {
        let api = Api::<MailServer>::namespaced(client.clone(), &server.namespace);
        // A MailServer that can't be read any more is served on.
        let owner = bounded(api.get_metadata(&server.name)).await?.controller_owner_ref(&());
        let owner = owner.unwrap_or_default();
        let mut config_maps =
            Self { client, server: server.clone(), owner, manifest: None, held: BTreeMap::new() };
        let entries = config_maps.read().await?.values().flat_map(shards::read_entries).collect();
        let alias_domains = config_maps.manifest.as_ref().map(|manifest| manifest.alias_domains.clone());
        Ok((config_maps, Set::new(entries, alias_domains.unwrap_or_default())))
    }

    /// Reads them again; tells whether they hold something else than they were written with. Nothing is remembered of
    /// what is right then, so that the next [`ConfigMaps::write`] mends it.
    pub(super) async fn refresh(&mut self) -> Result<bool, FilesError> {
        let (manifest, held) = (self.manifest.take(), std::mem::take(&mut self.held));
        self.read().await?;
        Ok((&manifest, &held) != (&self.manifest, &self.held))
    }

    /// Gives the files by slot.
    async fn read(&mut self) -> Result<BTreeMap<u32, Files>, FilesError> {
        let mut slots = BTreeMap::new();
        let parameters = ListParams::default().labels(&Component::LookUpFiles.selector(&self.server.name));
        for config_map in bounded(self.api().list(&parameters)).await? {
            let (name, data) = (config_map.name_any(), config_map.data.unwrap_or_default());
            if name == maps(&self.server.name) {
                self.manifest = data.get(MANIFEST_FILE).and_then(|text| Manifest::parse(text));
            } else if let Some(slot) = slot_of(&self.server.name, &name) {
                let files: Files = data
                    .into_iter()
                    .filter_map(|(name, text)| Some((from_mounted_name(&name)?.1.to_owned(), text)))
                    .collect();
                self.held.insert(slot, postfix::hash(&files));
                slots.insert(slot, files);
            }
        }
        Ok(slots)
    }

    /// Writes the shards that differ, then the manifest, which makes them the set that counts; then removes what it
    /// doesn't name and has the pods look.
    pub(super) async fn write(
        &mut self,
        shards: &Shards,
        alias_domains: &BTreeSet<String>,
    ) -> Result<(), FilesError> {
        let before = self.manifest.clone().unwrap_or_default();
        let manifest = Manifest::of(shards, alias_domains.clone(), &before)?;
        let api = self.api();
        let mut is_changed = false;
        for (number, Placement { slot, hash }) in &manifest.shards {
            let Some(files) = shards.get(number).filter(|_| self.held.get(slot) != Some(hash)) else {
                continue;
            };
            let named = files.iter().map(|(name, text)| (mounted_name(*slot, name), text.clone()));
            self.apply(&api, maps_slot(&self.server.name, *slot), named.collect()).await?;
            self.held.insert(*slot, hash.clone());
            is_changed = true;
        }
        if self.manifest.as_ref() != Some(&manifest) {
            let text = [(MANIFEST_FILE.to_owned(), manifest.text())].into();
            self.apply(&api, maps(&self.server.name), text).await?;
            is_changed = true;
        }
        self.remove_all_but(&manifest).await?;
        if is_changed {
            self.show(&manifest.hash()).await;
        }
        self.manifest = Some(manifest);
        Ok(())
    }

    async fn apply(
        &self,
        api: &Api<ConfigMap>,
        name: String,
        data: BTreeMap<String, String>,
    ) -> Result<(), FilesError> {
        let config_map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(Component::LookUpFiles.labels(&self.server.name)),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        };
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        bounded(api.patch(&name, &parameters, &Patch::Apply(&config_map))).await?;
        Ok(())
    }

    async fn remove_all_but(&mut self, manifest: &Manifest) -> Result<(), FilesError> {
        let named: BTreeSet<u32> = manifest.shards.values().map(|placement| placement.slot).collect();
        let left: Vec<u32> = self.held.keys().filter(|slot| !named.contains(slot)).copied().collect();
        for slot in left {
            let (api, name) = (self.api(), maps_slot(&self.server.name, slot));
            unless_gone(bounded(api.delete(&name, &DeleteParams::default())).await)?;
            self.held.remove(&slot);
        }
        Ok(())
    }

    /// The kubelet projects a changed `ConfigMap` when the pod changes, within a second; else a minute later, which is
    /// what a failure here costs.
    async fn show(&self, hash: &str) {
        let shown = async {
            for pod in apply::pods(&self.client, &self.server, Component::Postfix).await? {
                let asked = apply::annotate(&self.client, &pod, MAPS_HASH_ANNOTATION, hash).await;
                // The others need not wait with it.
                if let Err(error) = apply::unless_gone(asked) {
                    self.not_shown(&error);
                }
            }
            Ok(())
        };
        if let Err(error) = shown.await {
            self.not_shown(&error);
        }
    }

    fn not_shown(&self, error: &crate::server::Error) {
        tracing::warn!(server = %self.server, %error, "pods not asked to look at the changed look-up files");
    }

    fn api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.server.namespace)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::Method;
    use serde_json::json;

    use super::*;
    use crate::testing::{api_server, failure};

    /// Three pods, of which the first is gone when it is written and the second can't be. `asked` gets the names of those
    /// that are written.
    fn pods(asked: Arc<Mutex<Vec<String>>>) -> Client {
        let pod = |name: &str| json!({"metadata": {"name": name, "namespace": "mail"}});
        let items = ["gone", "refused", "there"].map(pod);
        let list = json!({"metadata": {}, "items": items});
        api_server(move |request| {
            let name = request.uri().path().rsplit('/').next().unwrap_or_default();
            if request.method() == Method::PATCH {
                asked.lock().unwrap().push(name.to_owned());
            }
            match (request.method(), name) {
                (&Method::GET, _) => (200, list.clone()),
                (_, "gone") => failure(404, "NotFound", "gone"),
                (_, "refused") => failure(403, "Forbidden", "refused"),
                (_, name) => (200, pod(name)),
            }
        })
    }

    #[tokio::test]
    async fn a_pod_that_can_not_be_asked_keeps_no_other_from_the_changed_files() {
        let asked = Arc::default();
        let config_maps = ConfigMaps {
            client: pods(Arc::clone(&asked)),
            server: ObjectName::new("mail", "myhost"),
            owner: OwnerReference::default(),
            manifest: None,
            held: BTreeMap::new(),
        };
        config_maps.show("0123456789abcdef").await;
        assert_eq!(*asked.lock().unwrap(), ["gone", "refused", "there"]);
    }
}
