//! How does a full answer replace the decisions held so far? It fills a new table, and what it lacks does not end at once.
//!
//! While its database fails, LAPI 1.7.8 and newer answers 200 with a short or empty list, even several times in a row. So a
//! single full answer that lacks a decision does not end it. A decision that a full answer lacks, and that neither a
//! `deleted` entry nor its own time ended, is *missing*: it ends once two full answers lack it, some time apart, and LAPI
//! has confirmed both. To confirm, the poller asks LAPI about a few missing decisions by value; a failing database cannot
//! answer that.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decision::Key;
use super::held::Held;
use super::{A_SECOND, DecisionSet, Incoming, NEVER, Table, Taken, Ticks, Value, left, ticks};

/// A full answer that has replaced the old table, and the decisions that it lacks, which stand on.
pub struct Compared {
    set: Arc<DecisionSet>,
    now: Ticks,
    /// The least time between the two answers that end a missing decision.
    apart: Ticks,
    missing: Vec<(Value, Held)>,
    taken: Taken,
}

/// A decision that ends within ten seconds anyway is kept until then: LAPI's clock and ours are never quite the same.
const SOON: Ticks = 100;

impl Incoming {
    /// Puts a complete full answer in the place of the old table, so that new decisions count at once, and finds what it
    /// lacks. The two answers that end a missing decision are at least `apart`.
    pub fn take_over(mut self, now: Instant, apart: Duration) -> Compared {
        let (set, now) = (self.set.clone(), self.set.ticks(now));
        let (mut table, mut kept) = (self.table.unwrap_or_default(), Vec::new());
        let old = set.read();
        for (value, held) in old.iter().filter(|(_, held)| held.ends > now) {
            let is_ending = held.ends <= now.saturating_add(SOON);
            let sooner = || Held { ends: held.ends - SOON, ..held.clone() };
            if table.get(&value, held.key).is_some() {
                self.taken.renewed += 1;
            } else if self.deleted.contains(&(value.clone(), held.key)) {
                self.taken.ended += usize::from(held.ends > now.saturating_add(A_SECOND));
            } else if !has_successor(&table, &value, held) && (is_ending || !table.leaves_out(&value, &sooner(), now)) {
                kept.push((value, held.clone()));
            }
        }
        drop(old);
        // Put in only now, so that no kept decision counts as the successor of another one.
        kept.iter().for_each(|(value, held)| _ = table.put(value, held.clone(), now));
        kept.retain(|(_, held)| held.ends > now.saturating_add(SOON));
        table.make_room();
        // Dropped when the function ends and the lock is free: nobody waits while a million decisions are freed.
        let _old = mem::replace(&mut *set.write(), table);
        Compared { set, now, apart: ticks(apart), missing: kept, taken: self.taken }
    }
}

/// Whether LAPI has replaced this decision with another one. LAPI keeps one decision on each value for the community's list
/// and for blocklists: each pull, every two hours, writes them anew under other ids and silently removes the old ones.
/// Nobody is let go by that, since the new decision has to stand as long and be no milder.
fn has_successor(table: &Table, value: &Value, old: &Held) -> bool {
    let outlasts = |new: &&Held| new.ends.saturating_add(SOON) >= old.ends && new.remediation >= old.remediation;
    let origin = &old.source.origin;
    let is_list = ["CAPI", "lists"].contains(&origin.as_str());
    is_list && table.on(value).filter(outlasts).any(|new| new.source.origin == *origin)
}

impl Compared {
    /// How many of the decisions that stood the answer lacks, and how many there were.
    pub fn missing(&self) -> (usize, usize) {
        (self.missing.len(), self.missing.len() + self.taken.renewed)
    }

    /// The missing decisions, of which LAPI has to confirm some before the answer counts: those that are missing for the
    /// first time, and those that this answer would end. The others wait.
    pub fn to_confirm(&self) -> impl Iterator<Item = (Value, Key)> {
        let is_doubtful = |held: &Held| held.missed == NEVER || has_waited(held, self.now, self.apart);
        let doubtful = self.missing.iter().filter(move |(_, held)| is_doubtful(held));
        doubtful.map(|(value, held)| (value.clone(), held.key))
    }

    /// Missing decisions stand on until a second confirmed answer lacks them too. An answer that is not confirmed ends
    /// nothing: the next confirmed one counts as the first that lacks them.
    pub fn settle(self, confirmed: bool) -> Taken {
        let Self { set, now, apart, missing, mut taken } = self;
        let mut first_missed = NEVER;
        for (value, held) in missing {
            // Locked anew for each decision, so that no request waits long.
            let mut table = set.write();
            if confirmed && has_waited(&held, now, apart) {
                table.remove(&value, held.key);
                taken.ended += 1;
                taken.vanished += 1;
            } else {
                let missed = if confirmed { held.missed.min(now) } else { NEVER };
                table.put(&value, Held { missed, ..held }, now);
                first_missed = first_missed.min(missed);
                taken.kept += 1;
            }
        }
        if first_missed != NEVER {
            taken.kept_until = Some(set.start + left(first_missed.saturating_add(apart), 0));
        }
        taken
    }
}

/// Whether the first confirmed answer that lacked a decision is long enough ago.
fn has_waited(held: &Held, now: Ticks, apart: Ticks) -> bool {
    held.missed.saturating_add(apart) <= now
}
