//! How do LAPI's changes become what we remember? One after the other, what is new first.

use std::collections::{BTreeSet, HashSet};
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
    /// Decisions that were not known before.
    pub fn added(&self) -> usize {
        self.new - self.renewed
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

/// LAPI's changes on their way into the set. What is new counts as it comes. What has ended ends when the answer is complete,
/// so that nobody is let go in between, in whichever order LAPI sends the two lists.
pub struct Changes {
    pub(super) set: Arc<DecisionSet>,
    pub(super) now: Instant,
    /// Decisions that stand and that this answer names as deleted.
    deleted: Vec<(Value, Key)>,
    /// Decisions without an id that this answer named as new: a `deleted` of the same key means the decision before.
    new_without_id: HashSet<(Value, Key)>,
    pub(super) taken: Taken,
}

impl DecisionSet {
    /// Starts to take over an answer with LAPI's changes since the last one.
    pub fn changes(self: &Arc<Self>, now: Instant) -> Changes {
        let (deleted, new_without_id, taken) = Default::default();
        Changes { set: self.clone(), now, deleted, new_without_id, taken }
    }

    /// What a decision stands against, and its key, where it is held.
    pub(super) fn if_held(&self, decision: Decision) -> Option<(Value, Key)> {
        let (key, value) = (decision.key(), decision.value);
        let is_held = self.read().get(&value, key).is_some();
        is_held.then_some((value, key))
    }
}

impl Changes {
    pub fn take(&mut self, entry: Entry) {
        match entry {
            Entry::New(decision) => {
                if decision.id.is_none() {
                    self.new_without_id.insert((decision.value.clone(), decision.key()));
                }
                // A lock for each, so that no request waits long.
                self.taken.put(&self.set, &mut self.set.write(), decision, self.now);
            }
            Entry::Deleted(decision) => self.deleted.extend(self.set.if_held(decision)),
            Entry::Unread(unread) => self.taken.unread(unread),
        }
    }

    /// The answer ended complete.
    pub fn complete(mut self) -> Taken {
        // LAPI names those too that ended by themselves, give or take a second between its clock and ours.
        let soon = self.set.ticks(self.now).saturating_add(A_SECOND);
        for gone in self.deleted.iter().filter(|gone| !self.new_without_id.contains(gone)) {
            let removed = self.set.write().remove(&gone.0, gone.1);
            self.taken.ended += usize::from(removed.is_some_and(|held| held.ends > soon));
        }
        self.taken
    }
}
