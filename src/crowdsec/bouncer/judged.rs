//! How many requests were judged?

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests from IPv4 and from IPv6. On a cache line of its own: every request writes here, and what lies
/// around it is read by all of them.
#[derive(Default)]
#[repr(align(128))]
pub struct Judged(pub [AtomicU64; 2]);

impl Judged {
    pub fn count(&self, address: IpAddr) {
        self.0[usize::from(address.is_ipv6())].fetch_add(1, Ordering::Relaxed);
    }
}
