//! What was tried last, and when it is worth another try: soon after what a full disk or a busy node prevented, seldom after a
//! refusal, whose words don't tell whether it passes. Pure: the time is told.

use std::time::{Duration, Instant};

/// Shortest and longest rest before another try of the same; it doubles with each.
type Rests = (Duration, Duration);

const AFTER_FAILURE: Rests = (Duration::from_secs(1), Duration::from_mins(1));

const AFTER_REFUSAL: Rests = (Duration::from_mins(1), Duration::from_mins(10));

/// The last try, of something that is mounted.
pub(super) struct Retry<T> {
    tried: Option<T>,
    /// How long to rest, and until when; `None`: it is settled.
    rest: Option<(Duration, Instant)>,
}

impl<T> Default for Retry<T> {
    fn default() -> Self {
        Self { tried: None, rest: None }
    }
}

impl<T: PartialEq> Retry<T> {
    /// Whether what is mounted was tried, as the last one.
    pub(super) fn is_last(&self, mounted: &T) -> bool {
        self.tried.as_ref() == Some(mounted)
    }

    /// Whether what is mounted is to be tried: it is another, or has rested.
    pub(super) fn is_due(&self, mounted: &T, now: Instant) -> bool {
        !self.is_last(mounted) || self.rest.is_some_and(|(_, until)| until <= now)
    }

    /// It was tried, and there is nothing more to do for it.
    pub(super) fn settled(&mut self, tried: T) {
        *self = Self { tried: Some(tried), rest: None };
    }

    /// It was tried, and may succeed soon.
    pub(super) fn failed(&mut self, tried: T, now: Instant) {
        self.rest(tried, AFTER_FAILURE, now);
    }

    /// It was tried, and is most likely refused again.
    pub(super) fn refused(&mut self, tried: T, now: Instant) {
        self.rest(tried, AFTER_REFUSAL, now);
    }

    fn rest(&mut self, tried: T, (shortest, longest): Rests, now: Instant) {
        let before = self.rest.filter(|_| self.is_last(&tried));
        let rest = before.map_or(shortest, |(rest, _)| (rest * 2).clamp(shortest, longest));
        *self = Self { tried: Some(tried), rest: Some((rest, now + rest)) };
    }

    /// Whatever is mounted next is tried.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_tried_again_at_growing_distances_and_what_is_settled_is_not() {
        type Note = fn(&mut Retry<&'static str>, &'static str, Instant);
        let notes: [(Note, [u64; 8]); 2] = [
            (Retry::failed, [1, 2, 4, 8, 16, 32, 60, 60]),
            (Retry::refused, [60, 120, 240, 480, 600, 600, 600, 600]),
        ];
        for (note, rests) in notes {
            let (mut retry, mut now) = (Retry::default(), Instant::now());
            for expected in rests {
                assert!(retry.is_due(&"a", now));
                note(&mut retry, "a", now);
                let rest = Duration::from_secs(expected);
                assert!(!retry.is_due(&"a", now + rest.mul_f32(0.9)), "{expected}");
                now += rest;
            }
            retry.settled("a");
            assert!(!retry.is_due(&"a", now + Duration::from_hours(1)) && retry.is_due(&"b", now));
            note(&mut retry, "b", now);
            assert!(!retry.is_due(&"b", now) && retry.is_due(&"a", now));
            assert!(retry.is_due(&"b", now + Duration::from_secs(rests[0])));
            retry.forget();
            assert!(retry.is_due(&"b", now));
        }
    }
}
