//! How do decisions lie in memory, and which of them are about an address?

use std::collections::HashMap;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use super::decision::Key;
use super::source::{Source, Sources};
use super::{NEVER, Remediation, Ticks};

/// At most this many decisions are held on one address or network. CrowdSec makes a handful; a broken LAPI that sends
/// tens of thousands must not make each look-up and each change walk through all of them.
pub const MOST_ON_ONE_VALUE: usize = 256;

/// One decision in memory, without the address or network that it is about.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub key: Key,
    pub ends: Ticks,
    /// When a confirmed full answer lacked it for the first time; `NEVER` while none did.
    pub missed: Ticks,
    pub remediation: Remediation,
    source: u32,
    /// The place of the next decision on the same value; `LAST` for none.
    next: u32,
}

const LAST: u32 = u32::MAX;

impl Held {
    pub fn new(key: Key, remediation: Remediation, ends: Ticks) -> Self {
        Self { key, ends, missed: NEVER, remediation, source: 0, next: LAST }
    }

    /// The greatest one counts: of what stands the greatest remediation, then the longest to live.
    pub fn rank(&self, now: Ticks) -> (bool, Remediation, Ticks) {
        (self.ends > now, self.remediation, self.ends)
    }
}

/// Decisions by the address or network that they are about. Those on one value form a chain through `held`, which begins
/// at the place that the maps tell.
#[derive(Clone, Default)]
pub struct Table {
    v4: HashMap<Ipv4Addr, u32>,
    v6: HashMap<Ipv6Addr, u32>,
    networks: JointPrefixMap<IpNet, u32>,
    held: Vec<Held>,
    /// Places in `held` that hold nothing any more.
    free: Vec<u32>,
    sources: Sources,
}

/// What became of a decision that was put in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Put {
    Added,
    /// One with the same key was there.
    Renewed,
    /// The value has too many; of all of them the least is left out, be it this one or another.
    LeftOut,
}

impl Table {
    pub fn len(&self) -> usize {
        self.held.len() - self.free.len()
    }

    pub fn source(&self, held: &Held) -> &Arc<Source> {
        self.sources.at(held.source)
    }

    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Shows all decisions on an address and on the networks around it. The address has to be canonical: not IPv4 mapped
    /// into IPv6.
    pub fn against<'a>(&'a self, address: IpAddr, mut show: impl FnMut(IpNet, &'a Held)) {
        let value = IpNet::from(address);
        // Many applications have no decision on a network at all, or none of the operator's own.
        if !self.networks.is_empty() {
            for (network, first) in self.networks.cover(&value) {
                self.chain(*first).for_each(|held| show(network, held));
            }
        }
        if let Some(first) = self.first(value) {
            self.chain(first).for_each(|held| show(value, held));
        }
    }

    pub fn get(&self, value: IpNet, key: Key) -> Option<&Held> {
        self.chain(self.first(value)?).find(|held| held.key == key)
    }

    /// Whether this value has so many decisions that one like this would be left out.
    pub fn leaves_out(&self, value: IpNet, remediation: Remediation, ends: Ticks, now: Ticks) -> bool {
        let Some(first) = self.first(value) else { return false };
        let greater = self.chain(first).filter(|held| held.rank(now) >= (ends > now, remediation, ends));
        greater.count() >= MOST_ON_ONE_VALUE
    }

    pub fn iter(&self) -> impl Iterator<Item = (IpNet, &Held)> {
        let v4 = self.v4.iter().map(|(address, first)| (IpAddr::V4(*address).into(), *first));
        let v6 = self.v6.iter().map(|(address, first)| (IpAddr::V6(*address).into(), *first));
        let networks = self.networks.iter().map(|(network, first)| (network, *first));
        v4.chain(v6).chain(networks).flat_map(|(value, first)| self.chain(first).map(move |held| (value, held)))
    }

