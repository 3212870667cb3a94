//! Who has proven to be human? A pass says so, an encrypted cookie.

use std::net::IpAddr;
use std::time::Duration;

use cookie::Key;
use rocket::Request;
use rocket::http::{Cookie, CookieJar, SameSite};
use rocket::time;

use crate::crowdsec::limit::Subject;

/// Makes passes, and reads them. A pass lies in the visitor's browser and nowhere else: every instance that shares
/// `secret_key` can read it.
pub struct Passes {
    key: Key,
    /// Eight digits made of the secret, in the cookie's name: two deployments on one host have two names, so that the
    /// pass of one does not replace the pass of the other.
    mark: String,
    /// How long a pass holds.
    expiration: Duration,
}

/// A pass has about 90 bytes in base64. A value of more bytes than this is no pass, and costs no decryption.
const LONGEST_COOKIE: usize = 200;

impl Passes {
    pub fn new(secret: &str, expiration: Duration) -> Self {
        // The text has to be longer than 32 bytes, however short the secret is.
        let text = |purpose| format!("crowdsec captcha pass, key for the {purpose}: {secret}");
        let key = |purpose| Key::derive_from(text(purpose).as_bytes());
        // A key of its own, so that its first bytes may be known to everybody.
        let mark = key("name").encryption().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self { key: key("encryption"), mark, expiration }
    }

    /// Gives the visitor a pass that counts from `since` on, in seconds since 1970. `https` says how the visitor came, since
    /// Rocket only knows of TLS that it ends itself.
    ///
    /// `Lax`, not Rocket's `Strict`: whoever follows a link from another site would have to solve the captcha again.
    pub fn grant(&self, cookies: &CookieJar<'_>, address: IpAddr, since: u64, https: bool) {
        let name = self.name(address, https);
        let cookie = Cookie::build((name.clone(), value(address.into(), since)))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(https)
            // A wish to the browser, of ten years at most. What counts is the time inside the pass.
            .max_age(time::Duration::seconds(self.expiration.as_secs() as i64));
        let mut jar = cookie::CookieJar::new();
        jar.private_mut(&self.key).add(cookie);
        if let Some(encrypted) = jar.get(&name) {
            cookies.add(encrypted.clone());
        }
    }

    /// When the visitor has proven to be human, in seconds since 1970, by the newest pass that still counts.
    ///
    /// A neighbour on the same domain can set a cookie of the same name, which a browser sends beside ours. So all cookies of
    /// the request are tried, and not only the last one of a name, which is all that Rocket's jar keeps. The jar is read as
    /// well, because only there are the cookies of Rocket's local client.
    pub fn since(&self, request: &Request<'_>, address: IpAddr, now: u64) -> Option<u64> {
        let names = [true, false].map(|https| self.name(address, https));
        let in_jar = names.iter().filter_map(|name| request.cookies().get(name).cloned());
        let sent = request.headers().get("Cookie").flat_map(Cookie::split_parse_encoded).filter_map(Result::ok);
        let sent = sent.filter(|cookie| names.iter().any(|name| name == cookie.name()));
        let none = cookie::CookieJar::new();
        let passes = sent.chain(in_jar).filter(|cookie| cookie.value().len() <= LONGEST_COOKIE).filter_map(|cookie| {
            let pass = none.private(&self.key).decrypt(cookie.into_owned())?;
            since(pass.value(), address.into(), now, self.expiration)
        });
        passes.max()
    }

    /// A browser does not let plain HTTP replace a `Secure` cookie, so the `Secure` pass has a name of its own; `__Host-` keeps
    /// other hosts from setting it. IPv4 and IPv6 have names of their own, too: a visitor with both addresses would lose one
    /// pass by the other.
    fn name(&self, address: IpAddr, https: bool) -> String {
        let (host, family) = (if https { "__Host-" } else { "" }, if address.is_ipv4() { "v4" } else { "v6" });
        format!("{host}{}-captcha-{}-{family}", env!("CARGO_PKG_NAME"), self.mark)
    }
}

fn value(subject: Subject, since: u64) -> String {
    format!("{since} {}", subject.0)
}

/// Since when a pass counts; `None` for one that has ended, or that is another visitor's. It counts for as long as
/// `captcha.expiration` says here and now, whichever instance has made it. Where a clock was set back, a pass may come from the
/// future: the visitor has solved the captcha all the same.
fn since(value: &str, subject: Subject, now: u64, expiration: Duration) -> Option<u64> {
    let (since, whose) = value.split_once(' ')?;
    let since: u64 = since.parse().ok()?;
    let holds = now.saturating_sub(since) < expiration.as_secs();
    (holds && whose == subject.0.to_string()).then_some(since)
}

#[cfg(test)]
mod tests;
