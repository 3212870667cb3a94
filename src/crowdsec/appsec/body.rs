//! Has the whole body come? A part of a body is never judged, or handed to a handler, as if it were the whole.

use std::sync::Arc;
use std::time::Duration;

use rocket::Request;
use rocket::data::{ByteUnit, Data};
use rocket::http::Status;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// How many bytes of a body Rocket shows before a handler has the body.
pub const PEEK: usize = 512;
/// How long we wait for these bytes. After that the body is left to `Inspected`, like a longer one.
const TO_BE_SHOWN: Duration = Duration::from_secs(2);
/// The shortest time limit for reading a whole body. A body that may be large has one second for each 64 KiB it may have.
const TO_BE_READ: Duration = Duration::from_secs(10);

/// The whole body, if it fits into what Rocket shows to a fairing; empty for a request without a body. `None` where the
/// body is longer, or does not come in time. `Err` is the status for a visitor who has hung up: Rocket would hand the
/// part that has come to a handler as if it were the whole.
pub async fn shown(request: &Request<'_>, data: &mut Data<'_>) -> Result<Option<Arc<[u8]>>, Status> {
    let length = length_of(request);
    if length.is_some_and(|length| length > PEEK as u64) {
        return Ok(None);
    }
    let Ok(body) = timeout(TO_BE_SHOWN, data.peek(PEEK)).await else { return Ok(None) };
    let body: Arc<[u8]> = body.into();
    match length {
        Some(length) if length == body.len() as u64 => Ok(Some(body)),
        // Rocket shows no more than this, and the body may go on.
        _ if body.len() == PEEK => Ok(None),
        None if data.peek_complete() => Ok(Some(body)),
        // Not cut by us: the visitor has hung up.
        _ => Err(Status::BadRequest),
    }
}

/// The whole body. `Err` is the status for a body that is longer than the limit, comes too slowly, or breaks off.
pub async fn read_body(request: &Request<'_>, data: Data<'_>, limit: ByteUnit) -> Result<Arc<[u8]>, Status> {
    let (mut body, most) = (Vec::new(), limit.as_u64());
    let mut stream = data.open(limit + 1);
    match timeout(TO_BE_READ.max(Duration::from_secs(most >> 16)), stream.read_to_end(&mut body)).await {
        Err(_) => Err(Status::RequestTimeout),
        Ok(Ok(_)) if body.len() as u64 > most => Err(Status::PayloadTooLarge),
        // If Rocket learns by a peek that the visitor has hung up, it forgets that, and takes what has come for the whole.
        Ok(Ok(_)) if length_of(request).is_none_or(|length| length <= body.len() as u64) => Ok(body.into()),
        // The visitor has hung up: AppSec is not asked.
        Ok(_) => Err(Status::BadRequest),
    }
}

/// The length of the body, if the request says it.
fn length_of(request: &Request<'_>) -> Option<u64> {
    request.headers().get_one("Content-Length")?.trim().parse().ok()
}
