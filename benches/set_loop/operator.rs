//! The operator's process, on the cluster that KUBECONFIG names.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::cluster::LIMIT;

/// What the operator logs at the end of its first comparison.
const COMPARED: &str = "everything compared";

/// The operator's process.
pub struct Operator {
    child: Child,
    port: u16,
    /// When it had compared everything for the first time.
    compared: oneshot::Receiver<Instant>,
}

impl Operator {
    pub fn start(namespace: &str) -> Self {
        Self::with_postfix(namespace, "none")
    }

    /// An operator whose Postfix pods run, with this image.
    pub fn with_postfix(namespace: &str, image: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_vmail-operator"))
            .args(["run", "--mariadb-image=none", "--postfix-image", image])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--lease-namespace", namespace, "--watch-namespace", namespace])
            .env("RUST_LOG", "warn,vmail_operator::sync=info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, compared) = oneshot::channel();
        let log = child.stdout.take().unwrap();
        std::thread::spawn(|| read_log(log, tell));
        Self { child, port, compared }
    }

    /// Waits for the end of the first comparison, and says when that was. Nobody asks the operator in the meantime.
    pub async fn first_comparison(&mut self) -> Instant {
        tokio::time::timeout(LIMIT, &mut self.compared).await.unwrap().unwrap()
    }

    /// TERM, so that the Lease is free for the next one.
    pub fn stop(&mut self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap();
    }

    /// A metric's value, 0 where it is not there (yet).
    pub fn metric(&self, name: &str) -> f64 {
        self.metrics()
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or(0.0)
    }

    fn metrics(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    pub async fn await_metric(&self, name: &str, value: f64) {
        let started = Instant::now();
        while self.metric(name) < value {
            assert!(started.elapsed() < LIMIT, "{name} is {} of {value}", self.metric(name));
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    /// Peak resident set, MiB.
    pub fn peak_memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    /// Processor time so far, in seconds.
    pub fn cpu(&self) -> f64 {
        cpu(&self.child.id().to_string())
    }
}

fn read_log(log: ChildStdout, tell: oneshot::Sender<Instant>) {
    let mut tell = Some(tell);
    for line in BufReader::new(log).lines() {
        let line = line.unwrap();
        if let Some(tell) = tell.take_if(|_| line.contains(COMPARED)) {
            // Nobody may be waiting for it.
            let _ = tell.send(Instant::now());
        }
        if line.contains("WARN") || line.contains("ERROR") {
            eprintln!("{line}");
        }
    }
}

/// Fields 14 and 15 of proc(5) stat, which are in hundredths of a second.
fn cpu(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Processor time so far of all processes on this machine with a name, in seconds.
pub fn cpu_of(name: &str) -> f64 {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let processes = processes.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let named = processes.filter(|process| {
        std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|comm| comm.trim() == name)
    });
    named.map(|process| cpu(&process)).sum()
}
