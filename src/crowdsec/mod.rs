//! The bouncer: keeps CrowdSec's decisions in memory and enforces them on every request.
//!
//! An application needs nine names of it: [`figment`] to read its configuration, [`fairing`] to be protected, [`logs`] to
//! feed CrowdSec, the guards [`Cleared`], [`SameOrigin`], [`Report`], [`Events`] and [`Words`], and [`wants_json`] for its
//! errors. The folder names nothing of the application's, so that it can be replaced whole by a newer one.
//!
//! In reading order, each room imports only what stands before it: what stands against whom (decisions), how a setting is
//! written, how LAPI is asked, who is asking, the captcha, the judgement, and then whoever acts by it: guards, logs, pages,
//! and the fairing, which puts all of it together.

mod printable;
mod escaped;
mod panics;
mod limit;
mod decisions;
mod setting;
mod lapi;
mod visitor;
mod captcha;
mod bouncer;
mod guards;
mod logs;
mod pages;
mod config;
mod fairing;
#[cfg(test)]
mod tests;

pub use config::{LogFormat, defaults, figment};
pub use fairing::fairing;
pub use guards::{Cleared, Report, SameOrigin};
pub use lapi::VERSION;
pub use logs::{Events, logs};
pub use pages::{Words, try_pages, wants_json};
pub use printable::is_harmful;
pub use setting::unreplaced_variables;
