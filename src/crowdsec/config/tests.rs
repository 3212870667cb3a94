//! What an operator is told.

use figment::providers::{Format, Toml};

use super::*;

fn toml(text: &str) -> Figment {
    Figment::from(rocket::Config::debug_default()).merge(Toml::string(text).nested())
}

fn environment(vars: &[(&str, &str)]) -> Environment {
    Environment::of(vars.iter().map(|(name, value)| (name.to_string(), value.to_string())))
}

fn problems(figment: Figment) -> String {
    Config::read(&figment).expect_err("it must be refused").0.join("\n")
}

#[test]
fn a_variable_beats_the_file_and_an_empty_one_is_unset() {
    let file = toml("[default.crowdsec]\napi_key = 'from-the-file'\nupdate_frequency = '3s'");
    let vars = [
        ("CROWDSEC_UPDATE_FREQUENCY", "7"),
        ("CROWDSEC_API_KEY", ""),
        ("CROWDSEC_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1"),
        ("CROWDSEC_ORIGINS", "[\"a,b\", c]"),
        ("CROWDSEC_CAPTCHA_PROVIDER", "altcha"),
        ("CROWDSEC_CAPTCHA_DIFFICULTY", "9"),
        ("CROWDSEC_DECISIONS", "[{value=\"192.0.2.1\",type=\"allow\"}]"),
    ];
    let config = Config::read(&file.merge(environment(&vars))).unwrap();
    assert_eq!(config.update_frequency, Duration::from_secs(7));
    let lapi = config.lapi.unwrap();
    assert!(matches!(lapi.credentials, Credentials::Key(Secret(key)) if key == "from-the-file"));
    assert!(lapi.filters.contains(&("origins", "a,b,c".into())));
    assert_eq!(config.trusted_proxies, [network("10.0.0.0/8").unwrap(), network("192.0.2.1").unwrap()]);
    assert_eq!(config.captcha.unwrap().difficulty, Some(9));
    assert_eq!(config.decisions[0].remediation, Remediation::Allow);
}

#[test]
fn a_secret_in_a_variable_is_text_as_it_stands() {
    for text in ["007", "true", "1.50", "12345678901234567890123", "[x]", "{a=1}"] {
        let config = Config::read(&toml("").merge(environment(&[("CROWDSEC_API_KEY", text)]))).unwrap();
        assert!(matches!(config.lapi.unwrap().credentials, Credentials::Key(Secret(key)) if key == text), "{text}");
    }
}

#[test]
fn an_unknown_variable_is_named_and_stops_nothing() {
    let config =
        Config::read(&toml("").merge(environment(&[("CROWDSEC_SERVICE_PORT", "1"), ("CROWDSEC_", "2")]))).unwrap();
    assert_eq!(config.unknown_variables, ["CROWDSEC_SERVICE_PORT", "CROWDSEC_"]);
}

#[test]
fn a_table_that_nobody_would_read_stops_the_launch() {
    for (text, wrong, right) in [
        ("[crowdsec]\napi_key = 'x'", "[crowdsec]", "[default.crowdsec]"),
        ("[crowdsec.captcha]\nprovider = 'altcha'", "[crowdsec]", "[default.crowdsec]"),
        ("[default.crowdsek]\napi_key = 'x'", "`crowdsek`", "`crowdsec`"),
        ("[default.CrowdSec]\napi_key = 'x'", "`CrowdSec`", "`crowdsec`"),
        ("[default.crowd-sec]\napi_key = 'x'", "`crowd-sec`", "`crowdsec`"),
    ] {
        let said = problems(toml(text));
        assert!(said.contains(wrong) && said.contains(right), "{said}");
    }
    assert!(Config::read(&toml("[default]\ncrowdsourcing = 1\n[crowdfunding]\nx = 1")).is_ok());
}

#[test]
fn a_key_that_cannot_be_had_is_told_once() {
    let both = "[default.crowdsec]\napi_key = 'x'\napi_key_file = '/nowhere'";
    for text in ["[default.crowdsec]\napi_key_file = '/nowhere'", both] {
        let said = problems(toml(text));
        assert!(said.contains("api_key_file") && !said.contains("certificate"), "{said}");
    }
}

#[test]
fn what_is_no_list_and_no_length_of_time_is_told_how_to_write_one() {
    for line in ["origins = 'cscli'", "decisions = '192.0.2.1'"] {
        assert!(problems(toml(&format!("[default.crowdsec]\n{line}"))).contains("[\"…\"]"), "{line}");
    }
    for line in ["resync_frequency = 1.5", "update_frequency = -5", "update_frequency = true"] {
        assert!(problems(toml(&format!("[default.crowdsec]\n{line}"))).contains("\"10s\""), "{line}");
    }
}

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
fn a_key_with_a_line_end_is_refused_without_showing_it() {
    let said = problems(toml("").merge(environment(&[("CROWDSEC_API_KEY", "s3cret\n")])));
    assert!(said.contains("`crowdsec.api_key`") && !said.contains("s3cret"), "{said}");
}

#[test]
fn a_wrong_value_is_named_with_its_key_and_source() {
    let said = problems(toml("").merge(environment(&[("CROWDSEC_UPDATE_FREQUENCY", "soon")])));
    assert!(said.contains("CROWDSEC_UPDATE_FREQUENCY") && said.contains("\"10s\""), "{said}");
    let said = problems(toml("[default.crowdsec]\nupdate_freqency = '10s'"));
    assert!(said.contains("update_freqency") && said.contains("update_frequency"), "{said}");
    let said = problems(toml("").merge(environment(&[("CROWDSEC_EXCLUDED_PATHS", "/health,/")])));
    assert!(said.contains("excluded_paths") && said.contains("environment") && said.contains("everything"), "{said}");
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let said = problems(toml("").select("release"));
    for needed in ["api_key", "CROWDSEC_API_KEY", "cscli bouncers add", "secret_key", "openssl rand -base64 32"] {
        assert!(said.contains(needed), "{needed} in {said}");
    }
}

#[test]
fn every_key_has_its_variable() {
    // Serde names all keys when it meets one that it does not know.
    let keys_of = |said: String| {
        let list = said.split("expected").nth(1).unwrap_or_default().to_owned();
        let words = list.split('`').map(str::to_owned);
        words
            .filter(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            .collect::<Vec<_>>()
    };
    let keys = keys_of(problems(toml("[default.crowdsec]\nx = 1")));
    let captcha = keys_of(problems(toml("[default.crowdsec.captcha]\nx = 1")));
    assert!(keys.len() > 15 && captcha.len() > 5, "{keys:?} {captcha:?}");
    let all =
        keys.iter().filter(|key| *key != "captcha").cloned().chain(captcha.iter().map(|key| format!("captcha_{key}")));
    for key in all {
        let config = toml("").merge(environment(&[(&format!("CROWDSEC_{}", key.to_uppercase()), "x")]));
        assert!(config.find_value(UNKNOWN).is_err() && config.find_value("crowdsec").is_ok(), "{key} has no variable");
    }
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
