//! What do scripts, htmx and other programs meet, and how do they lead their visitor to the captcha?

use app::crowdsec::Cleared;
use rocket::http::uri::Host;
use rocket::http::{ContentType, Header, Method, Status};
use rocket::local::blocking::{Client, LocalResponse};
use rocket::serde::json::Value;
use rocket::{options, post, routes};

use crate::common::{Visitor, app_with, client, header, with_decisions};

const BANNED: &str = "192.0.2.1";
const ASKED: &str = "192.0.2.2";

fn app() -> Client {
    app_with(&[(BANNED, "ban"), (ASKED, "captcha")])
}

fn ask<'c>(client: &'c Client, visitor: &str, headers: &[(&'static str, &'static str)]) -> LocalResponse<'c> {
    let mut request = client.get("/api/items?page=2").visitor(visitor);
    request.inner_mut().set_host("shop.example".try_into().map(Host::new).expect("a host"));
    headers.iter().fold(request, |request, (name, value)| request.header(Header::new(*name, *value))).dispatch()
}

fn is_json(response: &LocalResponse<'_>) -> bool {
    response.content_type() == Some(ContentType::new("application", "problem+json"))
}

/// For `fetch`, `XMLHttpRequest` (axios) and `EventSource`, browsers say `Sec-Fetch-Dest: empty`: nobody sees the answer.
#[test]
fn a_script_is_answered_in_json_unless_it_asks_for_html() {
    let client = app();
    let dest = ("Sec-Fetch-Dest", "empty");
    for headers in [
        &[("Accept", "*/*"), dest][..],
        &[dest],
        &[("Accept", "text/event-stream"), dest],
        &[("Accept", "application/json, text/plain, */*"), dest],
        &[("Accept", "*/*"), ("HX-Request", "true")],
    ] {
        for visitor in [BANNED, ASKED] {
            let response = ask(&client, visitor, headers);
            assert_eq!(response.status(), Status::Forbidden);
            assert!(is_json(&response), "{visitor} {headers:?}");
        }
    }
    for headers in [
        &[("Accept", "text/html"), dest][..],
        &[("Accept", "text/html, */*"), ("HX-Request", "true")],
        &[("Accept", "*/*"), ("Sec-Fetch-Dest", "document")],
        &[("Accept", "*/*"), ("HX-Request", "false")],
        &[("Accept", "*/*")],
    ] {
        assert!(!is_json(&ask(&client, ASKED, headers)), "{headers:?}");
    }
}

/// A cache may hand an answer on only to a request that has the same values in all these headers.
#[test]
fn an_answer_names_each_header_that_decides_between_a_page_and_json() {
    let client = app();
    for visitor in [BANNED, ASKED] {
        let page = ask(&client, visitor, &[]);
        assert!(!is_json(&page));
        for header @ (name, _) in [
            ("Accept", "application/json"),
            ("Content-Type", "application/json"),
            ("HX-Request", "true"),
            ("Sec-Fetch-Dest", "empty"),
        ] {
            let json = ask(&client, visitor, &[header]);
            assert!(is_json(&json), "{visitor} {name}");
            for answer in [&page, &json] {
                let vary = answer.headers().get_one("Vary").unwrap_or_default();
                assert!(vary.split(", ").any(|varied| varied == name), "{visitor} {name}: {vary}");
            }
        }
        assert!(page.headers().get_one("Vary").is_some_and(|vary| vary.contains("Accept-Language")));
    }
}

#[test]
fn a_script_is_told_of_a_captcha_that_leads_back_to_the_page_its_visitor_sees() {
    let client = app();
    let url = |headers: &[(&'static str, &'static str)]| {
        let json = ask(&client, ASKED, headers).into_json::<Value>().expect("JSON");
        json["captcha_url"].as_str().expect("an address").to_owned()
    };
    let (dest, json) = (("Sec-Fetch-Dest", "empty"), ("Accept", "application/json"));
    for (referer, back) in [
        ("http://shop.example/items?page=2", "%2Fitems%3Fpage%3D2"),
        ("http://elsewhere.example/items", "%2F"),
        ("http://shop.example//evil.example", "%2F"),
        ("http://shop.example/crowdsec/captcha", "%2F"),
    ] {
        let told = url(&[dest, ("Referer", referer)]);
        assert_eq!(told, format!("/crowdsec/captcha?return_to={back}"), "{referer}");
    }
    // A program without a page is led back to what it asked for.
    assert_eq!(url(&[json]), "/crowdsec/captcha?return_to=%2Fapi%2Fitems%3Fpage%3D2");
}

