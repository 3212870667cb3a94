//! Where do the decisions come from? A real CrowdSec Local API, a fresh one for each test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{env, fs, process, thread};

use serde_json::{Value, json};

use crate::{KEY, Postgres, Request, root, signal};

/// A running LAPI with an empty database and one bouncer, in a directory of its own; it ends with the test.
pub struct Lapi {
    directory: PathBuf,
    tls: bool,
    /// The folder of the logs that an agent reads; empty without an agent.
    logs: String,
    /// The folder of the PostgreSQL that LAPI shares with others; empty if its database is its own.
    postgres: String,
    printed: String,
    keeper: Option<Child>,
}

impl Lapi {
    pub fn start() -> Self {
        Self::with(false, Path::new(""), Path::new(""))
    }

    /// A LAPI that speaks HTTPS only, and knows bouncers by their certificates too.
    pub fn start_with_tls() -> Self {
        Self::with(true, Path::new(""), Path::new(""))
    }

    /// A LAPI beside an agent that reads the logs in this folder, detects attacks, and bans.
    pub fn start_with_agent(logs: &Path) -> Self {
        Self::with(false, logs, Path::new(""))
    }

    /// A LAPI that shares this database with others.
    pub fn start_on(postgres: &Postgres) -> Self {
        Self::with(false, Path::new(""), postgres.folder())
    }

