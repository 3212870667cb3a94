//! What becomes of a request by AppSec's word? AppSec is the second judge: it is asked after the bouncer has let the
//! visitor in, and before the application sees the request.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::response::Response;
use rocket::{Data, Request};

use super::answer::Answer;
use super::body::{PEEK, shown};
use super::client::Client;
use super::config::Config;
use super::hearing::Hearing;
use super::question::about;
use super::relay::{Relay, is_about_a_challenge};
use crate::crowdsec::bouncer::{Bouncer, Judgement, OUR_RANK, Verdict};
use crate::crowdsec::decisions::{Remediation, Source};
use crate::crowdsec::pages;
use crate::crowdsec::panics::lock;
use crate::crowdsec::printable::printable;
use crate::crowdsec::reminder::{HOUR, MINUTE, Reminder};

/// Kept as Rocket's state in an `Option`, which is `None` where no `appsec.url` is set.
pub struct AppSec {
    pub config: Config,
    client: Client,
    /// Questions that AppSec has not answered. The log reports them once a minute.
    outages: Reminder,
    /// Requests that reached a handler while AppSec had not seen their body, by the route's method and path.
    unjudged: Mutex<HashMap<String, Reminder>>,
}

#[rocket::async_trait]
impl Fairing for AppSec {
    fn info(&self) -> Info {
        Info { name: "CrowdSec's AppSec", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, data: &mut Data<'_>) {
        let Some(bouncer) = Bouncer::of(request) else { return };
        let visit = bouncer.visit(request);
        // For a challenge's path the route asks, since it reads the whole body.
        if visit.refusal().is_some() || is_about_a_challenge(request) || bouncer.spares_other_judges(request) {
            return;
        }
        let hearing = Hearing::of(request);
        let judgement = match shown(request, data).await {
            Ok(body) => {
                hearing.has_body.store(body.is_some(), Ordering::Relaxed);
                let answer = self.ask(bouncer, request, body.unwrap_or_default()).await;
                let Some(judgement) = self.refusal(bouncer, request, answer) else { return };
                judgement
            }
            // To hang up is neither an outage nor an attack: AppSec is not asked, and no handler runs.
            Err(status) => visit.judgement.with(hearing.keep(Relay::bare(status))),
        };
        bouncer.refuse(visit, judgement);
        pages::send_to_refusal(request);
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let Some(bouncer) = Bouncer::of(request) else { return };
        let hearing = Hearing::of(request);
        let is_half = || !hearing.has_body.load(Ordering::Relaxed) && !bouncer.spares_other_judges(request);
        let has_handler = request.route().is_some_and(|route| route.rank > OUR_RANK + 1);
        match bouncer.visit(request).refusal() {
            Some(Verdict::Answered) => hearing.answer(response),
            None if has_handler && is_half() => self.tell_unjudged(request),
            _ => {}
        }
    }
}

impl AppSec {
    pub fn new(config: Config, client: Client) -> Self {
        Self { config, client, outages: Reminder::default(), unjudged: Mutex::default() }
    }

    /// Asks about a request. `body` is whole, or empty where it is left to `Inspected`.
    pub async fn ask(&self, bouncer: &Bouncer, request: &Request<'_>, body: Arc<[u8]>) -> Answer {
        let (visit, began) = (bouncer.visit(request), Instant::now());
        // The operator's `allow` lets the visitor in, whatever another judge would say.
        if visit.judgement.has(Remediation::Allow) {
            return Answer::Allow;
        }
        let answer = match about(request, visit, body) {
            Some(question) => self.client.ask(question).await,
            // Fails closed: what no question can be made of, such as a target that is no path, is no page either.
            None => Answer::Unjudgeable,
        };
        if let Some(questions) = bouncer.questions.get() {
            questions.count(answer.name(), began.elapsed(), bouncer.unix_now());
        }
        answer
    }

    /// The judgement by which an answer refuses the visitor. `None` where the visitor is let in, also in a trial, which
    /// the log reports.
    pub fn refusal(&self, bouncer: &Bouncer, request: &Request<'_>, answer: Answer) -> Option<Judgement> {
        let visit = bouncer.visit(request);
        let (origin, verdict) = match answer {
            Answer::Allow => return None,
            Answer::Act { word, status } => ("appsec", bouncer.verdict_by(request, meaning(bouncer, word), status)),
            Answer::Relay(relay) => ("appsec", Hearing::of(request).keep(relay)),
            // Fails closed: no visitor may get in by sending what AppSec cannot read.
            Answer::Unjudgeable => ("appsec", Verdict::BAN),
            Answer::Outage(reason) => {
                self.tell_outage(&reason);
                // `passthrough` fails open, as the operator asked: the decisions of LAPI are enforced all the same.
                ("fallback", bouncer.verdict_by(request, self.config.failure_action, None))
            }
        };
        if verdict == Verdict::Admit {
            return None;
        }
        let judgement = visit.judgement.by_another(verdict, origin);
        if bouncer.is_enforced(verdict) {
            return Some(judgement);
        }
        bouncer.note_trial(visit, judgement);
        None
    }

    pub fn tell_outage(&self, reason: &str) {
        let Some(times) = self.outages.count(1, MINUTE, Instant::now()) else { return };
        let meet = self.config.failure_action.map_or("no judge but LAPI's decisions", Remediation::as_str);
        let (url, reason) = (&self.client.at, printable(reason));
        log::warn!(
            "AppSec at {url} does not answer: {reason} ({times} so far). Meanwhile visitors meet {meet} (`appsec.failure_action`)."
        );
    }

    /// Reports a body that came to a handler unjudged, for each route by itself: we do not know whether a handler reads
    /// the body, and what a stranger sends to a handler that does not must not hide the others.
    fn tell_unjudged(&self, request: &Request<'_>) {
        let route = request.route().map(|route| format!("{} {}", route.method, route.uri)).unwrap_or_default();
        let told = lock(&self.unjudged).entry(route.clone()).or_default().count(1, HOUR, Instant::now());
        let Some(times) = told else { return };
        log::warn!(
            "AppSec has not seen the body of a request to `{}`, which is longer than {PEEK} bytes, or slow ({times} so far). If \
             that route takes `Form<…>` or the like, let it take `Inspected<Form<…>>`: docs/appsec.md.",
            printable(&route)
        );
    }
}

/// What a word of AppSec's means: the same as that word as the type of a decision.
fn meaning(bouncer: &Bouncer, word: String) -> Option<Remediation> {
    let source = Source { origin: "appsec".into(), scenario: String::new(), scope: String::new(), kind: word };
    bouncer.config.types.remediation(&source)
}
