//! How does an answer of LAPI's change what we hold? One entry after the other, what is new first. (`everything` puts a full
//! answer in the place of what stood.)

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

/// Why an entry says nothing to us. Such an entry costs itself, never the answer around it.
#[derive(Clone, Debug)]
pub struct Unread {
    pub reason: String,
    /// It is on a value that its scope does not have: a country of three letters. Somebody typed that, and LAPI sends it
    /// again and again.
    pub is_unfit: bool,
}

/// At most this many of one answer are told.
const MOST_UNFIT: usize = 20;

/// What an answer held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    pub new: usize,
    /// Of the new ones, those that were known already.
    pub renewed: usize,
    /// Decisions that ended before their time.
    pub ended: usize,
    /// Of those, the ones that two full answers lacked.
    pub vanished: usize,
    /// Decisions that a full answer lacked and that stand on, since nothing else has ended them so far.
    pub kept: usize,
    /// When the first of those may end.
    pub kept_until: Option<Instant>,
    pub unreadable: usize,
    pub first_unreadable: Option<String>,
    /// What is wrong with values that their scopes do not have, each once.
    pub unfit: BTreeSet<String>,
    /// Decisions of type `allow`, which exempt nobody.
    pub allows: usize,
    /// Captchas that nobody could show, so that the fallback stands in.
    pub captchas_without_provider: usize,
    /// Decisions without an id that can be used.
    pub without_id: usize,
    /// Decisions beyond those that one address, network or other value can have.
    pub left_out: usize,
    pub first_left_out: Option<Value>,
}

impl Taken {
    /// Decisions that were not held before and are now.
    pub fn added(&self) -> usize {
        self.new - self.renewed - self.left_out
    }

    /// How many changes it names.
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

    /// Puts a new decision into a table of this set's, if it means anything there.
    pub(super) fn put(&mut self, set: &DecisionSet, table: &mut Table, decision: Decision, now: Instant) {
        let key = decision.key();
        let Decision { id, source, value, duration } = decision;
        let Some(remediation) = set.types.remediation(&source) else {
            self.allows += 1;
            return;
        };
        // One that has ended already (LAPI says `0s`) would only take up room.
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
/// Of changes, what is new counts as it comes. What has ended ends when the answer is complete, so that nobody is let go in
/// between, in whichever order LAPI sends the two lists. A full answer that is dropped before it is complete changes nothing.
pub struct Incoming {
    pub(super) set: Arc<DecisionSet>,
    /// What is left of the next entry's decision counts from then on: when it arrived, or for a snapshot, the launch.
    pub now: Instant,
    /// What is new in a full answer; `None` for changes.
    pub(super) table: Option<Table>,
    /// Decisions that stand, and that this answer names as deleted or shows to be gone.
    pub(super) deleted: HashSet<(Value, Key)>,
    /// Decisions without an id that this answer named as new: a `deleted` of the same key means the decision before.
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

    /// What a decision stands against, and its key, where it is held.
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

    /// Forgets what has ended: its visitors may never come again to be asked about.
    pub fn sweep(&self, now: Instant) {
        let now = self.ticks(now);
        let is_over = |held: &Held| held.ends <= now;
        let ended: Vec<_> =
            self.read().iter().filter(|(_, held)| is_over(held)).map(|(value, held)| (value, held.key)).collect();
        for (value, key) in ended {
            // A lock for each, so that no request waits long. One that was renewed meanwhile stays.
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
                // A lock for each, so that no request waits long.
                self.taken.put(&self.set, &mut self.set.write(), decision, self.now);
            }
            // A full answer lists every decision that ever ended: only those that stand here are of interest.
            (Entry::Deleted(decision), _) => self.deleted.extend(self.set.if_held(decision)),
            (Entry::Unread(unread), _) => self.taken.unread(unread),
        }
    }

    /// The answer with LAPI's changes ended complete.
    pub fn complete(mut self) -> Taken {
        // LAPI names those too that ended by themselves, give or take a second between its clock and ours.
        let soon = self.set.ticks(self.now).saturating_add(A_SECOND);
        for gone in self.deleted.iter().filter(|gone| !self.new_without_id.contains(gone)) {
            let removed = self.set.write().remove(&gone.0, gone.1);
            self.taken.ended += usize::from(removed.is_some_and(|held| held.ends > soon));
        }
        self.taken
    }

    /// Takes over an answer of LAPI's. What was held when it was asked, `before`, and is not in the answer ends, unless an
    /// entry of the answer cannot be read: that may be the missing one. What another answer has brought meanwhile stays: this
    /// one may be older. Adds to what `taken` counts already.
    pub fn take_answer(mut self, mut before: HashSet<(Value, Key)>, entries: Vec<Entry>, taken: &mut Taken) {
        self.taken = mem::take(taken);
        // What is new comes first, so that nobody is let go in between.
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
