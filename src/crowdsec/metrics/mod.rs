//! What does the bouncer do, in figures? For CrowdSec, for Prometheus, and for the operator.
//!
//! This room looks on: it reads a `Visit` when the answer leaves, and nothing of the bouncer's names it. An application
//! whose operator counts nothing can do without it: docs/leaving-a-room-out.md.

mod config;
mod operator;
mod status;

use rocket::fairing::{AdHoc, Fairing};

use super::bouncer::Bouncer;
use super::setting::Reading;
use operator::{Operators, is_for_operators};

pub use config::Config;

/// Counts, and tells whom the configuration names. Attach it after [`fairing`](super::fairing), which has read that.
pub fn metrics() -> impl Fairing {
    AdHoc::try_on_ignite("CrowdSec's metrics", |rocket| async {
        // Where there is no bouncer, or a bad setting, the fairing before this one has told it.
        let config = Config::read(&mut Reading::of(rocket.figment()));
        let (Some(bouncer), Ok(config)) = (rocket.state::<Bouncer>(), config) else { return Err(rocket) };
        let _ = bouncer.also_spared.set(is_for_operators);
        let rocket = if config.metrics_from.is_empty() { rocket } else { status::mount(rocket) };
        Ok(rocket.manage(Operators(config.metrics_from)))
    })
}
