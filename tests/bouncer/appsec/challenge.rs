//! Does AppSec's challenge reach the browser as it is, and never a handler?

use std::thread;
use std::time::Duration;

use rocket::http::{ContentType, Header, Method, Status};

use super::application::{VISITOR, app_of, post, runs, status, with_appsec};
use crate::common::appsec::{Says, Stub};
use crate::common::{Visitor, client, header};

pub const SUBMIT: &str = "/crowdsec-internal/challenge/submit";

#[test]
fn a_challenge_is_handed_on_as_it_is_and_its_cookie_lets_in() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    stub.says(Says::Challenge);
    let ask = |method, path: &'static str, agent: &'static str, cookie: &str| {
        let mut request = client.req(method, path).visitor(VISITOR).header(header("User-Agent", agent));
        if !cookie.is_empty() {
            request.add_header(Header::new("Cookie", cookie.to_owned()));
        }
        request.dispatch()
    };
    let page = ask(Method::Get, "/page?x=y", "A", "");
    let headers = |name| page.headers().get(name).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(page.status(), Status::Ok);
    assert_eq!(headers("Content-Security-Policy"), ["default-src 'self'; worker-src 'self' blob:;"]);
    assert_eq!(headers("Content-Type"), ["text/html"]);
    assert_eq!(headers("Cache-Control"), ["no-cache, no-store"]);
    assert_eq!(headers("Set-Cookie").len(), 0);
    let body = page.into_string().unwrap();
    assert!(body.starts_with("<!doctype html><title>Check</title>") && body.len() > 4000);
    assert_eq!(runs(&client), 0);
    // The challenge's scripts, in every spelling that leads there.
    for path in [
        "/crowdsec-internal/challenge/fpscanner.js",
        "/crowdsec-internal/challenge/pow-worker.js?v=1",
        "//crowdsec-internal//challenge/fpscanner.js",
        "/crowdsec-internal/challenge/%66pscanner.js",
    ] {
        stub.take();
        let script = ask(Method::Get, path, "A", "");
        assert_eq!(script.status(), Status::Ok, "{path}");
        assert_eq!(stub.take().len(), 1, "{path}");
        if !path.contains('%') {
            assert_eq!(script.headers().get_one("Cache-Control"), Some("public, max-age=3600"), "{path}");
            assert_eq!(script.headers().get_one("Content-Type"), Some("application/javascript"), "{path}");
        }
    }
    let head = ask(Method::Head, "/page", "A", "");
    assert_eq!((head.status(), head.into_string().unwrap_or_default().len()), (Status::Ok, 0));
    // The form is longer than Rocket shows to a fairing.
    let form = |more: &str| format!("f={}&r=1&ts=1&sig=1&n=1&p=1&m=1&d=1{more}", "x".repeat(4000));
    let submit = |body: &str| {
        stub.take();
        let request = client.post(SUBMIT).visitor(VISITOR).header(ContentType::Form).header(header("User-Agent", "A"));
        let response = request.body(body).dispatch();
        let seen = stub.take();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].body, body.as_bytes());
        let cookies: Vec<String> = response.headers().get("Set-Cookie").map(str::to_owned).collect();
        (response.into_string().unwrap(), cookies)
    };
    assert_eq!(submit(&form("")).0, r#"{"status":"failed"}"#);
    assert_eq!(submit(&form("&u=/ATTACK")), (r#"{"status":"rejected"}"#.into(), vec![]));
    let (body, cookies) = submit(&form("&u=/page"));
    assert_eq!(body, r#"{"status":"ok"}"#);
    assert_eq!(cookies, ["__crowdsec_challenge=A; Path=/; HttpOnly; SameSite=Lax; Max-Age=43200"]);
    assert_eq!(runs(&client), 0);
    let cookie = "__crowdsec_challenge=A";
    assert_eq!(ask(Method::Get, "/page", "A", cookie).into_string().unwrap(), "served");
    assert_ne!(ask(Method::Get, "/page", "B", cookie).into_string().unwrap(), "served");
    stub.says(Says::Grant);
    let granted = ask(Method::Get, "////evil.example/x", "C", "");
    assert_eq!(granted.status(), Status::TemporaryRedirect);
    assert_eq!(granted.headers().get_one("Location"), Some("/evil.example/x"));
    assert_eq!(granted.headers().get("Set-Cookie").count(), 1);
}

#[test]
fn the_page_of_a_challenge_is_handed_on_by_the_guard_too() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let page = r#"{"action":"challenge","http_status":200,"user_body_content":"page","user_headers":{"Content-Type":["text/html"],"Content-Security-Policy":["default-src 'self'"]}}"#;
    // The head is let in, and the body is challenged.
    let seen = thread::scope(|scope| {
        let changing = scope.spawn(|| {
            while stub.seen().is_empty() {
                thread::sleep(Duration::from_millis(1));
            }
            stub.always(403, page);
        });
        stub.says(Says::Late(Duration::from_millis(300)));
        let response = post(&client, "/text", ContentType::Text, &"x".repeat(3000));
        changing.join().unwrap();
        let policies: Vec<String> = response.headers().get("Content-Security-Policy").map(str::to_owned).collect();
        (response.status().code, policies, response.into_string().unwrap())
    });
    assert_eq!(seen, (200, vec!["default-src 'self'".to_owned()], "page".to_owned()));
}

#[test]
fn a_challenge_that_cannot_be_served_safely_is_a_ban() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    for rest in [
        r#""http_status":403,"user_headers":{"Content-Security-Policy":["default-src 'self'"]}"#,
        r#""user_body_content":"x","user_headers":{"Transfer-Encoding":["chunked"]}"#,
        r#""user_body_content":"x","user_cookies":["a=b\r\nX: y"]"#,
        r#""http_status":307,"user_body_content":"x","user_headers":{"Location":["//evil.example/"]}"#,
        r#""http_status":307,"user_body_content":"x","user_headers":{"Location":["/\\evil.example/"]}"#,
        r#""http_status":101,"user_body_content":"x""#,
        r#""user_body_content":7"#,
    ] {
        stub.always(403, &format!(r#"{{"action":"challenge",{rest}}}"#));
        let response = client.get("/page").visitor(VISITOR).dispatch();
        assert_eq!(response.status(), Status::Forbidden, "{rest}");
        assert_eq!(response.headers().get_one("Crowdsec-Remediation"), Some("ban"), "{rest}");
    }
}

#[test]
fn appsecs_own_paths_never_reach_the_application() {
    let stub = Stub::new();
    let figment = with_appsec(&stub).merge(("crowdsec.excluded_paths", ["/crowdsec-internal"]));
    let client = client(app_of(figment));
    for path in [
        "/crowdsec-internal/challenge/fpscanner.js",
        SUBMIT,
        "//crowdsec-internal/challenge/x",
        "/crowdsec-internal/challenge/",
    ] {
        stub.take();
        stub.says(Says::Rules);
        assert_eq!(status(&client, path), 404, "{path}: an engine without a challenge");
        assert_eq!(client.post(path).visitor(VISITOR).body("x").dispatch().status().code, 404, "{path}");
        assert_eq!(client.put(path).visitor(VISITOR).body("x").dispatch().status().code, 404, "{path}");
        let seen: Vec<_> = stub.take().iter().map(|seen| seen.told("verb")).collect();
        assert_eq!(seen, ["GET", "POST", "PUT"], "{path}");
        stub.says(Says::Close);
        assert_eq!(status(&client, path), 503, "{path}: an outage");
        stub.always(403, r#"{"action":"ban","http_status":403}"#);
        assert_eq!(status(&client, path), 403, "{path}: a ban");
    }
    assert_eq!(
        client.post("/crowdsec/appsec").visitor(VISITOR).dispatch().status(),
        Status::Forbidden,
        "nothing to find"
    );
    assert_eq!(runs(&client), 0);
}

#[test]
fn no_form_of_a_strangers_is_kept_in_memory_beyond_what_a_challenge_posts() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub).merge(("crowdsec.appsec.body_limit", "64 MiB"))));
    stub.says(Says::Challenge);
    let send = |length| client.post(SUBMIT).visitor(VISITOR).body(vec![b'x'; length]).dispatch().status();
    assert_eq!(send(2 << 20), Status::PayloadTooLarge);
    assert_eq!(stub.take().len(), 0);
    assert_ne!(send(1 << 16), Status::PayloadTooLarge);
    assert_eq!(stub.take().len(), 1);
}
