//! Processes: those that the agent starts, and the orphans that are left to it as pid 1.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::process::{Child, Command};

use super::Error;

/// How long a command of Postfix may take. They take a second.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// How long a dead orphan may stay in the process table.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// The processes that the agent started and waits for itself.
#[derive(Clone, Default)]
pub(super) struct Children(Arc<Mutex<BTreeSet<i32>>>);

impl Children {
    /// Starts a process.
    pub(super) fn spawn(&self, command: &mut Command) -> std::io::Result<Child> {
        let mut ours = self.ours();
        let child = command.kill_on_drop(true).spawn()?;
        ours.extend(process_id(&child));
        Ok(child)
    }

    /// Runs a command to its end and gives what it wrote.
    pub(super) async fn output(&self, what: &str, command: &mut Command) -> Result<Output, Error> {
        self.output_of(what, command, Stdio::null()).await
    }

    /// The same with another standard input.
    pub(super) async fn output_of(
        &self,
        what: &str,
        command: &mut Command,
        input: Stdio,
    ) -> Result<Output, Error> {
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn(command).map_err(Error::system(what))?;
        let id = process_id(&child);
        let output = tokio::time::timeout(COMMAND_LIMIT, child.wait_with_output()).await;
        if let Some(id) = id {
            self.ours().remove(&id);
        }
        output.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(Error::system(what))
    }

    /// Takes dead orphans out of the process table for as long as the agent runs: nobody else can.
    pub(super) async fn reap(&self) -> Infallible {
        loop {
            tokio::time::sleep(REAP_INTERVAL).await;
            self.reap_now();
        }
    }

    fn reap_now(&self) {
        // Locked until the end, so that no process is ours and not yet known as such.
        let ours = self.ours();
        for orphan in all().into_iter().filter(|id| !ours.contains(id)).filter_map(Pid::from_raw) {
            // It fails for a process that has been waited for meanwhile, which is as good.
            let _ = waitpid(Some(orphan), WaitOptions::NOHANG);
        }
    }

    fn ours(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn process_id(child: &Child) -> Option<i32> {
    child.id().and_then(|id| i32::try_from(id).ok())
}

/// Every child of this process, dead or alive, proc(5).
fn all() -> Vec<i32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    /// One for all tests: they run in one process, and what one test starts is no orphan of another's.
    static CHILDREN: LazyLock<Children> = LazyLock::new(Children::default);

    #[tokio::test]
    async fn reaps_orphans_and_leaves_the_agents_own_children() {
        let children = &*CHILDREN;
        let mut own = children.spawn(Command::new("true").stdin(Stdio::null())).unwrap();
        #[allow(clippy::zombie_processes, reason = "an orphan is what nobody waits for")]
        let orphan = std::process::Command::new("true").spawn().unwrap();
        let id = i32::try_from(orphan.id()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), async {
            while all().contains(&id) {
                children.reap_now();
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the orphan is gone");
        assert!(own.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn gives_what_a_command_wrote() {
        let output =
            CHILDREN.output("echo", Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).await;
        let output = output.unwrap();
        assert_eq!(
            (output.stdout, output.stderr, output.status.code()),
            (b"out\n".to_vec(), b"err\n".to_vec(), Some(3))
        );
    }
}
