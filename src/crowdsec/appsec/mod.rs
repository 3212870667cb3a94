//! Is a single request an attack? CrowdSec's AppSec component is asked about each, and its word is enforced.
//!
//! A second judge: in the bouncer only `config/` names this room. An application without AppSec can leave this room
//! out: docs/leaving-a-room-out.md.

mod answer;
mod body;
mod challenge;
mod client;
mod config;
mod form;
mod from_body;
mod hearing;
mod inspected;
mod judge;
mod question;
mod relay;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocket::fairing::{AdHoc, Fairing};
use rocket::{Build, Rocket};

use super::bouncer::{Bouncer, Questions};
use super::setting::Reading;
use client::Client;
use judge::AppSec;
use relay::CHALLENGES;

pub use config::Config;
pub use form::File;
pub use from_body::FromBody;
pub use inspected::Inspected;

/// Asks AppSec about each request, if `appsec.url` is set. Attach it after [`fairing`](super::fairing), which checks
/// the configuration.
pub fn appsec() -> impl Fairing {
    AdHoc::try_on_ignite("CrowdSec's AppSec", |rocket| async {
        // Where there is no bouncer, the fairing before this one has said why.
        let Some(bouncer) = rocket.state::<Bouncer>() else { return Err(rocket) };
        let connected = connect(&rocket, bouncer).inspect_err(|reason| log::error!("Cannot start: {reason}."));
        let Ok(appsec) = connected else { return Err(rocket) };
        let rocket = rocket.manage(appsec.clone());
        let Some(appsec) = appsec else { return Ok(rocket) };
        let rocket = rocket.mount(CHALLENGES, challenge::routes());
        // Attached now, it comes after all other fairings: what AppSec judges is what Rocket routes.
        Ok(rocket.attach(appsec))
    })
}

/// `None` where no `appsec.url` is set: nothing is attached then.
fn connect(rocket: &Rocket<Build>, bouncer: &Bouncer) -> Result<Option<Arc<AppSec>>, String> {
    let config =
        Config::read(&mut Reading::of(rocket.figment())).map_err(|_| "AppSec's settings cannot be read any more")?;
    let Some((config, at)) = config else { return Ok(None) };
    let lapi = bouncer.lapi.connection.as_ref().ok_or("there is no LAPI whose key AppSec could know")?;
    let client = Client::new(at, config.timeout.0, lapi)?;
    bouncer.keeps_visits.store(true, Ordering::Relaxed);
    let _ = bouncer.questions.set(Questions::default());
    log::info!(target: "crowdsec", "AppSec at {} judges each request.", client.at);
    Ok(Some(Arc::new(AppSec::new(config, client))))
}
