//! With which settings does the application launch, and what is it without AppSec?

use rocket::http::{ContentType, Status};
use rocket::local::blocking::Client;
use rocket::routes;

use super::application::{Runs, app_of, padded, post, status, text, with_appsec};
use super::challenge::SUBMIT;
use crate::common::appsec::Stub;
use crate::common::{bouncer_refuses, client, without_captcha};

#[test]
fn without_a_url_nobody_is_asked_and_the_guard_reads_all_the_same() {
    let stub = Stub::new();
    let client = client(app_of(without_captcha().merge(("limits.string", "1 MiB"))));
    assert_eq!(status(&client, "/.env"), 200);
    assert_eq!(status(&client, SUBMIT), 200, "the path is the application's");
    assert_eq!(post(&client, "/text", ContentType::Text, &padded("x")).status(), Status::Ok);
    assert_eq!(stub.seen().len(), 0);
}

#[test]
fn settings_that_are_no_good_stop_the_launch() {
    let stub = Stub::new();
    for (key, value) in [
        ("url", "appsec.example"),
        ("url", "ftp://appsec.example/"),
        ("url", "http://user:word@appsec.example/"),
        ("timeout", "soon"),
        ("failure_action", "deny"),
        ("failure_action", "captcha"),
        ("body_limit", "1 KiB"),
        ("body_limit", "1 GiB"),
        ("body_limit", "much"),
        ("large_bodies", "cut"),
        ("unheard_of", "x"),
    ] {
        let figment = with_appsec(&stub).merge((format!("crowdsec.appsec.{key}"), value));
        assert!(bouncer_refuses(Client::untracked(app_of(figment))), "{key} {value}");
    }
    // A word cannot be written as a number.
    for key in ["failure_action", "large_bodies"] {
        let by_number = with_appsec(&stub).merge((format!("crowdsec.appsec.{key}"), 1_u32));
        assert!(bouncer_refuses(Client::untracked(app_of(by_number))), "a number for {key}");
    }
    let without_key = without_captcha().merge(("crowdsec.appsec.url", &stub.url));
    assert!(bouncer_refuses(Client::untracked(app_of(without_key))), "no key");
    let by_guards = with_appsec(&stub).merge(("crowdsec.enforce_by", "guards"));
    assert!(bouncer_refuses(Client::untracked(app_of(by_guards))), "guards");
    assert!(Client::untracked(app_of(with_appsec(&stub))).is_ok());
}

#[test]
fn a_route_that_asks_for_the_guard_does_not_launch_without_the_judge() {
    let bare = rocket::custom(without_captcha()).attach(rocket_dyn_templates::Template::fairing());
    let app = bare.attach(app::crowdsec::fairing()).mount("/", routes![text]);
    let error = Client::untracked(app.manage(Runs::default())).expect_err("it does not launch");
    assert!(matches!(error.kind(), rocket::error::ErrorKind::SentinelAborts(_)), "{error}");
    std::mem::forget(error);
}
