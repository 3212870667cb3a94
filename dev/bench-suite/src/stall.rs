//! Does a request wait while decisions come and go? Latencies in idle stretches and in busy ones, in one run.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::decisions::{self, BANNED, Decision, answer};
use crate::fake_lapi::FakeLapi;
use crate::paced::{Pace, Sample, ask, millis};
use crate::report::{Report, quantile};
use crate::server::{Server, Setup, eventually};
use crate::visitor::V4;

const ROUNDS: usize = 4;
const MILLION: u64 = 1_000_000;

pub fn run(directory: &Path) {
    let lapi = FakeLapi::start(directory, answer(decisions::many(MILLION)));
    let often = Setup::protected(&lapi).with("CROWDSEC_UPDATE_FREQUENCY", "1s");
    let server = often.with("CROWDSEC_STARTUP_TIMEOUT", "5m").start(directory);
    assert_eq!(server.ask(BANNED, "/text"), 403);

    // The same requests to an application without a bouncer show which delay comes only from the shared cores.
    let next_door = Setup::plain().start(directory);

    let mut met = HashMap::<_, Vec<f64>>::new();
    for round in 0..2 * ROUNDS as u64 {
        let (asked, port) = [(Asked::Itself, server.port), (Asked::NextDoor, next_door.port)][round as usize % 2];
        let mut stretches = Vec::new();
        let samples = while_asking(USUAL, port, || {
            go_through(round, &lapi, &server, |kind, start| stretches.push((kind, start, Instant::now())));
        });
        for (kind, start, end) in stretches {
            let within: Vec<Sample> =
                samples.iter().filter(|sample| (start..end).contains(&sample.due)).copied().collect();
            met.entry((asked, kind)).or_default().extend(millis(&within));
        }
    }

    let mut report = Report::new("stall", "Latency of admitted requests while decisions come and go");
    let columns = [
        "asked",
        "meanwhile the bouncer",
        "requests",
        "p50",
        "p99",
        "p99.9",
        "of the idle p99.9",
        "longest",
        "over the idle longest",
    ];
    report.columns(&columns);
    for (asked, who) in
        [(Asked::Itself, "the protected application"), (Asked::NextDoor, "one beside it, without a bouncer")]
    {
        for kind in KINDS {
            row(&mut report, &[who, kind], &met[&(asked, kind)], &met[&(asked, IDLE)]);
        }
    }
    drop((server, next_door));

    report.columns(&[
        "asked",
        "its log",
        "requests",
        "p50",
        "p99",
        "p99.9",
        "of that without",
        "longest",
        "over that without",
    ]);
    let (without, with) = with_a_stuck_log(&lapi, directory);
    row(&mut report, &["the protected application", "none"], &without, &without);
    row(&mut report, &["another", "an access log, full, on a disk that takes nothing"], &with, &without);
    report.note(&format!(
        "Targets: ≤ 1.5 of the idle p99.9, and < +50 ms over the idle longest. {ROUNDS} rounds; 1,000 requests for the text page a \
         second over 8 connections. Servers, visitors and LAPI share all cores. The shorter a stretch, the fewer requests its \
         longest is one of. The log's file is a pipe that is full before the application starts, and its 4 MB of memory are full \
         before it is measured, so that each line is dropped and counted."
    ));
    report.finish();
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Asked {
    Itself,
    NextDoor,
}

const USUAL: Pace = Pace { from: V4, path: "/text", status: 200, per_second: 1000.0, connections: 8 };

fn while_asking(pace: Pace, port: u16, work: impl FnOnce()) -> Vec<Sample> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| ask(pace, port, &stop));
        // Stops the visitors also where the work panics: they would ask for ever.
        let _stops = Stops(&stop);
        work();
        drop(_stops);
        asking.join().expect("the visitors")
    })
}

struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn row(report: &mut Report, names: &[&str; 2], latencies: &[f64], idle: &[f64]) {
    assert!(latencies.len() >= 1000, "only {} requests: {names:?}", latencies.len());
    let at = |share| quantile(latencies, share);
    let milliseconds = |share| format!("{:.2} ms", at(share));
    let (tail, more) = (at(0.999) / quantile(idle, 0.999), at(1.0) - quantile(idle, 1.0));
    let [p50, p99, p999, longest] = [0.5, 0.99, 0.999, 1.0].map(milliseconds);
    let [who, what] = names.map(str::to_owned);
    let number = latencies.len().to_string();
    report.row(&[who, what, number, p50, p99, p999, format!("{tail:.2}"), longest, format!("{more:+.2} ms")]);
}

