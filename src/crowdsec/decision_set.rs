//! What stands against an address now? Every decision we know, found by address, each until its own end.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use hashbrown::{DefaultHashBuilder, HashTable};
use ipnet::IpNet;

use super::decision::{Decision, Receive, Remediation};

/// The decisions, shared between one writer (the poller) and every request.
///
/// Single addresses lie in shards and the few ranges in a table of their own, each behind its own lock. A writer holds
/// one lock for one entry, or one slice of a clean-up, so that no look-up waits for a whole answer to be taken over.
/// The locks are std's: none is held across an await, and a look-up holds one for less than a microsecond.
pub struct DecisionSet {
    start: Instant,
    hasher: DefaultHashBuilder,
    shards: Vec<RwLock<Shard>>,
    ranges: RwLock<Ranges>,
    sources: RwLock<Sources>,
    epoch: RwLock<u16>,
}

/// The decision that counts against an address.
#[derive(Clone, Debug)]
pub struct Standing {
    pub remediation: Remediation,
    pub id: Option<u64>,
    pub value: IpNet,
    pub source: Arc<Source>,
    /// `None`: for as long as the operator's configuration says so.
    pub expires_in: Option<Duration>,
}

/// What many decisions have in common; kept once for all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    pub origin: String,
    pub scenario: String,
    pub scope: String,
    pub kind: String,
}

/// How LAPI's types become remediations, settled once, where an answer comes in.
#[derive(Clone, Copy, Debug)]
pub struct Types {
    /// Whether a captcha can be shown at all.
    pub captcha: bool,
    /// What stands in for a captcha that cannot be shown, and for every type we do not know.
    pub fallback: Remediation,
}

impl Types {
    /// `None` for `allow`, which exempts nobody when it comes from LAPI: only the operator's own configuration can.
    fn remediation(self, kind: &str) -> Option<Remediation> {
        match Remediation::from_type(kind) {
            Some(Remediation::Allow) => None,
            Some(Remediation::Ban) => Some(Remediation::Ban),
            Some(Remediation::Captcha) if self.captcha => Some(Remediation::Captcha),
            Some(Remediation::Captcha) | None => Some(self.fallback),
        }
    }
}

