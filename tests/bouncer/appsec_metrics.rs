//! Under which name are AppSec's refusals counted? This file goes where AppSec or the metrics are left out.

use app::crowdsec::Inspected;
use rocket::figment::Figment;
use rocket::http::{Accept, Header, Status};
use rocket::{get, post, routes};
use serde_json::{Value, json};

use crate::common::appsec::{KEY, Says, Stub};
use crate::common::{Visitor, client, without_captcha};

const VISITOR: &str = "192.0.2.1";
const OPERATOR: &str = "198.51.100.1";

#[post("/text", data = "<body>")]
fn text(body: Inspected<String>) -> String {
    body.len().to_string()
}

fn with_appsec(stub: &Stub) -> Figment {
    without_captcha()
        // Nobody listens there: LAPI is not what these tests are about.
        .merge(("crowdsec.api_url", "http://127.0.0.1:9/"))
        .merge(("crowdsec.api_key", KEY))
        .merge(("crowdsec.metrics_from", [OPERATOR]))
        .merge(("crowdsec.appsec.url", &stub.url))
        .merge(("crowdsec.appsec.timeout", "5s"))
}

#[test]
fn refusals_are_counted_as_appsecs_and_what_an_outage_refuses_as_a_fallback() {
    let stub = Stub::new();
    let figment = with_appsec(&stub).merge(("crowdsec.appsec.failure_action", "ban"));
    let client = client(app::protected(figment).mount("/", routes![text]));
    let status = |path: &'static str| client.get(path).visitor(VISITOR).dispatch().status().code;
    assert_eq!(status("/page?x=ATTACK"), 403);
    let long = client.post("/text").visitor(VISITOR).body("x".repeat(600) + "ATTACK");
    assert_eq!(long.dispatch().status().code, 403);
    stub.says(Says::Close);
    assert_eq!(status("/page"), 403);
    let figures = client.get("/crowdsec/metrics").visitor(OPERATOR).dispatch().into_string().expect("figures");
    let dropped = |origin: &str| {
        let line = format!(r#"crowdsec_rocket_dropped_total{{origin="{origin}",remediation="ban",ip_type="ipv4"}} "#);
        figures.lines().find_map(|found| found.strip_prefix(&line)).map(str::to_owned)
    };
    assert_eq!((dropped("appsec").as_deref(), dropped("fallback").as_deref()), (Some("2"), Some("1")), "{figures}");
}

#[test]
fn what_appsec_would_refuse_is_counted_as_a_trial_and_a_challenge_is_none() {
    let stub = Stub::new();
    let client =
        client(app::protected(with_appsec(&stub).merge(("crowdsec.enforce", false))).mount("/", routes![page]));
    let status = |path: &'static str| client.get(path).visitor(VISITOR).dispatch().status().code;
    assert_eq!(status("/page?x=ATTACK"), 200);
    stub.says(Says::Challenge);
    assert_eq!(status("/page"), 200);
    let figures = client.get("/crowdsec/metrics").visitor(OPERATOR).dispatch().into_string().expect("figures");
    let tried = figures.lines().filter(|line| line.contains("_trial_total{") && !line.ends_with(" 0"));
    let expected = r#"crowdsec_rocket_trial_total{origin="appsec",remediation="ban",ip_type="ipv4"} 1"#;
    assert_eq!(tried.collect::<Vec<_>>(), [expected]);
}

#[get("/page")]
fn page() {}

#[test]
fn questions_are_counted_by_what_came_of_them_and_by_how_long_they_took() {
    let stub = Stub::new();
    let client = client(app::protected(with_appsec(&stub)));
    let ask = |path: &'static str| client.get(path).visitor(VISITOR).dispatch().status().code;
    let told = || {
        let request = client.get("/crowdsec/status").visitor(OPERATOR).header(Accept::JSON);
        request.dispatch().into_json::<Value>().expect("JSON")["appsec"].clone()
    };
    assert_eq!(told(), json!({ "state": "ok", "since": null, "questions": [] }));
    ask("/page");
    ask("/page?x=ATTACK");
    ask("/word/a-word-of-nobody");
    stub.says(Says::Close);
    ask("/page");
    assert_eq!(told()["state"], "failing");
    assert!(told()["since"].is_string(), "{}", told());
    let odd = client.get("/page").visitor(VISITOR).header(Header::new("X-Odd", "a\nb")).dispatch();
    assert_eq!((odd.status(), &told()["state"]), (Status::Forbidden, &json!("failing")), "AppSec was not asked");
    stub.says(Says::Rules);
    ask("/page");
    let questions = json!([["allow", 2], ["ban", 1], ["other", 1], ["unreadable", 1], ["error", 1]]);
    assert_eq!(told(), json!({ "state": "ok", "since": null, "questions": questions }));
    let figures = client.get("/crowdsec/metrics").visitor(OPERATOR).dispatch().into_string().expect("figures");
    for line in [
        r#"appsec_requests_total{action="allow"} 2"#,
        r#"appsec_requests_total{action="captcha"} 0"#,
        r#"appsec_requests_total{action="error"} 1"#,
        r#"appsec_duration_seconds_bucket{le="+Inf"} 6"#,
        "appsec_duration_seconds_count 6",
    ] {
        assert!(figures.lines().any(|found| found == format!("crowdsec_rocket_{line}")), "{line} in\n{figures}");
    }
}
