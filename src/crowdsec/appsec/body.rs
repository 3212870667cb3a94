//! Has a body come, and all of it? No part of one is ever judged, or handed to a handler, as if it were the whole.

use std::sync::Arc;
use std::time::Duration;

use rocket::Request;
use rocket::data::{ByteUnit, Data};
use rocket::http::Status;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// As much of a body as Rocket shows before a handler has it.
pub const PEEK: usize = 512;
/// How long we wait for such a body. Then it is left to `Inspected`, like a longer one.
const TO_BE_SHOWN: Duration = Duration::from_secs(2);
/// The shortest time limit for a body that `Inspected` reads; where its limit is long, it has a second for each 64 KiB.
const TO_BE_READ: Duration = Duration::from_secs(10);

/// A whole body, as far as Rocket shows it to a fairing; an empty one for a request without. `None` where it is longer, or
/// does not come. `Err` is the status for a visitor who has hung up: Rocket would hand what has come to a handler as if it
/// were whole.
pub async fn shown(request: &Request<'_>, data: &mut Data<'_>) -> Result<Option<Arc<[u8]>>, Status> {
    let length = length_of(request);
    if length.is_some_and(|length| length > PEEK as u64) {
        return Ok(None);
    }
    let Ok(body) = timeout(TO_BE_SHOWN, data.peek(PEEK)).await else { return Ok(None) };
    let body: Arc<[u8]> = body.into();
    match length {
        Some(length) if length == body.len() as u64 => Ok(Some(body)),
        // What Rocket shows ends here, and the body may go on. Up to this length it is not cut by us.
        _ if body.len() == PEEK => Ok(None),
        None if data.peek_complete() => Ok(Some(body)),
        _ => Err(Status::BadRequest),
    }
}

/// A whole body. `Err` is the status for one that is longer than the limit, or does not come.
pub async fn read_body(request: &Request<'_>, data: Data<'_>, limit: ByteUnit) -> Result<Arc<[u8]>, Status> {
    let (mut body, most) = (Vec::new(), limit.as_u64());
    let mut stream = data.open(limit + 1);
    match timeout(TO_BE_READ.max(Duration::from_secs(most >> 16)), stream.read_to_end(&mut body)).await {
        Err(_) => Err(Status::RequestTimeout),
        Ok(Ok(_)) if body.len() as u64 > most => Err(Status::PayloadTooLarge),
        // Rocket forgets that a visitor has hung up if it finds out by a peek, and takes what has come for all of it.
        Ok(Ok(_)) if length_of(request).is_none_or(|length| length <= body.len() as u64) => Ok(body.into()),
        // The visitor has hung up. Nobody was asked, and nobody is told.
        Ok(_) => Err(Status::BadRequest),
    }
}

/// How long its body is, if a request says so.
fn length_of(request: &Request<'_>) -> Option<u64> {
    request.headers().get_one("Content-Length")?.trim().parse().ok()
}
