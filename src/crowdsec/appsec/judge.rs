//! What becomes of a request by AppSec's word? The second judge, asked after the first has let the visitor in.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::uri::Origin;
use rocket::http::{Method, RawStr, Status};
use rocket::response::Response;
use rocket::{Data, Request};
use tokio::time::timeout;

use super::answer::Answer;
use super::client::Client;
use super::config::{Config, FailureAction};
use super::question::{Question, address_of, length_of, says_body};
use super::relay::Relay;
use crate::crowdsec::bouncer::{Bouncer, OUR_RANK, Verdict, Visit};
use crate::crowdsec::decisions::{Remediation, Source};
use crate::crowdsec::limit::Limit;
use crate::crowdsec::pages;
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

/// What is known of one request here, kept with it.
#[derive(Default)]
pub struct Hearing {
    /// Whether the whole request has been judged, its body included.
    pub is_whole: AtomicBool,
    /// Whether its body was left to `Inspected`.
    is_half: AtomicBool,
    /// Whether AppSec did not answer, so that `appsec.failure_action` speaks.
    is_outage: AtomicBool,
    /// An answer of AppSec's for the visitor.
    relay: Mutex<Option<Relay>>,
    /// The method and the address of a request to one of AppSec's own paths.
    pub own: OnceLock<(Method, String)>,
}

impl Hearing {
    pub fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(Self::default)
    }

    /// Where a refusal comes from, for logs and figures.
    pub fn origin(&self) -> &'static str {
        if self.is_outage.load(Ordering::Relaxed) { "fallback" } else { "appsec" }
    }

    pub fn relay(&self, relay: Relay) -> Verdict {
        *self.relay.lock().unwrap_or_else(PoisonError::into_inner) = Some(relay);
        Verdict::Answered
    }
}

/// As much of a body as Rocket shows before a handler has it.
const PEEK: usize = 512;
/// How long such a body may take. It is then left to `Inspected`, like a longer one.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where the scripts and the form of AppSec's challenge lie. They belong to AppSec, wherever the application is mounted.
const OWN_PATHS: &str = "/crowdsec-internal/challenge/";

impl AppSec {
    pub fn new(config: Config, client: Client) -> Self {
        let outages = Limit::new(1, Duration::from_secs(60));
        Self { config, client, outages, untold: AtomicU64::new(0), unjudged: AtomicU64::new(0) }
    }

    /// Asks about a request with the body that comes along, if any.
    pub async fn ask(
        &self,
        request: &Request<'_>,
        visit: &Visit,
        method: Method,
        uri: &str,
        body: Option<Arc<[u8]>>,
    ) -> Answer {
        let Some(question) = Question::about(request, method.as_str(), uri, visit.judgement.address, body) else {
            return Answer::Unjudgeable;
        };
        let began = Instant::now();
        let answer = self.client.ask(&question).await;
        let bouncer = request.rocket().state::<Bouncer>();
        if let Some((bouncer, questions)) = bouncer.and_then(|bouncer| Some((bouncer, bouncer.questions.get()?))) {
            questions.count(answer.name(), began.elapsed(), bouncer.unix_now());
        }
        answer
    }

    /// What an answer means for the visitor, logged. `Admit` as well where `enforce` makes it a trial.
    pub fn verdict(&self, bouncer: &Bouncer, request: &Request<'_>, visit: &Visit, answer: Answer) -> Verdict {
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
        let is_enforced = match verdict.remediation() {
            Some(remediation) => bouncer.enforces(remediation),
            None => !bouncer.config.enforced.is_empty(),
        };
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
        let (url, reason) = (&self.config.url, printable(reason));
        log::warn!("AppSec at {url} does not answer: {reason}. Visitors are {what}: `appsec.failure_action`.{more}");
    }

