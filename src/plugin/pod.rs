//! Runs commands in a pod and connects to its ports, through the API server.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::AttachParams;
use kube::{Api, Client};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::command::Error;

/// How long a command may take: `postmap` waits for ever where proxymap(8) does not run.
const LIMIT: Duration = Duration::from_secs(20);

/// The container of Postfix.
const CONTAINER: &str = "postfix";

/// A Postfix pod.
pub(super) struct PostfixPod {
    api: Api<Pod>,
    /// Its name.
    pub name: String,
}

/// What a command said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Said {
    /// Exit code.
    pub code: i32,
    /// Standard output without the line end.
    pub stdout: String,
    /// Standard error without the line end.
    pub stderr: String,
}

impl PostfixPod {
    pub(super) fn new(client: &Client, namespace: &str, name: String) -> Self {
        Self { api: Api::namespaced(client.clone(), namespace), name }
    }

    /// Runs a command in Postfix's container. One that takes too long has code 124, as with timeout(1).
    ///
    /// # Errors
    /// [`Error::Pod`] where it can't be run at all.
    pub(super) async fn run(&self, command: &[&str]) -> Result<Said, Error> {
        match tokio::time::timeout(LIMIT, self.attach(command)).await {
            Ok(said) => said.map_err(|error| Error::Pod {
                what: format!("running {} in the pod {}", command.first().unwrap_or(&""), self.name),
                error,
            }),
            Err(_) => {
                Ok(Said { code: 124, stderr: format!("no answer within {LIMIT:?}"), ..Said::default() })
            }
        }
    }

    async fn attach(&self, command: &[&str]) -> Result<Said, String> {
        let parameters = AttachParams::default().container(CONTAINER).stdin(false);
        let mut process = self
            .api
            .exec(&self.name, command.iter().copied(), &parameters)
            .await
            .map_err(|error| error.to_string())?;
        let status = process.take_status();
        let (stdout, stderr) = futures::join!(text(process.stdout()), text(process.stderr()));
        let status = match status {
            Some(status) => status.await,
            None => None,
        };
        let code = status
            .map_or(Err("the API server did not say how it ended".to_owned()), |status| exit_code(&status))?;
        Ok(Said { code, stdout: stdout?, stderr: stderr? })
    }

    /// A connection to a port that the pod listens on; it comes from the pod's loopback address.
    ///
    /// # Errors
    /// [`Error::Pod`] where the API server does not let it through.
    pub(super) async fn connect(
        &self,
        port: u16,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<>, Error> {
        let failed = |error: String| Error::Pod {
            what: format!("forwarding port {port} of the pod {}", self.name),
            error,
        };
        let mut forwarder =
            self.api.portforward(&self.name, &[port]).await.map_err(|error| failed(error.to_string()))?;
        forwarder.take_stream(port).ok_or_else(|| failed("no stream".to_owned()))
    }
}

async fn text(stream: Option<impl AsyncRead + Unpin>) -> Result<String, String> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// Kubernetes tells a command's exit code among the causes of a failure.
fn exit_code(status: &Status) -> Result<i32, String> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_deref()).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"));
    code.and_then(|cause| cause.message.as_deref()?.parse().ok())
        .ok_or_else(|| status.message.clone().unwrap_or_else(|| "it could not be started".to_owned()))
}
