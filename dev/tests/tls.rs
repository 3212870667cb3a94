//! Does the bouncer reach a LAPI that speaks HTTPS, and only the right one? With a key, or with a certificate.

use dev::Verdict::{Ban, Welcome};
use dev::{App, Lapi};

/// A LAPI with TLS that bans 192.0.2.1.
fn lapi() -> Lapi {
    let lapi = Lapi::start_with_tls();
    lapi.ban("192.0.2.1");
    lapi
}

/// The application ends with a failure and a line that says this.
#[track_caller]
fn aborts(lapi_url: &str, settings: &[(&str, &str)], remedy: &str) {
    let settings = [settings, &[("CROWDSEC_ON_STARTUP_FAILURE", "abort")]].concat();
    let ended = App::fails_to_start(&App::usual(lapi_url, &settings));
    assert!(!ended.status.success());
    assert!(ended.log.contains(remedy), "{remedy}: {}", ended.log);
}

#[test]
fn a_lapi_whose_own_ca_is_named_is_reached_with_a_key() {
    let lapi = lapi();
    let app = App::polling(lapi.url(), &[("CROWDSEC_CA_CERT_PATH", lapi.value("LAPI_CA_CERT"))]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.ban("192.0.2.2");
    app.eventually("192.0.2.2", Ban);
    assert_eq!(app.verdict("192.0.2.3"), Welcome);
}

#[test]
fn a_client_certificate_stands_for_a_key() {
    let lapi = lapi();
    let certificate = [
        ("CROWDSEC_API_KEY", ""),
        ("CROWDSEC_CA_CERT_PATH", lapi.value("LAPI_CA_CERT")),
        ("CROWDSEC_CERT_PATH", lapi.value("LAPI_CERT")),
        ("CROWDSEC_KEY_PATH", lapi.value("LAPI_CERT_KEY")),
    ];
    let app = App::polling(lapi.url(), &certificate);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.ban("192.0.2.2");
    app.eventually("192.0.2.2", Ban);
}

#[test]
fn a_certificate_of_a_unit_that_lapi_does_not_allow_is_refused() {
    let lapi = lapi();
    let certificate = [
        ("CROWDSEC_API_KEY", ""),
        ("CROWDSEC_CA_CERT_PATH", lapi.value("LAPI_CA_CERT")),
        ("CROWDSEC_CERT_PATH", lapi.value("LAPI_WRONG_CERT")),
        ("CROWDSEC_KEY_PATH", lapi.value("LAPI_WRONG_CERT_KEY")),
    ];
    aborts(lapi.url(), &certificate, "bouncers_allowed_ou");
}

#[test]
fn a_lapi_whose_ca_nobody_knows_is_not_trusted() {
    aborts(lapi().url(), &[], "ca_cert_path");
}

#[test]
fn plain_http_to_a_lapi_with_tls_is_no_answer() {
    let lapi = lapi();
    aborts(&lapi.url().replace("https://", "http://"), &[], "400");
}
