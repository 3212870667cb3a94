//! What stands against a visitor now? Every decision that we know, found by what it stands against, each until its own end.
//!
//! In reading order: a [`Decision`] as LAPI sends it with its [`Value`], the [`Remediation`] that it becomes, what is
//! [`Standing`] against one visitor, the table that holds all decisions, and how an answer of LAPI's changes them:
//! [`Incoming`].

mod value;
mod source;
mod decision;
mod remediation;
mod standing;
mod held;
mod table;
mod update;
mod everything;

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use ipnet::IpNet;

pub use decision::{Decision, Key, LARGEST_ID, go_duration};
pub use everything::Compared;
use held::Held;
pub use held::MOST_ON_ONE_VALUE;
pub use remediation::{Remediation, Types};
pub use source::Source;
pub use standing::Standing;
use table::Table;
pub use update::{Entry, Incoming, Taken, Unread};
pub use value::{Country, Scopes, Value, known_scope, network, single, system};

/// The decisions, shared between every request and whoever takes over LAPI's answers, one at a time.
///
/// LAPI's decisions lie behind one lock. A request holds it for one look-up, the poller for one change or to swap in a
/// whole new table: so nobody ever waits for a whole answer. The lock is std's, and never held across an await. The
/// operator's own decisions never change and need no lock.
pub struct DecisionSet {
    start: Instant,
    /// What LAPI's types mean here.
    pub types: Types,
    own: Table,
    lapis: RwLock<Table>,
}

/// Tenths of a second. A point in time counts from the start of the set. 32 bits last for 13 years.
pub type Ticks = u32;
const NEVER: Ticks = u32::MAX;
const A_SECOND: Ticks = 10;

impl DecisionSet {
    pub fn new(start: Instant, types: Types) -> Self {
        Self { start, types, own: Table::default(), lapis: RwLock::default() }
    }

    /// Adds a decision of the operator's own: it never ends, and no answer of LAPI's takes it away.
    pub fn pin(&mut self, net: IpNet, remediation: Remediation, reason: &str) {
        let (origin, scope, kind) = ("config".into(), "own".into(), remediation.to_string());
        let source = Arc::new(Source { origin, scenario: reason.into(), scope, kind });
        let held = Held::new(Key(self.own.len() as u64), source, remediation, NEVER);
        self.own.put(&Value::Network(net), held, 0);
    }

    /// All that stands against a visitor: the greatest remediation first, and within one remediation the longest to live.
    /// Nothing is allocated for a visitor against whom nothing stands. `country` and `system` are asked only while some
    /// decision on a country or an autonomous system is held.
    pub fn against(
        &self,
        address: IpAddr,
        country: impl FnOnce() -> Option<Country>,
        system: impl FnOnce() -> Option<u32>,
        now: Instant,
    ) -> Vec<Standing> {
        // The decisions are canonical, so the address has to be too: ::ffff:192.0.2.1 is 192.0.2.1.
        let (address, now) = (address.to_canonical(), self.ticks(now));
        let (lapis, mut found) = (self.read(), Vec::new());
        for table in [&self.own, &*lapis] {
            table.against(address, |value, held| found.extend(held.standing(value, now)));
        }
        // The operator's own decisions are about addresses alone.
        let has_regions = !lapis.regions.is_empty();
        drop(lapis);
        if has_regions {
            // Asked without the lock: a damaged GeoIP database is logged, and a log may take its time.
            let (country, system) = (country(), system());
            let lapis = self.read();
            for value in country.map(Value::Country).into_iter().chain(system.map(Value::As)) {
                found.extend(lapis.on(&value).filter_map(|held| held.standing(value.clone(), now)));
            }
        }
        sorted(found)
    }

    /// All that stands against just this value, in the order of `against`.
    pub fn on(&self, value: &Value, now: Instant) -> Vec<Standing> {
        let (now, lapis) = (self.ticks(now), self.read());
        sorted(lapis.on(value).filter_map(|held| held.standing(value.clone(), now)).collect())
    }

    /// How many decisions are held, including the operator's own, and those that ended since the last full answer.
    pub fn len(&self) -> usize {
        self.own.len() + self.lapis_len()
    }

    /// `len` without the operator's own decisions.
    pub fn lapis_len(&self) -> usize {
        self.read().len()
    }

    /// Whether any decision of LAPI's that is held has this origin.
    pub fn has_origin(&self, origin: &str) -> bool {
        self.read().sources.counts().any(|(source, _)| source.origin == origin)
    }

    /// Shows for each source whether it is the operator's own, and how many of its decisions are held: on IPv4, on IPv6,
    /// and on what is no address.
    pub fn by_source(&self, mut show: impl FnMut(&Source, bool, [usize; 3])) {
        self.own.sources.counts().for_each(|(source, counts)| show(source, true, counts));
        self.read().sources.counts().for_each(|(source, counts)| show(source, false, counts));
    }

    /// All decisions of LAPI's that stand, each with the time it has left.
    pub fn to_save(&self, now: Instant) -> Vec<(Value, Key, Ticks, Arc<Source>)> {
        let (now, table) = (self.ticks(now), self.read());
        let standing = table.iter().filter(|(_, held)| held.ends > now);
        standing.map(|(value, held)| (value, held.key, held.ends - now, held.source.clone())).collect()
    }

    fn ticks(&self, now: Instant) -> Ticks {
        ticks(now.saturating_duration_since(self.start))
    }

    /// Rounds up, so that nobody is let go early.
    fn end_of(&self, now: Instant, duration: Duration) -> Ticks {
        ticks(now.saturating_duration_since(self.start) + duration + Duration::from_millis(99))
    }

    /// Reads even after a panic under the lock: every decision is whole, and refusing would take the application down.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.lapis.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.lapis.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sorted(mut found: Vec<Standing>) -> Vec<Standing> {
    found.sort_by_key(|standing| Reverse(standing.rank()));
    found
}

fn ticks(since: Duration) -> Ticks {
    let tenths = since.as_secs() * 10 + u64::from(since.subsec_millis() / 100);
    tenths.min(u64::from(NEVER - 1)) as Ticks
}

fn left(ends: Ticks, now: Ticks) -> Duration {
    Duration::from_millis(u64::from(ends.saturating_sub(now)) * 100)
}
