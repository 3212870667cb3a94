//! Where is it safe to send a visitor back to?

use std::borrow::Cow;

use rocket::Request;
use rocket::http::uri::Origin;
use rocket::http::{Method, RawStr};

use crate::crowdsec::guards::is_own;

/// In bytes. A longer target becomes `/`: it would come back in a `Location` header, and browsers differ in how long
/// that may be.
const LONGEST_PLACE: usize = 2048;

/// A place of this application to send a visitor back to: path and query only. Whatever could lead elsewhere (`//evil`,
/// `/\evil`, absolute URLs, control characters), and the bouncer's own routes, become `/`.
pub fn safe_place(wish: &str) -> String {
    // Rocket's parser takes what RFC 7230 calls origin-form: no control characters, spaces, backslashes or fragments.
    let safe = wish.len() <= LONGEST_PLACE && wish.starts_with('/') && !wish.starts_with("//");
    match Origin::parse(wish) {
        Ok(origin) if safe && !leads_to_bouncer(origin.path().as_str()) => wish.to_owned(),
        _ => "/".to_owned(),
    }
}

/// Whether a browser could take the path for one of `/crowdsec/*`, which would lead in circles.
fn leads_to_bouncer(path: &str) -> bool {
    let decoded = RawStr::new(path).percent_decode_lossy();
    let mut segments = decoded.split('/').filter(|segment| !matches!(*segment, "" | "."));
    decoded.split('/').any(|segment| segment == "..") || segments.next() == Some("crowdsec")
}

/// The page from which a form or a script has sent this request, if it is one of this application's. `prefix` is the
/// path below which a proxy shows the application, and which the proxy takes off.
pub fn back_by_referer(request: &Request<'_>, prefix: &str) -> String {
    let path = || {
        let referer = request.headers().get_one("Referer").filter(|referer| is_own(request, referer))?;
        let referer = reqwest::Url::parse(referer).ok()?;
        let query = referer.query().map_or(String::new(), |query| format!("?{query}"));
        Some(without(prefix, &format!("{}{query}", referer.path())).into_owned())
    };
    safe_place(&path().unwrap_or_default())
}

/// A target without the proxy's prefix, as the application sees it.
pub fn without<'a>(prefix: &str, target: &'a str) -> Cow<'a, str> {
    match target.strip_prefix(prefix) {
        Some(rest) if rest.starts_with('/') => rest.into(),
        // A proxy may want no slash behind the prefix: `/shop`, `/shop?page=2`.
        Some(rest) if rest.is_empty() || rest.starts_with('?') => format!("/{rest}").into(),
        _ => target.into(),
    }
}

pub fn only_reads(method: Method) -> bool {
    matches!(method, Method::Get | Method::Head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_is_sent_back_only_into_this_application() {
        for path in
            ["/", "/a/b?c=d&e=%20", "/a?next=https://evil.example", "/a//b", "/ü".replace('ü', "%C3%BC").as_str()]
        {
            assert_eq!(safe_place(path), path);
        }
        let long = format!("/{}", "a".repeat(LONGEST_PLACE));
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
            assert_eq!(safe_place(trick), "/", "{trick:?}");
        }
    }

    mod properties {
        use proptest::collection::vec;
        use proptest::prelude::*;
        use proptest::sample::select;
        use reqwest::Url;

        use super::*;

        /// Any text, and texts made of the pieces of tricks.
        fn wishes() -> impl Strategy<Value = String> {
            let seen = "/ // \\ . .. %2e %2E%2e %2f %5c %00 %25 %0d%0a %c3%28 crowdsec %63rowdsec Crowdsec captcha health a ü \
                    evil.example http: https:/ @ : :80 ; ? # & [ \u{2028} \u{ff0f}";
            let pieces: Vec<&str> = seen.split(' ').chain(["\t", "\n", "\r", " ", "\0"]).collect();
            let made = vec(select(pieces), 0..9).prop_map(|pieces| pieces.concat());
            prop_oneof![any::<String>(), made.clone(), made.prop_map(|text| format!("/{text}")), "/[ -~]{0,20}"]
        }

        proptest! {
            /// `Url` follows the URL standard, as browsers do; `safe_place` has another parser.
            #[test]
            fn a_browser_that_is_sent_back_stays_in_this_application(wish in wishes()) {
                let back = safe_place(&wish);
                prop_assert!(back == "/" || back == wish);
                let arrived = Url::parse("http://app.example/").unwrap().join(&back).unwrap();
                prop_assert_eq!(arrived.origin().ascii_serialization(), "http://app.example");
                prop_assert_eq!((arrived.username(), arrived.password()), ("", None));
                let decoded = RawStr::new(arrived.path()).percent_decode_lossy();
                prop_assert_ne!(decoded.split('/').find(|segment| !segment.is_empty()), Some("crowdsec"));
            }

            #[test]
            fn what_is_sent_back_fits_into_a_header(wish in wishes()) {
                prop_assert!(safe_place(&wish).bytes().all(|byte| byte.is_ascii_graphic()));
            }

        }
    }
}
