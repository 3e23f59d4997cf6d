//! Postfix's log on its way through the agent: passed on, but for the lines of the agent's own probe; its last
//! complaints are kept, to tell why Postfix ended.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, PipeWriter, Write, pipe, stdout};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::metrics::Metrics;
use super::outage;
use crate::postfix::PROBE_ADDRESS;

/// How many complaints are kept.
const KEPT: usize = 3;

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
    complaints: Complaints,
    ended: oneshot::Receiver<()>,
    outage: Arc<Notify>,
}

impl Log {
    /// Wakes once after Postfix told that it can't reach the database.
    pub(super) fn outage(&self) -> Arc<Notify> {
        self.outage.clone()
    }

    /// Waits until all that was written is passed on, not for long, and gives the last [`Complaints`].
    pub(super) async fn last_words(self) -> String {
        // It fails when a process of Postfix lives on and could still write.
        let _ = timeout(LAST_WORDS_LIMIT, self.ended).await;
        self.complaints.text()
    }
}

/// A pipe for Postfix to write to, passed on to standard output by a thread that ends with the last writer.
pub(super) fn pass_on(metrics: Metrics) -> std::io::Result<(PipeWriter, Log)> {
    let (reader, writer) = pipe()?;
    let (done, ended) = oneshot::channel();
    let complaints = Complaints::default();
    let noted = complaints.clone();
    let outage = Arc::<Notify>::default();
    let told = outage.clone();
    std::thread::Builder::new().name("postfix-log".to_owned()).spawn(move || {
        copy(BufReader::new(reader), stdout(), &noted, &told, &metrics);
        // Nobody may be waiting.
        let _ = done.send(());
    })?;
    Ok((writer, Log { complaints, ended, outage }))
}

/// Copies lines until the end of input. A line that can't be written is lost: Postfix must not wait for a reader.
fn copy(
    mut input: impl BufRead,
    mut output: impl Write,
    complaints: &Complaints,
    outage: &Notify,
    metrics: &Metrics,
) {
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line);
        complaints.note(&text);
        if outage::is_sign(&text) {
            outage.notify_one();
        }
        if !is_probe(&text) {
            metrics.note(&text);
            let _ = output.write_all(&line).and_then(|()| output.flush());
        }
        line.clear();
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

    fn copied(log: &str) -> (String, String) {
        let mut output = Vec::new();
        let complaints = Complaints::default();
        copy(log.as_bytes(), &mut output, &complaints, &Notify::new(), &Metrics::default());
        (String::from_utf8(output).unwrap(), complaints.text())
    }

    #[test]
    fn only_the_probes_own_lines_are_left_out() {
        let log = "\
            Nov 23 05:13:29 myhost postfix/smtpd[225]: connect from unknown[127.0.0.2]\n\
            Nov 23 05:13:29 myhost postfix/smtpd[225]: disconnect from unknown[127.0.0.2] quit=1 commands=1\n\
            Nov 23 05:13:29 myhost postfix/smtpd[225]: connect from unknown[127.0.0.21]\n\
            Nov 23 05:13:29 myhost postfix/smtpd[225]: disconnect from unknown[10.0.0.9] helo=<connect from unknown[127.0.0.2]>\n\
            Nov 23 05:13:29 myhost postfix/smtpd[225]: warning: x]: connect from unknown[127.0.0.2]\n\
            no end of line";
        let kept: String = log.split_inclusive('\n').skip(2).collect();
        assert_eq!(copied(log).0, kept);
    }

    #[test]
    fn the_last_complaints_are_kept() {
        let log = "a: fatal: 1\nb: fatal: 2\nc: info\nd: error: 3\ne: panic: 4\n";
        assert_eq!(copied(log).1, "b: fatal: 2; d: error: 3; e: panic: 4");
        assert_eq!(copied("nothing of note\n").1, "");
    }
}
