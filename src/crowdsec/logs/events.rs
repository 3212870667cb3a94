//! What has a handler noticed? Failed sign-ins and the like, for CrowdSec to judge.

use std::io::Write;
use std::sync::Arc;

use rocket::http::Status;
use rocket::request::{FromRequest, Outcome};
use rocket::{Ignite, Request, Rocket, Sentinel};

use super::field::{TEXT, json};
use crate::crowdsec::bouncer::{Bouncer, Judgement};
use crate::crowdsec::guards::lacks;
use crate::crowdsec::journal::Journal;
use crate::crowdsec::timestamp::timestamp;

/// Tells CrowdSec what a handler has noticed: `events.note("failed-sign-in", Some(user))` is one line in `event_log`,
/// where that is set. The folder `deploy/sensor/` has what CrowdSec needs to read it. After a burst of events LAPI is
/// asked sooner, since CrowdSec is about to decide. Nothing is noted about a visitor whom a trusted proxy does not name.
pub struct Events<'r> {
    log: Option<&'r Journal>,
    bouncer: &'r Bouncer,
    judgement: &'r Judgement,
}

/// The log of what handlers note, `None` where no `event_log` is set.
pub struct EventLog(pub Option<Arc<Journal>>);

impl Events<'_> {
    /// Notes what happened, in a word of your own, and to whose account.
    pub fn note(&self, event: &str, user: Option<&str>) {
        self.bouncer.note_suspicion(self.judgement);
        let Some(log) = self.log else { return };
        let (time, address) = (timestamp(self.bouncer.unix_now()), self.judgement.address);
        let event = json(Some(event), TEXT);
        let user = user.map_or(String::new(), |user| format!(r#","user":{}"#, json(Some(user), TEXT)));
        log.append(|line| {
            // CrowdSec recognises a line of ours by its first key.
            let _ = writeln!(line, r#"{{"crowdsec_event":{event},"time":"{time}","address":"{address}"{user}}}"#);
        });
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Events<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let rocket = request.rocket();
        let (Some(bouncer), Some(EventLog(log))) = (rocket.state::<Bouncer>(), rocket.state()) else {
            return Outcome::Error((Status::InternalServerError, ()));
        };
        let judgement = &bouncer.visit(request).judgement;
        let log = log.as_deref().filter(|_| judgement.has_a_name());
        Outcome::Success(Self { log, bouncer, judgement })
    }
}

impl Sentinel for Events<'_> {
    fn abort(rocket: &Rocket<Ignite>) -> bool {
        lacks::<EventLog>(rocket, "`Events`", "logs")
    }
}
