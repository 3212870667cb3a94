//! What did the bouncer do since the launch? One set of counters, for LAPI, for Prometheus and for the operator.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::crowdsec::bouncer::{Bouncer, CaptchaOutcome, Judged, Judgement, Verdict, Visit};
use crate::crowdsec::decisions::{DecisionSet, Source};
use crate::crowdsec::lapi::Contact;

/// By the family of the visitor's address.
pub const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];
/// By the family of a decision's value. A country has none.
pub const VALUES: [&str; 3] = ["ipv4", "ipv6", ""];
/// Of `CaptchaOutcome`, in its order.
pub const CAPTCHA: [&str; 4] = ["shown", "solved", "failed", "provider_away"];

/// What a visitor can be refused with, as `Verdict::name` says it.
pub const REMEDIATIONS: [&str; 6] = ["ban", "captcha", "throttle", "hidden", "starting", "too_large"];
/// Of these, what a decision says. The others rest on none.
const BY_DECISION: usize = 3;

/// The operator's own decisions. They are none of LAPI's, and so have a word of their own.
pub const LOCAL: &str = "local";
/// What rests on no decision.
pub const FALLBACK: &str = "fallback";
/// All origins beyond those that are counted apart.
const OTHER: &str = "other";
/// Origins that are there from the start: a rate needs a zero to begin with.
const EXPECTED: [&str; 4] = ["crowdsec", "cscli", "CAPI", FALLBACK];
/// So many origins are counted apart, however many LAPI sends: each one costs Prometheus dozens of series.
const MOST_ORIGINS: usize = 64;
/// LAPI takes labels of 255 letters.
const LONGEST_ORIGIN: usize = 200;

pub struct Counts {
    judged: Arc<Judged>,
    decisions: Arc<DecisionSet>,
    pub status: Arc<Contact>,
    skipped: Arc<AtomicU64>,
    /// Read by refused requests and by those in a trial alone. It is written once for each origin.
    origins: RwLock<BTreeMap<String, Row>>,
    captcha: [AtomicU64; CAPTCHA.len()],
    /// When LAPI last took a push of the usage metrics, in seconds since 1970; 0 for never.
    pub pushed: AtomicU64,
    /// Whether some remediations only are tried.
    pub has_trial: bool,
}

/// What was done because of one origin's decisions.
#[derive(Default)]
struct Row {
    dropped: [[AtomicU64; 2]; REMEDIATIONS.len()],
    tried: [[AtomicU64; 2]; REMEDIATIONS.len()],
}

