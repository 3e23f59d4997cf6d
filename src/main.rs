//! Arguments to one of the commands, nothing else.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vmail_operator::agent::AgentCommand;
use vmail_operator::api;
use vmail_operator::plugin::{PluginArguments, PluginCommand};
use vmail_operator::run::{RunArguments, run};

/// glibc's allocator needs six times as long for a full comparison of a million mailboxes (`make bench ONLY=pure`).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Keeps mail accounts declared in Kubernetes true in PostfixAdmin's tables, Postfix's configuration and the mail store.
///
/// Exit codes: 0 ended as asked, 1 failed (the log says why), 2 wrong usage; `agent` and `kubectl` have their own, see
/// their help.
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
    /// Print the custom resource definitions as YAML
    Crds,
    /// Run inside the Postfix pod
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Answer questions about mail, as `kubectl vmail` does when this program is called kubectl-vmail
    #[command(subcommand)]
    Kubectl(PluginCommand),
}

#[tokio::main]
async fn main() -> ExitCode {
    if is_plugin() {
        return PluginArguments::parse().execute().await;
    }
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run(arguments).await.map_err(|error| error.to_string()),
        Command::Crds => print_crds().map_err(|error| error.to_string()),
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

fn print_crds() -> Result<ExitCode, Box<dyn Error>> {
    for crd in api::crds()? {
        println!("---\n{}", serde_saphyr::to_string(&crd)?.trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