impl DecisionSet {
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            hasher: DefaultHashBuilder::default(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            ranges: RwLock::default(),
            sources: RwLock::default(),
            epoch: RwLock::new(0),
        }
    }

    /// The greatest remediation that stands against an address, and of several such the one that stands longest.
    pub fn strongest(&self, address: IpAddr, now: Instant) -> Option<Standing> {
        let now = self.tenths_at(now);
        let mut best = Best { set: self, now, found: None };
        // The decisions are canonical, so the address has to be too: ::ffff:192.0.2.1 is 192.0.2.1.
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let hash = self.hasher.hash_one(v4);
                best.take(read(self.shard(hash)).v4.at(hash, v4), |_| IpNet::from(IpAddr::V4(v4)));
                let ranges = read(&self.ranges);
                for net in ranges.around(IpAddr::V4(v4)) {
                    best.take(ranges.table.at(self.hasher.hash_one(net), net), |entry| entry.key);
                }
            }
            IpAddr::V6(v6) => {
                let hash = self.hasher.hash_one(v6);
                best.take(read(self.shard(hash)).v6.at(hash, v6), |_| IpNet::from(IpAddr::V6(v6)));
                let ranges = read(&self.ranges);
                for net in ranges.around(IpAddr::V6(v6)) {
                    best.take(ranges.table.at(self.hasher.hash_one(net), net), |entry| entry.key);
                }
            }
        }
        best.found.map(|(expires, standing)| Standing { expires_in: self.left(expires, now), ..standing })
    }

    /// How many decisions are held, ended ones that were not swept yet included.
    pub fn len(&self) -> usize {
        let singles: usize = self.shards.iter().map(|shard| read(shard).len()).sum();
        singles + read(&self.ranges).table.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a decision of the operator's own: it never ends, and no answer of LAPI's takes it away.
    pub fn pin(&self, value: IpNet, remediation: Remediation, reason: &str) {
        let source = Source {
            origin: "config".into(),
            scenario: reason.into(),
            scope: "own".into(),
            kind: remediation.to_string(),
        };
        let source = write(&self.sources).intern(source);
        self.put(value, Fields { id: 0, expires: NEVER, source, epoch: PINNED, remediation }, |_| false);
    }

    /// Starts to take over an answer with LAPI's changes since the last one.
    pub fn changes(self: &Arc<Self>, types: Types, now: Instant) -> Takeover {
        Takeover::new(self, types, now, false)
    }

    /// Starts to take over an answer with all that LAPI has.
    pub fn all(self: &Arc<Self>, types: Types, now: Instant) -> Takeover {
        Takeover::new(self, types, now, true)
    }

    /// Drops what has ended. Look-ups never see it anyway: this gives the memory back, while LAPI, which names ended
    /// decisions in its answers, is away.
    pub fn sweep(&self, now: Instant) {
        let now = self.tenths_at(now);
        self.retain(|fields| fields.expires > now);
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        // hashbrown finds its place by the low bits and its tag by the top seven, so a shard goes by bits between.
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    fn tenths_at(&self, now: Instant) -> u32 {
        (now.saturating_duration_since(self.start).as_millis() / 100).min(u128::from(NEVER - 1)) as u32
    }

    /// Rounds up, so that nobody is let go early.
    fn end_of(&self, now: Instant, duration: Duration) -> u32 {
        let end = now.saturating_duration_since(self.start) + duration;
        end.as_millis().div_ceil(100).min(u128::from(NEVER - 1)) as u32
    }

    fn left(&self, expires: u32, now: u32) -> Option<Duration> {
        (expires != NEVER).then(|| Duration::from_millis(u64::from(expires - now) * 100))
    }

    /// Adds a decision, or renews the one that `same` recognises. True if it was there.
    fn put(&self, value: IpNet, fields: Fields, same: impl Fn(Fields) -> bool) -> bool {
        let replaced = match single(value) {
            Some(IpAddr::V4(v4)) => {
                let hash = self.hasher.hash_one(v4);
                write(self.shard(hash)).v4.put(&self.hasher, hash, Entry::new(v4, fields), same)
            }
            Some(IpAddr::V6(v6)) => {
                let hash = self.hasher.hash_one(v6);
                write(self.shard(hash)).v6.put(&self.hasher, hash, Entry::new(v6, fields), same)
            }
            None => write(&self.ranges).put(&self.hasher, Entry::new(value, fields), same),
        };
        // The new entry holds a count of its own, so the old one's goes, whether or not they are the same source.
        if let Some(old) = replaced {
            write(&self.sources).release(old.source);
        }
        replaced.is_some()
    }

    fn remove(&self, value: IpNet, same: impl Fn(Fields) -> bool) -> bool {
        let removed = match single(value) {
            Some(IpAddr::V4(v4)) => {
                let hash = self.hasher.hash_one(v4);
                write(self.shard(hash)).v4.remove(&self.hasher, hash, v4, same)
            }
            Some(IpAddr::V6(v6)) => {
                let hash = self.hasher.hash_one(v6);
                write(self.shard(hash)).v6.remove(&self.hasher, hash, v6, same)
            }
            None => write(&self.ranges).remove(&self.hasher, value, same),
        };
        if let Some(old) = removed {
            write(&self.sources).release(old.source);
        }
        removed.is_some()
    }

    /// Keeps what `keep` says, slice by slice, each under a lock of its own.
    fn retain(&self, keep: impl Fn(Fields) -> bool) -> usize {
        let mut gone = Vec::new();
        for shard in &self.shards {
            in_slices(|end| write(shard).v4.retain_slice(&self.hasher, end, &keep, |entry| gone.push(entry.source)));
            in_slices(|end| write(shard).v6.retain_slice(&self.hasher, end, &keep, |entry| gone.push(entry.source)));
        }
        in_slices(|end| write(&self.ranges).retain_slice(&self.hasher, end, &keep, |source| gone.push(source)));
        for source in &gone {
            write(&self.sources).release(*source);
        }
        gone.len()
    }

    fn count(&self, counts: impl Fn(Fields) -> bool) -> usize {
        let of_shard = |shard: &RwLock<Shard>| {
            let shard = read(shard);
            let v4 = shard.v4.entries.iter().filter(|entry| counts(entry.fields())).count();
            v4 + shard.v6.entries.iter().filter(|entry| counts(entry.fields())).count()
        };
        let singles: usize = self.shards.iter().map(of_shard).sum();
        singles + read(&self.ranges).table.entries.iter().filter(|entry| counts(entry.fields())).count()
    }
}

/// An answer of LAPI's on its way into the set. Dropped before it is complete, it leaves what it added, which is real,
/// and removes nothing that it did not name.
///
/// A full answer is applied in place: what it names is added or renewed at once, and what it did not name goes only
/// when it ended complete and is believed. So a look-up never finds less than what both the old state and the new hold.
pub struct Takeover {
    set: Arc<DecisionSet>,
    types: Types,
    now: Instant,
    full: bool,
    epoch: u16,
    /// Decisions without an id that this answer named as new. Newer LAPIs send `new` first, so a `deleted` of the same
    /// key that follows in the same answer means the decision before this one.
    new_without_id: Vec<(IpNet, String, String)>,
    pub taken: Taken,
}

/// What an answer held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    pub new: usize,
    /// Of the new ones, those that were known already.
    pub renewed: usize,
    pub deleted: usize,
    pub unreadable: usize,
    pub first_unreadable: Option<String>,
    /// Decisions of type `allow`, which exempt nobody.
    pub allows: usize,
}

