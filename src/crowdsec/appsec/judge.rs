//! What becomes of a request by AppSec's word? The second judge, asked after the first has let the visitor in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rocket::Request;

use super::answer::Answer;
use super::body::PEEK;
use super::client::Client;
use super::config::{Config, FailureAction};
use super::hearing::Hearing;
use super::question::about;
use crate::crowdsec::bouncer::{Bouncer, Verdict, Visit};
use crate::crowdsec::decisions::{Remediation, Source};
use crate::crowdsec::limit::Limit;
use crate::crowdsec::printable::printable;

/// All that questions are asked by, kept as Rocket's state. `None` inside where no `appsec.url` is set.
pub struct Judge(pub Option<Arc<AppSec>>);

pub struct AppSec {
    pub config: Config,
    client: Client,
    /// The log's lines about an AppSec that does not answer: one a minute.
    outages: Limit,
    untold: AtomicU64,
    /// Bodies that handlers have read and nobody has judged.
    unjudged: AtomicU64,
}

impl AppSec {
    pub fn new(config: Config, client: Client) -> Self {
        let outages = Limit::new(1, Duration::from_secs(60));
        Self { config, client, outages, untold: AtomicU64::new(0), unjudged: AtomicU64::new(0) }
    }

    /// Asks about a request at this address, with this much of its body.
    pub async fn ask(&self, bouncer: &Bouncer, request: &Request<'_>, uri: &str, body: Arc<[u8]>) -> Answer {
        let visit = bouncer.visit(request);
        let Some(question) = about(self.client.blank(), request, visit, uri, body) else { return Answer::Unjudgeable };
        let began = Instant::now();
        let answer = self.client.ask(question).await;
        if let Some(questions) = bouncer.questions.get() {
            questions.count(answer.name(), began.elapsed(), bouncer.unix_now());
        }
        answer
    }

    /// What an answer means for the visitor, logged. `Admit` as well where `enforce` makes it a trial.
    pub fn verdict(&self, bouncer: &Bouncer, request: &Request<'_>, answer: Answer) -> Verdict {
        let visit = bouncer.visit(request);
        let verdict = match answer {
            Answer::Allow => Verdict::Admit,
            Answer::Act { word, status } => {
                let verdict = by_word(bouncer, request, visit, word);
                if let Some(status) = status.filter(|_| verdict == Verdict::Ban) {
                    visit.answer_with(status);
                }
                verdict
            }
            Answer::Relay(relay) => Hearing::of(request).relay(relay),
            // Fails closed: what a visitor can make unreadable must not get in by being so.
            Answer::Unjudgeable => Verdict::Ban,
            Answer::Outage(reason) => {
                self.tell_outage(&reason);
                Hearing::of(request).is_outage.store(true, Ordering::Relaxed);
                match self.config.failure_action {
                    // Fails open, as the operator asked: the decisions of LAPI are enforced all the same.
                    FailureAction::Passthrough => Verdict::Admit,
                    FailureAction::Captcha => captcha(bouncer, request, visit),
                    FailureAction::Ban => Verdict::Ban,
                }
            }
        };
        if verdict == Verdict::Admit {
            return verdict;
        }
        let is_enforced = bouncer.is_enforced(verdict);
        // A challenge is no refusal: every browser meets one.
        if verdict != Verdict::Answered {
            let asked = visit.asked(request);
            bouncer.told.refused_by(&visit.judgement, verdict, asked, !is_enforced, "AppSec");
        }
        if is_enforced { verdict } else { Verdict::Admit }
    }

    pub fn tell_outage(&self, reason: &str) {
        if self.outages.count((), Instant::now()).is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let what = match self.config.failure_action {
            FailureAction::Passthrough => "let in unjudged",
            FailureAction::Captcha => "asked to solve a captcha",
            FailureAction::Ban => "refused",
        };
        let more = match self.untold.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            more => format!(" ({more} more questions went unanswered before)"),
        };
        let (url, reason) = (&self.client.at, printable(reason));
        log::warn!("AppSec at {url} does not answer: {reason}. Visitors are {what}: `appsec.failure_action`.{more}");
    }

    /// Tells of a body that a handler has read and nobody has judged: the first one, the tenth, the hundredth and so on.
    pub fn tell_unjudged(&self, request: &Request<'_>) {
        let count = self.unjudged.fetch_add(1, Ordering::Relaxed) + 1;
        if count != 10_u64.pow(count.ilog10()) {
            return;
        }
        let route = request.route().map(|route| printable(&route.uri.to_string())).unwrap_or_default();
        log::warn!(
            "AppSec has not seen the body of a request to `{route}`, which is longer than {PEEK} bytes, or slow: {count} so far. \
             Let the route take `Inspected<Form<…>>` in the place of `Form<…>`: docs/appsec.md."
        );
    }
}

/// What a word of AppSec's means: the same as the type of a decision.
fn by_word(bouncer: &Bouncer, request: &Request<'_>, visit: &Visit, word: String) -> Verdict {
    let source = Source { origin: "appsec".into(), scenario: String::new(), scope: String::new(), kind: word };
    match bouncer.config.types.remediation(&source) {
        Some(Remediation::Ban) => Verdict::Ban,
        Some(Remediation::Captcha) => captcha(bouncer, request, visit),
        Some(Remediation::Throttle) => bouncer.throttled(&visit.judgement).unwrap_or(Verdict::Admit),
        Some(Remediation::Pass | Remediation::Allow) | None => Verdict::Admit,
    }
}

/// A solved captcha satisfies AppSec's as well as a decision's.
fn captcha(bouncer: &Bouncer, request: &Request<'_>, visit: &Visit) -> Verdict {
    match bouncer.passes.since(request, visit.judgement.address, bouncer.unix_now()) {
        Some(_) => Verdict::Admit,
        None => Verdict::Captcha,
    }
}
