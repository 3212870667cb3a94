//! How does an answer about one address become what we remember of it?

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use super::table::Held;
use super::update::BATCH;
use super::{DecisionSet, Entry, Taken, Types, Value};

/// Where no more decisions are known, none is looked for that has ended.
const FEW: usize = 10_000;

impl DecisionSet {
    /// Takes over all that LAPI says of one address, or without one, of everything that is no address. What stood against it
    /// and is not said any more ends.
    pub fn take_answer(
        &self,
        about: Option<IpAddr>,
        entries: Vec<Entry>,
        types: &Types,
        asked: Instant,
        taken: &mut Taken,
    ) {
        let (now, mut stood) = (self.ticks(asked), HashSet::new());
        match about {
            Some(address) => self.read().against(address.to_canonical(), |value, held| {
                stood.insert((value, held.key));
            }),
            None => {
                let table = self.read();
                let others = table.iter().filter(|(value, _)| !matches!(value, Value::Network(_)));
                stood.extend(others.map(|(value, held)| (value, held.key)));
            }
        }
        if stood.is_empty() && entries.is_empty() {
            return;
        }
        let mut table = self.write();
        for entry in entries {
            match entry {
                Entry::New(decision) => {
                    stood.remove(&(decision.value.clone(), decision.key()));
                    let ends = self.end_of(asked, decision.duration);
                    taken.put(&mut table, decision, types, now, ends);
                }
                Entry::Unreadable(reason) => taken.unreadable(reason),
                Entry::Unfit(reason) => taken.unfit(reason),
                // A list of what stands names nothing that is gone.
                Entry::Deleted(_) => {}
            }
        }
        for (value, key) in stood {
            taken.ended += usize::from(table.remove(&value, key).is_some_and(|held| held.ends > now));
        }
    }

    /// Forgets what has ended, where there is much of it: nobody may come again to be asked about.
    pub fn sweep(&self, now: Instant) {
        let (now, mut ended) = (self.ticks(now), Vec::new());
        let is_over = |held: &Held| held.ends <= now;
        let known = self.read();
        if known.len() > FEW {
            ended.extend(known.iter().filter(|(_, held)| is_over(held)).map(|(value, held)| (value, held.key)));
        }
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
