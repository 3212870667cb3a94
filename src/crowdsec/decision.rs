//! What does CrowdSec say? Decisions, remediations, addresses and durations.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

/// What is to be done with a visitor, ordered by severity: of all that stands against an address, the greatest counts.
///
/// `Allow` stands above all because only the operator can say it: no decision of LAPI's is ever read as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remediation {
    Captcha,
    Ban,
    Allow,
}

impl Remediation {
    /// Reads a decision's `type`. LAPI passes types through as somebody typed them, so case says nothing.
    pub fn from_type(kind: &str) -> Option<Self> {
        [Self::Captcha, Self::Ban, Self::Allow].into_iter().find(|r| kind.eq_ignore_ascii_case(r.as_str()))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Captcha => "captcha",
            Self::Ban => "ban",
            Self::Allow => "allow",
        }
    }
}

impl fmt::Display for Remediation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One decision as LAPI sends it, its value and duration understood.
///
/// We decide by the value alone: a decision of scope `Ip` may hold a CIDR, one of scope `Range` a single address.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// LAPI's row number. `None` where a LAPI sends none that can serve as a key.
    pub id: Option<u64>,
    pub origin: String,
    pub scenario: String,
    pub scope: String,
    /// `type` on the wire: `ban`, `captcha`, or any word of the operator's.
    pub kind: String,
    pub value: IpNet,
    /// What is left of it. Zero for one that has ended, as in `deleted`.
    pub duration: Duration,
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

#[cfg(test)]
mod properties;
