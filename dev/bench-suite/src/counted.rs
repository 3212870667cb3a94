//! How are the instructions of one request counted? In several applications under callgrind, each asked many times.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::decisions::Chance;
use crate::report::mean_and_error;
use crate::server::{Server, Setup, Snapshot, root};
use crate::visitor::{V4, Visitor, request};

/// Connections to each process, one after the other.
pub const VISITORS: usize = 6;
/// Requests that are counted on each connection, after as many that are not counted.
pub const ROUNDS: usize = 20;
/// Requests that other clients send before each measured connection. They bring each process into another memory state.
/// Without them all processes of one kind would share one state, and its effect would look like a cost.
const OTHERS: usize = 30;
/// Pause between two requests, so that the worker always sleeps when a request comes. A worker that is still awake
/// takes fewer instructions, and the counts would vary.
const PAUSE: Duration = Duration::from_millis(2);

/// A kind of request.
pub struct Case {
    from: IpAddr,
    request: Vec<u8>,
    status: u16,
}

pub fn case(from: IpAddr, path: &str, headers: &[(&str, &str)], status: u16) -> Case {
    Case { from, request: request(path, headers), status }
}

/// Instructions of one request, counted in several processes.
#[derive(Clone, Copy, Default)]
pub struct Cost {
    pub mean: f64,
    /// The mean's standard error.
    pub error: f64,
}

impl Cost {
    fn of(counts: &[f64]) -> Self {
        let (mean, error) = mean_and_error(counts);
        Self { mean, error }
    }

    pub fn more_than(self, other: Self) -> String {
        let error = self.error.hypot(other.error) / other.mean;
        format!("{:+.2} % ± {:.2}", (self.mean / other.mean - 1.0) * 100.0, error * 100.0)
    }
}

/// Several processes of one kind.
pub struct Herd(Vec<Counted>);

impl Herd {
    pub fn start(processes: usize, setup: &Setup, decisions: Option<&Snapshot>, scratch: &Path) -> Self {
        Self((0..processes).map(|number| Counted::start(number, setup, decisions, scratch)).collect())
    }

    pub fn cost(&mut self, case: &Case) -> Cost {
        Cost::of(&self.0.iter_mut().map(|counted| counted.cost(case)).collect::<Vec<_>>())
    }

    /// Proves that a visitor from this address with these headers is refused.
    pub fn refuses(&self, from: IpAddr, headers: &[(&str, &str)]) {
        for Counted { server, .. } in &self.0 {
            let mut visitor = Visitor::connect(from, server.port).expect("a connection");
            assert_eq!(visitor.ask(&request("/text", headers)), 403, "no decision stands against {headers:?}");
        }
    }

    pub fn keep_profile(&self, name: &str) {
        self.0[0].keep_profile(name);
    }
}

/// An application under callgrind.
struct Counted {
    server: Server,
    /// Folder of callgrind's output files and of the pipes by which vgdb controls it.
    directory: PathBuf,
    dumps: usize,
    /// Random numbers that choose the other clients' requests, different in each process of a kind.
    chance: Chance,
}

impl Counted {
    fn start(number: usize, setup: &Setup, decisions: Option<&Snapshot>, scratch: &Path) -> Self {
        let directory = (0..).map(|n| scratch.join(format!("callgrind-{n}"))).find(|directory| !directory.exists());
        let directory = directory.expect("a free name");
        fs::create_dir(&directory).expect("a directory of our own");
        let out = format!("--callgrind-out-file={}", directory.join("out").display());
        let pipes = format!("--vgdb-prefix={}", directory.join("vgdb").display());
        // Counts not from the start: under callgrind, reading a million decisions would take minutes.
        let callgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", &out, &pipes];
        let setup = setup.clone().with("ROCKET_WORKERS", "1").under(&callgrind);
        let server = match decisions {
            Some(decisions) => setup.start_with(decisions, scratch),
            None => setup.start(scratch),
        };
        Self { server, directory, dumps: 0, chance: Chance(number as u64) }
    }

    /// Instructions of one request of this kind.
    fn cost(&mut self, case: &Case) -> f64 {
        let port = self.server.port;
        let connect = || Visitor::connect(case.from, port).expect("a connection");
        let all_ask = |visitor: &mut Visitor| {
            for _ in 0..ROUNDS {
                assert_eq!(visitor.ask(&case.request), case.status);
                sleep(PAUSE);
            }
        };
        // What happens once, and what the application does in the background after its start, is not counted.
        all_ask(&mut connect());
        self.server.settle();
        self.control(&["instrumentation", "on"]);
        let mut total = 0.0;
        for _ in 0..VISITORS {
            self.others_ask();
            let mut visitor = connect();
            all_ask(&mut visitor);
            self.control(&["zero"]);
            all_ask(&mut visitor);
            self.control(&["dump"]);
            self.dumps += 1;
            let dump = fs::read_to_string(self.dump()).expect("callgrind's dump");
            let count = dump.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a total in it");
            total += count.trim().parse::<f64>().expect("a number");
        }
        self.control(&["instrumentation", "off"]);
        let cost = total / (VISITORS * ROUNDS) as f64;
        assert!(cost > 1000.0, "callgrind counted next to nothing");
        cost
    }

    fn others_ask(&mut self) {
        let mut others = [(); 4].map(|()| Visitor::connect(V4, self.server.port).expect("a connection"));
        for _ in 0..OTHERS {
            let path = ["/text", "/page", "/static/style.css", "/missing"][self.chance.below(4) as usize];
            let size = "x".repeat(self.chance.below(2000) as usize);
            others[self.chance.below(4) as usize].ask(&request(path, &[("X-Size", &size)]));
        }
    }

    /// Writes two lists to target/bench, the costliest function first: one counts a function with its callees, one the
    /// function alone.
    fn keep_profile(&self, name: &str) {
        fs::create_dir_all(root().join("target/bench")).expect("target/bench");
        for (kind, inclusive) in [("inclusive", "--inclusive=yes"), ("own", "--inclusive=no")] {
            let output = Command::new("callgrind_annotate").args([inclusive, "--auto=no"]).arg(self.dump()).output();
            let said = String::from_utf8_lossy(&output.expect("callgrind_annotate").stdout).into_owned();
            // "4,711 ( 0.5%)  a/long/path/file.rs:function [binary]": paths and binaries only take up room.
            let short = said.lines().filter_map(|line| {
                let (cost, place) = line.split_once("%)")?;
                let (file, function) = place.split_once(".rs:").unwrap_or(("", place));
                let function = function.split(" [/").next().unwrap_or(function);
                Some(format!("{cost}%)  {}: {function}\n", file.rsplit('/').next().unwrap_or(file)))
            });
            let file = root().join(format!("target/bench/profile-{name}-{kind}.txt"));
            fs::write(file, short.collect::<String>()).expect("a profile");
        }
    }

    fn dump(&self) -> PathBuf {
        self.directory.join(format!("out.{}", self.dumps))
    }

    /// Sends callgrind a command.
    fn control(&self, command: &[&str]) {
        let mut vgdb = Command::new("vgdb");
        vgdb.arg(format!("--vgdb-prefix={}", self.directory.join("vgdb").display()));
        vgdb.arg(format!("--pid={}", self.server.pid())).args(command);
        let output = vgdb.output().expect("vgdb, of Debian's valgrind");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
