//! When is AppSec asked? Before the application sees a request; and what AppSec has for the visitor is handed on.

use std::sync::atomic::Ordering;

use rocket::fairing::{Fairing, Info, Kind};
use rocket::response::Response;
use rocket::{Data, Request};

use super::answer::Answer;
use super::body::shown;
use super::hearing::Hearing;
use super::judge::AppSec;
use super::own;
use super::question::address_of;
use super::relay::Relay;
use crate::crowdsec::bouncer::{Bouncer, OUR_RANK, Verdict};
use crate::crowdsec::pages;

#[rocket::async_trait]
impl Fairing for AppSec {
    fn info(&self) -> Info {
        Info { name: "CrowdSec's AppSec", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, data: &mut Data<'_>) {
        let Some(bouncer) = request.rocket().state::<Bouncer>() else { return };
        if bouncer.visit(request).refusal().is_some() {
            return;
        }
        let answer = match address_of(request) {
            // Fails closed: a target that is no path cannot be judged, and no page has one.
            None => Answer::Unjudgeable,
            Some(uri) if own::is_challenge_path(&uri) => return own::send_on(request, uri),
            Some(_) if bouncer.spares_other_judges(request) => return,
            Some(uri) => {
                let hearing = Hearing::of(request);
                let body = match shown(request, data).await {
                    Ok(body) => body,
                    // Neither an outage nor an attack: nobody is asked, and no handler runs.
                    Err(status) => return refuse(bouncer, request, hearing.relay(Relay::bare(status))),
                };
                let mark = if body.is_some() { &hearing.is_whole } else { &hearing.is_half };
                mark.store(true, Ordering::Relaxed);
                self.ask(bouncer, request, &uri, body.unwrap_or_default()).await
            }
        };
        let verdict = self.verdict(bouncer, request, answer);
        if verdict != Verdict::Admit {
            refuse(bouncer, request, verdict);
        }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let Some(bouncer) = request.rocket().state::<Bouncer>() else { return };
        let (refusal, hearing) = (bouncer.visit(request).refusal(), Hearing::of(request));
        if refusal == Some(Verdict::Answered) {
            hearing.answer(response);
        }
        let has_handler = request.route().is_some_and(|route| route.rank > OUR_RANK + 1);
        if refusal.is_none() && has_handler && hearing.is_left_half() {
            self.tell_unjudged(request);
        }
    }
}

/// Sends a refused request to our own route. The application then does not see it.
fn refuse(bouncer: &Bouncer, request: &mut Request<'_>, verdict: Verdict) {
    let visit = bouncer.visit(request);
    visit.refuse(verdict, Some(visit.judgement.by_another(verdict, Hearing::of(request).origin())));
    pages::send_to_refusal(request);
}
