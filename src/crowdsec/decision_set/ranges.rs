//! Which networks hold an address?

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::sources::{Source, Sources};
use super::table::{Entry, Table};

/// The networks of a table as they lay at one moment, arranged for one question: which of them hold this address?
///
/// Networks never overlap in part, so those that hold an address are the narrowest of them, the one around that, and so
/// on. It is made anew for every change, which networks, being few, can afford.
#[derive(Default)]
pub struct Ranges {
    v4: Family,
    v6: Family,
}

/// The networks of one family. IPv4 stands in the upper bits, so that one way of looking serves both.
#[derive(Default)]
struct Family {
    nets: Vec<Net>,
    /// From this address on, the narrowest network is that one.
    turns: Vec<(u128, Option<u32>)>,
    /// For each value of an address's upper bits, how many turns lie before it, so that few are left to search. There
    /// are about as many values as turns. Empty without networks.
    upper: Vec<u32>,
}

/// A decision on a network.
pub struct Net {
    pub entry: Entry<IpNet>,
    /// Held itself: the place in `Sources` may be another's by now.
    pub source: Arc<Source>,
    /// The next one that holds all of it.
    around: Option<u32>,
}

impl Ranges {
    pub fn new(table: &Table<IpNet>, sources: &Sources) -> Self {
        let (v4, v6) = table.iter().partition(|entry| entry.key.addr().is_ipv4());
        Self { v4: Family::new(v4, sources), v6: Family::new(v6, sources) }
    }

    /// Every decision on a network that holds the address, the narrowest first.
    pub fn around(&self, address: IpAddr) -> impl Iterator<Item = &Net> {
        let family = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let net = |place: Option<u32>| place.map(|place| &family.nets[place as usize]);
        std::iter::successors(net(family.narrowest(bits(address))), move |inner| net(inner.around))
    }
}

impl Family {
    fn new(mut entries: Vec<&Entry<IpNet>>, sources: &Sources) -> Self {
        entries.sort_by_cached_key(|entry| (bits(entry.key.network()), entry.key.prefix_len()));
        let mut family = Self::default();
        // The networks that hold the address we have come to, the narrowest last.
        let mut open = Vec::new();
        for entry in entries {
            let first = bits(entry.key.network());
            family.leave(&mut open, |last| last < first);
            let source = sources.list[entry.fields.source as usize].0.clone();
            family.nets.push(Net { entry: *entry, source, around: open.last().copied() });
            open.push(family.nets.len() as u32 - 1);
            family.turn(first, &open);
        }
        family.leave(&mut open, |_| true);
        if let Some(upper_bits) = family.turns.len().checked_ilog2() {
            let mut before = 0;
            let is_before = |turn: &(u128, _), upper| turn.0 >> (127 - upper_bits) < upper;
            family.upper.extend((0..=2 << upper_bits).map(|upper| {
                before += family.turns[before..].iter().take_while(|turn| is_before(turn, upper)).count();
                before as u32
            }));
        }
        family
    }

    fn leave(&mut self, open: &mut Vec<u32>, has_ended: impl Fn(u128) -> bool) {
        while let Some(last) = open.last().map(|net| last(self.nets[*net as usize].entry.key)).filter(|l| has_ended(*l))
        {
            open.pop();
            // Behind the last address of all nothing comes.
            if let Some(next) = last.checked_add(1) {
                self.turn(next, open);
            }
        }
    }

    fn turn(&mut self, at: u128, open: &[u32]) {
        let narrowest = open.last().copied();
        match self.turns.last_mut() {
            Some((last, one)) if *last == at => *one = narrowest,
            _ => self.turns.push((at, narrowest)),
        }
    }

    fn narrowest(&self, address: u128) -> Option<u32> {
        let upper_bits = self.upper.len().checked_ilog2()?;
        let upper = (address >> (128 - upper_bits)) as usize;
        let (from, to) = (self.upper[upper] as usize, self.upper[upper + 1] as usize);
        let place = from + self.turns[from..to].partition_point(|(at, _)| *at <= address);
        self.turns[place.checked_sub(1)?].1
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The last address of a network.
fn last(net: IpNet) -> u128 {
    bits(net.network()) | u128::MAX.checked_shr(u32::from(net.prefix_len())).unwrap_or(0)
}
