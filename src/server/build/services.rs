//! Services: SMTP for the world, names for the Postfix pods, the embedded database.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{self, Component};
use super::owned;
use crate::api::mail_server::ServiceType;
use crate::server::database::DEFAULT_PORT;
use crate::server::validate::ValidatedServer;

/// Port on which mail is received.
pub const SMTP_PORT: i32 = 25;

pub(super) fn smtp(server: &ValidatedServer) -> Service {
    let mut service =
        service(server, names::postfix(&server.name.name), Component::Postfix, port("smtp", SMTP_PORT));
    let annotations = &server.postfix.service_annotations;
    service.metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    if let Some(spec) = &mut service.spec {
        let type_ = server.postfix.service_type;
        spec.type_ = Some(type_name(type_).to_owned());
        // Else Postfix sees a node's address in place of the client's, and what trusts networks would trust anybody.
        spec.external_traffic_policy = (type_ != ServiceType::ClusterIp).then(|| "Local".to_owned());
    }
    service
}

fn type_name(type_: ServiceType) -> &'static str {
    match type_ {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
}

pub(super) fn postfix_pods(server: &ValidatedServer) -> Service {
    let mut service =
        service(server, names::postfix_pods(&server.name.name), Component::Postfix, port("smtp", SMTP_PORT));
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = Some("None".to_owned());
    }
    service
}

pub(super) fn database(server: &ValidatedServer) -> Service {
    service(
        server,
        names::database(&server.name.name),
        Component::MariaDb,
        port("mysql", i32::from(DEFAULT_PORT)),
    )
}

fn service(server: &ValidatedServer, name: String, component: Component, port: ServicePort) -> Service {
    Service {
        metadata: owned(server, name, component),
        spec: Some(ServiceSpec {
            selector: Some(component.labels(&server.name.name)),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, port: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
