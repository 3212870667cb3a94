//! How did questions to LAPI or AppSec end, and how long did they take? Counted for the figures.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// All questions to one service, LAPI or AppSec, since the launch.
#[derive(Default)]
pub struct Tally {
    /// How many ended in each way. The caller has the list of ways, seven at most.
    pub ended: [AtomicU64; 7],
    /// By duration: index n counts the questions that took at most `SECONDS[n]` and longer than the bound before, the last
    /// index those that took longer than all bounds.
    pub took: [AtomicU64; SECONDS.len() + 1],
    pub microseconds: AtomicU64,
}

/// AppSec and a poll for changes take milliseconds, a full answer of LAPI's with a million decisions a minute.
pub const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

impl Tally {
    /// Counts a question by its `end`, one of `ends`.
    pub fn count(&self, ends: &[&str], end: &str, took: Duration) {
        let add = |count: &AtomicU64, more| _ = count.fetch_add(more, Ordering::Relaxed);
        if let Some(place) = ends.iter().position(|known| *known == end) {
            add(&self.ended[place], 1);
        }
        add(&self.took[SECONDS.partition_point(|bound| *bound < took.as_secs_f64())], 1);
        add(&self.microseconds, took.as_micros() as u64);
    }
}
