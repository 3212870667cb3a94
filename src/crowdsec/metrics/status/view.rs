//! What does the page say, and the JSON? One value for both: templates/status.html.tera says what each part of it means.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use rocket::serde::json::{Value, json};
use serde::Serialize;

use crate::crowdsec::bouncer::{ACTIONS, Bouncer};
use crate::crowdsec::metrics::counts::Figures;
use crate::crowdsec::pages::Words;
use crate::crowdsec::printable::printable;
use crate::crowdsec::timestamp::timestamp;

/// How we are in step with LAPI.
pub fn lapi(bouncer: &Bouncer) -> Value {
    let Some(connection) = &bouncer.lapi.connection else {
        return json!({ "state": "none", "since": null, "last_answer_seconds_ago": null, "url": null });
    };
    json!({
        "state": bouncer.health(),
        "since": timestamp(bouncer.unix_now().saturating_sub(bouncer.contact.lasts().as_secs())),
        "last_answer_seconds_ago": bouncer.contact.since_last_answer().map(|since| since.as_secs()),
        "url": connection.at.to_string(),
    })
}

/// How AppSec answers.
pub fn appsec(bouncer: &Bouncer) -> Value {
    let Some(questions) = bouncer.questions.get() else {
        return json!({ "state": "off", "since": null, "questions": [] });
    };
    let since = Some(questions.failing_since.load(Ordering::Relaxed)).filter(|since| *since > 0);
    let counts = questions.ended.iter().map(|count| count.load(Ordering::Relaxed));
    let asked: Vec<_> = ACTIONS.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
    let state = if since.is_some() { "failing" } else { "ok" };
    json!({ "state": state, "since": since.map(timestamp), "questions": asked })
}

/// How many decisions are held, and whose.
pub fn decisions(figures: &Figures) -> Value {
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

/// The variables of the template.
#[derive(Serialize)]
pub struct Variables<'a> {
    #[serde(flatten)]
    pub view: &'a Value,
    #[serde(flatten)]
    pub words: &'a Words,
    pub kept: usize,
    pub prefix: &'a str,
    pub nonce: &'a str,
}
