//! What is to be done with one request? The judgement, and everything that it is made from.

mod config;
mod exemptions;
mod other_judges;
mod policy;
mod record;
mod refusal_lines;
mod visit;

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rocket::http::Status;
use rocket::{Orbit, Request, Rocket};

use super::captcha::Captcha;
use super::decisions::{DecisionSet, Remediation, Standing};
use super::lapi::{self, Health, Live};
use super::limit::{Limit, Subject};
use super::timestamp::unix_now;
use super::visitor::{ClientIp, Head};
use exemptions::{is_captcha, is_preflight, is_probe};
use refusal_lines::RefusalLines;

pub use config::{Config, EnforceBy, OwnDecision};
#[allow(unused_imports, reason = "who asks and who counts can be left out")]
pub use other_judges::{ACTIONS, Questions};
#[allow(unused_imports, reason = "the rooms that list refusals can be left out")]
pub use record::Record;
pub use visit::{Asked, CaptchaOutcome, Judgement, OUR_RANK, REFUSED, Verdict, Visit, is_ours};

/// Everything that a request is judged by, shared by all requests.
pub struct Bouncer {
    /// Whether this is the debug profile, with its previews and reports.
    pub debug: bool,
    pub config: Config,
    pub lapi: lapi::Config,
    pub decisions: Arc<DecisionSet>,
    pub contact: Arc<lapi::Contact>,
    /// Whom to ask about each visitor, in live mode.
    pub live: Option<Arc<Live>>,
    pub client_ip: ClientIp,
    pub captcha: Option<Captcha>,
    /// Limits ban pages: in a flood only bare words are sent.
    pub ban_pages: Limit,
    pub refusal_lines: RefusalLines,
    /// Requests that were judged, from IPv4 and from IPv6.
    pub judged: Arc<[AtomicU64; 2]>,
    /// Set at ignition by the access log and AppSec, which need a `Visit` for every request. The fairing then keeps one for
    /// admitted requests too.
    pub keeps_visits: AtomicBool,
    /// One more exemption. The metrics room sets it at ignition, so that a banned operator can open the status page.
    pub also_spared: OnceLock<fn(&Request<'_>) -> bool>,
    /// The questions to AppSec, set at ignition where it is asked.
    pub questions: OnceLock<Questions>,
    /// Lines that logs have dropped. Kept here, so that the logs and the metrics can each be left out.
    pub lost_lines: Arc<AtomicU64>,
    /// Seconds that a test has skipped.
    pub skipped: Arc<AtomicU64>,
    /// Requests of the visitors under `throttle`.
    throttle: Limit,
}

/// The most ban pages in a second, for all visitors together: it limits what a flood of banned visitors costs.
const BAN_PAGES: u32 = 500;

impl Bouncer {
    /// The bouncer of this request's application, if `fairing()` is attached.
    pub fn of<'r>(request: &Request<'r>) -> Option<&'r Self> {
        request.rocket().state()
    }

    pub fn new(debug: bool, config: Config, lapi: lapi::Config, client_ip: ClientIp, captcha: Option<Captcha>) -> Self {
        let mut decisions = DecisionSet::new(Instant::now(), config.types.clone());
        for own in &config.decisions {
            decisions.pin(own.value.0, own.remediation, &own.reason);
        }
        Self {
            decisions: Arc::new(decisions),
            contact: Arc::new(lapi::Contact::new(lapi.update_frequency)),
            live: None,
            debug,
            lapi,
            client_ip,
            captcha,
            ban_pages: Limit::new(BAN_PAGES, Duration::from_secs(1)),
            refusal_lines: RefusalLines::default(),
            judged: Arc::default(),
            keeps_visits: AtomicBool::new(false),
            also_spared: OnceLock::new(),
            questions: OnceLock::new(),
            lost_lines: Arc::default(),
            skipped: Arc::default(),
            throttle: Limit::new(config.throttle.most, config.throttle.span),
            config,
        }
    }

    /// Judges a request anew: all that stands against the visitor, and what `decide` makes of it.
    ///
    /// In live mode, `if_unanswered` is what this visitor meets because LAPI did not answer.
    pub fn judge(&self, request: &Request<'_>, head: &Head<'_>, if_unanswered: Option<Remediation>) -> Judgement {
        let (address, at) = (head.visitor, self.now());
        let mut judgement = Judgement::new(address, at, head.unnamed);
        // Fails closed: a request without a name may be anybody's. A decision on the proxy's own address says nothing about the
        // visitor.
        if head.unnamed.is_none() {
            let country = || self.client_ip.country(request, address);
            let system = || self.client_ip.system(request, address);
            judgement.standing = self.decisions.against(address, country, system, at);
            if let Some(remediation) = if_unanswered {
                judgement.standing.push(Standing::said_by("live", remediation, address));
                judgement.standing.sort_by_key(|standing| Reverse(standing.rank()));
            }
        }
        // Whoever has a captcha to solve must be able to send the answer. A preflight carries no cookie, so a solved captcha
        // would not count; the request that it asks about is judged.
        let is_open = || is_captcha(request) || is_preflight(request);
        let solved = || is_open() || self.solved_at(request, address).is_some();
        self.decide(&mut judgement, &solved, &|| self.throttle.count(Subject::from(address), at).err());
        judgement
    }

    /// When the visitor has solved a captcha that still counts, in seconds since 1970.
    pub fn solved_at(&self, request: &Request<'_>, address: IpAddr) -> Option<u64> {
        self.captcha.as_ref()?.passes.since(request, address, self.unix_now())
    }

    /// Asks LAPI about a visitor, in live mode. Gives the remediation that the visitor meets if LAPI does not answer. LAPI is
    /// asked on `excluded_paths` too: a guard may refuse there.
    pub async fn ask(&self, request: &Request<'_>, head: &Head<'_>) -> Option<Remediation> {
        let live = self.live.as_ref()?;
        if head.unnamed.is_some() || is_probe(request) {
            return None;
        }
        live.ask(head.visitor, self.now()).await
    }

    /// The status of an answer by which a visitor is refused.
    pub fn status_of(&self, verdict: Verdict) -> Status {
        match verdict {
            Verdict::Admit => Status::Ok,
            Verdict::Ban(None) | Verdict::Hidden => self.config.ban_status,
            Verdict::Captcha | Verdict::Answered => Status::Forbidden,
            Verdict::Throttle(_) => Status::TooManyRequests,
            Verdict::NotYet => Status::ServiceUnavailable,
            Verdict::Ban(Some(status)) | Verdict::TooLarge(status) => status,
        }
    }

    /// What is known about this request: guards, pages and logs find here what the fairing decided. If the fairing `forgets`
    /// the visitor, the first call judges them again, so call this only where something may stand against them.
    pub fn visit<'r>(&self, request: &'r Request<'_>) -> &'r Visit {
        request
            .local_cache(|| Visit::new(self, request, self.judge(request, &Head::of(request, &self.client_ip), None)))
    }

    /// Like `visit`, with a judgement that was made already.
    pub fn remember<'r>(&self, request: &'r Request<'_>, judgement: Judgement) -> &'r Visit {
        request.local_cache(|| Visit::new(self, request, judgement))
    }

    /// Whether there is nothing to remember: nothing stands against the visitor, as for most, and nobody needs every visit
    /// (`keeps_visits`).
    pub fn forgets(&self, judgement: &Judgement) -> bool {
        judgement.verdict == Verdict::Admit
            && judgement.trial.is_none()
            && judgement.standing.is_empty()
            && !self.keeps_visits.load(Ordering::Relaxed)
    }

    /// The two letters of a visitor's country, where a proxy's header or a database says it. `None` for a request that names
    /// nobody: its address is the proxy's.
    pub fn country_of(&self, request: &Request<'_>, judgement: &Judgement) -> Option<String> {
        let country = judgement.has_a_name().then(|| self.client_ip.country(request, judgement.address)).flatten();
        country.map(|country| country.to_string())
    }

    /// Notes that the application refused something to a visitor, or noted an event of theirs: LAPI may have news soon.
    pub fn note_suspicion(&self, judgement: &Judgement) {
        if judgement.has_a_name() {
            self.contact.hurry.note(judgement.subject(), Instant::now());
        }
    }

    /// Refuses the visitor by this judgement, and tells the log: the application never sees the request.
    pub fn refuse(&self, visit: &Visit, judgement: Judgement) {
        self.log(&visit.asked, &judgement);
        let _ = visit.refused.set(Box::new(judgement));
    }

    /// Tells the log about a refusal.
    pub fn log(&self, asked: &Asked, judgement: &Judgement) {
        // A challenge is no refusal: every browser meets one. What is too large stands in the access log and the refusal log.
        if matches!(judgement.verdict, Verdict::Answered | Verdict::TooLarge(_)) {
            return;
        }
        if let Some(why) = judgement.unnamed {
            self.client_ip.tell_unnamed(judgement.address, why);
        }
        self.refusal_lines.write(asked, judgement, false);
    }

    /// Notes what the visitor would be refused by, if `enforce` did not let them in, and tells the log: the first such reason
    /// of each request. A challenge is no such reason.
    pub fn note_trial(&self, visit: &Visit, judgement: Judgement) {
        if judgement.verdict != Verdict::Answered && visit.tried.get().is_none() {
            self.refusal_lines.write(&visit.asked, &judgement, true);
            let _ = visit.tried.set(Box::new(judgement));
        }
    }

    /// The time, which a test may have moved.
    pub fn now(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.skipped.load(Ordering::Relaxed))
    }

    /// The time as `now` gives it, in seconds since 1970.
    pub fn unix_now(&self) -> u64 {
        unix_now() + self.skipped.load(Ordering::Relaxed)
    }

    /// LAPI's health; `Ok` if there is no LAPI to ask.
    pub fn health(&self) -> Health {
        if self.lapi.connection.is_some() { self.contact.health() } else { Health::Ok }
    }
}

/// For tests: moves the clock of decisions, passes and `throttle` forward by whole seconds, so that no test waits an hour for
/// the end of a ban. What LAPI says afterwards counts from the true time on, and so do wrong answers to a captcha.
pub fn skip_time(rocket: &Rocket<Orbit>, time: Duration) {
    if let Some(bouncer) = rocket.state::<Bouncer>() {
        bouncer.skipped.fetch_add(time.as_secs(), Ordering::Relaxed);
    }
}
