//! What does another judge, which is asked about single requests after the bouncer, need from it?
#![allow(dead_code, reason = "the room of that judge can be left out")]

use rocket::Request;
use rocket::http::Status;

use super::exemptions::is_captcha;
use super::{Bouncer, Judgement, Verdict, Visit};
use crate::crowdsec::decisions::Standing;

impl Bouncer {
    /// Whether no other judge is asked: about what everybody is served, and about the answer to a captcha, which that judge
    /// may have asked for.
    pub fn spares_other_judges(&self, request: &Request<'_>) -> bool {
        self.spares(request) || is_captcha(request)
    }

    /// Counts a request of a visitor whom another judge throttles. `None` while they are served.
    pub fn throttled(&self, judgement: &Judgement) -> Option<Verdict> {
        self.throttle.count(judgement.subject(), judgement.at).err().map(Verdict::Throttle)
    }
}

impl Judgement {
    /// What another judge says of the visitor, as if it were a decision: logs and figures then name where it comes from.
    pub fn by_another(&self, verdict: Verdict, origin: &str) -> Self {
        let standing = verdict.remediation().map(|remediation| Standing::said_by(origin, remediation, self.address));
        Self { verdict, standing: standing.into_iter().collect(), ..self.clone() }
    }
}

impl Visit {
    /// Has the visitor refused with this status, if it is one of a refusal.
    pub fn answer_with(&self, status: u16) {
        if (400..=499).contains(&status) {
            let _ = self.status.set(Status::new(status));
        }
    }
}
