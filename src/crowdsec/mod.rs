//! The bouncer: keeps CrowdSec's decisions in memory and enforces them on every request.
//!
//! An application needs few of the names below: [`figment`] to read its configuration, [`try_pages`] and [`fairing`] to be
//! protected, the guards [`Cleared`], [`SameOrigin`], [`Report`], [`Words`] and [`Accounts`] (which refuses with [`Refused`]),
//! and [`wants_json`] and [`FORMAT_HEADERS`] for its errors. The folder names nothing of the application's, so that it can be
//! replaced whole by a newer one, or be copied into another application: docs/into-an-existing-application.md.
//!
//! [`logs`] and [`Events`] feed CrowdSec.
//! [`appsec`] and [`Inspected`] have CrowdSec's AppSec judge requests.
//! [`metrics`] counts what the bouncer does.
//! Each of these rooms can be left out: docs/leaving-a-room-out.md.
//!
//! In reading order, each room imports only what stands before it: small tools, what stands against whom (decisions), how a
//! setting is written, how LAPI is asked, who is asking, the captcha, the judgement, and then what acts on the judgement:
//! guards, pages, logs, metrics, AppSec, and the fairing, which puts all of it together.

mod printable;
mod panics;
mod journal;
mod background;
mod limit;
mod look_up;
mod reminder;
mod tally;
mod timestamp;
mod decisions;
mod setting;
mod lapi;
mod visitor;
mod captcha;
mod bouncer;
mod guards;
mod pages;
mod logs;
mod metrics;
mod appsec;
mod config;
mod fairing;
#[cfg(test)]
mod tests;

pub use appsec::{File, FromBody, Inspected, appsec};
pub use bouncer::skip_time;
pub use config::{LogFormat, defaults, figment, with_variables};
pub use fairing::fairing;
pub use guards::{Accounts, Cleared, DecisionView, Human, NoDecision, Refused, Report, SameOrigin, Visitor};
pub use journal::Journal;
pub use lapi::VERSION;
pub use logs::{Events, logs};
pub use metrics::metrics;
pub use pages::{FORMAT_HEADERS, Words, try_pages, wants_json};
pub use printable::is_harmful;
pub use setting::{unreplaced_variables, where_set};
