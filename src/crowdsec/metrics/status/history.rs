//! What happened minute by minute, and hour by hour? The counters as they stood when each began, and nothing besides: a
//! request pays nothing for it.

use std::collections::VecDeque;

use crate::crowdsec::metrics::counts::Figures;

/// How many requests there were since the launch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub let_in: u64,
    pub banned: u64,
    pub captchas: u64,
    /// Refused for anything else: too many requests, no name, too much sent, CrowdSec not heard yet.
    pub others: u64,
}

/// The last 60 minutes, and the last 24 hours.
pub struct History([Ring; 2]);

/// The counters at the beginning of each of the last spans, oldest first.
struct Ring {
    /// In seconds.
    span: u64,
    most: usize,
    /// Which span since 1970, and what was counted before it.
    marks: VecDeque<(u64, Totals)>,
}

/// What happened in one span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// When it began, in seconds since 1970.
    pub begin: u64,
    /// `None` before the launch.
    pub counted: Option<Totals>,
}

impl History {
    /// The time in seconds since 1970, here as everywhere.
    pub fn new(now: u64) -> Self {
        Self([Ring::new(60, 60, now), Ring::new(3600, 24, now)])
    }

    /// Call this at least once a minute. A minute without a call is counted in the minute before.
    pub fn note(&mut self, now: u64, totals: Totals) {
        self.0.iter_mut().for_each(|ring| ring.note(now, totals));
    }

    /// The minutes and the hours, the one that lasts on included, oldest first.
    pub fn bins(&self, now: u64, totals: Totals) -> [Vec<Bin>; 2] {
        self.0.each_ref().map(|ring| ring.bins(now, totals))
    }
}

impl Ring {
    fn new(span: u64, most: usize, now: u64) -> Self {
        Self { span, most, marks: VecDeque::from([(now / span, Totals::default())]) }
    }

    fn note(&mut self, now: u64, totals: Totals) {
        let place = now / self.span;
        // A clock that was set back writes nothing until it is where it was.
        if self.marks.back().is_some_and(|(last, _)| *last < place) {
            self.marks.push_back((place, totals));
            if self.marks.len() > self.most {
                self.marks.pop_front();
            }
        }
    }

    fn bins(&self, now: u64, totals: Totals) -> Vec<Bin> {
        let last = now / self.span;
        let first = last.saturating_sub(self.most as u64 - 1);
        (first..=last).map(|place| Bin { begin: place * self.span, counted: self.counted(place, totals) }).collect()
    }

    fn counted(&self, place: u64, totals: Totals) -> Option<Totals> {
        let (oldest, _) = self.marks.front()?;
        let before = |place| self.marks.iter().find(|(mark, _)| *mark >= place).map_or(totals, |(_, totals)| *totals);
        (place >= *oldest).then(|| before(place + 1).since(before(place)))
    }
}

impl Totals {
    /// Who was judged and not refused was let in.
    pub fn of(figures: &Figures) -> Self {
        let mut totals = Self::default();
        for ((_, remediation, _), count) in &figures.dropped {
            *match *remediation {
                "ban" => &mut totals.banned,
                "captcha" => &mut totals.captchas,
                _ => &mut totals.others,
            } += count;
        }
        let judged: u64 = figures.processed.iter().sum();
        Self { let_in: judged.saturating_sub(totals.refused()), ..totals }
    }

    /// All numbers, by their names on the page and in the JSON.
    pub fn numbers(self) -> [(&'static str, u64); 5] {
        let Self { let_in, banned, captchas, others } = self;
        let refused = ("refused", self.refused());
        [("let_in", let_in), refused, ("banned", banned), ("captchas", captchas), ("others", others)]
    }

    pub fn refused(self) -> u64 {
        self.banned + self.captchas + self.others
    }

    fn since(self, before: Self) -> Self {
        Self {
            let_in: self.let_in.saturating_sub(before.let_in),
            banned: self.banned.saturating_sub(before.banned),
            captchas: self.captchas.saturating_sub(before.captchas),
            others: self.others.saturating_sub(before.others),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Totals {
        fn plus(self, other: Self) -> Self {
            Self {
                let_in: self.let_in + other.let_in,
                banned: self.banned + other.banned,
                captchas: self.captchas + other.captchas,
                others: self.others + other.others,
            }
        }
    }

    fn let_in(let_in: u64) -> Totals {
        Totals { let_in, ..Totals::default() }
    }

    /// How many were let in, by the minute of the last ten.
    fn last_ten(history: &History, now: u64, totals: u64) -> Vec<Option<u64>> {
        let [bins, _] = history.bins(now, let_in(totals));
        assert!(bins.len() == 60 && bins[59].begin == now / 60 * 60, "{bins:?}");
        bins[50..].iter().map(|bin| bin.counted.map(|counted| counted.let_in)).collect()
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
        let [_, day] = history.bins(later, let_in(6));
        assert_eq!((day.len(), day[23].counted), (24, Some(let_in(2))));
    }

    #[test]
    fn whatever_is_noted_all_of_it_is_counted_once_and_memory_stays_bounded() {
        let mut history = History::new(0);
        let mut totals = Totals::default();
        for second in (0..48 * 3600).step_by(7) {
            totals = totals.plus(Totals { let_in: 5, banned: 3, captchas: 2, others: 1 });
            history.note(second, totals);
        }
        let now = 48 * 3600 - 1;
        for (bins, seconds) in history.bins(now, totals).into_iter().zip([3600, 24 * 3600]) {
            let sum = bins.iter().filter_map(|bin| bin.counted).fold(Totals::default(), Totals::plus);
            let rounds = seconds / 7;
            assert!(sum.banned.abs_diff(3 * rounds) <= 3 && sum.let_in.abs_diff(5 * rounds) <= 5, "{sum:?}");
            assert_eq!(sum.refused() * 5, sum.let_in * 6);
        }
        let [minutes, hours] = history.0;
        assert!(minutes.marks.len() <= 60 && hours.marks.len() <= 24);
    }
}
