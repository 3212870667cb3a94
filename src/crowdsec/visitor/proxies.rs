//! Whom does a trusted proxy name?
//!
//! Rocket's own `client_ip()` is not used: it believes a header from anybody, so that a banned visitor walks free by
//! sending one, and can have others banned.

mod signs;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rocket::Request;

use super::config::Config;
use crate::crowdsec::reminder::Reminder;

/// Headers that nearly every proxy adds, as its makers or the usual guides say.
pub const SET_BY_PROXIES: [&str; 4] = ["X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto", "Forwarded"];

/// Whom to believe, and in which header.
pub struct ClientIp {
    pub config: Config,
    /// Counts requests that a proxy handed on without naming the visitor, by reason.
    unnamed: [Reminder; 4],
    /// Counts requests that seem to come by a proxy that is not trusted.
    forgotten: Reminder,
}

/// Why nobody knows whose request it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unnamed {
    /// The header is not there. Rocket drops a header that is not UTF-8: a visitor's stray byte removes what a proxy added.
    Missing,
    /// It ends in something else than an address: some proxies write `unknown`, and nginx on a unix socket `unix:`.
    Unreadable,
    /// Every address in it is a trusted proxy's.
    OnlyProxies,
    /// The visitor has reset the connection before Rocket asked the system whose it is. What was sent before can be read all
    /// the same.
    Gone,
}

impl ClientIp {
    pub fn new(config: Config) -> Self {
        Self { config, unnamed: Default::default(), forgotten: Reminder::default() }
    }

    /// The visitor's address, and why no visitor is known. `named` is what a trusted proxy says in our header; `None` where
    /// none has handed the request on.
    ///
    /// No other header is read instead: a visitor may have written it.
    pub fn of(&self, peer: Option<IpAddr>, named: Option<&[Cow<'_, str>]>) -> (IpAddr, Option<Unnamed>) {
        let Some(peer) = peer else { return (Ipv4Addr::UNSPECIFIED.into(), Some(Unnamed::Gone)) };
        let Some(named) = named else { return (peer, None) };
        let (address, unnamed) = self.behind(peer, named);
        // The debug profile's example stands for no proxy, but for the developer at work.
        (address, unnamed.filter(|_| self.config.are_meant))
    }

    /// Whether the visitor came by HTTPS: to Rocket itself, or to a trusted proxy that says so.
    pub fn is_https(&self, request: &Request<'_>) -> bool {
        let first = |name| request.headers().get_one(name).and_then(|list| list.split(',').next());
        let is_https = |proto: &str| proto.trim().eq_ignore_ascii_case("https");
        let proxy_says_so = || {
            first("X-Forwarded-Proto").is_some_and(is_https)
                || first("Forwarded").and_then(|element| forwarded(element, "proto")).is_some_and(is_https)
        };
        request.rocket().config().tls_enabled() || self.is_proxied(request) && proxy_says_so()
    }

    /// Below which path of the site a trusted proxy shows this application (`X-Forwarded-Prefix`), `/shop` or empty.
    ///
    /// Only a plain path is believed. A visitor may have written the header where the proxy hands it on: then it leads
    /// that visitor astray, on this site and nowhere else.
    pub fn prefix<'r>(&self, request: &'r Request<'_>) -> &'r str {
        let said = || request.headers().get_one("X-Forwarded-Prefix").filter(|_| self.is_proxied(request));
        let path = said().map(|path| path.trim_end_matches('/')).unwrap_or_default();
        let is_plain = |segment: &str| {
            let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_letter)
        };
        let segments = path.strip_prefix('/').map(|rest| rest.split('/'));
        let is_believed = path.len() <= 200 && segments.is_some_and(|mut segments| segments.all(is_plain));
        if is_believed { path } else { "" }
    }

    /// Walks the header from the right, where the nearest proxy wrote, and stops at the first address that is not a
    /// trusted proxy's: what stands left of it is only a stranger's word. At something unreadable it stops too, with
    /// the last proxy it knows: taking the next one to the left would let a visitor choose who to be.
    pub fn behind(&self, peer: IpAddr, values: &[impl AsRef<str>]) -> (IpAddr, Option<Unnamed>) {
        // A proxy that adds an empty line names nobody: HAProxy's `add-header … %[src]` does so for visitors on a unix socket.
        if let [_, .., last] = values
            && last.as_ref().trim().is_empty()
        {
            return (peer, Some(Unnamed::Unreadable));
        }
        let (mut known, mut why) = (peer, Unnamed::Missing);
        for element in values.iter().rev().flat_map(|value| from_the_right(value.as_ref())) {
            let Some(address) = self.address(element) else { return (known, Some(Unnamed::Unreadable)) };
            if !self.trusts(address) {
                return (address, None);
            }
            (known, why) = (address, Unnamed::OnlyProxies);
        }
        (known, Some(why))
    }

    /// Whether a trusted proxy has handed this request on: then its headers are believed.
    pub fn is_proxied(&self, request: &Request<'_>) -> bool {
        peer(request).is_some_and(|peer| self.trusts(peer))
    }

    pub fn trusts(&self, address: IpAddr) -> bool {
        self.config.trusted_proxies.iter().any(|net| net.contains(&address))
    }

    /// The address in one element of the header: the `for` of RFC 7239's `Forwarded`, or the whole element of any other header.
    fn address(&self, element: &str) -> Option<IpAddr> {
        let is_forwarded = self.config.client_ip_header.eq_ignore_ascii_case("Forwarded");
        address(if is_forwarded { forwarded(element, "for")? } else { element })
    }
}

