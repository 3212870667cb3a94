//! What ends when LAPI forgets for a while what it knows, and remembers again?

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{decision, set_of, strongest, take_all, take_changes, tenths, types};
use crate::crowdsec::decisions::{Decision, DecisionSet, Entry, Key, Value};

/// What happens at LAPI: decisions come and go, and its answers leave some out for a while.
#[derive(Clone, Debug)]
enum Happens {
    Add,
    /// The next delta names the decision as deleted.
    Delete(prop::sample::Index),
    /// As `cscli alerts delete` and LAPI's own flush delete: no answer ever names the decision again.
    DeleteSilently(prop::sample::Index),
    /// From now on each answer leaves out some decisions: bit n of this mask leaves out the ids that are n modulo 4.
    Forget(u8),
    Remember,
    Polls(u64),
}

fn anything_happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => Just(Happens::Add),
        1 => any::<prop::sample::Index>().prop_map(Happens::Delete),
        1 => any::<prop::sample::Index>().prop_map(Happens::DeleteSilently),
        1 => (1..16_u8).prop_map(Happens::Forget),
        2 => Just(Happens::Remember),
        6 => (1..40_u64).prop_map(Happens::Polls),
    ]
}

/// In tenths of a second: a poll every ten seconds, everything every five minutes.
const POLL: u64 = 100;
const RESYNC: u64 = 3000;

struct Row {
    id: u64,
    since: u64,
    gone: Option<u64>,
    silently: bool,
}

struct World {
    start: Instant,
    now: u64,
    set: Arc<DecisionSet>,
    rows: Vec<Row>,
    forgets: u8,
    /// Since when LAPI forgets nothing.
    sane_since: u64,
    polled: u64,
    everything_due: u64,
}

impl World {
    fn decision(row: &Row) -> Decision {
        decision(row.id, &format!("10.0.{}.{}", row.id / 256, row.id % 256), "ban", 4_000_000)
    }

    fn forgot(&self, row: &Row) -> bool {
        self.forgets & (1 << (row.id % 4)) != 0
    }

    /// Polls as the poller does: for changes, or for everything if that is due, as it is right after a question to LAPI.
    fn poll(&mut self) {
        self.now += POLL;
        let instant = self.start + tenths(self.now);
        if self.now < self.everything_due {
            let changed = |row: &&Row| !self.forgot(row);
            let new = self.rows.iter().filter(changed).filter(|row| row.since > self.polled && row.gone.is_none());
            let gone = self.rows.iter().filter(changed);
            let gone = gone.filter(|row| !row.silently && row.gone.is_some_and(|gone| gone > self.polled));
            let entries = new.map(|row| Entry::New(Self::decision(row)));
            take_changes(&self.set, instant, entries.chain(gone.map(|row| Entry::Deleted(Self::decision(row)))));
        } else {
            let mut everything = self.set.everything(instant);
            for row in self.rows.iter().filter(|row| row.gone.is_none() && !self.forgot(row)) {
                everything.take(Entry::New(Self::decision(row)));
            }
            let compared = everything.take_over(instant, tenths(RESYNC / 2));
            let asked: Vec<(Value, Key)> = compared.to_confirm().collect();
            // A failing database answers no question, not even about decisions that are truly gone.
            let confirmed = asked.is_empty() || self.forgets == 0;
            let taken = compared.settle(confirmed);
            let due = taken.kept_until.map(|until| until.duration_since(self.start).as_millis() as u64 / 100);
            let again = due.unwrap_or(u64::MAX).min(self.now + RESYNC);
            self.everything_due = if asked.is_empty() { again } else { self.now };
        }
        self.polled = self.now;
    }

