//! Who is the visitor, and where are they? The socket's peer, or the address that a trusted proxy names. The head of the
//! request says so; what is too large in it is found here too.

mod config;
mod geo;
mod head;
mod proxies;

pub use config::Config;
pub use head::{Head, is_accept_too_dear};
pub use proxies::{ClientIp, Unnamed};
#[cfg(test)]
pub use {geo::Database, proxies::tests::client_ip};
#[allow(unused_imports, reason = "the rooms that use these can be left out")]
pub use {head::AGENT, head::REFERER, head::TARGET, proxies::address};
