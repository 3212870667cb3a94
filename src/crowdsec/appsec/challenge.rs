//! What becomes of a request to a path of AppSec's challenge? AppSec answers it, and the application never sees it.

use std::sync::Arc;

use rocket::data::ByteUnit;
use rocket::http::{Method, Status};
use rocket::response::Response;
use rocket::route::{BoxFuture, Outcome};
use rocket::{Data, Request, Route};

use super::answer::Answer;
use super::body::read_body;
use super::hearing::Hearing;
use super::judge::AppSec;
use super::relay::Relay;
use crate::crowdsec::bouncer::{Bouncer, OUR_RANK};
use crate::crowdsec::pages::Refusal;

/// The page of a challenge posts some kilobytes. Anybody may send here, so a longer body is not kept in memory.
const LONGEST_BODY: ByteUnit = ByteUnit::Mebibyte(1);

/// A route for each method that Rocket knows: AppSec says what becomes of the request.
pub fn routes() -> Vec<Route> {
    use Method::{Connect, Delete, Get, Head, Options, Patch, Post, Put, Trace};
    let methods = [Get, Put, Post, Delete, Options, Head, Trace, Connect, Patch];
    methods.map(|method| Route::ranked(OUR_RANK, method, "/<_..>", challenge)).to_vec()
}

fn challenge<'r>(request: &'r Request<'_>, data: Data<'r>) -> BoxFuture<'r> {
    Box::pin(async move {
        let rocket = request.rocket();
        let (Some(bouncer), Some(Some(appsec))) = (rocket.state::<Bouncer>(), rocket.state::<Option<Arc<AppSec>>>())
        else {
            return Outcome::forward(data, Status::NotFound);
        };
        let body = match read_body(request, data, appsec.config.body_limit.min(LONGEST_BODY)).await {
            Ok(body) => body,
            Err(status) => return Outcome::error(status),
        };
        let (judgement, instead) = match appsec.ask(bouncer, request, body).await {
            Answer::Outage(reason) => {
                appsec.tell_outage(&reason);
                (None, Status::ServiceUnavailable)
            }
            // Bot detection is off, the engine is too old for it, or this is a trial: even then the application must
            // not answer here.
            answer => (appsec.refusal(bouncer, request, answer), Status::NotFound),
        };
        let visit = bouncer.visit(request);
        let bare = || visit.judgement.with(Hearing::of(request).keep(Relay::bare(instead)));
        let judgement = judgement.unwrap_or_else(bare);
        let verdict = judgement.verdict;
        bouncer.refuse(visit, judgement);
        match Refusal::of(request, bouncer, verdict) {
            Some(page) => Outcome::from(request, page),
            // The fairing puts AppSec's answer into this response.
            None => Outcome::Success(Response::new()),
        }
    })
}