    /// Adds a decision, or renews the one with its key.
    pub fn put(&mut self, value: IpNet, held: Held, source: Arc<Source>, now: Ticks) -> Put {
        let held = Held { source: self.sources.place_of(source), ..held };
        let first = self.first(value).unwrap_or(LAST);
        let known = self.places(first).find(|place| self.held[*place].key == held.key);
        if let Some(place) = known {
            self.recount(value, Some(self.held[place]), Some(held));
            self.held[place] = Held { next: self.held[place].next, ..held };
            return Put::Renewed;
        }
        if self.places(first).count() >= MOST_ON_ONE_VALUE {
            let least = self.places(first).min_by_key(|place| self.held[*place].rank(now));
            if let Some(least) = least.filter(|least| self.held[*least].rank(now) < held.rank(now)) {
                self.recount(value, Some(self.held[least]), Some(held));
                self.held[least] = Held { next: self.held[least].next, ..held };
            }
            return Put::LeftOut;
        }
        self.recount(value, None, Some(held));
        let held = Held { next: first, ..held };
        let place = match self.free.pop() {
            Some(place) => {
                self.held[place as usize] = held;
                place
            }
            None => {
                self.held.push(held);
                self.held.len() as u32 - 1
            }
        };
        self.set_first(value, place);
        Put::Added
    }

    pub fn remove(&mut self, value: IpNet, key: Key) -> Option<Held> {
        let (mut before, mut place) = (None, self.first(value)?);
        while self.held[place as usize].key != key {
            before = Some(place);
            place = self.held[place as usize].next;
            if place == LAST {
                return None;
            }
        }
        let removed = self.held[place as usize];
        match before {
            Some(before) => self.held[before as usize].next = removed.next,
            None => self.set_first(value, removed.next),
        }
        self.recount(value, Some(removed), None);
        self.free.push(place);
        Some(removed)
    }

    /// Keeps the sources' numbers right where a decision comes, goes or is replaced.
    fn recount(&mut self, value: IpNet, gone: Option<Held>, new: Option<Held>) {
        if let Some(gone) = gone {
            *self.sources.count(gone.source, value) -= 1;
        }
        if let Some(new) = new {
            *self.sources.count(new.source, value) += 1;
        }
    }

    /// Whether a map would have to grow for this many more, and is so large that it takes milliseconds to lay everything
    /// in it anew.
    pub fn is_too_small_for(&self, more: usize) -> bool {
        let is_too_small = |length: usize, capacity: usize| length > 10_000 && capacity - length < more;
        is_too_small(self.v4.len(), self.v4.capacity()) || is_too_small(self.v6.len(), self.v6.capacity())
    }

    /// The same decisions with room for more.
    pub fn with_room_for(&self, more: usize) -> Self {
        let mut larger = self.clone();
        larger.v4.reserve(more);
        larger.v6.reserve(more);
        larger
    }

    /// Room for a sixteenth more.
    pub fn make_room(&mut self) {
        self.v4.reserve(self.v4.len() / 16);
        self.v6.reserve(self.v6.len() / 16);
    }

    fn first(&self, value: IpNet) -> Option<u32> {
        let first = match single(value) {
            Some(IpAddr::V4(address)) => self.v4.get(&address),
            Some(IpAddr::V6(address)) => self.v6.get(&address),
            None => self.networks.get(&value),
        };
        first.copied()
    }

    fn set_first(&mut self, value: IpNet, first: u32) {
        match (single(value), first) {
            (Some(IpAddr::V4(address)), LAST) => _ = self.v4.remove(&address),
            (Some(IpAddr::V4(address)), first) => _ = self.v4.insert(address, first),
            (Some(IpAddr::V6(address)), LAST) => _ = self.v6.remove(&address),
            (Some(IpAddr::V6(address)), first) => _ = self.v6.insert(address, first),
            (None, LAST) => _ = self.networks.remove(&value),
            (None, first) => _ = self.networks.insert(value, first),
        }
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = &Held> {
        self.places(first).map(|place| &self.held[place])
    }

    fn places(&self, first: u32) -> impl Iterator<Item = usize> {
        let place = |place: u32| (place != LAST).then_some(place as usize);
        iter::successors(place(first), move |at| place(self.held[*at].next))
    }
}

/// The one address of a /32 or /128.
fn single(net: IpNet) -> Option<IpAddr> {
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}
