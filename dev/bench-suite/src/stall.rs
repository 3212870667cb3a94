//! Does a request wait while decisions come and go? Latencies in idle stretches and in busy ones, in one run.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::decisions::{self, BANNED, Decision, answer};
use crate::fake_lapi::FakeLapi;
use crate::paced::{Pace, Sample, ask, millis};
use crate::report::{Report, quantile};
use crate::server::{Server, Setup, eventually};
use crate::visitor::V4;

const ROUNDS: usize = 5;
const MILLION: u64 = 1_000_000;

pub fn run(directory: &Path) {
    let lapi = FakeLapi::start(directory, answer(decisions::many(MILLION)));
    let often = Setup::protected(&lapi).with("CROWDSEC_UPDATE_FREQUENCY", "1s");
    let server = often.with("CROWDSEC_STARTUP_TIMEOUT", "5m").start(directory);
    assert_eq!(server.ask(BANNED, "/text"), 403);

    let stop = AtomicBool::new(false);
    let pace = Pace { from: V4, path: "/text", status: 200, per_second: 1000.0, connections: 8 };
    let stretches = Mutex::new(Vec::new());
    let samples = thread::scope(|scope| {
        let asking = scope.spawn(|| ask(pace, server.port, &stop));
        for round in 0..ROUNDS as u64 {
            go_through(round, &lapi, &server, |kind, start| {
                stretches.lock().unwrap().push((kind, start, Instant::now()))
            });
        }
        stop.store(true, Ordering::Relaxed);
        asking.join().expect("the visitors")
    });

    let stretches = stretches.into_inner().unwrap();
    let of = |wanted: &str| -> Vec<Sample> {
        let within = |sample: &&Sample| {
            stretches.iter().any(|(kind, start, end)| *kind == wanted && (start..end).contains(&&sample.due))
        };
        samples.iter().filter(within).copied().collect()
    };
    let mut report = Report::new("stall", "Latency of admitted requests while decisions come and go");
    report.columns(&[
        "meanwhile",
        "requests",
        "p50",
        "p99",
        "p99.9",
        "of the idle p99.9",
        "longest",
        "over the idle longest",
    ]);
    let (mut idle_tail, mut idle_longest) = (f64::NAN, f64::NAN);
    for kind in KINDS {
        let latencies = millis(&of(kind));
        assert!(latencies.len() >= 1000, "only {} requests while: {kind}", latencies.len());
        let at = |share| quantile(&latencies, share);
        if kind == IDLE {
            (idle_tail, idle_longest) = (at(0.999), at(1.0));
        }
        let milliseconds = |share| format!("{:.2} ms", at(share));
        let (tail, more) = (at(0.999) / idle_tail, at(1.0) - idle_longest);
        let columns =
            [milliseconds(0.5), milliseconds(0.99), milliseconds(0.999), format!("{tail:.2}"), milliseconds(1.0)];
        report.row(
            &[[kind.to_owned(), latencies.len().to_string()].as_slice(), &columns, &[format!("{more:+.2} ms")]]
                .concat(),
        );
    }
    report.note(&format!(
        "Targets: ≤ 1.5 of the idle p99.9, and < +50 ms over the idle longest. {ROUNDS} rounds; 1,000 requests for the text page a \
         second over 8 connections. Server, visitors and LAPI share all cores."
    ));
    report.finish();
}

const IDLE: &str = "nothing";
const TAKEOVER: &str = "a full answer of 1,000,000 is taken over";
const DELTA: &str = "a delta of 10,000 is applied";
const SWEEP: &str = "10,000 of 1,010,000 expire and are swept";
const KINDS: [&str; 4] = [IDLE, TAKEOVER, DELTA, SWEEP];

/// Each kind of stretch once.
fn go_through(round: u64, lapi: &FakeLapi, server: &Server, mut stretch: impl FnMut(&'static str, Instant)) {
    let start = Instant::now();
    sleep(Duration::from_secs(5));
    stretch(IDLE, start);

    // A poll that failed makes the next one ask for everything. What it does not name any more is ended at its very
    // end, by which we see that it came to one.
    let leaving = |id: u64| Decision { id, address: [127, 0, 1, 1 + round as u8].into(), prefix: 32, seconds: 3600 };
    lapi.changes(answer([leaving(10 * MILLION + round)]));
    eventually("a decision comes by delta", || server.ask(leaving(0).address, "/text") == 403);
    lapi.down(true);
    let fulls = lapi.full_answers();
    sleep(Duration::from_millis(1500));
    lapi.down(false);
    eventually("the bouncer asks for everything", || lapi.full_answers() > fulls);
    let start = Instant::now();
    eventually("everything is taken over", || server.ask(leaving(0).address, "/text") == 200);
    stretch(TAKEOVER, start);
    sleep(Duration::from_secs(2));

    // The last one comes by loopback, to be seen.
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
    eventually("the delta is applied", || server.ask(last, "/text") == 403);
    stretch(DELTA, start);

    // Without LAPI, whatever ended is swept after each poll that fails.
    lapi.down(true);
    eventually("the delta expires", || server.ask(last, "/text") == 200);
    let start = Instant::now();
    sleep(Duration::from_secs(3));
    stretch(SWEEP, start);
    lapi.down(false);
    let fulls = lapi.full_answers();
    eventually("LAPI is back", || lapi.full_answers() > fulls);
    sleep(Duration::from_secs(2));
}
