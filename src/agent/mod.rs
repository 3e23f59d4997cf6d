//! Pid 1 of the Postfix pod, and its init container.
//!
//! `prepare` makes the base directories of the volumes with their owners. `run` joins the mounted configuration with
//! the mounted credentials in memory-backed storage, starts Postfix as its child, answers the kubelet's probes and
//! takes a changed configuration without a restart. It knows files and processes; it has no client of the API server
//! and no opinion on what the configuration says.

mod children;
mod config;
pub mod contract;
mod course;
mod files;
mod http;
mod ids;
mod log;
mod mail_log;
mod maps;
mod metrics;
mod outage;
mod owners;
mod parameters;
mod places;
mod postfix;
mod prepare;
mod probe;
mod queue;
mod restrictions;
mod retry;
mod supervisor;
mod tls;
mod tree;

use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use clap::Subcommand;

pub use prepare::OwnerArguments;

use crate::postfix::queries::CredentialError;
use crate::telemetry::{self, LogFormat};

/// What the agent can be asked to do.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Make the base directories of the mail store and of the queue (init container)
    ///
    /// Exit codes: 0 done, 1 a directory could not be made.
    Prepare(OwnerArguments),
    /// Run Postfix and watch over it (pid 1 of the main container)
    ///
    /// Exit codes: 0 ended as asked, 1 a file, process or socket could not be used, 3 Postfix refuses the
    /// configuration, 4 Postfix ended by itself or could not be ended.
    Run(OwnerArguments),
}

impl AgentCommand {
    /// Does it, with its own log on standard output.
    ///
    /// # Errors
    /// [`Error`] of `prepare`. That of `run` is in its log and in the termination log, and is an exit code.
    pub async fn execute(self) -> Result<ExitCode, Error> {
        telemetry::start(LogFormat::Text);
        match self {
            Self::Prepare(arguments) => prepare::prepare(arguments).map(|()| ExitCode::SUCCESS),
            Self::Run(arguments) => Ok(supervisor::run(arguments.ids()).await),
        }
    }
}

/// What can go wrong in the pod.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory can't be used.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A process can't be started, or a port can't be listened on.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: std::io::Error,
    },
    /// A credential can't be written into a look-up file.
    #[error("the {key} of the Secret with the database account {error}")]
    Credential {
        /// Key in the Secret.
        key: &'static str,
        /// Why not.
        error: CredentialError,
    },
    /// The look-up files aren't all there yet.
    #[error("the look-up files are not complete yet")]
    Incomplete,
    /// Postfix refused a configuration; its own words.
    #[error("Postfix refuses the configuration: {0}")]
    Refused(String),
    /// Postfix ended although nobody asked it to.
    #[error("Postfix ended by itself ({status}){}", said(complaints))]
    Ended {
        /// How.
        status: ExitStatus,
        /// The last complaints in its log.
        complaints: String,
    },
    /// Postfix did not end when asked to.
    #[error("Postfix did not end in time")]
    Unstoppable,
}

fn said(complaints: &str) -> String {
    if complaints.is_empty() { String::new() } else { format!(" and said last: {complaints}") }
}

impl Error {
    /// The exit code; [`AgentCommand`] documents them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => contract::REFUSED,
            Self::Ended { .. } | Self::Unstoppable => 4,
            Self::File { .. } | Self::System { .. } | Self::Credential { .. } | Self::Incomplete => 1,
        }
    }

    /// Whether another try of the same configuration would most likely fail as well.
    fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Credential { .. })
    }

    /// Whether it is in the nature of mounts that are being exchanged.
    fn is_under_way(&self) -> bool {
        match self {
            Self::Incomplete => true,
            Self::File { error, .. } => error.kind() == std::io::ErrorKind::NotFound,
            _ => false,
        }
    }

    fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { path, error }
    }

    fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::System { what, error }
    }
}
