//! Are browsers told what they may do with a page? Every answer has its security headers.

use rocket::http::Status;
use rocket::local::blocking::LocalResponse;

use crate::common::{Visitor, app_with, client, figment, header};

const NAMES: [&str; 5] =
    ["Content-Security-Policy", "Permissions-Policy", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options"];

#[track_caller]
fn has_each_once(response: &LocalResponse<'_>) {
    for name in NAMES {
        assert_eq!(response.headers().get(name).count(), 1, "{name} of {}", response.status());
    }
}

#[test]
fn every_answer_tells_browsers_what_they_may_do() {
    let app = client(app::app(figment()));
    for path in ["/", "/crowdsec/health", "/static/no-such-file", "/no/such/page"] {
        has_each_once(&app.get(path).dispatch());
        has_each_once(&app.head(path).dispatch());
    }
    has_each_once(&app.post("/no/such/page").dispatch());
}

#[test]
fn the_bouncers_own_pages_keep_their_stricter_policy() {
    let app = app_with(&[("192.0.2.1", "ban"), ("192.0.2.2", "captcha")]);
    for address in ["192.0.2.1", "192.0.2.2"] {
        let page = app.get("/").header(header("Accept", "text/html")).visitor(address).dispatch();
        assert_eq!(page.status(), Status::Forbidden);
        has_each_once(&page);
        let policy = page.headers().get_one("Content-Security-Policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("'nonce-"), "{policy}");
    }
}
