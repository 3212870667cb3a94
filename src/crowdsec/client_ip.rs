//! Who is asking? The socket's peer, or whom a trusted proxy names.
//!
//! Rocket's own `client_ip()` is not used: it believes a header from anybody, so that a banned visitor walks free by
//! sending one, and can have others banned.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use ipnet::IpNet;
use rocket::Request;

use super::config::Config;

/// Whom a solved captcha or a limit counts for: an IPv4 address, or the /64 that an IPv6 visitor can move in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject(IpNet);

impl From<IpAddr> for Subject {
    fn from(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 64 };
        Self(IpNet::new_assert(address, length).trunc())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whom to believe, and in which header.
#[derive(Default)]
pub struct ClientIp {
    trusted: Vec<IpNet>,
    /// Whether those are the operator's own words, and no example of the debug profile's.
    meant: bool,
    header: String,
    hint: Hint,
    told_of_hidden: AtomicBool,
}

/// What a proxy adds to requests that it hands on, beside `X-Forwarded-Proto`. Its own health checks bear none of it, and
/// one header alone proves little: a script on the same machine may send it.
const HANDED_ON: [&str; 5] = ["X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "Via"];

impl ClientIp {
    pub fn new(config: &Config) -> Self {
        Self {
            trusted: config.trusted_proxies.clone(),
            meant: !config.example_proxies,
            header: config.client_ip_header.clone(),
            ..Self::default()
        }
    }

    /// The visitor's address, in canonical form, and whether a trusted proxy hides whose request it is.
    pub fn of(&self, request: &Request<'_>) -> (IpAddr, bool) {
        let peer = peer(request);
        if !self.trusts(peer) {
            self.hint.note(peer, || request.headers().contains(&self.header));
            return (peer, false);
        }
        // Rocket hashes a header's name letter by letter, so it is looked up once.
        let values: Vec<&str> = request.headers().get(&self.header).collect();
        let address = self.behind(peer, &values);
        (address, address == peer && !self.names_anybody(&values) && self.is_hidden(request, peer))
    }

    /// Whether what the proxy itself wrote into the header is an address. Some write `unknown`.
    fn names_anybody(&self, values: &[&str]) -> bool {
        let last = values.iter().rev().flat_map(|value| from_the_right(value)).next();
        last.is_some_and(|element| self.address(element).is_some())
    }

    /// Asked where the header that names the visitor names nobody, or did not arrive: whether the proxy handed on a
    /// visitor's request all the same. Rocket drops a header that is not UTF-8, so that a stray byte of the visitor's takes
    /// along what a proxy added to it.
    fn is_hidden(&self, request: &Request<'_>, proxy: IpAddr) -> bool {
        let bears = |name: &&str| request.headers().contains(*name);
        let hidden = self.meant && bears(&"X-Forwarded-Proto") && HANDED_ON.iter().any(bears);
        if hidden && !self.told_of_hidden.swap(true, Ordering::Relaxed) {
            log::warn!(
                "Your proxy at {proxy} handed on a request without {} that names anybody: it is refused. If all are: name the header that it does set in `crowdsec.client_ip_header`. If few are: strangers try to hide. Let the proxy set the header rather than add to it.",
                self.header
            );
        }
        hidden
    }

    /// Whether this is a proxy that the operator named: one of its own requests, or a visitor who could not be told. The
    /// example of the debug profile is no proxy but the developer at work.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.meant && self.trusts(address)
    }

    /// Whether the visitor came by HTTPS: directly, or as a trusted proxy says that ended it.
    pub fn is_https(&self, request: &Request<'_>) -> bool {
        if !self.trusts(peer(request)) {
            return request.rocket().config().tls_enabled();
        }
        let said = |name| request.headers().get_one(name).unwrap_or_default();
        let first = |list: &str| list.split(',').next().is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"));
        let forwarded = |element: &str| {
            element.split(';').filter_map(|pair| pair.trim().split_once('=')).any(|(name, value)| {
                name.eq_ignore_ascii_case("proto") && value.trim_matches('"').eq_ignore_ascii_case("https")
            })
        };
        request.rocket().config().tls_enabled()
            || first(said("X-Forwarded-Proto"))
            || said("Forwarded").split(',').next().is_some_and(forwarded)
    }

    /// Walks the header from the right, where the nearest proxy wrote, and stops at the first address that is not a
    /// trusted proxy's: what stands left of it is only a stranger's word. At something unreadable it stops too, with
    /// the last proxy it knows: taking the next one to the left would let a visitor choose who to be.
    fn behind(&self, peer: IpAddr, values: &[&str]) -> IpAddr {
        let mut known = peer;
        for element in values.iter().rev().flat_map(|value| from_the_right(value)) {
            let Some(address) = self.address(element) else { return known };
            known = address;
            if !self.trusts(address) {
                break;
            }
        }
        known
    }

    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    /// The address in one element of the header: the `for` of RFC 7239's `Forwarded`, or the whole of any other's.
    fn address(&self, element: &str) -> Option<IpAddr> {
        if !self.header.eq_ignore_ascii_case("Forwarded") {
            return address(element);
        }
        let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
        let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
        address(node.trim().trim_matches('"'))
    }
}

/// Whether `trusted_proxies` was forgotten: then everybody seems to come from one private address, the proxy's, and one
/// ban is a ban of all.
#[derive(Default)]
struct Hint {
    first: OnceLock<IpAddr>,
    alike: AtomicU32,
}

/// So many requests, all of one private address and all with the header of a proxy, make the case.
const ENOUGH: u32 = 100;
const DISMISSED: u32 = u32::MAX;

impl Hint {
    fn note(&self, peer: IpAddr, bears_header: impl FnOnce() -> bool) {
        if self.alike.load(Ordering::Relaxed) >= ENOUGH {
            return;
        }
        let private = match peer {
            IpAddr::V4(v4) => v4.is_private() || v4.is_loopback(),
            IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback(),
        };
        if !private || *self.first.get_or_init(|| peer) != peer || !bears_header() {
            self.alike.store(DISMISSED, Ordering::Relaxed);
        } else if self.alike.fetch_add(1, Ordering::Relaxed) + 1 == ENOUGH {
            log::warn!(
                "Every visitor seems to come from {peer}, as behind a proxy that is not trusted. If that is your proxy, add it to `crowdsec.trusted_proxies`; until then one ban is a ban of everybody."
            );
        }
    }
}

/// Only Rocket's local client has no peer: a test on this very machine.
fn peer(request: &Request<'_>) -> IpAddr {
    request.remote().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |remote| remote.ip().to_canonical())
}

