//! How does an answer about one address become what we remember of it?

use std::collections::HashSet;
use std::mem;
use std::net::IpAddr;
use std::time::Instant;

use super::held::Held;
use super::{Changes, DecisionSet, Entry, Key, Taken, Value};

impl DecisionSet {
    /// What is held against one address, or without one, against everything that is no address.
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
        // One that was renewed meanwhile stays.
        self.forget(ended, is_over);
    }

    /// Each under a lock of its own, so that no request waits long for it.
    fn forget(&self, decisions: impl IntoIterator<Item = (Value, Key)>, mut is_gone: impl FnMut(&Held) -> bool) {
        for (value, key) in decisions {
            let mut table = self.write();
            if table.get(&value, key).is_some_and(&mut is_gone) {
                table.remove(&value, key);
            }
        }
    }
}

impl Changes {
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
        let (set, now) = (self.set.clone(), self.set.ticks(self.now));
        *taken = self.complete();
        set.forget(before, |held| {
            taken.ended += usize::from(held.ends > now);
            true
        });
    }
}
