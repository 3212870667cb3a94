//! How does an answer of LAPI's change the decisions held? Entry by entry, and deleted ones end last. (`everything` puts a
//! full answer in the place of the old table.)

use std::collections::{BTreeSet, HashSet};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::decision::Key;
use super::held::Held;
use super::table::Put;
use super::{A_SECOND, Decision, DecisionSet, Table, Value};

/// One entry of an answer of LAPI's.
#[derive(Clone, Debug)]
pub enum Entry {
    New(Decision),
    Deleted(Decision),
    Unread(Unread),
}

/// Why an entry cannot be used. Only that entry is lost, never the answer around it.
#[derive(Clone, Debug)]
pub struct Unread {
    pub reason: String,
    /// The value does not fit its scope: a country of three letters. Somebody typed it, and LAPI sends it again and again.
    pub is_unfit: bool,
}

/// At most this many unfit values of one answer are told.
const MOST_UNFIT: usize = 20;

/// What an answer held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    pub new: usize,
    /// Of `new`, those that were held already.
    pub renewed: usize,
    /// Decisions that ended before their time.
    pub ended: usize,
    /// Of `ended`, those that two full answers lacked.
    pub vanished: usize,
    /// Decisions that a full answer lacked and that stand on, since nothing else has ended them so far.
    pub kept: usize,
    /// When the first kept decision may end.
    pub kept_until: Option<Instant>,
    pub unreadable: usize,
    pub first_unreadable: Option<String>,
    /// What is wrong with values that do not fit their scopes, each text once.
    pub unfit: BTreeSet<String>,
    /// Decisions of type `allow`, which exempt nobody.
    pub allows: usize,
    /// Decisions of type `captcha` while no captcha can be shown, so that the fallback counts.
    pub captchas_without_provider: usize,
    /// Decisions without an id that can be used.
    pub without_id: usize,
    /// Decisions beyond the `MOST_ON_ONE_VALUE` that one value can have.
    pub left_out: usize,
    pub first_left_out: Option<Value>,
}

impl Taken {
    /// Decisions that were not held before and are now.
    pub fn added(&self) -> usize {
        self.new - self.renewed - self.left_out
    }

    /// How many changes the answer names.
    pub fn changes(&self) -> usize {
        self.new - self.renewed + self.ended
    }

    pub(super) fn unread(&mut self, Unread { reason, is_unfit }: Unread) {
        if !is_unfit {
            self.unreadable += 1;
            self.first_unreadable.get_or_insert(reason);
        } else if self.unfit.len() < MOST_UNFIT {
            self.unfit.insert(reason);
        }
    }

    /// Puts a new decision into a table for this set, unless it would have no effect.
    pub(super) fn put(&mut self, set: &DecisionSet, table: &mut Table, decision: Decision, now: Instant) {
        let key = decision.key();
        let Decision { id, source, value, duration } = decision;
        let Some(remediation) = set.types.remediation(&source) else {
            self.allows += 1;
            return;
        };
        // A decision that has ended already (LAPI says `0s`) would only take up room.
        if duration.is_zero() {
            return;
        }
        self.captchas_without_provider += usize::from(set.types.lacks_captcha(&source));
        let held = Held::new(key, Arc::new(source), remediation, set.end_of(now, duration));
        self.new += 1;
        self.without_id += usize::from(id.is_none());
        match table.put(&value, held, set.ticks(now)) {
            Put::Added => {}
            Put::Renewed => self.renewed += 1,
            Put::LeftOut => {
                self.left_out += 1;
                self.first_left_out.get_or_insert(value);
            }
        }
    }
}

/// An answer of LAPI's on its way into the set.
///
/// With changes, a new decision counts as soon as it is read, and a deleted one ends when the answer is complete. So nobody
/// is let go in between, in whichever order LAPI sends the two lists. A full answer that is dropped before it is complete
/// changes nothing.
pub struct Incoming {
    pub(super) set: Arc<DecisionSet>,
    /// When the next entry's duration begins: when the entry arrived, or for a snapshot the launch.
    pub now: Instant,
    /// The new table of a full answer; `None` for changes.
    pub(super) table: Option<Table>,
    /// Held decisions that this answer names as deleted or shows to be gone.
    pub(super) deleted: HashSet<(Value, Key)>,
    /// Decisions without an id that this answer named as new: a `deleted` entry with the same key means the older decision.
    new_without_id: HashSet<(Value, Key)>,
    pub(super) taken: Taken,
}

