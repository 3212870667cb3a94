//! The bouncer: keeps CrowdSec's decisions in memory and enforces them on every request.
//!
//! An application needs eight names of it: [`figment`] to read its configuration, [`fairing`] to be protected, the guards
//! [`Cleared`], [`SameOrigin`], [`Report`], [`Events`] and [`Words`], and [`wants_json`] for its errors. The folder names nothing of the application's, so that
//! it can be replaced whole by a newer one.
//!
//! In reading order, each module imports only what stands before it: decisions → configuration → LAPI and its poller →
//! visitors and captchas → judgement → guards and logs → pages → fairing.

mod printable;
mod panics;
mod decisions;
mod path;
mod field;
mod head;
mod journal;
mod tls;
mod config;
mod lapi;
mod client_ip;
mod limit;
mod captcha;
mod session;
mod visit;
mod bouncer;
mod guard;
mod same_origin;
mod sensor;
mod pages;
mod fairing;
#[cfg(test)]
mod tests;

pub use config::{LogFormat, defaults, figment, unreplaced_variables};
pub use fairing::fairing;
pub use guard::{Cleared, Report};
pub use lapi::VERSION;
pub use pages::{Words, try_pages, wants_json};
pub use printable::is_harmful;
pub use same_origin::SameOrigin;
pub use sensor::Events;
