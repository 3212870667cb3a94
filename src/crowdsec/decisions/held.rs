//! What is kept in memory of one decision?

use std::sync::Arc;

use super::decision::Key;
use super::{NEVER, Remediation, Source, Standing, Ticks, Value, left};

/// At most this many decisions are held on one address, network or other value. CrowdSec makes a handful; a broken LAPI that
/// sends tens of thousands must not make each look-up and each change walk through all of them.
pub const MOST_ON_ONE_VALUE: usize = 256;

/// One decision in memory, without its value.
#[derive(Clone, Debug)]
pub struct Held {
    pub key: Key,
    pub source: Arc<Source>,
    pub ends: Ticks,
    /// When a confirmed full answer lacked it for the first time; `NEVER` while none did.
    pub missed: Ticks,
    pub remediation: Remediation,
    /// The index of the next decision on the same value; `LAST` for none.
    pub next: u32,
}

/// The end of a chain.
pub const LAST: u32 = u32::MAX;

impl Held {
    pub fn new(key: Key, source: Arc<Source>, remediation: Remediation, ends: Ticks) -> Self {
        Self { key, source, ends, missed: NEVER, remediation, next: LAST }
    }

    /// The decision with the greatest rank counts: it stands, has the greatest remediation, and then lives longest.
    pub fn rank(&self, now: Ticks) -> (bool, Remediation, Ticks) {
        (self.ends > now, self.remediation, self.ends)
    }

    /// What the decision says against a visitor; `None` once it has ended.
    pub fn standing(&self, value: Value, now: Ticks) -> Option<Standing> {
        let (id, expires_in) = match self.ends {
            ends if ends <= now => return None,
            NEVER => (None, None),
            ends => (self.key.id(), Some(left(ends, now))),
        };
        let (remediation, source) = (self.remediation, self.source.clone());
        Some(Standing { remediation, id, value, source, expires_in })
    }
}
