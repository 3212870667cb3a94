//! How does an answer about one address become what we remember of it?

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use super::held::Held;
use super::update::BATCH;
use super::{DecisionSet, Entry, Key, Taken, Types, Value};

impl DecisionSet {
    /// What is held against one address, or without one, against everything that is no address.
    pub fn held_against(&self, about: Option<IpAddr>) -> HashSet<(Value, Key)> {
        let (table, mut found) = (self.read(), HashSet::new());
        match about {
            Some(address) => table.against(address.to_canonical(), |value, held| _ = found.insert((value, held.key))),
            None => {
                let others = table.iter().filter(|(value, _)| !matches!(value, Value::Network(_)));
                found.extend(others.map(|(value, held)| (value, held.key)));
            }
        }
        found
    }

    /// Takes over an answer of LAPI's. What was held when it was asked, `before`, and is not in the answer ends. What another
    /// answer has brought meanwhile stays: this one may be older.
    pub fn take_answer(
        &self,
        mut before: HashSet<(Value, Key)>,
        entries: Vec<Entry>,
        types: &Types,
        answered: Instant,
        taken: &mut Taken,
    ) {
        let now = self.ticks(answered);
        let mut entries = entries.into_iter().peekable();
        // In batches, so that no request waits long for the lock; what is new comes first.
        while entries.peek().is_some() {
            let mut table = self.write();
            for entry in entries.by_ref().take(BATCH) {
                match entry {
                    Entry::New(decision) => {
                        before.remove(&(decision.value.clone(), decision.key()));
                        let ends = self.end_of(answered, decision.duration);
                        taken.put(&mut table, decision, types, now, ends);
                    }
                    Entry::Unreadable(reason) => taken.unreadable(reason),
                    Entry::Unfit(reason) => taken.unfit(reason),
                    // A list of what stands names nothing that is gone.
                    Entry::Deleted(_) => {}
                }
            }
        }
        let gone: Vec<_> = before.into_iter().collect();
        for batch in gone.chunks(BATCH) {
            let mut table = self.write();
            for (value, key) in batch {
                taken.ended += usize::from(table.remove(value, *key).is_some_and(|held| held.ends > now));
            }
        }
    }

    /// Forgets what has ended: its visitors may never come again to be asked about.
    pub fn sweep(&self, now: Instant) {
        let now = self.ticks(now);
        let is_over = |held: &Held| held.ends <= now;
        let known = self.read();
        let ended: Vec<_> =
            known.iter().filter(|(_, held)| is_over(held)).map(|(value, held)| (value, held.key)).collect();
        drop(known);
        for batch in ended.chunks(BATCH) {
            let mut table = self.write();
            for (value, key) in batch {
                // One that was renewed meanwhile stays.
                if table.get(value, *key).is_some_and(is_over) {
                    table.remove(value, *key);
                }
            }
        }
    }
}
