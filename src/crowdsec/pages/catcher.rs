//! Who answers what Rocket refuses before it asks any fairing? Your catcher, except to visitors whom the bouncer refuses.

use rocket::catcher::{Handler, Result};
use rocket::http::Status;
use rocket::{Build, Catcher, Request, Rocket};

use super::answer;
use crate::crowdsec::bouncer::{Bouncer, EnforceBy, Verdict};
use crate::crowdsec::visitor::Head;

/// Rocket answers a method that it does not know, and a target without a path, by the catcher for 400. Wherever that
/// would be the application's default catcher or Rocket's own, a catcher of ours comes before it.
pub fn before_catchers(mut rocket: Rocket<Build>) -> Rocket<Build> {
    // Rocket's own catcher comes last: it counts where the application has no default catcher at `/`.
    let catchers: Vec<Catcher> = rocket.catchers().cloned().chain([Catcher::default()]).collect();
    for default in catchers.into_iter().filter(|catcher| catcher.code.is_none()) {
        if !rocket.catchers().any(|other| other.code == Some(400) && other.base == default.base) {
            rocket = rocket.register(default.base.to_string(), vec![Catcher::new(400, BadRequest(default.handler))]);
        }
    }
    rocket
}

/// Refuses whom the bouncer refuses, and what is too large; hands everything else on.
#[derive(Clone)]
struct BadRequest(Box<dyn Handler>);

#[rocket::async_trait]
impl Handler for BadRequest {
    async fn handle<'r>(&self, status: Status, request: &'r Request<'_>) -> Result<'r> {
        if let Some(bouncer) = Bouncer::of(request) {
            // A request without a route has a method that Rocket does not know and took for GET: no exemption is meant
            // for it, and our fairing was not asked.
            let head = Head::of(request, &bouncer.client_ip);
            if request.route().is_none() {
                let if_unanswered = bouncer.ask(request, &head).await;
                bouncer.remember(request, bouncer.judge(request, &head, if_unanswered));
            }
            let visit = bouncer.visit(request);
            let by_fairing = bouncer.config.enforce_by == EnforceBy::Fairing;
            let refuses = visit.is_refused() || (by_fairing && request.route().is_none());
            let refused = Some(visit.judgement.verdict).filter(|verdict| refuses && *verdict != Verdict::Admit);
            if let Some(verdict) = refused.or(head.too_large.map(Verdict::TooLarge)) {
                bouncer.refuse(visit, visit.judgement.with(verdict));
            }
        }
        let answer = match answer(request) {
            Some(answer) => answer,
            None => self.0.handle(status, request).await,
        };
        answer.map(|mut response| {
            // No fairing runs here that could end a connection of which a proxy may have made a tunnel.
            if request.route().is_none() {
                response.set_raw_header("Connection", "close");
            }
            response
        })
    }
}
