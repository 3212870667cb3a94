//! Is this instance in step with CrowdSec? For load balancers.

use rocket::http::Status;
use rocket::serde::json::{Json, Value, json};
use rocket::{State, get};

use super::Uncached;
use super::body::Dropped;
use crate::crowdsec::bouncer::Bouncer;
use crate::crowdsec::lapi::Health;

/// For load balancers: whether this instance is in step with CrowdSec, and nothing more.
#[get("/health", data = "<_body>")]
pub fn health(bouncer: &State<Bouncer>, _body: Dropped) -> Uncached<(Status, Json<Value>)> {
    let (status, word) = match bouncer.health() {
        Health::Ok => (Status::Ok, "ok"),
        Health::Starting => (Status::ServiceUnavailable, "starting"),
        Health::Stale => (Status::ServiceUnavailable, "stale"),
    };
    Uncached::new((status, Json(json!({ "status": word }))))
}
