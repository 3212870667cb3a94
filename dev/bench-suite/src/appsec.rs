//! What does a question to AppSec add to a request? One run measures the latency with and without a question, and what
//! gathers where AppSec queues.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::fake_lapi::FakeLapi;
use crate::report::{Report, quantile};
use crate::server::{Server, Setup};
use crate::visitor::{V4, Visitor, request};

/// Requests of each kind, over all connections and rounds.
const REQUESTS: usize = 6000;
/// The kinds take turns, so that a busy moment of the machine slows more than one kind.
const ROUNDS: usize = 6;

pub fn run(directory: &Path) {
    let lapi = FakeLapi::start(directory, crate::decisions::answer([]));
    let prompt = FakeAppSec::start(Duration::ZERO);
    let protected = Setup::protected(&lapi).with("BENCH_ROOMS", "all");
    let asking = |appsec: &FakeAppSec| protected.clone().with("CROWDSEC_APPSEC_URL", &appsec.url);
    let without = protected.start(directory);
    let with = asking(&prompt).with("CROWDSEC_APPSEC_TIMEOUT", "10s").start(directory);

    let mut report = Report::new("appsec", "Latency of a question to AppSec");
    report.columns(&["at once", "without: p50", "p99", "with: p50", "p99", "more: p50", "p99"]);
    for at_once in [1, 10, 100] {
        let (mut usual, mut judged) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            usual.extend(latencies(&without, at_once));
            judged.extend(latencies(&with, at_once));
        }
        let at = |values: &[f64]| [quantile(values, 0.5), quantile(values, 0.99)];
        let ([a, b], [c, d]) = (at(&usual), at(&judged));
        let cells = [a, b, c, d, c - a, d - b].map(|millis| format!("{millis:.2} ms"));
        report.row(&[[at_once.to_string()].as_slice(), &cells].concat());
    }
    assert!(prompt.asked.load(SeqCst) > 3 * REQUESTS / 2, "AppSec was not asked");

    let queueing = FakeAppSec::start(Duration::from_millis(150));
    let server = asking(&queueing).start(directory);
    let before = server.memory("VmRSS");
    let begin = Instant::now();
    let longest = latencies_of(&server, 200, 5).into_iter().fold(0.0, f64::max);
    report.columns(&["visitors at once", "requests", "longest", "all took", "memory more"]);
    report.row(&[
        "200, AppSec judges one request in 150 ms".into(),
        "1000".into(),
        format!("{longest:.0} ms"),
        format!("{:.1} s", begin.elapsed().as_secs_f64()),
        format!("{:.1} MB", (server.memory("VmRSS") - before) / 1e6),
    ]);
    report.note(
        "AppSec is a stand-in that answers at once, so that what is more is our question's own time and the stand-in's share of \
         the two cores, which the visitors need as well.",
    );
    report.finish();
}

/// Latency of each request in milliseconds. This many visitors come at once, and keep their connections.
fn latencies(server: &Server, at_once: usize) -> Vec<f64> {
    latencies_of(server, at_once, REQUESTS / ROUNDS / at_once)
}

fn latencies_of(server: &Server, at_once: usize, each: usize) -> Vec<f64> {
    let (port, text) = (server.port, request("/text", &[]));
    thread::scope(|scope| {
        let ask = || {
            let mut visitor = Visitor::connect(V4, port).expect("a connection");
            let once = |_| {
                let begin = Instant::now();
                assert_eq!(visitor.ask(&text), 200);
                begin.elapsed().as_secs_f64() * 1000.0
            };
            (0..each).map(once).collect::<Vec<_>>()
        };
        let visitors: Vec<_> = (0..at_once).map(|_| scope.spawn(ask)).collect();
        visitors.into_iter().flat_map(|visitor| visitor.join().expect("its latencies")).collect()
    })
}

/// An AppSec that lets everybody in. If an answer takes time, it answers one question after another.
struct FakeAppSec {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl FakeAppSec {
    fn start(takes: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("its address"));
        let (asked, turn) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<()>>::default());
        let count = asked.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (count, turn) = (count.clone(), turn.clone());
                let judge = move || {
                    count.fetch_add(1, SeqCst);
                    if !takes.is_zero() {
                        let _turn = turn.lock();
                        sleep(takes);
                    }
                };
                thread::spawn(move || serve(stream, judge));
            }
        });
        Self { url, asked }
    }
}

/// Answers question after question until the other side hangs up.
fn serve(mut stream: TcpStream, mut judge: impl FnMut()) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut head = BufReader::new(stream.try_clone().ok()?).lines();
    loop {
        // The questions here have no body.
        while !head.next()?.ok()?.is_empty() {}
        judge();
        let allow = r#"{"action":"allow","http_status":200}"#;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{allow}", allow.len())
            .ok()?;
    }
}
