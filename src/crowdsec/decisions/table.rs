//! How do decisions lie in memory, and which of them are about an address?

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::{iter, mem};

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;

use super::Ticks;
use super::decision::Key;
use super::held::{Held, LAST, MOST_ON_ONE_VALUE};
use super::source::Sources;
use super::value::{Account, Value, single};

/// Decisions by value. Those on one value form a chain through `held`; the maps tell the index where it begins. Single
/// addresses have maps of their own: in the trie each would take more memory, and more steps to find.
#[derive(Default)]
pub struct Table {
    v4: HashMap<Ipv4Addr, u32>,
    v6: HashMap<Ipv6Addr, u32>,
    networks: JointPrefixMap<IpNet, u32>,
    /// Countries and autonomous systems.
    pub regions: HashMap<Value, u32>,
    accounts: HashMap<Arc<Account>, u32>,
    held: Vec<Held>,
    /// Indices in `held` that are free again.
    free: Vec<u32>,
    pub sources: Sources,
}

/// The result of putting a decision in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Put {
    Added,
    /// It has replaced the decision with the same key.
    Renewed,
    /// The value has `MOST_ON_ONE_VALUE` decisions already: the least was left out, the new one or a held one.
    LeftOut,
}

impl Table {
    pub fn len(&self) -> usize {
        self.held.len() - self.free.len()
    }

    /// Shows all decisions on an address and on the networks around it. The address has to be canonical: not IPv4 mapped
    /// into IPv6. Every request calls this: an iterator in place of `show` would cost it 1 % more instructions.
    pub fn against<'a>(&'a self, address: IpAddr, mut show: impl FnMut(Value, &'a Held)) {
        // The operator's own table is often empty.
        if self.held.is_empty() {
            return;
        }
        for (network, first) in self.networks.cover(&address.into()) {
            self.chain(*first).for_each(|held| show(Value::Network(network), held));
        }
        let single = Value::Network(address.into());
        self.on(&single).for_each(|held| show(single.clone(), held));
    }

    /// All decisions on just this value.
    pub fn on(&self, value: &Value) -> impl Iterator<Item = &Held> {
        self.chain(self.first(value))
    }

    pub fn get(&self, value: &Value, key: Key) -> Option<&Held> {
        self.on(value).find(|held| held.key == key)
    }

    /// Whether a decision like this would be left out: `MOST_ON_ONE_VALUE` decisions on this value rank no lower.
    pub fn leaves_out(&self, value: &Value, like: &Held, now: Ticks) -> bool {
        self.on(value).filter(|held| held.rank(now) >= like.rank(now)).count() >= MOST_ON_ONE_VALUE
    }

    pub fn iter(&self) -> impl Iterator<Item = (Value, &Held)> {
        let v4 = self.v4.iter().map(|(address, first)| (Value::Network(IpAddr::V4(*address).into()), first));
        let v6 = self.v6.iter().map(|(address, first)| (Value::Network(IpAddr::V6(*address).into()), first));
        let networks = self.networks.iter().map(|(network, first)| (Value::Network(network), first));
        let regions = self.regions.iter().map(|(region, first)| (region.clone(), first));
        let accounts = self.accounts.iter().map(|(account, first)| (Value::Account(account.clone()), first));
        let all = v4.chain(v6).chain(networks).chain(regions).chain(accounts);
        all.flat_map(|(value, first)| self.chain(*first).map(move |held| (value.clone(), held)))
    }

    /// Adds a decision, or renews the one with its key.
    pub fn put(&mut self, value: &Value, held: Held, now: Ticks) -> Put {
        let first = self.first(value);
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
        let held = Held { source: self.sources.add(held.source, value), next: first, ..held };
        let place = self.free.pop().unwrap_or(self.held.len() as u32);
        match self.held.get_mut(place as usize) {
            Some(free) => *free = held,
            None => self.held.push(held),
        }
        self.set_first(value, place);
        Put::Added
    }

    /// Puts a decision in the place of another one on the same value.
    fn replace(&mut self, place: usize, value: &Value, new: Held) {
        let (source, next) = (self.sources.add(new.source, value), self.held[place].next);
        let before = mem::replace(&mut self.held[place], Held { source, next, ..new });
        self.sources.remove(&before.source, value);
    }

    pub fn remove(&mut self, value: &Value, key: Key) -> Option<Held> {
        let first = self.first(value);
        let place = self.places(first).find(|place| self.held[*place].key == key)?;
        let before = self.places(first).find(|before| self.held[*before].next == place as u32);
        let removed = self.held[place].clone();
        match before {
            Some(before) => self.held[before].next = removed.next,
            None => self.set_first(value, removed.next),
        }
        self.sources.remove(&removed.source, value);
        self.free.push(place as u32);
        Some(removed)
    }

    /// Reserves 1/16 more, so that deltas seldom grow a map under the lock: growing a million takes 50 ms.
    pub fn make_room(&mut self) {
        self.v4.reserve(self.v4.len() / 16);
        self.v6.reserve(self.v6.len() / 16);
    }

    /// The index where a value's chain begins; `LAST` for a value without decisions.
    fn first(&self, value: &Value) -> u32 {
        let first = match value {
            Value::Network(net) => match single(*net) {
                Some(IpAddr::V4(address)) => self.v4.get(&address),
                Some(IpAddr::V6(address)) => self.v6.get(&address),
                None => self.networks.get(net),
            },
            Value::Country(_) | Value::As(_) => self.regions.get(value),
            Value::Account(account) => self.accounts.get(account),
        };
        first.copied().unwrap_or(LAST)
    }

    fn set_first(&mut self, value: &Value, first: u32) {
        match value {
            Value::Network(net) => match (single(*net), first) {
                (Some(IpAddr::V4(address)), first) => set(&mut self.v4, address, first),
                (Some(IpAddr::V6(address)), first) => set(&mut self.v6, address, first),
                (None, LAST) => _ = self.networks.remove(net),
                (None, first) => _ = self.networks.insert(*net, first),
            },
            Value::Country(_) | Value::As(_) => set(&mut self.regions, value.clone(), first),
            Value::Account(account) => set(&mut self.accounts, account.clone(), first),
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
