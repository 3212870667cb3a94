//! When is LAPI asked sooner than usual? After a burst of refusals by the application: CrowdSec is about to decide.

use std::hash::Hash;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::crowdsec::limit::Limit;
use crate::crowdsec::panics::lock;

/// Whoever scans for holes meets one 404 after the other. CrowdSec's scenarios decide after some ten of them, and a poll
/// every ten seconds would let the scanner go on for up to ten seconds more. So LAPI is asked each second for a while.
pub struct Hurry {
    refusals: Limit,
    /// Bounds the hurried polls: otherwise a stranger's bursts could cause them without end.
    polls: Limit,
    until: Mutex<Option<Instant>>,
    /// Notified when a burst begins.
    pub began: Notify,
}

/// More refusals than this to one address within `WINDOW` are a burst.
const MOST_REFUSALS: u32 = 4;
const WINDOW: Duration = Duration::from_secs(10);
/// How long after the last burst LAPI is asked each second: an agent has to read the log, decide, and tell LAPI.
const WHILE: Duration = Duration::from_secs(15);
/// At most this many hurried polls in ten minutes. A delta costs LAPI some milliseconds.
const POLLS: u32 = 120;

impl Default for Hurry {
    fn default() -> Self {
        let (refusals, polls) = (Limit::new(MOST_REFUSALS, WINDOW), Limit::new(POLLS, Duration::from_secs(600)));
        Self { refusals, polls, until: Mutex::default(), began: Notify::default() }
    }
}

impl Hurry {
    /// Notes that the application refused something to this address, or noted an event of it.
    pub fn note(&self, address: impl Hash, now: Instant) {
        if self.refusals.count(address, now).is_ok() {
            return;
        }
        let before = lock(&self.until).replace(now + WHILE);
        if before.is_none_or(|until| until < now) && self.polls.wait((), now).is_none() {
            self.began.notify_one();
        }
    }

    /// Whether the next poll should come within a second; counts that poll.
    pub fn is_on(&self, now: Instant) -> bool {
        let until = *lock(&self.until);
        until.is_some_and(|until| now < until) && self.polls.count((), now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use rocket::futures::FutureExt;

    use super::*;

    #[test]
    fn a_burst_of_one_address_hurries_for_a_while_and_a_crowd_does_not() {
        let (hurry, start) = (Hurry::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for address in 0..1000 {
            hurry.note(address, at(1));
        }
        assert!(!hurry.is_on(at(1)), "one refusal each is what every site sees");
        for _ in 0..MOST_REFUSALS {
            hurry.note("192.0.2.1", at(2));
        }
        assert!(!hurry.is_on(at(2)));
        hurry.note("192.0.2.1", at(3));
        assert!(hurry.is_on(at(3)) && hurry.is_on(at(17)) && !hurry.is_on(at(18)));
    }

    #[test]
    fn bursts_without_end_hurry_only_so_many_polls() {
        let (hurry, start) = (Hurry::default(), Instant::now());
        let mut hurried = 0;
        for second in 0..590 {
            let now = start + Duration::from_secs(second);
            (0..20).for_each(|_| hurry.note("192.0.2.1", now));
            hurried += u32::from(hurry.is_on(now));
        }
        assert_eq!(hurried, POLLS);
    }

    #[test]
    fn a_burst_brings_a_poll_at_once_while_any_is_left() {
        let (hurry, start) = (Hurry::default(), Instant::now());
        let burst = |at| (0..20).for_each(|_| hurry.note("192.0.2.1", start + Duration::from_secs(at)));
        let began = || hurry.began.notified().now_or_never().is_some();
        burst(0);
        assert!(began());
        (0..POLLS).for_each(|_| assert!(hurry.is_on(start)));
        burst(60);
        assert!(!began(), "no hurried poll is left");
        burst(700);
        assert!(began());
    }
}
