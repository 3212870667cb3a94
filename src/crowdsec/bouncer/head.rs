//! How large may the head of a request be? What costs more than it should is bounded here, before anything reads it.

use rocket::Request;
use rocket::http::Status;

/// How many bytes Rocket's parser may copy of an `Accept`: it copies the whole header for each type in it, so that 48 kB
/// took 341 MB. Browsers' headers have some 150 bytes and 8 types.
const ACCEPT: usize = 64 << 10;
/// All header lines of a request together, as they stand on the wire. nginx takes 32 KiB, HAProxy 16 KiB.
const HEADERS: usize = 64 << 10;
/// The longest target, referer and user agent, as the access log writes them. A line of the log has room for all three:
/// Docker cuts a line at 16 KiB. A longer one would be served and not seen, so nobody is served one.
pub const TARGET: usize = 8 << 10;
pub const REFERER: usize = 4 << 10;
pub const AGENT: usize = 2 << 10;

/// Whether reading the `Accept` would cost more than it should. Then nothing may ask Rocket for it.
pub fn is_accept_too_dear(request: &Request<'_>) -> bool {
    request.headers().get("Accept").any(is_dear)
}

/// Whether texts in a row are longer than that in the access log. Most are so short that nobody has to count.
fn is_longer<const N: usize>(texts: [&str; N], most: usize) -> bool {
    let length: usize = texts.iter().map(|text| text.len()).sum();
    length * LONGEST_ESCAPE > most && texts.iter().map(|text| escaped_length(text)).sum::<usize>() > most
}

/// How many bytes a text takes with nginx's escapes.
pub fn escaped_length(text: &str) -> usize {
    text.bytes().map(|byte| if is_plain(&byte) { 1 } else { LONGEST_ESCAPE }).sum()
}

/// How many bytes one byte takes at most, as `\x22`.
const LONGEST_ESCAPE: usize = 4;

/// Whether a byte stands in the access log as it is.
pub fn is_plain(byte: &u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')
}

/// Whether Rocket would copy too many bytes to read an `Accept`. Most are so short that nobody has to count their types.
fn is_dear(accept: &str) -> bool {
    let length = accept.len();
    length * length > ACCEPT && length * accept.split(',').count() > ACCEPT
}

/// The status for a request whose target, or whose headers, are longer than anybody's may be.
pub fn too_large(request: &Request<'_>) -> Option<Status> {
    let uri = request.uri();
    let query = uri.query().map_or("", |query| query.as_str());
    if is_longer([uri.path().as_str(), "?", query], TARGET) {
        return Some(Status::UriTooLong);
    }
    // One walk over all headers: to look one up by its name takes Rocket as long.
    let mut all = 0;
    for header in request.headers().iter() {
        let (name, value) = (header.name().as_str(), header.value());
        let is = |known| name.eq_ignore_ascii_case(known);
        all += name.len() + value.len() + ": \r\n".len();
        // The length first: few are so long that their name is of interest.
        let too_long = (is_dear(value) && is("Accept"))
            || (is_longer([value], REFERER) && is("Referer"))
            || (is_longer([value], AGENT) && is("User-Agent"));
        if too_long || all > HEADERS {
            return Some(Status::RequestHeaderFieldsTooLarge);
        }
    }
    None
}
