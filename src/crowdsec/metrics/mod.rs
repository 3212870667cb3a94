//! What does the bouncer do, in figures? For CrowdSec, for Prometheus, and for the operator.
//!
//! This room looks on: it reads a `Visit` when the answer leaves, and nothing of the bouncer's names it. An application
//! whose operator counts nothing can do without it: docs/leaving-a-room-out.md.

mod config;
mod counts;
mod operator;
mod prometheus;
mod status;
mod usage;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocket::fairing::{Fairing, Info, Kind, Result};
use rocket::http::{Status, StatusClass};
use rocket::response::Response;
use rocket::{Build, Orbit, Request, Rocket, routes};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::background::Background;
use super::bouncer::{Bouncer, is_ours};
use super::pages;
use super::setting::Reading;
use counts::Counts;
use operator::{Operators, is_for_operators};
use usage::{AT_THE_END, Usage};

pub use config::Config;

/// Counts, and tells whom the configuration names. Attach it after [`fairing`](super::fairing), which has judged by then.
pub fn metrics() -> impl Fairing {
    Metrics { has_trial: AtomicBool::new(false), usage: Mutex::default() }
}

struct Metrics {
    /// Whether those may be counted too who are let in.
    has_trial: AtomicBool,
    usage: Mutex<Pushing>,
}

/// The pushes to LAPI.
#[derive(Default)]
enum Pushing {
    #[default]
    Off,
    /// Between ignite and liftoff.
    Ready(Box<Usage>),
    /// Until the shutdown, on a thread of its own: the poller never waits for it.
    Running { stop: oneshot::Sender<()>, task: JoinHandle<()>, _thread: Background },
}

impl Metrics {
    fn usage(&self) -> MutexGuard<'_, Pushing> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[rocket::async_trait]
impl Fairing for Metrics {
    fn info(&self) -> Info {
        let when = Kind::Ignite | Kind::Liftoff | Kind::Response | Kind::Shutdown;
        Info { name: "CrowdSec's metrics", kind: when | Kind::Singleton }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> Result {
        // Where there is no bouncer, or a bad setting, the fairing before this one has told it.
        let config = Config::read(&mut Reading::of(rocket.figment()));
        let (Some(bouncer), Ok(config)) = (rocket.state::<Bouncer>(), config) else { return Err(rocket) };
        let counts = Arc::new(Counts::of(bouncer));
        self.has_trial.store(counts.has_trial, Ordering::Relaxed);
        let _ = bouncer.also_spared.set(is_for_operators);
        if let (Some(connection), Some(every)) = (&bouncer.lapi.connection, config.usage_metrics) {
            match Usage::new(connection, bouncer.lapi.update_frequency, every, counts.clone()) {
                Ok(usage) => *self.usage() = Pushing::Ready(Box::new(usage)),
                Err(error) => {
                    log::error!("Cannot start: the usage metrics cannot be sent: {error}.");
                    return Err(rocket);
                }
            }
        }
        let routes = if config.metrics_from.is_empty() { Vec::new() } else { routes![prometheus::metrics] };
        let rocket = rocket.mount("/crowdsec", pages::before_all_others(routes));
        let rocket = if config.metrics_from.is_empty() { rocket } else { rocket.attach(status::page(counts.clone())) };
        Ok(rocket.manage(counts).manage(Operators(config.metrics_from)))
    }

    async fn on_liftoff(&self, _: &Rocket<Orbit>) {
        let mut usage = self.usage();
        let Pushing::Ready(ready) = std::mem::take(&mut *usage) else { return };
        match Background::start("crowdsec-usage") {
            Ok(thread) => {
                let (stop, stopped) = oneshot::channel();
                let task = thread.runtime.spawn(ready.run(stopped));
                *usage = Pushing::Running { stop, task, _thread: thread };
            }
            Err(error) => log::warn!("CrowdSec's usage metrics are not sent: their thread cannot be started: {error}."),
        }
    }

    /// Only what can be a refusal is looked at, and what the captcha's own routes answer: most visits were never kept.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let status = response.status();
        let may_count = status.class() == StatusClass::ClientError
            || status == Status::ServiceUnavailable
            || self.has_trial.load(Ordering::Relaxed)
            || status == Status::SeeOther && is_ours(request);
        if !may_count {
            return;
        }
        let rocket = request.rocket();
        if let (Some(bouncer), Some(counts)) = (rocket.state::<Bouncer>(), rocket.state::<Arc<Counts>>()) {
            counts.note(bouncer.visit(request));
        }
    }

    /// Pushes once more, as far as LAPI is quick.
    async fn on_shutdown(&self, _: &Rocket<Orbit>) {
        let pushing = std::mem::take(&mut *self.usage());
        if let Pushing::Running { stop, task, _thread } = pushing {
            let _ = stop.send(());
            let _ = timeout(AT_THE_END, task).await;
        }
    }
}
