//! What stands against an address now? Every decision we know, found by address, each until its own end.

mod table;
mod ranges;
mod sources;
mod takeover;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use hashbrown::DefaultHashBuilder;
use ipnet::IpNet;

use super::decision::Remediation;
use ranges::Ranges;
use sources::Sources;
use table::{Entry, Fields, Table, in_slices};

pub use sources::Source;
pub use takeover::{Implausible, Taken, Takeover};

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

    /// Shows every decision of LAPI's that stands, with its id (0 for none), what is left of it, and its source.
    pub fn for_each(&self, now: Instant, mut show: impl FnMut(IpNet, u64, Duration, &Arc<Source>)) {
        let now = self.tenths_at(now);
        let mut show = |value: IpNet, fields: Fields| {
            if fields.epoch != PINNED && fields.expires > now {
                let source = read(&self.sources).list[fields.source as usize].0.clone();
                show(value, fields.id, self.left(fields.expires, now).unwrap_or_default(), &source);
            }
        };
        for shard in &self.shards {
            let shard = read(shard);
            shard.v4.entries.iter().for_each(|entry| show(IpAddr::V4(entry.key).into(), entry.fields()));
            shard.v6.entries.iter().for_each(|entry| show(IpAddr::V6(entry.key).into(), entry.fields()));
        }
        read(&self.ranges).table.entries.iter().for_each(|entry| show(entry.key, entry.fields()));
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

    fn remove(&self, value: IpNet, same: impl Fn(Fields) -> bool) -> Option<Fields> {
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
        removed
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

/// 64 shards keep the pause of a growing table, and what a writer can make a look-up wait for, far below a millisecond.
const SHARDS: usize = 64;
const NEVER: u32 = u32::MAX;
/// The epoch of the operator's own decisions, which no answer ends.
const PINNED: u16 = u16::MAX;

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
