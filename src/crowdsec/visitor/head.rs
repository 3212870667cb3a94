//! What does the head of a request say, and how large may it be? What costs more than it should is bounded here, before
//! anything reads it.

use std::net::IpAddr;

use rocket::Request;
use rocket::http::Status;

use super::proxies::{ClientIp, SET_BY_PROXIES, Unnamed, peer};
use crate::crowdsec::printable::{LONGEST_ESCAPE, escaped_length};

/// How many bytes Rocket's parser may copy of an `Accept`: it copies the whole header for each type in it, so that 48 kB
/// took 341 MB. Browsers' headers have some 150 bytes and 8 types.
const ACCEPT: usize = 64 << 10;
/// The most bytes of all header lines of a request together, as they stand on the wire. nginx takes 32 KiB, HAProxy 16 KiB.
const HEADERS: usize = 64 << 10;
/// The most bytes of a target, a referer and a user agent, as the access log writes them. All three fit into a line of the log:
/// Docker cuts a line at 16 KiB. A request with a longer one would be served and not seen by CrowdSec, so it is refused.
pub const TARGET: usize = 8 << 10;
pub const REFERER: usize = 4 << 10;
pub const AGENT: usize = 2 << 10;

/// A header of up to this many bytes is too long for none of these limits.
const SHORT: usize = 256;

/// Whether reading the `Accept` would cost more than it should. Then nothing may ask Rocket for it.
pub fn is_accept_too_dear(request: &Request<'_>) -> bool {
    request.headers().get("Accept").any(is_dear)
}

/// Whether these texts together take more than `most` bytes in the access log. Most are so short that nobody has to count.
fn is_longer<const N: usize>(texts: [&str; N], most: usize) -> bool {
    let length: usize = texts.iter().map(|text| text.len()).sum();
    length * LONGEST_ESCAPE > most && texts.iter().map(|text| escaped_length(text)).sum::<usize>() > most
}

/// Whether Rocket would copy too many bytes to read an `Accept`. Most are so short that nobody has to count their types.
fn is_dear(accept: &str) -> bool {
    let length = accept.len();
    length * length > ACCEPT && length * accept.split(',').count() > ACCEPT
}

/// What the headers of a request say to us. One walk over them finds it all: Rocket takes as long to look up a single one by
/// its name.
pub struct Head<'r> {
    /// The status of the refusal, if the target or the headers are longer than anybody's may be.
    pub too_large: Option<Status>,
    /// The visitor's address, in canonical form. If no visitor is known: the last known proxy's address, or else `0.0.0.0`.
    pub visitor: IpAddr,
    /// Why no visitor is known.
    pub unnamed: Option<Unnamed>,
    /// The header by which the visitor looks like a proxy that nobody trusts.
    pub sign: Option<&'r str>,
}

impl<'r> Head<'r> {
    pub fn of(request: &'r Request<'_>, client_ip: &'r ClientIp) -> Self {
        let peer = peer(request);
        // What stands in the header by which a trusted proxy names the visitor.
        let mut named = peer.filter(|peer| client_ip.trusts(*peer)).map(|_| Vec::new());
        let ours = client_ip.config.client_ip_header.as_str();
        let (mut all, mut is_long, mut sign) = (0, false, None);
        for header in request.headers().iter() {
            let (name, value) = (header.name().as_str(), header.value());
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            all += name.len() + value.len() + ": \r\n".len();
            // Few values are this long, so their names are compared only then.
            is_long |= value.len() > SHORT
                && (is("Accept") && is_dear(value)
                    || is("Referer") && is_longer([value], REFERER)
                    || is("User-Agent") && is_longer([value], AGENT));
            match &mut named {
                Some(named) if is(ours) => named.push(header.value),
                None if sign.is_none() => sign = SET_BY_PROXIES.iter().chain([&ours]).find(|sign| is(sign)).copied(),
                _ => {}
            }
        }
        let headers = (is_long || all > HEADERS).then_some(Status::RequestHeaderFieldsTooLarge);
        let (path, query) = (request.uri().path().as_str(), request.uri().query().map_or("", |query| query.as_str()));
        let target = is_longer([path, "?", query], TARGET).then_some(Status::UriTooLong);
        let (visitor, unnamed) = client_ip.of(peer, named.as_deref());
        let sign = named.map_or(sign, |named| client_ip.second_proxy(visitor, &named));
        Self { too_large: target.or(headers), visitor, unnamed, sign }
    }
}
