//! Does the captcha of our own let Firefox through as well? Debian has no driver for it, but Firefox speaks Marionette itself:
//! messages of JSON over TCP, each after its length in bytes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dev::{App, Folder, PATIENCE, eventually, eventually_within};
use serde_json::{Value, json};

use crate::looks::{BANNED, WIDTHS, axe, picture_of};
use crate::{asking, at, word};

const WANTED: &str = "/members?page=2#reviews";

/// A running Firefox with a new profile; it ends with the test.
struct Firefox {
    process: Child,
    stream: BufReader<TcpStream>,
    asked: u64,
    _profile: Folder,
}

impl Firefox {
    /// A Firefox whose visitor has changed these settings.
    fn with(settings: &[(&str, Value)]) -> Self {
        let profile = Folder::empty();
        // The system chooses the port. The other settings keep Firefox from talking to anybody but us.
        let own = [
            ("marionette.port", json!(0)),
            ("browser.startup.page", json!(0)),
            ("datareporting.policy.dataSubmissionEnabled", json!(false)),
            ("network.captive-portal-service.enabled", json!(false)),
            ("network.connectivity-service.enabled", json!(false)),
            ("network.proxy.type", json!(0)),
            ("services.settings.server", json!("data:,")),
        ];
        let line = |(name, value): &(&str, Value)| format!("user_pref({}, {value});\n", json!(name));
        profile.write("user.js", own.iter().chain(settings).map(line).collect::<String>());
        let mut command = Command::new("firefox-esr");
        command
            .args(["--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile"])
            .arg(profile.path(""));
        command.env("HOME", profile.path("")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("firefox-esr, which dev/setup installs");
        let mut connected = None;
        eventually_within(PATIENCE * 3, "Firefox listens", || {
            let port = fs::read_to_string(profile.path("MarionetteActivePort")).ok();
            connected = port.and_then(|port| TcpStream::connect(("127.0.0.1", port.trim().parse().ok()?)).ok());
            connected.is_some()
        });
        let stream = connected.expect("a connection");
        stream.set_read_timeout(Some(PATIENCE * 3)).expect("a time limit");
        let mut firefox = Self { process, stream: BufReader::new(stream), asked: 0, _profile: profile };
        firefox.read();
        firefox.tell("WebDriver:NewSession", json!({ "capabilities": {} }));
        firefox.tell("WebDriver:SetWindowRect", json!({ "width": 1920, "height": 900 }));
        firefox
    }

    /// Sends a command and waits for its result; `Err` where Firefox cannot.
    fn ask(&mut self, command: &str, parameters: Value) -> Result<Value, Value> {
        self.asked += 1;
        let message = json!([0, self.asked, command, parameters]).to_string();
        write!(self.stream.get_mut(), "{}:{message}", message.len()).expect("sending");
        let mut answer = self.read();
        if answer[2].is_null() { Ok(answer[3].take()) } else { Err(answer[2].take()) }
    }

    #[track_caller]
    fn tell(&mut self, command: &str, parameters: Value) -> Value {
        self.ask(command, parameters).unwrap_or_else(|error| panic!("Firefox cannot {command}: {error}"))
    }

    fn read(&mut self) -> Value {
        let mut length = Vec::new();
        self.stream.read_until(b':', &mut length).expect("a length");
        length.pop();
        let length: usize = String::from_utf8_lossy(&length).parse().expect("a number");
        let mut message = vec![0; length];
        self.stream.read_exact(&mut message).expect("a message");
        serde_json::from_slice(&message).expect("JSON")
    }

    #[track_caller]
    fn open(&mut self, url: &str) {
        self.tell("WebDriver:Navigate", json!({ "url": url }));
    }

    fn find(&mut self, selector: &str) -> Option<String> {
        let found = self.ask("WebDriver:FindElement", json!({ "using": "css selector", "value": selector })).ok()?;
        Some(found["value"].as_object()?.values().next()?.as_str()?.to_owned())
    }

    /// The text that is visible on the page; empty while one page gives way to the next.
    fn text(&mut self) -> String {
        let Some(body) = self.find("body") else { return String::new() };
        let text = self.ask("WebDriver:GetElementText", json!({ "id": body }));
        text.ok().and_then(|text| Some(text["value"].as_str()?.to_owned())).unwrap_or_default()
    }

    #[track_caller]
    fn shows(&mut self, text: &str) {
        eventually(text, || self.text().contains(text));
    }

    #[track_caller]
    fn click(&mut self, selector: &str) {
        eventually(selector, || {
            self.find(selector).is_some_and(|id| self.ask("WebDriver:ElementClick", json!({ "id": id })).is_ok())
        });
    }

    #[track_caller]
    fn arrived(&mut self, app: &App) {
        self.shows(&word("members_title"));
        assert_eq!(self.tell("WebDriver:GetCurrentURL", json!({}))["value"], at(app, WANTED));
    }

    /// Runs a script in the page, or in Firefox' own window around it.
    #[track_caller]
    fn run(&mut self, place: &str, script: &str) -> Value {
        self.tell("Marionette:SetContext", json!({ "value": place }));
        let result = self.tell("WebDriver:ExecuteScript", json!({ "script": script, "args": [] }));
        self.tell("Marionette:SetContext", json!({ "value": "content" }));
        result["value"].clone()
    }

    /// Gives the page this width, also a width that no window can have, and its letters this size in percent.
    #[track_caller]
    fn resize(&mut self, width: u32, text: u32) {
        self.run(
            "chrome",
            &format!(
                "const page = gBrowser.selectedBrowser; page.style.width = '{width}px'; page.style.maxWidth = '{width}px';
                 ZoomManager.useFullZoom = false; ZoomManager.setZoomForBrowser(page, {text} / 100);"
            ),
        );
        // The page takes a moment to follow.
        eventually("the page has its width", || self.run("content", "return innerWidth") == width);
    }

    /// Nothing sticks out of the page: in light colours from a phone to a large screen, with letters of both sizes. Axe-core
    /// finds nothing on the smallest and on a desk.
    #[track_caller]
    fn look(&mut self, name: &str) {
        let script = fs::read_to_string(axe()).expect("axe-core, which dev/setup fetches")
            + ";const done = arguments[arguments.length - 1];
               window.axe.run(document, { resultTypes: ['violations'], iframes: false }).then((results) => done(
                 results.violations.map(({ id, help, nodes }) => [id, help, ...nodes.map((node) => node.html)])));";
        let all = WIDTHS.iter().flat_map(|width| [200, 100].map(|text| (*width, text)));
        // Colours change no layout: in other colours the test looks at each page with the least room, and with enough room.
        let ends = [(320, 200), (1280, 100)];
        let views = if name.ends_with("-light") { all.collect() } else { Vec::from(ends) };
        for (width, text) in views {
            let view = format!("firefox-{name}-{width}-text-{text}");
            self.resize(width, text);
            let wide = self.run("content", "return document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(width.into()), "{view} sticks out: {wide}");
            if let Some(file) = picture_of(&view) {
                let picture = self.tell("WebDriver:TakeScreenshot", json!({ "full": true }));
                let picture = STANDARD.decode(picture["value"].as_str().expect("a picture")).expect("Base64");
                fs::write(file, picture).expect("writing a picture");
            }
            if ends.contains(&(width, text)) {
                let found = self.tell("WebDriver:ExecuteAsyncScript", json!({ "script": script, "args": [] }));
                assert_eq!(found["value"], json!([]), "{view}");
            }
        }
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        let _ = self.ask("Marionette:Quit", json!({ "flags": ["eForceQuit"] }));
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn firefox_is_let_in_by_itself_or_by_the_button_and_is_told_where_it_cannot_be() {
    let app = asking(&[]);
    // Most visitors do not ask for reduced motion.
    let mut firefox = Firefox::with(&[("ui.prefersReducedMotion", json!(0))]);
    firefox.open(&at(&app, WANTED));
    firefox.arrived(&app);
    firefox.look("members");
    drop(firefox);

    let mut firefox = Firefox::with(&[("ui.prefersReducedMotion", json!(1))]);
    firefox.open(&at(&app, WANTED));
    firefox.shows(&word("captcha_title"));
    firefox.look("captcha");
    let entries = "return history.length";
    let with_the_captcha = firefox.run("content", entries);
    firefox.click("#start");
    firefox.arrived(&app);
    assert_eq!(firefox.run("content", entries), with_the_captcha, "it has given way to the page");
    drop(firefox);

    let mut firefox = Firefox::with(&[("network.cookie.cookieBehavior", json!(2))]);
    firefox.open(&at(&app, WANTED));
    firefox.shows(&word("problem_no_cookie"));
    drop(firefox);

    let mut firefox = Firefox::with(&[("javascript.enabled", json!(false))]);
    firefox.open(&at(&app, WANTED));
    firefox.shows(&word("no_javascript"));
    assert!(!firefox.text().contains(&word("altcha_start")));
}

#[test]
fn firefox_shows_every_page_in_light_in_dark_and_in_a_visitors_own_colours() {
    let (own, banned) = (App::start(&[]), asking(&[BANNED]));
    for (scheme, setting) in [
        ("light", ("ui.systemUsesDarkTheme", json!(0))),
        ("dark", ("ui.systemUsesDarkTheme", json!(1))),
        ("forced", ("browser.display.document_color_use", json!(2))),
    ] {
        let mut firefox = Firefox::with(&[setting, ("ui.prefersReducedMotion", json!(1))]);
        for (app, target, name) in [
            (&banned, "/", "ban"),
            (&own, "/", "index"),
            (&own, "/members", "members"),
            (&own, "/sign-in", "sign-in"),
            (&own, "/no/such/page", "error-404"),
            (&own, "/crowdsec/preview/starting", "preview-starting"),
            (&own, "/crowdsec/preview/throttle", "preview-throttle"),
            (&own, "/crowdsec/preview/captcha", "preview-captcha"),
            (&own, "/crowdsec/preview/captcha-too-many", "preview-captcha-too-many"),
        ] {
            firefox.open(&at(app, target));
            firefox.look(&format!("{name}-{scheme}"));
        }
    }
}
