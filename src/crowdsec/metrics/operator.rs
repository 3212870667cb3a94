//! Who may read the figures? Only whom the operator has named: the figures tell an attacker what is refused and why.

use rocket::Request;
use rocket::data::{Data, FromData, Outcome};
use rocket::http::{Method, Status};

use super::config::Config;
use crate::crowdsec::bouncer::Bouncer;
use crate::crowdsec::pages::drop_body;
use crate::crowdsec::visitor::Head;

/// Whether a request comes from `metrics_from`. Fails closed: only trusted proxies that name the operator may stand
/// between the operator and us. Anybody may be behind a proxy's own address, or behind an address that looks like a
/// proxy's and is not trusted.
pub fn is_operator(request: &Request<'_>) -> bool {
    let rocket = request.rocket();
    let (Some(config), Some(bouncer)) = (rocket.state::<Config>(), rocket.state::<Bouncer>()) else { return false };
    let (client_ip, head) = (&bouncer.client_ip, Head::of(request, &bouncer.client_ip));
    // Loopback, which the debug profile trusts, is no proxy but the developer at work.
    let is_proxy = client_ip.config.are_meant && client_ip.trusts(head.visitor);
    let is_sure = head.unnamed.is_none() && !is_proxy && head.sign.is_none();
    is_sure && config.metrics_from.0.iter().any(|net| net.0.contains(&head.visitor))
}

/// Whether the bouncer lets a request pass, whatever stands against the visitor: an operator who is banned by mistake
/// has to see why. Holds for our two pages alone, and only for reading them.
pub fn is_for_operators(request: &Request<'_>) -> bool {
    matches!(request.uri().path().as_str(), "/crowdsec/metrics" | "/crowdsec/status")
        && matches!(request.method(), Method::Get | Method::Head)
        && is_operator(request)
}

/// Proof that a request comes from `metrics_from`. Everybody else gets 404. A handler takes it in the body's place, and
/// the body is dropped.
pub struct Operator;

#[rocket::async_trait]
impl<'r> FromData<'r> for Operator {
    type Error = ();

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        let is_operator = is_operator(request);
        if !is_operator && data.peek_complete() {
            return Outcome::Forward((data, Status::NotFound));
        }
        drop_body(data).await;
        if is_operator { Outcome::Success(Self) } else { Outcome::Error((Status::NotFound, ())) }
    }
}