/// All numbers at one moment. A family is its place in `FAMILIES`.
#[derive(Clone, Default)]
pub struct Figures {
    /// Requests that were judged, let through or not.
    pub processed: [u64; 2],
    /// Requests that were not let through, by origin, remediation and family.
    pub dropped: BTreeMap<(String, &'static str, usize), u64>,
    /// The same for those that were let through because `enforce` leaves the remediation out.
    pub tried: BTreeMap<(String, &'static str, usize), u64>,
    /// Decisions that are held, by origin, scope and family.
    pub decisions: BTreeMap<(String, &'static str, usize), u64>,
    /// In the order of `CAPTCHA`.
    pub captcha: [u64; CAPTCHA.len()],
}

impl Counts {
    pub fn of(bouncer: &Bouncer) -> Self {
        let own = (!bouncer.config.decisions.is_empty()).then_some(LOCAL);
        let is_enforced = |name: &str| bouncer.config.enforced.iter().any(|enforced| enforced.as_str() == name);
        let origins = EXPECTED.into_iter().chain(own).map(|origin| (origin.to_owned(), Row::default()));
        Self {
            judged: bouncer.judged.clone(),
            decisions: bouncer.decisions.clone(),
            status: bouncer.status.clone(),
            skipped: bouncer.skipped.clone(),
            origins: RwLock::new(origins.collect()),
            captcha: Default::default(),
            pushed: AtomicU64::new(0),
            has_trial: REMEDIATIONS[..BY_DECISION].iter().any(|name| !is_enforced(name)),
        }
    }

    /// Seconds that a test has skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Counts what became of a request. The admitted ones are counted by the bouncer, when they are judged.
    pub fn note(&self, visit: &Visit) {
        if let Some(verdict) = visit.refusal() {
            self.count(visit.ground(), verdict, |row| &row.dropped);
        } else if let Some(verdict) = visit.judgement.trial.filter(|_| !visit.spared) {
            self.count(&visit.judgement, verdict, |row| &row.tried);
        }
        let refused = || (visit.refusal() == Some(Verdict::Captcha)).then_some(CaptchaOutcome::Shown);
        if let Some(outcome) = visit.captcha.get().copied().or_else(refused) {
            self.captcha[outcome as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count(
        &self,
        judgement: &Judgement,
        verdict: Verdict,
        numbers: fn(&Row) -> &[[AtomicU64; 2]; REMEDIATIONS.len()],
    ) {
        let Some(remediation) = REMEDIATIONS.iter().position(|name| *name == verdict.name()) else { return };
        // A guard may refuse because of a decision that says something else.
        let behind = || judgement.behind(verdict).or(judgement.greatest());
        let standing = if remediation < BY_DECISION { behind() } else { None };
        let origin = standing.map(|standing| origin_of(&standing.source, standing.expires_in.is_none()));
        let family = usize::from(judgement.address.is_ipv6());
        self.with_row(origin.unwrap_or_else(|| FALLBACK.into()), |row| {
            numbers(row)[remediation][family].fetch_add(1, Ordering::Relaxed);
        });
    }

    /// Hands over the row of an origin, which is made where it is the first of its name. Gives the name that the origin is
    /// counted under.
    fn with_row(&self, origin: String, with: impl Fn(&Row)) -> String {
        if let Some(row) = self.origins.read().unwrap_or_else(PoisonError::into_inner).get(&origin) {
            with(row);
            return origin;
        }
        let mut origins = self.origins.write().unwrap_or_else(PoisonError::into_inner);
        let is_known = origins.contains_key(&origin);
        let origin = if is_known || origins.len() < MOST_ORIGINS { origin } else { OTHER.into() };
        with(origins.entry(origin.clone()).or_default());
        origin
    }

    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        let mut held = BTreeMap::<_, [usize; 3]>::new();
        self.decisions.by_source(|source, is_own, counts| {
            let sums = held.entry((origin_of(source, is_own), scope_of(source, is_own))).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        });
        for ((origin, scope), counts) in held {
            let origin = self.with_row(origin, |_| {});
            let is_address = matches!(scope, "ip" | "range" | "own");
            for (family, count) in counts.into_iter().enumerate().filter(|(family, _)| is_address == (*family < 2)) {
                *figures.decisions.entry((origin.clone(), scope, family)).or_default() += count as u64;
            }
        }
        for (origin, row) in &*self.origins.read().unwrap_or_else(PoisonError::into_inner) {
            figures.take(origin, row, self.has_trial);
        }
        // Last, so that never more were refused than came.
        figures.processed = [&self.judged.0[0], &self.judged.0[1]].map(|count| count.load(Ordering::Relaxed));
        figures.captcha = std::array::from_fn(|place| self.captcha[place].load(Ordering::Relaxed));
        figures
    }
}

impl Figures {
    /// An expected combination is listed even at 0, also after its decisions are gone. Others are listed only above 0.
    fn take(&mut self, origin: &str, row: &Row, has_trial: bool) {
        for (place, remediation) in REMEDIATIONS.into_iter().enumerate() {
            let is_expected = (place < BY_DECISION) == (origin != FALLBACK);
            for family in 0..2 {
                let get = |counts: &[[AtomicU64; 2]]| counts[place][family].load(Ordering::Relaxed);
                let key = || (origin.to_owned(), remediation, family);
                let (dropped, tried) = (get(&row.dropped), get(&row.tried));
                if dropped > 0 || is_expected {
                    self.dropped.insert(key(), dropped);
                }
                if tried > 0 || has_trial && is_expected {
                    self.tried.insert(key(), tried);
                }
            }
        }
        let scopes: &[&str] = match origin {
            FALLBACK => &[],
            LOCAL => &["own"],
            _ => &["ip", "range"],
        };
        for (scope, family) in scopes.iter().flat_map(|scope| [(*scope, 0), (*scope, 1)]) {
            self.decisions.entry((origin.to_owned(), scope, family)).or_default();
        }
    }
}

/// As LAPI's own figures call it: of a decision that comes by a blocklist with the list's name.
fn origin_of(source: &Source, is_own: bool) -> String {
    if is_own {
        return LOCAL.into();
    }
    let origin: String = source.named_origin().chars().take(LONGEST_ORIGIN).collect();
    if origin.is_empty() { OTHER.into() } else { origin }
}

/// A scope is any text: only the known ones are counted apart.
fn scope_of(source: &Source, is_own: bool) -> &'static str {
    let known = ["ip", "range", "country", "as"];
    let known = known.into_iter().find(|known| source.scope.eq_ignore_ascii_case(known));
    if is_own { "own" } else { known.unwrap_or("other") }
}
