//! Lines that wait to be written, between the thread that takes them from Postfix and the one that writes them.

use std::io::Write;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many lines may wait for whoever reads the output; more are lost.
pub(super) const MOST: usize = 10_000;

/// Shortest time between two writes. Each wakes containerd and its shim, which costs mail more of the processors than the lines
/// in it do.
const REST: Duration = Duration::from_millis(50);

/// Bytes that are written without a rest: what containerd's shim takes in one read.
const FULL: usize = 32 * 1024;

/// The lines.
#[derive(Default)]
pub(super) struct Waiting {
    lines: Mutex<Lines>,
    news: Condvar,
}

#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    count: usize,
    lost: u64,
    has_ended: bool,
}

impl Lines {
    fn push(&mut self, line: &[u8]) {
        if self.count == MOST {
            self.lost += 1;
            return;
        }
        self.tell_lost();
        self.append(line);
    }

    fn tell_lost(&mut self) {
        if self.lost > 0 {
            let told = format!("{} lines of Postfix's log are lost: nobody read them", self.lost);
            self.append(told.as_bytes());
            self.lost = 0;
        }
    }

    fn append(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        self.count += 1;
    }

    /// How urgent it is to write.
    fn urgency(&self) -> Urgency {
        if self.text.len() >= FULL || self.has_ended {
            Urgency::Now
        } else if self.text.is_empty() {
            Urgency::None
        } else {
            Urgency::AfterRest
        }
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Urgency {
    None,
    AfterRest,
    Now,
}

impl Waiting {
    /// Adds a line, or counts it as lost. Waits for nobody.
    pub(super) fn push(&self, line: &[u8]) {
        self.change(|lines| lines.push(line));
    }

    /// No line follows.
    pub(super) fn end(&self) {
        self.change(|lines| {
            lines.tell_lost();
            lines.has_ended = true;
        });
    }

    /// Wakes the writer only when there is more to do for it than before: to wake it for each line would cost as much as to write
    /// each.
    fn change(&self, change: impl FnOnce(&mut Lines)) {
        let mut lines = self.lock();
        let before = lines.urgency();
        change(&mut lines);
        if lines.urgency() != before {
            self.news.notify_one();
        }
    }

    /// Writes until the end: at once after a rest, else what has come until the rest is over. Lines that can't be written are lost.
    pub(super) fn write(&self, mut output: impl Write) {
        let mut text = Vec::new();
        let mut rested = Instant::now();
        while self.take(&mut text, rested) {
            let _ = output.write_all(&text).and_then(|()| output.flush());
            rested = Instant::now() + REST;
        }
    }

    /// Puts what waits in place of `text`; whether there was anything. Nothing else comes any more if there was not.
    fn take(&self, text: &mut Vec<u8>, rested: Instant) -> bool {
        let lines = self.lock();
        let lines = self
            .news
            .wait_while(lines, |lines| lines.urgency() == Urgency::None)
            .unwrap_or_else(PoisonError::into_inner);
        let rest = rested.saturating_duration_since(Instant::now());
        let (mut lines, _) = self
            .news
            .wait_timeout_while(lines, rest, |lines| lines.urgency() != Urgency::Now)
            .unwrap_or_else(PoisonError::into_inner);
        text.clear();
        std::mem::swap(text, &mut lines.text);
        lines.count = 0;
        !text.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Tells of every write.
    struct Output(Sender<String>);

    impl Write for Output {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(text).into_owned()).map_err(io::Error::other)?;
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn writing() -> (Arc<Waiting>, Receiver<String>) {
        let waiting = Arc::<Waiting>::default();
        let (sender, writes) = channel();
        thread::spawn({
            let waiting = waiting.clone();
            move || waiting.write(Output(sender))
        });
        (waiting, writes)
    }

    #[test]
    fn a_line_on_its_own_waits_for_no_other() {
        let (waiting, writes) = writing();
        for line in ["first", "second"] {
            waiting.push(line.as_bytes());
            assert_eq!(writes.recv_timeout(PATIENCE).unwrap(), format!("{line}\n"));
        }
    }

    #[test]
    fn lines_that_come_close_together_are_written_together_and_in_order() {
        let (waiting, writes) = writing();
        let started = Instant::now();
        let lines: Vec<String> = (0..200).map(|number| format!("{number}\n")).collect();
        for line in &lines {
            waiting.push(line.trim_end().as_bytes());
            thread::sleep(Duration::from_micros(100));
        }
        waiting.end();
        let writes: Vec<String> = writes.iter().collect();
        assert_eq!(writes.concat(), lines.concat());
        // The first and the last need no rest before them.
        let rests = started.elapsed().as_millis() / REST.as_millis();
        assert!(writes.len() as u128 <= rests + 2, "{} writes, {rests} rests", writes.len());
    }

    #[test]
    fn a_full_block_is_written_without_a_rest() {
        let waiting = Waiting::default();
        waiting.push(&vec![b'x'; FULL]);
        assert!(waiting.take(&mut Vec::new(), Instant::now() + Duration::from_hours(1)));
    }

    #[test]
    fn what_waits_at_the_end_is_written_without_a_rest() {
        let waiting = Waiting::default();
        let (mut text, never) = (Vec::new(), Instant::now() + Duration::from_hours(1));
        waiting.push(b"last");
        waiting.end();
        assert!(waiting.take(&mut text, never));
        assert_eq!(text, b"last\n");
        assert!(!waiting.take(&mut text, never));
    }

    #[test]
    fn lines_beyond_the_limit_are_counted_where_they_are_missing() {
        let waiting = Waiting::default();
        for _ in 0..MOST + 2 {
            waiting.push(b"x");
        }
        let mut text = Vec::new();
        assert!(waiting.take(&mut text, Instant::now()));
        assert_eq!(text.len(), 2 * MOST);
        waiting.push(b"next");
        assert!(waiting.take(&mut text, Instant::now()));
        assert_eq!(text, b"2 lines of Postfix's log are lost: nobody read them\nnext\n");
    }
}
