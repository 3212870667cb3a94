//! How do things stand? A page for the operator, and the same as JSON: `GET /crowdsec/status`.

mod explained;
mod history;
mod view;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::{Header, Status};
use rocket::response::content::RawHtml;
use rocket::response::{self, Responder, Response};
use rocket::serde::json::Json;
use rocket::{Orbit, Request, Rocket, get};
use rocket_dyn_templates::Template;
use tokio::time::sleep;

use super::counts::Counts;
use super::operator::Operator;
use crate::crowdsec::background::Background;
use crate::crowdsec::bouncer::{Bouncer, Record};
use crate::crowdsec::lapi::VERSION;
use crate::crowdsec::pages::page::{content_security_policy, nonce};
use crate::crowdsec::pages::{self, Texts, wants_json};
use crate::crowdsec::panics::lock;
use crate::crowdsec::printable::printable;
use crate::crowdsec::timestamp::{timestamp, unix_now};
use explained::Explained;
use history::{History, Totals};
use view::{AppSec, Counted, Decisions, Lapi, Variables, View};

/// What the page remembers, in memory that never grows beyond a bound. It has to be attached after all others, to see the
/// status of an answer as it leaves.
pub struct Memory {
    /// In seconds since 1970.
    started: u64,
    counts: Arc<Counts>,
    history: Mutex<History>,
    /// Made printable, the newest first.
    refusals: Mutex<VecDeque<Record>>,
    /// Where the counters are looked at.
    thread: Background,
}

/// How many refusals are kept.
const MOST: usize = 50;
/// Between two looks at the counters: no minute is without one.
const LOOK: Duration = Duration::from_secs(5);

#[rocket::async_trait]
impl Fairing for Memory {
    fn info(&self) -> Info {
        Info { name: "CrowdSec's status page", kind: Kind::Liftoff | Kind::Response }
    }

    async fn on_liftoff(&self, rocket: &Rocket<Orbit>) {
        try_page(rocket, self);
    }

    /// Nothing that is kept steers a terminal or turns the text around it, and each text has at most 200 characters.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let Some(refused) = Record::of(request, response.status()) else { return };
        let refused = Record {
            path: printable(&refused.path),
            origin: refused.origin.as_deref().map(printable),
            scenario: refused.scenario.as_deref().map(printable),
            ..refused
        };
        let mut refusals = lock(&self.refusals);
        refusals.truncate(MOST - 1);
        refusals.push_front(refused);
    }
}

/// Tells at the launch what is wrong with the template, rather than at the first look.
fn try_page(rocket: &Rocket<Orbit>, memory: &Memory) {
    let (Some(bouncer), Some(texts)) = (rocket.state::<Bouncer>(), rocket.state::<Texts>()) else { return };
    let Some(site) = rocket.state::<pages::Config>() else { return };
    let view = memory.view(bouncer, Some("192.0.2.1"));
    for language in &texts.languages {
        if Template::show(rocket, "status", Variables::of(&view, site, language)).is_none() {
            log::error!(
                "The page `status` cannot be made with the words of [{}]; see the lines above. Write the missing word into the \
                 default language's table of texts.toml, or mend status.html.tera, which lists the variables.",
                language.tag
            );
        }
    }
}

impl Memory {
    /// Remembers from now on where the counters stand, looked at now and then.
    pub fn of(counts: Arc<Counts>) -> io::Result<Arc<Self>> {
        let (started, thread) = (unix_now(), Background::start("crowdsec-status")?);
        let history = Mutex::new(History::new(started));
        let memory = Arc::new(Self { started, counts, history, refusals: Mutex::default(), thread });
        // The thread must not keep alive what holds it, or it would never end.
        let remembered = Arc::downgrade(&memory);
        memory.thread.runtime.spawn(async move {
            while let Some(memory) = remembered.upgrade() {
                let totals = Totals::of(&memory.counts.figures());
                lock(&memory.history).note(unix_now(), totals);
                drop(memory);
                sleep(LOOK).await;
            }
        });
        Ok(memory)
    }

    fn view(&self, bouncer: &Bouncer, asked: Option<&str>) -> View {
        let (now, figures) = (unix_now(), self.counts.figures());
        // A copy, so that no refusal waits until a page is written.
        let refusals = Vec::from(lock(&self.refusals).clone());
        let bins = lock(&self.history).bins(now, Totals::of(&figures));
        let [hour, day] = bins.map(|bins| bins.iter().map(Counted::from).collect());
        View {
            version: VERSION,
            time: timestamp(now),
            started: timestamp(self.started),
            lapi: Lapi::of(bouncer),
            appsec: AppSec::of(bouncer),
            usage_pushed: Some(self.counts.pushed.load(Ordering::Relaxed)).filter(|at| *at > 0).map(timestamp),
            log_lines_dropped: bouncer.lost_lines.load(Ordering::Relaxed),
            decisions: Decisions::of(&figures),
            hour,
            day,
            explained: asked.map(|asked| Explained::of(bouncer, asked, &refusals)),
            refusals,
        }
    }
}

/// For the networks of `metrics_from` alone. `address` is what the operator asks about: an address, or a reference.
#[get("/status?<address>", data = "<_operator>")]
pub fn status(_operator: Operator, address: Option<String>) -> Page {
    Page { asked: address.filter(|asked| !asked.trim().is_empty()) }
}

/// The page, or JSON, made of how things stand when the answer is written.
pub struct Page {
    asked: Option<String>,
}

impl<'r> Responder<'r, 'static> for Page {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let rocket = request.rocket();
        let (Some(bouncer), Some(memory)) = (rocket.state::<Bouncer>(), rocket.state::<Arc<Memory>>()) else {
            return Err(Status::InternalServerError);
        };
        let view = memory.view(bouncer, self.asked.as_deref());
        let mut response = if wants_json(request) {
            Json(view).respond_to(request)?
        } else {
            let (page, policy) = rendered(request, bouncer, &view).ok_or(Status::InternalServerError)?;
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
fn rendered(request: &Request<'_>, bouncer: &Bouncer, view: &View) -> Option<(String, String)> {
    let rocket = request.rocket();
    let (nonce, prefix) = (nonce(), bouncer.client_ip.prefix(request));
    let (nonce, site) = (str::from_utf8(&nonce).ok()?, rocket.state::<pages::Config>()?);
    let page = rocket.state::<Texts>()?.with(request, None, |language| {
        let variables = Variables { prefix, nonce, ..Variables::of(view, site, language) };
        Template::show(rocket, "status", variables)
    });
    Some((page?, content_security_policy(nonce, "")))
}
