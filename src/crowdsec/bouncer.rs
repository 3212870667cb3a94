//! What is to be done with one request? The judgement, and all that it rests on.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use rocket::Request;
use rocket::futures::future::BoxFuture;
use rocket::http::Method;

use super::captcha::Captcha;
use super::client_ip::{ClientIp, Subject};
use super::config::{Config, OnStartupFailure};
use super::decision::Remediation;
use super::decision_set::{DecisionSet, Standing};
use super::journal::Logs;
use super::limit::Limit;
use super::path::Prefix;
use super::poller::{Health, Status};
use super::printable::printable;
use super::session;

/// Everything that a request is judged by, shared by all of them.
pub struct Bouncer {
    pub config: Config,
    pub decisions: Arc<DecisionSet>,
    pub status: Arc<Status>,
    pub client_ip: ClientIp,
    pub captcha: Option<Captcha>,
    pub logs: Logs,
    /// Answers to captchas, per visitor.
    pub attempts: Limit,
    /// Captchas solved lately, per visitor: who solved one and comes without a cookie has a browser that keeps none.
    pub solved: Limit,
    refusals: Limit,
    unlogged: AtomicU64,
}

/// The judgement on one request.
#[derive(Clone, Debug)]
pub struct Judgement {
    pub address: IpAddr,
    pub verdict: Verdict,
    /// What stands against the visitor, even if it is solved or allowed.
    pub standing: Option<Standing>,
    /// The request as it came in, where the fairing sent it to `/crowdsec/refused`. Set where the judgement lies in the
    /// request's cache: a fairing before ours may have asked for it already.
    pub asked: OnceLock<Asked>,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    /// Path and query.
    pub uri: String,
}

impl Asked {
    pub fn now(request: &Request<'_>) -> Self {
        let (path, query) = (request.uri().path().as_str(), request.uri().query());
        let uri = query.map_or_else(|| path.to_owned(), |query| [path, "?", query.as_str()].concat());
        Self { method: request.method(), uri }
    }
}

/// Before any route of the application's, however it is ranked.
pub const OUR_RANK: isize = isize::MIN;

/// Whether a request has come to one of our own routes.
pub fn is_ours(request: &Request<'_>) -> bool {
    request.route().is_some_and(|route| route.rank == OUR_RANK && route.uri.base() == "/crowdsec")
}

/// What a fairing gives back that waits for nothing. It holds nothing either, so it costs no memory; what an `async fn`
/// of a fairing gives back costs some for every request.
pub fn done() -> BoxFuture<'static, ()> {
    Box::pin(poll_fn(|_| Poll::Ready(())))
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Admit,
    Captcha,
    Ban,
    /// A trusted proxy does not say whose request it is.
    Hidden,
    /// LAPI has not answered yet, and the operator said `on_startup_failure = "closed"`.
    NotYet,
}

impl Judgement {
    pub fn subject(&self) -> Subject {
        self.address.into()
    }
}

/// A captcha page in a second is a form of its own of knocking: so many answers a minute, counted per visitor.
const ATTEMPTS: u32 = 20;
/// Lines about refusals in ten seconds; a flood of requests must not become a flood of the log.
const LINES: u32 = 20;

impl Bouncer {
    pub fn new(config: Config, captcha: Option<Captcha>, logs: Logs) -> Self {
        let decisions = DecisionSet::new(Instant::now());
        for own in &config.decisions {
            decisions.pin(own.value.0, own.remediation, &own.reason);
        }
        Self {
            decisions: Arc::new(decisions),
            status: Arc::new(Status::new(config.update_frequency)),
            client_ip: ClientIp::new(&config),
            captcha,
            logs,
            attempts: Limit::new(ATTEMPTS, Duration::from_secs(60)),
            solved: Limit::new(1, Duration::from_secs(60)),
            refusals: Limit::new(LINES, Duration::from_secs(10)),
            unlogged: AtomicU64::new(0),
            config,
        }
    }

    /// Judges a request anew. The order is the policy: who hides, what is allowed by the operator, then a ban, which no
    /// solved captcha outweighs, then the captcha.
    pub fn judge(&self, request: &Request<'_>) -> Judgement {
        let (address, hidden) = self.client_ip.of(request);
        if hidden {
            // Fails closed: this may be anybody, and what is said of the proxy's own address is not said of them.
            return Judgement { address, verdict: Verdict::Hidden, standing: None, asked: OnceLock::new() };
        }
        let standing = self.decisions.strongest(address, Instant::now);
        let verdict = match standing.as_ref().map(|standing| standing.remediation) {
            Some(Remediation::Allow) => Verdict::Admit,
            Some(Remediation::Ban) => Verdict::Ban,
            // Fails closed, as the operator asked: before the first answer nobody knows who is banned.
            _ if self.is_closed() => Verdict::NotYet,
            Some(Remediation::Captcha) if !session::holds(request.cookies(), address.into()) => Verdict::Captcha,
            Some(Remediation::Captcha) | None => Verdict::Admit,
        };
        Judgement { address, verdict, standing, asked: OnceLock::new() }
    }

    /// The judgement on this request, made once: what the fairing decided, every guard and page finds here.
    pub fn judgement<'r>(&self, request: &'r Request<'_>) -> &'r Judgement {
        request.local_cache(|| self.judge(request))
    }

    /// Whether the fairing lets a request pass whatever the judgement. These are all the exemptions there are.
    pub fn spares(&self, request: &Request<'_>, verdict: Verdict) -> bool {
        let path = request.uri().path().as_str();
        // A load balancer's probe gets its answer wherever it comes from; it says nothing but up or down.
        (path == "/crowdsec/health" && matches!(request.method(), Method::Get | Method::Head))
            // Who has to solve a captcha has to be able to send the answer.
            || (verdict == Verdict::Captcha
                && path == "/crowdsec/captcha"
                && matches!(request.method(), Method::Get | Method::Head | Method::Post))
            || self.config.excluded_paths.iter().any(|prefix: &Prefix| prefix.holds(path))
    }

    /// Tells the log about a refusal, as often as is good for the log.
    pub fn log(&self, judgement: &Judgement) {
        let address = judgement.address;
        if self.refusals.count((), Instant::now()).is_err() {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let more = match self.unlogged.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            more => format!(" ({more} more refusals went unlogged before)"),
        };
        match (judgement.verdict, &judgement.standing) {
            (Verdict::Hidden, _) => log::warn!("Refused a visitor whom the proxy {address} does not name.{more}"),
            (Verdict::NotYet, _) => log::warn!("Refused {address}: LAPI has not answered yet.{more}"),
            (_, Some(Standing { remediation, id, source, .. })) => {
                let id = id.map_or("decision of your own".to_owned(), |id| format!("decision {id}"));
                let (origin, mut scenario) = (printable(&source.origin), printable(&source.scenario));
                if !scenario.is_empty() {
                    scenario = format!(" ({scenario})");
                }
                log::warn!("Refused {address}: {remediation} by {origin}{scenario}, {id}.{more}");
            }
            (_, None) => {}
        }
    }

    /// Whether LAPI answers; true as well where there is none to ask.
    pub fn health(&self) -> Health {
        if self.config.lapi.is_some() { self.status.health() } else { Health::Ok }
    }

    fn is_closed(&self) -> bool {
        self.config.on_startup_failure == OnStartupFailure::Closed && self.health() == Health::Starting
    }
}
