//! What do the admitted feel of a flood of refused requests? Their latency, beside that in a flood of ordinary ones.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::decisions::BANNED;
use crate::fake_lapi::FakeLapi;
use crate::load::Measured;
use crate::paced::{Pace, ask, millis};
use crate::report::{Report, median, quantile};
use crate::server::{Setup, Snapshot};
use crate::visitor::V4;

const ROUNDS: usize = 12;
const SECONDS: u64 = 5;

pub fn run(directory: &Path) {
    let lapi = FakeLapi::start(directory, Vec::new());
    let many = Snapshot::of(1_000_000, &lapi, directory);
    let one_core = Setup::protected(&lapi).with("ROCKET_WORKERS", "1").under(&["taskset", "-c", "0"]);
    let server = one_core.start_with(&many, directory);
    server.settle();
    // Half of the Tera pages that it can serve, so that it is busy and not drowned.
    let rate = (Measured::of(&server, "/page", "4s").per_second / 2.0).round();
    let here = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-cp", "1", &here]).output().expect("taskset");
    assert!(pinned.status.success(), "taskset cannot pin the visitors to the other core");

    let admitted = Pace { from: V4, path: "/text", status: 200, per_second: 400.0, connections: 8 };
    let flood = |from, path, status| Pace { from, path, status, per_second: rate, connections: 32 };
    let floods = [
        ("text pages", flood(V4, "/text", 200)),
        ("Tera pages", flood(V4, "/page", 200)),
        ("refused requests", flood(BANNED, "/text", 403)),
        ("answers of 403 with 4 kB of fixed words", flood(V4, "/fixed", 403)),
    ];
    let mut p50 = [const { Vec::new() }; 4];
    let mut p99 = [const { Vec::new() }; 4];
    let mut reached = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        for turn in 0..floods.len() {
            let which = (round + turn) % floods.len();
            let stop = AtomicBool::new(false);
            let (flooding, asked) = thread::scope(|scope| {
                let flooding = scope.spawn(|| ask(floods[which].1, server.port, &stop).len());
                let asking = scope.spawn(|| ask(admitted, server.port, &stop));
                thread::sleep(Duration::from_secs(SECONDS));
                stop.store(true, Ordering::Relaxed);
                (flooding.join().expect("the flood"), asking.join().expect("the admitted"))
            });
            p50[which].push(median(&millis(&asked)));
            p99[which].push(quantile(&millis(&asked), 0.99));
            reached[which].push(flooding as f64 / SECONDS as f64);
        }
    }

    let mut report = Report::new("flood", "Admitted visitors in a flood");
    let columns = [
        "flood of",
        "answered a second",
        "p50 of the admitted",
        "p99 of the admitted",
        "of the p99 among text pages",
        "among Tera pages",
        "target",
    ];
    report.columns(&columns);
    for (which, (name, _)) in floods.iter().enumerate() {
        let of = |floor: usize| {
            let ratios: Vec<f64> = p99[which].iter().zip(&p99[floor]).map(|(this, floor)| this / floor).collect();
            format!("{:.2} ({:.2} to {:.2})", median(&ratios), quantile(&ratios, 0.0), quantile(&ratios, 1.0))
        };
        let target = if which == 2 { "≤ 1.2 of ordinary ones" } else { "" };
        let milliseconds = |values: &[f64]| format!("{:.2} ms", median(values));
        let reached = format!("{:.0} of {rate}", median(&reached[which]));
        report.row(&[name, &*reached, &milliseconds(&p50[which]), &milliseconds(&p99[which]), &of(0), &of(1), target]);
    }
    report.note(&format!(
        "Medians of {ROUNDS} turns of {SECONDS} s. Half as many requests a second flood in as it can serve Tera pages, and 400 of the \
         admitted, each at its time whatever the server does. The fixed words are a page of the application's, for visitors who are let \
         in: what the bare sending of as much as a refusal does. One worker on one core, all visitors on the other; 1,000,000 decisions."
    ));
    report.finish();
}
