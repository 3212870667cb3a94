//! How do things stand? A page for the operator, and the same as JSON: `GET /crowdsec/status`.

mod explained;
mod history;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocket::http::{Header, Status};
use rocket::response::content::RawHtml;
use rocket::response::{self, Responder};
use rocket::serde::json::{Value, json};
use rocket::{Request, State, get};
use rocket_dyn_templates::Template;
use tokio::time::sleep;

use super::counts::{Counts, Figures};
use super::operator::Operator;
use crate::crowdsec::bouncer::{ACTIONS, Bouncer, Record};
use crate::crowdsec::lapi::VERSION;
use crate::crowdsec::pages::{FORMAT_HEADERS, Texts, content_security_policy, nonce, wants_json};
use crate::crowdsec::panics::lock;
use crate::crowdsec::printable::printable;
use crate::crowdsec::timestamp::{timestamp, unix_now};
use explained::explained;
use history::{History, totals};

/// What the page remembers, in memory that never grows beyond a bound.
pub struct Memory {
    /// In seconds since 1970.
    started: u64,
    /// Whether anybody may look at the page: if not, no refusal is kept.
    is_shown: bool,
    pub counts: Arc<Counts>,
    history: Mutex<History>,
    /// Made printable, the newest first.
    refusals: Mutex<VecDeque<Record>>,
}

/// How many refusals are kept.
const MOST_REFUSALS: usize = 50;
/// The time between two looks at the counters: every minute has some.
const LOOK: Duration = Duration::from_secs(5);

impl Memory {
    pub fn of(bouncer: &Bouncer, is_shown: bool) -> Self {
        let (started, counts) = (unix_now(), Arc::new(Counts::of(bouncer)));
        Self { started, is_shown, counts, history: Mutex::new(History::new(started)), refusals: Mutex::default() }
    }

    /// Remembers a refusal, its texts made printable: they cannot steer a terminal or turn the text around them, and
    /// are cut after 200 characters.
    pub fn note(&self, request: &Request<'_>, status: Status) {
        let Some(refused) = self.is_shown.then(|| Record::of(request, status)).flatten() else { return };
        let refused = Record {
            path: printable(&refused.path),
            origin: refused.origin.as_deref().map(printable),
            scenario: refused.scenario.as_deref().map(printable),
            ..refused
        };
        let mut refusals = lock(&self.refusals);
        refusals.truncate(MOST_REFUSALS - 1);
        refusals.push_front(refused);
    }

    /// Remembers every `LOOK` where the counters stand, without end.
    pub async fn look(self: Arc<Self>) {
        loop {
            let totals = totals(&self.counts.figures());
            lock(&self.history).note(unix_now(), totals);
            sleep(LOOK).await;
        }
    }

    /// How things stand, as one value for the page and for programs: templates/status.html.tera explains each part.
    fn view(&self, bouncer: &Bouncer, asked: Option<&str>) -> Value {
        let (now, figures) = (unix_now(), self.counts.figures());
        let totals = totals(&figures);
        // A copy, so that no refusal waits until a page is written.
        let refusals = Vec::from(lock(&self.refusals).clone());
        json!({
            "version": VERSION,
            "time": timestamp(now),
            "started": timestamp(self.started),
            "lapi": lapi(bouncer),
            "appsec": appsec(bouncer),
            "usage_pushed": Some(self.counts.pushed.load(Ordering::Relaxed)).filter(|at| *at > 0).map(timestamp),
            "log_lines_dropped": bouncer.lost_lines.load(Ordering::Relaxed),
            "decisions": decisions(&figures),
            "hour": lock(&self.history).bins(60, 1, now, totals),
            "day": lock(&self.history).bins(24, 60, now, totals),
            "explained": asked.map(|asked| explained(bouncer, asked, &refusals)),
            "refusals": refusals,
        })
    }
}

/// Whether we are in step with LAPI.
fn lapi(bouncer: &Bouncer) -> Value {
    let Some(connection) = &bouncer.lapi.connection else {
        return json!({ "state": "none", "since": null, "last_answer_seconds_ago": null, "url": null });
    };
    json!({
        "state": bouncer.health(),
        "since": timestamp(bouncer.unix_now().saturating_sub(bouncer.contact.lasts().as_secs())),
        "last_answer_seconds_ago": bouncer.contact.since_lapis_answer().map(|since| since.as_secs()),
        "url": connection.at,
    })
}

/// How AppSec answers.
fn appsec(bouncer: &Bouncer) -> Value {
    let Some(questions) = bouncer.questions.get() else {
        return json!({ "state": "off", "since": null, "questions": [] });
    };
    let since = Some(questions.failing_since.load(Ordering::Relaxed)).filter(|since| *since > 0);
    let counts = questions.tally.ended.iter().map(|count| count.load(Ordering::Relaxed));
    let asked: Vec<_> = ACTIONS.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
    let state = if since.is_some() { "failing" } else { "ok" };
    json!({ "state": state, "since": since.map(timestamp), "questions": asked })
}

/// How many decisions are held, in all and by origin.
fn decisions(figures: &Figures) -> Value {
    let mut by_origin = BTreeMap::<&str, u64>::new();
    for ((origin, ..), count) in &figures.decisions {
        *by_origin.entry(origin).or_default() += count;
    }
    let all: u64 = by_origin.values().sum();
    let held = by_origin.into_iter().filter(|(_, count)| *count > 0);
    let mut by_origin: Vec<_> = held.map(|(origin, count)| (printable(origin), count)).collect();
    by_origin.sort_by_key(|(_, count)| Reverse(*count));
    json!({ "all": all, "by_origin": by_origin })
}

/// For the networks of `metrics_from` alone. `address` is what the operator asks about: an address, or a reference.
#[get("/status?<address>", data = "<_operator>")]
pub fn status(
    _operator: Operator,
    address: Option<&str>,
    bouncer: &State<Bouncer>,
    memory: &State<Arc<Memory>>,
) -> Page {
    Page(memory.view(bouncer, address.filter(|asked| !asked.trim().is_empty())))
}

/// How things stand, as a page or as JSON.
pub struct Page(Value);

impl<'r> Responder<'r, 'static> for Page {
    fn respond_to(self, request: &'r Request<'_>) -> response::Result<'static> {
        let mut response = if wants_json(request) {
            self.0.respond_to(request)?
        } else {
            let (page, policy) = rendered(request, self.0).ok_or(Status::InternalServerError)?;
            let mut response = RawHtml(page).respond_to(request)?;
            response.set_header(Header::new("Content-Security-Policy", policy));
            response
        };
        response.set_header(Header::new("Cache-Control", "no-store"));
        response.set_header(Header::new("Vary", format!("{FORMAT_HEADERS}, Accept-Language")));
        // The page's URL may hold a visitor's address.
        response.set_header(Header::new("Referrer-Policy", "no-referrer"));
        Ok(response)
    }
}

/// The page, and the content security policy that fits it.
fn rendered(request: &Request<'_>, mut view: Value) -> Option<(String, String)> {
    let (rocket, nonce) = (request.rocket(), nonce());
    let words = rocket.state::<Texts>()?.words(request, None);
    view["prefix"] = rocket.state::<Bouncer>()?.client_ip.prefix(request).into();
    view["nonce"] = nonce.as_str().into();
    view["kept"] = MOST_REFUSALS.into();
    Some((Template::show(rocket, "status", words.with(view))?, content_security_policy(&nonce, "")))
}
