//! What is to be done with one request? The judgement, and all that it rests on.

mod config;
mod exemptions;
pub mod head;
mod visit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::warn;
use rocket::Request;
use rocket::http::Method;

use super::captcha::{Captcha, Passes};
use super::decisions::{DecisionSet, Remediation, Standing};
use super::lapi::{self, Health, OnStartupFailure, Status};
use super::limit::Limit;
use super::printable::printable;
use super::visitor::ClientIp;

pub use config::{Config, OwnDecision};
pub use visit::{Asked, Judgement, OUR_RANK, Reason, Verdict, Visit, is_ours};

/// Everything that a request is judged by, shared by all of them.
pub struct Bouncer {
    /// Whether this is the debug profile, with its previews and reports.
    pub debug: bool,
    pub config: Config,
    pub lapi: lapi::Config,
    pub decisions: Arc<DecisionSet>,
    pub status: Arc<Status>,
    pub client_ip: ClientIp,
    pub captcha: Option<Captcha>,
    pub passes: Passes,
    /// Ban pages. In a flood of them only bare words are sent.
    pub ban_pages: Limit,
    refusals: Limit,
    unlogged: AtomicU64,
    /// Set at ignition by whoever wants to look at every visit when the answer leaves: each is then kept from the start on,
    /// with the request as it came in.
    pub keeps_visits: AtomicBool,
}

/// Ban pages in a second, of all visitors together: what a flood of the banned may cost has a ceiling.
const BAN_PAGES: u32 = 500;
/// Lines about refusals in ten seconds; a flood of requests must not become a flood of the log.
const LINES: u32 = 20;

impl Bouncer {
    pub fn new(
        debug: bool,
        config: Config,
        lapi: lapi::Config,
        client_ip: ClientIp,
        captcha: Option<Captcha>,
        passes: Passes,
    ) -> Self {
        let mut decisions = DecisionSet::new(Instant::now());
        for own in &config.decisions {
            decisions.pin(own.value.0, own.remediation, &own.reason);
        }
        Self {
            decisions: Arc::new(decisions),
            status: Arc::new(Status::new(lapi.update_frequency)),
            debug,
            lapi,
            client_ip,
            captcha,
            passes,
            ban_pages: Limit::new(BAN_PAGES, Duration::from_secs(1)),
            refusals: Limit::new(LINES, Duration::from_secs(10)),
            unlogged: AtomicU64::new(0),
            keeps_visits: AtomicBool::new(false),
            config,
        }
    }

    /// Judges a request anew. The order is the policy: who hides, what is allowed by the operator, then a ban, which no
    /// solved captcha outweighs, then the captcha.
    pub fn judge(&self, request: &Request<'_>) -> Judgement {
        let (address, unnamed) = self.client_ip.of(request);
        if let Some(why) = unnamed {
            // Fails closed: this may be anybody, and what is said of the proxy's own address is not said of them.
            return Judgement { address, verdict: Verdict::Hidden(why), standing: None };
        }
        let standing = self.decisions.strongest(address, Instant::now());
        let verdict = match standing.as_ref().map(|standing| standing.remediation) {
            Some(Remediation::Allow) => Verdict::Admit,
            Some(Remediation::Ban) => Verdict::Ban,
            // Fails closed, as the operator asked: before the first answer nobody knows who is banned.
            _ if self.is_closed() => Verdict::NotYet,
            Some(Remediation::Captcha) if !self.passes.admit(request, address) => Verdict::Captcha,
            Some(Remediation::Captcha) | None => Verdict::Admit,
        };
        Judgement { address, verdict, standing }
    }

    /// What is known of this request, made once: what the fairing decided, every guard, page and log finds here.
    pub fn visit<'r>(&self, request: &'r Request<'_>) -> &'r Visit {
        request.local_cache(|| {
            let judgement = self.judge(request);
            self.visit_of(request, judgement)
        })
    }

