//! Arguments to one of the commands, nothing else.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use vmail_operator::agent::AgentCommand;
use vmail_operator::plugin::{PluginArguments, PluginCommand};
use vmail_operator::run::{RunArguments, run};
use vmail_operator::{api, output};

/// glibc's allocator needs six times as long for a full comparison of a million mailboxes (`make bench ONLY=pure`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Keeps mail accounts declared in Kubernetes true in PostfixAdmin's tables, Postfix's configuration and the mail store.
///
/// Exit codes: 0 ended as asked, 1 failed (the log says why), 2 wrong usage; agent and kubectl have their own, see their
/// help.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator
    Run(RunArguments),
    /// Print the custom resource definitions
    Crds {
        /// In which form
        #[arg(long, value_enum, default_value_t = Form::Yaml)]
        format: Form,
    },
    /// Run inside the Postfix pod
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Answer questions about mail, as "kubectl vmail" does when this program is called kubectl-vmail
    #[command(subcommand)]
    Kubectl(PluginCommand),
}

/// Forms of the definitions.
#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// For the API server
    Yaml,
    /// For people: every field of every kind
    Markdown,
}

#[tokio::main]
async fn main() -> ExitCode {
    if is_plugin() {
        return PluginArguments::parse().execute().await;
    }
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run(arguments).await.map_err(|error| error.to_string()),
        Command::Crds { format } => print_crds(format).map_err(|error| error.to_string()),
        Command::Agent(command) => command.execute().await.map_err(|error| error.to_string()),
        Command::Kubectl(command) => Ok(command.execute().await),
    };
    result.unwrap_or_else(|error| {
        eprintln!("vmail-operator: {error}");
        ExitCode::FAILURE
    })
}

/// Whether kubectl started this program as its plugin: kubectl finds plugins by their file names.
fn is_plugin() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.as_deref().and_then(Path::file_stem).is_some_and(|name| name == "kubectl-vmail")
}

fn print_crds(form: Form) -> Result<ExitCode, Box<dyn Error>> {
    let definitions = api::crds()?;
    let text = match form {
        Form::Yaml => yaml(&definitions)?,
        Form::Markdown => api::reference::markdown(&definitions),
    };
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn yaml(definitions: &[CustomResourceDefinition]) -> Result<String, Box<dyn Error>> {
    let documents = definitions
        .iter()
        .map(|definition| Ok(format!("---\n{}\n", serde_saphyr::to_string(definition)?.trim_end())));
    documents.collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// All that `--help` can show.
    fn help(command: &mut clap::Command) -> String {
        let own = command.render_long_help().to_string();
        command.get_subcommands_mut().map(help).fold(own, |all, below| all + &below)
    }

    #[test]
    fn help_is_text_and_not_markdown() {
        let text = help(&mut Arguments::command());
        assert!(text.contains("RUST_LOG filters it (default: info,kube_runtime=warn)"), "{text}");
        assert!(!text.contains('`'), "{text}");
    }
}
