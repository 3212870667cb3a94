//! Who is the visitor, and where are they? The socket's peer, or the address that a trusted proxy names: what the head of
//! their request says, once it is known to be no larger than anybody's may be.

mod config;
pub mod geo;
pub mod head;
pub mod proxies;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

pub use config::Config;
pub use head::Head;
pub use proxies::{ClientIp, Unnamed};

/// Whom a solved captcha or a limit counts for: an IPv4 address, or the /64 that an IPv6 visitor can move in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject(IpNet);

impl From<IpAddr> for Subject {
    fn from(address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 64 };
        Self(IpNet::new_assert(address, length).trunc())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
