//! What is left of the throughput? wrk against the application with the bouncer and without, turn by turn.

use std::path::Path;
use std::process::Command;

use crate::fake_lapi::FakeLapi;
use crate::report::{Report, median, quantile};
use crate::server::{Server, Setup, Snapshot};
use crate::visitor::BROWSER;

const PAIRS: usize = 10;
const SECONDS: &str = "4s";

pub fn run(directory: &Path) {
    let lapi = FakeLapi::start(directory, Vec::new());
    let few = Snapshot::of(20_000, &lapi, directory);
    let many = Snapshot::of(1_000_000, &lapi, directory);
    // One core for the server and one for wrk, so that neither takes the other's time.
    let pinned = |setup: Setup| setup.with("ROCKET_WORKERS", "1").under(&["taskset", "-c", "0"]);
    let plain = pinned(Setup::plain()).start(directory);
    let candidates = [
        ("without the bouncer, once more: the noise", pinned(Setup::plain()).start(directory)),
        ("with 20,000 decisions", pinned(Setup::protected(&lapi)).start_with(&few, directory)),
        ("with 1,000,000 decisions", pinned(Setup::protected(&lapi)).start_with(&many, directory)),
    ];

    let mut report = Report::new("load", "Throughput, beside the application without the bouncer");
    report.columns(&[
        "page",
        "application",
        "requests/s",
        "ratio (all pairs)",
        "CPU per request, ratio (all pairs)",
        "target",
    ]);
    for (page, path) in [("text", "/text"), ("Tera page", "/page")] {
        for (name, candidate) in &candidates {
            candidate.settle();
            let (mut rates, mut throughput, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
            for pair in 0..PAIRS {
                // Who comes first changes, too: whatever drifts, drifts for both.
                let (with, without) = if pair % 2 == 0 {
                    let with = Measured::of(candidate, path);
                    (with, Measured::of(&plain, path))
                } else {
                    let without = Measured::of(&plain, path);
                    (Measured::of(candidate, path), without)
                };
                rates.push(with.per_second);
                throughput.push(with.per_second / without.per_second);
                cpu.push(without.cpu / with.cpu);
            }
            let all = |ratios: &[f64]| {
                format!("{:.3} ({:.3} to {:.3})", median(ratios), quantile(ratios, 0.0), quantile(ratios, 1.0))
            };
            let rate = format!("{:.0}", median(&rates));
            report.row(&[page, name, &rate, &all(&throughput), &all(&cpu), "both ≥ 0.98, or the noise"]);
        }
    }
    report.note(&format!(
        "Medians of {PAIRS} alternating pairs of {SECONDS}; one worker on one core, wrk with 16 connections on the other. A ratio of 1 is no cost."
    ));
    report.finish();
}

pub struct Measured {
    pub per_second: f64,
    /// Seconds of processor time of one request.
    cpu: f64,
}

impl Measured {
    pub fn of(server: &Server, path: &str) -> Self {
        let before = server.cpu();
        let mut wrk = Command::new("taskset");
        wrk.args(["-c", "1", "wrk", "--threads", "1", "--connections", "16", "--duration", SECONDS]);
        for (name, value) in BROWSER {
            wrk.args(["--header", &format!("{name}: {value}")]);
        }
        let output = wrk.arg(format!("http://127.0.0.1:{}{path}", server.port)).output().expect("Debian's wrk");
        let cpu = server.cpu() - before;
        let said = String::from_utf8_lossy(&output.stdout);
        // wrk counts errors and refusals as requests, and ends well whatever it met.
        assert!(output.status.success() && !said.contains("Non-2xx") && !said.contains("Socket errors"), "wrk: {said}");
        let requests = said.lines().find_map(|line| line.trim().split_once(" requests in "));
        let requests: f64 = requests.and_then(|(count, _)| count.parse().ok()).expect("wrk's count");
        let per_second = said.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        let per_second = per_second.and_then(|rate| rate.trim().parse().ok()).expect("wrk's rate");
        assert!(requests > 100.0, "wrk: {said}");
        Self { per_second, cpu: cpu / requests }
    }
}
