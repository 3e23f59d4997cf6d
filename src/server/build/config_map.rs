//! The `ConfigMap` with Postfix's configuration; no credentials are in it.

use k8s_openapi::api::core::v1::ConfigMap;

use super::names::{self, Component};
use super::owned;
use crate::postfix::RenderedConfig;
use crate::server::validate::ValidatedServer;

pub(super) fn config_map(server: &ValidatedServer, config: &RenderedConfig) -> ConfigMap {
    ConfigMap {
        metadata: owned(server, names::postfix(&server.name.name), Component::Postfix),
        data: Some(config.files.clone()),
        ..ConfigMap::default()
    }
}
