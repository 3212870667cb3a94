//! What does CrowdSec say? A decision, and how its duration is written.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::{Source, Value};

/// One decision as LAPI sends it, with its value and duration parsed.
///
/// For addresses the value alone counts, not the scope: a decision of scope `Ip` may hold a CIDR, one of scope `Range` a
/// single address.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// LAPI's row number, from 1 to `LARGEST_ID`. `None` if LAPI sends no usable id.
    pub id: Option<u64>,
    pub source: Source,
    pub value: Value,
    /// The time left. Zero for a decision that has ended, as in `deleted`.
    pub duration: Duration,
}

/// No id is greater: LAPI counts rows in 63 bits.
pub const LARGEST_ID: u64 = (1 << 63) - 1;

/// Tells the decisions on one value apart: LAPI's id, or without a usable id a hash of scope and type, which is greater
/// than every id.
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
/// Go's own limit is 292 years. A longer duration is cut to that.
const LONGEST_IN_GO: f64 = 292.0 * 365.0 * 86_400.0;

/// Reads a duration in Go's notation: `3h59m59.9s`, `593.028µs`. A negative one, `-4.3ms`, reads as zero.
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
