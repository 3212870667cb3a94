//! How does a third party's captcha count? Only by a clear yes of the provider, and not for those who guess.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rocket::figment::Figment;
use rocket::form::Form;
use rocket::http::{ContentType, Status};
use rocket::local::blocking::{Client, LocalResponse};
use rocket::response::Redirect;
use rocket::{FromForm, State, post, routes};

use crate::common::{Visitor, header, with_decisions};

const VISITOR: &str = "192.0.2.1";

fn send<'c>(client: &'c Client, field: &str, answer: &str) -> LocalResponse<'c> {
    let request = client.post("/crowdsec/captcha").header(ContentType::Form).visitor(VISITOR);
    request.body(format!("{field}={}", answer.replace(' ', "+"))).dispatch()
}

#[test]
fn of_a_third_partys_answers_the_wrong_ones_are_limited_and_the_right_ones_are_not() {
    let provider = Provider::start();
    let client = third_party("turnstile", &provider.url);
    let send = |word: &str| send(&client, "cf-turnstile-response", word);
    for _ in 0..50 {
        assert_eq!(send("right").status(), Status::SeeOther);
    }
    let last = (0..30).map(|_| send("no")).find(|response| response.status() != Status::Forbidden);
    let last = last.expect("it ends");
    assert_eq!(last.status(), Status::TooManyRequests);
    assert!(last.headers().contains("Retry-After"));
    let asked = provider.asked.lock().unwrap().len();
    assert_eq!(send("right").status(), Status::TooManyRequests, "who knows before it was asked about?");
    assert_eq!(provider.asked.lock().unwrap().len(), asked, "the provider is spared");
}

/// The statuses for `many` answers of one visitor, all sent at once.
async fn all_at_once(provider: &Provider, many: usize, word: &str) -> Vec<Status> {
    let client = rocket::local::asynchronous::Client::untracked(app::app(with_third_party("turnstile", &provider.url)));
    let client = client.await.expect("the application launches");
    let send = async || {
        let request = client.post("/crowdsec/captcha").header(ContentType::Form);
        let request = request.remote(format!("{VISITOR}:4711").parse().unwrap());
        request.body(format!("cf-turnstile-response={word}")).dispatch().await.status()
    };
    rocket::futures::future::join_all((0..many).map(|_| send())).await
}

#[rocket::async_test]
async fn wrong_answers_that_come_all_at_once_are_limited_too() {
    let provider = Provider::start();
    let statuses = all_at_once(&provider, 200, "slowly").await;
    assert!(statuses.contains(&Status::TooManyRequests) && !statuses.contains(&Status::SeeOther));
    let asked = provider.asked.lock().unwrap().len();
    // Twenty answers that are known to be wrong, and nineteen that are under way beside the last of these.
    assert!(asked < 40, "{asked} questions");
}

#[rocket::async_test]
async fn right_answers_that_come_all_at_once_wait_for_their_turn() {
    let provider = Provider::start();
    assert_eq!(all_at_once(&provider, 60, "right-after-a-while").await, [Status::SeeOther; 60]);
}

#[test]
fn answers_that_nobody_can_judge_are_limited_too() {
    // Nobody listens there.
    let client = third_party("turnstile", "http://127.0.0.1:9/");
    let statuses: Vec<_> = (0..21).map(|_| send(&client, "cf-turnstile-response", "right").status()).collect();
    assert_eq!(statuses[..20], [Status::ServiceUnavailable; 20]);
    assert_eq!(statuses[20], Status::TooManyRequests);
}

#[test]
fn answers_that_come_again_are_limited_too() {
    let provider = Provider::start();
    let client = third_party("turnstile", &provider.url);
    let statuses: Vec<_> = (0..21).map(|_| send(&client, "cf-turnstile-response", "used").status()).collect();
    assert_eq!(statuses[..20], [Status::Forbidden; 20]);
    assert_eq!(statuses[20], Status::TooManyRequests);
    assert_eq!(provider.asked.lock().unwrap().len(), 20);
}