    /// Tells of a body that a handler has read and nobody has judged: the first one, the tenth, the hundredth and so on.
    fn tell_unjudged(&self, request: &Request<'_>) {
        let count = self.unjudged.fetch_add(1, Ordering::Relaxed) + 1;
        let mut mark = count;
        while mark.is_multiple_of(10) {
            mark /= 10;
        }
        if mark != 1 {
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

/// A body, as far as Rocket shows it to a fairing.
enum Shown {
    /// All of it; `None` where the request says nothing of a body.
    Whole(Option<Arc<[u8]>>),
    /// It is longer, or does not come.
    Part,
    /// The visitor has hung up. Rocket would hand what has come to a handler as if it were whole.
    Cut,
}

async fn shown(request: &Request<'_>, data: &mut Data<'_>) -> Shown {
    let length = length_of(request);
    if length.is_some_and(|length| length > PEEK as u64) {
        return Shown::Part;
    }
    let Ok(body) = timeout(PATIENCE, data.peek(PEEK)).await else { return Shown::Part };
    let body: Arc<[u8]> = body.into();
    let is_all = length == Some(body.len() as u64);
    match body.len() {
        // Up to this length it is not cut by us.
        PEEK if !is_all => Shown::Part,
        _ if is_all || (length.is_none() && data.peek_complete()) => {
            Shown::Whole((!body.is_empty() || says_body(request)).then_some(body))
        }
        _ => Shown::Cut,
    }
}

/// Sends a refused request to our own route. The application then does not see it.
fn refuse(request: &mut Request<'_>, verdict: Verdict) {
    let Some(bouncer) = request.rocket().state::<Bouncer>().filter(|_| verdict != Verdict::Admit) else { return };
    let visit = bouncer.visit(request);
    visit.asked(request);
    visit.refuse_for(verdict, Hearing::of(request).origin());
    pages::send_to_refusal(request);
}

/// Asks before the application sees a request, and hands on what AppSec has for the visitor.
pub struct Asking(pub Arc<AppSec>);

#[rocket::async_trait]
impl Fairing for Asking {
    fn info(&self) -> Info {
        Info { name: "CrowdSec's AppSec", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, data: &mut Data<'_>) {
        let Some(bouncer) = request.rocket().state::<Bouncer>() else { return };
        let visit = bouncer.visit(request);
        if visit.refusal().is_some() {
            return;
        }
        let Some(uri) = address_of(request) else {
            // Fails closed: a target that is no path cannot be judged, and no page has one.
            let verdict = self.0.verdict(bouncer, request, visit, Answer::Unjudgeable);
            return refuse(request, verdict);
        };
        let path = uri.split('?').next().unwrap_or_default();
        if RawStr::new(path).percent_decode_lossy().starts_with(OWN_PATHS) {
            let _ = Hearing::of(request).own.set((visit.asked(request).method, uri));
            request.set_uri(Origin::path_only("/crowdsec/appsec"));
            if request.method() != Method::Head {
                request.set_method(Method::Post);
            }
            return;
        }
        if bouncer.spares_other_judges(request) {
            return;
        }
        let hearing = Hearing::of(request);
        let body = match shown(request, data).await {
            Shown::Whole(body) => body,
            Shown::Part => {
                hearing.is_half.store(true, Ordering::Relaxed);
                None
            }
            // Neither an outage nor an attack: nobody is asked, and no handler runs.
            Shown::Cut => return refuse(request, hearing.relay(Relay::bare(Status::BadRequest))),
        };
        // The bouncer may have sent an upload on by another method.
        let answer = self.0.ask(request, visit, visit.asked(request).method, &uri, body).await;
        let hearing = Hearing::of(request);
        hearing.is_whole.store(!hearing.is_half.load(Ordering::Relaxed), Ordering::Relaxed);
        let verdict = self.0.verdict(bouncer, request, visit, answer);
        refuse(request, verdict);
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let Some(bouncer) = request.rocket().state::<Bouncer>() else { return };
        let (visit, hearing) = (bouncer.visit(request), Hearing::of(request));
        if visit.refusal() == Some(Verdict::Answered) {
            let relay = hearing.relay.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(relay) = relay {
                relay.replace(response);
            }
        }
        let has_handler = request.route().is_some_and(|route| route.rank > OUR_RANK + 1);
        let is_unjudged =
            hearing.is_half.load(Ordering::Relaxed) && !hearing.is_whole.load(Ordering::Relaxed) && has_handler;
        if is_unjudged && visit.refusal().is_none() {
            self.0.tell_unjudged(request);
        }
    }
}
