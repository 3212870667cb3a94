//! How do decisions lie in memory, and which of them are about an address?

use std::collections::HashMap;
use std::hash::Hash;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use super::decision::Key;
use super::held::{Held, LAST, MOST_ON_ONE_VALUE};
use super::source::{Source, Sources};
use super::value::{Country, Own, Value, single};
use super::{NEVER, Remediation, Standing, Ticks, left};

/// Decisions by what they stand against. Those on one value form a chain through `held`, which begins at the place that the
/// maps tell.
#[derive(Clone, Default)]
pub struct Table {
    v4: HashMap<Ipv4Addr, u32>,
    v6: HashMap<Ipv6Addr, u32>,
    networks: JointPrefixMap<IpNet, u32>,
    pub countries: HashMap<Country, u32>,
    pub systems: HashMap<u32, u32>,
    own: HashMap<Arc<Own>, u32>,
    held: Vec<Held>,
    /// Places in `held` that hold nothing any more.
    free: Vec<u32>,
    pub sources: Sources,
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

    /// A decision for those who judge by it, unless it has ended.
    pub fn standing(&self, value: Value, held: &Held, now: Ticks) -> Option<Standing> {
        let (id, expires_in) = match held.ends {
            ends if ends <= now => return None,
            NEVER => (None, None),
            ends => (held.key.id(), Some(left(ends, now))),
        };
        let (remediation, source) = (held.remediation, self.source(held).clone());
        Some(Standing { remediation, id, value, source, expires_in })
    }

    /// Shows all decisions on an address and on the networks around it. The address has to be canonical: not IPv4 mapped
    /// into IPv6.
    pub fn against<'a>(&'a self, address: IpAddr, mut show: impl FnMut(Value, &'a Held)) {
        // Many applications have no decision on a network at all, or none of the operator's own.
        if !self.networks.is_empty() {
            for (network, first) in self.networks.cover(&address.into()) {
                self.chain(*first).for_each(|held| show(network.into(), held));
            }
        }
        let single = match address {
            IpAddr::V4(address) => self.v4.get(&address),
            IpAddr::V6(address) => self.v6.get(&address),
        };
        if let Some(first) = single {
            self.chain(*first).for_each(|held| show(Value::Network(address.into()), held));
        }
    }

    /// All decisions on just this value.
    pub fn on(&self, value: &Value) -> impl Iterator<Item = &Held> {
        self.chain(self.first(value).unwrap_or(LAST))
    }

    pub fn get(&self, value: &Value, key: Key) -> Option<&Held> {
        self.on(value).find(|held| held.key == key)
    }

    /// Whether this value has so many decisions that one like this would be left out.
    pub fn leaves_out(&self, value: &Value, remediation: Remediation, ends: Ticks, now: Ticks) -> bool {
        let greater = self.on(value).filter(|held| held.rank(now) >= (ends > now, remediation, ends));
        greater.count() >= MOST_ON_ONE_VALUE
    }

    pub fn iter(&self) -> impl Iterator<Item = (Value, &Held)> {
        let v4 = self.v4.iter().map(|(address, first)| (IpNet::from(IpAddr::V4(*address)).into(), first));
        let v6 = self.v6.iter().map(|(address, first)| (IpNet::from(IpAddr::V6(*address)).into(), first));
        let networks = self.networks.iter().map(|(network, first)| (network.into(), first));
        let countries = self.countries.iter().map(|(country, first)| (Value::Country(*country), first));
        let systems = self.systems.iter().map(|(number, first)| (Value::As(*number), first));
        let own = self.own.iter().map(|(own, first)| (Value::Own(own.clone()), first));
        let all = v4.chain(v6).chain(networks).chain(countries).chain(systems).chain(own);
        all.flat_map(|(value, first)| self.chain(*first).map(move |held| (value.clone(), held)))
    }

    /// Adds a decision, or renews the one with its key.
    pub fn put(&mut self, value: &Value, held: Held, source: Arc<Source>, now: Ticks) -> Put {
        let held = Held { source: self.sources.place_of(source), ..held };
        let first = self.first(value).unwrap_or(LAST);
        let known = self.places(first).find(|place| self.held[*place].key == held.key);
        if let Some(place) = known {
            self.replace(place, value, held);
            return Put::Renewed;
        }
        if self.places(first).count() >= MOST_ON_ONE_VALUE {
            let least = self.places(first).min_by_key(|place| self.held[*place].rank(now));
            if let Some(least) = least.filter(|least| self.held[*least].rank(now) < held.rank(now)) {
                self.replace(least, value, held);
            }
            return Put::LeftOut;
        }
        *self.sources.count_mut(held.source, value) += 1;
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

    /// Puts a decision in the place of another one on the same value.
    fn replace(&mut self, place: usize, value: &Value, new: Held) {
        let Held { source, next, .. } = self.held[place];
        *self.sources.count_mut(source, value) -= 1;
        *self.sources.count_mut(new.source, value) += 1;
        self.held[place] = Held { next, ..new };
    }

    pub fn remove(&mut self, value: &Value, key: Key) -> Option<Held> {
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
        *self.sources.count_mut(removed.source, value) -= 1;
        self.free.push(place);
        Some(removed)
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

    fn first(&self, value: &Value) -> Option<u32> {
        let first = match value {
            Value::Network(net) => match single(*net) {
                Some(IpAddr::V4(address)) => self.v4.get(&address),
                Some(IpAddr::V6(address)) => self.v6.get(&address),
                None => self.networks.get(net),
            },
            Value::Country(country) => self.countries.get(country),
            Value::As(number) => self.systems.get(number),
            Value::Own(own) => self.own.get(own),
        };
        first.copied()
    }

    fn set_first(&mut self, value: &Value, first: u32) {
        match value {
            Value::Network(net) => match (single(*net), first) {
                (Some(IpAddr::V4(address)), first) => set(&mut self.v4, address, first),
                (Some(IpAddr::V6(address)), first) => set(&mut self.v6, address, first),
                (None, LAST) => _ = self.networks.remove(net),
                (None, first) => _ = self.networks.insert(*net, first),
            },
            Value::Country(country) => set(&mut self.countries, *country, first),
            Value::As(number) => set(&mut self.systems, *number, first),
            Value::Own(own) => set(&mut self.own, own.clone(), first),
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

fn set<K: Eq + Hash>(map: &mut HashMap<K, u32>, key: K, first: u32) {
    match first {
        LAST => _ = map.remove(&key),
        first => _ = map.insert(key, first),
    }
}
