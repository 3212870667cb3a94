//! What happened minute by minute, and hour by hour? Only the counters as each minute began are kept, so that a request
//! pays nothing for the history.

use std::collections::VecDeque;

use rocket::serde::json::{Value, json};

use crate::crowdsec::metrics::counts::Figures;
use crate::crowdsec::timestamp::timestamp;

/// What is counted, by its name in the template and in the JSON. `others` are the refusals that are neither ban nor
/// captcha: `throttle`, `hidden`, `too_large` and `starting`.
const KINDS: [&str; 5] = ["let_in", "refused", "banned", "captchas", "others"];

/// How many requests of each kind there were since the launch, in the order of `KINDS`.
pub type Totals = [u64; KINDS.len()];

/// The counters at the beginning of each of the last minutes, oldest first. Never empty.
pub struct History {
    /// The minute, in minutes since 1970, and what was counted before it.
    marks: VecDeque<(u64, Totals)>,
}

/// How many marks are kept: enough for 24 hours, the current one included.
const MINUTES: usize = 24 * 60;

impl History {
    /// `now` is in seconds since 1970, here and below.
    pub fn new(now: u64) -> Self {
        Self { marks: [(now / 60, Totals::default())].into() }
    }

    /// Call this at least once a minute. A minute without a call is counted in the minute before.
    pub fn note(&mut self, now: u64, totals: Totals) {
        let minute = now / 60;
        // After a clock was set back nothing is noted until it has caught up.
        if self.marks.back().is_some_and(|(last, _)| *last < minute) {
            self.marks.push_back((minute, totals));
        }
        if self.marks.len() > MINUTES {
            self.marks.pop_front();
        }
    }

    /// The last `count` spans of `minutes` minutes, oldest first: when each began, and how many requests of each kind
    /// it had, `null` before the launch. The last span is not over yet.
    pub fn bins(&self, count: u64, minutes: u64, now: u64, totals: Totals) -> Vec<Value> {
        let (oldest, last) = (self.marks[0].0 / minutes, now / 60 / minutes);
        let before = |span: u64| {
            let place = self.marks.partition_point(|(minute, _)| *minute < span * minutes);
            self.marks.get(place).map_or(totals, |(_, totals)| *totals)
        };
        let bin = |span: u64| {
            let (after, before) = (before(span + 1), before(span));
            let mut bin = json!({ "begin": timestamp(span * minutes * 60) });
            for (kind, name) in KINDS.into_iter().enumerate() {
                bin[name] = json!((span >= oldest).then(|| after[kind].saturating_sub(before[kind])));
            }
            bin
        };
        (last.saturating_sub(count - 1)..=last).map(bin).collect()
    }
}

/// A request that was judged and not refused was let in.
pub fn totals(figures: &Figures) -> Totals {
    let dropped = |is_meant: fn(&str) -> bool| -> u64 {
        figures.dropped.iter().filter(|((_, name, _), _)| is_meant(name)).map(|(_, count)| count).sum()
    };
    let (refused, judged) = (dropped(|_| true), figures.processed.iter().sum::<u64>());
    let (banned, captchas) = (dropped(|name| name == "ban"), dropped(|name| name == "captcha"));
    [judged.saturating_sub(refused), refused, banned, captchas, refused - banned - captchas]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn let_in(let_in: u64) -> Totals {
        [let_in, 0, 0, 0, 0]
    }

    fn number(bin: &Value, kind: &str) -> Option<u64> {
        bin[kind].as_u64()
    }

    /// How many requests were let in during each of the last ten minutes.
    fn last_ten(history: &History, now: u64, totals: u64) -> Vec<Option<u64>> {
        let bins = history.bins(60, 1, now, let_in(totals));
        assert_eq!((bins.len(), &bins[59]["begin"]), (60, &timestamp(now / 60 * 60).into()));
        bins[50..].iter().map(|bin| number(bin, "let_in")).collect()
    }

    #[test]
    fn each_minute_has_what_was_counted_in_it_and_the_last_one_grows_while_it_lasts() {
        let launch = 1_000 * 60 + 30;
        let mut history = History::new(launch);
        history.note(launch + 10, let_in(3));
        assert_eq!(last_ten(&history, launch + 20, 4)[8..], [None, Some(4)]);
        history.note(launch + 31, let_in(5));
        history.note(launch + 40, let_in(6));
        assert_eq!(last_ten(&history, launch + 45, 9)[7..], [None, Some(5), Some(4)]);
        // Nothing was noted for three minutes, as on a machine that slept.
        history.note(launch + 31 + 3 * 60, let_in(20));
        let none = Some(0);
        assert_eq!(last_ten(&history, launch + 40 + 3 * 60, 21)[4..], [None, Some(5), Some(15), none, none, Some(1)]);
    }

    #[test]
    fn a_clock_that_is_set_back_loses_nothing_and_one_that_jumps_ahead_invents_nothing() {
        let launch = 1_000 * 3600;
        let mut history = History::new(launch);
        history.note(launch + 60, let_in(1));
        history.note(launch + 10, let_in(2));
        history.note(launch + 120, let_in(3));
        assert_eq!(last_ten(&history, launch + 130, 4)[6..], [None, Some(1), Some(2), Some(1)]);
        let later = launch + 100 * 3600;
        history.note(later, let_in(4));
        assert_eq!(last_ten(&history, later, 6), [[Some(0); 9].as_slice(), &[Some(2)]].concat());
        let day = history.bins(24, 60, later, let_in(6));
        assert_eq!((day.len(), number(&day[23], "let_in")), (24, Some(2)));
    }

    #[test]
    fn whatever_is_noted_all_of_it_is_counted_once_and_memory_stays_bounded() {
        let mut history = History::new(0);
        let mut totals = Totals::default();
        for second in (0..48 * 3600).step_by(7) {
            totals = std::array::from_fn(|kind| totals[kind] + [5, 6, 3, 2, 1][kind]);
            history.note(second, totals);
        }
        let now = 48 * 3600 - 1;
        for (bins, seconds) in
            [(history.bins(60, 1, now, totals), 3600), (history.bins(24, 60, now, totals), 24 * 3600)]
        {
            let sum = |kind| bins.iter().filter_map(|bin| number(bin, kind)).sum::<u64>();
            let rounds = seconds / 7;
            assert!(sum("banned").abs_diff(3 * rounds) <= 3 && sum("let_in").abs_diff(5 * rounds) <= 5);
            assert_eq!(sum("refused") * 5, sum("let_in") * 6);
        }
        assert!(history.marks.len() <= MINUTES);
    }
}
