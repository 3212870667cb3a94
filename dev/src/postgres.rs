//! What do several LAPIs share? A real PostgreSQL, a fresh one for each test.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Folder, PATIENCE, eventually, root, signal};

/// A running PostgreSQL in a folder of its own; it ends with the test.
pub struct Postgres {
    // Dropped before the folder that it writes into.
    server: Server,
    folder: Folder,
}

impl Postgres {
    #[track_caller]
    pub fn start() -> Self {
        let folder = Folder::empty();
        Self { server: Server::start(&folder), folder }
    }

    /// The folder in which its socket lies.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref()
    }

    /// Ends PostgreSQL as a power cut does. What was committed stays.
    #[track_caller]
    pub fn kill(&mut self) {
        self.server.end();
    }

    #[track_caller]
    pub fn start_again(&mut self) {
        self.server = Server::start(&self.folder);
    }
}

struct Server(Child);

impl Server {
    #[track_caller]
    fn start(folder: &Folder) -> Self {
        let mut command = Command::new(root().join("dev/postgres"));
        command.arg("run").arg::<&Path>(folder.as_ref()).stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::create(folder.path("log")).expect("its log");
        let mut server = Self(command.stderr(log).spawn().expect("running dev/postgres"));
        eventually("PostgreSQL is ready", || {
            let ended = server.0.try_wait().expect("its status");
            assert!(ended.is_none(), "PostgreSQL ended: {}", folder.read("log"));
            folder.lines("data/postmaster.pid").last().is_some_and(|state| state.trim() == "ready")
        });
        server
    }

    /// SIGQUIT ends all of PostgreSQL's processes at once and saves nothing. SIGKILL reaches the first process only, and a new
    /// PostgreSQL does not start before the last process has gone: so SIGKILL is only for a PostgreSQL that hangs.
    fn end(&mut self) {
        let id = self.0.id();
        let mut ended = || matches!(self.0.try_wait(), Ok(Some(_)));
        if ended() {
            return;
        }
        signal(id, "QUIT");
        let end = Instant::now() + PATIENCE;
        while !ended() && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
