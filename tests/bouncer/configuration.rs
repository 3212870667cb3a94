//! What stops a launch, and what is said about it?

use rocket::figment::Figment;
use rocket::http::Status;
use rocket::local::blocking::Client;

use crate::common::{Visitor, bouncer_refuses, client, header, with_decisions, without_captcha};

fn refused(figment: Figment) {
    assert!(bouncer_refuses(Client::tracked(app::app(figment))));
}

fn with(key: &str, value: impl rocket::serde::Serialize) -> Figment {
    without_captcha().merge((format!("crowdsec.{key}").as_str(), value))
}

#[test]
fn an_unknown_key_stops_the_launch() {
    refused(with("api_kye", "x"));
    refused(with("captcha.providr", "altcha"));
}

#[test]
fn a_value_that_cannot_be_meant_stops_the_launch() {
    for figment in [
        with("api_key", 12345),
        with("update_frequency", "soon"),
        with("update_frequency", 0),
        with("resync_frequency", "-5s"),
        with("update_frequency", "9223372036854775807"),
        with("update_frequency", "1ns"),
        with("on_startup_failure", "maybe"),
        // A word cannot be written as a number.
        with("on_startup_failure", 0),
        with("enforce_by", 1),
        with("mode", 0),
        with("live.failure_action", 0),
        with("fallback_remediation", "allow"),
        with("fallback_remediation", "captcha"),
        with("trusted_proxies", ["10.0.0.0/99"]),
        with("client_ip_header", "X Forwarded For"),
        with("excluded_paths", ["/"]),
        with("excluded_paths", ["health"]),
        with("excluded_paths", ["/static, /health"]),
        with("scopes", ["\"ip\"", "\"range\""]),
        with("captcha.provider", "altcha").merge(("crowdsec.captcha.hostnames", ["https://example.org"])),
        with("captcha.provider", "altcha").merge(("crowdsec.captcha.hostnames", ["example.org:443"])),
        with("captcha.provider", "other"),
        with("captcha.provider", "recaptcha"),
        with("captcha.site_key", "a key without a provider"),
        without_captcha().merge(("crowdsec", "a secret in a wrong place")),
    ] {
        refused(figment);
    }
    let password = with("api_url", "http://:secret@127.0.0.1/").merge(("crowdsec.api_key", "a-key-of-the-tests"));
    refused(password);
    for key in ["scopes", "api_url", "api_key_file"] {
        let value = if key == "scopes" { vec!["a,b"] } else { vec!["nonsense"] };
        let figment = if key == "scopes" { with(key, value) } else { with(key, value[0]) };
        refused(figment.merge(("crowdsec.api_key", "a-key-of-the-tests")));
    }
}

#[test]
fn a_contradiction_stops_the_launch() {
    refused(with("api_key", "x").merge(("crowdsec.api_key_file", "Cargo.toml")));
    refused(with("cert_path", "Cargo.toml"));
    refused(with("cert_path", "Cargo.toml").merge(("crowdsec.key_path", "Cargo.toml")));
    refused(with("api_key", "x").merge(("crowdsec.ca_cert_path", "Cargo.toml")));
}

#[test]
fn outside_the_debug_profile_there_is_no_launch_without_a_key() {
    refused(without_captcha().select("production"));
    refused(without_captcha().select("production").merge(("crowdsec.api_url", "http://127.0.0.1:1")));
}

#[test]
fn lengths_of_time_are_text_or_whole_seconds() {
    for value in ["10s", "1h30m", "500ms", "10"] {
        client(app::protected(with("update_frequency", value)));
    }
    client(app::protected(with("update_frequency", 10)));
}

#[test]
fn in_the_debug_profile_a_newcomer_meets_examples_where_nothing_is_set() {
    let bare = Figment::from(rocket::Config::debug_default()).merge(("log_level", "off"));
    let client = client(app::app(bare));
    let status = |visitor: &'static str| {
        client.get("/crowdsec/captcha").header(header("X-Forwarded-For", visitor)).dispatch().status()
    };
    assert_eq!(status("203.0.113.7"), Status::Forbidden);
    assert_eq!(status("198.51.100.9"), Status::Forbidden);
    assert_eq!(status("192.0.2.1"), Status::SeeOther);
}

#[test]
fn the_examples_trust_nobody_who_could_be_a_stranger() {
    let open = Figment::from(rocket::Config::debug_default()).merge(("log_level", "off")).merge(("address", "0.0.0.0"));
    let client = client(app::app(open));
    let request = client.get("/crowdsec/captcha").header(header("X-Forwarded-For", "203.0.113.7"));
    assert_eq!(request.visitor("127.0.0.1").dispatch().status(), Status::SeeOther);
}

#[test]
fn decisions_of_ones_own_take_the_examples_place() {
    let client = client(app::app(with_decisions(&[("192.0.2.1", "ban")])));
    assert_eq!(client.get("/crowdsec/captcha").visitor("203.0.113.7").dispatch().status(), Status::SeeOther);
}
