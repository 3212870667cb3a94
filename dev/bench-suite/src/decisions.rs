//! What does CrowdSec know in the benchmarks? As many decisions as a benchmark wants, the same in every run.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The one banned visitor that can come by loopback; it is part of every list that is not empty.
pub const BANNED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

const SCENARIOS: [&str; 10] = [
    "crowdsecurity/http-probing",
    "crowdsecurity/http-crawl-non_statics",
    "crowdsecurity/http-bad-user-agent",
    "crowdsecurity/http-path-traversal-probing",
    "crowdsecurity/http-sensitive-files",
    "crowdsecurity/ssh-bf",
    "crowdsecurity/ssh-slow-bf",
    "crowdsecurity/CVE-2021-41773",
    "crowdsecurity/telnet-bf",
    "crowdsecurity/smb-bf",
];

#[derive(Clone, Copy)]
pub struct Decision {
    pub id: u64,
    pub address: IpAddr,
    /// A single address has 32 or 128 bits.
    pub prefix: u8,
    pub seconds: u64,
}

/// Nine of ten decisions are on IPv4. Two of a hundred are on networks, of every length from /9 (IPv6: /16) on. Only the
/// first decision is on a loopback or documentation address, so that other visitors from there are admitted.
pub fn many(count: u64) -> impl Iterator<Item = Decision> {
    let mut chance = Chance(count);
    // The IPv4 networks of one length cover at most a hundredth of all addresses; further networks get a longer prefix.
    let mut networks = [0_u64; 33];
    (1..=count).map(move |id| {
        let seconds = 86_400 + chance.below(6 * 86_400);
        let network = chance.below(50) == 0;
        let (address, prefix) = if id == 1 {
            (BANNED, 32)
        } else if chance.below(10) == 0 {
            (IpAddr::V6(chance.v6()), if network { 16 + chance.below(112) as u8 } else { 128 })
        } else if network {
            let wanted = 9 + chance.below(23) as usize;
            let prefix = (wanted..32).find(|length| networks[*length] < (1 << length) / 100).unwrap_or(31);
            networks[prefix] += 1;
            (IpAddr::V4(chance.v4()), prefix as u8)
        } else {
            (IpAddr::V4(chance.v4()), 32)
        };
        Decision { id, address, prefix, seconds }
    })
}

impl Decision {
    pub fn network(&self) -> IpNet {
        IpNet::new(self.address, self.prefix).expect("a length that fits").trunc()
    }

    fn is_single(&self) -> bool {
        self.prefix == if self.address.is_ipv4() { 32 } else { 128 }
    }

    pub fn value(&self) -> String {
        if self.is_single() { self.address.to_string() } else { self.network().to_string() }
    }

    pub fn scope(&self) -> &'static str {
        if self.is_single() { "Ip" } else { "Range" }
    }

    pub fn origin(&self) -> &'static str {
        ["CAPI", "CAPI", "CAPI", "lists", "crowdsec"][(self.id % 5) as usize]
    }

    pub fn scenario(&self) -> &'static str {
        SCENARIOS[(self.id % 10) as usize]
    }

    /// Writes the decision as LAPI does, byte for byte.
    fn write(&self, json: &mut String) {
        let Self { id, seconds, .. } = self;
        let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let (origin, scenario, scope, value) = (self.origin(), self.scenario(), self.scope(), self.value());
        let written = write!(
            json,
            r#"{{"duration":"{hours}h{minutes}m{rest}.{id:09}s","id":{id},"origin":"{origin}","scenario":"{scenario}","scope":"{scope}","type":"ban","value":"{value}"}}"#
        );
        written.expect("a string takes everything");
    }
}

/// LAPI's answer that names these decisions as new.
pub fn answer(new: impl IntoIterator<Item = Decision>) -> Vec<u8> {
    format!(r#"{{"deleted":null,"new":{}}}"#, list(new)).into_bytes()
}

/// LAPI's answer that names these decisions as ended.
pub fn answer_that_ends(deleted: impl IntoIterator<Item = Decision>) -> Vec<u8> {
    format!(r#"{{"deleted":{},"new":null}}"#, list(deleted)).into_bytes()
}

/// LAPI's answer with a hundred decisions against countries, from FA to JT.
pub fn on_countries() -> Vec<u8> {
    let codes = (b'F'..=b'J').flat_map(|first| (b'A'..=b'T').map(move |second| [first as char, second as char]));
    let decisions: Vec<String> = codes
        .zip(1..)
        .map(|([first, second], id)| {
            format!(
                r#"{{"duration":"24h0m0s","id":{id},"origin":"cscli","scenario":"manual","scope":"Country","type":"ban","value":"{first}{second}"}}"#
            )
        })
        .collect();
    format!(r#"{{"deleted":null,"new":[{}]}}"#, decisions.join(",")).into_bytes()
}

fn list(decisions: impl IntoIterator<Item = Decision>) -> String {
    let mut json = String::from("[");
    for (place, decision) in decisions.into_iter().enumerate() {
        json.push_str(if place > 0 { "," } else { "" });
        decision.write(&mut json);
    }
    json + "]"
}

/// SplitMix64: the same numbers in every run.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Between 16.0.0.0 and 112.0.0.0.
    pub fn v4(&mut self) -> Ipv4Addr {
        Ipv4Addr::from((16 << 24) + self.below(96 << 24) as u32)
    }

    /// In 2400::/8.
    pub fn v6(&mut self) -> Ipv6Addr {
        let bits = u128::from(self.next()) << 64 | u128::from(self.next());
        Ipv6Addr::from(0x24 << 120 | bits >> 8)
    }
}
