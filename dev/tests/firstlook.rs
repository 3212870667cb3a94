//! What does a newcomer see who runs the unchanged application, and what does one see who deploys it unchanged?

use dev::Verdict::{Ban, Captcha, Welcome};
use dev::{App, Lapi, eventually};

#[test]
fn a_plain_run_shows_a_ban_and_a_captcha_and_welcomes_everybody_else() {
    let app = App::start(&[]);
    assert_eq!(app.verdict("203.0.113.7"), Ban);
    assert_eq!(app.verdict("198.51.100.9"), Captcha);
    assert_eq!(app.verdict("192.0.2.1"), Welcome);
    assert_eq!(app.verdict("2001:db8::1"), Welcome);
    assert_eq!(app.get("/").send().status, 200);
}

#[test]
fn a_plain_run_says_once_and_loudly_how_to_connect_to_crowdsec() {
    let app = App::start(&[]);
    app.get("/").send();
    app.get("/").from("203.0.113.7").send();
    assert_eq!(app.log().matches("cscli bouncers add").count(), 1, "{}", app.log());
    eventually("the variable is named", || app.logged("CROWDSEC_API_KEY") > 0);
    assert_eq!(app.stop().status.code(), Some(0));
}

#[test]
fn the_examples_give_way_key_by_key_to_what_is_set() {
    let app = App::start(&[("CROWDSEC_DECISIONS", r#"[{ value = "192.0.2.1", type = "ban" }]"#)]);
    assert_eq!(app.verdict("203.0.113.7"), Welcome);
    assert_eq!(app.verdict("192.0.2.1"), Ban, "loopback is still a trusted proxy");
}

#[test]
fn the_example_of_a_captcha_gives_way_where_no_captcha_can_be_asked() {
    let app = App::start(&[("CROWDSEC_CAPTCHA_EXPIRATION", "1h")]);
    assert_eq!(app.verdict("198.51.100.9"), Welcome);
    assert_eq!(app.verdict("203.0.113.7"), Ban);
    let page = app.get("/").send().text();
    assert!(page.contains("203.0.113.7") && !page.contains("198.51.100.9"), "{page}");
}

#[test]
fn the_examples_stand_beside_the_decisions_of_a_crowdsec() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let app = App::start(&[("CROWDSEC_API_URL", lapi.url()), ("CROWDSEC_API_KEY", dev::KEY)]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert_eq!(app.verdict("203.0.113.7"), Ban);
    assert!(!app.log().contains("cscli bouncers add"), "{}", app.log());
}

#[test]
fn an_application_that_others_can_reach_does_not_believe_its_neighbours() {
    let app = App::start(&[("ROCKET_ADDRESS", "0.0.0.0")]);
    assert_eq!(app.verdict("203.0.113.7"), Welcome, "the header of an untrusted peer is not read");
}

#[test]
fn rocket_itself_believes_no_header_either_not_even_without_its_rocket_toml() {
    for config in ["Rocket.toml", "no-such-file.toml"] {
        let app = App::start(&[("ROCKET_CONFIG", config)]);
        eventually("it is told", || app.logged("IP header: disabled") > 0);
    }
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let app = App::start(&[("CROWDSEC_API_KEY", ""), ("CROWDSEC_DECISIONS", ""), ("CROWDSEC_TRUSTED_PROXIES", "")]);
    assert_eq!(app.verdict("203.0.113.7"), Ban);
}

#[test]
fn an_unknown_variable_is_named_and_hinders_nothing() {
    let app = App::start(&[("CROWDSEC_SERVICE_HOST", "10.0.0.1"), ("CROWDSEC_API_KYE", "a-secret-in-the-wrong-place")]);
    app.tells("CROWDSEC_API_KYE", 1);
    app.tells("CROWDSEC_SERVICE_HOST", 1);
    assert!(!app.log().contains("a-secret-in-the-wrong-place"), "{}", app.log());
}

const SECRET_KEY: (&str, &str) = ("ROCKET_SECRET_KEY", "hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs=");

#[test]
fn outside_the_debug_profile_one_message_names_everything_that_is_missing() {
    for profile in ["release", "staging"] {
        let ended = App::fails_to_start(&[("ROCKET_PROFILE", profile)]);
        assert!(!ended.status.success());
        for remedy in ["api_key", "CROWDSEC_API_KEY", "cscli bouncers add", "secret_key", "openssl rand -base64 32"] {
            assert!(ended.log.contains(remedy), "{remedy}: {}", ended.log);
        }
    }
}

#[test]
fn outside_the_debug_profile_only_what_is_missing_is_named() {
    let ended = App::fails_to_start(&[("ROCKET_PROFILE", "release"), ("CROWDSEC_API_KEY", dev::KEY)]);
    assert!(
        ended.log.contains("openssl rand -base64 32") && !ended.log.contains("cscli bouncers add"),
        "{}",
        ended.log
    );
    assert!(!ended.log.contains(dev::KEY));
    let ended = App::fails_to_start(&[("ROCKET_PROFILE", "release"), SECRET_KEY]);
    assert!(
        ended.log.contains("cscli bouncers add") && !ended.log.contains("openssl rand -base64 32"),
        "{}",
        ended.log
    );
    assert!(!ended.log.contains(SECRET_KEY.1));
}

#[test]
fn outside_the_debug_profile_there_are_no_examples() {
    let lapi = Lapi::start();
    let trusted = ("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1");
    let release =
        [("ROCKET_PROFILE", "release"), SECRET_KEY, ("CROWDSEC_API_URL", lapi.url()), ("CROWDSEC_API_KEY", dev::KEY)];
    let app = App::start(&[release.as_slice(), &[trusted]].concat());
    assert_eq!(app.verdict("203.0.113.7"), Welcome);
    assert_eq!(app.verdict("198.51.100.9"), Welcome);
    lapi.ban("203.0.113.7");
    app.eventually("203.0.113.7", Ban);
    let app = App::start(&release);
    assert_eq!(app.verdict("203.0.113.7"), Welcome, "loopback is no trusted proxy");
}
