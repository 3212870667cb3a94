//! Are we in step with LAPI?

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::hurry::Hurry;

/// Whether we are in step with LAPI, for those who want to know. Atomic, since requests ask while the poller writes.
pub struct Status {
    start: Instant,
    /// Milliseconds since the start, plus one; 0 means never.
    last_answer: AtomicU64,
    /// How many milliseconds more than usual an answer may take: some while a full answer is awaited, else 0.
    extra: AtomicU64,
    patience: Duration,
    /// Whether to ask LAPI sooner than usual.
    pub hurry: Hurry,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Health {
    /// LAPI has not answered since the launch.
    Starting,
    Ok,
    /// LAPI answered before, but not for three polls and two seconds; while everything is asked for anew, it may take twice
    /// the time of its last full answer besides.
    Stale,
}

/// Beside three polls: what a short poll and a busy machine may take.
const SLACK: Duration = Duration::from_secs(2);

impl Status {
    pub fn new(update_frequency: Duration) -> Self {
        let patience = update_frequency.saturating_mul(3) + SLACK;
        Self {
            start: Instant::now(),
            last_answer: AtomicU64::new(0),
            extra: AtomicU64::new(0),
            patience,
            hurry: Hurry::default(),
        }
    }

    pub fn health(&self) -> Health {
        self.health_at(Instant::now())
    }

    fn health_at(&self, now: Instant) -> Health {
        let patience = self.patience + Duration::from_millis(self.extra.load(Ordering::Relaxed));
        match self.last_answer() {
            None => Health::Starting,
            Some(at) if now.saturating_duration_since(at) <= patience => Health::Ok,
            Some(_) => Health::Stale,
        }
    }

    pub fn since_last_answer(&self) -> Option<Duration> {
        Some(self.last_answer()?.elapsed())
    }

    fn last_answer(&self) -> Option<Instant> {
        let milliseconds = self.last_answer.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.start + Duration::from_millis(milliseconds))
    }

    /// A snapshot counts as an answer at the start: it is soon stale, unless LAPI answers itself.
    pub fn recalled(&self) {
        self.last_answer.store(1, Ordering::Relaxed);
    }

    /// LAPI has just answered a short question, and is asked for everything, which took so long the last time.
    pub fn awaits_everything(&self, last: Duration) {
        self.extra.store(last.as_millis() as u64 * 2, Ordering::Relaxed);
    }

    /// What was awaited came, or did not.
    pub fn awaits_nothing(&self) {
        self.extra.store(0, Ordering::Relaxed);
    }

    pub fn answered(&self) {
        self.last_answer.store(self.start.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        self.awaits_nothing();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_stale_three_polls_and_two_seconds_after_the_last_answer() {
        let status = Status::new(Duration::from_secs(10));
        let answered = status.start;
        let after = |seconds| status.health_at(answered + Duration::from_secs(seconds));
        assert_eq!(after(1), Health::Starting);
        status.recalled();
        assert_eq!((after(32), after(33)), (Health::Ok, Health::Stale));
        // A full answer of a million decisions takes LAPI 40 s, and more when it is busy.
        status.awaits_everything(Duration::from_secs(40));
        assert_eq!((after(112), after(113)), (Health::Ok, Health::Stale));
        status.awaits_nothing();
        assert_eq!((after(32), after(33)), (Health::Ok, Health::Stale));
    }
}
