//! What does the process's own log say of refusals? A line for each address and minute, with what was asked for.

use app::crowdsec::{Cleared, Human, SameOrigin};
use rocket::http::{ContentType, Header, Status};
use rocket::local::asynchronous::Client;
use rocket::{get, post, routes};

use crate::common::logger::{logged, logger};
use crate::common::{Visitor, figment, with_decisions, without_captcha};

#[rocket::async_test]
async fn each_address_of_a_crowd_is_told_once_a_minute_with_method_and_path_and_without_the_query() {
    let _turn = logger().await;
    let figment = with_decisions(&[("198.51.100.0/23", "ban")]);
    let client = Client::tracked(app::app(figment)).await.expect("a launch");
    for host in 0..=255 {
        for network in [100, 101] {
            let address = format!("198.51.{network}.{host}");
            client.post("/%1B[2J/new?password=secret").visitor(&address).dispatch().await;
            assert_eq!(logged(&format!("Refused {address}: ban by config")), 1, "{address}");
        }
    }
    assert_eq!(logged(", for POST /%1B[2J/new, reference "), 512);
    assert_eq!(logged("password="), 0);
    client.post("/again").visitor("198.51.100.7").dispatch().await;
    assert_eq!(logged("POST /again"), 0, "each address has one line a minute");
}

#[rocket::async_test]
async fn an_outage_of_the_captchas_provider_is_one_line_however_many_answers_come() {
    let _turn = logger().await;
    let captcha = [
        ("provider", "turnstile"),
        ("site_key", "a-key"),
        ("secret_key", "a-secret"),
        // Nobody listens there.
        ("verify_url", "http://127.0.0.1:9/"),
    ];
    let figment = captcha
        .iter()
        .fold(without_captcha(), |figment, (key, value)| figment.merge((format!("crowdsec.captcha.{key}"), value)));
    let client = Client::tracked(app::app(figment)).await.expect("a launch");
    for host in 1..=30 {
        let request = client.post("/crowdsec/captcha").header(ContentType::Form).visitor(&format!("192.0.2.{host}"));
        let answer = request.body("cf-turnstile-response=x").dispatch().await;
        assert_eq!(answer.status(), Status::ServiceUnavailable);
    }
    assert_eq!(logged("turnstile cannot be asked"), 1);
    assert_ne!(logged("Connection refused"), 0, "with the reason");
}

/// CrowdSec finds a line of an access log within any other line, and both may go to standard output.
#[rocket::async_test]
async fn no_origin_that_a_stranger_sends_looks_like_a_line_of_the_access_log() {
    let _turn = logger().await;
    #[post("/form")]
    fn form(_own: SameOrigin) {}
    let app = app::app(with_decisions(&[])).mount("/tests", routes![form]);
    let client = Client::tracked(app).await.expect("a launch");
    let forged =
        "x 198.51.100.66 - - [27/Nov/2026:18:40:00 +0000] \"GET /?${jndi:ldap://x/a} HTTP/1.1\" 404 1 \"-\" \"-\"";
    let sent = client.post("/tests/form").header(Header::new("Origin", forged)).dispatch().await;
    assert_eq!(sent.status(), Status::UnprocessableEntity);
    assert_eq!(logged("sent a form here"), 1);
    assert_eq!(logged("198.51.100.66"), 0);
}

#[rocket::async_test]
async fn a_captcha_that_a_route_asks_of_everybody_is_no_refusal_to_tell() {
    #[get("/human")]
    fn human(_human: Human) {}
    let _turn = logger().await;
    let app = app::protected(figment()).mount("/process-log", routes![human]);
    let client = Client::tracked(app).await.expect("the application launches");
    assert_eq!(client.get("/process-log/human").dispatch().await.status(), Status::Forbidden);
    assert_eq!(logged("Refused "), 0);
}

#[rocket::async_test]
async fn what_is_too_large_is_no_refusal_to_tell() {
    let _turn = logger().await;
    let client = Client::tracked(app::app(figment())).await.expect("the application launches");
    let long = format!("/{}", "x".repeat(10_000));
    assert_eq!(client.get(long).dispatch().await.status(), Status::UriTooLong);
    assert_eq!(logged("Refused "), 0);
}

#[rocket::async_test]
async fn a_trial_tells_of_those_who_would_be_refused_since_nobody_names_them() {
    let _turn = logger().await;
    let figment = figment().merge(("crowdsec.trusted_proxies", ["10.0.0.1"])).merge(("crowdsec.enforce", false));
    #[get("/hello")]
    fn hello() {}
    let app = app::protected(figment).mount("/process-log", routes![hello]);
    let client = Client::tracked(app).await.expect("the application launches");
    let answer = client.get("/process-log/hello").visitor("10.0.0.1").dispatch().await;
    assert_eq!(answer.status(), Status::Ok);
    assert_eq!(
        logged("Would have refused a visitor whom the proxy 10.0.0.1 does not name, for GET /process-log/hello"),
        1
    );
}

#[rocket::async_test]
async fn a_trial_tells_of_nobody_on_a_path_where_nobody_is_ever_refused() {
    let _turn = logger().await;
    let figment = with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.enforce", false));
    let figment = figment.merge(("crowdsec.excluded_paths", ["/hooks"]));
    let client = Client::tracked(app::protected(figment)).await.expect("the application launches");
    client.get("/hooks/new").visitor("192.0.2.1").dispatch().await;
    assert_eq!(logged("Would have refused"), 0);
    client.get("/other").visitor("192.0.2.1").dispatch().await;
    assert_eq!(logged("Would have refused 192.0.2.1"), 1);
}

#[rocket::async_test]
async fn a_proxy_that_only_asks_for_our_health_is_not_told_of_as_a_forgotten_one() {
    let _turn = logger().await;
    let client = Client::tracked(app::protected(figment())).await.expect("the application launches");
    for (path, told) in [("/crowdsec/health", 0), ("/crowdsec/captcha", 0), ("/process-log", 1)] {
        for _ in 0..3 {
            let request = client.get(path).header(Header::new("X-Forwarded-For", "192.0.2.9"));
            request.visitor("192.0.2.1").dispatch().await;
        }
        assert_eq!(logged("requests so far bore X-Forwarded-For"), told, "{path}");
    }
}

#[rocket::async_test]
async fn a_trial_tells_of_whom_a_guard_would_refuse_where_guards_alone_refuse() {
    #[get("/cleared")]
    fn cleared(_cleared: Cleared) {}
    let _turn = logger().await;
    let figment = with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.enforce", false));
    let app = app::protected(figment.merge(("crowdsec.enforce_by", "guards"))).mount("/process-log", routes![cleared]);
    let client = Client::tracked(app).await.expect("the application launches");
    for (path, told) in [("/process-log/nowhere", 0), ("/process-log/cleared", 1)] {
        client.get(path).visitor("192.0.2.1").dispatch().await;
        assert_eq!(logged("Would have refused 192.0.2.1: ban by config"), told, "{path}");
    }
}
