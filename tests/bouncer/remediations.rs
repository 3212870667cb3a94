//! What does a decision do, by its type and origin, and by `enforce`, `throttle` and `ban_status`?

use std::time::Duration;

use rocket::figment::Figment;
use rocket::figment::util::map;
use rocket::http::{Accept, Status};
use rocket::local::blocking::{Client, LocalResponse};
use rocket::serde::json::Value;

use crate::common::Refusal::{Ban, Captcha, Throttle};
use crate::common::{
    FakeLapi, Refusal, Visitor, answer, assert_refused, assert_served, bouncer_refuses, client, header, skip,
};
use crate::common::{solve_captcha, with_decisions, without_captcha};

const VISITOR: &str = "192.0.2.1";

fn get<'c>(client: &'c Client, visitor: &str) -> LocalResponse<'c> {
    client.get("/").visitor(visitor).dispatch()
}

fn decision(id: u64, origin: &str, scenario: &str, kind: &str) -> String {
    format!(
        r#"{{"duration":"4h","id":{id},"origin":"{origin}","scenario":"{scenario}","scope":"Ip","type":"{kind}","value":"192.0.2.{id}"}}"#
    )
}

/// What a visitor meets if LAPI has this decision against them.
fn met(figment: Figment, origin: &str, scenario: &str, kind: &str) -> Option<Refusal> {
    let lapi = FakeLapi::saying(answer(&[decision(1, origin, scenario, kind)], &[]));
    let app = lapi.figment().merge(("crowdsec.captcha.provider", "altcha")).merge(figment);
    let client = client(app::app(app));
    let response = get(&client, VISITOR);
    match (response.status().code, response.headers().get_one("Crowdsec-Remediation")) {
        (_, None) => None,
        (403, Some("ban")) => Some(Ban),
        (403, Some("captcha")) => Some(Captcha),
        (429, Some("throttle")) => Some(Throttle),
        other => panic!("{other:?}"),
    }
}

fn with(key: &str, value: impl rocket::serde::Serialize) -> Figment {
    Figment::new().merge((format!("crowdsec.{key}"), value))
}

#[test]
fn a_type_becomes_what_the_operator_says_by_origin_before_type() {
    let mapped = || {
        with(
            "remediations",
            map!["mfa" => "pass", "CAPI/ban" => "captcha", "lists:tor/ban" => "pass", "lists/ban" => "captcha",
            "crowdsec/mine/ban" => "captcha"],
        )
    };
    assert_eq!(met(mapped(), "cscli", "x", "ban"), Some(Ban));
    assert_eq!(met(mapped(), "CAPI", "x", "ban"), Some(Captcha));
    assert_eq!(met(mapped(), "capi", "x", "BAN"), Some(Captcha), "case says nothing");
    assert_eq!(met(mapped(), "lists", "tor", "ban"), None);
    assert_eq!(met(mapped(), "lists", "other", "ban"), Some(Captcha));
    assert_eq!(met(mapped(), "crowdsec/mine", "x", "ban"), Some(Captcha), "an origin may have a slash");
    assert_eq!(met(mapped(), "cscli", "x", "MFA"), None);
    assert_eq!(met(mapped(), "cscli", "x", "throttle"), Some(Ban), "what nobody maps becomes the fallback");
    assert_eq!(met(with("fallback_remediation", "pass"), "cscli", "x", "odd"), None);
    assert_eq!(met(with("fallback_remediation", "captcha"), "cscli", "x", "odd"), Some(Captcha));
}

