//! What becomes of a request to one of AppSec's own paths? It is AppSec's, and the application never sees it.

use std::sync::Arc;
use std::time::Duration;

use rocket::data::ByteUnit;
use rocket::http::{Method, Status};
use rocket::response::{Responder, Response};
use rocket::route::{Handler, Outcome};
use rocket::{Data, Request, Route};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::answer::Answer;
use super::judge::{AppSec, Hearing};
use super::question::length_of;
use super::relay::Relay;
use crate::crowdsec::bouncer::{Bouncer, OUR_RANK, Verdict};
use crate::crowdsec::pages::Refusal;

/// Where the fairing sends them. Nobody else finds anything there.
pub fn routes(appsec: &Arc<AppSec>) -> Vec<Route> {
    let route = |method| Route::ranked(OUR_RANK, method, "/appsec", Own(appsec.clone()));
    [Method::Post, Method::Head].map(route).to_vec()
}

#[derive(Clone)]
struct Own(Arc<AppSec>);

/// How long the form of a challenge may take. It has some kilobytes.
const PATIENCE: Duration = Duration::from_secs(10);

#[rocket::async_trait]
impl Handler for Own {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r> {
        let (Some(bouncer), Some((method, uri))) =
            (request.rocket().state::<Bouncer>(), Hearing::of(request).own.get())
        else {
            return Outcome::forward(data, Status::NotFound);
        };
        let visit = bouncer.visit(request);
        let body = match read_body(request, data, self.0.config.body_limit).await {
            Ok(body) => (!body.is_empty()).then(|| body.into()),
            Err(status) => return Outcome::error(status),
        };
        let verdict = match self.0.ask(request, visit, *method, uri, body).await {
            // No challenge here: bot detection is off, or the engine is older than it.
            Answer::Allow => Hearing::of(request).relay(Relay::bare(Status::NotFound)),
            Answer::Outage(reason) => {
                self.0.tell_outage(&reason);
                Hearing::of(request).relay(Relay::bare(Status::ServiceUnavailable))
            }
            answer => self.0.verdict(bouncer, request, visit, answer),
        };
        let verdict = match verdict {
            // A trial, or a word that lets in: the application has nothing on this path all the same.
            Verdict::Admit => Hearing::of(request).relay(Relay::bare(Status::NotFound)),
            verdict => verdict,
        };
        visit.refuse_for(verdict, Hearing::of(request).origin());
        match Refusal::of(request, visit, verdict).map(|refusal| refusal.respond_to(request)) {
            Some(Ok(page)) => Outcome::Success(page),
            Some(Err(status)) => Outcome::error(status),
            // The fairing puts AppSec's answer into it.
            None => Outcome::Success(Response::new()),
        }
    }
}

/// A whole body, never a part of one. `Err` is the status for one that is longer than the limit, or does not come.
pub async fn read_body(request: &Request<'_>, data: Data<'_>, limit: ByteUnit) -> Result<Vec<u8>, Status> {
    let (mut body, most) = (Vec::new(), limit.as_u64());
    let mut stream = data.open(limit + 1);
    let read = timeout(PATIENCE.max(Duration::from_secs(most >> 16)), stream.read_to_end(&mut body)).await;
    // Rocket forgets that a visitor has hung up if it finds out by a peek, and takes what has come for all of it.
    let is_all = length_of(request).is_none_or(|length| length <= body.len() as u64);
    match read {
        Ok(Ok(_)) if !is_all && body.len() as u64 <= most => Err(Status::BadRequest),
        Ok(Ok(_)) if body.len() as u64 <= most => Ok(body),
        Ok(Ok(_)) => Err(Status::PayloadTooLarge),
        // The visitor has hung up, or is too slow. Nobody was asked, and nobody is told.
        Ok(Err(_)) => Err(Status::BadRequest),
        Err(_) => Err(Status::RequestTimeout),
    }
}
