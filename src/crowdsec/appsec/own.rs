//! What becomes of a request to one of AppSec's own paths? It is AppSec's, and the application never sees it.

use std::sync::Arc;

use rocket::http::uri::Origin;
use rocket::http::{Method, RawStr, Status};
use rocket::response::{Responder, Response};
use rocket::route::{Handler, Outcome};
use rocket::{Data, Request, Route};

use super::answer::Answer;
use super::body::read_body;
use super::hearing::Hearing;
use super::judge::AppSec;
use super::relay::Relay;
use crate::crowdsec::bouncer::{Bouncer, OUR_RANK, Verdict};
use crate::crowdsec::pages::Refusal;

/// Where the scripts and the form of AppSec's challenge lie. They belong to AppSec, wherever the application is mounted.
const OWN_PATHS: &str = "/crowdsec-internal/challenge/";

pub fn is_challenge_path(uri: &str) -> bool {
    let path = uri.split('?').next().unwrap_or_default();
    RawStr::new(path).percent_decode_lossy().starts_with(OWN_PATHS)
}

/// Where the fairing sends them. Nobody else finds anything there.
pub fn routes(appsec: &Arc<AppSec>) -> Vec<Route> {
    let route = |method| Route::ranked(OUR_RANK, method, "/appsec", Own(appsec.clone()));
    [Method::Post, Method::Head].map(route).to_vec()
}

pub fn send_on(request: &mut Request<'_>, uri: String) {
    let _ = Hearing::of(request).own.set(uri);
    request.set_uri(Origin::path_only("/crowdsec/appsec"));
    if request.method() != Method::Head {
        request.set_method(Method::Post);
    }
}

#[derive(Clone)]
struct Own(Arc<AppSec>);

#[rocket::async_trait]
impl Handler for Own {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let hearing = Hearing::of(request);
        let (Some(bouncer), Some(uri)) = (request.rocket().state::<Bouncer>(), hearing.own.get()) else {
            return Outcome::forward(data, Status::NotFound);
        };
        let body = match read_body(request, data, self.0.config.body_limit).await {
            Ok(body) => body,
            Err(status) => return Outcome::error(status),
        };
        let mut verdict = match self.0.ask(bouncer, request, uri, body).await {
            Answer::Outage(reason) => {
                self.0.tell_outage(&reason);
                hearing.relay(Relay::bare(Status::ServiceUnavailable))
            }
            answer => self.0.verdict(bouncer, request, answer),
        };
        // Bot detection is off, the engine is older than it, or this is a trial. The application has nothing here all the
        // same.
        if verdict == Verdict::Admit {
            verdict = hearing.relay(Relay::bare(Status::NotFound));
        }
        let visit = bouncer.visit(request);
        visit.refuse(verdict, Some(visit.judgement.by_another(verdict, hearing.origin())));
        match Refusal::of(request, visit, verdict).map(|refusal| refusal.respond_to(request)) {
            Some(Ok(page)) => Outcome::Success(page),
            Some(Err(status)) => Outcome::error(status),
            // The fairing puts AppSec's answer into it.
            None => Outcome::Success(Response::new()),
        }
    }
}
