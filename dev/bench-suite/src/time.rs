//! How long does it take to take over an answer? Full answers beside a bare transfer, deltas by what changes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crowdsec::answer::read_answer;
use crate::crowdsec::decisions::{DecisionSet, Scopes, Types};
use crate::decisions::{self, BANNED, Chance, answer, answer_that_ends};
use crate::fake_lapi::FakeLapi;
use crate::report::{Report, median, quantile, thousands};
use crate::server::{Setup, root};

const MILLION: u64 = 1_000_000;
const TURNS: usize = 7;

pub fn run(directory: &Path) {
    let mut report = Report::new("time", "Time to take over");
    report.columns(&[
        "1,000,000 decisions, from",
        "bare transfer (curl)",
        "start to first refusal",
        "ratio (all turns)",
        "target",
    ]);
    let lapi = RealLapi::start(directory);
    lapi.fill();
    let url = lapi.value("LAPI_URL");
    beside_curl(&mut report, directory, "the real LAPI", url, &[], lapi.value("LAPI_KEY"), "≤ 1.1");
    drop(lapi);
    let fake = FakeLapi::start(directory, answer(decisions::many(MILLION)));
    let socket = ["--unix-socket", fake.socket()];
    beside_curl(&mut report, directory, "a socket, at memory's speed", fake.socket(), &socket, "bench", "");

    let json = answer(decisions::many(MILLION));
    let set = Set::new();
    report.columns(&["in one thread, nobody else asking", "decisions", "time", "each", "target"]);
    let mut row = |what: &str, count: u64, times: &[f64], target: &str| {
        let time = median(times);
        let (number, each) = (thousands(count as f64), format!("{:.2} µs", time * 1e6 / count.max(1) as f64));
        report.row(&[
            what,
            if count > 0 { &number } else { "" },
            &format!("{:.2} ms", time * 1e3),
            if count > 0 { &each } else { "" },
            target,
        ]);
    };
    let floor = timed(|| read_answer(&*json, &Scopes::default(), &mut drop).expect("LAPI's JSON"));
    row("reading a full answer and throwing it away", MILLION, &[floor], "the floor of taking it over");
    row("taking it over for the first time", MILLION, &[timed(|| set.takes_all(&json))], "");
    row("taking it over once more", MILLION, &[timed(|| set.takes_all(&json)), timed(|| set.takes_all(&json))], "");
    for count in [100, 1000, 10_000] {
        let (mut adding, mut ending) = (Vec::new(), Vec::new());
        for _ in 0..15 {
            let new: Vec<_> = decisions::many(MILLION + count).skip(MILLION as usize).collect();
            let (added, deleted) = (answer(new.iter().copied()), answer_that_ends(new));
            adding.push(timed(|| set.takes_changes(&added)));
            assert_eq!(set.set.len() as u64, MILLION + count);
            ending.push(timed(|| set.takes_changes(&deleted)));
            assert_eq!(set.set.len() as u64, MILLION);
        }
        row("a delta that adds", count, &adding, "each as before");
        row("a delta that ends", count, &ending, "each as before");
    }
    let mut visitors: Vec<IpAddr> = decisions::many(MILLION).map(|decision| decision.network().addr()).collect();
    let mut chance = Chance(4711);
    // Shuffled: in the order of the list they would lie beside each other in memory.
    (1..visitors.len()).rev().for_each(|at| visitors.swap(at, chance.below(at as u64 + 1) as usize));
    let found = |visitors: &[IpAddr]| {
        visitors.iter().filter(|a| !set.set.against(**a, || None, || None, set.now).is_empty()).count()
    };
    let hits = timed(|| assert_eq!(found(&visitors), visitors.len()));
    row("look-ups that find a decision, from memory", MILLION, &[hits], "each ≤ 0.5 µs");
    let strangers: Vec<IpAddr> = (0..MILLION).map(|_| chance.v4().into()).collect();
    let misses = timed(|| assert!(found(&strangers) < strangers.len() / 2));
    row("look-ups of which most find none", MILLION, &[misses], "each ≤ 0.5 µs");
    report.note("The real LAPI is 1.4.6 with SQLite, which is asked by curl and by a starting application in turn, each with an empty memory.");
    report.finish();
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// How long an application takes to start, beside a curl that throws the same answer away.
fn beside_curl(report: &mut Report, directory: &Path, name: &str, at: &str, how: &[&str], key: &str, target: &str) {
    let (mut bare, mut starts) = (Vec::new(), Vec::new());
    let mut transfer = || {
        let base = if how.is_empty() { at.trim_end_matches('/') } else { "http://unix" };
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--output", "/dev/null", "--write-out", "%{time_total} %{size_download}"])
            .args(how);
        curl.args([
            "--header",
            &format!("X-Api-Key: {key}"),
            &format!("{base}/v1/decisions/stream?startup=true&dedup=false"),
        ]);
        let said = curl.output().expect("curl").stdout;
        let said = String::from_utf8(said).expect("curl's figures");
        let (seconds, bytes) = said.split_once(' ').expect("curl's figures");
        assert!(bytes.trim().parse::<u64>().is_ok_and(|bytes| bytes > 100 * MILLION), "curl got too little: {said}");
        bare.push(seconds.parse::<f64>().expect("curl's time"));
    };
    let mut start = || {
        let start = Instant::now();
        let setup = Setup::protected_by(at).with("CROWDSEC_API_KEY", key).with("CROWDSEC_STARTUP_TIMEOUT", "10m");
        let server = setup.start(directory);
        assert_eq!(server.ask(BANNED, "/text"), 403, "the first answer was not taken over");
        starts.push(start.elapsed().as_secs_f64());
    };
    for turn in 0..TURNS {
        // They take turns, because the second may find LAPI's memory warm.
        let mut both: [&mut dyn FnMut(); 2] = [&mut transfer, &mut start];
        both.rotate_left(turn % 2);
        both.into_iter().for_each(|ask| ask());
    }
    let ratios: Vec<f64> = starts.iter().zip(&bare).map(|(start, bare)| start / bare).collect();
    let ratio = format!("{:.2} ({:.2} to {:.2})", median(&ratios), quantile(&ratios, 0.0), quantile(&ratios, 1.0));
    let seconds = |all: &[f64]| format!("{:.2} s", median(all));
    report.row(&[name, &seconds(&bare), &seconds(&starts), &ratio, target]);
}

/// A decision set, and when it is asked.
struct Set {
    set: Arc<DecisionSet>,
    now: Instant,
}

impl Set {
    fn new() -> Self {
        let now = Instant::now();
        Self { set: Arc::new(DecisionSet::new(now, Types::default())), now }
    }

    fn takes_all(&self, json: &[u8]) {
        let mut everything = self.set.everything(self.now);
        read_answer(json, &Scopes::default(), &mut |entry| everything.take(entry)).expect("LAPI's JSON");
        everything.take_over(self.now, Duration::ZERO).settle(true);
        assert_eq!(self.set.len() as u64, MILLION);
    }

    fn takes_changes(&self, json: &[u8]) {
        let mut changes = self.set.changes(self.now);
        read_answer(json, &Scopes::default(), &mut |entry| changes.take(entry)).expect("LAPI's JSON");
        changes.complete();
    }
}

/// CrowdSec's own LAPI, in a directory of its own.
struct RealLapi<'a> {
    directory: &'a Path,
    printed: String,
}

