//! Does nothing at all stand against this visitor?

use std::net::IpAddr;

use rocket::Request;
use rocket::request::Outcome;

use super::policy;
use crate::crowdsec::bouncer::{Bouncer, Verdict};
use crate::crowdsec::decisions::Remediation;

/// Proof that no decision stands against this visitor, not even a captcha that they have solved, or a `pass` or `throttle` that
/// lets them in. For a route where a doubt is enough to refuse, such as a checkout. Whoever is refused meets the ban page.
///
/// An `allow` of the operator's own outweighs all decisions here too. A decision that `enforce` leaves out is on trial, and
/// refuses nobody.
///
/// ```text
/// #[post("/checkout", data = "<order>")]
/// fn checkout(visitor: NoDecision, order: Form<Order>) -> Redirect { … }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct NoDecision {
    /// The visitor's address, trusted proxies considered; never IPv4 mapped into IPv6.
    pub address: IpAddr,
}

impl NoDecision {
    pub(super) fn of(bouncer: &Bouncer, request: &Request<'_>) -> Outcome<Self, ()> {
        policy(bouncer, request, |judgement| match judgement.verdict {
            refused @ (Verdict::Hidden | Verdict::NotYet) => refused,
            _ if judgement.has(Remediation::Allow) => Verdict::Admit,
            _ if judgement.standing.iter().any(|standing| bouncer.enforces(standing.remediation)) => Verdict::BAN,
            _ => Verdict::Admit,
        })
        .map(|address| Self { address })
    }
}
