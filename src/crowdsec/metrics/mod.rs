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

use std::fmt::Display;
use std::sync::Arc;

use rocket::fairing::{Fairing, Info, Kind, Result};
use rocket::http::{Status, StatusClass};
use rocket::response::Response;
use rocket::{Build, Request, Rocket, routes};

use super::bouncer::{Bouncer, is_ours};
use super::lapi::Lapi;
use super::pages;
use super::setting::Reading;
use counts::Counts;
use operator::{Operators, is_for_operators};
use status::Memory;

pub use config::Config;

/// Counts, and tells whom the configuration names. Attach it after [`fairing`](super::fairing), which has judged by then.
pub fn metrics() -> impl Fairing {
    Metrics
}

struct Metrics;

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
        let _ = bouncer.also_spared.set(is_for_operators);
        let (usage, memory) = match start(bouncer, &config, &counts) {
            Ok(started) => started,
            Err(error) => {
                log::error!("Cannot start: {error}.");
                return Err(rocket);
            }
        };
        let mut rocket = rocket.manage(counts).manage(Operators(config.metrics_from));
        for pushes in usage.into_iter().flatten() {
            rocket = rocket.attach(pushes);
        }
        if let Some(memory) = memory {
            let routes = pages::before_all_others(routes![prometheus::metrics, status::status]);
            rocket = rocket.mount("/crowdsec", routes).manage(memory.clone()).attach(memory);
        }
        Ok(rocket)
    }

    /// Only what can be a refusal is looked at, and what the captcha's own routes answer: most visits were never kept.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let (rocket, status) = (request.rocket(), response.status());
        let (Some(bouncer), Some(counts)) = (rocket.state::<Bouncer>(), rocket.state::<Arc<Counts>>()) else { return };
        if status.class() == StatusClass::ClientError
            || status == Status::ServiceUnavailable
            || counts.has_trial
            || status == Status::SeeOther && is_ours(request)
        {
            counts.note(bouncer.visit(request));
        }
    }
}

/// The pushes to LAPI, where there is one to tell, and what the operator's page remembers, where somebody may read that.
fn start(
    bouncer: &Bouncer,
    config: &Config,
    counts: &Arc<Counts>,
) -> std::result::Result<(Option<[impl Fairing; 2]>, Option<Arc<Memory>>), String> {
    let usage = match (&bouncer.lapi.connection, config.usage_metrics) {
        (Some(connection), Some(every)) => {
            let (poll, counts) = (bouncer.lapi.update_frequency, counts.clone());
            let cannot = |error: &dyn Display| format!("the usage metrics cannot be sent: {error}");
            let lapi = Lapi::new(connection, poll).map_err(|error| cannot(&error))?;
            Some(usage::pushes(lapi, poll, every, counts).map_err(|error| cannot(&error))?)
        }
        _ => None,
    };
    let memory = (!config.metrics_from.is_empty()).then(|| Memory::of(counts.clone())).transpose();
    let memory = memory.map_err(|error| format!("the status page's thread cannot be started: {error}"))?;
    Ok((usage, memory))
}
