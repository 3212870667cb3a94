//! Was this visitor let in?

use std::net::IpAddr;

use rocket::Request;
use rocket::request::Outcome;

use super::policy;
use crate::crowdsec::bouncer::Bouncer;

/// Proof that the bouncer has let this visitor in.
///
/// The fairing refuses everybody else before any handler runs, so this is the second line of defence: it holds on
/// `excluded_paths` too, which the fairing spares, and with `enforce_by = "guards"` it is the first line.
///
/// ```text
/// #[get("/members")]
/// fn members(visitor: Cleared) -> String {
///     format!("Hello, {}", visitor.address)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Cleared {
    /// The visitor's address, trusted proxies considered; never IPv4 mapped into IPv6.
    pub address: IpAddr,
}

impl Cleared {
    pub(super) fn of(bouncer: &Bouncer, request: &Request<'_>) -> Outcome<Self, ()> {
        policy(bouncer, request, |judgement| judgement.verdict).map(|address| Self { address })
    }
}
