//! Whom does a handler serve, and what stands against them?

use std::net::IpAddr;
use std::time::Duration;

use rocket::Request;
use rocket::request::Outcome;
use serde::Serialize;

use crate::crowdsec::bouncer::{Bouncer, Verdict};
use crate::crowdsec::decisions::Standing;

/// The visitor as the bouncer sees them, for a handler that answers in the application's own terms. Never refuses anybody.
///
/// ```text
/// #[get("/order")]
/// fn order(visitor: Visitor) -> &'static str {
///     // `mfa` is a type of your own: `remediations = { mfa = "pass" }` lets such visitors in, and you ask for more.
///     if visitor.has("mfa") { "Please confirm by your second factor" } else { "Thank you" }
/// }
/// ```
#[derive(Debug, Serialize)]
pub struct Visitor {
    /// The visitor's address, as trusted proxies name it; an IPv4 address is never written as IPv6 (`::ffff:…`).
    pub address: IpAddr,
    /// Every decision that stands against the visitor, the greatest remediation first. Empty for most visitors.
    pub decisions: Vec<DecisionView>,
    /// What the guard `Cleared` does with the visitor, and so does the fairing outside of `excluded_paths`. `None` if they are
    /// let in, else `ban`, `captcha`, `throttle`, `hidden` (nobody knows who it is) or `starting` (LAPI has not answered yet).
    pub remediation: Option<&'static str>,
    /// The remediation that the visitor would meet if `enforce` did not let them in.
    pub trial: Option<&'static str>,
    /// The two letters of their country, where a trusted proxy or a database says it: `country_header`, `geoip`.
    pub country: Option<String>,
    /// The number of their autonomous system, where a trusted proxy or a database says it: `as_header`, `geoip`.
    pub asn: Option<u32>,
    /// Whether they have solved a captcha that still counts (`captcha.expiration`), whatever stands against them.
    pub solved: bool,
}

impl Visitor {
    /// Whether a decision of this type, as LAPI names it, stands against them: `visitor.has("mfa")`. Case says nothing.
    pub fn has(&self, kind: &str) -> bool {
        self.decisions.iter().any(|decision| decision.kind.eq_ignore_ascii_case(kind))
    }

    pub fn of(bouncer: &Bouncer, request: &Request<'_>) -> Outcome<Self, ()> {
        let judgement = &bouncer.visit(request).judgement;
        let client_ip = &bouncer.client_ip;
        // If no proxy names the visitor, the address is the proxy's own, and says nothing about the visitor's network.
        let system = || client_ip.system(request, judgement.address);
        let name = |verdict: Verdict| (verdict != Verdict::Admit).then(|| verdict.name());
        Outcome::Success(Self {
            address: judgement.address,
            decisions: judgement.standing.iter().map(DecisionView::from).collect(),
            remediation: name(judgement.verdict),
            trial: judgement.trial.and_then(name),
            country: bouncer.country_of(request, judgement),
            asn: judgement.has_a_name().then(system).flatten(),
            solved: bouncer.solved_at(request, judgement.address).is_some(),
        })
    }
}

/// A decision, as handlers and templates see it.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionView {
    /// What the bouncer makes of the decision: `pass`, `throttle`, `captcha`, `ban` or `allow`.
    pub remediation: &'static str,
    /// The type as LAPI names it: `ban`, `captcha`, or any other word.
    #[serde(rename = "type")]
    pub kind: String,
    pub origin: String,
    pub scenario: String,
    pub scope: String,
    /// What it stands against: an address or network, a country as `FR`, an AS as `AS64500`, or an account.
    pub value: String,
    /// LAPI's id of the decision; `None` for one of the operator's own, and where LAPI's cannot be used.
    pub id: Option<u64>,
    /// Seconds until the decision ends; `None` for one of the operator's own.
    pub expires_in: Option<u64>,
}

impl DecisionView {
    /// A decision to show in a preview, where none stands against whoever looks at it.
    pub fn example(verdict: Verdict) -> Self {
        let remediation = verdict.remediation().unwrap_or_default();
        let standing = Standing::said_by("cscli", remediation, [203, 0, 113, 7].into());
        Self { scenario: "an example".into(), id: Some(1), expires_in: Some(4 * 60 * 60), ..Self::from(&standing) }
    }
}

impl From<&Standing> for DecisionView {
    fn from(standing: &Standing) -> Self {
        Self {
            remediation: standing.remediation.as_str(),
            kind: standing.source.kind.clone(),
            origin: standing.source.origin.clone(),
            scenario: standing.source.scenario.clone(),
            scope: standing.source.scope.clone(),
            value: standing.value.to_string(),
            id: standing.id,
            expires_in: standing.expires_in.as_ref().map(Duration::as_secs),
        }
    }
}
