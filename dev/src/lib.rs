//! What do the end-to-end tests work with? A real CrowdSec, the built application, visitors, and servers that misbehave.

mod app;
mod fake;
mod folder;
mod lapi;
mod postgres;
mod process;
mod proxy;
mod site;
mod visitor;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use std::{iter, thread};

pub use app::{App, Ended, Verdict};
pub use fake::{FakeServer, Reply, Seen, ban, standing};
pub use folder::Folder;
pub use lapi::{Lapi, Machine};
pub use postgres::Postgres;
pub use process::{Process, command};
pub use proxy::{Proxy, server_command};
pub use site::Site;
pub use visitor::{Answer, Request, pipeline};

/// The key that every test's bouncer is registered with. It stands out, so that a test can look for it where it must not be.
pub const KEY: &str = "end-to-end-key-5f0c1a7be2d94e63";

/// The longest wait for what ought to happen at the next poll. It turns a hang into a failure and measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition holds; fails the test after [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(PATIENCE, what, holds);
}

/// Waits until the condition holds; fails the test after `patience`.
#[track_caller]
pub fn eventually_within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// An address of this machine on which nobody listens, unless a test then tells a server to. Its port lies below those that
/// Linux gives to connections and to whoever asks for any port, and each call in one program gets another port.
pub fn closed_port() -> SocketAddr {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 200) as u16 * 100;
    let mut ports = iter::repeat_with(|| first + CALLS.fetch_add(1, Ordering::Relaxed) % 2_000);
    let listener = ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    listener.expect("a free port").local_addr().expect("the port just bound")
}

/// The repository's root: the folder above this package, and the application's working directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("dev/ lies in the repository")
}

/// Sends a signal to a process that a test has started.
pub fn signal(pid: u32, name: &str) {
    // `kill` is built into every shell, while the program of that name is missing on a bare machine.
    let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status();
    assert!(sent.expect("a shell").success(), "cannot send SIG{name} to process {pid}");
}