impl DecisionSet {
    /// Starts to take over an answer with LAPI's changes since the last one.
    pub fn changes(self: &Arc<Self>, now: Instant) -> Incoming {
        let (table, deleted, new_without_id, taken) = Default::default();
        Incoming { set: self.clone(), now, table, deleted, new_without_id, taken }
    }

    /// Starts to take over an answer with all that LAPI has.
    pub fn everything(self: &Arc<Self>, now: Instant) -> Incoming {
        Incoming { table: Some(Table::default()), ..self.changes(now) }
    }

    /// The decision's value and key, if it is held.
    pub(super) fn if_held(&self, decision: Decision) -> Option<(Value, Key)> {
        let (key, value) = (decision.key(), decision.value);
        let is_held = self.read().get(&value, key).is_some();
        is_held.then_some((value, key))
    }

    /// What is held against one address; with `None`, against everything that is no address.
    pub fn held_against(&self, about: Option<IpAddr>) -> HashSet<(Value, Key)> {
        let (table, mut found) = (self.read(), HashSet::new());
        let mut hold = |value, held: &Held| _ = found.insert((value, held.key));
        match about {
            Some(address) => table.against(address.to_canonical(), hold),
            None => table
                .iter()
                .filter(|(value, _)| !matches!(value, Value::Network(_)))
                .for_each(|(value, held)| hold(value, held)),
        }
        found
    }

    /// Forgets decisions that have ended: in live mode, LAPI may never be asked about their visitors again.
    pub fn sweep(&self, now: Instant) {
        let now = self.ticks(now);
        let is_over = |held: &Held| held.ends <= now;
        let ended: Vec<_> =
            self.read().iter().filter(|(_, held)| is_over(held)).map(|(value, held)| (value, held.key)).collect();
        for (value, key) in ended {
            // Locked anew for each, so that no request waits long. A decision that was renewed meanwhile stays.
            let mut table = self.write();
            if table.get(&value, key).is_some_and(is_over) {
                table.remove(&value, key);
            }
        }
    }
}

impl Incoming {
    pub fn take(&mut self, entry: Entry) {
        match (entry, &mut self.table) {
            (Entry::New(decision), Some(table)) => self.taken.put(&self.set, table, decision, self.now),
            (Entry::New(decision), None) => {
                if decision.id.is_none() {
                    self.new_without_id.insert((decision.value.clone(), decision.key()));
                }
                // Locked anew for each entry, so that no request waits long.
                self.taken.put(&self.set, &mut self.set.write(), decision, self.now);
            }
            // A full answer names every ended decision that LAPI still has: only those that are held here matter.
            (Entry::Deleted(decision), _) => self.deleted.extend(self.set.if_held(decision)),
            (Entry::Unread(unread), _) => self.taken.unread(unread),
        }
    }

    /// Ends the decisions that a complete answer with changes names as deleted.
    pub fn complete(mut self) -> Taken {
        // LAPI also names decisions that ended by themselves, give or take a second between its clock and ours.
        let soon = self.set.ticks(self.now).saturating_add(A_SECOND);
        for gone in self.deleted.iter().filter(|gone| !self.new_without_id.contains(gone)) {
            let removed = self.set.write().remove(&gone.0, gone.1);
            self.taken.ended += usize::from(removed.is_some_and(|held| held.ends > soon));
        }
        self.taken
    }

    /// Takes over an answer of live mode. What was held `before` LAPI was asked and is not in the answer ends, unless an
    /// entry cannot be read: it may be the missing decision. What another answer has brought meanwhile stays, since this
    /// one may be older. Adds to the counts of `taken`.
    pub fn take_answer(mut self, mut before: HashSet<(Value, Key)>, entries: Vec<Entry>, taken: &mut Taken) {
        self.taken = mem::take(taken);
        // New decisions come first, so that nobody is let go in between.
        for entry in entries {
            match &entry {
                Entry::New(decision) => _ = before.remove(&(decision.value.clone(), decision.key())),
                // Fails closed. An unfit value, `France` for a country, was never held.
                Entry::Unread(unread) if !unread.is_unfit => before.clear(),
                _ => {}
            }
            self.take(entry);
        }
        self.deleted.extend(before);
        *taken = self.complete();
    }
}
