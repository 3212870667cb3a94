//! How does a full answer take the place of what we remember? Built beside it, and never believed at once where it lacks
//! something.
//!
//! While its database fails, LAPI 1.7.8 and newer answers 200 with a short or empty list, even several times in a row. So
//! one full answer alone does not end a decision for being absent. A decision that a full answer lacks, and that neither a
//! `deleted` entry nor its own time ended, is *missing*: it ends once two answers lack it that LAPI has confirmed, some
//! time apart. To confirm, the poller asks LAPI about a few missing decisions by value; a failing database cannot answer
//! that.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::decision::Key;
use super::held::Held;
use super::{A_SECOND, DecisionSet, Incoming, NEVER, Table, Taken, Ticks, Value, left, ticks};

/// A full answer that stands in the place of what stood before, and what it lacks, which stands on.
pub struct Compared {
    set: Arc<DecisionSet>,
    now: Ticks,
    /// How far apart the two answers have to be that end a missing decision.
    apart: Ticks,
    missing: Vec<(Value, Held)>,
    taken: Taken,
}

/// What ends within ten seconds anyway is kept until then: LAPI's clock and ours are never quite the same.
const SOON: Ticks = 100;

impl Incoming {
    /// The full answer ended complete: puts it in the place of what stood, so that what is new counts at once, and finds what it
    /// lacks. Two answers that end a missing decision are this far `apart`.
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
        // Afterwards, so that none of them counts as the successor of another one.
        kept.iter().for_each(|(value, held)| _ = table.put(value, held.clone(), now));
        kept.retain(|(_, held)| held.ends > now.saturating_add(SOON));
        table.make_room();
        // Given back at the end, when the lock is free: nobody waits for a million decisions.
        let _old = mem::replace(&mut *set.write(), table);
        Compared { set, now, apart: ticks(apart), missing: kept, taken: self.taken }
    }
}

/// Whether LAPI has put another decision in the place of this one. Of the community's list and of blocklists it keeps one
/// on each value: with each pull, every two hours, it writes them anew under other ids, and removes those before without
/// a word. Nobody is let go by that, since the new one has to stand as long.
fn has_successor(table: &Table, value: &Value, old: &Held) -> bool {
    let outlasts = |new: &&Held| new.ends.saturating_add(SOON) >= old.ends && new.remediation >= old.remediation;
    let origin = &old.source.origin;
    let is_list = ["CAPI", "lists"].contains(&origin.as_str());
    is_list && table.on(value).filter(outlasts).any(|new| new.source.origin == *origin)
}

impl Compared {
    /// How many of the standing decisions the answer lacks, and of how many.
    pub fn missing(&self) -> (usize, usize) {
        (self.missing.len(), self.missing.len() + self.taken.renewed)
    }

    /// The missing ones of which LAPI has to confirm some before the answer counts: those that are missing for the first
    /// time, and those that this answer would end. The others wait.
    pub fn to_confirm(&self) -> impl Iterator<Item = (Value, Key)> {
        let is_doubtful = |held: &Held| held.missed == NEVER || has_waited(held, self.now, self.apart);
        let doubtful = self.missing.iter().filter(move |(_, held)| is_doubtful(held));
        doubtful.map(|(value, held)| (value.clone(), held.key))
    }

    /// What the answer lacks stands on, until a second answer that is confirmed lacks it too. An answer that is not confirmed
    /// ends nothing, and makes what it lacks start anew.
    pub fn settle(self, confirmed: bool) -> Taken {
        let Self { set, now, apart, missing, mut taken } = self;
        let mut first_missed = NEVER;
        for (value, held) in missing {
            // A lock for each, so that no request waits long.
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