    fn visit_of(&self, request: &Request<'_>, judgement: Judgement) -> Visit {
        let spared = self.spares(request, judgement.verdict);
        Visit::new(judgement, spared)
    }

    /// The same where the judgement was made already: `None` for a visitor against whom nothing stands, as for most, where
    /// nobody wants to look at all visits. There is nothing to remember of them.
    pub fn remember<'r>(&self, request: &'r Request<'_>, judgement: Judgement) -> Option<&'r Visit> {
        let nothing = judgement.verdict == Verdict::Admit
            && judgement.standing.is_none()
            && !self.keeps_visits.load(Ordering::Relaxed);
        (!nothing).then(|| request.local_cache(|| self.visit_of(request, judgement)))
    }

    /// The judgement on this request.
    pub fn judgement<'r>(&self, request: &'r Request<'_>) -> &'r Judgement {
        &self.visit(request).judgement
    }

    /// Whether the fairing lets a request pass whatever the judgement. These are all the exemptions there are.
    fn spares(&self, request: &Request<'_>, verdict: Verdict) -> bool {
        let path = request.uri().path().as_str();
        // A load balancer's probe gets its answer wherever it comes from; it says nothing but up or down.
        (matches!(path, "/crowdsec/health" | "/crowdsec/live") && matches!(request.method(), Method::Get | Method::Head))
            // Who has to solve a captcha has to be able to send the answer.
            || (verdict == Verdict::Captcha
                && path == "/crowdsec/captcha"
                && matches!(request.method(), Method::Get | Method::Head | Method::Post))
            // A browser asks whether it may send a request before it sends it. It sends no cookie along, so that a solved
            // captcha would not count. The request itself is judged.
            || (verdict == Verdict::Captcha && is_preflight(request))
            || self.config.excluded_paths.iter().any(|prefix| prefix.holds(path))
    }

    /// Notes that the application refused something to a visitor, or noted an event of theirs: LAPI may have news soon.
    pub fn note_suspicion(&self, judgement: &Judgement) {
        if judgement.has_a_name() {
            self.status.hurry.note(judgement.subject());
        }
    }

    /// Tells the log about a refusal, as often as is good for the log.
    pub fn log(&self, judgement: &Judgement) {
        let address = judgement.address;
        if let Verdict::Hidden(why) = judgement.verdict {
            self.client_ip.tell_unnamed(address, why);
        }
        if self.refusals.count((), Instant::now()).is_err() {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let more = match self.unlogged.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            more => format!(" ({more} more refusals went unlogged before)"),
        };
        match (judgement.verdict, &judgement.standing) {
            (Verdict::Hidden(_), _) => warn!("Refused a visitor whom the proxy {address} does not name.{more}"),
            (Verdict::NotYet, _) => warn!("Refused {address}: LAPI has not answered yet.{more}"),
            (_, Some(standing)) => {
                let Standing { remediation, source, .. } = standing;
                let (origin, mut scenario) = (printable(&source.origin), printable(&source.scenario));
                if !scenario.is_empty() {
                    scenario = format!(" ({scenario})");
                }
                warn!("Refused {address}: {remediation} by {origin}{scenario}, {}.{more}", standing.name());
            }
            (_, None) => {}
        }
    }

    /// Whether LAPI answers; true as well where there is none to ask.
    pub fn health(&self) -> Health {
        if self.lapi.connection.is_some() { self.status.health() } else { Health::Ok }
    }

    fn is_closed(&self) -> bool {
        self.lapi.on_startup_failure == OnStartupFailure::Closed && self.health() == Health::Starting
    }
}

/// Whether a browser asks by this request whether it may send another one, by the rules of CORS. It has no body.
fn is_preflight(request: &Request<'_>) -> bool {
    let says = |name| request.headers().get_one(name);
    request.method() == Method::Options
        && says("Origin").is_some()
        && says("Access-Control-Request-Method").is_some()
        && says("Transfer-Encoding").is_none()
        && says("Content-Length").is_none_or(|length| length == "0")
}
