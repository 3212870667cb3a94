//! How is a time written, in logs and for programs? In UTC, as RFC 3339 has it.

use rocket::time::OffsetDateTime;

/// `2026-11-26T14:02:07Z`, of seconds since 1970.
pub fn timestamp(seconds: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (h, m, s) = at.to_hms();
    format!("{}T{h:02}:{m:02}:{s:02}Z", at.date())
}
