//! How soon does a new instance protect? From its start to its first answer, which has to be a refusal.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::decisions::{self, BANNED, answer};
use crate::fake_lapi::FakeLapi;
use crate::report::{Report, median, quantile};
use crate::server::{Setup, Snapshot};
use crate::visitor::{Visitor, request};

const STARTS: usize = 7;
const MILLION: u64 = 1_000_000;
const THINKING: Duration = Duration::from_secs(3);

pub fn run(directory: &Path) {
    let lapi = FakeLapi::start(directory, Vec::new());
    let snapshot = Snapshot::of(MILLION, &lapi, directory);
    let alone = Setup::protected(&lapi).with("CROWDSEC_SNAPSHOT", snapshot.path());
    let without_lapi: Vec<f64> = (0..STARTS).map(|_| first_refusal(&alone, directory)).collect();

    lapi.knows(answer(decisions::many(MILLION)));
    lapi.delay(THINKING);
    lapi.down(false);
    let asking: Vec<f64> = (0..3).map(|_| first_refusal(&Setup::protected(&lapi), directory)).collect();
    let with_both: Vec<f64> = (0..STARTS).map(|_| first_refusal(&alone, directory)).collect();

    let mut report = Report::new("start", "From the start to the first answer, 1,000,000 decisions");
    report.columns(&["starts with", "first answer", "let in before", "target"]);
    let seconds =
        |all: &[f64]| format!("{:.2} s ({:.2} to {:.2})", median(all), quantile(all, 0.0), quantile(all, 1.0));
    report.row(&["a snapshot, LAPI away", &seconds(&without_lapi), "0", "≤ 1 s, 0 let in"]);
    report.row(&["a snapshot, LAPI slow", &seconds(&with_both), "0", "≤ 1 s, 0 let in"]);
    report.row(&["a LAPI that takes 3 s to answer", &seconds(&asking), "0", "0 let in"]);
    report.note("A banned visitor asks every millisecond from the moment the process is started, and any answer but 403 ends the benchmark.");
    report.finish();
}

/// Seconds until a banned visitor gets the first answer. Every answer has to be a refusal.
fn first_refusal(setup: &Setup, directory: &Path) -> f64 {
    let start = Instant::now();
    let mut server = setup.spawn(directory);
    let mut first = None;
    let ask = request("/text", &[]);
    // For a while after the first answer, too: the first poll's end must not open a gap.
    while first.is_none_or(|first: Duration| start.elapsed() < first + Duration::from_millis(500)) {
        server.still_runs();
        // Until the port is open the connection is refused: nobody is let in then.
        sleep(Duration::from_millis(1));
        let Ok(mut visitor) = Visitor::connect(BANNED, server.port) else { continue };
        assert_eq!(visitor.ask(&ask), 403, "somebody was let in {:?} after the start", start.elapsed());
        first = first.or_else(|| Some(start.elapsed()));
    }
    first.expect("an answer").as_secs_f64()
}
