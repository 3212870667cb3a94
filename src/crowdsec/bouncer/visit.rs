//! What is known of one request? One value, kept with the request from our fairing to the log's last line.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rocket::http::ext::IntoOwned;
use rocket::http::uri::Origin;
use rocket::http::{Method, Status};
use rocket::{Request, Route};

use crate::crowdsec::decisions::Standing;
use crate::crowdsec::visitor::{Subject, Unnamed};

/// A request as it came in, the judgement on it, and who refused it.
pub struct Visit {
    pub judgement: Judgement,
    /// Whether the fairing lets it pass whatever the judgement.
    spared: bool,
    asked: OnceLock<Asked>,
    /// Set where the fairing refused: the request then goes to our own route, and the application never sees it.
    pub refused: OnceLock<Reason>,
    refused_by_guard: AtomicBool,
}

/// A request as it came to the bouncer. Other fairings and routes may change the request afterwards.
#[derive(Clone)]
pub struct Asked {
    pub method: Method,
    /// Path and query.
    pub uri: Origin<'static>,
}

/// Why the fairing refused.
#[derive(Clone, Copy, PartialEq)]
pub enum Reason {
    /// By the judgement: a ban, a captcha, or another page of the bouncer's.
    Judged,
    /// More was sent than anybody may send: 414 or 431.
    TooLarge(Status),
}

/// The judgement on one request.
#[derive(Clone, Debug)]
pub struct Judgement {
    pub address: IpAddr,
    pub verdict: Verdict,
    /// What stands against the visitor, even if it is solved or allowed.
    pub standing: Option<Standing>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Admit,
    Captcha,
    Ban,
    /// A trusted proxy does not say whose request it is.
    Hidden(Unnamed),
    /// LAPI has not answered yet, and the operator said `on_startup_failure = "closed"`.
    NotYet,
}

impl Judgement {
    /// Whether it is known whose request this is. Without a name only `excluded_paths` are served, and CrowdSec is told
    /// nothing: an attacker who hides behind a proxy would have it ban the proxy's address, and with it everybody.
    pub fn has_a_name(&self) -> bool {
        !matches!(self.verdict, Verdict::Hidden(_))
    }

    pub fn subject(&self) -> Subject {
        self.address.into()
    }
}

impl Visit {
    pub fn new(judgement: Judgement, spared: bool) -> Self {
        let refused_by_guard = AtomicBool::new(false);
        Self { judgement, spared, asked: OnceLock::new(), refused: OnceLock::new(), refused_by_guard }
    }

    /// The request as it was when this was first asked for: as it came in where the fairing has refused it, or where there
    /// is an access log.
    pub fn asked(&self, request: &Request<'_>) -> &Asked {
        self.asked.get_or_init(|| Asked { method: request.method(), uri: request.uri().clone().into_owned() })
    }

    /// Whether the judgement is for the fairing to enforce.
    pub fn is_refused(&self) -> bool {
        self.judgement.verdict != Verdict::Admit && !self.spared
    }

    /// Notes that a guard refused, so that our fairing puts the right page in the catcher's place.
    pub fn refuse_by_guard(&self) {
        self.refused_by_guard.store(true, Ordering::Relaxed);
    }

    /// Whether a 403 is a guard's refusal, and not the application's own or the fairing's. (A handler that asks for
    /// `Option<Cleared>` may answer something else than 403.)
    pub fn is_refused_by_guard(&self) -> bool {
        self.refused_by_guard.load(Ordering::Relaxed) && self.refused.get().is_none()
    }
}

/// Before any route of the application's, however it is ranked.
pub const OUR_RANK: isize = isize::MIN;

/// Whether a request has come to one of our own routes. `/crowdsec/refused` is none for whom the fairing did not send there.
pub fn is_ours(request: &Request<'_>) -> bool {
    let is_ours = |route: &Route| route.rank == OUR_RANK && route.uri.base() == "/crowdsec";
    request.route().is_some_and(|route| is_ours(route) && route.uri.path() != "/crowdsec/refused")
}
