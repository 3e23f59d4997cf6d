//! How closely passes follow each other. Pure; the time is an argument.
//!
//! A few passes follow each other without a rest, so nobody waits who changes a handful of objects. In a longer burst a pass
//! gathers for a moment: what the database does for a hundred mailboxes in one pass is little more than for one.

use std::time::Duration;

use tokio::time::Instant;

/// Time between the beginnings of two passes while a burst lasts.
const INTERVAL: Duration = Duration::from_millis(25);

/// Passes that follow each other at once after a quiet time.
const AT_ONCE: u32 = 8;

/// When passes may begin.
#[derive(Debug)]
pub(super) struct Pace {
    /// When as many passes as [`AT_ONCE`] may follow each other again.
    rested: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { rested: now }
    }

    /// When the next pass may begin: now, unless a burst lasts.
    pub(super) fn next(&self, now: Instant) -> Instant {
        now + self.rested.saturating_duration_since(now).saturating_sub(INTERVAL * (AT_ONCE - 1))
    }

    /// A pass began.
    pub(super) fn began(&mut self, now: Instant) {
        self.rested = self.rested.max(now) + INTERVAL;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(pace: &mut Pace, wanted: Instant) -> Duration {
        let at = pace.next(wanted);
        pace.began(at);
        at - wanted
    }

    #[tokio::test]
    async fn a_handful_of_passes_wait_for_nothing_and_a_burst_gathers() {
        let start = Instant::now() + Duration::from_mins(1);
        let mut pace = Pace::new(start);
        for _ in 0..AT_ONCE {
            assert_eq!(begin(&mut pace, start), Duration::ZERO);
        }
        assert_eq!(begin(&mut pace, start), INTERVAL);
        assert_eq!(begin(&mut pace, start + INTERVAL), INTERVAL);
        let later = start + INTERVAL * (AT_ONCE + 2);
        for _ in 0..AT_ONCE {
            assert_eq!(begin(&mut pace, later), Duration::ZERO, "after a quiet time it begins anew");
        }
    }

    #[tokio::test]
    async fn one_change_after_another_never_waits() {
        let start = Instant::now() + Duration::from_mins(1);
        let mut pace = Pace::new(start);
        for number in 0..1000 {
            assert_eq!(begin(&mut pace, start + INTERVAL * number), Duration::ZERO);
        }
    }
}
