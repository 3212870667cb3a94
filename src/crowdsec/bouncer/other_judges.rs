//! What does the bouncer offer to a second judge of requests, such as AppSec, which is asked after it?

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rocket::Request;
use rocket::http::Status;

use super::exemptions::{is_captcha, is_preflight};
use super::{Bouncer, Judgement, Verdict, Visit};
use crate::crowdsec::decisions::{Remediation, Standing};
use crate::crowdsec::tally::Tally;

/// The questions to the second judge since the launch, for the metrics. Kept here, so that AppSec and the metrics can each be
/// left out alone.
#[derive(Default)]
pub struct Questions {
    /// Counts by `ACTIONS`.
    pub tally: Tally,
    /// When a question first went unanswered after the last answer, in seconds since 1970; 0 while questions are answered.
    pub failing_since: AtomicU64,
}

/// How a question can end. `other` is a word of the operator's own; an `unreadable` request cannot be judged, and is refused.
pub const ACTIONS: [&str; 7] = ["allow", "ban", "captcha", "other", "challenge", "unreadable", "error"];

impl Questions {
    /// Counts a question that ended in one of `ACTIONS`.
    pub fn count(&self, action: &str, took: Duration, now: u64) {
        self.tally.count(&ACTIONS, action, took);
        if action == "error" {
            let _ = self.failing_since.compare_exchange(0, now.max(1), Ordering::Relaxed, Ordering::Relaxed);
        } else if action != "unreadable" {
            // Not for `unreadable`: no question can be made of some requests, so AppSec may not have been asked.
            self.failing_since.store(0, Ordering::Relaxed);
        }
    }
}

impl Bouncer {
    /// Whether no other judge is asked about this request: the fairing spares it, or it is for the captcha's own page, which
    /// that judge may have asked for.
    pub fn spares_other_judges(&self, request: &Request<'_>) -> bool {
        self.spares(request) || is_captcha(request)
    }

    /// The verdict that follows from the remediation that another judge `said`; a ban gets the `status` that the judge chose. A
    /// solved captcha satisfies another judge's captcha as well as a decision's.
    pub fn verdict_by(&self, request: &Request<'_>, said: Option<Remediation>, status: Option<Status>) -> Verdict {
        let Visit { judgement, wait, .. } = self.visit(request);
        // As for a decision's captcha: see `judge`.
        let is_solved = || is_preflight(request) || self.solved_at(request, judgement.address).is_some();
        // A request counts once for `throttle`, however often it is judged.
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
    /// What another judge says of the visitor, as if it were a decision: logs and figures then name its origin.
    pub fn by_another(&self, verdict: Verdict, origin: &str) -> Self {
        let standing = verdict.remediation().map(|remediation| Standing::said_by(origin, remediation, self.address));
        Self { verdict, standing: standing.into_iter().collect(), ..self.clone() }
    }
}
