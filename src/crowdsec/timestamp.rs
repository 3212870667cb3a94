//! What time is it, and how is a time written, in logs and for programs? In UTC, as RFC 3339 has it.

use std::time::{SystemTime, UNIX_EPOCH};

use rocket::time::OffsetDateTime;

/// `2026-11-26T14:02:07Z`, from seconds since 1970.
pub fn timestamp(seconds: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (h, m, s) = at.to_hms();
    format!("{}T{h:02}:{m:02}:{s:02}Z", at.date())
}

/// In seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
