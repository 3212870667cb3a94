//! How do entries lie in memory, and how is one found?

use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::crowdsec::decision::Remediation;

/// How many entries a clean-up looks at under one lock.
const SLICE: usize = 1024;

/// All of a decision but its address, kept small: with it 24 bytes for IPv4, 40 for IPv6.
#[derive(Clone, Copy)]
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

/// `Fields` beside their key, laid flat: nested, each entry would carry 8 bytes of padding.
#[derive(Clone, Copy)]
pub struct Entry<K> {
    pub key: K,
    pub id: u64,
    pub expires: u32,
    pub source: u32,
    pub epoch: u16,
    pub remediation: Remediation,
}

impl<K> Entry<K> {
    pub fn new(key: K, fields: Fields) -> Self {
        let Fields { id, expires, source, epoch, remediation } = fields;
        Self { key, id, expires, source, epoch, remediation }
    }

    pub fn fields(&self) -> Fields {
        let Self { id, expires, source, epoch, remediation, .. } = *self;
        Fields { id, expires, source, epoch, remediation }
    }
}

/// Entries by key, several to a key. The index holds places in the list of entries, so that what a growing hash table
/// leaves empty costs 5 bytes a place and not a whole entry's.
pub struct Table<K> {
    index: HashTable<u32>,
    pub entries: Vec<Entry<K>>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { index: HashTable::new(), entries: Vec::new() }
    }
}

impl<K: Copy + Eq + Hash> Table<K> {
    pub fn at(&self, hash: u64, key: K) -> impl Iterator<Item = &Entry<K>> {
        self.index.iter_hash(hash).map(|place| &self.entries[*place as usize]).filter(move |entry| entry.key == key)
    }

    pub fn find(&self, hash: u64, key: K, same: impl Fn(Fields) -> bool) -> Option<usize> {
        let found = |place: &u32| {
            let entry = &self.entries[*place as usize];
            entry.key == key && same(entry.fields())
        };
        self.index.find(hash, found).map(|place| *place as usize)
    }

    pub fn put(
        &mut self,
        hasher: &DefaultHashBuilder,
        hash: u64,
        entry: Entry<K>,
        same: impl Fn(Fields) -> bool,
    ) -> Option<Fields> {
        if let Some(place) = self.find(hash, entry.key, same) {
            return Some(std::mem::replace(&mut self.entries[place], entry).fields());
        }
        let place = self.entries.len() as u32;
        self.entries.push(entry);
        self.index.insert_unique(hash, place, |place| hasher.hash_one(self.entries[*place as usize].key));
        None
    }

    pub fn remove(
        &mut self,
        hasher: &DefaultHashBuilder,
        hash: u64,
        key: K,
        same: impl Fn(Fields) -> bool,
    ) -> Option<Fields> {
        self.find(hash, key, same).map(|place| self.remove_at(hasher, place).fields())
    }

    /// Fills the gap with the last entry.
    pub fn remove_at(&mut self, hasher: &DefaultHashBuilder, place: usize) -> Entry<K> {
        let last = self.entries.len() - 1;
        let hash = hasher.hash_one(self.entries[place].key);
        if let Ok(found) = self.index.find_entry(hash, |p| *p as usize == place) {
            found.remove();
        }
        let moved = hasher.hash_one(self.entries[last].key);
        if let Some(p) = self.index.find_mut(moved, |p| *p as usize == last) {
            *p = place as u32;
        }
        self.entries.swap_remove(place)
    }

    /// Looks at one slice, from `end` downwards, where a removal only moves entries that were looked at already.
    /// Gives where the next slice ends, `None` after the last one.
    pub fn retain_slice(
        &mut self,
        hasher: &DefaultHashBuilder,
        end: usize,
        keep: &impl Fn(Fields) -> bool,
        mut gone: impl FnMut(Entry<K>),
    ) -> Option<usize> {
        let end = end.min(self.entries.len());
        let start = end.saturating_sub(SLICE);
        for place in (start..end).rev() {
            if !keep(self.entries[place].fields()) {
                gone(self.remove_at(hasher, place));
            }
        }
        (start > 0).then_some(start)
    }
}

pub fn in_slices(mut slice: impl FnMut(usize) -> Option<usize>) {
    let mut next = Some(usize::MAX);
    while let Some(end) = next {
        next = slice(end);
    }
}
