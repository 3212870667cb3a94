//! How many instructions does a request take? Callgrind counts them; counts vary less between runs than times do.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::decisions::{self, BANNED, Chance};
use crate::fake_lapi::FakeLapi;
use crate::report::{Report, mean_and_error, thousands};
use crate::server::{PROXY, Server, Setup, Snapshot, root};
use crate::visitor::{V4, V6, Visitor, request};

/// Processes measured for each kind of application. The memory layout of a process changes its count by one or two
/// percent, so the mean of several is taken.
const PROCESSES: usize = 4;
/// Processes measured for the access log, whose cost is smaller than that difference.
const MANY: usize = 12;
/// Connections to each process, one after the other.
const VISITORS: usize = 6;
/// Requests that are counted on each connection, after as many that are not.
const ROUNDS: usize = 20;
/// Requests that other clients send before each measured connection. They bring each process into another memory state.
/// Without them all processes of one kind would share one state, and its effect would look like a cost.
const OTHERS: usize = 30;
/// Pause between two requests, so that the worker always sleeps when a request comes. A worker that is still awake
/// takes fewer instructions, and the counts would vary.
const PAUSE: Duration = Duration::from_millis(2);

/// A kind of request.
struct Case {
    from: IpAddr,
    request: Vec<u8>,
    status: u16,
}

fn case(from: IpAddr, path: &str, headers: &[(&str, &str)], status: u16) -> Case {
    Case { from, request: request(path, headers), status }
}

pub fn run(directory: &Path) {
    let lapi = FakeLapi::start(directory, Vec::new());
    let few = Snapshot::of(20_000, &lapi, directory);
    let many = Snapshot::of(1_000_000, &lapi, directory);

    let protected = Setup::protected(&lapi).with("CROWDSEC_TRUSTED_PROXIES", &PROXY.to_string());
    let mut plain = Herd::start(PROCESSES, &Setup::plain(), None, directory);
    let mut none = Herd::start(PROCESSES, &protected, None, directory);
    let mut with_few = Herd::start(PROCESSES, &protected, Some(&few), directory);
    let mut with_many = Herd::start(PROCESSES, &protected, Some(&many), directory);

    let mut report = Report::new("requests", "Cost of a request, in instructions");
    report.columns(&["admitted", "decisions", "without the bouncer", "with it", "more", "target"]);
    let (mut text_page, mut tera_page) = (Cost::default(), Cost::default());
    for (page, path) in [("text", "/text"), ("Tera page", "/page")] {
        for (visitor, from, headers) in [
            ("IPv4", V4, vec![]),
            ("IPv6", V6, vec![]),
            ("IPv4 behind a proxy", PROXY, vec![("X-Forwarded-For", "198.51.100.77")]),
            ("IPv6 behind a proxy", PROXY, vec![("X-Forwarded-For", "2001:db8:1:2:3:4:5:6")]),
        ] {
            let case = case(from, path, &headers, 200);
            let without = plain.cost(&case);
            if from == V4 {
                *(if path == "/text" { &mut text_page } else { &mut tera_page }) = without;
            }
            for (decisions, server) in [("0", &mut none), ("20,000", &mut with_few), ("1,000,000", &mut with_many)] {
                // The proxy's header costs the same, however many decisions there are.
                if from == PROXY && decisions != "1,000,000" {
                    continue;
                }
                let with = server.cost(&case);
                let (before, after) = (thousands(without.mean), thousands(with.mean));
                let cells = [format!("{page}, {visitor}"), decisions.into(), before, after, with.more_than(without)];
                report.row(&[cells.as_slice(), &["≤ +3 %".into()]].concat());
            }
        }
    }
    with_many.cost(&case(V4, "/text", &[], 200));
    with_many.keep_profile("text");
    rooms(&mut report, &mut none, &protected, directory);

    report.columns(&["refused, 1,000,000 decisions", "instructions", "of the Tera page", "of the text page", "target"]);
    let mut row = |name: &str, cost: Cost, target| {
        let ratio =
            |page: Cost| format!("{:.2} ± {:.2}", cost.mean / page.mean, cost.error.hypot(page.error) / page.mean);
        report.row(&[name, &thousands(cost.mean), &ratio(tera_page), &ratio(text_page), target]);
    };
    for (name, headers) in [("page", [].as_slice()), ("JSON", &[("Accept", "application/json")])] {
        let cost = with_many.cost(&case(BANNED, "/text", headers, 403));
        with_many.keep_profile(&format!("refused-{name}"));
        row(name, cost, "≤ 3 of the Tera page");
    }
    let fixed = plain.cost(&case(V4, "/fixed", &[], 403));
    row("the floor: 4 kB of fixed words with four headers, without the bouncer", fixed, "");
    report.note(&format!(
        "Means over {PROCESSES} processes of each kind, {VISITORS} connections to each and {ROUNDS} requests over each; after ± \
         stands one standard error. A difference of less than three standard errors may be chance. \"Without the bouncer\" \
         is the same application without the fairing. Refused requests are compared with the pages of that application."
    ));
    report.finish();
}

