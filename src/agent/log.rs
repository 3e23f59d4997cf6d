//! Postfix's log on its way through the agent: every program of Postfix sends its lines to a socket of the agent, which
//! passes them on, but for those of its own probe, and keeps the last complaints, to tell why Postfix ended.
//!
//! The agent is here what postlogd(8) would be. That one is started by master(8), which logs through it: when it ends with
//! lines waiting, which a reload under load or a reader that stalls for ten seconds brings about, each of the two waits for
//! the other, and no mail moves any more.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::io::{self, Write, stdout};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use self::waiting::Waiting;
use super::metrics::Metrics;
use super::outage;
use crate::postfix::PROBE_ADDRESS;

mod waiting;

/// Value of [`LOG_PARAMETER`](crate::postfix::LOG_PARAMETER): a socket below the queue directory.
pub(super) const SERVICE: &str = "vmail-agent";

/// How many complaints are kept.
const KEPT: usize = 3;

/// Longest line that Postfix sends, with room to spare (postlogd(8) takes half of it).
pub(super) const LINE: usize = 8192;

/// How long the end of the log may take after Postfix's own.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// The last complaints in the log.
#[derive(Clone, Default)]
struct Complaints(Arc<Mutex<VecDeque<String>>>);

impl Complaints {
    /// What Postfix said last that explains an end; empty when it said nothing of the kind.
    fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }

    fn note(&self, line: &str) {
        if is_complaint(line) {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back(line.trim_end().to_owned());
            if kept.len() > KEPT {
                kept.pop_front();
            }
        }
    }
}

/// Whether a line of Postfix tells of something that stops it.
pub(super) fn is_complaint(line: &str) -> bool {
    ["fatal: ", "error: ", "panic: "].iter().any(|sign| line.contains(sign))
}

/// Postfix's log while it is passed on.
pub(super) struct Log {
    socket: PathBuf,
    complaints: Complaints,
    ending: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
    outage: Arc<Notify>,
}

impl Log {
    /// Makes the socket, in place of one that an earlier agent left, and passes on what comes through it.
    pub(super) fn receive(socket: &Path, metrics: Metrics) -> io::Result<Self> {
        Self::receive_to(stdout(), socket, metrics)
    }

    fn receive_to(output: impl Write + Send + 'static, socket: &Path, metrics: Metrics) -> io::Result<Self> {
        let lines = bind(socket)?;
        let waiting = Arc::<Waiting>::default();
        let (done, ended) = oneshot::channel();
        let (complaints, outage) = (Complaints::default(), Arc::<Notify>::default());
        let ending = Arc::<AtomicBool>::default();
        let reader = Reader {
            complaints: complaints.clone(),
            outage: outage.clone(),
            ending: ending.clone(),
            metrics,
            output: waiting.clone(),
        };
        thread::Builder::new().name("log-reader".to_owned()).spawn(move || reader.read(&lines))?;
        thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
            waiting.write(output);
            // Nobody may be waiting.
            let _ = done.send(());
        })?;
        Ok(Self { socket: socket.to_owned(), complaints, ending, ended, outage })
    }

    /// Wakes once after Postfix told that it can't reach the database.
    pub(super) fn outage(&self) -> Arc<Notify> {
        self.outage.clone()
    }

    /// Waits until all that was sent is passed on, not for long, and gives the last [`Complaints`].
    pub(super) async fn last_words(self) -> String {
        self.ending.store(true, Ordering::Release);
        // Where it can't be sent there is nobody who would end.
        if UnixDatagram::unbound().is_ok_and(|end| end.send_to(&[], &self.socket).is_ok()) {
            // It fails when nobody reads the output.
            let _ = timeout(LAST_WORDS_LIMIT, self.ended).await;
        }
        self.complaints.text()
    }
}

/// Where the socket of [`SERVICE`] is in a queue directory.
pub(super) fn socket(queue: &Path) -> PathBuf {
    queue.join("public").join(SERVICE)
}

/// A socket that every program of Postfix may send to, whoever it runs as.
pub(super) fn bind(path: &Path) -> io::Result<UnixDatagram> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(socket)
}

/// Takes lines from the socket. It waits for nobody: Postfix waits for it.
struct Reader {
    complaints: Complaints,
    outage: Arc<Notify>,
    ending: Arc<AtomicBool>,
    metrics: Metrics,
    output: Arc<Waiting>,
}

