//! A LAPI that takes usage metrics as strictly as CrowdSec's own from 1.6.3 on, and reads them as `cscli` does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

pub const KEY: &str = "a-key-of-the-tests";

/// Stands for a status in `Mode::Fails`: LAPI speaks TLS.
pub const NO_TLS: u16 = 0;

/// Stands for a status in `Mode::Fails`: a gateway answers with a page in LAPI's place.
pub const A_PAGE: u16 = 1;

/// How the fake takes a push.
#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    Good,
    /// Older than 1.6.3.
    Old,
    Fails(u16),
    /// It takes the push, and never answers.
    Hangs,
    /// It closes the connection instead of an answer.
    Cuts,
}

#[derive(Deserialize, Clone, Debug, PartialEq)]
pub struct AllMetrics {
    pub remediation_components: Option<Vec<Component>>,
}

#[derive(Deserialize, Clone, Debug, PartialEq)]
pub struct Component {
    pub name: Option<String>,
    pub r#type: Option<String>,
    pub version: Option<String>,
    pub utc_startup_timestamp: Option<i64>,
    pub feature_flags: Option<Vec<String>>,
    pub os: Option<Os>,
    #[serde(default)]
    pub metrics: Vec<Metrics>,
}

#[derive(Deserialize, Clone, Debug, PartialEq)]
pub struct Os {
    pub name: Option<String>,
    pub version: Option<String>,
}

#[derive(Deserialize, Clone, Debug, PartialEq)]
pub struct Metrics {
    pub meta: Option<Meta>,
    pub items: Option<Vec<Item>>,
}

#[derive(Deserialize, Clone, Debug, PartialEq)]
pub struct Meta {
    pub window_size_seconds: Option<i64>,
    pub utc_now_timestamp: Option<i64>,
}

#[derive(Deserialize, Clone, Debug, PartialEq)]
pub struct Item {
    pub name: Option<String>,
    pub unit: Option<String>,
    pub value: Option<f64>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// LAPI's judgement on a push: JSON and its types first, then what has to be there, then how many components there are.
pub fn judge(key: &str, body: &str) -> Result<Component, u16> {
    if key != KEY {
        return Err(403);
    }
    let all: AllMetrics = serde_json::from_str(body).map_err(|_| 400_u16)?;
    let components = all.remediation_components.unwrap_or_default();
    if !components.iter().all(is_valid) {
        return Err(422);
    }
    if components.len() == 1 { Ok(components[0].clone()) } else { Err(400) }
}

fn is_valid(component: &Component) -> bool {
    let is_short = |text: &Option<String>| text.as_ref().is_none_or(|text| text.chars().count() <= 255);
    let is_there = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty()) && is_short(text);
    let of_item = |item: &Item| {
        let labels = item.labels.values().all(|label| label.chars().count() <= 255);
        is_there(&item.name) && is_there(&item.unit) && item.value.is_some() && labels
    };
    let of_metrics = |metrics: &Metrics| {
        let meta = metrics.meta.as_ref();
        meta.is_some_and(|meta| meta.window_size_seconds.is_some() && meta.utc_now_timestamp.is_some())
            && metrics.items.as_ref().is_some_and(|items| items.iter().all(of_item))
    };
    is_short(&component.name)
        && is_there(&component.version)
        && component.utc_startup_timestamp.is_some()
        && component.os.as_ref().is_none_or(|os| is_there(&os.name) && is_there(&os.version))
        && component.metrics.iter().all(of_metrics)
}

/// What `cscli metrics show bouncers` shows: by origin ("" where there is none) and name. It drops what it takes for repeated,
/// adds up counters, and keeps the last value of each gauge.
pub fn shown(pushes: &[Component]) -> BTreeMap<(String, String), i64> {
    let (mut seen, mut sums, mut gauges) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    for metrics in pushes.iter().flat_map(|push| &push.metrics) {
        let now = metrics.meta.as_ref().and_then(|meta| meta.utc_now_timestamp).unwrap_or_default();
        for item in metrics.items.iter().flatten() {
            let label = |name: &str| item.labels.get(name).cloned().unwrap_or_default();
            let name = item.name.clone().unwrap_or_default();
            let (origin, family, value) = (label("origin"), label("ip_type"), item.value.unwrap_or_default() as i64);
            if !seen.insert((now, family.clone(), origin.clone(), name.clone(), item.unit.clone(), value)) {
                continue;
            }
            if name == "active_decisions" {
                gauges.insert((origin, name, family), value);
            } else {
                *sums.entry((origin, name)).or_default() += value;
            }
        }
    }
    for ((origin, name, _), value) in gauges {
        *sums.entry((origin, name)).or_default() += value;
    }
    sums
}