/// A full answer that would end most of what stands. LAPI 1.7 answers 200 with a short, well-formed list when its
/// database fails in mid-way, so the caller asks again before it believes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Implausible {
    pub would_end: usize,
    pub of: usize,
}

impl Takeover {
    fn new(set: &Arc<DecisionSet>, types: Types, now: Instant, full: bool) -> Self {
        let mut last = write(&set.epoch);
        if full {
            *last = (*last + 1) % PINNED;
        }
        let epoch = *last;
        drop(last);
        Self { set: set.clone(), types, now, full, epoch, new_without_id: Vec::new(), taken: Taken::default() }
    }

    /// The answer ended complete. Of a full one, ends what it did not name, unless that is implausibly much.
    pub fn complete(self) -> Result<Taken, Implausible> {
        if self.full {
            let now = self.set.tenths_at(self.now);
            let epoch = self.epoch;
            let would_end =
                self.set.count(|fields| fields.epoch != epoch && fields.epoch != PINNED && fields.expires > now);
            let of = would_end + self.taken.renewed;
            if of >= 100 && would_end * 2 > of {
                return Err(Implausible { would_end, of });
            }
        }
        Ok(self.complete_and_believed())
    }

    /// The same for an answer that is believed whatever it ends: the second of two that say the same.
    pub fn complete_and_believed(self) -> Taken {
        if self.full {
            let epoch = self.epoch;
            self.set.retain(|fields| fields.epoch == epoch || fields.epoch == PINNED);
        }
        self.taken
    }

    /// Recognises the entry that a decision renews or deletes: by id, or where there is none by scope and type.
    fn same(&self, decision: &Decision) -> impl Fn(Fields) -> bool + use<> {
        let wanted = decision.id.unwrap_or(0);
        // Indexes of the sources with this scope and type; only wanted where no id tells decisions apart.
        let alike = match decision.id {
            Some(_) => Vec::new(),
            None => read(&self.set.sources).alike(&decision.scope, &decision.kind),
        };
        move |fields| fields.epoch != PINNED && fields.id == wanted && (wanted != 0 || alike.contains(&fields.source))
    }
}

