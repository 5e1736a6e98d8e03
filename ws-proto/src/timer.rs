//! The deadlines of a connection, and the reason each stands for.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timer {
    /// The head of the other side's handshake must be complete ([`HeadLimits::timeout`](crate::HeadLimits::timeout)).
    Handshake,
    /// The peer was silent for so long that it is pinged ([`Config::keepalive`](crate::Config::keepalive)).
    KeepAlive,
    /// The peer must show life after a ping ([`Config::pong_timeout`](crate::Config::pong_timeout)).
    Pong,
    /// The peer must take some of the pending output ([`Config::write_timeout`](crate::Config::write_timeout)).
    Write,
    /// The closing handshake must be over ([`Config::close_timeout`](crate::Config::close_timeout)).
    Close,
}

impl fmt::Display for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "the opening handshake was not complete in time",
            Self::KeepAlive => "the peer was silent",
            Self::Pong => "the peer did not answer a ping in time",
            Self::Write => "the peer took no output in time",
            Self::Close => "the closing handshake was not complete in time",
        })
    }
}

/// When each timer fires next.
#[derive(Debug, Default)]
pub(crate) struct TimerTable {
    deadlines: [Option<Instant>; TIMERS.len()],
    /// The earliest of them: asked for with every read, changed seldom.
    next: Option<(Instant, Timer)>,
}

impl TimerTable {
    /// Arms a timer, anew if it is armed; `None`, or longer than time can tell, stops it.
    pub(crate) fn arm(&mut self, timer: Timer, now: Instant, timeout: Option<Duration>) {
        // Never at once, so that handling a timer that arms itself again comes to an end.
        self.set(timer, timeout.and_then(|timeout| now.checked_add(timeout.max(SHORTEST))));
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        if self.is_set(timer) {
            self.set(timer, None);
        }
    }

    pub(crate) fn stop_all(&mut self) {
        *self = Self::default();
    }

    fn set(&mut self, timer: Timer, deadline: Option<Instant>) {
        self.deadlines[timer as usize] = deadline;
        let armed = TIMERS.into_iter().filter_map(|timer| Some((self.deadlines[timer as usize]?, timer)));
        self.next = armed.min_by_key(|&(deadline, _)| deadline);
    }

    #[inline]
    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize].is_some()
    }

    /// The earliest deadline and its timer.
    #[inline]
    pub(crate) fn next(&self) -> Option<(Instant, Timer)> {
        self.next
    }

    /// Stops a timer that is due and names it; the earliest first.
    #[inline]
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let (_, timer) = self.next.filter(|&(deadline, _)| deadline <= now)?;
        self.stop(timer);
        Some(timer)
    }
}

const SHORTEST: Duration = Duration::from_millis(1);

const TIMERS: [Timer; 5] = [Timer::Handshake, Timer::KeepAlive, Timer::Pong, Timer::Write, Timer::Close];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an instant to start from; nothing waits for it")]
    fn the_earliest_comes_first_and_only_when_due() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = TimerTable::default();
        assert_eq!(timers.next(), None);
        timers.arm(Timer::Close, start, Some(Duration::from_millis(20)));
        timers.arm(Timer::Write, start, Some(Duration::from_millis(10)));
        timers.arm(Timer::Pong, start, None);
        timers.arm(Timer::KeepAlive, start, Some(Duration::MAX));
        assert_eq!(timers.next(), Some((at(10), Timer::Write)));
        assert_eq!(timers.expire(at(9)), None);
        assert_eq!(timers.expire(at(30)), Some(Timer::Write));
        assert_eq!(timers.expire(at(30)), Some(Timer::Close));
        assert_eq!(timers.expire(at(30)), None);
    }
}