impl<'a> RealLapi<'a> {
    fn start(directory: &'a Path) -> Self {
        let mut lapi = Self { directory, printed: String::new() };
        lapi.printed = lapi.script("start");
        lapi
    }

    fn script(&self, command: &str) -> String {
        let mut script = Command::new(root().join("dev/lapi"));
        let output =
            script.arg(command).env("LAPI_DIR", self.directory.join("real-lapi")).stdin(Stdio::null()).output();
        let output = output.expect("dev/lapi");
        assert!(output.status.success(), "dev/lapi {command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    fn value(&self, name: &str) -> &str {
        let line = self.printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.expect("a line of dev/lapi's")
    }

    /// Writes a million decisions into LAPI's database: over its API that takes hours. The columns with addresses as numbers
    /// stay empty: only questions for one address use them.
    fn fill(&self) {
        let mut sqlite =
            Command::new("sqlite3").arg(self.value("LAPI_DB")).stdin(Stdio::piped()).spawn().expect("sqlite3");
        let mut sql = String::from("BEGIN IMMEDIATE;\n");
        let all: Vec<_> = decisions::many(MILLION).collect();
        for some in all.chunks(1000) {
            sql.push_str("INSERT INTO decisions (created_at, updated_at, until, scenario, type, scope, value, origin, simulated) VALUES\n");
            for (place, decision) in some.iter().enumerate() {
                let time = |seconds| format!("strftime('%Y-%m-%d %H:%M:%f000000+00:00', 'now', '+{seconds} seconds')");
                let (now, until) = (time(0), time(decision.seconds));
                let (scenario, scope) = (decision.scenario(), decision.scope());
                let (value, origin) = (decision.value(), decision.origin());
                let comma = if place > 0 { "," } else { "" };
                writeln!(sql, "{comma}({now},{now},{until},'{scenario}','ban','{scope}','{value}','{origin}',0)")
                    .expect("text");
            }
            sql.push_str(";\n");
        }
        sql.push_str("COMMIT;\n");
        sqlite.stdin.take().expect("its input").write_all(sql.as_bytes()).expect("sqlite3 takes it all");
        assert!(sqlite.wait().expect("its status").success(), "sqlite3 cannot fill LAPI's database");
    }
}

impl Drop for RealLapi<'_> {
    fn drop(&mut self) {
        self.script("kill");
    }
}
