//! How does a visitor answer a captcha? On a page at its own address, whose form is judged here.

use rocket::http::{Cookie, CookieJar, SameSite, Status};
use rocket::outcome::try_outcome;
use rocket::request::{FromRequest, Outcome};
use rocket::response::Redirect;
use rocket::{Either, Request, get, post};

use super::Leading;
use super::body::Posted;
use super::refusal::{Refusal, whole_seconds};
use super::return_to::{safe_place, without};
use crate::crowdsec::bouncer::{CaptchaOutcome, Verdict, Visit};
use crate::crowdsec::captcha::{Captcha, Finding};
use crate::crowdsec::decisions::Remediation;
use crate::crowdsec::guards::{self, SameOrigin};

/// The captcha's page at an address of its own, for programs that got a `captcha_url`. A visitor who needs no pass is
/// led on. With `anew` they are asked all the same, unless they solved a captcha in the last minute: for routes that
/// ask everybody (`Human`).
#[get("/captcha?<return_to>&<anew>", data = "<_body>")]
pub fn show_captcha(
    return_to: Option<&str>,
    anew: Option<&str>,
    caller: Caller<'_>,
    _body: Posted,
) -> Result<Leading, Refusal> {
    let back = caller.back(return_to.unwrap_or("/"));
    if caller.captcha.is_none() || !(caller.needs_pass || anew.is_some()) {
        return Ok(caller.lead(&back));
    }
    let _ = caller.visit.captcha.set(CaptchaOutcome::Shown);
    Err(Refusal { back: Some(back), ..Refusal::new(Status::Forbidden, Verdict::Captcha) })
}

/// Judges an answer. A right answer always gives a pass. The provider is asked last, and never where there is nothing
/// to solve, about a form of another site, or without an answer.
#[post("/captcha", data = "<form>")]
pub async fn check_captcha(
    form: Posted,
    caller: Caller<'_>,
    own: Option<SameOrigin>,
    cookies: &CookieJar<'_>,
) -> Result<Leading, Refusal> {
    let (back, seen) = (caller.back(form.get("return_to").unwrap_or("/")), form.get("cookies").unwrap_or_default());
    let Some(captcha) = caller.captcha else { return caller.lead_on(seen, cookies, back) };
    // Another site's page could use up its visitor's tries. A right proof of work harms nobody, whoever sends it: it
    // only lets this visitor in.
    if captcha.costs() && own.is_none() {
        return Err(caller.failed("wrong", back));
    }
    let Some(answer) = form.get(captcha.shown.field).filter(|answer| !answer.is_empty()) else {
        // Where no pass is needed, the decision was lifted meanwhile, or no captcha was ever asked for.
        return if caller.needs_pass { Err(caller.failed("missing", back)) } else { Ok(caller.lead(&back)) };
    };
    let address = caller.visit.judgement.address;
    let (status, problem, retry_after) = match captcha.verify(answer, address, caller.now).await {
        Finding::Human { since } => {
            let _ = caller.visit.captcha.set(CaptchaOutcome::Solved);
            captcha.passes.grant(cookies, address, since, caller.https);
            return caller.lead_on(seen, cookies, back);
        }
        Finding::Wrong => (Status::Forbidden, "wrong", None),
        Finding::Expired => (Status::Forbidden, "expired", None),
        Finding::TooMany(wait) => (Status::TooManyRequests, "too_many", Some(whole_seconds(wait))),
        // Fails closed: the provider could not tell, so nobody is let in. The page says that it is not the visitor's fault.
        Finding::Away => {
            let _ = caller.visit.captcha.set(CaptchaOutcome::Away);
            (Status::ServiceUnavailable, "away", Some(30))
        }
    };
    Err(Refusal { status, retry_after, ..caller.failed(problem, back) })
}

/// The page's script sets this cookie, to see whether the browser keeps cookies and whether they arrive here.
const PROBE: &str = "captcha-probe";

/// Who comes to one of the captcha's two routes, whether by HTTPS, and below which path of the site.
pub struct Caller<'r> {
    visit: &'r Visit,
    /// What there is to solve: nothing if no captcha is set, or if they solved it in the last minute, in another tab
    /// for example: every guard takes that.
    captcha: Option<&'r Captcha>,
    /// Whether anything here may refuse them for want of a pass.
    needs_pass: bool,
    https: bool,
    prefix: &'r str,
    /// In seconds since 1970.
    now: u64,
}

impl Caller<'_> {
    /// The safe place in this application for a place as the caller's browser names it.
    fn back(&self, wish: &str) -> String {
        safe_place(&without(self.prefix, wish))
    }

    fn lead(&self, back: &str) -> Leading {
        Leading::new(Either::Right(Redirect::to(format!("{}{back}", self.prefix))))
    }

    /// The page again. A `Solved` or `Away` that was noted before stays: the first note counts.
    fn failed(&self, problem: &'static str, back: String) -> Refusal {
        let _ = self.visit.captcha.set(CaptchaOutcome::Failed);
        Refusal { problem: Some(problem), back: Some(back), ..Refusal::new(Status::Forbidden, Verdict::Captcha) }
    }

    /// Leads on a visitor who needs no captcha any more. `seen` is what the page's script found out about cookies:
    /// `kept` where the browser keeps them, `seen` where the script can read them too.
    fn lead_on(&self, seen: &str, cookies: &CookieJar<'_>, back: String) -> Result<Leading, Refusal> {
        // The page has set the probe, and the probe did not arrive: neither would the pass. Rocket silently drops a
        // whole `Cookie` line that is not UTF-8. To lead on would lead in circles.
        if !seen.is_empty() && cookies.get(PROBE).is_none() {
            return Err(self.failed("cookie_lost", back));
        }
        // A redirect would leave the captcha's page in the browser's history; and since it answers a form, the wanted
        // page may not redirect to another site. After a 204 the captcha's page stays, and its script puts the wanted
        // page in its place.
        if seen == "seen" {
            // The script waits for this cookie.
            cookies.add(Cookie::build((PROBE, "2")).same_site(SameSite::Lax));
            return Ok(Leading::new(Either::Left(Status::NoContent)));
        }
        Ok(self.lead(&back))
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let bouncer = try_outcome!(guards::bouncer(request));
        let (client_ip, visit, now) = (&bouncer.client_ip, bouncer.visit(request), bouncer.unix_now());
        let judgement = &visit.judgement;
        // With `enforce_by = "guards"` the fairing has let everybody through. A captcha would not lift these verdicts.
        if matches!(judgement.verdict, Verdict::Ban(_) | Verdict::Hidden | Verdict::NotYet) {
            return Outcome::Error((visit.refuse_by_guard(bouncer, judgement.clone(), false), ()));
        }
        let since = bouncer.solved_at(request, judgement.address);
        let is_fresh = since.is_some_and(|since| now.saturating_sub(since) < 60);
        let captcha = bouncer.captcha.as_ref().filter(|_| !is_fresh);
        let stands = judgement.has(Remediation::Captcha) && !judgement.has(Remediation::Allow);
        let needs_pass = stands && bouncer.enforces(Remediation::Captcha) && since.is_none();
        let (https, prefix) = (client_ip.is_https(request), client_ip.prefix(request));
        Outcome::Success(Self { visit, captcha, needs_pass, https, prefix, now })
    }
}