impl Reader {
    /// Reads until an empty line after [`Log::last_words`].
    fn read(&self, socket: &UnixDatagram) {
        let mut buffer = [0; LINE];
        while let Ok(length) = socket.recv(&mut buffer) {
            let line = &buffer[..length];
            if line.is_empty() {
                if self.ending.load(Ordering::Acquire) {
                    break;
                }
            } else if self.is_passed_on(line) {
                self.output.push(line);
            }
        }
        self.output.end();
    }

    /// Notes what a line says; whether others are to see it.
    fn is_passed_on(&self, line: &[u8]) -> bool {
        let text = String::from_utf8_lossy(line);
        self.complaints.note(&text);
        if outage::is_sign(&text) {
            self.outage.notify_one();
        }
        let is_passed_on = !is_probe(&text);
        if is_passed_on {
            self.metrics.note(&text);
        }
        is_passed_on
    }
}

/// Whether smtpd(8) tells of a connection of the agent's probe. Only the place counts where it writes the client: a
/// client can write anything into other places of a line, and must not hide itself.
fn is_probe(line: &str) -> bool {
    let message = line.split_once("]: ").map_or("", |(_, message)| message);
    let client = message.strip_prefix("connect from ").or_else(|| message.strip_prefix("disconnect from "));
    client
        .and_then(|client| client.split_whitespace().next())
        .is_some_and(|client| client.ends_with(&format!("[{PROBE_ADDRESS}]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on of a log, and the complaints in it.
    async fn passed_on(log: &str) -> (String, String) {
        let directory = tempfile::TempDir::new().unwrap();
        let socket = directory.path().join("log");
        let (reader, writer) = io::pipe().unwrap();
        let log_ = Log::receive_to(writer, &socket, Metrics::default()).unwrap();
        let postfix = UnixDatagram::unbound().unwrap();
        for line in log.lines() {
            postfix.send_to(line.as_bytes(), &socket).unwrap();
        }
        let complaints = log_.last_words().await;
        (io::read_to_string(reader).unwrap(), complaints)
    }

    #[tokio::test]
    async fn only_the_probes_own_lines_are_left_out() {
        let log = "\
            Nov 23 05:13:29 myhost postfix/smtpd[225]: connect from unknown[127.0.0.2]\n\
            Nov 23 05:13:29 myhost postfix/smtpd[225]: disconnect from unknown[127.0.0.2] quit=1 commands=1\n\
            Nov 23 05:13:29 myhost postfix/smtpd[225]: connect from unknown[127.0.0.21]\n\
            Nov 23 05:13:29 myhost postfix/smtpd[225]: disconnect from unknown[10.0.0.9] helo=<connect from unknown[127.0.0.2]>\n\
            Nov 23 05:13:29 myhost postfix/smtpd[225]: warning: x]: connect from unknown[127.0.0.2]\n";
        let kept: String = log.split_inclusive('\n').skip(2).collect();
        assert_eq!(passed_on(log).await.0, kept);
    }

    #[tokio::test]
    async fn the_last_complaints_are_kept() {
        let log = "a: fatal: 1\nb: fatal: 2\nc: info\nd: error: 3\ne: panic: 4\n";
        assert_eq!(passed_on(log).await.1, "b: fatal: 2; d: error: 3; e: panic: 4");
        assert_eq!(passed_on("nothing of note\n").await.1, "");
    }

    #[tokio::test]
    async fn postfix_does_not_wait_for_whoever_reads_the_output() {
        let directory = tempfile::TempDir::new().unwrap();
        let socket = directory.path().join("log");
        let (reader, writer) = io::pipe().unwrap();
        let log = Log::receive_to(writer, &socket, Metrics::default()).unwrap();
        let postfix = UnixDatagram::unbound().unwrap();
        let line = "x".repeat(1000);
        for _ in 0..waiting::MOST + 1000 {
            postfix.send_to(line.as_bytes(), &socket).unwrap();
        }
        let read = thread::spawn(|| io::read_to_string(reader).unwrap());
        log.last_words().await;
        let text = read.join().unwrap();
        // The last lines may find room again, once somebody reads.
        assert!(text.contains("lines of Postfix's log are lost: nobody read them\n"), "{}", text.len());
    }
}
