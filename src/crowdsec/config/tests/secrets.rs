//! Are secrets read as they stand, from wherever they come, and shown to nobody?

use std::process::Command;
use std::sync::mpsc;
use std::{fs, thread};

use super::*;

#[test]
fn an_unquoted_secret_is_refused_without_showing_it() {
    for line in ["api_key = 31337", "api_key = 313.37", "api_key = true", "captcha.secret_key = 31337"] {
        let said = problems(toml(&format!("[default.crowdsec]\n{line}")));
        assert!(said.contains("quotes") && !said.contains("31337"), "{said}");
    }
    let said = problems(toml("").merge(("crowdsec", "{api_key=s3cret")));
    assert!(said.contains("ROCKET_CROWDSEC") && !said.contains("s3cret"), "{said}");
    for key in ["crowdsec.captcha", "crowdsec.captcha.provider"] {
        let said = problems(toml("").merge((key, "s3cret")));
        assert!(said.contains("captcha") && !said.contains("s3cret"), "{said}");
    }
}

#[test]
fn a_key_with_a_line_end_in_it_is_refused_without_showing_it() {
    let said = problems(toml("").merge(environment(&[("CROWDSEC_API_KEY", "s3cret\ns3cret")])));
    assert!(said.contains("`crowdsec.api_key`") && !said.contains("s3cret"), "{said}");
}

#[test]
fn the_configuration_shows_no_secret_when_printed() {
    let vars = [
        ("CROWDSEC_API_KEY", "s3cret"),
        ("CROWDSEC_CAPTCHA_PROVIDER", "recaptcha"),
        ("CROWDSEC_CAPTCHA_SITE_KEY", "public"),
        ("CROWDSEC_CAPTCHA_SECRET_KEY", "s3cret"),
    ];
    let config = Config::read(&toml("[default]\nsecret_key = 's3cret'").merge(environment(&vars))).unwrap();
    assert!(!format!("{config:?}").contains("s3cret"));
}

#[test]
fn a_secret_key_counts_as_text_or_as_bytes_and_rockets_default_of_zeros_is_none() {
    let secret =
        |figment: Figment| Config::read(&figment).expect("a configuration").shared_secret.map(|secret| secret.0);
    assert_eq!(secret(toml("")), None);
    assert_eq!(secret(Figment::from(rocket::Config::debug_default())), None);
    let text = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let bytes = b"0123456789abcdef0123456789abcdef".to_vec();
    assert_eq!(secret(toml("").merge(("secret_key", text))), Some(text.to_owned()));
    assert_eq!(secret(toml("").merge(("secret_key", bytes))), Some(text.to_owned()), "the same key, the same secret");
}

#[test]
fn a_key_file_that_cannot_be_read_is_told_once() {
    let both = "[default.crowdsec]\napi_key = 'x'\napi_key_file = '/nowhere'";
    for text in ["[default.crowdsec]\napi_key_file = '/nowhere'", both] {
        let said = problems(toml(text));
        assert!(said.contains("api_key_file") && !said.contains("certificate"), "{said}");
    }
}

#[test]
fn one_bad_file_is_told_once_and_under_its_own_key() {
    let keys = [
        ("CROWDSEC_CAPTCHA_PROVIDER", "turnstile"),
        ("CROWDSEC_CAPTCHA_SITE_KEY", "a"),
        ("CROWDSEC_CAPTCHA_SECRET_KEY_FILE", "/nowhere/key"),
    ];
    let said = problems(toml("").merge(environment(&keys)));
    assert!(said.contains("captcha.secret_key_file") && said.lines().count() == 1, "{said}");
    let keys = [
        ("CROWDSEC_LOG_FORMAT", "xml"),
        ("CROWDSEC_ROCKET_SECRET_KEY_FILE", "/nowhere/key"),
        ("CROWDSEC_API_KEY", "x"),
    ];
    let said = problems(toml("").merge(environment(&keys)).select("release"));
    assert!(said.contains("log_format") && !said.contains("is missing"), "{said}");
}

/// A shell hands over such a pipe: `<(…)`.
#[test]
fn the_file_with_rockets_secret_key_may_be_a_pipe_that_is_read_once() {
    let secret = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
    let (figment, (sender, receiver)) =
        (toml("").merge(("crowdsec.rocket_secret_key_file", path.clone())), mpsc::channel());
    thread::spawn(move || fs::write(path, secret));
    thread::spawn(move || {
        let config = Config::read(&with_secret_of_file(figment));
        sender.send(config.expect("a configuration").shared_secret.map(|secret| secret.0))
    });
    let read = receiver.recv_timeout(Duration::from_secs(10)).expect("nobody waits for more to come");
    assert_eq!(read.as_deref(), Some(secret));
}

#[test]
fn a_secret_key_beside_a_file_with_another_one_stops_the_launch() {
    let keys = ["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    fs::write(&path, keys[0]).expect("a file");
    let with = |key: &str| {
        with_secret_of_file(toml("").merge(("secret_key", key)).merge(("crowdsec.rocket_secret_key_file", &path)))
    };
    assert!(Config::read(&with(keys[0])).is_ok(), "both say the same");
    let said = problems(with(keys[1]));
    assert!(said.contains("rocket_secret_key_file") && said.contains("differ") && !said.contains(keys[1]), "{said}");
}
