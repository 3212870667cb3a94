//! How much of a request has AppSec judged, and what does it answer the visitor? One value, kept with the request.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use rocket::Request;
use rocket::response::Response;

use super::relay::Relay;
use crate::crowdsec::bouncer::Verdict;
use crate::crowdsec::panics::lock;

#[derive(Default)]
pub struct Hearing {
    /// Whether the whole request has been judged, its body included; or `Inspected` has the body, whatever becomes of it.
    pub has_body: AtomicBool,
    /// An answer of AppSec's for the visitor.
    relay: Mutex<Option<Relay>>,
}

impl Hearing {
    pub fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(Self::default)
    }

    /// Keeps an answer until the response is made.
    pub fn keep(&self, relay: Relay) -> Verdict {
        *lock(&self.relay) = Some(relay);
        Verdict::Answered
    }

    /// Puts the kept answer into the response.
    pub fn answer(&self, response: &mut Response<'_>) {
        if let Some(relay) = lock(&self.relay).take() {
            relay.replace(response);
        }
    }
}