#[test]
fn a_variable_maps_types_as_text() {
    let mapped = || with("remediations", r#"{ mfa = "pass", "CAPI/ban" = "captcha" }"#);
    assert_eq!(met(mapped(), "cscli", "x", "mfa"), None);
    assert_eq!(met(mapped(), "CAPI", "x", "ban"), Some(Captcha));
}

#[test]
fn who_is_throttled_is_served_as_often_as_the_operator_says_and_then_told_how_long_to_wait() {
    let client = client(app::app(
        with_decisions(&[("192.0.2.0/24", "throttle"), ("2001:db8::/32", "throttle")])
            .merge(("crowdsec.throttle", "3/1m")),
    ));
    for _ in 0..3 {
        assert_served(get(&client, VISITOR));
    }
    let response = get(&client, VISITOR);
    let wait: u64 = response.headers().get_one("Retry-After").expect("how long").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_refused(response, Throttle);
    let json = client.get("/").visitor(VISITOR).header(Accept::JSON).dispatch().into_json::<Value>().unwrap();
    assert_eq!((&json["type"], &json["status"]), (&"urn:crowdsec:throttle".into(), &429.into()));
    assert_served(get(&client, "192.0.2.2"));
    skip(&client, Duration::from_secs(60));
    assert_served(get(&client, VISITOR));
    // The /64 of an IPv6 visitor counts as one.
    for _ in 0..3 {
        assert_served(get(&client, "2001:db8::1"));
    }
    assert_refused(get(&client, "2001:db8::2"), Throttle);
    assert_served(get(&client, "2001:db8:0:1::1"));
}

#[test]
fn a_solved_captcha_satisfies_the_captcha_alone() {
    let figment = with_decisions(&[(VISITOR, "captcha"), ("192.0.2.0/24", "throttle")]);
    let client = client(app::app(figment.merge(("crowdsec.throttle", "4/1m"))));
    assert_refused(get(&client, VISITOR), Captcha);
    // The captcha's page and the answer are two requests.
    let pass = solve_captcha(&client, VISITOR);
    let again = || client.get("/").visitor(VISITOR).cookie(pass.clone()).dispatch();
    assert_served(again());
    assert_served(again());
    assert_refused(again(), Throttle);
}

/// The time in `Retry-After` is never too short.
#[test]
fn who_comes_back_when_they_were_told_to_is_served() {
    let figment = with_decisions(&[(VISITOR, "throttle")]).merge(("crowdsec.throttle", "1/5s"));
    let client = client(app::app(figment));
    assert_served(get(&client, VISITOR));
    for _ in 0..3 {
        let wait = get(&client, VISITOR).headers().get_one("Retry-After").expect("how long").parse().expect("seconds");
        skip(&client, Duration::from_secs(wait));
        assert_served(get(&client, VISITOR));
    }
}

#[test]
fn what_is_open_for_the_captchas_sake_is_no_way_round_the_throttle() {
    let figment = with_decisions(&[(VISITOR, "captcha"), ("192.0.2.0/24", "throttle")]);
    let client = client(app::app(figment.merge(("crowdsec.throttle", "2/1m"))));
    let page = || client.get("/crowdsec/captcha").visitor(VISITOR).dispatch();
    assert_refused(page(), Captcha);
    assert_refused(page(), Captcha);
    assert_refused(page(), Throttle);
    let preflight = client.options("/").visitor(VISITOR).header(header("Origin", "https://other.example"));
    assert_refused(preflight.header(header("Access-Control-Request-Method", "GET")).dispatch(), Throttle);
}

#[test]
fn on_a_trial_of_everything_whom_a_proxy_does_not_name_is_let_in_and_else_refused() {
    let status = |enforce: rocket::figment::value::Value| {
        let figment = with_decisions(&[]).merge(("crowdsec.trusted_proxies", ["10.0.0.1"]));
        let client = client(app::app(figment.merge(("crowdsec.enforce", enforce))));
        get(&client, "10.0.0.1").headers().get_one("Crowdsec-Remediation").is_some()
    };
    assert!(!status(false.into()));
    assert!(status(vec!["throttle"].into()));
    assert!(status(true.into()));
}

#[test]
fn a_trial_run_refuses_nobody() {
    let client = client(app::app(
        with_decisions(&[(VISITOR, "ban"), ("192.0.2.2", "captcha")]).merge(("crowdsec.enforce", false)),
    ));
    for visitor in [VISITOR, "192.0.2.2", "192.0.2.3"] {
        assert_served(get(&client, visitor));
    }
}

#[test]
fn what_is_on_trial_gives_way_to_the_greatest_that_is_enforced() {
    let decisions = [(VISITOR, "ban"), ("192.0.2.0/24", "captcha"), ("198.51.100.1", "ban")];
    for enforce in [vec!["captcha"].into(), rocket::figment::value::Value::from("captcha")] {
        let client = client(app::app(with_decisions(&decisions).merge(("crowdsec.enforce", enforce))));
        assert_refused(get(&client, VISITOR), Captcha);
        assert_served(get(&client, "198.51.100.1"));
    }
    let client = client(app::app(with_decisions(&decisions).merge(("crowdsec.enforce", ["ban", "throttle"]))));
    assert_refused(get(&client, VISITOR), Ban);
    assert_served(get(&client, "192.0.2.9"));
}

#[test]
fn a_ban_has_the_status_that_the_operator_says() {
    let figment = with_decisions(&[(VISITOR, "ban"), ("192.0.2.2", "captcha")]).merge(("crowdsec.ban_status", 451));
    let client = client(app::app(figment));
    let response = get(&client, VISITOR);
    assert_eq!((response.status().code, response.headers().get_one("Crowdsec-Remediation")), (451, Some("ban")));
    let json = client.get("/").visitor(VISITOR).header(Accept::JSON).dispatch().into_json::<Value>().unwrap();
    assert_eq!(json["status"], 451);
    assert_eq!(client.get("/members").visitor(VISITOR).dispatch().status().code, 451);
    assert_eq!(get(&client, "192.0.2.2").status(), Status::Forbidden);
}

#[test]
fn a_ban_ends_after_its_time() {
    let lapi = FakeLapi::saying(answer(&[decision(1, "cscli", "x", "ban")], &[]));
    let client = client(app::app(lapi.figment()));
    assert_refused(get(&client, VISITOR), Ban);
    skip(&client, Duration::from_secs(4 * 3600 - 60));
    assert_refused(get(&client, VISITOR), Ban);
    skip(&client, Duration::from_secs(120));
    assert_served(get(&client, VISITOR));
}

#[test]
fn what_makes_no_sense_stops_the_launch() {
    let refused = |figment: Figment| assert!(bouncer_refuses(Client::untracked(app::app(figment))));
    let with = |key: &str, value| {
        without_captcha().merge((format!("crowdsec.{key}"), rocket::figment::value::Value::from(value)))
    };
    for (key, value) in [
        ("throttle", "30"),
        ("throttle", "0/1m"),
        ("throttle", "x/1m"),
        ("throttle", "30/"),
        ("throttle", "30/1ms"),
        ("enforce", "sometimes"),
        ("enforce", "pass"),
        ("enforce", "ban, bann"),
        ("enforce_by", "nobody"),
        ("fallback_remediation", "allow"),
        ("fallback_remediation", "captcha"),
        ("remediations", "ban"),
    ] {
        refused(with(key, value));
    }
    for status in [200, 399, 500, 600] {
        refused(without_captcha().merge(("crowdsec.ban_status", status)));
    }
    for (key, value) in
        [("mfa", "allow"), ("allow", "pass"), ("mfa", "bann"), ("mfa", "captcha"), ("CAPI/", "pass"), ("", "pass")]
    {
        refused(without_captcha().merge(("crowdsec.remediations", map![key => value])));
    }
    refused(without_captcha().merge(("crowdsec.remediations", map!["mfa" => "pass", "MFA" => "ban"])));
    refused(without_captcha().merge(("crowdsec.enforce", ["captcha"])));
}