impl Receive for Takeover {
    fn new(&mut self, decision: Decision) {
        let Some(remediation) = self.types.remediation(&decision.kind) else {
            self.taken.allows += 1;
            return;
        };
        // One that has ended already (LAPI says `0s`) would only take up room.
        if decision.duration.is_zero() {
            return;
        }
        let same = self.same(&decision);
        let Decision { id, origin, scenario, scope, kind, value, duration } = decision;
        if id.is_none() {
            self.new_without_id.push((value, scope.clone(), kind.clone()));
        }
        let expires = self.set.end_of(self.now, duration);
        let source = write(&self.set.sources).intern(Source { origin, scenario, scope, kind });
        let fields = Fields { id: id.unwrap_or(0), expires, source, epoch: self.epoch, remediation };
        self.taken.new += 1;
        self.taken.renewed += usize::from(self.set.put(value, fields, same));
    }

    fn deleted(&mut self, decision: Decision) {
        // A full answer lists every decision that ever ended; those it does not name as new go at its end anyway.
        if self.full {
            return;
        }
        let named = |(value, scope, kind): &(IpNet, String, String)| {
            decision.value == *value && decision.scope == *scope && decision.kind == *kind
        };
        if decision.id.is_none() && self.new_without_id.iter().any(named) {
            return;
        }
        self.taken.deleted += usize::from(self.set.remove(decision.value, self.same(&decision)));
    }

    fn unreadable(&mut self, reason: String) {
        self.taken.unreadable += 1;
        self.taken.first_unreadable.get_or_insert(reason);
    }
}

/// 64 shards keep the pause of a growing table, and what a writer can make a look-up wait for, far below a millisecond.
const SHARDS: usize = 64;
const NEVER: u32 = u32::MAX;
/// The epoch of the operator's own decisions, which no answer ends.
const PINNED: u16 = u16::MAX;
/// How many entries a clean-up looks at under one lock.
const SLICE: usize = 1024;

/// All of a decision but its address, kept small: with it 24 bytes for IPv4, 40 for IPv6.
#[derive(Clone, Copy)]
struct Fields {
    /// LAPI's id; 0 where there is none.
    id: u64,
    /// In tenths of a second since the set's start.
    expires: u32,
    /// Index into `Sources`.
    source: u32,
    /// The full answer that named it last.
    epoch: u16,
    remediation: Remediation,
}

/// `Fields` beside their key, laid flat: nested, each entry would carry 8 bytes of padding.
#[derive(Clone, Copy)]
struct Entry<K> {
    key: K,
    id: u64,
    expires: u32,
    source: u32,
    epoch: u16,
    remediation: Remediation,
}

impl<K> Entry<K> {
    fn new(key: K, fields: Fields) -> Self {
        let Fields { id, expires, source, epoch, remediation } = fields;
        Self { key, id, expires, source, epoch, remediation }
    }

    fn fields(&self) -> Fields {
        let Self { id, expires, source, epoch, remediation, .. } = *self;
        Fields { id, expires, source, epoch, remediation }
    }
}

#[derive(Default)]
struct Shard {
    v4: Table<Ipv4Addr>,
    v6: Table<Ipv6Addr>,
}

impl Shard {
    fn len(&self) -> usize {
        self.v4.entries.len() + self.v6.entries.len()
    }
}

/// Entries by key, several to a key. The index holds places in the list of entries, so that what a growing hash table
/// leaves empty costs 5 bytes a place and not a whole entry's.
struct Table<K> {
    index: HashTable<u32>,
    entries: Vec<Entry<K>>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { index: HashTable::new(), entries: Vec::new() }
    }
}

impl<K: Copy + Eq + Hash> Table<K> {
    fn at(&self, hash: u64, key: K) -> impl Iterator<Item = &Entry<K>> {
        self.index.iter_hash(hash).map(|place| &self.entries[*place as usize]).filter(move |entry| entry.key == key)
    }

    fn find(&self, hash: u64, key: K, same: impl Fn(Fields) -> bool) -> Option<usize> {
        let found = |place: &u32| {
            let entry = &self.entries[*place as usize];
            entry.key == key && same(entry.fields())
        };
        self.index.find(hash, found).map(|place| *place as usize)
    }

