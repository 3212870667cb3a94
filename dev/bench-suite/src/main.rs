//! What does protection cost? One run measures one part; `dev/bench` builds this program and lists the parts.

mod appsec;
mod counted;
mod decisions;
mod fake_lapi;
mod memory;
mod paced;
mod report;
mod requests;
mod server;
mod stall;
mod time;
mod visitor;

/// The application's own decision set, which is private there: compiled from the same files once more.
#[path = "../../../src/crowdsec"]
#[allow(dead_code, unused_imports)]
mod crowdsec {
    pub mod printable;
    pub mod decisions;
    #[path = "lapi/answer.rs"]
    pub mod answer;
}

use std::path::{Path, PathBuf};
use std::{env, fs, process};

fn main() {
    let part: fn(&Path) = match env::args().nth(1).as_deref() {
        Some("requests") => requests::run,
        Some("log") => requests::log,
        Some("memory") => memory::run,
        Some("time") => time::run,
        Some("stall") => stall::run,
        Some("appsec") => appsec::run,
        part => panic!("{part:?} is no part of the benchmarks: see dev/bench --help"),
    };
    let scratch = Scratch(env::temp_dir().join(format!("bench-{}", process::id())));
    fs::create_dir(&scratch.0).expect("a directory of our own");
    part(&scratch.0);
}

/// A directory that is deleted with the benchmark's end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
