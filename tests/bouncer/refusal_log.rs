//! Why was somebody refused, and when? Each refusal is one line of `refusal_log`, whoever refuses and whatever is sent.

use std::fs;
use std::path::{Path, PathBuf};

use app::crowdsec::{Cleared, Human, NoDecision};
use rocket::error::ErrorKind;
use rocket::figment::Figment;
use rocket::http::{Header, Method, Status};
use rocket::local::asynchronous;
use rocket::local::blocking::Client;
use rocket::{get, routes};
use serde_json::{Value, json};

use crate::common::{
    Answer, FakeLapi, Visitor, answer, client, copied_templates, decision, figment, header, with_decisions,
};

#[get("/refusals/cleared")]
fn cleared(_visitor: Cleared) {}

#[get("/refusals/clean")]
fn clean(_visitor: NoDecision) {}

#[get("/refusals/human")]
fn human(_visitor: Human) {}

/// Also serves visitors whom the guard would refuse.
#[get("/refusals/both")]
fn both(_visitor: Option<Cleared>) {}

/// A 403 of the application's own.
#[get("/refusals/forbidden")]
fn forbidden() -> Status {
    Status::Forbidden
}

/// An application and its log, which is complete once the client is dropped.
struct Site {
    client: Client,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Site {
    fn start(settings: impl FnOnce(Figment, &Path) -> Figment) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("refusals.log");
        let decisions =
            [("192.0.2.1", "ban"), ("192.0.2.2", "captcha"), ("192.0.2.3", "throttle"), ("192.0.2.4", "pass")];
        let figment = with_decisions(&decisions).merge(("crowdsec.refusal_log", &log));
        let app = app::protected(settings(figment, &log));
        let app = app.mount("/", routes![cleared, clean, human, both, forbidden]);
        Self { client: client(app), log, _folder: folder }
    }

    fn get(&self, uri: &str, visitor: &str) -> u16 {
        self.client.get(uri.to_owned()).visitor(visitor).dispatch().status().code
    }

    fn lines(self) -> Vec<Value> {
        drop(self.client);
        lines(&self.log)
    }
}

/// Each line of the log as JSON.
fn lines(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).expect("the log");
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// What a line says in short.
fn told(line: &Value) -> (&str, u64, &str, &str) {
    let text = |key: &str| line[key].as_str().unwrap_or("-");
    (text("crowdsec_refusal"), line["status"].as_u64().expect("a status"), text("address"), text("path"))
}

