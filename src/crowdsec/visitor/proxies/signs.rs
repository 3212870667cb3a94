//! Which proxy is set up wrongly, and how is it mended? The log tells the operator.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Instant;

use rocket::Request;

use super::{ClientIp, Unnamed, from_the_right};
use crate::crowdsec::reminder::HOUR;

impl ClientIp {
    /// Tells the operator of requests that were refused because they name nobody: at the first one, and once an hour while it
    /// lasts. The line proposes no header of the request: a stranger may have sent one to be chosen.
    pub fn tell_unnamed(&self, proxy: IpAddr, why: Unnamed) {
        let Some(times) = self.unnamed[why as usize].count(1, HOUR, Instant::now()) else { return };
        let header = &self.config.client_ip_header;
        let element = if header.eq_ignore_ascii_case("Forwarded") { "for=" } else { "" };
        let lines = format!(
            "In nginx write `proxy_set_header {header} {element}$remote_addr;`, in HAProxy `http-request set-header {header} \
             {element}%[src]`, or name the header that the proxy sets on every request in `crowdsec.client_ip_header`"
        );
        let (what, remedy) = match why {
            Unnamed::Missing => (
                "does not arrive",
                format!(
                    "If it is missing on every request, your proxy does not set it. {lines}. If it is missing on few, \
                     strangers send bytes that are not UTF-8, to hide: let the proxy set the header, not add to it"
                ),
            ),
            Unnamed::Unreadable => (
                "ends in no address (some proxies write `unknown` or `unix:`)",
                format!("{lines}. An nginx on a unix socket needs `set_real_ip_from unix:;` and `real_ip_header` as well"),
            ),
            Unnamed::OnlyProxies => (
                "names only trusted proxies",
                "If you came from the proxy's own machine, that is why: ask from another one. Else list the proxies alone in \
                 `crowdsec.trusted_proxies`, and no network that visitors come from. A proxy behind another one has to hand on \
                 whom that one names: in nginx write `set_real_ip_from` with the other proxy's address, and `real_ip_header`"
                    .into(),
            ),
            // Nobody has set anything up wrongly.
            Unnamed::Gone => return,
        };
        log::warn!(
            "Your proxy at {proxy} handed on requests that name nobody: {header} {what}. They were refused ({times} so far), \
             since they may be anybody's. {remedy}. Send health checks to /crowdsec/health, which is answered to everybody."
        );
    }

    /// Looks whether `trusted_proxies` was forgotten, in whole or in part: then everybody seems to come from the proxy's
    /// address, and one ban is a ban of everybody. Our own routes are left out, since load balancers probe there, and so are
    /// visitors who have gone. `header` is the header by which the visitor looks like a proxy.
    pub fn look_for_forgotten(&self, request: &Request<'_>, visitor: IpAddr, header: &str) {
        if visitor.is_unspecified() || request.uri().path().starts_with("/crowdsec/") {
            return;
        }
        let Some(times) = self.forgotten.count(FEW, HOUR, Instant::now()) else { return };
        log::warn!(
            "{times} requests so far bore {header}, as a proxy sets it, and came from an address that is no trusted \
             proxy's: the last one from {visitor}. If that is your proxy, every visitor behind it has its address, and one \
             ban is a ban of everybody: add the address to `crowdsec.trusted_proxies`, as in \
             CROWDSEC_TRUSTED_PROXIES={visitor}. If no proxy stands in front of this application, strangers send that \
             header; it is not believed, and there is nothing to do."
        );
    }

    /// The header in which a trusted proxy names this visitor, if they look like a second proxy: their address is private, and
    /// the header names somebody behind them as well.
    pub fn second_proxy(&self, visitor: IpAddr, named: &[Cow<'_, str>]) -> Option<&str> {
        if !is_private(visitor) || self.trusts(visitor) {
            return None;
        }
        let mut elements = named.iter().rev().flat_map(|value| from_the_right(value));
        let found = elements.any(|element| self.address(element) == Some(visitor));
        (found && elements.next().is_some()).then_some(&self.config.client_ip_header)
    }
}

/// The requests before the first warning: a single one may be a stranger's.
const FEW: u64 = 3;

/// Whether only machines of one's own network have such an address.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use crate::crowdsec::visitor::Head;
    use crate::crowdsec::visitor::proxies::tests::client_ip;

    /// The whole head is read, as for a visitor's request.
    #[test]
    fn a_proxy_that_nobody_trusts_is_known_by_what_it_sets() {
        let client = rocket::local::blocking::Client::untracked(rocket::custom(rocket::Config::debug_default()));
        let client = client.expect("a client");
        let sign = |peer: &str, headers: &[(&'static str, &'static str)]| {
            let request = client.get("/").remote(SocketAddr::new(peer.parse().unwrap(), 4711));
            let request = headers
                .iter()
                .fold(request, |request, (name, value)| request.header(rocket::http::Header::new(*name, *value)));
            let (client_ip, request) = (client_ip("CF-Connecting-IP"), request.inner());
            Head::of(request, &client_ip).sign.map(str::to_owned)
        };
        for peer in ["192.0.2.1", "192.168.0.1", "127.0.0.1", "2001:db8::1"] {
            for name in ["X-Forwarded-For", "x-forwarded-proto", "X-REAL-IP", "Forwarded", "CF-Connecting-IP"] {
                let found = sign(peer, &[("Accept", "a/b"), (name, "192.0.2.9")]);
                assert!(found.is_some_and(|found| found.eq_ignore_ascii_case(name)), "{name} from {peer}");
            }
            assert_eq!(sign(peer, &[("Accept", "a/b"), ("Via", "1.1 a"), ("Referer", "/")]), None, "{peer}");
        }
        // Behind a trusted proxy, a private address with somebody behind it is a second proxy's.
        for (value, is_proxy) in [
            ("192.0.2.9, 192.168.0.1", true),
            ("192.0.2.9, fd00::1, 10.0.0.2", true),
            ("unknown, 100.64.0.1", true),
            ("192.168.0.1", false),
            ("192.168.0.1, 10.0.0.2", false),
            ("192.0.2.9, 192.0.2.8", false),
            ("192.0.2.9, 100.128.0.1", false),
            ("192.0.2.9, unknown, 10.0.0.2", false),
            ("192.0.2.9", false),
        ] {
            let found = sign("10.0.0.1", &[("CF-Connecting-IP", value), ("X-Forwarded-For", "192.0.2.9")]);
            assert_eq!(found.is_some(), is_proxy, "{value}");
        }
    }
}
