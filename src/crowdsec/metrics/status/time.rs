//! How is a time written on the page? In UTC, as the logs have it.

use rocket::time::OffsetDateTime;

/// Seconds since 1970 as RFC 3339 writes them.
pub fn rfc3339(seconds: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (h, m, s) = at.to_hms();
    format!("{}T{h:02}:{m:02}:{s:02}Z", at.date())
}