/// The value under this name in an element of RFC 7239's `Forwarded`. `None` if the name is there twice, or a backslash: a
/// proxy may hand on there what a visitor wrote, `host="x;for=192.0.2.1"`.
fn forwarded<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let mut said = pairs.filter(|(known, _)| known.trim().eq_ignore_ascii_case(name));
    let ((_, value), None) = (said.next()?, said.next()) else { return None };
    Some(value.trim().trim_matches('"')).filter(|_| !element.contains('\\'))
}

/// `None` where the visitor has gone. Rocket's local client has no peer either: the debug profile takes it for loopback.
pub fn peer(request: &Request<'_>) -> Option<IpAddr> {
    let is_test = || request.rocket().config().profile == rocket::Config::DEBUG_PROFILE;
    let peer = request.remote().map(|remote| remote.ip().to_canonical());
    peer.or_else(|| is_test().then_some(Ipv4Addr::LOCALHOST.into()))
}

/// The non-empty elements of a list, the last one first. Quotes are matched from the right as well: a quote that a
/// stranger left open on the left must not swallow what a proxy wrote after it.
fn from_the_right(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(list);
    let elements = std::iter::from_fn(move || {
        let (text, mut quoted) = (rest?, false);
        let comma = text.bytes().rposition(|byte| {
            quoted ^= byte == b'"';
            byte == b',' && !quoted
        });
        rest = comma.map(|at| &text[..at]);
        Some(text[comma.map_or(0, |at| at + 1)..].trim())
    });
    elements.filter(|element| !element.is_empty())
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
pub fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
pub mod tests {
    use super::*;

    use Unnamed::*;

    /// Trusts two networks and this header.
    pub fn client_ip(header: &str) -> ClientIp {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|net| net.parse().unwrap());
        ClientIp::new(Config {
            trusted_proxies: trusted.into(),
            are_meant: true,
            client_ip_header: header.into(),
            ..Config::default()
        })
    }

    fn behind(header: &str, values: &[&str]) -> (String, Option<Unnamed>) {
        let (address, unnamed) = client_ip(header).behind("10.0.0.1".parse().unwrap(), values);
        (address.to_string(), unnamed)
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_of_ours_is_the_visitor() {
        for (values, visitor) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
            (&["203.0.113.9, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
            (&["203.0.113.9", "192.0.2.1, 10.0.0.2"], "192.0.2.1"),
            (&["203.0.113.9,192.0.2.1:4711"], "192.0.2.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["2001:db8::1, 2001:db8:ffff::2"], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, , "], "192.0.2.1"),
        ] {
            assert_eq!(behind("X-Forwarded-For", values), (visitor.into(), None), "{values:?}");
        }
    }

    #[test]
    fn who_is_not_named_is_nobody_and_the_reason_is_known() {
        for (values, why) in [
            (&[][..], Missing),
            (&[""], Missing),
            (&[" , "], Missing),
            (&["192.0.2.1", ""], Unreadable),
            (&["192.0.2.1", "10.0.0.2", " "], Unreadable),
            (&["192.0.2.1, unknown"], Unreadable),
            (&["192.0.2.1, unix:"], Unreadable),
            (&["192.0.2.1, 10.0.0.2x"], Unreadable),
            (&["192.0.2.1 10.0.0.2"], Unreadable),
            (&["192.0.2.01"], Unreadable),
            (&["10.0.0.1"], OnlyProxies),
            (&[" , ", "10.0.0.1"], OnlyProxies),
        ] {
            assert_eq!(behind("X-Forwarded-For", values), ("10.0.0.1".into(), Some(why)), "{values:?}");
        }
        // The address is the last known proxy's, never the next one to the left.
        let last = behind("X-Forwarded-For", &["192.0.2.1, junk, 10.0.0.2"]);
        assert_eq!(last, ("10.0.0.2".into(), Some(Unreadable)));
        assert_eq!(behind("X-Forwarded-For", &["10.0.0.3, 10.0.0.2"]), ("10.0.0.3".into(), Some(OnlyProxies)));
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_says() {
        for (value, visitor, unnamed) in [
            ("for=192.0.2.1", "192.0.2.1", None),
            ("For=\"[2001:db8::1]:4711\";proto=https", "2001:db8::1", None),
            ("for=203.0.113.9, for=192.0.2.1;by=10.0.0.2;host=a", "192.0.2.1", None),
            ("for=192.0.2.1, for=_hidden", "10.0.0.1", Some(Unreadable)),
            ("for=192.0.2.1, for=unknown", "10.0.0.1", Some(Unreadable)),
            ("by=192.0.2.1", "10.0.0.1", Some(Unreadable)),
            // A stranger's open quote, and a comma in quotes.
            ("for=\"x, for=192.0.2.1", "192.0.2.1", None),
            ("for=192.0.2.1;host=\"a,b\"", "192.0.2.1", None),
            // A `Host` that a proxy hands on as it came, or in quotes.
            ("proto=http;host=x;for=192.0.2.9;for=192.0.2.1", "10.0.0.1", Some(Unreadable)),
            ("host=\"x;for=192.0.2.9\";for=192.0.2.1", "10.0.0.1", Some(Unreadable)),
            ("for=192.0.2.1;host=\"x\\\",for=192.0.2.9;y=\\\"\"", "10.0.0.1", Some(Unreadable)),
        ] {
            assert_eq!(behind("Forwarded", &[value]), (visitor.into(), unnamed), "{value:?}");
        }
    }
}
