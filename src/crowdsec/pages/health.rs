//! Is this instance in step with CrowdSec, and does it answer at all? For load balancers and Kubernetes.

use rocket::http::Status;
use rocket::serde::json::{Json, Value, json};
use rocket::{State, get};

use super::Uncached;
use super::body::Posted;
use crate::crowdsec::bouncer::Bouncer;
use crate::crowdsec::lapi::Health;

/// For load balancers: whether this instance is in step with CrowdSec, and nothing more.
#[get("/health", data = "<_body>")]
pub fn health(bouncer: &State<Bouncer>, _body: Posted) -> Uncached<(Status, Json<Value>)> {
    let health = bouncer.health();
    let status = if health == Health::Ok { Status::Ok } else { Status::ServiceUnavailable };
    Uncached::new((status, Json(json!({ "status": health }))))
}

/// For programs that restart a process that hangs: whether this process answers, and nothing more. It says nothing
/// about CrowdSec, since a restart would not bring CrowdSec back.
#[get("/live", data = "<_body>")]
pub fn live(_body: Posted) -> Uncached<Json<Value>> {
    Uncached::new(Json(json!({ "status": "ok" })))
}
