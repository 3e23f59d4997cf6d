//! How mail is stored, written where the mail is: on the claim of the mail store, which outlives its `MailServer`.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::Patch;
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::apply::{bounded, patch_parameters, unless_gone};
use super::validate::{ValidatedServer, mail_store};
use super::{Context, Error, patch_status};
use crate::api::MailServer;
use crate::index::stored_as::{CLAIM_ANNOTATION, claim_value, from_claim};
use crate::object::ObjectName;

/// Has the status of a server that was made anew say how the mail is stored that its claim has kept, before anything is made
/// of what the spec says about it. Tells whether there was such mail: the event of the status comes then.
///
/// # Errors
/// When the API server can't be asked, or the status can't be written.
pub(super) async fn adopt(server: &MailServer, context: &Context) -> Result<bool, Error> {
    if server.status.as_ref().is_some_and(|status| status.mail_store.is_some()) {
        return Ok(false);
    }
    let volume = mail_store(server.spec.mail_store.clone().unwrap_or_default()).volume;
    let claim = volume.claim(&server.name_any());
    let said = annotation(&context.client, &ObjectName::of(server), &claim).await?.flatten();
    let Some(stored_as) = said.and_then(|said| from_claim(&said)) else { return Ok(false) };
    patch_status(server, context, &json!({"status": {"mailStore": stored_as}})).await?;
    Ok(true)
}

/// Writes on the claim, whoever made it, how the mail in it is stored, once there is any.
///
/// # Errors
/// When the claim can't be read or written; one that is not there is none.
pub(super) async fn keep(
    server: &MailServer,
    validated: &ValidatedServer,
    client: &Client,
) -> Result<(), Error> {
    let Some(value) = claim_value(server) else { return Ok(()) };
    let name = &validated.name;
    let claim = validated.mail_store.volume.claim(&name.name);
    match annotation(client, name, &claim).await? {
        Some(said) if said.as_ref() != Some(&value) => {
            let patch = Patch::Merge(json!({"metadata": {"annotations": {CLAIM_ANNOTATION: value}}}));
            let (api, parameters) = (api(client, name), patch_parameters());
            let patched = api.patch_metadata(&claim, &parameters, &patch);
            unless_gone(bounded(&what(&claim), patched).await)
        }
        _ => Ok(()),
    }
}

/// `None`: there is no such claim.
async fn annotation(
    client: &Client,
    server: &ObjectName,
    claim: &str,
) -> Result<Option<Option<String>>, Error> {
    let live = bounded(&what(claim), api(client, server).get_metadata_opt(claim)).await?;
    Ok(live.map(|live| live.annotations().get(CLAIM_ANNOTATION).cloned()))
}

fn api(client: &Client, server: &ObjectName) -> Api<PersistentVolumeClaim> {
    Api::namespaced(client.clone(), &server.namespace)
}

fn what(claim: &str) -> String {
    format!("PersistentVolumeClaim {claim}")
}
