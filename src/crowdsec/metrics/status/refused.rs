//! Who was refused last? A bounded list, behind a lock that only refusals take.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocket::Request;
use rocket::http::Status;
use serde::Serialize;

use super::time::rfc3339;
use crate::crowdsec::bouncer::{Bouncer, Verdict, Visit};
use crate::crowdsec::printable::printable;

/// How many refusals are kept.
pub const MOST: usize = 50;

/// The last refusals, the newest first.
#[derive(Default)]
pub struct LastRefusals(Mutex<VecDeque<Refused>>);

/// One refusal, with nothing in it that steers a terminal or turns the text around it. Each text has at most 200 characters.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    pub time: String,
    pub address: IpAddr,
    pub remediation: &'static str,
    pub status: u16,
    pub method: &'static str,
    /// Without the query, which may hold a password or a token.
    pub path: String,
    pub origin: Option<String>,
    pub scenario: Option<String>,
    pub decision: Option<u64>,
    /// Of the visitor, where a proxy's header or a database says it.
    pub country: Option<String>,
    pub reference: String,
}

impl LastRefusals {
    pub fn note(&self, bouncer: &Bouncer, request: &Request<'_>, visit: &Visit, verdict: Verdict, status: Status) {
        let (judgement, asked) = (visit.ground(), visit.asked(request));
        let decision = judgement.cause(verdict);
        let refused = Refused {
            time: rfc3339(bouncer.unix_now()),
            address: judgement.address,
            remediation: verdict.name(),
            status: status.code,
            method: asked.method.as_str(),
            path: printable(asked.uri.path().as_str()),
            origin: decision.map(|standing| printable(&standing.source.origin)),
            scenario: decision.map(|standing| printable(&standing.source.scenario)),
            decision: decision.and_then(|standing| standing.id),
            country: bouncer.country_of(request, judgement),
            reference: bouncer.told.reference(judgement),
        };
        let mut last = self.lock();
        last.truncate(MOST - 1);
        last.push_front(refused);
    }

    /// A copy, so that no refusal waits until a page is written.
    pub fn all(&self) -> Vec<Refused> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
