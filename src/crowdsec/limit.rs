//! How often may somebody do something? Counts per key, in memory that never grows beyond a bound.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::panics::lock;

/// At most `most` times in each `window`, counted per key. What one key does never makes another one wait.
pub struct Limit {
    most: u32,
    window: Duration,
    start: Instant,
    /// Keys are kept as 64-bit hashes with a secret seed, so that nobody can choose two keys that share one count.
    hasher: RandomState,
    counts: Mutex<Counts>,
}

/// The counts of one window. They are dropped when the next window begins.
#[derive(Default)]
struct Counts {
    window: u32,
    of: HashMap<u64, u32>,
}

/// The most keys that are counted in one window, in 1 MB. With one more, all counts start anew: a newcomer is never refused
/// because the memory is full. The crowd gains nothing by that: with 50,000 addresses it had enough tries already.
const MOST_KEYS: usize = 50_000;

impl Limit {
    pub fn new(most: u32, window: Duration) -> Self {
        Self { most, window, start: Instant::now(), hasher: RandomState::new(), counts: Mutex::default() }
    }

    /// Counts one more for this key. `Err` holds the time to wait if the count is over `most`.
    pub fn count(&self, key: impl Hash, now: Instant) -> Result<(), Duration> {
        let (key, window) = (self.hasher.hash_one(key), self.window_at(now));
        let mut counts = lock(&self.counts);
        if counts.window < window || (counts.of.len() >= MOST_KEYS && !counts.of.contains_key(&key)) {
            counts.of.clear();
            counts.window = window;
        }
        let count = counts.of.entry(key).or_default();
        *count = count.saturating_add(1);
        if *count > self.most { Err(self.rest_of(window, now)) } else { Ok(()) }
    }

    /// The time to wait if one more would be too many, else `None`. Counts nothing.
    pub fn wait(&self, key: impl Hash, now: Instant) -> Option<Duration> {
        let (key, window) = (self.hasher.hash_one(key), self.window_at(now));
        let counts = lock(&self.counts);
        let spent = counts.window == window && counts.of.get(&key).is_some_and(|count| *count >= self.most);
        spent.then(|| self.rest_of(window, now))
    }

    /// The number of the window that a time lies in.
    pub fn window_at(&self, now: Instant) -> u32 {
        (now.saturating_duration_since(self.start).as_millis() / self.window.as_millis()) as u32
    }

    fn rest_of(&self, window: u32, now: Instant) -> Duration {
        (self.start + self.window * (window + 1)).saturating_duration_since(now)
    }
}

/// Whom a limit or a solved captcha counts for: an IPv4 address, or the /64 that an IPv6 visitor can move in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject(pub IpNet);

impl From<IpAddr> for Subject {
    fn from(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 64 };
        Self(IpNet::new_assert(address, length).trunc())
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
        assert_eq!(limit.wait("a", at(1)), None);
        assert_eq!(limit.count("a", at(2)), Ok(()));
        assert_eq!(limit.count("a", at(20)), Err(Duration::from_secs(40)));
        assert_eq!(limit.wait("a", at(21)), Some(Duration::from_secs(39)));
        assert_eq!(limit.count("a", at(22)), Err(Duration::from_secs(38)));
        assert_eq!(limit.wait("a", at(61)), None);
        assert_eq!(limit.count("a", at(61)), Ok(()));
    }

    #[test]
    fn nobody_has_to_wait_for_what_a_crowd_does_and_memory_stays_bounded() {
        let limit = Limit::new(20, Duration::from_secs(60));
        for address in 0..300_000_u32 {
            assert_eq!(limit.count(address, limit.start), Ok(()), "newcomer {address}");
        }
        // 5,000 of them use up their own counts, which costs nobody else anything.
        for address in 0..5_000_u32 {
            while limit.count(address, limit.start).is_ok() {}
        }
        for newcomer in 1_000_000..1_010_000_u32 {
            assert_eq!(limit.wait(newcomer, limit.start), None);
        }
        assert!(limit.counts.lock().unwrap().of.len() <= MOST_KEYS);
    }
}
