//! A Postfix pod, reached as a reader of the documentation would: kubectl and SMTP.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::smtp::Session;

const PATIENCE: Duration = Duration::from_mins(10);

/// One whose Postfix is in the container `postfix`.
pub struct Pod {
    pub namespace: String,
    pub name: &'static str,
}

impl Pod {
    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(["-n", &self.namespace]).args(arguments);
        command
    }

    pub fn exec(&self, script: &str) -> Command {
        self.kubectl(&["exec", "-i", self.name, "-c", "postfix", "--", "sh", "-c", script])
    }

    /// What a script prints; nothing while the container doesn't run.
    pub fn print(&self, script: &str) -> String {
        String::from_utf8_lossy(&self.exec(script).output().unwrap().stdout).into_owned()
    }

    /// Where it answers, once it is there.
    pub fn address(&self) -> String {
        let started = Instant::now();
        loop {
            let arguments = ["get", "pod", self.name, "-o", "jsonpath={.status.podIP}"];
            let output = self.kubectl(&arguments).output().unwrap();
            if output.status.success() && !output.stdout.is_empty() {
                return format!("{}:25", String::from_utf8_lossy(&output.stdout));
            }
            assert!(started.elapsed() < PATIENCE, "no pod {}", self.name);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The largest peak resident set of a program's processes, MiB.
    pub fn memory(&self, program: &str) -> f64 {
        let script = format!(
            "for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" = {program} ] && sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' $p/status; done; true"
        );
        self.print(&script).lines().filter_map(|line| line.parse::<f64>().ok()).fold(0.0, f64::max) / 1024.0
    }
}

pub fn await_accepted(address: &str, to: &str) {
    await_code(address, to, 250);
}

pub fn await_code(address: &str, to: &str, code: u16) {
    let asked = || Session::open(address).and_then(|mut session| session.recipient(to));
    await_true(&format!("{to} gets {code}"), || asked().map_or(0, |reply| reply.code) == code);
}

pub fn await_true(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
