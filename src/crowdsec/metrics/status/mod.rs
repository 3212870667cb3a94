//! How do things stand? A page for the operator, and the same as JSON: `GET /crowdsec/status`.

mod explained;
mod history;
mod refused;
mod time;
mod view;

use std::sync::{Mutex, MutexGuard, PoisonError};

use rocket::http::{Header, Method, Status};
use rocket::response::content::RawHtml;
use rocket::response::{self, Responder};
use rocket::serde::json::Json;
use rocket::{Build, Orbit, Request, Rocket, Route, get, routes};
use rocket_dyn_templates::Template;

use super::operator::Operator;
use crate::crowdsec::bouncer::{Bouncer, OUR_RANK, Visit};
use crate::crowdsec::captcha::unix_now;
use crate::crowdsec::lapi::VERSION;
use crate::crowdsec::pages::{self, Texts, content_security_policy, nonce, wants_json};
use explained::Explained;
use history::{Bin, History};
use refused::LastRefusals;
use time::rfc3339;
use view::{Counted, Decisions, Lapi, Variables, View};

/// What the page remembers, in memory that never grows beyond a bound.
pub struct Memory {
    /// In seconds since 1970.
    started: u64,
    history: Mutex<History>,
    refusals: LastRefusals,
}

/// Mounts the page, where somebody may see it.
pub fn mount(rocket: Rocket<Build>) -> Rocket<Build> {
    let now = unix_now();
    let memory = Memory { started: now, history: Mutex::new(History::new(now)), refusals: LastRefusals::default() };
    let mut routes: Vec<Route> = routes![status];
    // Rocket tries the application's routes for HEAD before ours for GET.
    let mut for_head = routes.clone();
    for_head.iter_mut().for_each(|route| route.method = Method::Head);
    routes.extend(for_head);
    routes.iter_mut().for_each(|route| route.rank = OUR_RANK);
    rocket.manage(memory).mount("/crowdsec", routes)
}

/// Tells at the launch what is wrong with the template, rather than at the first look.
pub fn try_page(rocket: &Rocket<Orbit>) {
    let (Some(bouncer), Some(memory)) = (rocket.state::<Bouncer>(), rocket.state::<Memory>()) else { return };
    let (view, bins) = memory.view(bouncer, Some("192.0.2.1"));
    let (Some(texts), Some(site)) = (rocket.state::<Texts>(), rocket.state::<pages::Config>()) else { return };
    for language in texts.all() {
        let variables = Variables::of(&view, &bins, site, language);
        if Template::show(rocket, "status", variables).is_none() {
            log::error!(
                "The page `status` cannot be made with the words of [{}]; see the lines above. Write the missing word into the \
                 default language's table of texts.toml, or mend status.html.tera, which lists the variables.",
                language.tag
            );
        }
    }
}

impl Memory {
    /// Takes note of a refusal when its answer leaves.
    pub fn refused(&self, bouncer: &Bouncer, request: &Request<'_>, visit: &Visit, status: Status) {
        if let Some(verdict) = visit.refusal() {
            self.refusals.note(bouncer, request, visit, verdict, status);
        }
    }

    /// To be called at least once a minute.
    pub fn note(&self, bouncer: &Bouncer) {
        let totals = self.refusals.totals(bouncer);
        self.history().note(unix_now(), totals);
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the page says, and the numbers of its two charts.
    fn view(&self, bouncer: &Bouncer, asked: Option<&str>) -> (View, [Vec<Bin>; 2]) {
        let (now, totals, refusals) = (unix_now(), self.refusals.totals(bouncer), self.refusals.all());
        let history = self.history();
        let bins = [history.hour(now, totals), history.day(now, totals)];
        drop(history);
        let [hour, day] = bins.each_ref().map(|bins| bins.iter().map(Counted::from).collect());
        let view = View {
            version: VERSION,
            time: rfc3339(now),
            started: rfc3339(self.started),
            lapi: Lapi::of(bouncer),
            decisions: Decisions::of(bouncer),
            hour,
            day,
            explained: asked.map(|asked| Explained::of(bouncer, asked, &refusals)),
            refusals,
        };
        (view, bins)
    }
}

/// For the networks of `metrics_from` alone. `address` is what the operator asks about: an address, or a reference.
#[get("/status?<address>")]
fn status(_operator: Operator, address: Option<String>) -> Page {
    Page { asked: address.filter(|asked| !asked.trim().is_empty()) }
}

/// The page, or JSON, made of how things stand when the answer is written.
struct Page {
    asked: Option<String>,
}

impl<'r> Responder<'r, 'static> for Page {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let rocket = request.rocket();
        let (Some(bouncer), Some(memory)) = (rocket.state::<Bouncer>(), rocket.state::<Memory>()) else {
            return Err(Status::InternalServerError);
        };
        let (view, bins) = memory.view(bouncer, self.asked.as_deref());
        let mut response = if wants_json(request) {
            Json(view).respond_to(request)?
        } else {
            let (page, policy) = page(request, bouncer, &view, &bins).ok_or(Status::InternalServerError)?;
            let mut response = RawHtml(page).respond_to(request)?;
            response.set_header(Header::new("Content-Security-Policy", policy));
            response
        };
        response.set_header(Header::new("Cache-Control", "no-store"));
        response.set_header(Header::new("Vary", "Accept, Accept-Language"));
        // The page's own address may hold a visitor's.
        response.set_header(Header::new("Referrer-Policy", "no-referrer"));
        Ok(response)
    }
}

/// The page, and the content security policy that fits it.
fn page(request: &Request<'_>, bouncer: &Bouncer, view: &View, bins: &[Vec<Bin>; 2]) -> Option<(String, String)> {
    let rocket = request.rocket();
    let (nonce, prefix) = (nonce(), bouncer.client_ip.prefix(request));
    let (nonce, site) = (str::from_utf8(&nonce).ok()?, rocket.state::<pages::Config>()?);
    let page = rocket.state::<Texts>()?.with(request, None, |language| {
        let variables = Variables { prefix, nonce, ..Variables::of(view, bins, site, language) };
        Template::show(rocket, "status", variables)
    });
    Some((page?, content_security_policy(nonce, "")))
}

// PROVISIONAL
fn judged(_: &Bouncer) -> u64 {
    12345
}
fn by_source(bouncer: &Bouncer, mut show: impl FnMut(&crate::crowdsec::decisions::Source, bool, [usize; 2])) {
    let source = |origin: &str| crate::crowdsec::decisions::Source { origin: origin.into(), scenario: "firehol_voipbl".into(), scope: "Ip".into(), kind: "ban".into() };
    show(&source("CAPI"), false, [15000, 32]);
    show(&source("lists"), false, [4000, 0]);
    show(&source("crowdsec"), false, [12, 1]);
    show(&source("config"), true, [bouncer.config.decisions.len(), 0]);
}
