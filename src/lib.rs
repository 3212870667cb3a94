//! The application: what is attached, mounted and caught, in that order.

pub mod crowdsec;
pub mod launch;
pub mod log;
mod headers;
mod routes;

use figment::Figment;
use rocket::{Build, Rocket};
use rocket_dyn_templates::Template;

/// The application with the configuration of Rocket.toml and the environment.
pub fn rocket() -> Rocket<Build> {
    let figment = crowdsec::figment();
    log::install(&figment);
    app(figment)
}

/// The application with any configuration. Tests bring their own, so that they never meet the owner's CrowdSec.
pub fn app(figment: Figment) -> Rocket<Build> {
    protected(figment)
        .attach(launch::files("/static", "static"))
        .mount("/", routes::all())
        .register("/", routes::catchers())
}

/// The application without its routes: a guard such as `Human` on one of them asks for settings that not every test has.
pub fn protected(figment: Figment) -> Rocket<Build> {
    let pages = crowdsec::try_pages(&figment);
    rocket::custom(figment)
        // The pages are tried before LAPI is waited for. This fairing reads no request.
        .attach(Template::try_custom(pages))
        // Of the fairings that read requests, the bouncer comes first: one before it would see refused requests as they came.
        .attach(crowdsec::fairing())
        .attach(crowdsec::logs())
        .attach(crowdsec::appsec())
        .attach(crowdsec::metrics())
        .attach(headers::shield())
        .attach(headers::policies())
}
