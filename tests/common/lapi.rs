//! A fake LAPI that answers as a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use rocket::http::{ContentType, Status};
use rocket::{Config, Shutdown, State, get, routes};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::figment;

/// A LAPI made of Rocket, on a port of its own. It gives the test's answers one by one, and the last one for ever.
pub struct FakeLapi {
    pub url: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    questions: Arc<Questions>,
    shutdown: Shutdown,
    /// The runtime of the fake, if it brings its own.
    _runtime: Option<Runtime>,
}

/// What the fake says about one address or network, and the questions that it was asked.
struct Questions {
    answer: Mutex<Answer>,
    /// Questions with this in them hang.
    hang: Mutex<Option<String>>,
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
    /// For a test that is not async: says this first, and then that nothing has changed.
    pub fn saying(first: Answer) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let mut lapi = runtime.block_on(Self::answering([first, answer(&[], &[])]));
        lapi._runtime = Some(runtime);
        lapi
    }

    pub async fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter().collect::<VecDeque<_>>()));
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let questions = Arc::new(Questions {
            answer: Mutex::new(Answer(Status::Ok, "null".into())),
            hang: Mutex::default(),
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
        Self { url, answers, asked, questions, shutdown, _runtime: None }
    }

    /// From now on the fake says this about every address and network. Until then it says that nothing stands against them.
    pub fn says_of_one(&self, answer: Answer) {
        *self.questions.answer.lock().unwrap() = answer;
    }

    /// From now on the fake answers no question about one address or network; with `false` it answers those that wait, too.
    pub fn hangs_when_asked_of_one(&self, hangs: bool) {
        *self.questions.hang.lock().unwrap() = hangs.then(String::new);
    }

    /// The same for questions about this one alone. What it says of it is what it knew when it was asked.
    pub fn hangs_when_asked_of(&self, address: &str) {
        *self.questions.hang.lock().unwrap() = Some(format!("ip={address}"));
    }

    /// The queries of all questions about one address or network.
    pub fn questions(&self) -> Vec<String> {
        self.questions.asked.lock().unwrap().clone()
    }

    /// Puts an answer behind those that are waiting.
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
    let query = request.0.query;
    questions.asked.lock().unwrap().push(query.clone());
    let Answer(status, body) = questions.answer.lock().unwrap().clone();
    while questions.hang.lock().unwrap().as_ref().is_some_and(|part| query.contains(part)) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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

/// A decision of another scope than `Ip`: `scoped(1, "username", "alice", "ban")`.
pub fn scoped(id: u64, scope: &str, value: &str, kind: &str) -> String {
    decision(id, value, kind).replace(r#""scope":"Ip""#, &format!(r#""scope":"{scope}""#))
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
