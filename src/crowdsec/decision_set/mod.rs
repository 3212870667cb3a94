//! What stands against an address now? Every decision we know, found by address, each until its own end.

mod table;
mod ranges;
mod sources;
mod takeover;
#[cfg(test)]
mod tests;

use std::cell::LazyCell;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use hashbrown::DefaultHashBuilder;
use ipnet::IpNet;

use super::decision::Remediation;
use ranges::Ranges;
use sources::Sources;
use table::{Entry, Fields, Table};

pub use sources::Source;
pub use takeover::{Implausible, Taken, Takeover};

/// The decisions, shared between one writer (the poller) and every request.
///
/// Single addresses lie in shards, each behind its own lock. A writer holds one for one entry, or for the clean-up of
/// one shard, so that no look-up waits for a whole answer to be taken over. The few networks lie in a table of the
/// writer's; look-ups have them as `Ranges` beside the addresses of their shard, so that one lock serves for both.
/// The locks are std's: none is held across an await, and a look-up holds one for less than a microsecond.
pub struct DecisionSet {
    start: Instant,
    hasher: DefaultHashBuilder,
    shards: Vec<RwLock<Shard>>,
    networks: RwLock<Networks>,
    sources: RwLock<Sources>,
    epoch: RwLock<u16>,
    /// How often `sweep` was called.
    swept: AtomicUsize,
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
            networks: RwLock::default(),
            sources: RwLock::default(),
            epoch: RwLock::new(0),
            swept: AtomicUsize::new(0),
        }
    }

    /// The greatest remediation that stands against an address, and of several such the one that stands longest. Where
    /// nothing was ever said of it, as of most, the time is not asked for.
    pub fn strongest(&self, address: IpAddr, now: impl FnOnce() -> Instant) -> Option<Standing> {
        let now = LazyCell::new(|| self.tenths_at(now()));
        // The decisions are canonical, so the address has to be too: ::ffff:192.0.2.1 is 192.0.2.1.
        let address = address.to_canonical();
        let stands = |fields: &Fields| fields.expires > *now;
        let rank = |fields: &Fields| (fields.remediation, fields.expires);
        let hash = self.hash(address);
        let shard = read(self.shard(hash));
        let single = match address {
            IpAddr::V4(v4) => shard.v4.at(hash, v4).filter(stands).max_by_key(rank),
            IpAddr::V6(v6) => shard.v6.at(hash, v6).filter(stands).max_by_key(rank),
        };
        let networks = shard.ranges.around(address).filter(|net| stands(&net.entry.fields));
        let (fields, value, source) = match networks.max_by_key(|net| rank(&net.entry.fields)) {
            Some(net) if single.as_ref().map(rank) < Some(rank(&net.entry.fields)) => {
                (net.entry.fields, net.entry.key, net.source.clone())
            }
            // The source is read while the shard's lock is held: once its last entry is gone, its place is another's.
            _ => {
                let single = single?;
                (single, address.into(), read(&self.sources).list[single.source as usize].0.clone())
            }
        };
        let id = (fields.id != 0).then_some(fields.id);
        let expires_in = self.left(fields.expires, *now);
        Some(Standing { remediation: fields.remediation, id, value, source, expires_in })
    }

    /// How many decisions are held, ended ones that were not swept yet included.
    pub fn len(&self) -> usize {
        let singles: usize = self.shards.iter().map(read).map(|shard| shard.v4.len() + shard.v6.len()).sum();
        singles + read(&self.networks).table.len()
    }

    /// Whether any decision bears this origin.
    pub fn has_origin(&self, origin: &str) -> bool {
        read(&self.sources).list.iter().any(|(source, count)| *count > 0 && source.origin == origin)
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
        self.settle();
    }

    /// Starts to take over an answer with LAPI's changes since the last one.
    pub fn changes(self: &Arc<Self>, types: Types, now: Instant) -> Takeover {
        Takeover::new(self, types, now, false)
    }

    /// Starts to take over an answer with all that LAPI has.
    pub fn all(self: &Arc<Self>, types: Types, now: Instant) -> Takeover {
        Takeover::new(self, types, now, true)
    }

    /// Shows every decision of LAPI's that stands, with its id (0 for none), what is left of it, and its source.
    pub fn for_each(&self, now: Instant, mut show: impl FnMut(IpNet, u64, Duration, &Arc<Source>)) {
        let now = self.tenths_at(now);
        self.each(|value, fields| {
            if fields.epoch != PINNED && fields.expires > now {
                let source = read(&self.sources).list[fields.source as usize].0.clone();
                show(value, fields.id, self.left(fields.expires, now).unwrap_or_default(), &source);
            }
        });
    }

    /// Drops what has ended in one part of the set, at each call in the next of its `PARTS`. Look-ups never see it anyway:
    /// this gives the memory back, while LAPI, which names ended decisions in its answers, is away. That is in no hurry,
    /// and looking through a million of them at once takes ten milliseconds of a core.
    pub fn sweep(&self, now: Instant) {
        let (now, part) = (self.tenths_at(now), self.swept.fetch_add(1, Ordering::Relaxed) % PARTS);
        self.retain(part..part + 1, |fields| fields.expires > now);
        self.settle();
    }

    /// Shows look-ups the networks as they are by now, if any has changed.
    fn settle(&self) {
        if !std::mem::take(&mut write(&self.networks).changed) {
            return;
        }
        let ranges = Arc::new(Ranges::new(&read(&self.networks).table, &read(&self.sources)));
        let mut last = None;
        for shard in &self.shards {
            // The last one is let go of after its shard's lock: it frees the old networks.
            last = Some(std::mem::replace(&mut write(shard).ranges, ranges.clone()));
        }
        drop(last);
    }

    fn hash(&self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(v4) => self.hasher.hash_one(v4),
            IpAddr::V6(v6) => self.hasher.hash_one(v6),
        }
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        // hashbrown finds its place by the low bits and its tag by the top seven, so a shard goes by bits between.
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    fn tenths_at(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.start);
        (since.as_secs() * 10 + u64::from(since.subsec_millis() / 100)).min(u64::from(NEVER - 1)) as u32
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
        let hasher = &self.hasher;
        let replaced = match single(value) {
            Some(IpAddr::V4(key)) => {
                let hash = hasher.hash_one(key);
                read(self.shard(hash)).v4.fetch(hash, key);
                write(self.shard(hash)).v4.put(hasher, Entry { key, fields }, same)
            }
            Some(IpAddr::V6(key)) => {
                let hash = hasher.hash_one(key);
                read(self.shard(hash)).v6.fetch(hash, key);
                write(self.shard(hash)).v6.put(hasher, Entry { key, fields }, same)
            }
            None => {
                let mut networks = write(&self.networks);
                networks.changed = true;
                networks.table.put(hasher, Entry { key: value, fields }, same)
            }
        };
        // The new entry holds a count of its own, so the old one's goes, whether or not they are the same source.
        if let Some(old) = replaced {
            write(&self.sources).release(old.source);
        }
        replaced.is_some()
    }

    fn remove(&self, value: IpNet, same: impl Fn(Fields) -> bool) -> Option<Fields> {
        let hasher = &self.hasher;
        let removed = match single(value) {
            Some(IpAddr::V4(key)) => write(self.shard(hasher.hash_one(key))).v4.remove(hasher, key, same),
            Some(IpAddr::V6(key)) => write(self.shard(hasher.hash_one(key))).v6.remove(hasher, key, same),
            None => {
                let mut networks = write(&self.networks);
                let removed = networks.table.remove(hasher, value, same);
                networks.changed |= removed.is_some();
                removed
            }
        };
        if let Some(old) = removed {
            write(&self.sources).release(old.source);
        }
        removed
    }

    /// Keeps what `keep` says in some parts of the set, each under its own lock.
    fn retain(&self, parts: Range<usize>, keep: impl Fn(Fields) -> bool) {
        let mut gone = Vec::new();
        let mut keep = |fields: Fields| {
            let keep = keep(fields);
            gone.extend((!keep).then_some(fields.source));
            keep
        };
        for part in parts {
            if let Some(shard) = self.shards.get(part) {
                write(shard).v4.retain(&self.hasher, &mut keep);
                write(shard).v6.retain(&self.hasher, &mut keep);
            } else {
                let mut networks = write(&self.networks);
                let before = networks.table.len();
                networks.table.retain(&self.hasher, &mut keep);
                networks.changed |= networks.table.len() < before;
            }
        }
        let mut sources = write(&self.sources);
        gone.iter().for_each(|source| sources.release(*source));
    }

    /// Shows every entry.
    fn each(&self, mut show: impl FnMut(IpNet, Fields)) {
        for shard in self.shards.iter().map(read) {
            shard.v4.iter().for_each(|entry| show(IpAddr::V4(entry.key).into(), entry.fields));
            shard.v6.iter().for_each(|entry| show(IpAddr::V6(entry.key).into(), entry.fields));
        }
        read(&self.networks).table.iter().for_each(|entry| show(entry.key, entry.fields));
    }
}

/// So many shards keep the pause of a growing table, and what a writer can make a look-up wait for, far below a
/// millisecond; and few look-ups want the very one whose writer has lost its core in mid-write.
const SHARDS: usize = 256;
/// The shards, and after them the networks.
pub const PARTS: usize = SHARDS + 1;
const NEVER: u32 = u32::MAX;
/// The epoch of the operator's own decisions, which no answer ends.
const PINNED: u16 = u16::MAX;

#[derive(Default)]
struct Shard {
    v4: Table<Ipv4Addr>,
    v6: Table<Ipv6Addr>,
    /// The same for all shards.
    ranges: Arc<Ranges>,
}

#[derive(Default)]
struct Networks {
    table: Table<IpNet>,
    /// Whether look-ups have yet to be shown a change.
    changed: bool,
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
