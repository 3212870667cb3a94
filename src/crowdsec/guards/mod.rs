//! How does a handler say whom it serves? Guards, to be written into its signature.

mod cleared;
mod report;
mod same_origin;

use rocket::{Ignite, Rocket};

use super::bouncer::Bouncer;

pub use cleared::Cleared;
pub use report::{DecisionView, Report};
pub use same_origin::SameOrigin;

pub fn has_no_bouncer(rocket: &Rocket<Ignite>) -> bool {
    let missing = rocket.state::<Bouncer>().is_none();
    if missing {
        log::error!(
            "A route asks for the bouncer, which is not there: attach `crowdsec::fairing()` where the application is built."
        );
    }
    missing
}
