//! What does the bouncer offer to a second judge of requests, such as AppSec, which is asked after it?

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rocket::Request;
use rocket::http::Status;

use super::exemptions::{is_captcha, is_preflight};
use super::{Bouncer, Judgement, Verdict, Visit};
use crate::crowdsec::decisions::{Remediation, Standing};
use crate::crowdsec::tally::Tally;

/// The questions to such a judge since the launch, for whoever counts. Kept here, so that each of the two rooms can go
/// without the other.
#[derive(Default)]
pub struct Questions {
    /// By `ACTIONS`.
    pub tally: Tally,
    /// When the first of the questions went unanswered since the last answer, in seconds since 1970; 0 while they are answered.
    pub failing_since: AtomicU64,
}

/// How a question can end. `other` is a word of the operator's own; `unreadable` was refused as no question that can be judged.
pub const ACTIONS: [&str; 7] = ["allow", "ban", "captcha", "other", "challenge", "unreadable", "error"];

impl Questions {
    /// Counts a question that ended in one of `ACTIONS`.
    pub fn count(&self, action: &str, took: Duration, now: u64) {
        self.tally.count(&ACTIONS, action, took);
        if action == "error" {
            let _ = self.failing_since.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
        } else if action != "unreadable" {
            // AppSec may not even have been asked: no question can be made of some requests.
            self.failing_since.store(0, Ordering::Relaxed);
        }
    }
}

impl Bouncer {
    /// Whether no other judge is asked: about what everybody is served, and about the answer to a captcha, which that judge
    /// may have asked for.
    pub fn spares_other_judges(&self, request: &Request<'_>) -> bool {
        self.spares(request) || is_captcha(request)
    }

    /// The verdict that follows from the remediation which another judge `said`, and of a ban with the status that it chose.
    /// A solved captcha satisfies that judge's as well as a decision's.
    pub fn verdict_by(&self, request: &Request<'_>, said: Option<Remediation>, status: Option<Status>) -> Verdict {
        let Visit { judgement, wait, .. } = self.visit(request);
        // As of a decision: see `judge`.
        let is_solved = || is_preflight(request) || self.solved_at(request, judgement.address).is_some();
        // A request counts once, however often it is judged.
        let count = || match judgement.verdict {
            Verdict::Throttle(wait) => Some(wait),
            Verdict::Admit if judgement.has(Remediation::Throttle) => None,
            _ => self.throttle.count(judgement.subject(), judgement.at).err(),
        };
        let wait = || *wait.get_or_init(count);
        match said {
            Some(Remediation::Ban) => Verdict::Ban(status),
            Some(Remediation::Captcha) if !is_solved() => Verdict::Captcha,
            Some(Remediation::Throttle) => wait().map_or(Verdict::Admit, Verdict::Throttle),
            Some(Remediation::Captcha | Remediation::Pass | Remediation::Allow) | None => Verdict::Admit,
        }
    }
}

impl Judgement {
    /// What another judge says of the visitor, as if it were a decision: logs and figures then name where it comes from.
    pub fn by_another(&self, verdict: Verdict, origin: &str) -> Self {
        let standing = verdict.remediation().map(|remediation| Standing::said_by(origin, remediation, self.address));
        Self { verdict, standing: standing.into_iter().collect(), ..self.clone() }
    }
}
