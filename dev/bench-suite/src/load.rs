//! What is left of the throughput? wrk against the application with the bouncer and without, both at once on one core.

use std::path::Path;
use std::process::Command;
use std::thread;

use crate::fake_lapi::FakeLapi;
use crate::report::{Report, mean_and_error, median, quantile};
use crate::server::{Server, Setup, Snapshot};
use crate::visitor::BROWSER;

const PAIRS: usize = 12;
const SECONDS: &str = "4s";

pub fn run(directory: &Path) {
    let lapi = FakeLapi::start(directory, Vec::new());
    let few = Snapshot::of(20_000, &lapi, directory);
    let many = Snapshot::of(1_000_000, &lapi, directory);
    // One core for the servers and one for wrk, so that neither takes the other's time.
    let pinned = |setup: Setup| setup.with("ROCKET_WORKERS", "1").under(&["taskset", "-c", "0"]);
    let (plain, protected) = (pinned(Setup::plain()), pinned(Setup::protected(&lapi)));
    let candidates: [(&str, &dyn Fn() -> Server); 3] = [
        ("without the bouncer, once more: the noise", &|| plain.start(directory)),
        ("with 20,000 decisions", &|| protected.start_with(&few, directory)),
        ("with 1,000,000 decisions", &|| protected.start_with(&many, directory)),
    ];

    let mut report = Report::new("load", "Throughput, beside the application without the bouncer");
    report.columns(&[
        "page",
        "application",
        "requests/s, of half a core",
        "throughput, ratio (all pairs)",
        "CPU time per request, ratio (all pairs)",
        "target",
    ]);
    for (page, path) in [("text", "/text"), ("Tera page", "/page")] {
        for (name, start) in candidates {
            let (mut rates, mut throughput, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
            for pair in 0..PAIRS {
                // Who starts first changes, since memory lies differently for the second.
                let (without, with) = if pair % 2 == 0 {
                    let without = plain.start(directory);
                    (without, start())
                } else {
                    let with = start();
                    (plain.start(directory), with)
                };
                let mut both = [&without, &with];
                both.rotate_left(pair / 2 % 2);
                for server in both {
                    server.settle();
                    Measured::of(server, path, "1s");
                }
                let (without, with) = thread::scope(|scope| {
                    let without = scope.spawn(|| Measured::of(&without, path, SECONDS));
                    let with = Measured::of(&with, path, SECONDS);
                    (without.join().expect("wrk's figures"), with)
                });
                rates.push(with.per_second);
                throughput.push(with.per_second / without.per_second);
                cpu.push(without.cpu / with.cpu);
            }
            let all = |ratios: &[f64]| {
                let (mean, error) = mean_and_error(ratios);
                format!("{mean:.3} ± {error:.3} ({:.3} to {:.3})", quantile(ratios, 0.0), quantile(ratios, 1.0))
            };
            let rate = format!("{:.0}", median(&rates));
            report.row(&[page, name, &rate, &all(&throughput), &all(&cpu), "both ≥ 0.98, or the noise"]);
        }
    }
    report.note(&format!(
        "Means of {PAIRS} pairs; after ± stands one standard error. A pair are two processes that were started for it, one without the \
         bouncer, which share one core for {SECONDS} and have a wrk with 16 connections each, both on the other core: whatever slows the \
         machine down slows both. They get equal shares of the core, so that the throughput says what the CPU time does; and what one \
         puts into the core's caches may push out the other's. A ratio of 1 is no cost."
    ));
    report.finish();
}

pub struct Measured {
    pub per_second: f64,
    /// Seconds of processor time of one request.
    cpu: f64,
}

impl Measured {
    pub fn of(server: &Server, path: &str, duration: &str) -> Self {
        let before = server.cpu();
        let mut wrk = Command::new("taskset");
        wrk.args(["-c", "1", "wrk", "--threads", "1", "--connections", "16", "--duration", duration]);
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
