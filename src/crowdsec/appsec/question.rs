//! How is a request put to AppSec? As Rocket routes it, without anything by which a visitor could switch the judgement off.
//!
//! What we rely on, read in CrowdSec 1.6 to 1.8:
//! - Of two `X-Crowdsec-Appsec-*` headers with one name the first counts. AppSec's rules see those that AppSec does not
//!   know.
//! - Go's `url.Parse` reads the address. For one that it cannot read AppSec answers 500, which would look like an
//!   outage.
//! - Up to 1.7.7 a body without `Content-Length` is judged as an empty one.
//! - The hub's rules know the type of a body in small letters alone. They see no field of a body of another type.

use std::fmt::Write;
use std::io::Cursor;
use std::sync::Arc;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http_body_util::Full;
use rocket::Request;

use super::relay::is_hop_by_hop;
use crate::crowdsec::bouncer::Visit;

/// A body in one piece, which goes out with its true length.
pub type Body = Full<Cursor<Arc<[u8]>>>;

/// One question about one request.
pub type Question = http::Request<Body>;

const OURS: &str = "x-crowdsec-appsec-";

/// The question about this request. `None` where no valid question can be made of it, which a visitor can cause. `body`
/// is empty where the request has none, or where its body is left to `Inspected`.
///
/// A header that the visitor's `Connection` names is judged like any other, since handlers see it too.
pub fn about(request: &Request<'_>, visit: &Visit, body: Arc<[u8]>) -> Option<Question> {
    // Of two types Rocket reads the body by the first, and AppSec by the last. And no host may hide behind a second one.
    if ["Content-Type", "Host"].iter().any(|name| request.headers().get(name).nth(1).is_some()) {
        return None;
    }
    let uri = address_of(request)?;
    let (length, mut question) = (body.len(), Question::new(Full::new(Cursor::new(body))));
    let headers = question.headers_mut();
    let agent = request.headers().get_one("User-Agent").unwrap_or_default();
    // The host as it was sent: for one that it cannot read Rocket says that there is none, but handlers may still read
    // the header. HTTP/2 has no `Host` header, so Rocket is asked then.
    let host = request.headers().get_one("Host").map(str::to_owned);
    let host = host.or_else(|| request.host().map(ToString::to_string)).unwrap_or_default();
    // The method as the visitor sent it: the bouncer may have changed it, to send an upload on.
    let (method, address) = (visit.asked.method, visit.judgement.address.to_string());
    let ours =
        [("ip", address.as_str()), ("uri", &uri), ("verb", method.as_str()), ("host", &host), ("user-agent", agent)];
    for (name, value) in ours.into_iter().filter(|(_, value)| !value.is_empty()) {
        add(headers, &format!("{OURS}{name}"), value)?;
    }
    for header in request.headers().iter() {
        let name = header.name().as_str().to_ascii_lowercase();
        // Kept back: what belongs to the connection, and what only we may set.
        let is_kept_back = is_hop_by_hop(&name) || ["host", "expect"].contains(&&*name) || name.starts_with(OURS);
        if !is_kept_back {
            add(headers, &name, header.value())?;
        }
    }
    // Rocket knows a type in any letters, the hub's rules in small letters alone.
    if let Some(kind) = request.headers().get_one("Content-Type") {
        let (name, parameters) = kind.split_at(kind.find(';').unwrap_or(kind.len()));
        let kind = [&*name.to_ascii_lowercase(), parameters].concat();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(&kind).ok()?);
    }
    let says_body = ["Transfer-Encoding", "Content-Length"].iter().any(|name| request.headers().contains(*name));
    if says_body || length > 0 {
        // Also for an empty body: to AppSec's rules a POST without a length is odd.
        headers.insert(CONTENT_LENGTH, length.into());
        *question.method_mut() = http::Method::POST;
    }
    Some(question)
}

fn add(headers: &mut HeaderMap, name: &str, value: &str) -> Option<()> {
    let (name, value) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value.as_bytes()));
    headers.try_append(name.ok()?, value.ok()?).ok().map(|_| ())
}

/// Path and query as Rocket routes them: without empty segments, and in letters that AppSec can read. `None` where the
/// target is no path.
fn address_of(request: &Request<'_>) -> Option<String> {
    let (path, query) = (request.uri().path().as_str(), request.uri().query());
    let mut address = String::with_capacity(path.len() + 16);
    if !path.starts_with('/') {
        return None;
    }
    for (place, byte) in path.bytes().enumerate() {
        let rest = &path.as_bytes()[place + 1..];
        match byte {
            // Rocket drops empty segments. Go reads `//host/path` as another host's path.
            b'/' if rest.first() == Some(&b'/') => {}
            // Rocket takes a stray `%` as it stands; Go refuses it.
            b'%' if !rest.get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) => {
                address.push_str("%25");
            }
            b'?' => address.push_str("%3F"),
            byte => plain(&mut address, byte),
        }
    }
    if let Some(query) = query {
        address.push('?');
        query.as_str().bytes().for_each(|byte| plain(&mut address, byte));
    }
    Some(address)
}

/// Writes a byte; one that no address may have, or that would end it early, as `%` and two digits.
fn plain(address: &mut String, byte: u8) {
    match byte {
        b'#' | 0..=b' ' | 0x7f.. => {
            let _ = write!(address, "%{byte:02X}");
        }
        byte => address.push(byte.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rocket::http::Method;
    use rocket::http::uri::Origin;
    use rocket::local::blocking::Client;

    use super::*;

    fn client() -> Client {
        let figment = figment::Figment::from(rocket::Config::debug_default()).merge(("log_level", "off"));
        Client::untracked(rocket::custom(figment)).expect("a client")
    }

    /// What AppSec is told of a target.
    fn address(client: &Client, target: &str) -> Option<String> {
        let mut request = client.req(Method::Get, "/");
        request.inner_mut().set_uri(Origin::parse_owned(target.to_owned()).ok()?);
        address_of(request.inner())
    }

    #[test]
    fn an_address_is_written_as_rocket_routes_it_and_go_reads_it() {
        let client = client();
        for (target, told) in [
            ("/a%2Fb?x=1", "/a%2Fb?x=1"),
            ("/%zz", "/%25zz"),
            ("/%", "/%25"),
            ("/a%2", "/a%252"),
            ("//sign-in", "/sign-in"),
            ("///evil.example//x//?y=//z", "/evil.example/x/?y=//z"),
            ("/a?%zz=%", "/a?%zz=%"),
        ] {
            assert_eq!(address(&client, target).as_deref(), Some(told), "{target}");
        }
    }

    proptest! {
        #[test]
        fn an_address_decodes_to_the_segments_that_rocket_sees(target in "/[a-z/%0-9:.?=&]{0,24}") {
            let client = client();
            let Ok(origin) = Origin::parse(&target) else { return Ok(()) };
            let told = address(&client, &target).expect("an address");
            let again = Origin::parse(&told).expect("a readable address");
            let segments = |origin: &Origin<'_>| -> Vec<String> { origin.path().segments().map(str::to_owned).collect() };
            prop_assert_eq!(segments(&origin), segments(&again));
            prop_assert_eq!(origin.query(), again.query());
            prop_assert!(!told.contains("//") || told.find('?') < told.find("//"));
        }
    }
}
