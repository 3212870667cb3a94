//! The bouncer: keeps CrowdSec's decisions in memory and enforces them on every request.
//!
//! An application needs five names of it: [`figment`] to read its configuration, [`fairing`] to be protected, and the
//! guards [`Cleared`], [`Report`] and [`Events`]. The folder names nothing of the application's, so that it can be
//! replaced whole by a newer one.
//!
//! In reading order, each module imports only what stands before it: LAPI → poller → decisions → judgement → fairing and
//! guards → pages.

mod printable;
mod decisions;
mod answer;
mod path;
mod arrivals;
mod field;
mod journal;
mod config;
mod lapi;
mod snapshot;
mod poller;
mod client_ip;
mod limit;
mod captcha;
mod session;
mod bouncer;
mod guard;
mod sensor;
mod kept;
mod texts;
mod pages;
mod fairing;
#[cfg(test)]
mod tests;

pub use config::{defaults, figment};
pub use fairing::fairing;
pub use guard::{Cleared, Report};
pub use lapi::VERSION;
pub use sensor::Events;
