//! Which requests are let through whatever stands against the visitor? What the operator excludes, and what the bouncer itself
//! has to answer.

use rocket::Request;
use rocket::http::{Method, RawStr};

use super::Bouncer;

/// A prefix of `excluded_paths`, as whole segments: `/health` holds `/health` and `/health/db`, not `/healthz`.
#[derive(Debug)]
pub struct Prefix(Vec<String>);

impl Prefix {
    /// Reads one of the operator's prefixes. `Err` says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with('/') {
            return Err("it has to start with `/`");
        }
        if text.contains(['?', '#', '*', ',', ' ']) {
            return Err("it is one plain prefix, without query, fragment, wildcard, comma or space");
        }
        match segments(text) {
            Some(segments) if segments.is_empty() => Err("`/` alone would exclude everything"),
            Some(segments) => Ok(Self(segments)),
            None => Err("it has empty, `.` or `..` segments, or encoded slashes, NULs or what is no UTF-8"),
        }
    }

    /// Whether a request's path lies below the prefix. A path that is not written plainly (`//health`,
    /// `/health/../admin`, `/%2e%2e/health`) is never excluded: nobody knows what an application makes of it.
    pub fn holds(&self, path: &str) -> bool {
        segments(path).is_some_and(|segments| segments.starts_with(&self.0))
    }
}

/// The decoded segments of a path, `None` if it is not in its plain form. One slash at the end is ignored.
fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    let decoded = path.split('/').map(|raw| {
        let segment = RawStr::new(raw).percent_decode().ok()?;
        let plain = !matches!(&*segment, "" | "." | "..") && !segment.contains(['/', '\\', '\0']);
        plain.then(|| segment.into_owned())
    });
    decoded.collect()
}

impl Bouncer {
    /// Whether the fairing lets a request pass, whatever the judgement says. There are no other exemptions.
    pub(super) fn spares(&self, request: &Request<'_>) -> bool {
        let path = request.uri().path().as_str();
        is_probe(request)
            || self.config.excluded_paths.iter().any(|prefix| prefix.holds(path))
            || self.also_spared.get().is_some_and(|spares| spares(request))
    }
}

/// A load balancer's probe is answered wherever it comes from: the answer says only up or down.
pub fn is_probe(request: &Request<'_>) -> bool {
    matches!(request.uri().path().as_str(), "/crowdsec/health" | "/crowdsec/live")
        && matches!(request.method(), Method::Get | Method::Head)
}

/// Whether this is a CORS preflight, by which a browser asks whether it may send another request. It has no body.
pub fn is_preflight(request: &Request<'_>) -> bool {
    let says = |name| request.headers().get_one(name);
    request.method() == Method::Options
        && says("Origin").is_some()
        && says("Access-Control-Request-Method").is_some()
        && says("Transfer-Encoding").is_none()
        && says("Content-Length").is_none_or(|length| length == "0")
}

/// Whether a request comes to the captcha's own page.
pub fn is_captcha(request: &Request<'_>) -> bool {
    request.uri().path() == "/crowdsec/captcha" && matches!(request.method(), Method::Get | Method::Head | Method::Post)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_whole_segments_only() {
        let health = Prefix::new("/health").unwrap();
        for path in ["/health", "/health/", "/health/db", "/%68ealth"] {
            assert!(health.holds(path), "{path}");
        }
        for path in [
            "/",
            "/healthz",
            "/health/../admin",
            "//health",
            "/health//x",
            "/./health",
            "/health%2f..%2fadmin",
            "/Health",
            "*",
        ] {
            assert!(!health.holds(path), "{path}");
        }
    }

    #[test]
    fn a_prefix_that_excludes_everything_or_nothing_is_refused() {
        for text in ["/", "", "health", "/a/../b", "//", "/a?b", "/a/*", "/./"] {
            assert!(Prefix::new(text).is_err(), "{text}");
        }
    }

    mod properties {
        use proptest::prelude::*;
        use reqwest::Url;

        use super::*;

        proptest! {
            #[test]
            fn no_prefix_holds_a_path_that_leaves_it(path in prop_oneof![any::<String>(), "(/|health|%2e|%2F|\\.|\\\\|a|\\?|;|%00){0,9}", "/[ -~]{0,20}"]) {
                if Prefix::new("/health").unwrap().holds(&path) {
                    let meant = Url::parse("http://app.example/").unwrap().join(&path).unwrap();
                    let decoded = RawStr::new(meant.path()).percent_decode_lossy();
                    prop_assert_eq!(decoded.split('/').nth(1), Some("health"));
                }
            }
        }
    }
}
