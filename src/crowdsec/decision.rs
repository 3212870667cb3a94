//! What does CrowdSec say? Decisions, remediations and addresses, read from LAPI's JSON.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufReader, Read};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use serde::de::{self, DeserializeSeed};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

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

/// Where the entries of an answer go while it is still being read.
pub trait Receive {
    fn added(&mut self, decision: Decision);
    fn deleted(&mut self, decision: Decision);
    /// An entry that says nothing to us: it costs itself, never the answer around it.
    fn unreadable(&mut self, reason: String);
}

/// Reads `{"new": […], "deleted": […]}` entry by entry, never holding more than one of them.
///
/// LAPI sends the two lists in either order, and `null` for an empty one.
pub fn read_answer(answer: impl Read, receiver: &mut impl Receive) -> serde_json::Result<()> {
    let left = Cell::new(LARGEST_ENTRY);
    let answer = BufReader::new(Bounded { answer, left: &left });
    let mut json = serde_json::Deserializer::from_reader(answer);
    json.deserialize_map(Answer { receiver, left: &left })?;
    json.end()
}

/// The most that is read from the end of one entry to the end of the next. LAPI's are of some hundred bytes; one that
/// never ends would be held as a whole while it is read.
const LARGEST_ENTRY: usize = 1 << 20;

struct Bounded<'a, A> {
    answer: A,
    left: &'a Cell<usize>,
}

impl<A: Read> Read for Bounded<'_, A> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other("one entry is over 1 MiB"));
        }
        let most = buffer.len().min(self.left.get());
        let read = self.answer.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - read);
        Ok(read)
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

/// An entry on the wire. The id is read as any JSON, since only a positive whole number can serve as a key.
#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    id: serde_json::Value,
    origin: String,
    scenario: String,
    scope: String,
    #[serde(rename = "type")]
    kind: String,
    value: String,
    duration: String,
}

/// `Ok(None)` for a scope that is no address (a country, a user name): such decisions are not for us.
fn read_entry(json: &str) -> Result<Option<Decision>, String> {
    let wire: Wire = serde_json::from_str(json).map_err(|e| format!("{e} in {json:.200}"))?;
    if !["ip", "range"].iter().any(|scope| wire.scope.eq_ignore_ascii_case(scope)) {
        return Ok(None);
    }
    Ok(Some(Decision {
        id: wire.id.as_u64().filter(|id| *id > 0),
        value: network(&wire.value).ok_or_else(|| format!("`{:.100}` is no address or network", wire.value))?,
        duration: go_duration(&wire.duration).ok_or_else(|| format!("`{:.100}` is no duration", wire.duration))?,
        origin: wire.origin,
        scenario: wire.scenario,
        scope: wire.scope,
        kind: wire.kind,
    }))
}

struct Answer<'a, R> {
    receiver: &'a mut R,
    left: &'a Cell<usize>,
}

impl<'de, R: Receive> de::Visitor<'de> for Answer<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LAPI's answer, an object with the lists `new` and `deleted`")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut lists = 0;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "new" => map.next_value_seed(List { receiver: self.receiver, hand_over: R::added, left: self.left })?,
                "deleted" => {
                    map.next_value_seed(List { receiver: self.receiver, hand_over: R::deleted, left: self.left })?
                }
                _ => {
                    map.next_value::<de::IgnoredAny>()?;
                    continue;
                }
            }
            lists += 1;
        }
        // An object without either list is some other server's answer. Believed, it would be an empty CrowdSec's,
        // and end every decision.
        if lists == 0 { Err(de::Error::custom("neither `new` nor `deleted` in it")) } else { Ok(()) }
    }
}

struct List<'a, R> {
    receiver: &'a mut R,
    hand_over: fn(&mut R, Decision),
    left: &'a Cell<usize>,
}

impl<'de, R: Receive> DeserializeSeed<'de> for List<'_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, R: Receive> de::Visitor<'de> for List<'_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of decisions, or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(entry) = list.next_element::<Box<RawValue>>()? {
            self.left.set(LARGEST_ENTRY);
            match read_entry(entry.get()) {
                Ok(Some(decision)) => (self.hand_over)(self.receiver, decision),
                Ok(None) => {}
                Err(reason) => self.receiver.unreadable(reason),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod properties;
