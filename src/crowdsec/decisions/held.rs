//! What is kept in memory of one decision?

use super::decision::Key;
use super::{NEVER, Remediation, Ticks};

/// At most this many decisions are held on one address, network or other value. CrowdSec makes a handful; a broken LAPI that
/// sends tens of thousands must not make each look-up and each change walk through all of them.
pub const MOST_ON_ONE_VALUE: usize = 256;

/// One decision in memory, without what it stands against.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub key: Key,
    pub ends: Ticks,
    /// When a confirmed full answer lacked it for the first time; `NEVER` while none did.
    pub missed: Ticks,
    pub remediation: Remediation,
    /// Its place among the sources.
    pub source: u32,
    /// The place of the next decision on the same value; `LAST` for none.
    pub next: u32,
}

/// The end of a chain.
pub const LAST: u32 = u32::MAX;

impl Held {
    pub fn new(key: Key, remediation: Remediation, ends: Ticks) -> Self {
        Self { key, ends, missed: NEVER, remediation, source: 0, next: LAST }
    }

    /// The greatest one counts: of what stands the greatest remediation, then the longest to live.
    pub fn rank(&self, now: Ticks) -> (bool, Remediation, Ticks) {
        (self.ends > now, self.remediation, self.ends)
    }
}
