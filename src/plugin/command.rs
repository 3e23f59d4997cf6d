//! The command line: where the API server is, which verb, in which form the answer goes to standard output.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde::Serialize;

use super::check::check;
use super::explain::explain;
use super::list::declared;
use crate::api::Address;
use crate::object::ObjectName;
use crate::output;

/// Exit code where the question could not be answered.
const NO_ANSWER: u8 = 3;

/// What `kubectl vmail` can be asked.
#[derive(Debug, Parser)]
#[command(name = "kubectl-vmail", bin_name = "kubectl vmail", version)]
pub struct PluginArguments {
    #[command(subcommand)]
    command: PluginCommand,
}

/// Questions about mail that people ask with kubectl.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Say what happens to mail for an address, and why
    ///
    /// Exit codes: 0 all of it is delivered or handed on, 1 it is refused, deferred or bounces, 2 wrong usage,
    /// 3 that can't be told.
    Explain(ExplainArguments),
    /// Check a mail system: configuration, look-ups, SMTP up to RCPT TO, mail store
    ///
    /// No mail is sent and nothing is changed. Exit codes: 0 all is well, 1 a check failed, 2 wrong usage, 3 the checks
    /// could not be run.
    Check(CheckArguments),
}

/// Whose mail.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The address, as in alfred@alpha.example.org
    address: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Which mail system.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The name of the MailServer
    #[arg(value_name = "MAILSERVER")]
    server: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// Where the API server is, as kubectl's own options say it.
#[derive(Debug, Args)]
struct Connection {
    /// explain: look at this namespace only; check: the MailServer's namespace (default: the context's)
    #[arg(short, long)]
    namespace: Option<String>,
    /// The kubeconfig's context to use
    #[arg(long)]
    context: Option<String>,
    /// Path of the kubeconfig; else the environment's KUBECONFIG, or ~/.kube/config
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
}

/// In which form the answer is given.
#[derive(Debug, Args)]
struct Output {
    /// Output format
    #[arg(short, long = "output", value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// Output formats.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
    /// For programs
    Yaml,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig can't be used.
    #[error("the kubeconfig can't be used: {0}")]
    Kubeconfig(String),
    /// The API server does not answer, or refuses.
    #[error("{what}: {error}")]
    Api {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: Box<kube::Error>,
    },
    /// The object to look at is not there.
    #[error("{0}")]
    Missing(String),
    /// A command can't be run in a pod, or ends without an answer.
    #[error("{what}: {error}")]
    Pod {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: String,
    },
    /// The answer can't be written in the format that was asked for.
    #[error("the answer can't be written: {0}")]
    Output(String),
}

impl Error {
    pub(super) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |error| Self::Api { what, error: Box::new(error) }
    }
}

impl PluginArguments {
    /// Answers, and gives the exit code.
    pub async fn execute(self) -> ExitCode {
        self.command.execute().await
    }
}

impl PluginCommand {
    /// Answers, and gives the exit code.
    pub async fn execute(self) -> ExitCode {
        let answer = match self {
            Self::Explain(arguments) => arguments.execute().await,
            Self::Check(arguments) => arguments.execute().await,
        };
        let code = answer.unwrap_or_else(|error| {
            eprintln!("error: {error}");
            NO_ANSWER
        });
        ExitCode::from(code)
    }
}

impl ExplainArguments {
    async fn execute(self) -> Result<u8, Error> {
        let address = match Address::parse(&self.address) {
            Ok(address) => address,
            Err(rule) => {
                eprintln!("error: {:?} is not an address that can be declared: {rule}", self.address);
                return Ok(2);
            }
        };
        let (client, default) = self.connection.open().await?;
        let declared = declared(&client, self.connection.namespace.as_deref(), &default).await?;
        let explanation = explain(&declared, &address);
        self.output.write(&explanation)?;
        Ok(explanation.exit_code())
    }
}

impl CheckArguments {
    async fn execute(self) -> Result<u8, Error> {
        let (client, default) = self.connection.open().await?;
        let namespace = self.connection.namespace.as_deref().unwrap_or(&default);
        let report = check(&client, &ObjectName::new(namespace, &self.server)).await?;
        self.output.write(&report)?;
        Ok(report.exit_code())
    }
}

impl Connection {
    /// A client, and the namespace that the context names.
    async fn open(&self) -> Result<(Client, String), Error> {
        let config = self.config().await?;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(Error::api("connecting to the API server"))?;
        Ok((client, namespace))
    }

    async fn config(&self) -> Result<Config, Error> {
        let refused = |error: &dyn std::fmt::Display| Error::Kubeconfig(error.to_string());
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let file = Kubeconfig::read_from(path).map_err(|error| refused(&error))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(|error| refused(&error))
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(|error| refused(&error)),
            (None, None) => Config::infer().await.map_err(|error| refused(&error)),
        }
    }
}

impl Output {
    fn write(&self, answer: &(impl Serialize + std::fmt::Display)) -> Result<(), Error> {
        let unwritable = |error: &dyn std::fmt::Display| Error::Output(error.to_string());
        let text = match self.output {
            Format::Text => answer.to_string(),
            Format::Json => serde_json::to_string_pretty(answer).map_err(|error| unwritable(&error))?,
            Format::Yaml => serde_saphyr::to_string(answer).map_err(|error| unwritable(&error))?,
        };
        output::print(&text).map_err(|error| unwritable(&error))
    }
}
