//! Where do the decisions come from? A real CrowdSec Local API, a fresh one for each test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use serde_json::Value;

use crate::{KEY, root, signal};

/// A running LAPI with an empty database and one bouncer, in a directory of its own; it ends with the test.
pub struct Lapi {
    directory: PathBuf,
    tls: bool,
    printed: String,
    keeper: Option<Child>,
}

impl Lapi {
    pub fn start() -> Self {
        Self::with_tls(false)
    }

    /// One that speaks HTTPS alone, and knows bouncers by their certificates too.
    pub fn start_with_tls() -> Self {
        Self::with_tls(true)
    }

    fn with_tls(tls: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("lapi-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let mut lapi = Self { directory: env::temp_dir().join(name), tls, printed: String::new(), keeper: None };
        lapi.keeper = Some(lapi.keeper());
        lapi.start_again();
        lapi
    }

    /// Waits for the end of this test, and ends the LAPI then. A test that is interrupted drops nothing, but whatever
    /// its end, the pipe to the keeper closes.
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

    /// Stops it as an operator does. Its database stays.
    pub fn stop(&self) {
        self.script(&["stop"]);
    }

    /// Starts it once more, on the same port and with the same database.
    pub fn start_again(&mut self) {
        self.printed = self.script(&["start"]);
    }

    /// Throws its database away and starts it once more, as a new one on the same port that knows the same key.
    pub fn reset(&mut self) {
        self.printed = self.script(&["reset"]);
    }

    /// Ends it as a power cut does.
    pub fn kill(&self) {
        self.script(&["kill"]);
    }

    /// Makes it hang: connections are still taken, and nothing is ever answered.
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

    /// The ids of the decisions that stand against a value, oldest first.
    pub fn ids(&self, value: &str) -> Vec<String> {
        // `cscli decisions list` shows one decision for each value, so the alerts behind them are asked for.
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
            // LAPI refuses a write when a bouncer's poll comes between, which happens on a busy machine.
            let unlucky = err.contains("database is locked") && tries < 5;
            assert!(unlucky, "dev/lapi {arguments:?}: {}\n{out}{err}", output.status);
            tries += 1;
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(root().join("dev/lapi"));
        command.args(arguments).stdin(Stdio::null());
        command.env("LAPI_DIR", &self.directory).env("LAPI_PORT", "auto").env("LAPI_KEY", KEY);
        command.env("LAPI_TLS", if self.tls { "1" } else { "0" });
        command
    }
}

impl Drop for Lapi {
    fn drop(&mut self) {
        // Waiting closes the pipe first.
        let _ = self.keeper.take().map(|mut keeper| keeper.wait());
    }
}
