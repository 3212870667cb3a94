//! What is known about one request? One value, kept with the request from our fairing to the log's last line.

use std::net::IpAddr;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use rocket::Request;
use rocket::http::{Method, Status};

use super::{Bouncer, EnforceBy};
use crate::crowdsec::decisions::{Remediation, Standing};
use crate::crowdsec::limit::Subject;
use crate::crowdsec::panics::lock;
use crate::crowdsec::visitor::Unnamed;

/// A request as it came in, the judgement on it, and who refused it.
pub struct Visit {
    pub judgement: Judgement,
    /// Whether the fairing lets the request pass, whatever the judgement says.
    pub spared: bool,
    /// The request as it was when this value was made: as it came in, unless the bouncer `forgets` the visitor. In that case
    /// another fairing may have changed the request before.
    pub asked: Asked,
    /// The judgement by which a guard refuses, and whether the log has been told, or need not be. The last guard's counts: a
    /// handler may go on despite the others.
    wanted: Mutex<Option<(Box<Judgement>, bool)>>,
    /// What the visitor has been refused by: the judgement on them or on an account of theirs, or another judge's. Its verdict
    /// is what they met.
    pub refused: OnceLock<Box<Judgement>>,
    /// What they would have been refused by, if `enforce` did not let them in.
    pub tried: OnceLock<Box<Judgement>>,
    /// How long they have to wait, where another judge has counted the request for `throttle`.
    pub wait: OnceLock<Option<Duration>>,
    /// What one of the captcha's own routes did, if the visitor came to one.
    pub captcha: OnceLock<CaptchaOutcome>,
}

/// A request as it came to the bouncer. Other fairings and routes may change the request afterwards.
#[derive(Clone)]
pub struct Asked {
    pub method: Method,
    /// Path and query.
    pub uri: String,
}

impl Asked {
    /// Without the query, which may hold a password or a token.
    pub fn path(&self) -> &str {
        self.uri.split('?').next().unwrap_or_default()
    }
}

/// What one of the captcha's own routes did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CaptchaOutcome {
    Shown,
    Solved,
    /// The answer was missing, wrong, too late, or one of too many.
    Failed,
    /// The provider could not tell.
    Away,
}

/// The judgement on one request.
#[derive(Clone, Debug)]
pub struct Judgement {
    pub address: IpAddr,
    pub at: Instant,
    pub verdict: Verdict,
    /// The verdict that would have come first, if `enforce` did not leave it out.
    pub trial: Option<Verdict>,
    /// All that stands against the visitor or an account, even if the captcha is solved or the visitor allowed; the greatest
    /// comes first.
    pub standing: Vec<Standing>,
    /// Why it is not known whose request this is.
    pub unnamed: Option<Unnamed>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Admit,
    /// Too many requests of a visitor under `throttle`: how long to wait.
    Throttle(Duration),
    Captcha,
    /// With the status that another judge chose, if one did.
    Ban(Option<Status>),
    /// Nobody knows whose request it is: `Judgement::unnamed` says why.
    Hidden,
    /// LAPI has not answered yet, and the operator said `on_startup_failure = "closed"`.
    NotYet,
    /// The target or the headers are longer than anybody's may be: 414 or 431.
    TooLarge(Status),
    /// Another judge has an answer of its own for the visitor, and puts it in the place of ours.
    Answered,
}

impl Verdict {
    /// With the operator's `ban_status`.
    pub const BAN: Self = Self::Ban(None);

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Throttle(_) => "throttle",
            Self::Captcha => "captcha",
            Self::Ban(_) => "ban",
            Self::Hidden => "hidden",
            Self::NotYet => "starting",
            Self::TooLarge(_) => "too_large",
            Self::Answered => "answered",
        }
    }

    /// The remediation that it enforces.
    pub fn remediation(self) -> Option<Remediation> {
        match self {
            Self::Throttle(_) => Some(Remediation::Throttle),
            Self::Captcha => Some(Remediation::Captcha),
            Self::Ban(_) => Some(Remediation::Ban),
            Self::Admit | Self::Hidden | Self::NotYet | Self::TooLarge(_) | Self::Answered => None,
        }
    }
}

