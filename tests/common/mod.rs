//! What the tests share: the application with a configuration of their own, and a fake LAPI that answers as a test says.
//!
//! Nothing here reads Rocket.toml or the environment, so the tests say the same on every machine, and none of them can
//! meet your real CrowdSec.
#![allow(dead_code, unused_imports)]

pub mod appsec;
pub mod lapi;
pub mod logger;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use altcha::{Challenge, Payload, SolveChallengeOptions, solve_challenge};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rocket::error::ErrorKind;
use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use rocket::figment::value::{Dict, Value};
use rocket::http::{ContentType, Cookie, Header, Status};
use rocket::local::asynchronous;
use rocket::local::blocking::{Client, LocalRequest, LocalResponse};
use rocket::{Build, Config, Rocket};

pub use lapi::{Answer, Asked, FakeLapi, answer, decision, scoped};

/// A configuration without LAPI, proxies or decisions, and with a captcha that needs no account: `Human` needs one.
pub fn figment() -> Figment {
    let figment = without_captcha().merge(("crowdsec.captcha.provider", "altcha"));
    // Few numbers to count to, so that a test solves the captcha at once.
    figment.merge(("crowdsec.captcha.difficulty", 20))
}

/// The same as `figment`, without a captcha.
pub fn without_captcha() -> Figment {
    Figment::from(Config::debug_default())
        .merge(("ip_header", false))
        .merge(("log_level", "off"))
        .merge(("secret_key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="))
        .merge(("crowdsec.decisions", Vec::<String>::new()))
        .merge(("crowdsec.trusted_proxies", Vec::<String>::new()))
        .merge(("crowdsec.captcha.expiration", "1h"))
}

/// The same as `figment`, with decisions of the operator's own: `&[("192.0.2.1", "ban"), ("198.51.100.0/24", "captcha")]`.
pub fn with_decisions(decisions: &[(&str, &str)]) -> Figment {
    let own = |(value, kind): &(&str, &str)| {
        Value::from(Dict::from([("value".into(), Value::from(*value)), ("type".into(), Value::from(*kind))]))
    };
    let decisions: Vec<Value> = decisions.iter().map(own).collect();
    figment().merge(("crowdsec.decisions", decisions))
}

/// A copy of your templates, for a test that changes them.
pub fn copied_templates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    copy("templates".as_ref(), folder.path());
    folder
}

fn copy(folder: &Path, to: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let (from, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("an entry");
        if from.is_dir() {
            fs::create_dir(&to).expect("a folder");
            copy(&from, &to);
        } else {
            fs::copy(from, to).expect("a copy");
        }
    }
}

/// Your application with these decisions.
pub fn app_with(decisions: &[(&str, &str)]) -> Client {
    client(app::app(with_decisions(decisions)))
}

pub fn client(app: Rocket<Build>) -> Client {
    Client::tracked(app).expect("the application launches")
}

/// Whether it is the bouncer that keeps an application from launching.
pub fn bouncer_refuses(result: Result<impl Sized, rocket::Error>) -> bool {
    match result.err().as_ref().map(rocket::Error::kind) {
        Some(ErrorKind::FailedFairings(fairings)) => fairings.iter().any(|fairing| fairing.name == "CrowdSec"),
        _ => false,
    }
}

/// Plays a visitor who connects from an address.
pub trait Visitor {
    fn visitor(self, address: &str) -> Self;
}

impl Visitor for LocalRequest<'_> {
    fn visitor(self, address: &str) -> Self {
        self.remote(from(address))
    }
}

impl Visitor for asynchronous::LocalRequest<'_> {
    fn visitor(self, address: &str) -> Self {
        self.remote(from(address))
    }
}

fn from(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), 4711)
}

/// What a visitor is refused with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refusal {
    Ban,
    Captcha,
    Throttle,
}