    fn stands(&self, row: &Row) -> bool {
        let address = [10, 0, (row.id / 256) as u8, (row.id % 256) as u8].into();
        strongest(&self.set, address, self.start + tenths(self.now)).is_some()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(512)))]

    #[test]
    fn a_lapi_that_forgets_and_remembers_ends_nothing_and_what_is_gone_ends_in_time(
        events in vec(anything_happens(), 1..60),
    ) {
        let start = Instant::now();
        let set = Arc::new(DecisionSet::new(start, types()));
        let mut world = World {
            start, set, now: 0, rows: vec![], forgets: 0, sane_since: 0, polled: 0, everything_due: 0,
        };
        // A whole `RESYNC` until the first of the two answers, half of one until the second, and some polls.
        let in_time = RESYNC * 3 / 2 + 3 * POLL;
        let mut known = HashSet::new();
        for event in events {
            let mut polls = 0;
            match event {
                Happens::Add => {
                    let (id, since) = (world.rows.len() as u64 + 1, world.now + 1);
                    world.rows.push(Row { id, since, gone: None, silently: false });
                }
                Happens::Delete(_) | Happens::DeleteSilently(_) if world.rows.is_empty() => {}
                Happens::Delete(ref at) | Happens::DeleteSilently(ref at) => {
                    let (silently, now) = (matches!(event, Happens::DeleteSilently(_)), world.now + 1);
                    let at = at.index(world.rows.len());
                    let row = &mut world.rows[at];
                    if row.gone.is_none() {
                        (row.gone, row.silently) = (Some(now), silently);
                    }
                }
                Happens::Forget(which) => world.forgets = which,
                Happens::Remember if world.forgets != 0 => {
                    (world.forgets, world.sane_since) = (0, world.now);
                }
                Happens::Remember => {}
                Happens::Polls(count) => polls = count,
            }
            for _ in 0..polls {
                world.poll();
                for row in &world.rows {
                    let (stands, now) = (world.stands(row), world.now);
                    if stands {
                        known.insert(row.id);
                    }
                    match row.gone {
                        None => prop_assert!(stands || !known.contains(&row.id), "{} was let go", row.id),
                        Some(gone) if world.forgets == 0 && now > gone.max(world.sane_since) + in_time => {
                            prop_assert!(!stands, "{} still stands {} tenths of a second after its end", row.id, now - gone);
                        }
                        Some(_) => {}
                    }
                    let sane = row.since.max(world.sane_since);
                    if row.gone.is_none() && world.forgets == 0 && now > sane + RESYNC + POLL {
                        prop_assert!(stands, "{} never came", row.id);
                    }
                }
            }
        }
    }
}

#[test]
fn what_lapi_has_written_anew_in_a_list_that_it_pulls_is_not_missing_where_the_new_one_stands_as_long() {
    let of = |origin: &str, id, kind, tenths| {
        let mut decision = decision(id, "192.0.2.1", kind, tenths);
        decision.source.origin = origin.into();
        decision
    };
    for (origin, kind, tenths, left) in [
        ("CAPI", "ban", 72_000, 1),
        ("lists", "ban", 72_000, 1),
        // LAPI's clock and ours are never quite the same.
        ("CAPI", "ban", 35_990, 1),
        ("CAPI", "ban", 30_000, 2),
        ("CAPI", "captcha", 72_000, 2),
        // LAPI never replaces decisions of these origins.
        ("crowdsec", "ban", 72_000, 2),
        ("cscli", "ban", 72_000, 2),
    ] {
        let (set, now) = set_of([of(origin, 1, "ban", 36_000)]);
        take_changes(&set, now, [Entry::New(of(origin, 2, kind, tenths))]);
        let taken = take_all(&set, now, [of(origin, 2, kind, tenths)]);
        assert_eq!((set.len(), taken.kept, taken.ended), (left, left - 1, 0), "{origin} {kind} {tenths}");
    }
    // A decision that the answer lacks as well is not the successor of another one.
    let both = [of("lists", 1, "ban", 36_000), of("lists", 2, "ban", 72_000)];
    let (set, now) = set_of(both.clone());
    assert_eq!(take_all(&set, now, []).kept, 2);
    take_changes(&set, now, [Entry::Deleted(both[1].clone())]);
    assert_eq!(set.len(), 1, "the other one stands");
    // A decision of another origin is no successor.
    let (set, now) = set_of([of("CAPI", 1, "ban", 36_000)]);
    assert_eq!(take_all(&set, now, [of("lists", 2, "ban", 72_000)]).kept, 1);
}
