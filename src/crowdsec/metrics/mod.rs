//! What does the bouncer do, in figures? For CrowdSec, for Prometheus, and for the operator.
//!
//! This room only looks on: it reads a `Visit` when the answer leaves, and in the bouncer only `config/` names it. An
//! application whose operator wants no figures can leave this room out: docs/leaving-a-room-out.md.

mod config;
mod counts;
mod operator;
mod prometheus;
mod status;
mod usage;

use std::sync::Arc;

use rocket::fairing::{AdHoc, Fairing, Info, Kind};
use rocket::http::Status;
use rocket::response::Response;
use rocket::{Request, routes};

use super::background::Background;
use super::bouncer::{Bouncer, is_ours};
use super::pages;
use super::setting::Reading;
use operator::is_for_operators;
use status::Memory;
use usage::{AT_THE_END, Usage};

pub use config::Config;

/// Counts, and shows the figures to LAPI and to `metrics_from`. Attach it after [`fairing`](super::fairing), which
/// brings the bouncer.
pub fn metrics() -> impl Fairing {
    AdHoc::try_on_ignite("CrowdSec's metrics", |rocket| async {
        // Where there is no bouncer, or a bad setting, the fairing before this one has said so.
        let config = Config::read(&mut Reading::of(rocket.figment()));
        let (Some(bouncer), Ok(config)) = (rocket.state::<Bouncer>(), config) else { return Err(rocket) };
        let _ = bouncer.also_spared.set(is_for_operators);
        let is_shown = !config.metrics_from.0.is_empty();
        let memory = Arc::new(Memory::of(bouncer, is_shown));
        let usage = Usage::of(bouncer, config.usage_metrics, &memory.counts);
        // A thread of its own, which the poller never waits for.
        let started = usage.and_then(|usage| Ok((usage, Background::start("crowdsec-count")?)));
        let started = started.inspect_err(|error| log::error!("Cannot start: {error}."));
        let Ok((usage, thread)) = started else { return Err(rocket) };
        // Attached now, it comes after all other fairings, and sees the answer as it leaves.
        let mut rocket = rocket.attach(memory.clone()).manage(memory.clone()).manage(config);
        if is_shown {
            let routes = pages::before_all_others(routes![prometheus::metrics, status::status]);
            rocket = rocket.mount("/crowdsec", routes);
        }
        Ok(thread.work(rocket, "CrowdSec's figures", AT_THE_END, move |shutdown| async move {
            tokio::spawn(memory.look());
            if let Some(usage) = usage {
                usage.run(shutdown).await;
            }
        }))
    })
}

#[rocket::async_trait]
impl Fairing for Memory {
    fn info(&self) -> Info {
        Info { name: "CrowdSec's figures", kind: Kind::Response }
    }

    /// Looks only at answers that may belong to a refusal, a trial or a captcha: for most other requests no visit is kept.
    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let status = response.status();
        // A refusal or a solved captcha has a status from 300 on, except the 204 to the script of the captcha's page.
        let may_count = status.code >= 300
            // In a trial a visitor who is let in may count, too.
            || self.counts.has_trial
            || status == Status::NoContent && is_ours(request);
        // Most answers do not count, and Rocket takes some time to look up a state.
        if may_count && let Some(bouncer) = Bouncer::of(request) {
            self.counts.note(bouncer.visit(request));
        }
        self.note(request, status);
    }
}
