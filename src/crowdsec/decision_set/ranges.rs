//! Which networks hold an address?

use std::hash::BuildHasher;
use std::net::IpAddr;

use hashbrown::DefaultHashBuilder;
use ipnet::IpNet;

use super::table::{Entry, Fields, Table};

/// The networks, and how many there are of each prefix length: a look-up asks for the lengths that occur.
pub struct Ranges {
    pub table: Table<IpNet>,
    v4: [u32; 33],
    v6: [u32; 129],
}

impl Default for Ranges {
    fn default() -> Self {
        Self { table: Table::default(), v4: [0; 33], v6: [0; 129] }
    }
}

impl Ranges {
    /// Every network that holds the address and whose length occurs.
    pub fn around(&self, address: IpAddr) -> impl Iterator<Item = IpNet> {
        let lengths = if address.is_ipv4() { self.v4.as_slice() } else { self.v6.as_slice() };
        let occurring = lengths.iter().enumerate().filter(|(_, count)| **count > 0);
        occurring.filter_map(move |(length, _)| Some(IpNet::new(address, length as u8).ok()?.trunc()))
    }

    pub fn put(
        &mut self,
        hasher: &DefaultHashBuilder,
        entry: Entry<IpNet>,
        same: impl Fn(Fields) -> bool,
    ) -> Option<Fields> {
        let replaced = self.table.put(hasher, hasher.hash_one(entry.key), entry, same);
        *length(&mut self.v4, &mut self.v6, entry.key) += u32::from(replaced.is_none());
        replaced
    }

    pub fn remove(&mut self, hasher: &DefaultHashBuilder, net: IpNet, same: impl Fn(Fields) -> bool) -> Option<Fields> {
        let removed = self.table.remove(hasher, hasher.hash_one(net), net, same);
        *length(&mut self.v4, &mut self.v6, net) -= u32::from(removed.is_some());
        removed
    }

    pub fn retain_slice(
        &mut self,
        hasher: &DefaultHashBuilder,
        end: usize,
        keep: &impl Fn(Fields) -> bool,
        mut gone: impl FnMut(u32),
    ) -> Option<usize> {
        let Self { table, v4, v6 } = self;
        table.retain_slice(hasher, end, keep, |entry| {
            *length(v4, v6, entry.key) -= 1;
            gone(entry.source);
        })
    }
}

fn length<'a>(v4: &'a mut [u32; 33], v6: &'a mut [u32; 129], net: IpNet) -> &'a mut u32 {
    let length = usize::from(net.prefix_len());
    if net.addr().is_ipv4() { &mut v4[length] } else { &mut v6[length] }
}