#[rocket::async_test]
async fn a_refusal_is_one_line_with_the_decision_behind_it_and_the_reference_of_the_page() {
    let lapi = FakeLapi::answering([answer(&[decision(4711, "192.0.2.1", "ban")], &[])]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("refusals.log");
    let templates = copied_templates();
    fs::write(templates.path().join("ban.html.tera"), "Tell us {{ reference }}").expect("a template");
    let figment = lapi.figment().merge(("crowdsec.refusal_log", &log)).merge(("template_dir", templates.path()));
    let client = asynchronous::Client::tracked(app::app(figment)).await.expect("a launch");
    let request =
        client.post("/members/new?password=secret").visitor("192.0.2.1").header(header("Accept", "text/html"));
    let page = request.dispatch().await.into_string().await.expect("a page");
    drop(client);
    let lines = lines(&log);
    let [line] = lines.as_slice() else { panic!("{lines:#?}") };
    let reference = line["reference"].as_str().expect("a reference");
    assert!(reference.len() == 9 && page.contains(reference), "{reference}");
    let time = line["time"].as_str().expect("a time");
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00Z");
    let expected = json!({
        "crowdsec_refusal": "ban",
        "time": time,
        "address": "192.0.2.1",
        "status": 403,
        "method": "POST",
        "path": "/members/new",
        "country": null,
        "origin": "cscli",
        "scenario": "a secret scenario",
        "decision": 4711,
        "reference": reference,
    });
    assert_eq!(line, &expected);
}

#[test]
fn every_way_to_be_refused_is_a_line_and_nothing_else_is() {
    let site = Site::start(|figment, _| {
        let figment = figment.merge(("crowdsec.excluded_paths", ["/refusals/cleared"]));
        let figment = figment.merge(("crowdsec.trusted_proxies", ["192.0.2.9"]));
        figment.merge(("crowdsec.throttle", "1/1h")).merge(("crowdsec.ban_status", 410))
    });
    // The fairing refuses.
    assert_eq!(site.get("/", "192.0.2.1"), 410);
    assert_eq!(site.get("/no/such/page", "192.0.2.2"), 403);
    assert_eq!((site.get("/a", "192.0.2.3"), site.get("/b", "192.0.2.3")), (404, 429));
    assert_eq!(site.get("/hidden", "192.0.2.9"), 410);
    // A guard refuses: on a path that the fairing spares, for a decision that lets visitors in, and without any decision.
    assert_eq!(site.get("/refusals/cleared", "192.0.2.1"), 410);
    assert_eq!(site.get("/refusals/clean", "192.0.2.4"), 410);
    assert_eq!(site.get("/refusals/human", "192.0.2.5"), 403);
    // And for none, though one that lets in stands against the visitor.
    assert_eq!(site.get("/refusals/human", "192.0.2.4"), 403);
    // The target or a header is too long.
    let long = "p".repeat(9 << 10);
    assert_eq!(site.get(&format!("/{long}"), "192.0.2.5"), 414);
    let agent = site.client.get("/agent").visitor("192.0.2.5").header(Header::new("User-Agent", long.clone()));
    assert_eq!(agent.dispatch().status().code, 431);
    // These are no refusals: the visitor is served, the application itself says no, or the captcha's page is opened.
    for (uri, visitor, status) in [
        ("/no/such/page", "192.0.2.5", 404),
        ("/refusals/forbidden", "192.0.2.5", 403),
        ("/refusals/both", "192.0.2.5", 200),
        ("/refusals/clean", "192.0.2.5", 200),
        ("/crowdsec/health", "192.0.2.1", 200),
        ("/crowdsec/captcha", "192.0.2.2", 403),
    ] {
        assert_eq!(site.get(uri, visitor), status, "{uri}");
    }
    let lines = site.lines();
    let path = format!("/{}", &long[1..1000]);
    let expected = [
        ("ban", 410, "192.0.2.1", "/"),
        ("captcha", 403, "192.0.2.2", "/no/such/page"),
        ("throttle", 429, "192.0.2.3", "/b"),
        ("hidden", 410, "192.0.2.9", "/hidden"),
        ("ban", 410, "192.0.2.1", "/refusals/cleared"),
        ("ban", 410, "192.0.2.4", "/refusals/clean"),
        ("captcha", 403, "192.0.2.5", "/refusals/human"),
        ("captcha", 403, "192.0.2.4", "/refusals/human"),
        ("too_large", 414, "192.0.2.5", &path),
        ("too_large", 431, "192.0.2.5", "/agent"),
    ];
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    // The operator's own decisions have no id, and a refusal without a decision has no origin.
    let origins: Vec<Option<&str>> = lines.iter().map(|line| line["origin"].as_str()).collect();
    let own = Some("config");
    assert_eq!(origins, [own, own, own, None, own, own, None, None, None, None]);
    assert!(lines.iter().all(|line| line["decision"].is_null()), "{lines:#?}");
}

#[rocket::async_test]
async fn who_comes_before_the_first_answer_of_a_closed_application_is_a_line() {
    let lapi = FakeLapi::answering([Answer(Status::InternalServerError, String::new())]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("refusals.log");
    let figment = lapi.figment().merge(("crowdsec.on_startup_failure", "closed")).merge(("crowdsec.refusal_log", &log));
    let figment = figment.merge(("crowdsec.startup_timeout", "1s"));
    let client = asynchronous::Client::tracked(app::app(figment)).await.expect("a launch");
    assert_eq!(client.get("/early").visitor("192.0.2.1").dispatch().await.status(), Status::ServiceUnavailable);
    drop(client);
    assert_eq!(lines(&log).iter().map(told).collect::<Vec<_>>(), [("starting", 503, "192.0.2.1", "/early")]);
}

#[test]
fn what_is_only_tried_is_no_refusal() {
    let site = Site::start(|figment, _| figment.merge(("crowdsec.enforce", false)));
    for visitor in ["192.0.2.1", "192.0.2.2"] {
        for (uri, status) in [("/no/such/page", 404), ("/refusals/cleared", 200), ("/refusals/forbidden", 403)] {
            assert_eq!(site.get(uri, visitor), status, "{uri}");
        }
    }
    assert_eq!(site.lines(), [Value::Null; 0]);
}

#[test]
fn whatever_a_visitor_sends_is_one_line_of_a_bounded_length() {
    let site = Site::start(|figment, _| figment);
    let forged = "/%22,%22address%22:%22192.0.2.66%22%7D%0A%7B%22crowdsec_refusal%22:%22ban%22%7D";
    let longest = format!("/{}", "%00".repeat(2700));
    let mut count = 0;
    for path in ["/", "//", "/../..", forged, "/a'b", "/%5C%5C%22", &longest] {
        for method in
            [Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch, Method::Delete, Method::Options]
        {
            for name in ["User-Agent", "Referer", "Cookie", "X-Forwarded-For", "Accept"] {
                let value = "\"},\u{2028}\u{1b}[2J\\";
                let request =
                    site.client.req(method, path.to_owned()).visitor("192.0.2.1").header(Header::new(name, value));
                assert_eq!(request.dispatch().status(), Status::Forbidden, "{method} {path}");
                count += 1;
            }
        }
    }
    let log = site.log.clone();
    drop(site.client);
    let text = fs::read_to_string(&log).expect("the log");
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "plain text");
    assert!(text.lines().all(|line| line.len() < 16 << 10));
    let lines = lines(&log);
    assert_eq!(lines.len(), count);
    assert!(lines.iter().all(|line| line["address"] == "192.0.2.1"), "{lines:#?}");
}

#[test]
fn it_may_be_one_file_with_the_other_logs_and_each_line_says_whose_it_is() {
    let site =
        Site::start(|figment, log| figment.merge(("crowdsec.access_log", log)).merge(("crowdsec.event_log", log)));
    site.get("/refused", "192.0.2.1");
    site.get("/served", "192.0.2.5");
    let log = site.log.clone();
    drop(site.client);
    let text = fs::read_to_string(&log).expect("the log");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with(r#"{"crowdsec_refusal":"ban","#) && lines[0].contains("/refused"), "{text}");
    assert!(lines[1].starts_with("192.0.2.5 - - ") && lines[1].contains("GET /served "), "{text}");
}

#[test]
fn a_log_that_is_set_and_that_nobody_writes_stops_the_launch() {
    let folder = tempfile::tempdir().expect("a folder");
    // The name of the fairing that stops the launch.
    let launch = |figment: Figment, has_logs: bool| {
        let app = rocket::custom(figment).attach(rocket_dyn_templates::Template::fairing());
        let app = app.attach(app::crowdsec::fairing());
        let app = if has_logs { app.attach(app::crowdsec::logs()) } else { app };
        match Client::tracked(app).err().as_ref().map(rocket::Error::kind) {
            Some(ErrorKind::FailedFairings(fairings)) => fairings.first().map_or("", |fairing| fairing.name),
            _ => "",
        }
    };
    for key in ["access_log", "event_log", "refusal_log"] {
        let figment = figment().merge((format!("crowdsec.{key}"), folder.path().join(key)));
        assert_eq!(launch(figment.clone(), true), "", "{key}");
        assert_eq!(launch(figment, false), "CrowdSec's logs, if any are set", "{key}");
    }
    assert_eq!(launch(figment(), false), "", "nobody has to attach what writes nothing");
}
