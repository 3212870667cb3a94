//! How large may the head of a request be? What costs more than it should is bounded here, before anything reads it.

use rocket::Request;
use rocket::http::{Accept, Status};

use super::field::escaped_length;

/// The longest `Accept` that is read. Rocket's parser copies the whole header for each type in it, so that 48 kB took
/// 341 MB. Browsers send some 150 bytes.
const ACCEPT: usize = 1 << 10;
/// All header lines of a request together, as they stand on the wire. nginx takes 32 KiB, HAProxy 16 KiB.
const HEADERS: usize = 64 << 10;
/// The longest target, referer and user agent, as the access log writes them. A line of the log has room for all three:
/// Docker cuts a line at 16 KiB. A longer one would be served and not seen, so nobody is served one.
pub const TARGET: usize = 8 << 10;
pub const REFERER: usize = 4 << 10;
pub const AGENT: usize = 2 << 10;

/// Puts `*/*` in the place of an `Accept` that is too long to be read. Who sends such a one is served all the same.
pub fn bound_accept(request: &mut Request<'_>) {
    if request.headers().get("Accept").any(|accept| accept.len() > ACCEPT) {
        request.replace_header(Accept::Any);
    }
}

/// The status for a request whose target, or whose headers, are longer than anybody's may be.
pub fn too_large(request: &Request<'_>) -> Option<Status> {
    let uri = request.uri();
    let query = uri.query().map_or(0, |query| 1 + escaped_length(query.as_str()));
    if escaped_length(uri.path().as_str()) + query > TARGET {
        return Some(Status::UriTooLong);
    }
    let mut all = 0;
    let longest = request.headers().iter().any(|header| {
        all += header.name().len() + header.value().len() + ": \r\n".len();
        let most = if header.name() == "Referer" {
            REFERER
        } else if header.name() == "User-Agent" {
            AGENT
        } else {
            HEADERS
        };
        // Escaping makes nothing shorter, and nothing longer than four times.
        header.value().len() > most || most < HEADERS && escaped_length(header.value()) > most
    });
    (longest || all > HEADERS).then_some(Status::RequestHeaderFieldsTooLarge)
}
