//! Was this visitor let in?

use std::net::IpAddr;

use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};
use rocket::{Ignite, Request, Rocket, Sentinel};

use super::has_no_bouncer;
use crate::crowdsec::bouncer::{Bouncer, Verdict};

/// Proof that the bouncer has let this visitor in.
///
/// The fairing refuses everybody else before any handler runs, so this is the second line of defence: it holds on
/// `excluded_paths` too, which the fairing spares, and the application does not launch without the fairing.
///
/// ```text
/// #[get("/members")]
/// fn members(visitor: Cleared) -> String {
///     format!("Hello, {}", visitor.address)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cleared {
    /// The visitor's address, trusted proxies considered; never IPv4 mapped into IPv6.
    pub address: IpAddr,
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Cleared {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        // Fails closed: without a bouncer nobody has been cleared.
        let Some(bouncer) = request.rocket().state::<Bouncer>() else {
            return Outcome::Error((Status::InternalServerError, ()));
        };
        let visit = bouncer.visit(request);
        if visit.judgement.verdict == Verdict::Admit {
            return Outcome::Success(Self { address: visit.judgement.address });
        }
        visit.refuse_by_guard();
        bouncer.log(&visit.judgement);
        Outcome::Error((Status::Forbidden, ()))
    }
}

impl Sentinel for Cleared {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        has_no_bouncer(rocket)
    }
}