    fn put(
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

    fn remove(
        &mut self,
        hasher: &DefaultHashBuilder,
        hash: u64,
        key: K,
        same: impl Fn(Fields) -> bool,
    ) -> Option<Fields> {
        self.find(hash, key, same).map(|place| self.remove_at(hasher, place).fields())
    }

    /// Fills the gap with the last entry.
    fn remove_at(&mut self, hasher: &DefaultHashBuilder, place: usize) -> Entry<K> {
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
    fn retain_slice(
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

fn in_slices(mut slice: impl FnMut(usize) -> Option<usize>) {
    let mut next = Some(usize::MAX);
    while let Some(end) = next {
        next = slice(end);
    }
}

/// The networks, and how many there are of each prefix length: a look-up asks for the lengths that occur.
struct Ranges {
    table: Table<IpNet>,
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
    fn around(&self, address: IpAddr) -> impl Iterator<Item = IpNet> {
        let lengths = if address.is_ipv4() { self.v4.as_slice() } else { self.v6.as_slice() };
        let occurring = lengths.iter().enumerate().filter(|(_, count)| **count > 0);
        occurring.filter_map(move |(length, _)| Some(IpNet::new(address, length as u8).ok()?.trunc()))
    }

    fn put(
        &mut self,
        hasher: &DefaultHashBuilder,
        entry: Entry<IpNet>,
        same: impl Fn(Fields) -> bool,
    ) -> Option<Fields> {
        let replaced = self.table.put(hasher, hasher.hash_one(entry.key), entry, same);
        *length(&mut self.v4, &mut self.v6, entry.key) += u32::from(replaced.is_none());
        replaced
    }

    fn remove(&mut self, hasher: &DefaultHashBuilder, net: IpNet, same: impl Fn(Fields) -> bool) -> Option<Fields> {
        let removed = self.table.remove(hasher, hasher.hash_one(net), net, same);
        *length(&mut self.v4, &mut self.v6, net) -= u32::from(removed.is_some());
        removed
    }

    fn retain_slice(
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

/// The sources, each with the number of decisions that bear it; one that nobody bears gives its place away.
#[derive(Default)]
struct Sources {
    list: Vec<(Arc<Source>, u32)>,
    places: HashMap<Arc<Source>, u32>,
    free: Vec<u32>,
}

impl Sources {
    fn intern(&mut self, source: Source) -> u32 {
        if let Some(place) = self.places.get(&source) {
            self.list[*place as usize].1 += 1;
            return *place;
        }
        let source = Arc::new(source);
        let place = self.free.pop().unwrap_or(self.list.len() as u32);
        match self.list.get_mut(place as usize) {
            Some(free) => *free = (source.clone(), 1),
            None => self.list.push((source.clone(), 1)),
        }
        self.places.insert(source, place);
        place
    }

    fn release(&mut self, place: u32) {
        let (source, count) = &mut self.list[place as usize];
        *count -= 1;
        if *count == 0 {
            self.places.remove(source);
            self.free.push(place);
        }
    }

    fn alike(&self, scope: &str, kind: &str) -> Vec<u32> {
        let alike = |place: &u32| {
            let source = &self.list[*place as usize].0;
            source.scope == scope && source.kind == kind
        };
        self.places.values().copied().filter(alike).collect()
    }
}

/// The best decision found so far, its source read while the lock of its table is still held: released, the source's
/// place could be another's.
struct Best<'a> {
    set: &'a DecisionSet,
    now: u32,
    found: Option<(u32, Standing)>,
}

impl Best<'_> {
    fn take<'e, K: 'e>(&mut self, entries: impl Iterator<Item = &'e Entry<K>>, value: impl Fn(&Entry<K>) -> IpNet) {
        for entry in entries {
            let Fields { id, expires, source, remediation, .. } = entry.fields();
            let best = self.found.as_ref().map(|(expires, standing)| (standing.remediation, *expires));
            if expires <= self.now || best >= Some((remediation, expires)) {
                continue;
            }
            let source = read(&self.set.sources).list[source as usize].0.clone();
            let id = (id != 0).then_some(id);
            self.found = Some((expires, Standing { remediation, id, value: value(entry), source, expires_in: None }));
        }
    }
}

/// The one address of a /32 or /128.
fn single(net: IpNet) -> Option<IpAddr> {
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// A panic under a lock leaves every entry whole, and refusing to read would take the application down: go on.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
