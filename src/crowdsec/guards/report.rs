//! How does the bouncer see a visitor and CrowdSec? For a page that shows it to the owner.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};
use rocket::{Ignite, Request, Rocket, Sentinel};
use serde::Serialize;

use super::has_no_bouncer;
use crate::crowdsec::bouncer::{Bouncer, Verdict};
use crate::crowdsec::decisions::{Remediation, Standing};
use crate::crowdsec::lapi::Health;

/// How the bouncer sees things, for a page that shows it to the owner. Never refuses anybody.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether this is the debug profile. Elsewhere the rest is none of a visitor's business, and is left out.
    pub debug: bool,
    /// Where the application listens.
    pub port: u16,
    pub me: Option<Me>,
    pub crowdsec: Option<Crowdsec>,
}

/// Who the visitor is to us.
#[derive(Debug, Serialize)]
pub struct Me {
    pub address: IpAddr,
    /// `none`, `captcha`, `ban` or `allow`.
    pub remediation: &'static str,
    /// Whether it is a captcha that they have solved.
    pub solved: bool,
    pub decision: Option<DecisionView>,
}

/// How things stand with CrowdSec.
#[derive(Debug, Serialize)]
pub struct Crowdsec {
    /// Whether there is a key or certificate to ask with.
    pub configured: bool,
    /// Whether LAPI has answered lately.
    pub connected: bool,
    pub api_url: String,
    /// How many decisions are known, the operator's own included.
    pub decisions: usize,
    pub own_decisions: usize,
    /// Whether those are the debug profile's examples.
    pub examples: bool,
    /// Whether a header from this machine is believed, so that one can play a visitor.
    pub loopback_is_trusted: bool,
    pub last_answer_seconds_ago: Option<u64>,
}

/// A decision, as templates see it.
#[derive(Debug, Serialize)]
pub struct DecisionView {
    pub remediation: &'static str,
    pub origin: String,
    pub scenario: String,
    /// The address or network it stands against.
    pub value: String,
    /// LAPI's number for it; none for the operator's own.
    pub id: Option<u64>,
    /// In seconds; none for the operator's own.
    pub expires_in: Option<u64>,
}

impl DecisionView {
    /// For a preview, which has no visitor with a decision.
    pub fn example(remediation: &'static str) -> Self {
        Self {
            remediation,
            origin: "cscli".into(),
            scenario: "an example".into(),
            value: "203.0.113.0/24".into(),
            id: Some(1),
            expires_in: Some(4 * 60 * 60),
        }
    }
}

impl From<&Standing> for DecisionView {
    fn from(standing: &Standing) -> Self {
        Self {
            remediation: standing.remediation.as_str(),
            origin: standing.source.origin.clone(),
            scenario: standing.source.scenario.clone(),
            value: standing.value.to_string(),
            id: standing.id,
            expires_in: standing.expires_in.as_ref().map(Duration::as_secs),
        }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Report {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let Some(bouncer) = request.rocket().state::<Bouncer>() else {
            return Outcome::Error((Status::InternalServerError, ()));
        };
        let (debug, port) = (bouncer.debug, request.rocket().config().port);
        let (judgement, lapi) = (bouncer.judgement(request), bouncer.lapi.connection.as_ref());
        let me = || Me {
            address: judgement.address,
            remediation: judgement.standing.as_ref().map_or("none", |standing| standing.remediation.as_str()),
            solved: judgement.verdict == Verdict::Admit
                && judgement.standing.as_ref().is_some_and(|standing| standing.remediation == Remediation::Captcha),
            decision: judgement.standing.as_ref().map(DecisionView::from),
        };
        let crowdsec = || Crowdsec {
            configured: lapi.is_some(),
            connected: lapi.is_some() && bouncer.health() == Health::Ok,
            api_url: lapi.map(|lapi| lapi.at.to_string()).unwrap_or_default(),
            decisions: bouncer.decisions.len(),
            own_decisions: bouncer.config.decisions.len(),
            examples: bouncer.config.are_examples,
            loopback_is_trusted: bouncer.client_ip.trusts(Ipv4Addr::LOCALHOST.into()),
            last_answer_seconds_ago: bouncer.status.since_last_answer().map(|age| age.as_secs()),
        };
        Outcome::Success(Self { debug, port, me: debug.then(me), crowdsec: debug.then(crowdsec) })
    }
}

impl Sentinel for Report {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        has_no_bouncer(rocket)
    }
}
