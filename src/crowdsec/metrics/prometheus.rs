//! What does Prometheus read? The figures as text, in its format 0.0.4.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rocket::http::Header;
use rocket::{Responder, State, get};

use super::counts::{CAPTCHA, FAMILIES, Figures, VALUES};
use super::operator::Operator;
use super::status::Memory;
use crate::crowdsec::bouncer::{ACTIONS, Bouncer};
use crate::crowdsec::lapi::{Contact, RESULTS, VERSION};
use crate::crowdsec::printable::is_harmful;
use crate::crowdsec::tally::{SECONDS, Tally};
use crate::crowdsec::timestamp::unix_now;

#[derive(Responder)]
#[response(content_type = "text/plain; version=0.0.4; charset=utf-8")]
pub struct Page(String, Header<'static>);

#[get("/metrics", data = "<_operator>")]
pub fn metrics(_operator: Operator, memory: &State<Arc<Memory>>, bouncer: &State<Bouncer>) -> Page {
    let mut text = Text::default();
    of_requests(&mut text, &memory.counts.figures());
    // Without a LAPI to ask there is nothing to warn of.
    if bouncer.lapi.connection.is_some() {
        of_lapi(&mut text, &bouncer.contact);
    }
    let help = "Lines that the logs have dropped, because their disk is too slow or full.";
    text.number("log_lines_dropped_total", "counter", help, value_of(&bouncer.lost_lines));
    if let Some(questions) = bouncer.questions.get() {
        let help = "Questions to AppSec, by what it said.";
        let ended = questions.tally.ended.iter().map(value_of);
        text.by("appsec_requests_total", "action", &ACTIONS, ended, help);
        let help = "How long the questions to AppSec took, those that went unanswered too.";
        text.histogram("appsec_duration_seconds", help, &questions.tally);
    }
    Page(text.0, Header::new("Cache-Control", "no-store"))
}

/// Text in Prometheus' format, one metric after the other.
#[derive(Default)]
struct Text(String);

impl Text {
    /// Begins a metric: what follows are its samples.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP crowdsec_rocket_{name} {help}\n# TYPE crowdsec_rocket_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "crowdsec_rocket_{name}");
        for (place, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            let text = text.replace(is_harmful, "\u{fffd}");
            let _ = write!(self.0, r#"{}{label}="{text}""#, if place == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A metric of one number.
    fn number(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.sample(name, &[], value);
    }

    /// A counter for each of `names`, which the label tells apart.
    fn by(&mut self, name: &str, label: &str, names: &[&str], counts: impl IntoIterator<Item = u64>, help: &str) {
        self.metric(name, "counter", help);
        for (text, count) in names.iter().zip(counts) {
            self.sample(name, &[(label, text)], count);
        }
    }

    /// How long questions took.
    fn histogram(&mut self, name: &str, help: &str, tally: &Tally) {
        self.metric(name, "histogram", help);
        let mut sum = 0;
        for (place, count) in tally.took.iter().enumerate() {
            sum += value_of(count);
            let bound = SECONDS.get(place).map_or("+Inf".to_owned(), ToString::to_string);
            self.sample(&format!("{name}_bucket"), &[("le", &bound)], sum);
        }
        self.sample(&format!("{name}_sum"), &[], value_of(&tally.microseconds) as f64 / 1e6);
        self.sample(&format!("{name}_count"), &[], sum);
    }
}

fn of_requests(text: &mut Text, figures: &Figures) {
    text.metric("build_info", "gauge", "The bouncer's version.");
    text.sample("build_info", &[("version", VERSION)], 1);
    let help = "Requests that were judged, let through or not.";
    text.by("requests_total", "ip_type", &FAMILIES, figures.processed, help);
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
    text.by("captcha_total", "result", &CAPTCHA, figures.captcha, "Captchas by what became of them.");
    text.metric("decisions", "gauge", "Decisions in memory. A network is one.");
    for ((origin, scope, family), count) in &figures.decisions {
        text.sample("decisions", &[("origin", origin), ("ip_type", VALUES[*family]), ("scope", scope)], count);
    }
}

fn of_lapi(text: &mut Text, contact: &Contact) {
    let since = contact.since_lapis_answer();
    text.number("ready", "gauge", "Whether LAPI's first answer has come.", u8::from(since.is_some()));
    let since = since.map_or(0, |since| unix_now().saturating_sub(since.as_secs()));
    let help = "When LAPI answered last, in seconds since 1970; 0 for never.";
    text.number("lapi_last_success_timestamp_seconds", "gauge", help, since);
    let help = "Questions to LAPI for decisions, by how they ended.";
    text.by("lapi_polls_total", "result", &RESULTS, contact.polls.ended.iter().map(value_of), help);
    let help = "Decisions of LAPI's that are not enforced: unreadable, or too many for one address.";
    text.number("lapi_unusable_decisions_total", "counter", help, value_of(&contact.unusable));
    text.histogram("lapi_poll_duration_seconds", "How long questions to LAPI for decisions took.", &contact.polls);
}

fn value_of(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
