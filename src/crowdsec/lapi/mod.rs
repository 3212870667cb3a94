//! How do we ask CrowdSec? Everything that is said to the Local API, and what becomes of its answers.
//!
//! What we rely on, seen on LAPI 1.4.6 and read in the source of 1.7.8:
//! - `startup` counts only as exactly `true`; anything else asks for the changes since this key's last request.
//! - LAPI's mark of that last request moves when a request starts, whether or not its answer arrives: a lost answer is a
//!   lost delta.
//! - `dedup=false` sends every decision. Otherwise LAPI chooses one per address, which hides real decisions behind
//!   simulated ones and behind those that a filter leaves out.
//! - A database error at authentication is the same 403 as a wrong key.

mod connection;
mod tls;
mod error;
mod answer;
mod body;
mod client;
mod hurry;
mod contact;
mod snapshot;
mod saving;
mod live;
mod config;
mod pace;
mod telling;
mod poller;

pub use client::Lapi;
pub use config::{Config, OnStartupFailure};
pub use connection::{Connection, ORIGINS};
pub use contact::{Contact, Health};
pub use error::Error;
pub use live::Live;
pub use poller::Poller;
#[cfg(test)]
pub use {answer::read_answer, answer::read_entries, answer::read_list, snapshot::Snapshot};
#[allow(unused_imports, reason = "the rooms that use these can be left out")]
pub use {error::RESULTS, tls::client as tls_client};

/// This folder's version, which LAPI is told. LAPI splits the User-Agent at its only slash.
pub const VERSION: &str = "0.1.0";
pub const BOUNCER_TYPE: &str = "crowdsec-rocket-bouncer";
