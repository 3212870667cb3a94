//! What does CrowdSec say? A decision, and how its address and its duration are written.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::Value;

/// One decision as LAPI sends it, its value and duration understood.
///
/// Of addresses we decide by the value alone: a decision of scope `Ip` may hold a CIDR, one of scope `Range` a single
/// address.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// LAPI's row number, from 1 to `LARGEST_ID`. `None` where a LAPI sends none that can be used.
    pub id: Option<u64>,
    pub origin: String,
    pub scenario: String,
    pub scope: String,
    /// `type` on the wire: `ban`, `captcha`, or any word of the operator's.
    pub kind: String,
    pub value: Value,
    /// What is left of it. Zero for one that has ended, as in `deleted`.
    pub duration: Duration,
}

/// Greater numbers are no ids of LAPI's, which counts rows in 63 bits.
pub const LARGEST_ID: u64 = (1 << 63) - 1;

/// What tells the decisions on one value apart: LAPI's id, or where it sends none that can be used, a hash of scope and
/// type, which is above all ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// For the operator's own decisions, which have a table of their own and are never asked for by key.
    pub fn own(number: usize) -> Self {
        Self(number as u64)
    }

    pub fn id(self) -> Option<u64> {
        (self.0 <= LARGEST_ID).then_some(self.0)
    }
}

impl Decision {
    pub fn key(&self) -> Key {
        Key(self.id.unwrap_or_else(|| {
            let mut hasher = DefaultHasher::new();
            (&self.scope, &self.kind).hash(&mut hasher);
            hasher.finish() | (LARGEST_ID + 1)
        }))
    }
}

/// Reads an address or a network in any spelling into its canonical form: IPv4-mapped IPv6 is IPv4, host bits are
/// masked, a single address is a /32 or /128.
///
/// A network that holds more than the mapped half of IPv6 but is spelled as mapped has no clear meaning: refused.
pub fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    let net = match text.split_once('/') {
        Some((address, prefix)) => IpNet::new(address.parse().ok()?, prefix.parse().ok()?).ok()?,
        None => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let net = match net {
        IpNet::V6(v6) => match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
            (Some(v4), Some(prefix)) => IpNet::V4(Ipv4Net::new(v4, prefix).ok()?),
            (Some(_), None) => return None,
            (None, _) => net,
        },
        IpNet::V4(_) => net,
    };
    Some(net.trunc())
}

/// Reads Go's notation (`3h59m59.9s`, `593.028µs`, `-4.3ms`) into what is left: nothing, when it is negative.
pub fn go_duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0_f64;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" | "μs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[unit..];
        if rest.is_empty() {
            break;
        }
    }
    // Go's own limit is 292 years; whatever is longer is as good as that.
    const LONGEST: f64 = 292.0 * 365.0 * 86_400.0;
    Some(if negative { Duration::ZERO } else { Duration::from_secs_f64(seconds.min(LONGEST)) })
}