/// The secret would go to whoever is named there, and a yes of theirs would count.
#[test]
fn a_redirect_of_the_providers_is_not_followed() {
    let provider = Provider::start();
    let client = third_party("turnstile", &provider.url.replace("/siteverify", "/moved"));
    assert_eq!(send(&client, "cf-turnstile-response", "right").status(), Status::ServiceUnavailable);
    assert!(provider.asked.lock().unwrap().is_empty());
}

#[test]
fn another_sites_form_uses_up_nobodys_tries() {
    let provider = Provider::start();
    let client = third_party("turnstile", &provider.url);
    let form = |word: &str, name: &'static str, value: &'static str| {
        let request = client.post("/crowdsec/captcha").header(ContentType::Form).visitor(VISITOR);
        request.body(format!("cf-turnstile-response={word}")).header(header(name, value)).dispatch().status()
    };
    for _ in 0..30 {
        assert_eq!(form("no", "Sec-Fetch-Site", "cross-site"), Status::Forbidden);
        assert_eq!(form("right", "Origin", "null"), Status::Forbidden);
    }
    assert!(provider.asked.lock().unwrap().is_empty(), "nor does it cost a question");
    assert_eq!(form("right", "Sec-Fetch-Site", "same-origin"), Status::SeeOther);
}

#[test]
fn three_providers_are_asked_in_their_own_words() {
    let provider = Provider::start();
    for (name, class, field, host) in [
        ("recaptcha", "g-recaptcha", "g-recaptcha-response", "https://www.google.com/recaptcha/"),
        ("hcaptcha", "h-captcha", "h-captcha-response", "https://hcaptcha.com"),
        ("turnstile", "cf-turnstile", "cf-turnstile-response", "https://challenges.cloudflare.com"),
    ] {
        let client = third_party(name, &provider.url);
        let response = client.get("/").visitor(VISITOR).dispatch();
        let policy = response.headers().get_one("Content-Security-Policy").unwrap().to_owned();
        assert!(policy.contains(host), "{policy}");
        let page = response.into_string().unwrap();
        assert!(page.contains(&format!("class=\"{class}\"")) && page.contains("data-sitekey=\"the-site-key\""));
        assert!(!page.contains("the-secret-key"));
        assert_eq!(send(&client, field, "right").status(), Status::SeeOther, "{name}");
        let asked = provider.asked.lock().unwrap().pop().unwrap();
        assert_eq!(
            (asked.secret.as_str(), asked.response.as_str(), asked.remoteip.as_str()),
            ("the-secret-key", "right", VISITOR)
        );
        assert_eq!(send(&client, "altcha", "right").status(), Status::Forbidden, "another provider's field");
    }
}

#[test]
fn only_a_clear_yes_for_our_own_site_lets_in() {
    let provider = Provider::start();
    let client = third_party("recaptcha", &provider.url);
    for (word, status) in [
        ("elsewhere", Status::Forbidden),
        ("nowhere", Status::Forbidden),
        ("null", Status::Forbidden),
        ("empty", Status::Forbidden),
        ("used", Status::Forbidden),
        ("no", Status::Forbidden),
        ("html", Status::ServiceUnavailable),
        ("broken", Status::ServiceUnavailable),
        ("cut", Status::ServiceUnavailable),
        ("text", Status::ServiceUnavailable),
        ("list", Status::ServiceUnavailable),
        ("nothing", Status::ServiceUnavailable),
        ("one", Status::ServiceUnavailable),
        ("null for yes", Status::ServiceUnavailable),
        ("yes but", Status::ServiceUnavailable),
        ("secret", Status::ServiceUnavailable),
        ("long", Status::ServiceUnavailable),
    ] {
        let response = send(&client, "g-recaptcha-response", word);
        assert_eq!(response.status(), status, "{word}");
        assert_eq!(response.headers().contains("Retry-After"), status == Status::ServiceUnavailable, "{word}");
        assert!(!response.headers().contains("Set-Cookie"), "{word}");
    }
    let away = third_party("recaptcha", "http://127.0.0.1:1/siteverify");
    assert_eq!(send(&away, "g-recaptcha-response", "right").status(), Status::ServiceUnavailable);
}

