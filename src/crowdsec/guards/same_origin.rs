//! Has another site's page sent this request? A guard for forms that change something or are told to CrowdSec.

use std::time::Instant;

use log::warn;
use reqwest::Url;
use rocket::Request;
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};

use crate::crowdsec::printable::printable;
use crate::crowdsec::reminder::{HOUR, Reminder};

/// Proof that no page of another origin has sent this request: neither another site's, nor one of another host, port or
/// subdomain of the same site, which may be somebody else's.
///
/// Any page can send a form to this application in its visitor's name. Without this guard, whatever the form does is done
/// by that visitor, and what goes wrong with it is noted against their address.
///
/// ```text
/// #[post("/order", data = "<form>")]
/// fn order(_own: SameOrigin, form: Form<Order>) { … }
/// ```
///
/// Whoever is refused gets 422, and the form is not read. Not 403 or 401: CrowdSec's own scenarios ban an address for six
/// POST requests with such an answer (`http-generic-bf`), so that any page could still have its visitors banned.
///
/// Programs that send neither `Sec-Fetch-Site` nor `Origin` are let through: the guard protects visitors' browsers, and
/// each browser that is still in use sends one of the two with a form.
#[derive(Clone, Copy, Debug)]
pub struct SameOrigin(());

#[rocket::async_trait]
impl<'r> FromRequest<'r> for SameOrigin {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        if is_cross_origin(request) {
            return Outcome::Error((Status::UnprocessableEntity, ()));
        }
        Outcome::Success(Self(()))
    }
}

/// Whether a page of another origin has sent this request, by the word of the visitor's browser. No page can change what the
/// browser says here. A program can write anything there, and is believed.
fn is_cross_origin(request: &Request<'_>) -> bool {
    let mut said = request.headers().get("Sec-Fetch-Site").peekable();
    if said.peek().is_some() {
        // `none`: the visitor did it, by a bookmark or by hand. Fails closed: a word that we do not know is refused.
        return !said.all(|site| matches!(site, "same-origin" | "none"));
    }
    // Browsers leave `Sec-Fetch-Site` out on plain HTTP, and older ones everywhere. `null` hides the origin, so it is refused.
    let foreign = request.headers().get("Origin").find(|origin| !is_own(request, origin));
    if let Some(origin) = foreign.filter(|origin| *origin != "null") {
        static TOLD: Reminder = Reminder::new();
        // If the proxy is set up wrongly, nobody gets through. Told each hour, so that strangers cannot use up the warning.
        if TOLD.count(1, HOUR, Instant::now()).is_some() {
            warn!(
                "A page of {} sent a form here, and that is not the host that was asked: such forms are refused. If it is \
                 your own site, let your proxy hand on `Host` as it came: `proxy_set_header Host $http_host;` in nginx. \
                 This is said once an hour.",
                // A stranger may have written anything there.
                Url::parse(origin).map_or("no address".into(), |url| printable(&url.origin().ascii_serialization()))
            );
        }
    }
    foreign.is_some()
}

/// Whether an origin is the host that was asked. The scheme is not compared: a proxy may have ended TLS.
pub fn is_own(request: &Request<'_>, origin: &str) -> bool {
    let (Ok(origin), Some(host)) = (Url::parse(origin), request.host()) else { return false };
    matches!(origin.scheme(), "http" | "https")
        && Url::parse(&format!("{}://{host}", origin.scheme())).is_ok_and(|asked| asked.origin() == origin.origin())
}

#[cfg(test)]
mod tests {
    use rocket::http::Header;
    use rocket::http::uri::Host;
    use rocket::local::blocking::Client;
    use rocket::{post, routes};

    use super::*;

    #[post("/")]
    fn form(_own: SameOrigin) {}

    /// The status for a form that was sent to this host with these headers.
    fn status(client: &Client, host: &'static str, headers: &[(&'static str, &'static str)]) -> u16 {
        let mut request = client.post("/");
        request.inner_mut().set_host(Host::parse(host).expect("a host"));
        for (name, value) in headers {
            request.add_header(Header::new(*name, *value));
        }
        request.dispatch().status().code
    }

    #[test]
    fn a_form_counts_if_the_browser_says_that_it_is_ours() {
        let figment = figment::Figment::from(rocket::Config::debug_default()).merge(("log_level", "off"));
        let client = Client::untracked(rocket::custom(figment).mount("/", routes![form])).unwrap();
        let (shop, local) = ("shop.example", "127.0.0.1:8000");
        for (host, headers) in [
            (shop, &[][..]),
            (shop, &[("Sec-Fetch-Site", "same-origin")]),
            (shop, &[("Sec-Fetch-Site", "none")]),
            // A proxy may hand on another `Host`: then the browser's own word is better.
            (local, &[("Sec-Fetch-Site", "same-origin"), ("Origin", "https://shop.example")]),
            (shop, &[("Origin", "http://shop.example")]),
            (shop, &[("Origin", "https://shop.example")]),
            ("Shop.Example:443", &[("Origin", "https://shop.example")]),
            (shop, &[("Origin", "http://shop.example:80")]),
            (local, &[("Origin", "http://127.0.0.1:8000")]),
            ("[::1]:8000", &[("Origin", "http://[::1]:8000")]),
        ] {
            assert_eq!(status(&client, host, headers), 200, "{host} {headers:?}");
        }
        for (host, headers) in [
            (shop, &[("Sec-Fetch-Site", "cross-site")][..]),
            (shop, &[("Sec-Fetch-Site", "same-site")]),
            (shop, &[("Sec-Fetch-Site", "")]),
            (shop, &[("Sec-Fetch-Site", "new-in-2030")]),
            (shop, &[("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")]),
            (shop, &[("Sec-Fetch-Site", "cross-site"), ("Origin", "http://shop.example")]),
            (shop, &[("Origin", "null")]),
            (shop, &[("Origin", "")]),
            (shop, &[("Origin", "http://evil.example")]),
            (shop, &[("Origin", "http://shop.example.evil.example")]),
            (shop, &[("Origin", "http://www.shop.example")]),
            (shop, &[("Origin", "http://shop.example:8080")]),
            (shop, &[("Origin", "http://shop.example@evil.example")]),
            (shop, &[("Origin", "file://shop.example")]),
            (shop, &[("Origin", "shop.example")]),
            (shop, &[("Origin", "http://shop.example"), ("Origin", "http://evil.example")]),
            (local, &[("Origin", "http://127.0.0.1:8001")]),
            (local, &[("Origin", "http://localhost:8000")]),
        ] {
            assert_eq!(status(&client, host, headers), 422, "{host} {headers:?}");
        }
    }
}
