//! What do refused visitors see? The ban and captcha pages, their answers to programs, and the routes around them.

mod body;
mod negotiation;
mod return_to;
mod config;
mod words;
mod texts;
mod refusal;
mod preview;
mod page;
mod captcha;
mod health;
mod unrouted;
mod catcher;
mod launch_check;

use rocket::http::uri::Origin;
use rocket::http::{Header, Method, Status};
use rocket::response::stream::ReaderStream;
use rocket::response::{self, Redirect, Responder};
use rocket::{Build, Data, Either, Request, Rocket, Route, route, routes};

use super::bouncer::{Bouncer, OUR_RANK, REFUSED, Verdict};
use super::visitor::is_accept_too_dear;

pub use catcher::before_catchers;
pub use config::Config;
pub use launch_check::try_pages;
pub use negotiation::{FORMAT_HEADERS, wants_json};
pub use refusal::Refusal;
pub use texts::{Texts, template_dir};
pub use unrouted::send_upload_on;
pub use words::Words;
#[allow(unused_imports, reason = "the rooms that use these can be left out")]
pub use {body::drop_body, body::fields, page::content_security_policy, page::nonce};

/// Sends a refused request to a route of ours, which is 404 for all other requests, with a method that the route has.
/// The address in the visitor's browser stays what it was, and no handler of the owner's sees the request. HEAD stays
/// HEAD, so that Rocket sends no body.
pub fn send_to_refusal(request: &mut Request<'_>) {
    request.set_uri(Origin::path_only(REFUSED));
    if is_accept_too_dear(request) {
        // Rocket's log shows the format of a request, and reads it from `Accept` unless the request is a POST.
        request.set_method(Method::Post);
    } else if request.method() != Method::Head {
        // A fairing of the owner's may want a token with other methods, and send a request without one elsewhere.
        request.set_method(Method::Get);
    }
}

/// Mounts the bouncer's own routes.
pub fn mount(rocket: Rocket<Build>, debug: bool) -> Rocket<Build> {
    rocket.mount("/crowdsec", routes(debug)).mount("/", unrouted::routes())
}

fn routes(debug: bool) -> Vec<Route> {
    let refused = [Method::Get, Method::Post].map(|method| Route::new(method, "/refused", refuse)).to_vec();
    let always = routes![captcha::show_captcha, captcha::check_captcha, health::health, health::live];
    let for_owners = if debug { routes![preview::preview] } else { Vec::new() };
    before_all_others([refused, always, for_owners].concat())
}

/// Ranks routes of the bouncer's before all routes of the application's, for HEAD too.
pub fn before_all_others(mut routes: Vec<Route>) -> Vec<Route> {
    // Rocket tries the application's routes for HEAD before ours for GET.
    let mut for_head: Vec<Route> = routes.iter().filter(|route| route.method == Method::Get).cloned().collect();
    for_head.iter_mut().for_each(|route| route.method = Method::Head);
    routes.extend(for_head);
    routes.iter_mut().for_each(|route| route.rank = OUR_RANK);
    routes
}

/// Answers a request that the fairing refused, at the address that the visitor asked for; 404 to all others. It is a
/// handler written by hand, because only such a handler gets the body of any method.
fn refuse<'r>(request: &'r Request<'_>, data: Data<'r>) -> route::BoxFuture<'r> {
    Box::pin(async move {
        match answer(request) {
            None => body::nothing_here(data).await,
            Some(Err(status)) => route::Outcome::error(status),
            Some(Ok(mut response)) => {
                // A visitor who asks whether to send the body at all is answered before it comes, everybody else after it.
                if body::is_waited_for(request) {
                    // With a length, the answer is complete while we still wait for the body.
                    if let Some(size) = response.body_mut().size().await {
                        response.set_header(Header::new("Content-Length", size.to_string()));
                        // A fairing that compresses answers would change the length, but leaves an answer with this
                        // header alone.
                        response.set_header(Header::new("Content-Encoding", "identity"));
                    }
                    let page = response.body_mut().take();
                    response.set_streamed_body(ReaderStream! {
                        yield page;
                        body::drop_body(data).await;
                    });
                } else {
                    body::drop_body(data).await;
                }
                route::Outcome::Success(response)
            }
        }
    })
}

/// The answer to a request that the fairing refused; `None` for all others.
fn answer(request: &Request<'_>) -> Option<response::Result<'static>> {
    let bouncer = Bouncer::of(request)?;
    let visit = bouncer.visit(request);
    match visit.refusal()? {
        // In bare words: the headers may be too long to look for a language or a format in them.
        Verdict::TooLarge(status) => Some((status, Uncached::new(status.reason_lossy())).respond_to(request)),
        // The other judge, such as AppSec, puts its answer into this empty one.
        Verdict::Answered => Some((Status::Forbidden, Uncached::new(())).respond_to(request)),
        verdict => Refusal::of(request, bouncer, verdict).map(|refusal| refusal.respond_to(request)),
    }
}

/// An answer that no cache keeps.
#[derive(Responder)]
struct Uncached<T> {
    answer: T,
    cache: Header<'static>,
}

impl<T> Uncached<T> {
    fn new(answer: T) -> Self {
        Self { answer, cache: Header::new("Cache-Control", "no-store") }
    }
}

/// 303 to a place of this application, or 204 for a page whose script leads there.
type Leading = Uncached<Either<Status, Redirect>>;
