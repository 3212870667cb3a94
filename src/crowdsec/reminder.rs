//! When does the log tell the operator again that something is still wrong?

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::panics::lock;

/// Something that goes wrong again and again: it is counted, told after a few times, and told again after each pause.
#[derive(Debug, Default)]
pub struct Reminder(Mutex<(u64, Option<Instant>)>);

pub const MINUTE: Duration = Duration::from_secs(60);
/// The pause between two lines of the log, unless something deserves more lines.
pub const HOUR: Duration = Duration::from_secs(60 * 60);

impl Reminder {
    pub const fn new() -> Self {
        Self(Mutex::new((0, None)))
    }

    /// Counts once more. Gives the count when it is time to tell: first after `few` times, then after each `pause`.
    pub fn count(&self, few: u64, pause: Duration, now: Instant) -> Option<u64> {
        let mut reminder = lock(&self.0);
        let (times, told) = &mut *reminder;
        *times += 1;
        let due = told.map_or(*times >= few, |at| now.saturating_duration_since(at) >= pause);
        due.then(|| {
            *told = Some(now);
            *times
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_told_after_a_few_times_again_once_an_hour_and_counted() {
        let (reminder, start) = (Reminder::default(), Instant::now());
        let at = |minutes: u64| reminder.count(3, HOUR, start + Duration::from_secs(60 * minutes));
        assert_eq!([at(0), at(0), at(0), at(1)], [None, None, Some(3), None]);
        assert_eq!([at(59), at(60), at(61), at(119)], [None, Some(6), None, None]);
        assert_eq!([at(500), at(501)], [Some(9), None], "it lasts, or has come back");
    }
}
