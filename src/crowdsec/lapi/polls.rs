//! How did the polls end, and how long did they take? Counted for whoever wants to know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Error;

/// All polls since the launch; in live mode, the questions about visitors too.
#[derive(Default)]
pub struct Polls {
    /// How many ended in each of `RESULTS`.
    pub ended: [AtomicU64; RESULTS.len()],
    /// How long they took: each place counts those within its bound and beyond the one before; the last has the rest.
    pub took: [AtomicU64; BOUNDS.len() + 1],
    /// How long all of them took.
    pub milliseconds: AtomicU64,
    /// Decisions that could not be read, or were too many for one address, and are not enforced.
    pub unused: AtomicU64,
}

/// How a poll can end.
pub const RESULTS: [&str; 5] = ["ok", "auth", "http", "network", "parse"];

/// In seconds. A delta takes milliseconds, a full answer with a million decisions a minute.
pub const BOUNDS: [f64; 8] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0];

impl Polls {
    pub fn count(&self, result: &Result<(), Error>, took: Duration) {
        let name = result.as_ref().err().map_or("ok", name);
        let place = RESULTS.iter().position(|known| *known == name).unwrap_or_default();
        let bound = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        self.ended[place].fetch_add(1, Ordering::Relaxed);
        self.took[bound].fetch_add(1, Ordering::Relaxed);
        self.milliseconds.fetch_add(took.as_millis() as u64, Ordering::Relaxed);
    }

    pub fn leave_out(&self, decisions: usize) {
        self.unused.fetch_add(decisions as u64, Ordering::Relaxed);
    }
}

fn name(error: &Error) -> &'static str {
    match error {
        Error::Forbidden => "auth",
        Error::Redirect(_) | Error::Status(_) => "http",
        Error::Transfer(_) => "network",
        Error::Unreadable(_) | Error::Panicked(_) | Error::Short { .. } => "parse",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_poll_is_counted_by_its_end_and_by_how_long_it_took() {
        let polls = Polls::default();
        for (result, took) in [
            (Ok(()), 10),
            (Ok(()), 11),
            (Err(Error::Forbidden), 200),
            (Err(Error::Status(500)), 1),
            (Err(Error::Transfer(String::new())), 61_000),
            (Err(Error::Unreadable(String::new())), 5000),
        ] {
            polls.count(&result, Duration::from_millis(took));
        }
        let get = |counts: &[AtomicU64]| counts.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert_eq!(get(&polls.ended), [2, 1, 1, 1, 1]);
        assert_eq!(get(&polls.took), [2, 1, 0, 1, 0, 1, 0, 0, 1]);
        assert_eq!(get(&[polls.milliseconds]), [66_222]);
    }
}
