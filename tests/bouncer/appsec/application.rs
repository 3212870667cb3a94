//! Which application do these tests ask, with which settings and routes?

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use app::crowdsec::{File, Inspected};
use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use rocket::form::{Form, FromForm};
use rocket::http::ContentType;
use rocket::local::blocking::{Client, LocalResponse};
use rocket::serde::json::{Json, Value};
use rocket::{Build, Request, Rocket, State, get, post, put, routes};

use crate::common::appsec::{KEY, Stub};
use crate::common::{Visitor, without_captcha};

pub const VISITOR: &str = "192.0.2.1";

#[derive(Default)]
pub struct Runs(pub AtomicUsize);

/// Notes that a handler has run.
struct Ran;

#[rocket::async_trait]
impl<'r> rocket::request::FromRequest<'r> for Ran {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> rocket::request::Outcome<Self, ()> {
        request.rocket().state::<Runs>().unwrap().0.fetch_add(1, Ordering::SeqCst);
        rocket::request::Outcome::Success(Self)
    }
}

pub fn with_appsec(stub: &Stub) -> Figment {
    without_captcha()
        // Nobody listens there: LAPI is not what these tests are about.
        .merge(("crowdsec.api_url", "http://127.0.0.1:9/"))
        .merge(("crowdsec.api_key", KEY))
        .merge(("crowdsec.appsec.url", &stub.url))
        .merge(("crowdsec.appsec.timeout", "5s"))
        .merge(("limits.string", "1 MiB"))
        .merge(("limits.form", "1 MiB"))
        .merge(("limits.bytes", "4 MiB"))
}

pub fn with_captcha(stub: &Stub) -> Figment {
    with_appsec(stub).merge(("crowdsec.captcha.provider", "altcha")).merge(("crowdsec.captcha.difficulty", 20))
}

pub fn app_of(figment: Figment) -> Rocket<Build> {
    let routes = routes![get, plain, text, bytes, json, form, maybe];
    app::protected(figment).manage(Runs::default()).mount("/", routes)
}

/// The application on a port of its own, for bytes that no client of Rocket's sends.
pub fn launched(figment: Figment) -> u16 {
    let (sender, port) = std::sync::mpsc::channel();
    let app = app_of(figment.merge(("port", 0)).merge(("shutdown.ctrlc", false)));
    let app = app.attach(AdHoc::on_liftoff("port", move |rocket| {
        let _ = sender.send(rocket.config().port);
        Box::pin(async {})
    }));
    thread::spawn(|| rocket::execute(app.launch()).is_ok());
    port.recv_timeout(Duration::from_secs(60)).expect("the application launches")
}

pub fn runs(client: &Client) -> usize {
    client.rocket().state::<Runs>().unwrap().0.load(Ordering::SeqCst)
}

pub fn status(client: &Client, path: &'static str) -> u16 {
    client.get(path).visitor(VISITOR).dispatch().status().code
}

pub fn post<'c>(client: &'c Client, path: &'static str, kind: ContentType, body: &str) -> LocalResponse<'c> {
    client.post(path).visitor(VISITOR).header(kind).body(body).dispatch()
}

/// A form longer than Rocket shows to a fairing.
pub fn padded(end: &str) -> String {
    format!("padding={}&{end}", "x".repeat(5000))
}

#[get("/<_..>", rank = 20)]
fn get(_ran: Ran) -> &'static str {
    "served"
}

#[put("/<_..>", data = "<body>")]
fn plain(body: Vec<u8>, _ran: Ran) -> String {
    body.len().to_string()
}

#[post("/text", data = "<body>")]
pub fn text(body: Inspected<String>, _runs: &State<Runs>) -> String {
    body.len().to_string()
}

#[post("/bytes", data = "<body>")]
fn bytes(body: Inspected<&[u8]>) -> String {
    body.len().to_string()
}

#[post("/json", data = "<body>")]
fn json(body: Inspected<Json<Value>>) -> String {
    body["name"].as_str().unwrap_or_default().to_owned()
}

#[derive(FromForm)]
struct Upload<'r> {
    name: &'r str,
    file: Option<File>,
    more: Vec<File>,
}

#[post("/form", data = "<form>")]
fn form(form: Inspected<Form<Upload<'_>>>) -> String {
    let show = |file: &File| format!(" {} {:?} {:?}", file.name, file.content_type, file.bytes);
    [form.name.to_owned()].into_iter().chain(form.file.iter().chain(&form.more).map(show)).collect()
}

#[post("/maybe", data = "<body>")]
fn maybe(body: Option<Inspected<String>>) -> &'static str {
    if body.is_some() { "made" } else { "not made" }
}
