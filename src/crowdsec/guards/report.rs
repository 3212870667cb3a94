//! What does the bouncer know about a visitor and about CrowdSec? For a page that shows it to the owner.

use std::net::Ipv4Addr;

use rocket::Request;
use rocket::request::Outcome;
use serde::Serialize;

use super::Visitor;
use crate::crowdsec::bouncer::Bouncer;
use crate::crowdsec::lapi::Health;

/// How the bouncer sees things, for a page that shows it to the owner. Never refuses anybody.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether this is the debug profile. Elsewhere the rest is none of a visitor's business, and is left out.
    pub debug: bool,
    /// Where the application listens.
    pub port: u16,
    pub me: Option<Visitor>,
    pub crowdsec: Option<Crowdsec>,
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
    /// Whether the own decisions are the debug profile's examples.
    pub examples: bool,
    /// Whether a header from this machine is believed, so that one can play a visitor.
    pub loopback_is_trusted: bool,
    pub last_answer_seconds_ago: Option<u64>,
}

impl Report {
    pub(super) fn of(bouncer: &Bouncer, request: &Request<'_>) -> Outcome<Self, ()> {
        let (debug, port) = (bouncer.debug, request.rocket().config().port);
        let lapi = bouncer.lapi.connection.as_ref();
        let me = || Visitor::of(bouncer, request).succeeded();
        let crowdsec = || Crowdsec {
            configured: lapi.is_some(),
            connected: lapi.is_some() && bouncer.health() == Health::Ok,
            api_url: lapi.map(|lapi| lapi.at.clone()).unwrap_or_default(),
            decisions: bouncer.decisions.len(),
            own_decisions: bouncer.config.decisions.len(),
            examples: bouncer.config.are_examples,
            loopback_is_trusted: bouncer.client_ip.trusts(Ipv4Addr::LOCALHOST.into()),
            last_answer_seconds_ago: bouncer.contact.since_lapis_answer().map(|age| age.as_secs()),
        };
        Outcome::Success(Self { debug, port, me: debug.then(me).flatten(), crowdsec: debug.then(crowdsec) })
    }
}
