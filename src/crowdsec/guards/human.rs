//! Has this visitor proven to be human?

use std::net::IpAddr;
use std::time::Instant;

use rocket::http::Status;
use rocket::outcome::try_outcome;
use rocket::request::{FromRequest, Outcome};
use rocket::{Ignite, Phase, Request, Rocket, Sentinel};

use super::{bouncer, has_no_bouncer, policy};
use crate::crowdsec::bouncer::{Bouncer, Verdict};
use crate::crowdsec::reminder::{HOUR, Reminder};

/// Proof that this visitor has solved the captcha, whoever they are: for a form that attracts programs, such as a sign-up.
/// Whoever is not let in by the bouncer is refused as by `Cleared`.
///
/// `Human` accepts a captcha that was solved within `captcha.expiration`, `Human<10>` one that was solved in the last ten
/// minutes. Put the guard on the route that shows the form as well, and give minutes only there, so that nobody fills in the
/// form for nothing.
///
/// ```text
/// #[get("/sign-up")]
/// fn sign_up_form(_human: Human<30>) -> Template { … }
/// #[post("/sign-up", data = "<form>")]
/// fn sign_up(_human: Human, form: Form<SignUp>) -> Redirect { … }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Human<const MINUTES: u64 = 0> {
    /// The visitor's address, trusted proxies considered; never IPv4 mapped into IPv6.
    pub address: IpAddr,
}

#[rocket::async_trait]
impl<'r, const MINUTES: u64> FromRequest<'r> for Human<MINUTES> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let bouncer = try_outcome!(bouncer(request));
        // Where another guard asks for `Human`, the launch cannot see it. Fails closed: nobody has proven anything.
        if lacks_captcha(request.rocket()) {
            return Outcome::Error((Status::InternalServerError, ()));
        }
        policy(bouncer, request, |judgement| {
            if judgement.verdict != Verdict::Admit {
                return judgement.verdict;
            }
            // `solved_at` knows no pass older than `captcha.expiration`, whatever MINUTES says.
            let (at, now) = (bouncer.solved_at(request, judgement.address), bouncer.unix_now());
            let is_fresh = at.is_some_and(|at| MINUTES == 0 || now.saturating_sub(at) < MINUTES.saturating_mul(60));
            if is_fresh { Verdict::Admit } else { Verdict::Captcha }
        })
        .map(|address| Self { address })
    }
}

/// Whether nobody can prove to be human, because no provider is set. Logs that once an hour at most.
fn lacks_captcha<P: Phase>(rocket: &Rocket<P>) -> bool {
    static TOLD: Reminder = Reminder::new();
    let is_missing = rocket.state::<Bouncer>().is_some_and(|bouncer| bouncer.captcha.is_none());
    if is_missing && TOLD.count(1, HOUR, Instant::now()).is_some() {
        log::error!(
            "A route asks for `Human`, and there is no captcha to solve: set CROWDSEC_CAPTCHA_PROVIDER=altcha, which needs no \
             account, or another provider."
        );
    }
    is_missing
}

impl<const MINUTES: u64> Sentinel for Human<MINUTES> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        lacks_captcha(rocket) || has_no_bouncer(rocket)
    }
}
