//! What the tests share: the application with a configuration of their own, and a LAPI that says what it is told.
//!
//! Nothing here reads Rocket.toml or the environment, so the tests say the same on every machine, and none of them can
//! meet your real CrowdSec.
#![allow(dead_code)]

pub mod appsec;
pub mod logger;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocket::error::ErrorKind;
use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use rocket::figment::value::{Dict, Value};
use rocket::http::{ContentType, Header, Status};
use rocket::local::blocking::{Client, LocalRequest};
use rocket::{Build, Config, Rocket, Shutdown, State, get, routes};
use tokio::sync::oneshot;

/// A configuration without LAPI, captcha, proxies or decisions.
pub fn figment() -> Figment {
    Figment::from(Config::debug_default())
        .merge(("ip_header", false))
        .merge(("log_level", "off"))
        .merge(("secret_key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="))
        .merge(("crowdsec.decisions", Vec::<String>::new()))
        .merge(("crowdsec.trusted_proxies", Vec::<String>::new()))
        .merge(("crowdsec.captcha.expiration", "1h"))
}

/// The same with decisions of your own: `&[("192.0.2.1", "ban"), ("198.51.100.0/24", "captcha")]`.
pub fn with_decisions(decisions: &[(&str, &str)]) -> Figment {
    let own = |(value, kind): &(&str, &str)| {
        Value::from(Dict::from([("value".into(), Value::from(*value)), ("type".into(), Value::from(*kind))]))
    };
    let decisions: Vec<Value> = decisions.iter().map(own).collect();
    figment().merge(("crowdsec.decisions", decisions)).merge(("crowdsec.captcha.provider", "altcha"))
}

/// Your application, and the decisions that stand against whom.
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
        let address = address.parse().expect("an address");
        self.remote(std::net::SocketAddr::new(address, 4711))
    }
}

/// A LAPI made of Rocket, on a port of its own, that gives the answers it is told to, the last one for ever.
pub struct FakeLapi {
    pub url: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    questions: Arc<Questions>,
    shutdown: Shutdown,
}

/// What the fake says of one address or network, and what it was asked of them.
struct Questions {
    answer: Mutex<Answer>,
    hang: AtomicBool,
    asked: Mutex<Vec<String>>,
}

#[derive(Clone)]
pub struct Answer(pub Status, pub String);

/// One request that the fake saw.
#[derive(Clone, Debug)]
pub struct Asked {
    pub startup: String,
    pub query: String,
    pub api_key: String,
    pub user_agent: String,
}

impl FakeLapi {
    pub async fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let questions = Arc::new(Questions {
            answer: Mutex::new(Answer(Status::Ok, "null".into())),
            hang: false.into(),
            asked: Mutex::default(),
        });
        let (launched, port) = oneshot::channel();
        let launched = Mutex::new(Some(launched));
        let figment = Figment::from(Config::debug_default()).merge(("port", 0)).merge(("log_level", "off"));
        let figment = figment.merge(("shutdown.ctrlc", false));
        let rocket = rocket::custom(figment).manage(answers.clone()).manage(asked.clone()).manage(questions.clone());
        let rocket = rocket.mount("/", routes![stream, question]).attach(AdHoc::on_liftoff("port", |rocket| {
            Box::pin(async move {
                let launched = launched.lock().unwrap().take().unwrap();
                let _ = launched.send(rocket.config().port);
            })
        }));
        let rocket = rocket.ignite().await.expect("the fake ignites");
        let shutdown = rocket.shutdown();
        tokio::spawn(rocket.launch());
        let url = format!("http://127.0.0.1:{}", port.await.expect("the fake launches"));
        Self { url, answers, asked, questions, shutdown }
    }

    /// From now on it says this of every address and network. Until then it knows of nothing that stands there.
    pub fn says_of_one(&self, answer: Answer) {
        *self.questions.answer.lock().unwrap() = answer;
    }

    /// From now on it answers no question about one address or network; with `false` it answers those that wait, too.
    pub fn hangs_when_asked_of_one(&self, hangs: bool) {
        self.questions.hang.store(hangs, Ordering::Relaxed);
    }

    /// The queries of all questions about one address or network.
    pub fn questions(&self) -> Vec<String> {
        self.questions.asked.lock().unwrap().clone()
    }

    /// Puts further answers behind those that are waiting.
    pub fn then(&self, answer: Answer) {
        self.answers.lock().unwrap().push_back(answer);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// A configuration that polls this fake ten times a second.
    pub fn figment(&self) -> Figment {
        figment()
            .merge(("crowdsec.api_url", &self.url))
            .merge(("crowdsec.api_key", "a-key-of-the-tests"))
            .merge(("crowdsec.update_frequency", "100ms"))
    }
}

impl Drop for FakeLapi {
    fn drop(&mut self) {
        self.shutdown.clone().notify();
    }
}

#[get("/v1/decisions/stream")]
fn stream(
    answers: &State<Arc<Mutex<VecDeque<Answer>>>>,
    asked: &State<Arc<Mutex<Vec<Asked>>>>,
    request: Seen,
) -> (Status, (ContentType, String)) {
    asked.lock().unwrap().push(request.0);
    let mut answers = answers.lock().unwrap();
    let Answer(status, body) = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
    (status, (ContentType::JSON, body))
}

#[get("/v1/decisions")]
async fn question(questions: &State<Arc<Questions>>, request: Seen) -> (Status, (ContentType, String)) {
    questions.asked.lock().unwrap().push(request.0.query);
    while questions.hang.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let Answer(status, body) = questions.answer.lock().unwrap().clone();
    (status, (ContentType::JSON, body))
}

struct Seen(Asked);

#[rocket::async_trait]
impl<'r> rocket::request::FromRequest<'r> for Seen {
    type Error = ();

    async fn from_request(request: &'r rocket::Request<'_>) -> rocket::request::Outcome<Self, ()> {
        let header = |name| request.headers().get_one(name).unwrap_or_default().to_owned();
        rocket::request::Outcome::Success(Self(Asked {
            startup: request.query_value::<String>("startup").and_then(Result::ok).unwrap_or_default(),
            query: request.uri().query().map(|query| query.to_string()).unwrap_or_default(),
            api_key: header("X-Api-Key"),
            user_agent: header("User-Agent"),
        }))
    }
}

/// One decision as LAPI writes it, for four hours.
pub fn decision(id: u64, value: &str, kind: &str) -> String {
    format!(
        r#"{{"duration":"4h","id":{id},"origin":"cscli","scenario":"a secret scenario","scope":"Ip","type":"{kind}","value":"{value}"}}"#
    )
}

pub fn answer(new: &[String], deleted: &[String]) -> Answer {
    Answer(Status::Ok, format!(r#"{{"deleted":[{}],"new":[{}]}}"#, deleted.join(","), new.join(",")))
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
