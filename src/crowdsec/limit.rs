//! How often may somebody do that? Counts per address, in memory that never grows.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most `most` times in each `window`, counted per key.
///
/// The counts lie in a fixed number of places that keys share by a secret hash: a million addresses cost no more than
/// one, nobody can choose whom to share a place with, and whoever does shares its limit.
pub struct Limit {
    most: u32,
    window: Duration,
    start: Instant,
    hasher: RandomState,
    /// The window a place counts in, and its count.
    places: Mutex<Vec<(u32, u32)>>,
}

const PLACES: usize = 16_384;

impl Limit {
    pub fn new(most: u32, window: Duration) -> Self {
        let places = Mutex::new(vec![(0, 0); PLACES]);
        Self { most, window, start: Instant::now(), hasher: RandomState::new(), places }
    }

    /// Counts one more. `Err` says how long to wait once there are too many.
    pub fn count(&self, key: impl Hash, now: Instant) -> Result<(), Duration> {
        let window = self.window_at(now);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let (counted_in, count) = &mut places[self.hasher.hash_one(key) as usize % PLACES];
        if *counted_in != window {
            (*counted_in, *count) = (window, 0);
        }
        *count = count.saturating_add(1);
        let next = self.start + self.window * (window + 1);
        if *count > self.most { Err(next.saturating_duration_since(now)) } else { Ok(()) }
    }

    /// Whether the next one would be too many; counts nothing.
    pub fn is_spent(&self, key: impl Hash, now: Instant) -> bool {
        let window = self.window_at(now);
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let (counted_in, count) = places[self.hasher.hash_one(key) as usize % PLACES];
        counted_in == window && count >= self.most
    }

    fn window_at(&self, now: Instant) -> u32 {
        (now.saturating_duration_since(self.start).as_millis() / self.window.as_millis()) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_are_told_how_long_to_wait_and_the_next_window_starts_anew() {
        let limit = Limit::new(2, Duration::from_secs(60));
        let at = |seconds| limit.start + Duration::from_secs(seconds);
        assert_eq!(limit.count("a", at(1)), Ok(()));
        assert_eq!(limit.count("a", at(2)), Ok(()));
        assert_eq!(limit.count("a", at(20)), Err(Duration::from_secs(40)));
        assert!(limit.is_spent("a", at(21)) && !limit.is_spent("a", at(61)));
        assert_eq!(limit.count("a", at(22)), Err(Duration::from_secs(38)));
        assert_eq!(limit.count("a", at(61)), Ok(()));
    }

    #[test]
    fn a_hundred_thousand_addresses_take_no_more_memory_than_one() {
        let limit = Limit::new(20, Duration::from_secs(60));
        let size = |limit: &Limit| limit.places.lock().unwrap().capacity();
        let before = size(&limit);
        let refused = (0..100_000_u32).filter(|address| limit.count(address, limit.start).is_err()).count();
        assert_eq!(size(&limit), before);
        // Six of them share a place on average: few have to wait for another's tries.
        assert!(refused < 100, "{refused}");
    }
}
