//! What do CrowdSec and the operator learn from this application? Each request that was let in, what a handler notes,
//! and who was refused and why.
//!
//! This room only looks on: it reads a `Visit` when the answer leaves. In the bouncer only `config/` names it, and the
//! fairing, which stops a launch where a log is set and this room is not attached. An application that keeps no logs
//! can leave this room out: docs/leaving-a-room-out.md.

mod access_log;
mod config;
mod events;
mod field;
mod refusals;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use figment::Figment;
use rocket::fairing::{AdHoc, Fairing};

use super::bouncer::Bouncer;
use super::journal::Journal;
use super::setting::Reading;
use access_log::AccessLog;
use config::KEYS;
use events::EventLog;
use refusals::refusal_log;

pub use config::Config;
pub use events::Events;

/// Opens the logs that the configuration names. Attach it after [`fairing`](super::fairing), which checks the configuration.
pub fn logs() -> impl Fairing {
    AdHoc::try_on_ignite("CrowdSec's logs", |rocket| async {
        // Where there is no bouncer, the fairing before this one has said why.
        let Some(bouncer) = rocket.state::<Bouncer>() else { return Err(rocket) };
        let journals = open(rocket.figment(), &bouncer.lost_lines)
            .inspect_err(|error| log::error!("Cannot start: the logs cannot be opened any more: {error}."));
        let Ok([access, events, refusals]) = journals else { return Err(rocket) };
        if access.is_some() {
            bouncer.keeps_visits.store(true, Ordering::Relaxed);
        }
        let rocket = rocket.manage(EventLog(events));
        // Attached now, the logs come after all other fairings, and see the answer as it leaves.
        let rocket = access.into_iter().fold(rocket, |rocket, journal| rocket.attach(AccessLog(journal)));
        Ok(refusals.into_iter().fold(rocket, |rocket, journal| rocket.attach(refusal_log(journal))))
    })
}

/// Stops the launch where a log is set and nobody has attached [`logs`]: the log would stay empty without a warning,
/// and CrowdSec would learn of no attack.
pub fn must_be_attached() -> impl Fairing {
    AdHoc::try_on_ignite("CrowdSec's logs, if any are set", |rocket| async {
        let is_set = |key: &&str| rocket.figment().extract_inner::<String>(&format!("crowdsec.{key}")).is_ok();
        let first = KEYS.into_iter().find(is_set).filter(|_| rocket.state::<EventLog>().is_none());
        let Some(key) = first else { return Ok(rocket) };
        log::error!(
            "Cannot start: `crowdsec.{key}` is set, and nobody writes that log: attach `crowdsec::logs()` after \
             `crowdsec::fairing()`, or take the key away."
        );
        Err(rocket)
    })
}

/// The access log, the event log and the refusal log, as far as they are set. Logs in one file share one journal.
fn open(figment: &Figment, lost: &Arc<AtomicU64>) -> io::Result<[Option<Arc<Journal>>; 3]> {
    let Config([access, events, refusals]) =
        Config::read(&mut Reading::of(figment)).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut journals = HashMap::<PathBuf, Arc<Journal>>::new();
    let mut open = |path: Option<PathBuf>| -> io::Result<_> {
        let Some(path) = path else { return Ok(None) };
        // The same file, however its path is spelled and whichever link leads there. Standard output has no path.
        let file = fs::canonicalize(&path).unwrap_or(path.clone());
        if !journals.contains_key(&file) {
            journals.insert(file.clone(), Arc::new(Journal::open(&path, lost.clone())?));
        }
        Ok(journals.get(&file).cloned())
    };
    Ok([open(access)?, open(events)?, open(refusals)?])
}