/// The fake on a port of its own, until the test ends.
#[derive(Clone)]
pub struct Lapi {
    pub url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    mode: Mode,
    /// The next answers to polls; the last one is repeated.
    decisions: Vec<String>,
    polls: usize,
    agent: String,
    tried: usize,
    pushes: Vec<Component>,
}

impl Lapi {
    pub fn new(mode: Mode, decisions: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let first = format!(r#"{{"new":[{}],"deleted":[]}}"#, decisions.join(","));
        let nothing = r#"{"new":[],"deleted":[]}"#.to_owned();
        let (decisions, agent) = (vec![first, nothing], String::new());
        let state = Arc::new(Mutex::new(State { mode, decisions, polls: 0, agent, tried: 0, pushes: Vec::new() }));
        let lapi = Self { url, state };
        let serving = lapi.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                thread::spawn(move || serving.serve(stream));
            }
        });
        lapi
    }

    pub fn mode(&self, mode: Mode) {
        self.state.lock().unwrap().mode = mode;
    }

    /// The next polls get these answers.
    pub fn answers(&self, answers: &[String]) {
        self.state.lock().unwrap().decisions = answers.to_vec();
    }

    pub fn polls(&self) -> usize {
        self.state.lock().unwrap().polls
    }

    /// The User-Agent of the last poll.
    pub fn agent(&self) -> String {
        self.state.lock().unwrap().agent.clone()
    }

    /// How many pushes came, taken or not.
    pub fn tried(&self) -> usize {
        self.state.lock().unwrap().tried
    }

    /// All pushes that it has answered with 201.
    pub fn pushes(&self) -> Vec<Component> {
        self.state.lock().unwrap().pushes.clone()
    }

    /// One request on one connection.
    fn serve(&self, mut stream: TcpStream) {
        let Some((head, body)) = read(&mut stream) else { return };
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
        };
        let (status, said) = if head.starts_with("POST /v1/usage-metrics ") {
            match self.take(&header("x-api-key").unwrap_or_default(), &body) {
                // What a server that speaks TLS says where it is asked without.
                Some(NO_TLS) => (400, "Client sent an HTTP request to an HTTPS server.\n".to_owned()),
                Some(A_PAGE) => (200, "<!DOCTYPE html><title>Welcome</title>".to_owned()),
                Some(status) => (status, String::new()),
                None => return,
            }
        } else if head.starts_with("GET /v1/decisions?") {
            // It confirms that whatever its full answers lack is gone.
            (200, "null".to_owned())
        } else {
            let mut state = self.state.lock().unwrap();
            state.polls += 1;
            state.agent = header("user-agent").unwrap_or_default();
            let all = state.decisions.len();
            (200, if all > 1 { state.decisions.remove(0) } else { state.decisions[0].clone() })
        };
        // A good push is answered without a type and without a body.
        let kind = if status == 200 { "Content-Type: application/json\r\n" } else { "" };
        let length = said.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status} Said\r\n{kind}Content-Length: {length}\r\nConnection: close\r\n\r\n{said}"
        );
    }

    /// The status of a push; `None` for no answer at all.
    fn take(&self, key: &str, body: &str) -> Option<u16> {
        let mut state = self.state.lock().unwrap();
        state.tried += 1;
        match state.mode {
            Mode::Old => Some(404),
            Mode::Fails(status) => Some(status),
            Mode::Cuts => None,
            Mode::Hangs => {
                drop(state);
                loop {
                    thread::sleep(Duration::from_millis(20));
                    if self.state.lock().unwrap().mode != Mode::Hangs {
                        return None;
                    }
                }
            }
            Mode::Good => Some(match judge(key, body) {
                Ok(component) => {
                    state.pushes.push(component);
                    201
                }
                Err(status) => status,
            }),
        }
    }
}

/// Head and body of a request.
fn read(stream: &mut TcpStream) -> Option<(String, String)> {
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(read) => all.extend_from_slice(&piece[..read]),
        }
    }
}
