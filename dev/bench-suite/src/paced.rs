//! How do visitors come who do not wait for the server? At a constant rate: Debian has no tool for that.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::visitor::{Visitor, request};

/// How many requests per second, over how many connections, and which.
#[derive(Clone, Copy)]
pub struct Pace {
    pub from: IpAddr,
    pub path: &'static str,
    pub status: u16,
    pub per_second: f64,
    pub connections: usize,
}

/// When a request was due, and how long after that its answer was there.
#[derive(Clone, Copy)]
pub struct Sample {
    pub due: Instant,
    pub latency: Duration,
}

/// Sends requests until `stop` is set. A request that is sent late, because the one before took long, counts from when it
/// was due: a server that hangs for a second delays everybody who came in that second, not one visitor.
pub fn ask(pace: Pace, port: u16, stop: &AtomicBool) -> Vec<Sample> {
    let interval = Duration::from_secs_f64(pace.connections as f64 / pace.per_second);
    let start = Instant::now();
    let one = |place: usize| {
        let mut visitor = Visitor::connect(pace.from, port).expect("a connection");
        let request = request(pace.path, &[]);
        let mut due = start + interval.mul_f64(place as f64 / pace.connections as f64);
        let mut samples = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            assert_eq!(visitor.ask(&request), pace.status, "{} from {}", pace.path, pace.from);
            samples.push(Sample { due, latency: due.elapsed() });
            due += interval;
        }
        samples
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..pace.connections).map(|place| scope.spawn(move || one(place))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a visitor who met what was expected")).collect()
    })
}

/// The latencies in milliseconds.
pub fn millis(samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| sample.latency.as_secs_f64() * 1000.0).collect()
}
