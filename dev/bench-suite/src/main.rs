//! What does protection cost? One part of the benchmarks at a time; `dev/bench` builds this and says what there is.

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

/// The application's own decision set, which it gives to nobody: compiled from the same files once more.
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

/// A directory that goes with the benchmark.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
