//! How does a handler say whom it serves? By guards in its signature.

mod accounts;
mod cleared;
mod human;
mod no_decision;
mod report;
mod same_origin;
mod visitor;

use std::net::IpAddr;

use rocket::http::Status;
use rocket::outcome::{IntoOutcome, try_outcome};
use rocket::request::{FromRequest, Outcome};
use rocket::{Ignite, Request, Rocket, Sentinel};

use super::bouncer::{Bouncer, Judgement, Verdict};

pub use accounts::{Accounts, Refused};
pub use cleared::Cleared;
pub use human::Human;
pub use no_decision::NoDecision;
pub use report::Report;
pub use same_origin::{SameOrigin, is_own};
pub use visitor::{DecisionView, Visitor};

/// Makes each of these types a guard by its function `of`. If a route asks for one of them, and `crowdsec::fairing()` is not
/// attached, the launch stops.
macro_rules! need_the_bouncer {
    ($($guard:ty),+) => {$(
        #[rocket::async_trait]
        impl<'r> FromRequest<'r> for $guard {
            type Error = ();

            async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
                Self::of(try_outcome!(bouncer(request)), request)
            }
        }

        impl<'r> Sentinel for $guard {
            fn abort(rocket: &Rocket<Ignite>) -> bool {
                has_no_bouncer(rocket)
            }
        }
    )+};
}

need_the_bouncer!(Accounts<'r>, Cleared, NoDecision, Report, Visitor);

/// Fails closed: without a bouncer nothing is proven of anybody.
pub fn bouncer<'r>(request: &'r Request<'_>) -> Outcome<&'r Bouncer, ()> {
    Bouncer::of(request).or_error((Status::InternalServerError, ()))
}

/// What a guard decides: the visitor's address, or a refusal. The fairing then replaces the catcher's answer by the
/// bouncer's page.
fn policy(bouncer: &Bouncer, request: &Request<'_>, decide: impl FnOnce(&Judgement) -> Verdict) -> Outcome<IpAddr, ()> {
    let visit = bouncer.visit(request);
    let verdict = decide(&visit.judgement);
    if verdict == Verdict::Admit {
        // The fairing has noted the trial already, unless it spares the request.
        if let Some(trial) = visit.judgement.trial {
            bouncer.note_trial(visit, visit.judgement.with(trial));
        }
        return Outcome::Success(visit.judgement.address);
    }
    // A captcha that the route asks of everybody says nothing about this visitor, so it is not logged.
    let is_of_all = verdict == Verdict::Captcha && visit.judgement.verdict == Verdict::Admit;
    Outcome::Error((visit.refuse_by_guard(bouncer, visit.judgement.with(verdict), is_of_all), ()))
}

pub fn has_no_bouncer(rocket: &Rocket<Ignite>) -> bool {
    lacks::<Bouncer>(rocket, "the bouncer", "fairing")
}

/// Whether the state that a route's guard needs is missing, since nobody has attached the fairing that brings it.
pub fn lacks<T: Send + Sync + 'static>(rocket: &Rocket<Ignite>, what: &str, fairing: &str) -> bool {
    let is_missing = rocket.state::<T>().is_none();
    if is_missing {
        log::error!(
            "A route asks for {what}, and nobody has attached `crowdsec::{fairing}()`: do that where the application is built, `crowdsec::fairing()` first."
        );
    }
    is_missing
}
