//! Who has proven to be human? An encrypted cookie that says so, and the one place that touches cookies.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocket::http::{Cookie, CookieJar, SameSite};
use rocket::time;

use super::client_ip::Subject;

/// Named for the application, so that two on one host do not read each other's.
const NAME: &str = concat!(env!("CARGO_PKG_NAME"), "-captcha");

/// Remembers a solved captcha in the visitor's browser, and nowhere else: every instance that shares `secret_key`
/// can read it.
///
/// `Lax` rather than Rocket's `Strict`: who follows a link from elsewhere would have to solve it again. `secure` goes by
/// how the visitor came, since Rocket only knows of TLS that it ends itself.
pub fn grant(cookies: &CookieJar<'_>, subject: Subject, expiration: Duration, secure: bool) {
    let cookie = Cookie::build((NAME, value(subject, unix_now() + expiration.as_secs())))
        .path("/")
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(secure)
        .max_age(time::Duration::seconds(expiration.as_secs().try_into().unwrap_or(i64::MAX)));
    cookies.add_private(cookie);
}

/// Whether the visitor has solved a captcha that still counts. The end that counts is the one inside the cookie: the
/// one outside is only a wish to the browser.
pub fn holds(cookies: &CookieJar<'_>, subject: Subject) -> bool {
    cookies.get_private(NAME).is_some_and(|cookie| is_for(cookie.value(), subject, unix_now()))
}

fn value(subject: Subject, until: u64) -> String {
    format!("{until} {subject}")
}

fn is_for(value: &str, subject: Subject, now: u64) -> bool {
    let Some((until, whose)) = value.split_once(' ') else { return false };
    until.parse().is_ok_and(|until: u64| now < until) && whose == subject.to_string()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_pass_is_for_one_address_until_its_end() {
        let subject = |address: &str| Subject::from(address.parse::<IpAddr>().unwrap());
        let pass = value(subject("192.0.2.1"), 100);
        assert!(is_for(&pass, subject("192.0.2.1"), 99));
        assert!(!is_for(&pass, subject("192.0.2.1"), 100));
        assert!(!is_for(&pass, subject("192.0.2.2"), 99));
        let pass = value(subject("2001:db8::1"), 100);
        assert!(is_for(&pass, subject("2001:db8::ffff"), 99));
        assert!(!is_for(&pass, subject("2001:db8:0:1::1"), 99));
        for junk in ["", "100", " ", "x 192.0.2.1/32", "100 ", "-1 192.0.2.1/32", "99999999999999999999 192.0.2.1/32"] {
            assert!(!is_for(junk, subject("192.0.2.1"), 1), "{junk}");
        }
    }
}
