//! The `ConfigMap` with Postfix's configuration; no credentials are in it.

use k8s_openapi::api::core::v1::ConfigMap;

use super::names::{self, Component};
use super::owned;
use crate::postfix::RenderedConfig;
use crate::server::validate::ValidatedServer;

/// Annotation: which tables the configuration names.
pub const TABLES_ANNOTATION: &str = "vmail.dev/tables";

/// Value of [`TABLES_ANNOTATION`].
#[must_use]
pub fn tables(server: &ValidatedServer) -> String {
    format!("{:016x}", server.tables)
}

pub(super) fn config_map(server: &ValidatedServer, config: &RenderedConfig) -> ConfigMap {
    let mut metadata = owned(server, names::postfix(&server.name.name), Component::Postfix);
    metadata.annotations = Some([(TABLES_ANNOTATION.to_owned(), tables(server))].into());
    ConfigMap { metadata, data: Some(config.files.clone()), ..ConfigMap::default() }
}