/// The non-empty elements of a list, the last one first. Quotes are matched from the right as well: a quote that a
/// stranger left open on the left must not swallow what a proxy wrote after it.
fn from_the_right(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let comma = text.bytes().enumerate().rev().find(|(_, byte)| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        });
        let (left, element) = match comma {
            Some((at, _)) => (Some(&text[..at]), &text[at + 1..]),
            None => (None, text),
        };
        rest = left;
        Some(element.trim())
    })
    .filter(|element| !element.is_empty())
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(header: &str, values: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|net| net.parse().unwrap());
        let client_ip = ClientIp { trusted: trusted.into(), header: header.into(), ..Default::default() };
        client_ip.behind("10.0.0.1".parse().unwrap(), values).to_string()
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
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ] {
            assert_eq!(behind("X-Forwarded-For", values), visitor, "{values:?}");
        }
    }

    #[test]
    fn a_forgotten_proxy_is_noticed_when_all_requests_look_alike() {
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        let noticed = |requests: &[(IpAddr, bool)]| {
            let hint = Hint::default();
            requests.iter().for_each(|(peer, header)| hint.note(*peer, || *header));
            hint.alike.load(Ordering::Relaxed) == ENOUGH
        };
        let alike = vec![(proxy, true); ENOUGH as usize];
        assert!(noticed(&alike));
        assert!(!noticed(&alike[1..]));
        for (other, header) in [("10.0.0.2", true), ("203.0.113.1", true), ("10.0.0.1", false)] {
            let other = (other.parse().unwrap(), header);
            assert!(!noticed(&[&alike[..50], &[other], &alike].concat()), "{other:?}");
        }
    }

    #[test]
    fn an_unreadable_element_ends_the_walk_at_the_last_proxy() {
        for values in [
            &["192.0.2.1, unknown"][..],
            &["192.0.2.1, 10.0.0.2x"],
            &[],
            &[""],
            &["192.0.2.1 10.0.0.2"],
            &["192.0.2.01"],
        ] {
            assert_eq!(behind("X-Forwarded-For", values), "10.0.0.1", "{values:?}");
        }
        assert_eq!(behind("X-Forwarded-For", &["192.0.2.1, junk, 10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_says() {
        for (value, visitor) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=\"[2001:db8::1]:4711\";proto=https", "2001:db8::1"),
            ("for=203.0.113.9, for=192.0.2.1;by=10.0.0.2;host=a", "192.0.2.1"),
            ("for=192.0.2.1, for=_hidden", "10.0.0.1"),
            ("for=192.0.2.1, for=unknown", "10.0.0.1"),
            ("by=192.0.2.1", "10.0.0.1"),
            // A stranger's open quote, and a comma in quotes.
            ("for=\"x, for=192.0.2.1", "192.0.2.1"),
            ("for=192.0.2.1;host=\"a,b\"", "192.0.2.1"),
        ] {
            assert_eq!(behind("Forwarded", &[value]), visitor, "{value:?}");
        }
    }
}
