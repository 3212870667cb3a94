//! How is the measured application run? As a process of its own, which is proven to be plain or protected.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::decisions::{self, BANNED};
use crate::fake_lapi::FakeLapi;
use crate::visitor::{V4, Visitor, request};

/// The address that the application takes for a proxy's, where a benchmark wants a proxy.
pub const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));

/// Longer than any step takes, also under valgrind.
const PATIENCE: Duration = Duration::from_secs(300);

/// The folder of the template, where Rocket.toml and the templates lie.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[derive(Clone)]
pub struct Setup {
    variables: Vec<(String, String)>,
    wrapper: Vec<String>,
}

impl Setup {
    pub fn plain() -> Self {
        Self { variables: Vec::new(), wrapper: Vec::new() }.with("BENCH_BOUNCER", "plain")
    }

    /// An application that is protected by this LAPI's decisions.
    pub fn protected(lapi: &FakeLapi) -> Self {
        Self::protected_by(lapi.socket())
    }

    pub fn protected_by(api_url: &str) -> Self {
        let setup = Self::plain().with("BENCH_BOUNCER", "protected").with("CROWDSEC_API_KEY", "bench");
        setup
            .with("CROWDSEC_API_URL", api_url)
            .with("CROWDSEC_UPDATE_FREQUENCY", "1h")
            .with("CROWDSEC_RESYNC_FREQUENCY", "2h")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(other, _)| other != name);
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Runs the application by this command, whose last arguments become the application's own command.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.into()).collect();
        self
    }

    pub fn is_protected(&self) -> bool {
        self.variables.contains(&("BENCH_BOUNCER".into(), "protected".into()))
    }

    /// Starts the application without waiting for it.
    pub fn spawn(&self, directory: &Path) -> Server {
        let port = free_port();
        // The kernel ends the application when the benchmark ends, however the benchmark ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).args(&self.wrapper);
        command.arg(std::env::current_exe().expect("this program's path").with_file_name("bench-app"));
        command.current_dir(root()).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // glibc's memory settings, such as deploy/ has.
        command.envs(std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"MALLOC_")));
        // Connections over IPv4 reach this address too.
        command.env("ROCKET_ADDRESS", "::").env("ROCKET_PORT", port.to_string());
        command.env("ROCKET_SECRET_KEY", "10h5RqdGiNc0BaY342uaF92FKgzn6rQplS3CctCQhfA=");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let log = directory.join(format!("log-{port}"));
        let (out, err) = (File::create(&log).expect("a log"), File::options().append(true).open(&log).expect("a log"));
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Server { process: command.spawn().expect("setpriv, of Debian's util-linux"), port, log }
    }

    /// Starts the application, waits until it answers, and proves that it is plain or protected as was asked.
    pub fn start(&self, directory: &Path) -> Server {
        let mut server = self.spawn(directory);
        server.wait();
        let health = server.ask(V4, "/crowdsec/health");
        if self.is_protected() {
            assert!(matches!(health, 200 | 503), "no bouncer answers at /crowdsec/health: {health}");
        } else {
            assert_eq!((health, server.ask(BANNED, "/text")), (404, 200), "the plain application has a bouncer");
        }
        server
    }

    /// Starts the application with a snapshot's decisions, and proves that it refuses and admits.
    pub fn start_with(&self, decisions: &Snapshot, directory: &Path) -> Server {
        let server = self.clone().with("CROWDSEC_SNAPSHOT", decisions.path()).start(directory);
        assert_eq!(server.ask(BANNED, "/text"), 403, "the protected application lets a banned visitor in");
        assert_eq!(server.ask(V4, "/text"), 200);
        server
    }
}

/// A port below those that the kernel gives to outgoing connections: a visitor that waits for a server on one of those
/// ports might connect to itself.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (process::id() % 20_000) as u16;
    let mut ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed));
    ports.find(|port| TcpListener::bind(("::", *port)).is_ok()).expect("a free port")
}

/// Waits until this holds; if it never does, the benchmark ends.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "in {PATIENCE:?} not even once: {what}");
        sleep(Duration::from_millis(2));
    }
}

/// The path of a snapshot that the application wrote when it knew a number of decisions.
#[derive(Clone)]
pub struct Snapshot(String);

impl Snapshot {
    /// Has an application ask for this many decisions, write a snapshot and end. The LAPI is down afterwards.
    pub fn of(count: u64, lapi: &FakeLapi, directory: &Path) -> Self {
        let file = directory.join(format!("snapshot-{count}"));
        let path = file.to_str().expect("a plain path");
        lapi.knows(decisions::answer(decisions::many(count)));
        lapi.down(false);
        let server = Setup::protected(lapi).with("CROWDSEC_SNAPSHOT", path).start(directory);
        eventually("the application has written a snapshot", || file.is_file());
        server.stop();
        lapi.down(true);
        Self(path.into())
    }

    pub fn path(&self) -> &str {
        &self.0
    }
}

pub struct Server {
    process: Child,
    pub port: u16,
    log: PathBuf,
}

impl Server {
    /// Waits until the application answers.
    pub fn wait(&mut self) {
        let end = Instant::now() + PATIENCE;
        while Visitor::connect(V4, self.port).is_err() {
            self.still_runs();
            assert!(Instant::now() < end, "the application does not answer");
            sleep(Duration::from_millis(5));
        }
    }

    pub fn still_runs(&mut self) {
        if let Some(status) = self.process.try_wait().expect("its status") {
            panic!("the application ended: {status}");
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The status that a visitor from this address gets.
    pub fn ask(&self, from: IpAddr, path: &str) -> u16 {
        Visitor::connect(from, self.port).expect("a connection").ask(&request(path, &[]))
    }

    /// Seconds of processor time that the application has used, to a hundredth.
    pub fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a running application");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / 100.0
    }

    /// A line of the kernel's account of the application's memory, in bytes.
    pub fn memory(&self, line: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running application");
        let value = status.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':')).expect("the line");
        value.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
    }

    /// Waits until the application has nothing more to do.
    pub fn settle(&self) {
        let (end, mut quiet, mut before) = (Instant::now() + PATIENCE, 0, self.cpu());
        while quiet < 5 {
            sleep(Duration::from_millis(200));
            let now = self.cpu();
            quiet = if now - before < 0.005 { quiet + 1 } else { 0 };
            before = now;
            assert!(Instant::now() < end, "the application does not come to rest");
        }
    }

    /// Asks the application to end, and waits until it has ended.
    pub fn stop(mut self) {
        let asked = Command::new("kill").arg(self.pid().to_string()).status().expect("kill");
        assert!(asked.success(), "the application was gone");
        self.process.wait().expect("its status");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("--- the application's log ---\n{}", self.log());
        }
    }
}