/// How much more an admitted request costs when the other rooms are attached, or when decisions on countries exist,
/// although neither concerns it.
fn rooms(report: &mut Report, none: &mut Herd, protected: &Setup, directory: &Path) {
    report.columns(&["admitted, text page", "with the fairing alone", "with this as well", "more", "target"]);
    let mut row = |name: &str, alone: Cost, with: Cost, target: &str| {
        report.row(&[name, &thousands(alone.mean), &thousands(with.mean), &with.more_than(alone), target]);
    };
    let direct = case(V4, "/text", &[], 200);
    let alone = none.cost(&direct);
    for (rooms, name) in
        [("metrics", "metrics"), ("all", "metrics, logs and AppSec, the latter two attached and switched off")]
    {
        let mut herd = Herd::start(PROCESSES, &protected.clone().with("BENCH_ROOMS", rooms), None, directory);
        row(name, alone, herd.cost(&direct), "≤ +1 %");
    }

    let german = case(PROXY, "/text", &[("X-Forwarded-For", "198.51.100.77"), ("CF-IPCountry", "DE")], 200);
    let [without, with] = [Vec::new(), decisions::on_countries()].map(|known| {
        let folder = (0..).map(|n| directory.join(format!("countries-{n}"))).find(|folder| !folder.exists());
        let folder = folder.expect("a free name");
        fs::create_dir(&folder).expect("a directory of our own");
        let lapi = FakeLapi::start(&folder, if known.is_empty() { decisions::answer([]) } else { known.clone() });
        let setup = Setup::protected(&lapi).with("CROWDSEC_TRUSTED_PROXIES", &PROXY.to_string());
        let setup = setup.with("CROWDSEC_SCOPES", "ip,range,country").with("CROWDSEC_COUNTRY_HEADER", "CF-IPCountry");
        let mut herd = Herd::start(PROCESSES, &setup, None, &folder);
        if !known.is_empty() {
            herd.refuses(PROXY, &[("X-Forwarded-For", "198.51.100.77"), ("CF-IPCountry", "FA")]);
        }
        herd.cost(&german)
    });
    row("a hundred Country decisions, behind a proxy that names the country", without, with, "≤ +3 %");
}

/// What the access log adds. The log adds less than two processes differ by, so more processes are measured.
pub fn log(directory: &Path) {
    let lapi = FakeLapi::start(directory, Vec::new());
    let off = Setup::protected(&lapi).with("BENCH_ROOMS", "all");
    let off = off.with("CROWDSEC_TRUSTED_PROXIES", &PROXY.to_string());
    let file = directory.join("access.log");
    let on = off.clone().with("CROWDSEC_ACCESS_LOG", file.to_str().expect("a plain path"));
    let [mut off, mut on] = [off, on].map(|setup| Herd::start(MANY, &setup, None, directory));

    let mut report = Report::new("log", "Cost of the access log, in instructions");
    report.columns(&["admitted, no decisions", "without a log", "with it", "more", "target"]);
    for (page, path) in [("text", "/text"), ("Tera page", "/page")] {
        for (visitor, from, headers) in [
            ("IPv4", V4, [].as_slice()),
            ("IPv6 behind a proxy", PROXY, &[("X-Forwarded-For", "2001:db8:1:2:3:4:5:6")]),
        ] {
            let case = case(from, path, headers, 200);
            let (off, on) = (off.cost(&case), on.cost(&case));
            let (before, after) = (thousands(off.mean), thousands(on.mean));
            report.row(&[&format!("{page}, {visitor}"), &before, &after, &on.more_than(off), "≤ +6 %"]);
        }
    }
    assert!(fs::metadata(&file).is_ok_and(|log| log.len() > 0), "nothing is in the access log");
    report.note(&format!(
        "Means over {MANY} processes of each kind, counted as `dev/bench requests` does; after ± stands one standard error. The \
         log's thread wakes ten times a second. Here each request carries more of that work than under load."
    ));
    report.finish();
}

/// Instructions of one request, counted in several processes.
#[derive(Clone, Copy, Default)]
struct Cost {
    mean: f64,
    /// The mean's standard error.
    error: f64,
}

impl Cost {
    fn of(counts: &[f64]) -> Self {
        let (mean, error) = mean_and_error(counts);
        Self { mean, error }
    }

    fn more_than(self, other: Self) -> String {
        let error = self.error.hypot(other.error) / other.mean;
        format!("{:+.2} % ± {:.2}", (self.mean / other.mean - 1.0) * 100.0, error * 100.0)
    }
}

/// Several processes of one kind.
struct Herd(Vec<Counted>);

impl Herd {
    fn start(processes: usize, setup: &Setup, decisions: Option<&Snapshot>, scratch: &Path) -> Self {
        Self((0..processes).map(|number| Counted::start(number, setup, decisions, scratch)).collect())
    }

    fn cost(&mut self, case: &Case) -> Cost {
        Cost::of(&self.0.iter_mut().map(|counted| counted.cost(case)).collect::<Vec<_>>())
    }

    /// Proves that such a visitor is refused.
    fn refuses(&self, from: IpAddr, headers: &[(&str, &str)]) {
        for Counted { server, .. } in &self.0 {
            let mut visitor = Visitor::connect(from, server.port).expect("a connection");
            assert_eq!(visitor.ask(&request("/text", headers)), 403, "no decision stands against {headers:?}");
        }
    }

    fn keep_profile(&self, name: &str) {
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
        // Not from the start: reading a million decisions would take minutes.
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
