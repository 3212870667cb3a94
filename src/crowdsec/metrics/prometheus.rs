//! What does Prometheus read? The figures as text, in its format 0.0.4.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocket::http::Header;
use rocket::{Responder, State, get};

use super::counts::{CAPTCHA, Counts, FAMILIES, VALUES};
use super::operator::Operator;
use crate::crowdsec::bouncer::Bouncer;
use crate::crowdsec::captcha::unix_now;
use crate::crowdsec::lapi::polls::{BOUNDS, Polls, RESULTS};
use crate::crowdsec::lapi::{Health, Status, VERSION};

#[derive(Responder)]
#[response(content_type = "text/plain; version=0.0.4; charset=utf-8")]
pub struct Page(String, Header<'static>);

#[get("/metrics")]
pub fn metrics(_operator: Operator, counts: &State<Arc<Counts>>, bouncer: &State<Bouncer>) -> Page {
    let lapi = bouncer.lapi.connection.is_some().then(|| bouncer.health());
    Page(written(counts, lapi), Header::new("Cache-Control", "no-store"))
}

/// Text in Prometheus' format, one metric after the other.
#[derive(Default)]
struct Text(String);

impl Text {
    /// What follows are samples of this metric.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP crowdsec_rocket_{name} {help}\n# TYPE crowdsec_rocket_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "crowdsec_rocket_{name}");
        for (place, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            let _ = write!(self.0, r#"{}{label}="{text}""#, if place == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A metric of one number.
    fn number(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// `lapi` is `None` where there is none to ask, and so nothing to warn of.
fn written(counts: &Counts, lapi: Option<Health>) -> String {
    let (figures, mut text) = (counts.figures(), Text::default());
    text.metric("build_info", "gauge", "The bouncer's version.");
    text.sample("build_info", &[("version", VERSION)], 1);
    text.metric("requests_total", "counter", "Requests that were judged, let through or not.");
    for (family, count) in FAMILIES.into_iter().zip(figures.processed) {
        text.sample("requests_total", &[("ip_type", family)], count);
    }
    for (name, help, numbers) in [
        ("dropped_total", "Requests that were refused.", &figures.dropped),
        ("trial_total", "Requests let through, that would be refused if all was enforced.", &figures.tried),
    ] {
        text.metric(name, "counter", help);
        for ((origin, remediation, family), count) in numbers {
            let labels = [("origin", &**origin), ("remediation", *remediation), ("ip_type", FAMILIES[*family])];
            text.sample(name, &labels, count);
        }
    }
    text.metric("captcha_total", "counter", "Captchas by what became of them.");
    for (result, count) in CAPTCHA.into_iter().zip(figures.captcha) {
        text.sample("captcha_total", &[("result", result)], count);
    }
    text.metric("decisions", "gauge", "Decisions in memory. A network is one.");
    for ((origin, scope, family), count) in &figures.decisions {
        text.sample("decisions", &[("origin", origin), ("ip_type", VALUES[*family]), ("scope", scope)], count);
    }
    if let Some(health) = lapi {
        of_lapi(&mut text, &counts.status, health);
    }
    text.0
}

fn of_lapi(text: &mut Text, status: &Status, health: Health) {
    text.number("ready", "gauge", "Whether LAPI's first answer has come.", u8::from(health != Health::Starting));
    let since = status.since_last_answer().map_or(0, |since| unix_now().saturating_sub(since.as_secs()));
    let help = "When LAPI answered last, in seconds since 1970; 0 for never.";
    text.number("lapi_last_success_timestamp_seconds", "gauge", help, since);
    of_polls(text, &status.polls);
}

fn of_polls(text: &mut Text, polls: &Polls) {
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    text.metric("lapi_polls_total", "counter", "Questions to LAPI for decisions, by how they ended.");
    for (result, count) in RESULTS.into_iter().zip(&polls.ended) {
        text.sample("lapi_polls_total", &[("result", result)], get(count));
    }
    let help = "Decisions of LAPI's that are not enforced: unreadable, or too many for one address.";
    text.number("lapi_unusable_decisions_total", "counter", help, get(&polls.unused));
    text.metric("lapi_poll_duration_seconds", "histogram", "How long the polls took.");
    let mut sum = 0;
    for (place, count) in polls.took.iter().enumerate() {
        sum += get(count);
        let bound = BOUNDS.get(place).map_or("+Inf".to_owned(), ToString::to_string);
        text.sample("lapi_poll_duration_seconds_bucket", &[("le", &bound)], sum);
    }
    text.sample("lapi_poll_duration_seconds_sum", &[], get(&polls.milliseconds) as f64 / 1000.0);
    text.sample("lapi_poll_duration_seconds_count", &[], sum);
}