/// Latencies without an access log, and with a log whose disk takes nothing: a full pipe that nobody reads.
fn with_a_stuck_log(lapi: &FakeLapi, directory: &Path) -> (Vec<f64>, Vec<f64>) {
    let path = directory.join("stuck.log");
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success(), "mkfifo made no pipe");
    // Opened for reading and writing: so neither this side nor the application waits for the other to open the pipe.
    let mut pipe = File::options().read(true).write(true).open(&path).expect("the pipe");
    let full = [b'#'; 65_536];
    pipe.write_all(&full).expect("as much as a pipe holds");
    // For the warning about dropped lines.
    let setup = Setup::protected(lapi).with("BENCH_ROOMS", "all").with("ROCKET_LOG_LEVEL", "normal");
    let without = setup.start(directory);
    let with = setup.with("CROWDSEC_ACCESS_LOG", path.to_str().expect("a plain path")).start(directory);
    eventually("the log's memory is full", || {
        // As fast as the application answers.
        let pace = Pace { per_second: 1e6, connections: 16, ..USUAL };
        while_asking(pace, with.port, || sleep(Duration::from_secs(4)));
        with.log().contains("does not take all")
    });
    let mut latencies = [Vec::new(), Vec::new()];
    for turn in 0..2 * ROUNDS {
        let port = [without.port, with.port][turn % 2];
        latencies[turn % 2].extend(millis(&while_asking(USUAL, port, || sleep(Duration::from_secs(4)))));
    }
    let mut held = vec![0; 2 * full.len()];
    let number = pipe.read(&mut held).expect("what it holds");
    assert!(held[..number] == full, "the disk took something, so it was not stuck");
    let [without, with] = latencies;
    (without, with)
}

const IDLE: &str = "does nothing";
const TAKEOVER: &str = "takes over a full answer of 1,000,000";
const DELTA: &str = "applies a delta of 10,000";
const KINDS: [&str; 3] = [IDLE, TAKEOVER, DELTA];

/// Checks at most every 50 ms, so that the checks themselves do not slow the requests.
fn rarely(holds: impl FnOnce() -> bool) -> bool {
    sleep(Duration::from_millis(50));
    holds()
}

/// Each kind of stretch once.
fn go_through(round: u64, lapi: &FakeLapi, server: &Server, mut stretch: impl FnMut(&'static str, Instant)) {
    let start = Instant::now();
    sleep(Duration::from_secs(5));
    stretch(IDLE, start);

    // After a failed poll the next one asks for everything. This full answer has a decision more than the last, which shows
    // that the application has taken it over.
    let new = |round: u64| Decision {
        id: 10 * MILLION + round,
        address: [127, 0, 1, 1 + round as u8].into(),
        prefix: 32,
        seconds: 3600,
    };
    lapi.knows(answer(decisions::many(MILLION).chain((0..=round).map(new))));
    lapi.down(true);
    let fulls = lapi.full_answers();
    sleep(Duration::from_millis(1500));
    lapi.down(false);
    eventually("the bouncer asks for everything", || lapi.full_answers() > fulls);
    let start = Instant::now();
    eventually("everything is taken over", || rarely(|| server.ask(new(round).address, "/text") == 403));
    stretch(TAKEOVER, start);
    sleep(Duration::from_secs(2));

    // The last decision is on a loopback address, so that a request can show that it is applied.
    let last = IpAddr::from([127, 0, 2, 1 + round as u8]);
    let brief = |n: u64| Decision {
        id: (20 + round) * MILLION + n,
        address: if n < 9_999 { IpAddr::from([10, round as u8, (n >> 8) as u8, n as u8]) } else { last },
        prefix: 32,
        seconds: 8,
    };
    let polls = lapi.polls();
    lapi.changes(answer((0..10_000).map(brief)));
    eventually("the delta is asked for", || lapi.polls() > polls);
    let start = Instant::now();
    sleep(Duration::from_millis(500));
    eventually("the delta is applied", || rarely(|| server.ask(last, "/text") == 403));
    stretch(DELTA, start);
}
