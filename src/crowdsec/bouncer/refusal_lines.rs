//! Which refusals does the log tell, and by which reference does an operator find them?

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Asked, Judgement, Verdict};
use crate::crowdsec::decisions::Standing;
use crate::crowdsec::limit::Limit;
use crate::crowdsec::printable::printable;
use crate::crowdsec::reminder::{HOUR, MINUTE, Reminder};
use crate::crowdsec::visitor::Unnamed;

/// The log's lines about refusals.
pub struct RefusalLines {
    /// One line a minute for each address (IPv6: /64).
    of_one: Limit,
    /// A crowd of addresses must not fill the disk. `refusal_log` has all refusals.
    of_all: Limit,
    unlogged: AtomicU64,
    unlisted: Reminder,
    /// The secret in the references, so that nobody can make one up.
    chance: RandomState,
}

/// Lines in ten seconds, for all addresses together: a third of what journald takes from one service by default. Beyond that,
/// journald would drop any line of the service.
const LINES: u32 = 1000;
/// The characters of a reference, without letters that are easily mistaken for others.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Default for RefusalLines {
    fn default() -> Self {
        let (of_one, of_all) = (Limit::new(1, MINUTE), Limit::new(LINES, Duration::from_secs(10)));
        let (unlogged, unlisted, chance) = Default::default();
        Self { of_one, of_all, unlogged, unlisted, chance }
    }
}

impl RefusalLines {
    /// The reference that a refused visitor can quote, such as `7QK3-0M2F`. All refusals of one address within one minute have
    /// the same reference, and so has the log's line about them.
    pub fn reference(&self, judgement: &Judgement) -> String {
        let bits = self.chance.hash_one((judgement.subject(), self.of_one.window_at(judgement.at)));
        let letter = |place: u32| char::from(LETTERS[(bits >> (5 * place)) as usize % LETTERS.len()]);
        let letters: String = (0..8).map(letter).collect();
        format!("{}-{}", &letters[..4], &letters[4..])
    }

    /// Says that a handler asks for a scope of which nothing is known, since LAPI is not asked for it. At most once an hour for
    /// all scopes together: a handler that takes the name from its visitor must not fill the log.
    pub fn unlisted(&self, scope: &str) {
        if self.unlisted.count(1, HOUR, Instant::now()).is_some() {
            log::error!(
                "A handler asks for decisions of scope `{0}`, which is not in `crowdsec.scopes`, so that none is ever found and \
                 nobody refused for it. Set scopes = [\"ip\", \"range\", \"{0}\"].",
                printable(scope)
            );
        }
    }

    /// Logs a refusal, or a trial of one, at most once a minute for each address (IPv6: /64).
    pub fn write(&self, asked: &Asked, judgement: &Judgement, is_trial: bool) {
        // A refusal that is only tried takes no line away from a real one.
        let is_first = self.of_one.count((judgement.subject(), is_trial), judgement.at).is_ok();
        if !is_first || self.of_all.count((), Instant::now()).is_err() {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let (address, reference) = (judgement.address, self.reference(judgement));
        let more = match self.unlogged.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            more => format!(" ({more} more refusals went unlogged before)"),
        };
        let asked = format!("{} {}", asked.method, printable(asked.path()));
        let what = match (judgement.verdict, judgement.cause()) {
            (Verdict::Hidden, _) if judgement.unnamed == Some(Unnamed::Gone) => {
                "a visitor who had gone before anybody knew who it was".to_owned()
            }
            (Verdict::Hidden, _) => format!("a visitor whom the proxy {address} does not name"),
            (Verdict::NotYet, _) => format!("{address}: LAPI has not answered yet"),
            (verdict, None) => format!("{address}: {} by a guard of the route", verdict.name()),
            (_, Some(standing)) => {
                let Standing { remediation, source, .. } = standing;
                let (origin, mut scenario) = (printable(&source.origin), printable(&source.scenario));
                if !scenario.is_empty() {
                    scenario = format!(" ({scenario})");
                }
                // A guard may refuse for a decision that lets visitors in elsewhere.
                let by_guard = judgement.verdict.remediation().is_some_and(|refused| refused != *remediation);
                let guard = if by_guard { ", for which a guard of the route refuses" } else { "" };
                format!("{address}: {remediation} by {origin}{scenario}, {}{guard}", standing.name())
            }
        };
        let (refused, trial) =
            if is_trial { ("Would have refused", ", but `enforce` lets them in") } else { ("Refused", "") };
        log::warn!("{refused} {what}, for {asked}, reference {reference}{trial}.{more}");
    }
}

#[cfg(test)]
mod tests {
    use rocket::http::Method;

    use super::*;

    fn judgement(address: &str, at: Instant) -> Judgement {
        Judgement::new(address.parse().expect("an address"), at, None)
    }

    #[test]
    fn a_crowd_gets_a_thousand_lines_in_ten_seconds_and_what_it_gets_no_more_is_counted() {
        let (lines, now) = (RefusalLines::default(), Instant::now());
        let asked = Asked { method: Method::Get, uri: "/".into() };
        let of = |address: String| lines.write(&asked, &judgement(&address, now).with(Verdict::BAN), false);
        let unlogged = || lines.unlogged.load(Ordering::Relaxed);
        (0..1000).for_each(|number: u32| of(format!("10.0.{}.{}", number / 250, number % 250)));
        assert_eq!(unlogged(), 0);
        (0..100).for_each(|number| of(format!("192.0.2.{number}")));
        assert_eq!(unlogged(), 100);
    }

    #[test]
    fn one_address_that_comes_again_and_again_takes_no_line_away_from_a_crowd() {
        let (lines, now) = (RefusalLines::default(), Instant::now());
        let asked = Asked { method: Method::Get, uri: "/".into() };
        let of = |address: String| lines.write(&asked, &judgement(&address, now).with(Verdict::BAN), false);
        let unlogged = || lines.unlogged.swap(0, Ordering::Relaxed);
        (0..2000).for_each(|_| of("192.0.2.1".into()));
        assert_eq!(unlogged(), 1999);
        (0..100).for_each(|number: u32| of(format!("10.0.0.{number}")));
        assert_eq!(unlogged(), 0);
    }

    #[test]
    fn one_address_has_one_reference_a_minute_and_others_have_others() {
        let (lines, now) = (RefusalLines::default(), Instant::now());
        let of = |address: &str, seconds| lines.reference(&judgement(address, now + Duration::from_secs(seconds)));
        assert_eq!(of("192.0.2.1", 0), of("192.0.2.1", 50));
        assert_eq!(of("2001:db8::1", 0), of("2001:db8::2", 50));
        assert_ne!(of("192.0.2.1", 0), of("192.0.2.1", 70));
        assert_ne!(of("192.0.2.1", 0), of("192.0.2.2", 0));
        let reference = of("192.0.2.1", 0);
        assert!(reference.len() == 9 && reference.bytes().all(|byte| byte == b'-' || LETTERS.contains(&byte)));
    }

    #[test]
    fn a_trial_takes_no_line_away_from_a_refusal() {
        let (lines, now) = (RefusalLines::default(), Instant::now());
        let asked = Asked { method: Method::Get, uri: "/".into() };
        for is_trial in [true, false] {
            lines.write(&asked, &judgement("192.0.2.1", now).with(Verdict::BAN), is_trial);
        }
        assert_eq!(lines.unlogged.load(Ordering::Relaxed), 0);
    }
}
