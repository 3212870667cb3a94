//! How are decisions counted, and which are saved?

use std::sync::Arc;
use std::time::Instant;

use super::{APART, decision, set_of, take_all, take_changes, tenths, types};
use crate::crowdsec::decisions::{DecisionSet, Entry, MOST_ON_ONE_VALUE};

#[test]
fn a_decision_that_is_renewed_is_counted_once_and_by_what_it_says_last() {
    let (now, mut counted) = (Instant::now(), Vec::new());
    let set = Arc::new(DecisionSet::new(now, types()));
    for kind in ["ban", "ban", "captcha"] {
        take_changes(&set, now, [Entry::New(decision(1, "192.0.2.1", kind, 100))]);
    }
    set.by_source(|source, _, counts| counted.push((source.kind.clone(), counts)));
    assert_eq!(counted, [("captcha".to_owned(), [1, 0, 0])]);
}

#[test]
fn what_has_ended_is_not_saved() {
    let now = Instant::now();
    let set = Arc::new(DecisionSet::new(now, types()));
    take_all(&set, now, [decision(1, "192.0.2.1", "ban", 10), decision(2, "192.0.2.2", "ban", 100)]);
    let saved = set.to_save(now + tenths(20));
    assert_eq!(saved.iter().map(|(value, ..)| value.to_string()).collect::<Vec<_>>(), ["192.0.2.2/32"]);
}

#[test]
fn twenty_thousand_decisions_without_an_id_are_told_apart_by_value_scope_and_type() {
    let kinds = |n: u64| decision(0, "198.51.100.7", &format!("kind {n}"), 100);
    let values = |n: u64| {
        let mut decision = decision(0, &format!("10.0.{}.{}", n / 256, n % 256), "ban", 36_000);
        decision.source.scenario = format!("scenario {n}");
        decision
    };
    let (set, now) = set_of((0..20_000).map(values).chain((0..200).map(kinds)));
    assert_eq!(set.len(), 20_200);
    let taken = take_changes(&set, now, (0..20_000).map(values).map(Entry::Deleted));
    assert_eq!((taken.ended, set.len()), (20_000, 200));
}

/// LAPI says anew with each answer what is left of a decision, and its clock and ours are never quite the same.
#[test]
fn of_too_many_decisions_that_end_together_none_is_missing_whichever_were_held() {
    let list = |later: u64| {
        (1..=2 * MOST_ON_ONE_VALUE as u64).map(move |id| decision(id, "192.0.2.1", "ban", 10_000 + (id * later) % 7))
    };
    let (set, now) = set_of(list(1));
    for later in 2..7 {
        let mut again = set.everything(now);
        list(later).for_each(|ban| again.take(Entry::New(ban)));
        let compared = again.take_over(now, tenths(APART));
        assert_eq!(compared.missing().0, 0, "{later}");
        compared.settle(true);
    }
}
