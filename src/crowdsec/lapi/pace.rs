//! When is LAPI asked next, and when for everything?

use std::time::{Duration, Instant};

use super::Config;

/// How often LAPI is asked.
pub struct Pace {
    pub update_frequency: Duration,
    pub resync_frequency: Duration,
    /// How long LAPI worked for us in vain, if the last poll asked for everything and failed.
    pub wasted: Duration,
    /// How long the last full answer took.
    pub cost: Duration,
}

/// When everything was asked for, and how many changes deltas have named since.
pub struct InStep {
    pub since: Instant,
    pub named: usize,
    /// Whether the full answer held no decision, or more on one value than are held here, or LAPI was asked to confirm it.
    pub was_odd: bool,
    /// The earliest time at which a decision that the full answer lacked may end.
    pub kept_until: Option<Instant>,
}

/// Between two polls until LAPI's first answer, while nobody is protected, and while somebody scans.
pub const EAGER: Duration = Duration::from_secs(1);
/// The longest rest that LAPI gets after it worked in vain.
const LONGEST_REST: Duration = Duration::from_secs(60);

impl Pace {
    pub fn of(config: &Config) -> Self {
        let Config { update_frequency, resync_frequency, .. } = *config;
        Self { update_frequency, resync_frequency, wasted: Duration::ZERO, cost: Duration::ZERO }
    }

    /// How long to go on with deltas. LAPI loses additions while many come at once (each is dated before it is written, and
    /// LAPI's mark has moved meanwhile). A lost addition leaves no trace: ids have gaps anyway, for other scopes and
    /// simulated decisions, and LAPI tells no counts. So after a change the poller asks for everything after three polls,
    /// not after `resync_frequency`, and takes at most a sixtieth of LAPI's time for it. It does the same after an empty
    /// full answer, which costs LAPI nothing and may come from a failing database; after one with more decisions on one
    /// value than are held, since the others count once greater ones end; and after one that LAPI had to confirm.
    pub fn until_everything(&self, in_step: &InStep) -> Duration {
        let soon = (self.update_frequency * 3).max(self.cost * 60).max(Duration::from_secs(10));
        let may_lack_some = in_step.named > 0 || in_step.was_odd;
        let longest = if may_lack_some { soon.min(self.resync_frequency) } else { self.resync_frequency };
        // From `kept_until` on, a second full answer may end a missing decision: ask then, not later.
        in_step.kept_until.map_or(longest, |until| longest.min(until.saturating_duration_since(in_step.since)))
    }

    /// How long to wait until the next poll, give or take a twentieth, so that many instances do not ask in step: a second
    /// until LAPI's first answer (nothing `is_known`), and at most a second while the poller `hurries`, since somebody
    /// scans. After LAPI has worked in vain, it rests for as long as it worked, but a minute at most: so that an instance
    /// takes half of LAPI's time at most, unless one answer takes over a minute. A closed port or a refused key costs LAPI
    /// no time.
    pub fn pause(&self, is_known: bool, hurries: bool) -> Duration {
        let usual = match is_known {
            false => EAGER,
            true if hurries => self.update_frequency.min(EAGER),
            true => self.update_frequency,
        };
        let pause = usual.max(self.wasted.min(LONGEST_REST));
        pause.mul_f64(rand::random_range(0.95..1.05))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lapi_is_asked_each_second_until_it_answers_and_rests_where_it_worked_in_vain() {
        let (update_frequency, resync_frequency) = (Duration::from_secs(10), Duration::from_secs(900));
        for (is_known, hurries, usual) in [(false, false, 1.0), (true, false, 10.0), (true, true, 1.0)] {
            for (wasted, pause) in [(0, usual), (1, usual), (30, 30.0), (600, 60.0)] {
                let wasted = Duration::from_secs(wasted);
                let pace = Pace { update_frequency, resync_frequency, wasted, cost: Duration::ZERO };
                let off = (pace.pause(is_known, hurries).as_secs_f64() - pause).abs();
                assert!(off <= pause / 20.0, "{wasted:?} in vain: {off} s off {pause} s");
            }
        }
    }

    #[test]
    fn after_a_change_everything_is_asked_for_soon_but_for_a_sixtieth_of_lapis_time_at_most() {
        let (update_frequency, resync_frequency) = (Duration::from_secs(10), Duration::from_secs(3600));
        for (named, cost, until) in [(0, 0, 3600), (1, 0, 30), (1, 10, 600), (1, 100, 3600)] {
            let cost = Duration::from_secs(cost);
            let pace = Pace { update_frequency, resync_frequency, wasted: Duration::ZERO, cost };
            let in_step = InStep { since: Instant::now(), named, was_odd: false, kept_until: None };
            assert_eq!(pace.until_everything(&in_step).as_secs(), until, "{named} changes, {cost:?}");
        }
    }
    #[test]
    fn where_decisions_are_missing_everything_is_asked_for_as_soon_as_an_answer_may_end_them() {
        let (update_frequency, resync_frequency) = (Duration::from_secs(10), Duration::from_secs(900));
        let pace = Pace { update_frequency, resync_frequency, wasted: Duration::ZERO, cost: Duration::ZERO };
        let since = Instant::now();
        for (kept, until) in [(None, 900), (Some(450), 450), (Some(0), 0), (Some(1000), 900)] {
            let kept_until = kept.map(|seconds| since + Duration::from_secs(seconds));
            let in_step = InStep { since, named: 0, was_odd: false, kept_until };
            assert_eq!(pace.until_everything(&in_step).as_secs(), until, "{kept:?}");
        }
    }
}