/// A service worker's `fetch(event.request)`, Turbo's Drive and `hx-boost` ask by script, and put the answer in the place of
/// the whole page.
#[test]
fn who_asks_by_script_for_a_whole_page_is_led_back_to_that_page() {
    let client = app();
    let (dest, referer) = (("Sec-Fetch-Dest", "empty"), ("Referer", "http://shop.example/before"));
    let page = ask(&client, ASKED, &[("Accept", "text/html,application/xhtml+xml,*/*;q=0.8"), dest, referer]);
    let page = page.into_string().expect("a page");
    assert!(page.contains(r#"name="return_to" value="&#x2F;api&#x2F;items?page=2""#));
    for (boosted, back) in [("true", "%2Fapi%2Fitems%3Fpage%3D2"), ("false", "%2Fbefore")] {
        let htmx = [("Accept", "text/html, */*"), ("HX-Request", "true"), ("HX-Boosted", boosted), referer];
        let told = ask(&client, ASKED, &htmx).headers().get_one("HX-Redirect").map(str::to_owned);
        assert_eq!(told, Some(format!("/crowdsec/captcha?return_to={back}")), "{boosted}");
    }
}

#[test]
fn htmx_leads_its_visitor_to_the_captcha_and_shows_a_ban() {
    let client = app();
    let htmx = [("HX-Request", "true"), ("Referer", "http://shop.example/items")];
    let captcha = ask(&client, ASKED, &htmx);
    assert_eq!(captcha.headers().get_one("HX-Redirect"), Some("/crowdsec/captcha?return_to=%2Fitems"));
    // A GET never loads the page again that sent it: that page may be served, and would ask again.
    let ban = ask(&client, BANNED, &htmx);
    let told = |answer: &LocalResponse<'_>| {
        ["HX-Redirect", "HX-Refresh"].map(|name| answer.headers().get_one(name).map(str::to_owned))
    };
    assert_eq!(told(&ban), [Some("/api/items?page=2".into()), None]);
    let long = format!("/programs/items?{}", "x".repeat(3000));
    assert_eq!(told(&client.get(long).visitor(BANNED).header(header("HX-Request", "true")).dispatch()), [None, None]);
    let by_guards = with_decisions(&[(BANNED, "ban")]).merge(("crowdsec.enforce_by", "guards"));
    let by_guards = crate::common::client(app::app(by_guards).mount("/programs", routes![guarded]));
    for (app, told_of_form) in [(&client, Some("true".to_owned())), (&by_guards, None)] {
        let form = app.post("/programs/guarded").visitor(BANNED).header(header("HX-Request", "true")).dispatch();
        assert_eq!((form.status(), told(&form)), (Status::Forbidden, [None, told_of_form]));
    }
    let page = ask(&client, ASKED, &[]);
    assert_eq!((page.headers().get_one("HX-Redirect"), page.headers().get_one("HX-Refresh")), (None, None));
}

#[post("/guarded")]
fn guarded(_cleared: Cleared) {}

#[test]
fn a_header_names_the_remediation_and_nothing_of_why() {
    let client = app();
    for (visitor, remediation) in [(BANNED, Some("ban")), (ASKED, Some("captcha")), ("192.0.2.3", None)] {
        for accept in ["text/html", "application/json"] {
            let response = ask(&client, visitor, &[("Accept", accept)]);
            assert_eq!(response.headers().get_one("Crowdsec-Remediation"), remediation, "{visitor} {accept}");
        }
    }
}

#[options("/programs/items")]
fn preflight() -> &'static str {
    "may be sent"
}

#[post("/programs/items")]
fn send() -> &'static str {
    "was sent"
}

/// A browser sends no cookie with a preflight, so a solved captcha could not count.
#[test]
fn a_preflight_is_the_applications_while_a_captcha_stands_and_nobodys_while_a_ban_does() {
    let app = app::app(with_decisions(&[(BANNED, "ban"), (ASKED, "captcha")]));
    let client = client(app.mount("/", routes![preflight, send]));
    let origin = ("Origin", "https://elsewhere.example");
    let asks = ("Access-Control-Request-Method", "POST");
    let status = |method, visitor, headers: &[(&'static str, &'static str)]| {
        let request = client.req(method, "/programs/items").visitor(visitor);
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(Header::new(*name, *value)))
            .dispatch()
            .status()
    };
    assert_eq!(status(Method::Options, ASKED, &[origin, asks]), Status::Ok);
    assert_eq!(status(Method::Options, BANNED, &[origin, asks]), Status::Forbidden);
    // What only looks like a preflight is judged as everything else.
    for headers in [
        &[origin][..],
        &[asks],
        &[origin, asks, ("Content-Length", "5")],
        &[origin, asks, ("Transfer-Encoding", "chunked")],
    ] {
        assert_eq!(status(Method::Options, ASKED, headers), Status::Forbidden, "{headers:?}");
    }
    assert_eq!(status(Method::Post, ASKED, &[origin, asks]), Status::Forbidden);
}

#[test]
fn the_probe_of_life_is_answered_to_everybody_and_says_nothing_of_crowdsec() {
    let closed = with_decisions(&[(BANNED, "ban"), (ASKED, "captcha")])
        .merge(("crowdsec.api_key", "of-the-tests"))
        .merge(("crowdsec.api_url", "http://127.0.0.1:9/"))
        .merge(("crowdsec.on_startup_failure", "closed"))
        .merge(("crowdsec.startup_timeout", 1));
    let client = client(app::app(closed));
    for visitor in [BANNED, ASKED, "192.0.2.3"] {
        let response = client.get("/crowdsec/live").visitor(visitor).dispatch();
        assert_eq!(response.status(), Status::Ok);
        assert_eq!(response.into_string().as_deref(), Some("{\"status\":\"ok\"}"));
        assert_eq!(client.head("/crowdsec/live").visitor(visitor).dispatch().status(), Status::Ok);
        assert_eq!(client.post("/crowdsec/live").visitor(BANNED).dispatch().status(), Status::Forbidden);
        assert_eq!(client.get("/crowdsec/health").visitor(visitor).dispatch().status(), Status::ServiceUnavailable);
    }
}
