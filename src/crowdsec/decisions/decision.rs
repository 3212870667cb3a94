//! What does CrowdSec say? A decision, and how its duration is written.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::{Source, Value};

/// One decision as LAPI sends it, its value and duration understood.
///
/// Of addresses we decide by the value alone: a decision of scope `Ip` may hold a CIDR, one of scope `Range` a single
/// address.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// LAPI's row number, from 1 to `LARGEST_ID`. `None` where a LAPI sends none that can be used.
    pub id: Option<u64>,
    pub source: Source,
    pub value: Value,
    /// What is left of it. Zero for one that has ended, as in `deleted`.
    pub duration: Duration,
}

/// Greater numbers are no ids of LAPI's, which counts rows in 63 bits.
pub const LARGEST_ID: u64 = (1 << 63) - 1;

/// What tells the decisions on one value apart: LAPI's id, or where it sends none that can be used, a hash of scope and
/// type, which is above all ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub(super) u64);

impl Key {
    pub fn id(self) -> Option<u64> {
        (self.0 <= LARGEST_ID).then_some(self.0)
    }
}

impl Decision {
    pub fn key(&self) -> Key {
        Key(self.id.unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            (&self.source.scope, &self.source.kind).hash(&mut hasher);
            hasher.finish() | (LARGEST_ID + 1)
        }))
    }
}

/// Go's units of time, in seconds.
const UNITS: [(&str, f64); 8] =
    [("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ns", 1e-9)];
/// Go's own limit is 292 years; whatever is longer is as good as that.
const LONGEST_IN_GO: f64 = 292.0 * 365.0 * 86_400.0;

/// Reads what is left of a decision, in Go's notation: `3h59m59.9s`, `593.028µs`. Nothing is left of a negative one, `-4.3ms`.
pub fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = Some(text.strip_prefix(['-', '+']).unwrap_or(text)).filter(|rest| !rest.is_empty())?;
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let (unit, next) =
            behind.split_at(behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len()));
        let (_, in_seconds) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        seconds += number.parse::<f64>().ok()? * in_seconds;
        rest = next;
    }
    Some(if text.starts_with('-') { Duration::ZERO } else { Duration::from_secs_f64(seconds.min(LONGEST_IN_GO)) })
}
