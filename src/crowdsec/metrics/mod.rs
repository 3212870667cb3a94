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

use std::sync::Arc;
use std::time::Duration;

use rocket::fairing::{Fairing, Info, Kind, Result};
use rocket::http::{Status, StatusClass};
use rocket::response::Response;
use rocket::{Build, Request, Rocket, routes};

use super::background::Background;
use super::bouncer::{Bouncer, is_ours};
use super::lapi::Lapi;
use super::pages;
use super::setting::Reading;
use counts::Counts;
use operator::{Operators, is_for_operators};
use status::Memory;
use usage::{AT_THE_END, Usage};

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
        let started = start(bouncer, &config, &counts).inspect_err(|error| log::error!("Cannot start: {error}."));
        let Ok((usage, page)) = started else { return Err(rocket) };
        let mut rocket = rocket.manage(counts.clone()).manage(Operators(config.metrics_from));
        if let Some((usage, thread)) = usage {
            rocket = thread.work(rocket, "CrowdSec's usage metrics", AT_THE_END, |shutdown| usage.run(shutdown));
        }
        if let Some(thread) = page {
            let memory = Arc::new(Memory::of(counts));
            let routes = pages::before_all_others(routes![prometheus::metrics, status::status]);
            rocket = rocket.mount("/crowdsec", routes).manage(memory.clone()).attach(memory.clone());
            rocket = thread.work(rocket, "CrowdSec's history", Duration::ZERO, |_| memory.look());
        }
        Ok(rocket)
    }

    /// Looks at answers that may be refusals, and at those of the captcha's own routes: of most other requests nothing was kept.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let (rocket, status) = (request.rocket(), response.status());
        let (Some(bouncer), Some(counts)) = (rocket.state::<Bouncer>(), rocket.state::<Arc<Counts>>()) else { return };
        if status.class() == StatusClass::ClientError
            || status == Status::ServiceUnavailable
            || counts.has_trial
            // A solved captcha is answered with 303, or with 204 to the page's script.
            || matches!(status.code, 204 | 303) && is_ours(request)
        {
            counts.note(bouncer.visit(request));
        }
    }
}

type Started = (Option<(Usage, Background)>, Option<Background>);

/// What tells LAPI, where there is one to tell, on a thread that the poller never waits for; and the thread of the operator's
/// page, where somebody may read that.
fn start(bouncer: &Bouncer, config: &Config, counts: &Arc<Counts>) -> std::result::Result<Started, String> {
    let usage = match (&bouncer.lapi.connection, config.usage_metrics) {
        (Some(connection), Some(every)) => {
            let poll = bouncer.lapi.update_frequency;
            let lapi = Lapi::new(connection).map_err(|error| format!("no usage metrics can be sent: {error}"))?;
            Some((Usage::new(lapi, poll, every, counts.clone()), Background::start("crowdsec-usage")?))
        }
        _ => None,
    };
    let page = if config.metrics_from.is_empty() { None } else { Some(Background::start("crowdsec-status")?) };
    Ok((usage, page))
}
