//! Which paths are meant? Prefixes that the operator excludes, and places it is safe to send a visitor back to.

use rocket::http::RawStr;
use rocket::http::uri::Origin;

/// A prefix of `excluded_paths`, as whole segments: `/health` holds `/health` and `/health/db`, not `/healthz`.
#[derive(Debug)]
pub struct Prefix(Vec<String>);

impl Prefix {
    /// Reads one of the operator's prefixes. `Err` says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        if !text.starts_with('/') {
            return Err("it has to start with `/`");
        }
        if text.contains(['?', '#', '*']) {
            return Err("it is a plain prefix, without query, fragment or wildcard");
        }
        match segments(text) {
            Some(segments) if segments.is_empty() => Err("`/` alone would exclude everything"),
            Some(segments) => Ok(Self(segments)),
            None => Err("it has empty, `.` or `..` segments"),
        }
    }

    /// Whether a request's path lies below the prefix. A path that is not written plainly (`//health`,
    /// `/health/../admin`, `/%2e%2e/health`) is never excluded: what an application makes of it is anybody's guess.
    pub fn holds(&self, path: &str) -> bool {
        segments(path).is_some_and(|segments| segments.starts_with(&self.0))
    }
}

/// The decoded segments of a path, `None` if it is not in its plain form. One slash at the end says nothing.
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

/// Longer targets are cut to `/`: they come back as a header, and browsers differ in what they take.
const LONGEST: usize = 2048;

/// A place of this application to send a visitor back to: path and query only. Whatever could lead elsewhere (`//evil`,
/// `/\evil`, absolute URLs, control characters), and the bouncer's own routes, become `/`.
pub fn return_to(wish: &str) -> String {
    // Rocket's parser takes what RFC 7230 calls origin-form: no control characters, spaces, backslashes or fragments.
    let safe = wish.len() <= LONGEST && wish.starts_with('/') && !wish.starts_with("//");
    match Origin::parse(wish) {
        Ok(origin) if safe && !is_ours(origin.path().as_str()) => wish.to_owned(),
        _ => "/".to_owned(),
    }
}

/// Whether a browser could take the path for one of `/crowdsec/*`, which would lead in circles.
fn is_ours(path: &str) -> bool {
    let decoded = RawStr::new(path).percent_decode_lossy();
    let mut segments = decoded.split('/').filter(|segment| !matches!(*segment, "" | "."));
    decoded.split('/').any(|segment| segment == "..") || segments.next() == Some("crowdsec")
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

    #[test]
    fn a_visitor_is_sent_back_only_into_this_application() {
        for path in
            ["/", "/a/b?c=d&e=%20", "/a?next=https://evil.example", "/a//b", "/ü".replace('ü', "%C3%BC").as_str()]
        {
            assert_eq!(return_to(path), path);
        }
        let long = format!("/{}", "a".repeat(LONGEST));
        for trick in [
            "",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example",
            "https:/evil",
            "javascript:alert(1)",
            "evil",
            "/\tevil",
            "/\n/evil",
            "/a\r\nSet-Cookie: x=y",
            "/ /evil",
            " /a",
            "/a b",
            "/<script>",
            "/a#b",
            "/crowdsec/captcha",
            "/crowdsec",
            "/%63rowdsec/captcha",
            "/./crowdsec/captcha",
            "/a/../crowdsec/captcha",
            "/\u{202e}",
            "*",
            &long,
        ] {
            assert_eq!(return_to(trick), "/", "{trick:?}");
        }
    }

    mod properties {
        use proptest::collection::vec;
        use proptest::prelude::*;
        use proptest::sample::select;
        use reqwest::Url;

        use super::*;

        /// Any text, and with better luck texts made of what tricks are made of.
        fn wishes() -> impl Strategy<Value = String> {
            let seen = "/ // \\ . .. %2e %2E%2e %2f %5c %00 %25 %0d%0a %c3%28 crowdsec %63rowdsec Crowdsec captcha health a ü \
                    evil.example http: https:/ @ : :80 ; ? # & [ \u{2028} \u{ff0f}";
            let pieces: Vec<&str> = seen.split(' ').chain(["\t", "\n", "\r", " ", "\0"]).collect();
            let made = vec(select(pieces), 0..9).prop_map(|pieces| pieces.concat());
            prop_oneof![any::<String>(), made.clone(), made.prop_map(|text| format!("/{text}")), "/[ -~]{0,20}"]
        }

        proptest! {
            /// The reader is a browser, which follows the URL standard; ours is another parser.
            #[test]
            fn a_browser_that_is_sent_back_stays_in_this_application(wish in wishes()) {
                let back = return_to(&wish);
                prop_assert!(back == "/" || back == wish);
                let arrived = Url::parse("http://app.example/").unwrap().join(&back).unwrap();
                prop_assert_eq!(arrived.origin().ascii_serialization(), "http://app.example");
                prop_assert_eq!((arrived.username(), arrived.password()), ("", None));
                let decoded = RawStr::new(arrived.path()).percent_decode_lossy();
                prop_assert_ne!(decoded.split('/').find(|segment| !segment.is_empty()), Some("crowdsec"));
            }

            #[test]
            fn what_is_sent_back_fits_into_a_header(wish in wishes()) {
                prop_assert!(return_to(&wish).bytes().all(|byte| byte.is_ascii_graphic()));
            }

            #[test]
            fn no_prefix_holds_a_path_that_leaves_it(path in wishes()) {
                if Prefix::new("/health").unwrap().holds(&path) {
                    let meant = Url::parse("http://app.example/").unwrap().join(&path).unwrap();
                    let decoded = RawStr::new(meant.path()).percent_decode_lossy();
                    prop_assert_eq!(decoded.split('/').nth(1), Some("health"));
                }
            }
        }
    }
}
