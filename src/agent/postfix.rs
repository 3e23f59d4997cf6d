//! Postfix's own commands, always with our configuration directory.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::Error;
use super::children::Children;
use super::log::is_complaint;

/// What Postfix's commands say as long as there is no master(8).
const NOT_YET: &str = "the Postfix mail system is not running";

/// Between two looks at a Postfix that is about to be there.
const START_INTERVAL: Duration = Duration::from_millis(100);

fn command(config: &Path, verb: &str) -> Command {
    let mut command = Command::new("postfix");
    command.arg("-c").arg(config).arg(verb);
    command
}

/// Asks Postfix whether it could run with a configuration.
pub(super) async fn check(children: &Children, config: &Path) -> Result<(), Error> {
    let output = children.output("postfix check", &mut command(config, "check")).await?;
    let words = String::from_utf8_lossy(&output.stderr);
    let mut complaints: Vec<&str> =
        words.lines().filter(|line| is_complaint(line) || is_typing_error(line)).collect();
    complaints.dedup();
    if output.status.code().is_none() {
        return Err(Error::system("postfix check")(std::io::Error::other(output.status.to_string())));
    }
    if output.status.success() && complaints.is_empty() {
        Ok(())
    } else {
        Err(Error::Refused(if complaints.is_empty() {
            words.trim().to_owned()
        } else {
            complaints.join("; ")
        }))
    }
}

/// Postfix only warns of a parameter that it does not know, and runs without what was meant. In look-up files, which
/// are all ours, it is one that an older Postfix can do without.
fn is_typing_error(line: &str) -> bool {
    line.contains("main.cf: unused parameter: ")
}

/// Starts Postfix in the foreground.
pub(super) fn start(children: &Children, config: &Path) -> Result<Child, Error> {
    let mut command = command(config, "start-fg");
    command.stdin(Stdio::null());
    children.spawn(&mut command).map_err(Error::system("postfix start-fg"))
}

/// Makes Postfix read its configuration again; sessions go on. One that has only just been started is waited for, which
/// lasts no longer than the agent: it ends when Postfix does. A failure is no refusal: the configuration was checked.
pub(super) async fn reload(children: &Children, config: &Path) -> Result<(), Error> {
    loop {
        let output = children.output("postfix reload", &mut command(config, "reload")).await?;
        let words = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(());
        }
        if !words.contains(NOT_YET) {
            return Err(Error::system("postfix reload")(std::io::Error::other(words.trim().to_owned())));
        }
        tokio::time::sleep(START_INTERVAL).await;
    }
}

/// Has Postfix try all deferred mail again.
pub(super) async fn flush(children: &Children, config: &Path) -> Result<(), Error> {
    children.output("postfix flush", &mut command(config, "flush")).await.map(|_| ())
}

/// Asks a running Postfix to end. It fails while Postfix is not quite there yet.
///
/// A signal would not do: between the agent and master(8) is a shell, which would die of it alone.
pub(super) async fn stop(children: &Children, config: &Path) -> Result<bool, Error> {
    Ok(children.output("postfix stop", &mut command(config, "stop")).await?.status.success())
}
