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

    mod properties {
        use figment::Figment;
        use proptest::prelude::*;
        use proptest::sample::Index;
        use rocket::local::blocking::Client;
        use rocket::{get, routes};

        use super::*;

        fn visitor() -> Subject {
            Subject::from(IpAddr::from([192, 0, 2, 1]))
        }

        #[get("/grant")]
        fn grants(cookies: &CookieJar<'_>) {
            grant(cookies, visitor(), Duration::from_secs(60), false);
        }

        #[get("/holds")]
        fn asks(cookies: &CookieJar<'_>) -> String {
            holds(cookies, visitor()).to_string()
        }

        /// Somebody with no cookie, at an application that only grants and asks.
        fn somebody() -> Client {
            let config = Figment::from(rocket::Config::debug_default())
                .merge(("secret_key", "hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs="))
                .merge(("log_level", "off"));
            Client::untracked(rocket::custom(config).mount("/", routes![grants, asks])).unwrap()
        }

        fn is_let_in(client: &Client, cookie: &str) -> bool {
            client.get("/holds").cookie((NAME, cookie.to_owned())).dispatch().into_string().unwrap() == "true"
        }

        fn granted(client: &Client) -> String {
            client.get("/grant").dispatch().cookies().get(NAME).unwrap().value().to_owned()
        }

        #[test]
        fn no_cookie_but_a_granted_one_lets_anybody_in() {
            let client = somebody();
            let pass = granted(&client);
            assert!(is_let_in(&client, &pass));
            // The words that it holds are no secret; that they are encrypted with our key is what counts.
            let words = value(visitor(), unix_now() + 60);
            assert!(!is_let_in(&client, &words));
            proptest!(|(junk in any::<String>(), like in "[A-Za-z0-9+/]{40,120}={0,2}")| {
                prop_assert!(!is_let_in(&client, &junk));
                prop_assert!(!is_let_in(&client, &like));
            });
            proptest!(|(at in any::<Index>(), other in any::<char>())| {
                let at = at.index(pass.len());
                let cut = &pass[..at];
                let changed = format!("{cut}{other}{}", &pass[at + 1..]);
                prop_assert!(!is_let_in(&client, cut));
                prop_assert_eq!(is_let_in(&client, &changed), changed == pass);
            });
        }

        proptest! {
            #[test]
            fn a_pass_names_its_visitor_and_a_time_to_come(
                text in prop_oneof![any::<String>(), "[+-]?[0-9]{0,21} ?(192.0.2.[12]|2001:db8::)(/32|/64)? ?"],
                now in 0..2_000_000_000u64,
            ) {
                if is_for(&text, visitor(), now) {
                    let (until, whose) = text.split_once(' ').unwrap();
                    prop_assert_eq!(whose, "192.0.2.1/32");
                    prop_assert!(until.parse::<u64>().unwrap() > now);
                }
            }
        }
    }
}
