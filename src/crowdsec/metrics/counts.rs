//! What has the bouncer done since the launch? One set of counters for LAPI, for Prometheus and for the operator's page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::crowdsec::bouncer::{Bouncer, CaptchaOutcome, Judgement, Verdict, Visit};
use crate::crowdsec::decisions::{DecisionSet, Source, known_scope};
use crate::crowdsec::panics::lock;

/// The families of a visitor's address.
pub const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];
/// The families of a decision's value. A country, for example, has none.
pub const VALUES: [&str; 3] = ["ipv4", "ipv6", ""];
/// The names of `CaptchaOutcome`, in its order.
pub const CAPTCHA: [&str; 4] = ["shown", "solved", "failed", "provider_away"];

/// What a visitor can be refused with, as `Verdict::name` says it.
pub const REMEDIATIONS: [&str; 6] = ["ban", "captcha", "throttle", "hidden", "starting", "too_large"];
/// Only the first three of `REMEDIATIONS` can rest on a decision.
const BY_DECISION: usize = 3;

/// The origin of the operator's own decisions, which do not come from LAPI.
pub const LOCAL: &str = "local";
/// The origin of refusals that rest on no decision.
pub const FALLBACK: &str = "fallback";
/// The origin under which all those are counted that have no numbers of their own.
const OTHER: &str = "other";
/// Origins that are listed from the start: Prometheus computes a rate only from a first 0 on.
const EXPECTED: [&str; 4] = ["crowdsec", "cscli", "CAPI", FALLBACK];
/// At most this many origins have numbers of their own, however many LAPI sends: each costs Prometheus dozens of series.
const MOST_ORIGINS: usize = 64;
/// In characters. LAPI takes labels of up to 255.
const LONGEST_ORIGIN: usize = 200;

pub struct Counts {
    judged: Arc<[AtomicU64; 2]>,
    decisions: Arc<DecisionSet>,
    /// Everything that the bouncer does not count itself. Refusals, trials, captchas and whoever reads the figures lock
    /// it: a request that is simply let in does not.
    counted: Mutex<Figures>,
    /// When LAPI last took a push of the usage metrics, in seconds since 1970; 0 for never.
    pub pushed: AtomicU64,
    /// Whether `enforce` leaves out a remediation, so that it is only tried.
    pub has_trial: bool,
}

/// Numbers by origin, by remediation or scope, and by family, which is an index into `FAMILIES` or `VALUES`.
pub type ByOrigin = BTreeMap<(String, &'static str, usize), u64>;

/// All numbers, read shortly one after the other. The numbers that an origin is expected to have are listed even at 0,
/// all others only above 0.
#[derive(Clone, Default)]
pub struct Figures {
    /// Requests that were judged, let through or not, by family.
    pub processed: [u64; 2],
    /// Requests that were not let through, by origin, remediation and family.
    pub dropped: ByOrigin,
    /// The same for those that were let through because `enforce` leaves the remediation out.
    pub tried: ByOrigin,
    /// Decisions that are held, by origin, scope and family of the value.
    pub decisions: ByOrigin,
    /// In the order of `CAPTCHA`.
    pub captcha: [u64; CAPTCHA.len()],
    /// The origins that have numbers of their own.
    origins: BTreeSet<String>,
}

impl Counts {
    pub fn of(bouncer: &Bouncer) -> Self {
        let has_trial = bouncer.config.enforced.len() < BY_DECISION;
        let mut counted = Figures::default();
        for origin in EXPECTED {
            counted.origin(origin.into(), has_trial);
        }
        Self {
            judged: bouncer.judged.clone(),
            decisions: bouncer.decisions.clone(),
            counted: Mutex::new(counted),
            pushed: AtomicU64::new(0),
            has_trial,
        }
    }

    /// Counts a refusal, a trial or a captcha. The bouncer itself counts the requests that were judged.
    pub fn note(&self, visit: &Visit) {
        if let Some(refused) = visit.refused.get() {
            self.count(refused, |figures| &mut figures.dropped);
        } else if let Some(tried) = visit.tried.get() {
            self.count(tried, |figures| &mut figures.tried);
        }
        let refused = || (visit.refusal() == Some(Verdict::Captcha)).then_some(CaptchaOutcome::Shown);
        if let Some(outcome) = visit.captcha.get().copied().or_else(refused) {
            lock(&self.counted).captcha[outcome as usize] += 1;
        }
    }

    fn count(&self, judgement: &Judgement, table: fn(&mut Figures) -> &mut ByOrigin) {
        let name = judgement.verdict.name();
        let Some(remediation) = REMEDIATIONS.into_iter().find(|known| *known == name) else { return };
        let origin = judgement.cause().map(|standing| origin_of(&standing.source, standing.expires_in.is_none()));
        let mut counted = lock(&self.counted);
        let origin = counted.origin(origin.unwrap_or_else(|| FALLBACK.into()), self.has_trial);
        let key = (origin, remediation, usize::from(judgement.address.is_ipv6()));
        *table(&mut counted).entry(key).or_default() += 1;
    }

    pub fn figures(&self) -> Figures {
        let mut decisions = ByOrigin::new();
        self.decisions.by_source(|source, is_own, held| {
            let origin = lock(&self.counted).origin(origin_of(source, is_own), self.has_trial);
            for (family, count) in held.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                *decisions.entry((origin.clone(), scope_of(source, is_own), family)).or_default() += count as u64;
            }
        });
        let mut figures = lock(&self.counted).clone();
        figures.decisions.extend(decisions);
        // Read last, so that no look finds more requests refused than judged.
        figures.processed = self.judged.each_ref().map(|count| count.load(Ordering::Relaxed));
        figures
    }
}

impl Figures {
    /// Gives the name under which an origin is counted. From now on lists the numbers that a new origin is expected to have.
    fn origin(&mut self, name: String, has_trial: bool) -> String {
        let is_apart = self.origins.contains(&name) || self.origins.len() < MOST_ORIGINS;
        let name = if is_apart { name } else { OTHER.into() };
        if self.origins.insert(name.clone()) {
            let (by_decision, others) = REMEDIATIONS.split_at(BY_DECISION);
            let expected = if name == FALLBACK { others } else { by_decision };
            for family in 0..FAMILIES.len() {
                let zeros = expected.iter().map(|remediation| ((name.clone(), *remediation, family), 0));
                self.tried.extend(zeros.clone().filter(|_| has_trial));
                self.dropped.extend(zeros);
                // The operator's own decisions stand from the start, and `FALLBACK` has none.
                if !matches!(&*name, FALLBACK | LOCAL) {
                    self.decisions.extend(["ip", "range"].map(|scope| ((name.clone(), scope, family), 0)));
                }
            }
        }
        name
    }
}

/// The origin as LAPI's own figures name it: for a decision from a blocklist, with the list's name.
fn origin_of(source: &Source, is_own: bool) -> String {
    if is_own {
        return LOCAL.into();
    }
    let origin: String = source.named_origin().chars().take(LONGEST_ORIGIN).collect();
    if origin.is_empty() { OTHER.into() } else { origin }
}

/// A scope may be any text: all unknown ones are counted as `other`.
fn scope_of(source: &Source, is_own: bool) -> &'static str {
    if is_own { "own" } else { known_scope(&source.scope).unwrap_or("other") }
}
