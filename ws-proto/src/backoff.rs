//! Exponential back-off with jitter, for clients that connect again (RFC 6455 section 7.2.3).

use std::time::{Duration, Instant};

use crate::send::MaskingKeys;

/// How long a client waits before it connects again.
///
/// After each failure the longest wait grows by `factor`, from `min` to `max`; the wait itself is a random part of it,
/// from nothing to all ("full jitter"), so that many clients that lost one server do not come back all at once.
///
/// ```
/// use std::time::Duration;
/// use ws_proto::Backoff;
///
/// let backoff = Backoff { max: Duration::from_secs(10), ..Backoff::default() };
/// assert_eq!(backoff.longest(0), Duration::from_secs(1));
/// assert_eq!(backoff.longest(3), Duration::from_secs(8));
/// assert_eq!(backoff.longest(4), Duration::from_secs(10));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait. Default 1 s.
    pub min: Duration,
    /// The longest of all. Default 60 s: who comes back after an hour is found again within a minute.
    pub max: Duration,
    /// How much longer each wait may be than the one before. Default 2.
    pub factor: u32,
    /// How long a connection must have lasted for the waits to begin anew, from when it was handed out to when the next
    /// was asked for. Default 10 s. A server that accepts and then drops is no better than one that refuses.
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        let [min, max, reset_after] = [1, 60, 10].map(Duration::from_secs);
        Self { min, max, factor: 2, reset_after }
    }
}

impl Backoff {
    /// The longest wait after so many others.
    pub fn longest(&self, waits: u32) -> Duration {
        self.min.saturating_mul(self.factor.saturating_pow(waits)).min(self.max)
    }
}

/// The waits of one client.
#[derive(Debug)]
pub(crate) struct Waits {
    backoff: Backoff,
    count: u32,
    random: MaskingKeys,
    opened: Option<Instant>,
}

impl Waits {
    /// `seed` must be random, or clients would wait alike.
    pub(crate) fn new(backoff: Backoff, seed: [u8; 32]) -> Self {
        Self { backoff, count: 0, random: MaskingKeys::new(seed), opened: None }
    }

    pub(crate) fn set_backoff(&mut self, backoff: Backoff) {
        self.backoff = backoff;
    }

    /// There is a connection.
    pub(crate) fn handle_open(&mut self, now: Instant) {
        self.opened = Some(now);
    }

    /// The next wait: there is no connection, or none any more.
    pub(crate) fn next(&mut self, now: Instant) -> Duration {
        let lasted = self.opened.take().map(|opened| now.saturating_duration_since(opened));
        if lasted.is_some_and(|lasted| lasted >= self.backoff.reset_after) {
            self.count = 0;
        }
        let longest = self.backoff.longest(self.count);
        self.count = self.count.saturating_add(1);
        let random = f64::from(u32::from_ne_bytes(self.random.next())) / 2_f64.powi(32);
        longest.min(A_YEAR).mul_f64(random)
    }
}

/// A wait that can be added to any time.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "an instant to start from; nothing waits for it")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn s7_2_3_the_longest_wait_grows_from_min_to_max() {
        let secs = Duration::from_secs;
        let backoff =
            |min, max, factor| Backoff { min: secs(min), max: secs(max), factor, ..Backoff::default() };
        for (backoff, longest) in [
            (Backoff::default(), [1, 2, 4, 8, 16, 32, 60, 60]),
            (backoff(3, 1000, 3), [3, 9, 27, 81, 243, 729, 1000, 1000]),
            (backoff(5, 5, 2), [5; 8]),
            (backoff(5, 1, 2), [1; 8]),
            (backoff(5, 60, 1), [5; 8]),
            (backoff(0, 60, 2), [0; 8]),
            (backoff(5, 60, 0), [5, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|waits| backoff.longest(waits)), longest.map(secs));
        }
        assert_eq!(Backoff::default().longest(u32::MAX), secs(60));
        let endless = Backoff { min: Duration::MAX, max: Duration::MAX, ..Backoff::default() };
        assert_eq!(endless.longest(u32::MAX), Duration::MAX);
        let mut waits = Waits::new(endless, [0; 32]);
        assert!((0..1000).all(|_| waits.next(start()) <= A_YEAR));
    }

    #[test]
    fn s7_2_3_the_wait_is_any_part_of_the_longest() {
        let flat = Backoff { min: Duration::from_secs(60), ..Backoff::default() };
        let waits = |seed| {
            let mut waits = Waits::new(flat.clone(), [seed; 32]);
            [(); 1000].map(|()| waits.next(start()))
        };
        let first = waits(1);
        assert_eq!(first, waits(1), "equal seeds, equal waits");
        assert_ne!(first, waits(2));
        let tenths = first.map(|wait| (wait.as_millis() / 6000) as usize);
        for tenth in 0..10 {
            assert!(tenths.iter().filter(|&&of| of == tenth).count() > 50, "every tenth is as likely");
        }
    }

    #[test]
    fn s7_2_3_a_connection_that_lasted_begins_anew() {
        let start = start();
        for (lasted, count) in [(9_999, 4), (10_000, 1), (10_001, 1)] {
            let mut waits = Waits::new(Backoff::default(), [7; 32]);
            for _ in 0..3 {
                assert!(waits.next(start) <= Duration::from_secs(4));
            }
            waits.handle_open(start);
            waits.next(start + Duration::from_millis(lasted));
            assert_eq!(waits.count, count, "after {lasted} ms");
        }
    }
}