fn third_party(name: &str, verify_url: &str) -> Client {
    Client::untracked(app::app(with_third_party(name, verify_url))).expect("the application launches")
}

fn with_third_party(name: &str, verify_url: &str) -> Figment {
    with_decisions(&[(VISITOR, "captcha")])
        .merge(("crowdsec.captcha.provider", name))
        .merge(("crowdsec.captcha.site_key", "the-site-key"))
        .merge(("crowdsec.captcha.secret_key", "the-secret-key"))
        .merge(("crowdsec.captcha.hostnames", ["Shop.example"]))
        .merge(("crowdsec.captcha.verify_url", verify_url))
}

/// A `siteverify` of the tests' own.
struct Provider {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    shutdown: rocket::Shutdown,
}

#[derive(FromForm, Clone, Debug)]
struct Asked {
    secret: String,
    response: String,
    remoteip: String,
}

type Log = Arc<Mutex<Vec<Asked>>>;

#[post("/siteverify", data = "<asked>")]
async fn siteverify(asked: Form<Asked>, log: &State<Log>) -> (Status, (ContentType, String)) {
    let asked = asked.into_inner();
    log.lock().unwrap().push(asked.clone());
    if ["slowly", "right-after-a-while"].contains(&asked.response.as_str()) {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let json = |body: &str| (Status::Ok, (ContentType::JSON, body.to_owned()));
    match asked.response.as_str() {
        "right" | "right-after-a-while" => json(r#"{"success":true,"hostname":"shop.example"}"#),
        "nowhere" => json(r#"{"success":true}"#),
        "null" => json(r#"{"success":true,"hostname":null}"#),
        "empty" => json(r#"{"success":true,"hostname":""}"#),
        "elsewhere" => json(r#"{"success":true,"hostname":"evil.example"}"#),
        "used" => json(r#"{"success":false,"error-codes":["timeout-or-duplicate"]}"#),
        "html" => (Status::Ok, (ContentType::HTML, r#"{"success":true}"#.into())),
        "broken" => (Status::InternalServerError, (ContentType::Plain, "oops".into())),
        "cut" => json(r#"{"success":tr"#),
        "text" => json(r#"{"success":"true"}"#),
        "list" => json("[true]"),
        "nothing" => json("{}"),
        "one" => json(r#"{"success":1}"#),
        "null for yes" => json(r#"{"success":null}"#),
        "yes but" => (Status::InternalServerError, (ContentType::JSON, r#"{"success":true}"#.into())),
        "secret" => json(r#"{"success":false,"error-codes":["invalid-input-secret"]}"#),
        "long" => json(&format!(r#"{{"success":true,"x":"{}"}}"#, "x".repeat(100_000))),
        _ => json(r#"{"success":false,"error-codes":["invalid-input-response"]}"#),
    }
}

#[post("/moved")]
fn moved() -> Redirect {
    Redirect::temporary("/siteverify")
}

impl Provider {
    fn start() -> Self {
        let log = Log::default();
        let (tell, port) = std::sync::mpsc::channel();
        let figment = Figment::from(rocket::Config::debug_default()).merge(("port", 0)).merge(("log_level", "off"));
        let fake = rocket::custom(figment.merge(("shutdown.ctrlc", false)))
            .manage(log.clone())
            .mount("/", routes![siteverify, moved]);
        let fake = fake.attach(rocket::fairing::AdHoc::on_liftoff("port", move |rocket| {
            Box::pin(async move { tell.send((rocket.config().port, rocket.shutdown())).unwrap() })
        }));
        std::thread::spawn(move || rocket::execute(async { fake.launch().await.map(drop).map_err(drop) }));
        let (port, shutdown) = port.recv().expect("the fake launches");
        Self { url: format!("http://127.0.0.1:{port}/siteverify"), asked: log, shutdown }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.shutdown.clone().notify();
    }
}
