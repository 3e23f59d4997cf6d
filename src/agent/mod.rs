//! Placeholder.
#![allow(missing_docs)]
#[derive(clap::Subcommand)]
pub enum AgentCommand {
    A,
}
impl AgentCommand {
    pub async fn execute(self) -> Result<std::process::ExitCode, std::io::Error> {
        Ok(0.into())
    }
}
