//! How do entries lie in memory, and how is one found?

use std::hash::{BuildHasher, Hash};

use hashbrown::hash_table::Entry::{Occupied, Vacant};
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::crowdsec::decision::Remediation;

/// All of a decision but its address. Packed, so that an entry takes 24 bytes for IPv4 and 36 for IPv6.
#[derive(Clone, Copy)]
#[repr(C, packed(4))]
pub struct Fields {
    /// LAPI's id; 0 where there is none.
    pub id: u64,
    /// In tenths of a second since the set's start.
    pub expires: u32,
    /// Index into `Sources`.
    pub source: u32,
    /// The full answer that named it last.
    pub epoch: u16,
    pub remediation: Remediation,
}

#[derive(Clone, Copy)]
pub struct Entry<K> {
    pub key: K,
    pub fields: Fields,
}

/// Entries by key, several to a key.
pub struct Table<K> {
    entries: HashTable<Entry<K>>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { entries: HashTable::new() }
    }
}

impl<K: Copy + Eq + Hash> Table<K> {
    pub fn at(&self, hash: u64, key: K) -> impl Iterator<Item = Fields> {
        self.entries.iter_hash(hash).filter(move |entry| entry.key == key).map(|entry| entry.fields)
    }

    /// Has the processor fetch the memory where such an entry lies or would: a writer lets it do so beside look-ups, and
    /// keeps them waiting for what is then at hand only.
    pub fn fetch(&self, hash: u64, key: K) {
        std::hint::black_box(self.at(hash, key).count());
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry<K>> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds an entry, or puts it in the place of the one that `same` recognises, and gives that.
    pub fn put(
        &mut self,
        hasher: &DefaultHashBuilder,
        entry: Entry<K>,
        same: impl Fn(Fields) -> bool,
    ) -> Option<Fields> {
        let is_it = |old: &Entry<K>| old.key == entry.key && same(old.fields);
        match self.entries.entry(hasher.hash_one(entry.key), is_it, |entry| hasher.hash_one(entry.key)) {
            Occupied(mut old) => Some(std::mem::replace(old.get_mut(), entry).fields),
            Vacant(place) => {
                place.insert(entry);
                None
            }
        }
    }

    pub fn remove(&mut self, hasher: &DefaultHashBuilder, key: K, same: impl Fn(Fields) -> bool) -> Option<Fields> {
        let found = self.entries.find_entry(hasher.hash_one(key), |entry| entry.key == key && same(entry.fields));
        found.ok().map(|found| found.remove().0.fields)
    }

    /// Gives memory back where most of it has become empty.
    pub fn retain(&mut self, hasher: &DefaultHashBuilder, mut keep: impl FnMut(Fields) -> bool) {
        self.entries.retain(|entry| keep(entry.fields));
        if self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to_fit(|entry| hasher.hash_one(entry.key));
        }
    }
}
