//! What is tested? The application as it was built, run as a process of its own.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::iter;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::process::{binary, command};
use crate::{KEY, Lapi, PATIENCE, Request, eventually, signal};

/// A running application; it ends with the test.
pub struct App {
    address: SocketAddr,
    process: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    /// Whether the readers of its standard output and error stop after their next line.
    deaf: Arc<AtomicBool>,
}

/// An application that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub log: String,
}

/// What the index page answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Welcome,
    Ban,
    Captcha,
    NotYet,
}

impl App {
    /// An application that polls this LAPI each second; `settings` take precedence. The debug profile by itself reads
    /// `X-Forwarded-For` from loopback, and takes a request without that header for the developer's. Another profile is told
    /// here to trust loopback, and refuses requests from there without that header.
    #[track_caller]
    pub fn polling(lapi_url: &str, settings: &[(&str, &str)]) -> Self {
        Self::start(&Self::usual(lapi_url, settings))
    }

    /// The settings of [`App::polling`].
    pub fn usual<'a>(lapi_url: &'a str, settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let usual = [
            ("CROWDSEC_API_URL", lapi_url),
            ("CROWDSEC_API_KEY", KEY),
            ("CROWDSEC_UPDATE_FREQUENCY", "1s"),
            ("CROWDSEC_DECISIONS", "[]"),
            // Tests count the requests to their own LAPIs, and usage metrics would be among these.
            ("CROWDSEC_USAGE_METRICS", "off"),
            ("CROWDSEC_CAPTCHA_PROVIDER", "recaptcha"),
            ("CROWDSEC_CAPTCHA_SITE_KEY", "end-to-end-site-key"),
            ("CROWDSEC_CAPTCHA_SECRET_KEY", "end-to-end-captcha-secret"),
        ];
        let debug = settings.iter().all(|(name, _)| *name != "ROCKET_PROFILE");
        let trusted: &[(&str, &str)] = if debug { &[] } else { &[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.0/8")] };
        [usual.as_slice(), trusted, settings].concat()
    }

    /// An application with the environment that [`command`] sets.
    #[track_caller]
    pub fn start(environment: &[(&str, &str)]) -> Self {
        Self::launch(environment)
            .unwrap_or_else(|ended| panic!("the application ended with {}:\n{}", ended.status, ended.log))
    }

    /// Expects that the application ends by itself instead of launching.
    #[track_caller]
    pub fn fails_to_start(environment: &[(&str, &str)]) -> Ended {
        Self::launch(environment).err().expect("the application launched")
    }

    fn launch(environment: &[(&str, &str)]) -> Result<Self, Ended> {
        Self::launched(command(environment))
    }

    /// Runs a command that a test may have changed, until it launches or ends. Its output has to be piped.
    pub fn launched(mut command: Command) -> Result<Self, Ended> {
        let mut process = command
            .spawn()
            .unwrap_or_else(|e| panic!("{} (cargo build at the root comes first): {e}", binary().display()));
        let log = Arc::new(Mutex::new(String::new()));
        let (out, err) = (process.stdout.take().expect("its stdout"), process.stderr.take().expect("its stderr"));
        let deaf = Arc::new(AtomicBool::new(false));
        let readers = vec![keep(out, &log, &deaf), keep(err, &log, &deaf)];
        let mut app = Self { address: ([127, 0, 0, 1], 0).into(), process, log, readers, deaf };
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(port) = app.port() {
                app.address.set_port(port);
                return Ok(app);
            }
            if app.process.try_wait().expect("its status").is_some() {
                return Err(app.wait());
            }
            assert!(Instant::now() < end, "neither launched nor ended within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The port in the line with which Rocket says that it has launched.
    fn port(&self) -> Option<u16> {
        let log = self.log.lock().unwrap();
        let line =
            log.lines().find_map(|line| line.split_once("Rocket has launched from ")).map(|(_, address)| address)?;
        // In a log in JSON, more text follows the address.
        let address = line.split(['"', ' ']).next()?;
        address.rsplit(':').next()?.parse().ok()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The memory that it holds now, in megabytes.
    #[track_caller]
    pub fn memory(&self) -> u64 {
        self.kilobytes("VmRSS:") / 1024
    }

    /// The most memory that it has held so far, in kilobytes.
    #[track_caller]
    pub fn peak_memory(&self) -> u64 {
        self.kilobytes("VmHWM:")
    }

    #[track_caller]
    fn kilobytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("its memory");
        line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse().ok()).expect("a number")
    }

    pub fn get(&self, target: &str) -> Request {
        self.request("GET", target)
    }

    pub fn request(&self, method: &str, target: &str) -> Request {
        Request::new(self.address, method, target)
    }

    /// What the index page answers to this address.
    #[track_caller]
    pub fn verdict(&self, address: &str) -> Verdict {
        let answer = self.get("/").from(address).send();
        match answer.status {
            200 => Verdict::Welcome,
            403 if answer.text().contains(r#"action="/crowdsec/captcha""#) => Verdict::Captcha,
            403 => Verdict::Ban,
            503 => Verdict::NotYet,
            _ => panic!("neither welcome nor a refusal: {}", answer.everything()),
        }
    }

    /// Waits until this address gets this verdict.
    #[track_caller]
    pub fn eventually(&self, address: &str, verdict: Verdict) {
        eventually(&format!("{address} meets {verdict:?}"), || self.verdict(address) == verdict);
    }

    /// Waits until the application knows all changes that LAPI has made so far.
    #[track_caller]
    pub fn catch_up(&self, lapi: &Lapi) {
        // The poll that brings this new decision brings all earlier changes too.
        let free = iter::successors(Some(1u8), |n| n.checked_add(1)).map(|n| format!("233.252.0.{n}"));
        let marker = free.into_iter().find(|address| self.verdict(address) == Verdict::Welcome).expect("a free marker");
        lapi.ban(&marker);
        self.eventually(&marker, Verdict::Ban);
    }

    /// Everything that the application has written so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// How many lines of the log hold this text by now. The application's log thread writes a line a moment after its event:
    /// call [`App::tells`] for a line that must come.
    pub fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until this many lines of the log hold this text; fails the test if more do, or fewer after [`PATIENCE`].
    #[track_caller]
    pub fn tells(&self, text: &str, times: usize) {
        let end = Instant::now() + PATIENCE;
        while self.logged(text) < times && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.logged(text), times, "lines with {text:?}: {}", self.log());
    }

    pub fn signal(&self, name: &str) {
        signal(self.process.id(), name);
    }

    /// Makes the application write a line by calling `write`, and then closes the reading end of its standard output.
    #[track_caller]
    pub fn close_stdout(&self, write: impl FnOnce()) {
        self.deaf.store(true, Ordering::SeqCst);
        write();
        eventually("its standard output is closed", || self.readers[0].is_finished());
    }

    /// Asks the application to end, as a service manager does, and waits until it has ended.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.signal("TERM");
        self.wait()
    }

    #[track_caller]
    pub fn wait(mut self) -> Ended {
        eventually("the application has ended", || self.process.try_wait().expect("its status").is_some());
        let status = self.process.wait().expect("its status");
        self.readers.drain(..).for_each(|reader| reader.join().expect("reading its log"));
        Ended { status, log: self.log() }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("--- log of the application ---\n{}", self.log());
        }
    }
}

fn keep(from: impl Read + Send + 'static, log: &Arc<Mutex<String>>, deaf: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (log, deaf) = (log.clone(), deaf.clone());
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            _ = writeln!(log.lock().unwrap(), "{}", String::from_utf8_lossy(&line));
            if deaf.load(Ordering::SeqCst) {
                break;
            }
        }
    })
}