/// The visitor got one of the bouncer's own answers: the right one, with its status, and for no cache to keep.
#[track_caller]
pub fn assert_refused(response: LocalResponse<'_>, refusal: Refusal) {
    let header = |name| response.headers().get_one(name);
    let (name, status) = match refusal {
        Refusal::Ban => ("ban", Status::Forbidden),
        Refusal::Captcha => ("captcha", Status::Forbidden),
        Refusal::Throttle => ("throttle", Status::TooManyRequests),
    };
    assert_eq!(header("Crowdsec-Remediation"), Some(name), "the answer is {}", response.status());
    assert_eq!((response.status(), header("Cache-Control")), (status, Some("no-store")));
}

/// What the application answers on one connection to each of these texts, as a server. Rocket's local client has no connection,
/// and asks no catcher where it does not know the method.
pub fn on_connections(app: Rocket<Build>, texts: &[String]) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (launched, port) = mpsc::channel();
    let figment = app.figment().clone().merge(("port", 0));
    let app = app.configure(figment).attach(AdHoc::on_liftoff("port", move |rocket| {
        let _ = launched.send(rocket.config().port);
        Box::pin(async {})
    }));
    runtime.spawn(app.launch());
    let port = port.recv_timeout(Duration::from_secs(30)).expect("it listens");
    let answer = |text: &String| {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
        connection.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    };
    texts.iter().map(answer).collect()
}

/// The answer is the application's own, whatever its status.
#[track_caller]
pub fn assert_served(response: LocalResponse<'_>) {
    assert_eq!(response.headers().get_one("Crowdsec-Remediation"), None, "refused with {}", response.status());
}

/// Solves the captcha as this visitor's browser would, and gives the cookie by which they are known from then on.
pub fn solve_captcha(client: &Client, visitor: &str) -> Cookie<'static> {
    let page = client.get("/crowdsec/captcha?anew=1").visitor(visitor).dispatch();
    let response = send_answer(client, visitor, &solve(challenge_on(page)), "/");
    assert_eq!(response.status(), Status::SeeOther, "the answer is right");
    let pass = response.cookies().iter().find(|cookie| cookie.name().contains("-captcha-")).cloned();
    pass.expect("a pass")
}

/// The challenge on a captcha page, as the visitor's browser finds it.
pub fn challenge_on(page: LocalResponse<'_>) -> Challenge {
    let page = page.into_string().expect("a page");
    let json = page.split("data-challenge=\"").nth(1).expect("a challenge").split('"').next().unwrap();
    let json = json.replace("&quot;", "\"").replace("&#x2F;", "/").replace("&#x27;", "'").replace("&amp;", "&");
    serde_json::from_str(&json).expect("JSON")
}

pub fn solve(challenge: Challenge) -> String {
    let solution = solve_challenge(SolveChallengeOptions::new(&challenge)).unwrap().unwrap();
    STANDARD.encode(serde_json::to_vec(&Payload { challenge, solution }).unwrap())
}

/// Sends an answer to the captcha, as its page's form does.
pub fn send_answer<'c>(client: &'c Client, visitor: &str, answer: &str, return_to: &str) -> LocalResponse<'c> {
    send_field(client, visitor, "altcha", answer, return_to)
}

pub fn send_field<'c>(
    client: &'c Client,
    visitor: &str,
    field: &str,
    answer: &str,
    return_to: &str,
) -> LocalResponse<'c> {
    let encode = |text: &str| rocket::http::RawStr::new(text).percent_encode().into_owned().into_string();
    let body = format!("return_to={}&{field}={}", encode(return_to), encode(answer));
    client.post("/crowdsec/captcha").header(ContentType::Form).body(body).visitor(visitor).dispatch()
}

/// Moves the clock forward: decisions, solved captchas and `throttle` end as if the time had passed.
pub fn skip(client: &Client, time: Duration) {
    app::crowdsec::skip_time(client.rocket(), time);
}

/// Waits until something is so; the bound is only there to end a test that hangs.
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..300 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("still not so after 15 s");
}

pub fn header(name: &'static str, value: &'static str) -> Header<'static> {
    Header::new(name, value)
}
