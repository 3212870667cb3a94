//! What time is it, in words? Put together once a second rather than for each line.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use rocket::time::OffsetDateTime;

/// The time as the logs write it.
#[derive(Default)]
pub struct Clock {
    /// The second that the words are of, since 1970.
    second: u64,
    /// As nginx writes it, with what stands around.
    pub common: String,
    /// As RFC 3339 writes it.
    pub rfc3339: String,
}

impl Clock {
    pub fn set(&mut self, now: SystemTime) {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second {
            self.second = second;
            let now = OffsetDateTime::from_unix_timestamp(second as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            let (date, day, month, year) = (now.date(), now.day(), now.month(), now.year());
            let (h, m, s) = now.to_hms();
            self.common.clear();
            self.rfc3339.clear();
            let _ = write!(self.common, " - - [{day:02}/{month:.3}/{year}:{h:02}:{m:02}:{s:02} +0000] \"");
            let _ = write!(self.rfc3339, "{date}T{h:02}:{m:02}:{s:02}Z");
        }
    }
}