impl Judgement {
    /// Nothing is decided yet, and nothing stands.
    pub fn new(address: IpAddr, at: Instant, unnamed: Option<Unnamed>) -> Self {
        Self { address, at, verdict: Verdict::Admit, trial: None, standing: Vec::new(), unnamed }
    }

    /// This judgement with another verdict.
    pub fn with(&self, verdict: Verdict) -> Self {
        Self { verdict, ..self.clone() }
    }

    /// Whether it is known whose request this is. If not, only `excluded_paths` and probes are served, and CrowdSec is told
    /// nothing: an attacker who hides behind a proxy could make CrowdSec ban the proxy's address, and with it everybody.
    pub fn has_a_name(&self) -> bool {
        self.unnamed.is_none()
    }

    /// Whether a decision with this remediation stands against the visitor, or for them (`allow`).
    pub fn has(&self, remediation: Remediation) -> bool {
        self.standing.iter().any(|standing| standing.remediation == remediation)
    }

    /// The decision that the verdict rests on.
    pub fn ground(&self) -> Option<&Standing> {
        let remediation = self.verdict.remediation()?;
        self.standing.iter().find(|standing| standing.remediation == remediation)
    }

    /// The decision that caused a refusal: a guard may refuse for one that the fairing lets in.
    pub fn cause(&self) -> Option<&Standing> {
        self.ground().or_else(|| self.standing.first().filter(|_| matches!(self.verdict, Verdict::Ban(_))))
    }

    pub fn subject(&self) -> Subject {
        self.address.into()
    }
}

impl Visit {
    pub fn new(bouncer: &Bouncer, request: &Request<'_>, judgement: Judgement) -> Self {
        let (path, query) = (request.uri().path().as_str(), request.uri().query());
        let uri = query.map_or(path.to_owned(), |query| [path, "?", query.as_str()].concat());
        Self {
            judgement,
            spared: bouncer.config.enforce_by == EnforceBy::Guards || bouncer.spares(request),
            asked: Asked { method: request.method(), uri },
            wanted: Mutex::default(),
            refused: OnceLock::new(),
            tried: OnceLock::new(),
            wait: OnceLock::new(),
            captcha: OnceLock::new(),
        }
    }

    /// Whether the fairing refuses the request.
    pub fn is_refused(&self) -> bool {
        self.judgement.verdict != Verdict::Admit && !self.spared
    }

    /// Notes the judgement by which a guard refuses, and whether the log has been told, or need not be. Gives the status by
    /// which our fairing recognises the refusal, to put the right page in the catcher's place.
    pub fn refuse_by_guard(&self, bouncer: &Bouncer, judgement: Judgement, is_told: bool) -> Status {
        let status = bouncer.status_of(judgement.verdict);
        *lock(&self.wanted) = Some((Box::new(judgement), is_told));
        status
    }

    /// The judgement by which a guard refuses, if nobody else has refused, and whether the log has been told. (A handler that
    /// asks for `Option<Cleared>` may have served the visitor all the same.)
    pub fn wanted_by_guard(&self) -> Option<(Box<Judgement>, bool)> {
        lock(&self.wanted).take().filter(|_| self.refused.get().is_none())
    }

    /// What the visitor has been refused with; `None` for one whom the application has served.
    pub fn refusal(&self) -> Option<Verdict> {
        self.refused.get().map(|refused| refused.verdict)
    }
}

/// The rank of our routes: before any route of the application.
pub const OUR_RANK: isize = isize::MIN;

/// Where refused requests are sent. All other requests find nothing there.
pub const REFUSED: &str = "/crowdsec/refused";

/// Whether one of the bouncer's own routes answered the request. The route for refusals does not count.
pub fn is_ours(request: &Request<'_>) -> bool {
    request.route().is_some_and(|route| route.rank == OUR_RANK && route.uri.path() != REFUSED)
}
