//! What does the bouncer do, in figures? For CrowdSec, for Prometheus, and for the operator.
//!
//! This room looks on: it reads a `Visit` when the answer leaves, and nothing of the bouncer's names it but `config/`. An
//! application whose operator counts nothing can do without it: docs/leaving-a-room-out.md.

mod config;
mod counts;
mod operator;
mod prometheus;
mod status;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rocket::fairing::{Fairing, Info, Kind, Result};
use rocket::http::{Status, StatusClass};
use rocket::response::Response;
use rocket::{Build, Request, Rocket, routes};

use super::background::Background;
use super::bouncer::{Bouncer, is_ours};
use super::pages;
use super::setting::Reading;
use counts::Counts;
use operator::is_for_operators;
use status::Memory;
use usage::{AT_THE_END, Usage};

pub use config::Config;

/// Counts, and tells whom the configuration names. Attach it after [`fairing`](super::fairing), which has judged by then.
pub fn metrics() -> impl Fairing {
    Metrics::default()
}

#[derive(Default)]
struct Metrics {
    /// Whether a visitor who is let in may count, since something is only tried.
    has_trial: AtomicBool,
}

#[rocket::async_trait]
impl Fairing for Metrics {
    fn info(&self) -> Info {
        Info { name: "CrowdSec's metrics", kind: Kind::Ignite | Kind::Response | Kind::Singleton }
    }

    async fn on_ignite(&self, rocket: Rocket<Build>) -> Result {
        // Where there is no bouncer, or a bad setting, the fairing before this one has told it.
        let config = Config::read(&mut Reading::of(rocket.figment()));
        let (Some(bouncer), Ok(config)) = (rocket.state::<Bouncer>(), config) else { return Err(rocket) };
        let counts = Arc::new(Counts::of(bouncer));
        self.has_trial.store(counts.has_trial, Ordering::Relaxed);
        let _ = bouncer.also_spared.set(is_for_operators);
        let memory = (!config.metrics_from.0.is_empty()).then(|| Arc::new(Memory::of(counts.clone())));
        let started = Usage::of(bouncer, config.usage_metrics, &counts).and_then(|usage| {
            let is_needed = usage.is_some() || memory.is_some();
            // A thread of its own, which the poller never waits for.
            Ok((usage, is_needed.then(|| Background::start("crowdsec-count")).transpose()?))
        });
        let started = started.inspect_err(|error| log::error!("Cannot start: {error}."));
        let Ok((usage, thread)) = started else { return Err(rocket) };
        let mut rocket = rocket.manage(counts).manage(config);
        if let Some(memory) = &memory {
            let routes = pages::before_all_others(routes![prometheus::metrics, status::status]);
            rocket = rocket.mount("/crowdsec", routes).manage(memory.clone()).attach(memory.clone());
        }
        let Some(thread) = thread else { return Ok(rocket) };
        Ok(thread.work(rocket, "CrowdSec's figures", AT_THE_END, move |shutdown| async move {
            if let Some(memory) = memory {
                tokio::spawn(memory.look());
            }
            if let Some(usage) = usage {
                usage.run(shutdown).await;
            }
        }))
    }

    /// Looks at answers that may be refusals, and at those of the captcha's own routes: of most other requests nothing was kept.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let (rocket, status) = (request.rocket(), response.status());
        let may_count = status.class() == StatusClass::ClientError
            || status == Status::ServiceUnavailable
            || self.has_trial.load(Ordering::Relaxed)
            // A solved captcha is answered with 303, or with 204 to the page's script.
            || matches!(status.code, 204 | 303) && is_ours(request);
        // Most answers do not, and to look for a state takes Rocket some time.
        if may_count && let (Some(bouncer), Some(counts)) = (rocket.state::<Bouncer>(), rocket.state::<Arc<Counts>>()) {
            counts.note(bouncer.visit(request));
        }
    }
}