    fn with(tls: bool, logs: &Path, postgres: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("lapi-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let directory = env::temp_dir().join(name);
        let [logs, postgres] = [logs, postgres].map(|path| path.to_str().expect("a plain path").to_string());
        let mut lapi = Self { directory, tls, logs, postgres, printed: String::new(), keeper: None };
        lapi.keeper = Some(lapi.keeper());
        lapi.start_again();
        lapi
    }

    /// Starts a shell that waits for the end of this test, and then ends LAPI. An interrupted test drops nothing, but its
    /// pipe to the shell closes in every case.
    fn keeper(&self) -> Child {
        let wait_and_end = r#"trap '' INT TERM; read -r _; "$0" kill; rm -rf "$LAPI_DIR""#;
        let mut keeper = Command::new("sh");
        keeper.args(["-c", wait_and_end]).arg(root().join("dev/lapi")).env("LAPI_DIR", &self.directory);
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell")
    }

    pub fn url(&self) -> &str {
        self.value("LAPI_URL")
    }

    pub fn address(&self) -> SocketAddr {
        self.url().split_once("//").and_then(|(_, address)| address.parse().ok()).expect("an address in LAPI's URL")
    }

    /// What `dev/lapi start` printed under this name.
    #[track_caller]
    pub fn value(&self, name: &str) -> &str {
        let line = self.printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in: {}", self.printed))
    }

    /// Stops LAPI as an operator does. Its database stays.
    pub fn stop(&self) {
        self.script(&["stop"]);
    }

    /// Starts LAPI once more, on the same port and with the same database.
    pub fn start_again(&mut self) {
        self.printed = self.script(&["start"]);
    }

    /// Deletes LAPI's database and starts a new LAPI on the same port, which knows the same key.
    pub fn reset(&mut self) {
        self.printed = self.script(&["reset"]);
    }

    /// Ends LAPI as a power cut does.
    pub fn kill(&self) {
        self.script(&["kill"]);
    }

    /// Makes LAPI hang: it still takes connections, and never answers.
    pub fn freeze(&self) {
        signal(self.value("LAPI_PID").parse().expect("a process id"), "STOP");
    }

    pub fn ban(&self, address: &str) {
        self.decide(&["--ip", address]);
    }

    pub fn captcha(&self, address: &str) {
        self.decide(&["--ip", address, "--type", "captcha"]);
    }

    pub fn ban_range(&self, range: &str) {
        self.decide(&["--range", range]);
    }

    /// `cscli decisions add` with these options.
    pub fn decide(&self, options: &[&str]) {
        self.cscli(&[&["decisions", "add", "--reason", "end-to-end"], options].concat());
    }

    /// `cscli decisions delete` with these options.
    pub fn revoke(&self, options: &[&str]) {
        self.cscli(&[&["decisions", "delete"], options].concat());
    }

    /// `cscli decisions import` of a CSV file with these lines; the first one names the columns.
    pub fn import(&self, lines: &[&str]) {
        let file = self.directory.join("import.csv");
        fs::write(&file, lines.join("\n") + "\n").expect("writing the file to import");
        self.cscli(&["decisions", "import", "-i", file.to_str().expect("a plain path")]);
    }

    /// A CrowdSec agent, which changes decisions much faster than `cscli` does.
    pub fn machine(&self) -> Machine {
        let (name, password) = (self.value("LAPI_MACHINE").to_string(), self.value("LAPI_PASSWORD").to_string());
        Machine { address: self.address(), name, password, token: String::new() }
    }

    /// The ids of the decisions that stand against a value, oldest first.
    pub fn ids(&self, value: &str) -> Vec<String> {
        // `cscli decisions list` shows one decision for each value, so this asks for the alerts, which hold all decisions.
        let alerts: Value =
            serde_json::from_str(&self.cscli(&["alerts", "list", "-o", "json"])).expect("JSON of cscli");
        let decisions =
            alerts.as_array().into_iter().flatten().filter_map(|alert| alert["decisions"].as_array()).flatten();
        let ended = |decision: &Value| decision["duration"].as_str().is_some_and(|left| left.starts_with('-'));
        let standing = decisions.filter(|decision| decision["value"] == value && !ended(decision));
        let mut ids: Vec<u64> = standing.filter_map(|decision| decision["id"].as_u64()).collect();
        ids.sort_unstable();
        ids.iter().map(u64::to_string).collect()
    }

    /// Runs `cscli` and gives what it printed.
    #[track_caller]
    pub fn cscli(&self, arguments: &[&str]) -> String {
        self.script(&[&["cli"], arguments].concat())
    }

    #[track_caller]
    fn script(&self, arguments: &[&str]) -> String {
        let mut tries = 0;
        loop {
            let output = self.command(arguments).output().expect("running dev/lapi");
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if output.status.success() {
                return out.into_owned();
            }
            // LAPI may refuse a write during a bouncer's poll, which happens on a busy machine.
            let unlucky = err.contains("database is locked") && tries < 5;
            assert!(unlucky, "dev/lapi {arguments:?}: {}\n{out}{err}", output.status);
            tries += 1;
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(root().join("dev/lapi"));
        command.args(arguments).stdin(Stdio::null());
        command.env("LAPI_DIR", &self.directory).env("LAPI_PORT", "auto").env("LAPI_KEY", KEY);
        command.env("LAPI_TLS", if self.tls { "1" } else { "0" }).env("LAPI_AGENT", &self.logs);
        command.env("LAPI_POSTGRES", &self.postgres);
        command
    }
}

/// A CrowdSec agent, which tells LAPI what to decide. After a restart of LAPI it logs in again if it has to.
pub struct Machine {
    address: SocketAddr,
    name: String,
    password: String,
    token: String,
}

impl Machine {
    /// Bans these addresses. Writes one alert for each, as CrowdSec's own agent does.
    pub fn add(&mut self, addresses: &[&str], duration: &str) {
        let output = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().expect("running date");
        let now = String::from_utf8_lossy(&output.stdout).trim().to_string();
        let alert = |value: &&str| {
            json!({
                "scenario": "soak", "scenario_hash": "", "scenario_version": "", "message": "", "events_count": 1,
                "start_at": now, "stop_at": now, "capacity": 0, "leakspeed": "0", "simulated": false, "events": [],
                "source": { "scope": "Ip", "value": value },
                "decisions": [{ "scope": "Ip", "value": value, "type": "ban", "duration": duration,
                                "scenario": "soak", "origin": "crowdsec" }],
            })
        };
        let alerts: Vec<_> = addresses.iter().map(alert).collect();
        self.tell("POST", "/v1/alerts", Some(json!(alerts).to_string()));
    }

    pub fn delete(&mut self, address: &str) {
        self.tell("DELETE", &format!("/v1/decisions?ip={address}"), None);
    }

    /// Repeats a request until LAPI takes it: a poll locks LAPI's database at times.
    fn tell(&mut self, method: &str, target: &str, body: Option<String>) {
        let mut last = String::new();
        for _ in 0..100 {
            let request = Request::new(self.address, method, target);
            let request = request.header("Authorization", format!("Bearer {}", self.token));
            let request = request.header("User-Agent", "machine/v1.0.0");
            let answer = match &body {
                Some(body) => request.body("application/json", body).send(),
                None => request.send(),
            };
            match answer.status {
                200 | 201 => return,
                401 => self.log_in(),
                _ => thread::sleep(Duration::from_millis(50)),
            }
            last = answer.everything();
        }
        panic!("LAPI does not take {method} {target}: {last}");
    }

    fn log_in(&mut self) {
        let body = json!({ "machine_id": self.name, "password": self.password, "scenarios": [] }).to_string();
        let request = Request::new(self.address, "POST", "/v1/watchers/login").header("User-Agent", "machine/v1.0.0");
        let answer = request.body("application/json", &body).send();
        // While LAPI's database is locked, the answer has no token, and the caller tries again.
        self.token = answer.json()["token"].as_str().unwrap_or_default().to_string();
    }
}

impl Drop for Lapi {
    fn drop(&mut self) {
        // `wait` first closes the pipe, which tells the shell that the test has ended.
        let _ = self.keeper.take().map(|mut keeper| keeper.wait());
    }
}
