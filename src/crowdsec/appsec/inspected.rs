//! How does a handler get a body of any length that AppSec has judged? By `Inspected`, in the place of Rocket's own guard.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocket::data::{FromData, Outcome};
use rocket::http::Status;
use rocket::{Data, Ignite, Request, Rocket, Sentinel};

use super::body::read_body;
use super::config::LargeBodies;
use super::from_body::FromBody;
use super::hearing::Hearing;
use super::judge::AppSec;
use crate::crowdsec::bouncer::Bouncer;
use crate::crowdsec::guards::lacks;

/// Proof that AppSec was asked about the whole request, its body included, before `T` was made of the body. Where
/// AppSec did not answer, `appsec.failure_action` has decided. A body over `appsec.body_limit` gets a 413; or, if
/// `appsec.large_bodies` is `headers_only`, AppSec has seen the head of the request alone. AppSec is not asked where no
/// `appsec.url` is set, or where an `allow` of the operator's own lets the visitor in.
///
/// Without this guard AppSec sees bodies of up to 512 bytes. `T` is `Form<…>` (with [`File`](super::File) for files),
/// `Json<…>`, `String`, `&str`, `Vec<u8>` or `&[u8]`, each with Rocket's limit for it.
///
/// ```text
/// #[post("/order", data = "<form>")]
/// fn order(form: Inspected<Form<Order<'_>>>) { … }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Inspected<T>(pub T);

impl<T> Deref for Inspected<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Inspected<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

struct Body(Arc<[u8]>);

#[rocket::async_trait]
impl<'r, T: FromBody<'r>> FromData<'r> for Inspected<T> {
    /// `None` where nothing was read or made: the body is too long, the visitor has hung up, or AppSec refuses.
    type Error = Option<T::Error>;

    async fn from_data(request: &'r Request<'_>, data: Data<'r>) -> Outcome<'r, Self> {
        // Fails closed: without a judge nothing is proven.
        let Some(appsec) = request.rocket().state::<Option<Arc<AppSec>>>() else {
            return Outcome::Error((Status::InternalServerError, None));
        };
        if !T::takes(request) {
            return Outcome::Forward((data, Status::UnsupportedMediaType));
        }
        let is_judged = Hearing::of(request).has_body.swap(true, Ordering::Relaxed);
        let limit = T::limit(request);
        let most = match appsec {
            Some(appsec) if appsec.config.large_bodies == LargeBodies::Block => limit.min(appsec.config.body_limit),
            _ => limit,
        };
        let body = match read_body(request, data, most).await {
            Ok(body) => request.local_cache(|| Body(body)),
            Err(status) => return Outcome::Error((status, None)),
        };
        if let Some(appsec) = appsec
            && !is_judged
            && let Err(status) = judged(appsec, request, &body.0).await
        {
            return Outcome::Error((status, None));
        }
        match T::from_body(request, &body.0) {
            Ok(made) => Outcome::Success(Self(made)),
            Err((status, error)) => Outcome::Error((status, Some(error))),
        }
    }
}

/// Asks about the whole request. `Err` is the status by which our fairing knows a refusal.
async fn judged(appsec: &AppSec, request: &Request<'_>, body: &Arc<[u8]>) -> Result<(), Status> {
    // The operator wants longer bodies judged by the request's head alone, which the fairing has done.
    if body.len() as u64 > appsec.config.body_limit.as_u64() {
        return Ok(());
    }
    let bouncer = Bouncer::of(request).ok_or(Status::InternalServerError)?;
    let answer = appsec.ask(bouncer, request, body.clone()).await;
    let Some(judgement) = appsec.refusal(bouncer, request, answer) else { return Ok(()) };
    let visit = bouncer.visit(request);
    // Logged now: the handler may go on without the body, and the owner's catcher may answer in its own way.
    bouncer.log(&visit.asked, &judgement);
    Err(visit.refuse_by_guard(bouncer, judgement, true))
}

impl<T> Sentinel for Inspected<T> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        lacks::<Option<Arc<AppSec>>>(rocket, "`Inspected`", "appsec")
    }
}
