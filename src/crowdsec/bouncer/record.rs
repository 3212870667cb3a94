//! What is there to tell about a refusal? One record, for the refusal log and for the operator's page.

use std::net::IpAddr;

use rocket::Request;
use rocket::http::Status;
use serde::Serialize;

use super::{Bouncer, Verdict};
use crate::crowdsec::timestamp::timestamp;

/// One refusal. Texts stand as the visitor or LAPI wrote them: whoever shows or keeps them must make them printable.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub time: String,
    pub address: IpAddr,
    pub remediation: &'static str,
    pub status: u16,
    pub method: &'static str,
    /// Without the query, which may hold a password or a token.
    pub path: String,
    /// Of the visitor, where a proxy's header or a database says it.
    pub country: Option<String>,
    pub origin: Option<String>,
    pub scenario: Option<String>,
    pub decision: Option<u64>,
    pub reference: String,
}

impl Record {
    /// The record of this request, if it was refused. `status` is the answer's.
    #[allow(dead_code, reason = "the rooms that list refusals can be left out")]
    pub fn of(request: &Request<'_>, status: Status) -> Option<Self> {
        // No refusal has a status below 300. Looking for one there would judge most visitors a second time.
        let bouncer = Bouncer::of(request).filter(|_| status.code >= 300)?;
        let visit = bouncer.visit(request);
        // A challenge is no refusal: every browser meets one.
        let judgement = visit.refused.get().filter(|refused| refused.verdict != Verdict::Answered)?;
        let (decision, asked) = (judgement.cause(), &visit.asked);
        Some(Self {
            time: timestamp(bouncer.unix_now()),
            address: judgement.address,
            remediation: judgement.verdict.name(),
            status: status.code,
            method: asked.method.as_str(),
            path: asked.path().to_owned(),
            country: bouncer.country_of(request, judgement),
            origin: decision.map(|standing| standing.source.origin.clone()),
            scenario: decision.map(|standing| standing.source.scenario.clone()),
            decision: decision.and_then(|standing| standing.id),
            reference: bouncer.refusal_lines.reference(judgement),
        })
    }
}
