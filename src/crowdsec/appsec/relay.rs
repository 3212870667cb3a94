//! What does AppSec have a visitor's browser do? An answer of AppSec's own, handed on as it is where that is safe.

use std::collections::BTreeMap;
use std::io::Cursor;

use rocket::http::{Header, Status};
use rocket::response::Response;

/// An answer that AppSec wrote for the visitor: the page of a challenge, its scripts, or what its form is answered with.
pub struct Relay {
    status: Status,
    headers: Vec<(String, Vec<String>)>,
    cookies: Vec<String>,
    body: String,
}

/// More is no answer of AppSec's, which sends five headers and one cookie.
const MOST: usize = 64;
const LONGEST: usize = 8 << 10;
/// What stands between two servers and means nothing beyond, or names the length of a body, which ours may not have.
pub fn is_hop_by_hop(name: &str) -> bool {
    let known = ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
    known.contains(&name) || name.starts_with("proxy-")
}

impl Relay {
    /// `None` where the answer cannot be served: the visitor then gets the ban page, since AppSec did not let them in.
    pub fn new(
        status: i64,
        body: String,
        cookies: Vec<String>,
        headers: BTreeMap<String, Vec<String>>,
    ) -> Option<Self> {
        let status = u16::try_from(if status == 0 { 200 } else { status }).ok()?;
        let bears_body = (200..=599).contains(&status) && !matches!(status, 204 | 205 | 304);
        let headers: Vec<_> = headers.into_iter().collect();
        let lines = headers.iter().map(|(_, values)| values.len()).sum::<usize>() + cookies.len();
        let is_safe = !body.is_empty()
            && bears_body
            && lines <= MOST
            && cookies.iter().all(|cookie| is_value(cookie))
            && headers.iter().all(|(name, values)| values.iter().all(|value| is_header(name, value)));
        is_safe.then_some(Self { status: Status::new(status), headers, cookies, body })
    }

    /// Our own word where AppSec has none for one of its paths, which the application must not answer in its place.
    pub fn bare(status: Status) -> Self {
        let header = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
        let headers = vec![header("Content-Type", "text/plain; charset=utf-8"), header("Cache-Control", "no-store")];
        Self { status, headers, cookies: Vec::new(), body: status.reason_lossy().into() }
    }

    /// Puts this answer in the place of another one. A second content security policy would break the page.
    pub fn replace(self, response: &mut Response<'_>) {
        response.set_status(self.status);
        for name in ["Content-Security-Policy", "Vary", "Crowdsec-Remediation"] {
            response.remove_header(name);
        }
        for (name, values) in self.headers {
            response.remove_header(&name);
            for value in values {
                response.adjoin_raw_header(name.clone(), value);
            }
        }
        for cookie in self.cookies {
            response.adjoin_header(Header::new("Set-Cookie", cookie));
        }
        response.set_sized_body(self.body.len(), Cursor::new(self.body));
    }
}

fn is_header(name: &str, value: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_name = (1..=64).contains(&name.len()) && name.bytes().all(is_token);
    // Cookies have a list of their own, and the body goes out as it is.
    let is_theirs = !is_hop_by_hop(&lower) && !["content-encoding", "set-cookie"].contains(&&*lower);
    is_name && is_theirs && is_value(value) && (lower != "location" || is_own_place(value))
}

/// Line ends would begin another header.
fn is_value(value: &str) -> bool {
    value.len() <= LONGEST && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Browsers read `//host` and `/\host` as another host.
fn is_own_place(place: &str) -> bool {
    place.starts_with('/') && !place.starts_with("//") && !place.starts_with("/\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_cannot_be_served_safely_is_none() {
        let relay = |status, body: &str, cookie: &str, name: &str, value: &str| {
            let headers = BTreeMap::from([(name.to_owned(), vec![value.to_owned()])]);
            Relay::new(status, body.into(), vec![cookie.into()], headers).is_some()
        };
        let cookie = "__crowdsec_challenge=x; Path=/; HttpOnly";
        assert!(relay(200, "page", cookie, "Content-Type", "text/html"));
        assert!(relay(0, "page", cookie, "Cache-Control", "no-cache, no-store"));
        assert!(relay(307, "page", cookie, "Location", "/checkout?x=//y"));
        for (status, body, cookie, name, value) in [
            (200, "", cookie, "Content-Type", "text/html"),
            (204, "page", cookie, "Content-Type", "text/html"),
            (101, "page", cookie, "Content-Type", "text/html"),
            (-1, "page", cookie, "Content-Type", "text/html"),
            (70_000, "page", cookie, "Content-Type", "text/html"),
            (200, "page", "x=y\r\nSet-Cookie: z=1", "Content-Type", "text/html"),
            (200, "page", cookie, "Content-Type", "text/html\nX: y"),
            (200, "page", cookie, "Content-Length", "7"),
            (200, "page", cookie, "transfer-encoding", "chunked"),
            (200, "page", cookie, "Set-Cookie", "x=y"),
            (200, "page", cookie, "X y", "z"),
            (200, "page", cookie, "", "z"),
            (307, "page", cookie, "Location", "//evil.example/x"),
            (307, "page", cookie, "Location", "/\\evil.example/x"),
            (307, "page", cookie, "location", "https://evil.example/x"),
        ] {
            assert!(!relay(status, body, cookie, name, value), "{status} {body} {cookie} {name} {value}");
        }
        let many = vec!["x=y".to_owned(); MOST + 1];
        assert!(Relay::new(200, "page".into(), many, BTreeMap::new()).is_none());
    }
}
