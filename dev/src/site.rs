//! What is protected, and by whom? The application facing the internet, and a CrowdSec whose agent reads its logs.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use serde_json::Value;

use crate::{App, Folder, KEY, Lapi, Request, eventually};

/// A CrowdSec with an agent, and the application whose logs the agent reads as the shipped acquisition file says. Neither log
/// exists when the agent starts.
pub struct Site {
    pub app: App,
    pub lapi: Lapi,
    pub logs: Folder,
}

impl Site {
    pub fn start() -> Self {
        Self::with_events_in("events.log")
    }

    pub fn with_events_in(name: &str) -> Self {
        let logs = Folder::empty();
        let lapi = Lapi::start_with_agent(logs.as_ref());
        let app = facing_everybody(lapi.url(), &logs.path("access.log"), &logs.path(name));
        Self { app, lapi, logs }
    }

    /// The scenarios for which LAPI holds a ban against this address.
    pub fn bans(&self, address: &str) -> Vec<String> {
        let target = format!("/v1/decisions?ip={address}");
        let answer = Request::new(self.lapi.address(), "GET", &target).header("X-Api-Key", KEY).send();
        let decisions = answer.json();
        let scenario = |decision: &Value| decision["scenario"].as_str().expect("a scenario").to_owned();
        decisions.as_array().into_iter().flatten().map(scenario).collect()
    }

    pub fn is_refused(&self, address: &str) -> bool {
        let answer = self.app.get("/members").peer(address).send();
        assert!(matches!(answer.status, 200 | 403), "{}", answer.everything());
        answer.status == 403
    }

    /// Waits until all requests so far are in the access log.
    pub fn logs_settle(&self) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let marker = format!("/static/favicon.svg?{}", COUNT.fetch_add(1, SeqCst));
        self.app.get(&marker).peer("127.8.0.2").send();
        eventually("the marker is written", || self.logs.count("access.log", &format!("{marker} ")) == 1);
    }
}

/// An application that faces the internet by itself: a connection's address is the visitor's.
#[track_caller]
fn facing_everybody(lapi_url: &str, access_log: &Path, event_log: &Path) -> App {
    let [access_log, event_log] = [access_log, event_log].map(|path| path.to_str().expect("a plain path"));
    let settings = [
        ("CROWDSEC_TRUSTED_PROXIES", "192.0.2.0/24"),
        ("CROWDSEC_ACCESS_LOG", access_log),
        ("CROWDSEC_EVENT_LOG", event_log),
    ];
    App::polling(lapi_url, &settings)
}
