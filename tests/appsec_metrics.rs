//! Under which name are AppSec's refusals counted? Gone with either of the two rooms.

mod common;

use app::crowdsec::Inspected;
use common::appsec::{KEY, Says, Stub};
use common::{Visitor, client, without_captcha};
use rocket::{post, routes};

const VISITOR: &str = "192.0.2.1";
const OPERATOR: &str = "198.51.100.1";

#[post("/text", data = "<body>")]
fn text(body: Inspected<String>) -> String {
    body.len().to_string()
}

#[test]
fn refusals_are_counted_as_appsecs_and_what_an_outage_refuses_as_a_fallback() {
    let stub = Stub::new();
    let figment = without_captcha()
        // Nobody listens there: LAPI is not what this test is about.
        .merge(("crowdsec.api_url", "http://127.0.0.1:9/"))
        .merge(("crowdsec.api_key", KEY))
        .merge(("crowdsec.metrics_from", [OPERATOR]))
        .merge(("crowdsec.appsec.url", &stub.url))
        .merge(("crowdsec.appsec.timeout", "5s"))
        .merge(("crowdsec.appsec.failure_action", "ban"));
    let client = client(app::app(figment).mount("/", routes![text]));
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
