//! What does CrowdSec learn from this application? Each request that was let in, and what a handler notes.
//!
//! This room looks on: it reads a `Visit` when the answer leaves, and nothing of the bouncer's names it. An application
//! that feeds no CrowdSec can do without it: docs/leaving-a-room-out.md.

mod access_log;
mod clock;
mod config;
mod events;
mod journal;
mod line;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use figment::Figment;
use rocket::fairing::{AdHoc, Fairing};

use super::bouncer::Bouncer;
use super::setting::Reading;
use access_log::AccessLog;
use events::EventLog;
use journal::Journal;

pub use config::Config;
pub use events::Events;

/// Opens the logs that the configuration names. Attach it after [`fairing`](super::fairing), which has read that.
pub fn logs() -> impl Fairing {
    AdHoc::try_on_ignite("CrowdSec's logs", |rocket| async {
        // Where there is no bouncer, the fairing before this one has told why.
        let Some(bouncer) = rocket.state::<Bouncer>() else { return Err(rocket) };
        let (access, events) = match open(rocket.figment()) {
            Ok(journals) => journals,
            Err(error) => {
                log::error!("Cannot start: the logs cannot be opened any more: {error}.");
                return Err(rocket);
            }
        };
        if access.is_some() {
            bouncer.keeps_visits.store(true, Ordering::Relaxed);
        }
        let rocket = rocket.manage(EventLog(events));
        // Attached now, it comes after all others, and sees the answer as it leaves.
        Ok(access.into_iter().fold(rocket, |rocket, journal| rocket.attach(AccessLog(journal))))
    })
}

type Journals = (Option<Arc<Journal>>, Option<Arc<Journal>>);

/// The access log and the log of events; one journal where both are one file.
fn open(figment: &Figment) -> io::Result<Journals> {
    let config = Config::read(&mut Reading::of(figment)).map_err(|_| io::ErrorKind::InvalidInput)?;
    let open = |path: &PathBuf| Journal::open(path).map(Arc::new);
    let access = config.access_log.as_ref().map(open).transpose()?;
    let are_one = config.event_log == config.access_log;
    let events = if are_one { access.clone() } else { config.event_log.as_ref().map(open).transpose()? };
    Ok((access, events))
}
