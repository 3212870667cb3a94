//! Are we in step with LAPI?

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::{Error, RESULTS};
use super::hurry::Hurry;
use crate::crowdsec::panics::lock;
use crate::crowdsec::tally::Tally;

/// What the poller shares with requests: whether LAPI answers, whether to hurry, and how polls ended.
pub struct Contact {
    start: Instant,
    /// Older than this, the last answer is stale.
    patience: Duration,
    answers: Mutex<Answers>,
    /// Whether to ask LAPI sooner than usual.
    pub hurry: Hurry,
    /// How polls ended, and in live mode the questions about visitors too.
    pub polls: Tally,
    /// Decisions that are not enforced, since they could not be read or were too many on one value.
    pub unusable: AtomicU64,
}

#[derive(Clone, Copy, Default)]
struct Answers {
    /// The first of the answers that have kept the health `Ok` without a break.
    first: Option<Instant>,
    last: Option<Instant>,
    /// Added to `patience` while a full answer is awaited.
    extra: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// LAPI has not answered since the launch.
    Starting,
    Ok,
    /// LAPI answered before, but not within three polls and two seconds; changes do not count while full answers fail.
    /// While a full answer is awaited, twice the duration of the last full answer is added.
    Stale,
}

/// Added to three polls, for short polls and busy machines.
const SLACK: Duration = Duration::from_secs(2);

impl Contact {
    pub fn new(update_frequency: Duration) -> Self {
        let patience = update_frequency.saturating_mul(3) + SLACK;
        let (answers, hurry, polls, unusable) = Default::default();
        Self { start: Instant::now(), patience, answers, hurry, polls, unusable }
    }

    /// Counts a poll by its result and its duration.
    pub fn count(&self, result: &Result<(), Error>, took: Duration) {
        self.polls.count(&RESULTS, result.as_ref().err().map_or("ok", Error::name), took);
    }

    pub fn health(&self) -> Health {
        self.health_at(Instant::now())
    }

    fn health_at(&self, now: Instant) -> Health {
        let Answers { last, extra, .. } = *lock(&self.answers);
        match last {
            None => Health::Starting,
            Some(at) if now.saturating_duration_since(at) <= self.patience + extra => Health::Ok,
            Some(_) => Health::Stale,
        }
    }

    pub fn since_last_answer(&self) -> Option<Duration> {
        Some(lock(&self.answers).last?.elapsed())
    }

    /// `since_last_answer`, but `None` while a snapshot stands in for LAPI's first answer.
    pub fn since_lapis_answer(&self) -> Option<Duration> {
        self.since_last_answer().filter(|_| !self.is_recalled())
    }

    /// How long the present health has lasted; for `Stale`, how long ago LAPI answered last.
    pub fn lasts(&self) -> Duration {
        let Answers { first, last, .. } = *lock(&self.answers);
        let since = if self.health() == Health::Stale { last } else { first };
        since.unwrap_or(self.start).elapsed()
    }

    /// Counts a snapshot as an answer at the start: health is soon stale unless LAPI itself answers.
    pub fn recalled(&self) {
        let mut answers = lock(&self.answers);
        (answers.first, answers.last) = (Some(self.start), Some(self.start));
    }

    /// Whether a snapshot still stands in for LAPI's first answer.
    pub fn is_recalled(&self) -> bool {
        lock(&self.answers).last == Some(self.start)
    }

    /// Notes that LAPI is being asked for everything, which took `last` the last time; zero once that is over. Stale health
    /// stays stale until LAPI answers.
    pub fn awaits_everything(&self, last: Duration) {
        let factor = if self.health() == Health::Ok { 2 } else { 0 };
        lock(&self.answers).extra = last * factor;
    }

    pub fn answered(&self) {
        let (now, health) = (Instant::now(), self.health());
        let mut answers = lock(&self.answers);
        let first = answers.first.filter(|_| health == Health::Ok);
        *answers = Answers { first: first.or(Some(now)), last: Some(now), extra: Duration::ZERO };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_snapshot_is_no_answer_of_lapis() {
        let contact = Contact::new(Duration::from_secs(10));
        contact.recalled();
        assert!(contact.since_last_answer().is_some() && contact.since_lapis_answer().is_none());
        contact.answered();
        assert!(contact.since_lapis_answer().is_some());
    }

    #[test]
    fn each_poll_is_counted_by_its_end_and_by_how_long_it_took() {
        let contact = Contact::new(Duration::from_secs(10));
        for (result, took) in [
            (Ok(()), 10),
            (Ok(()), 11),
            (Err(Error::Forbidden), 200),
            (Err(Error::Status(500)), 1),
            (Err(Error::Transfer(String::new())), 61_000),
            (Err(Error::Unreadable(String::new())), 5000),
        ] {
            contact.count(&result, Duration::from_millis(took));
        }
        let get = |counts: &[AtomicU64]| counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert_eq!(get(&contact.polls.ended), [2, 1, 1, 1, 1, 0, 0]);
        assert_eq!(get(&contact.polls.took), [1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1]);
        assert_eq!(get(&[contact.polls.microseconds]), [66_222_000]);
    }

    #[test]
    fn health_is_stale_three_polls_and_two_seconds_after_the_last_answer() {
        let contact = Contact::new(Duration::from_secs(10));
        let answered = contact.start;
        let after = |seconds| contact.health_at(answered + Duration::from_secs(seconds));
        assert_eq!(after(1), Health::Starting);
        contact.recalled();
        assert_eq!((after(32), after(33)), (Health::Ok, Health::Stale));
        // A full answer of a million decisions takes LAPI 40 s, and more when it is busy.
        contact.awaits_everything(Duration::from_secs(40));
        assert_eq!((after(112), after(113)), (Health::Ok, Health::Stale));
        contact.awaits_everything(Duration::ZERO);
        assert_eq!((after(32), after(33)), (Health::Ok, Health::Stale));
    }

    #[test]
    fn who_is_stale_stays_so_until_lapi_answers_and_is_well_from_then_on() {
        let contact = Contact::new(Duration::from_secs(10));
        let long_ago = Instant::now() - Duration::from_secs(100);
        *lock(&contact.answers) = Answers { first: Some(long_ago), last: Some(long_ago), extra: Duration::ZERO };
        contact.awaits_everything(Duration::from_secs(600));
        assert_eq!(contact.health(), Health::Stale);
        contact.answered();
        assert_eq!(contact.health(), Health::Ok);
    }
}
