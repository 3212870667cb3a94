//! What does AppSec answer a visitor's browser? An answer of AppSec's own, which we hand on unchanged where that is safe.

use std::collections::BTreeMap;
use std::io::Cursor;

use http::HeaderName;
use rocket::Request;
use rocket::http::{Header, Status};
use rocket::response::Response;
use serde::Deserialize;

/// What AppSec's JSON says: one word, and where the word is `challenge`, an answer for the visitor: the page of a
/// challenge, one of its scripts, or the answer to its form.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Relay {
    pub action: String,
    /// 0 where AppSec names none: the visitor gets 200 then.
    pub http_status: i64,
    user_body_content: String,
    user_cookies: Vec<String>,
    user_headers: BTreeMap<String, Vec<String>>,
}

/// The path of a challenge's scripts and form. It belongs to AppSec, wherever the application is mounted.
pub const CHALLENGES: &str = "/crowdsec-internal/challenge";

/// Whether Rocket gives a request to the routes there. Like Rocket, compares decoded segments, and skips empty ones.
pub fn is_about_a_challenge(request: &Request<'_>) -> bool {
    request.uri().path().segments().take(2).eq(["crowdsec-internal", "challenge"])
}

/// AppSec sends five headers and one cookie: an answer with more than this is not AppSec's.
const MOST_HEADERS: usize = 64;
const LONGEST_VALUE: usize = 8 << 10;
/// Whether a header concerns one connection alone, or gives the length of a body, which may be another one here.
pub fn is_hop_by_hop(name: &str) -> bool {
    let known = ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
    known.contains(&name) || name.starts_with("proxy-")
}

impl Relay {
    /// Whether the answer can be served. If not, the visitor gets the ban page, since AppSec did not let them in.
    pub fn is_safe(&self) -> bool {
        let bears_body = matches!(self.http_status, 0 | 200..=203 | 206..=303 | 305..=599);
        let lines = self.user_headers.values().map(Vec::len).sum::<usize>() + self.user_cookies.len();
        !self.user_body_content.is_empty()
            && bears_body
            && lines <= MOST_HEADERS
            && self.user_cookies.iter().all(|cookie| is_value(cookie))
            && self.user_headers.iter().all(|(name, values)| values.iter().all(|value| is_header(name, value)))
    }

    /// Our own answer where AppSec has none and the application must not answer in its place.
    pub fn bare(status: Status) -> Self {
        let header = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
        let headers = [header("Content-Type", "text/plain; charset=utf-8"), header("Cache-Control", "no-store")];
        let (http_status, user_body_content) = (status.code.into(), status.reason_lossy().into());
        Self { http_status, user_body_content, user_headers: headers.into(), ..Self::default() }
    }

    /// Puts this answer in the place of another one. A second content security policy would break the page.
    pub fn replace(self, response: &mut Response<'_>) {
        response.set_status(if self.http_status == 0 { Status::Ok } else { Status::new(self.http_status as u16) });
        for name in ["Content-Security-Policy", "Vary", "Crowdsec-Remediation"] {
            response.remove_header(name);
        }
        for (name, values) in self.user_headers {
            response.remove_header(&name);
            for value in values {
                response.adjoin_raw_header(name.clone(), value);
            }
        }
        for cookie in self.user_cookies {
            response.adjoin_header(Header::new("Set-Cookie", cookie));
        }
        response.set_sized_body(self.user_body_content.len(), Cursor::new(self.user_body_content));
    }
}

fn is_header(name: &str, value: &str) -> bool {
    // `HeaderName` makes it lower case.
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return false };
    // Cookies have a list of their own, and the body goes out as it is.
    let is_theirs = !is_hop_by_hop(name.as_str()) && name != "content-encoding" && name != "set-cookie";
    is_theirs && is_value(value) && (name != "location" || is_own_place(value))
}

/// Line ends would begin another header.
fn is_value(value: &str) -> bool {
    value.len() <= LONGEST_VALUE && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
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
            let user_headers = BTreeMap::from([(name.to_owned(), vec![value.to_owned()])]);
            let (user_body_content, user_cookies) = (body.to_owned(), vec![cookie.to_owned()]);
            Relay { http_status: status, user_body_content, user_cookies, user_headers, ..Relay::default() }.is_safe()
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
            (307, "page", cookie, "content-encoding", "gzip"),
        ] {
            assert!(!relay(status, body, cookie, name, value), "{status} {body} {cookie} {name} {value}");
        }
        let many = vec!["x=y".to_owned(); MOST_HEADERS + 1];
        assert!(!Relay { user_body_content: "page".into(), user_cookies: many, ..Relay::default() }.is_safe());
    }
}
