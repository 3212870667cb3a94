//! What does the page say, and the JSON? One value for both.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::MOST;
use super::explained::Explained;
use super::history::Bin;
use crate::crowdsec::bouncer::{ACTIONS, Bouncer, Record};
use crate::crowdsec::lapi::Health;
use crate::crowdsec::metrics::counts::Figures;
use crate::crowdsec::pages;
use crate::crowdsec::pages::language::Language;
use crate::crowdsec::printable::printable;
use crate::crowdsec::timestamp::timestamp;

/// How things stand, for a program.
#[derive(Serialize)]
pub struct View {
    pub version: &'static str,
    pub time: String,
    pub started: String,
    pub lapi: Lapi,
    pub appsec: AppSec,
    /// When LAPI last took a push of the usage metrics.
    pub usage_pushed: Option<String>,
    /// Lines that the logs have dropped since the launch.
    pub log_lines_dropped: u64,
    pub decisions: Decisions,
    /// By minute, oldest first; the last one is not over.
    pub hour: Vec<Counted>,
    /// By hour.
    pub day: Vec<Counted>,
    /// The newest first.
    pub refusals: Vec<Record>,
    /// Where an address was asked for.
    pub explained: Option<Explained>,
}

/// How we are in step with LAPI.
#[derive(Serialize)]
pub struct Lapi {
    /// `ok`, `starting`, `stale`, or `none` where there is no LAPI to ask.
    pub state: &'static str,
    /// Since when this is so.
    pub since: Option<String>,
    pub last_answer_seconds_ago: Option<u64>,
    pub url: Option<String>,
}

/// How AppSec answers.
#[derive(Serialize)]
pub struct AppSec {
    /// `ok`, `failing` since the last answer of its, or `off`.
    pub state: &'static str,
    /// Since when it fails.
    pub since: Option<String>,
    /// Questions since the launch, by what it said; those that there were.
    pub questions: Vec<(&'static str, u64)>,
}

#[derive(Serialize)]
pub struct Decisions {
    pub all: u64,
    /// The greatest number first.
    pub by_origin: Vec<(String, u64)>,
}

/// What was let in and refused in a minute or an hour; no numbers before the launch.
#[derive(Serialize)]
pub struct Counted {
    begin: String,
    /// Those of `Totals::numbers`.
    #[serde(flatten)]
    numbers: BTreeMap<&'static str, Option<u64>>,
}

impl Lapi {
    pub fn of(bouncer: &Bouncer) -> Self {
        let Some(connection) = &bouncer.lapi.connection else {
            return Self { state: "none", since: None, last_answer_seconds_ago: None, url: None };
        };
        let state = match bouncer.health() {
            Health::Ok => "ok",
            Health::Starting => "starting",
            Health::Stale => "stale",
        };
        Self {
            state,
            since: Some(timestamp(bouncer.unix_now().saturating_sub(bouncer.status.lasts().as_secs()))),
            last_answer_seconds_ago: bouncer.status.since_last_answer().map(|since| since.as_secs()),
            url: Some(connection.at.to_string()),
        }
    }
}

impl AppSec {
    pub fn of(bouncer: &Bouncer) -> Self {
        let Some(questions) = bouncer.questions.get() else {
            return Self { state: "off", since: None, questions: Vec::new() };
        };
        let since = Some(questions.failing_since.load(Ordering::Relaxed)).filter(|since| *since > 0);
        let counts = questions.ended.iter().map(|count| count.load(Ordering::Relaxed));
        Self {
            state: if since.is_some() { "failing" } else { "ok" },
            since: since.map(timestamp),
            questions: ACTIONS.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect(),
        }
    }
}

impl Decisions {
    pub fn of(figures: &Figures) -> Self {
        let mut by_origin = BTreeMap::<&str, u64>::new();
        for ((origin, ..), count) in &figures.decisions {
            *by_origin.entry(origin).or_default() += count;
        }
        let all = by_origin.values().sum();
        let held = by_origin.into_iter().filter(|(_, count)| *count > 0);
        let mut by_origin: Vec<_> = held.map(|(origin, count)| (printable(origin), count)).collect();
        by_origin.sort_by_key(|(_, count)| Reverse(*count));
        Self { all, by_origin }
    }
}

impl From<&Bin> for Counted {
    fn from(Bin { begin, counted }: &Bin) -> Self {
        let numbers = counted.unwrap_or_default().numbers();
        let numbers = numbers.map(|(name, number)| (name, counted.map(|_| number)));
        Self { begin: timestamp(*begin), numbers: numbers.into() }
    }
}

/// The numbers of the last hour or day, and what is known of all of them together. Only the page has that.
#[derive(Serialize)]
pub struct Chart<'a> {
    /// `hour` or `day`.
    name: &'static str,
    bins: &'a [Counted],
    #[serde(flatten)]
    sums: BTreeMap<&'static str, Sum>,
}

/// The sum of some numbers, and the greatest of them.
#[derive(Default, Serialize)]
struct Sum {
    total: u64,
    most: u64,
}

impl<'a> Chart<'a> {
    fn of(name: &'static str, bins: &'a [Counted]) -> Self {
        let mut sums = BTreeMap::<_, Sum>::new();
        for (name, number) in bins.iter().flat_map(|bin| &bin.numbers) {
            let (sum, number) = (sums.entry(*name).or_default(), number.unwrap_or(0));
            (sum.total, sum.most) = (sum.total + number, sum.most.max(number));
        }
        Self { name, bins, sums }
    }
}

/// The variables of templates/status.html.tera, which says what each means.
#[derive(Serialize)]
pub struct Variables<'a> {
    #[serde(flatten)]
    pub view: &'a View,
    pub charts: [Chart<'a>; 2],
    pub kept: usize,
    pub site: &'a str,
    pub lang: &'a str,
    pub dir: &'static str,
    pub text: &'a BTreeMap<String, String>,
    pub prefix: &'a str,
    pub nonce: &'a str,
}

impl<'a> Variables<'a> {
    pub fn of(view: &'a View, site: &'a pages::Config, language: &'a Language) -> Self {
        Self {
            view,
            charts: [Chart::of("hour", &view.hour), Chart::of("day", &view.day)],
            kept: MOST,
            site: &site.site_name,
            lang: &language.tag,
            dir: language.dir,
            text: &language.words,
            prefix: "",
            nonce: "nonce",
        }
    }
}
