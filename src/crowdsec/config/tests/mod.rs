//! What does an operator learn at the launch of settings that are wrong or unlikely?

mod messages;
mod secrets;
mod variables;

use std::time::Duration;

use super::*;
use crate::crowdsec::decisions::{Remediation, network};
use crate::crowdsec::lapi::OnStartupFailure;

fn toml(text: &str) -> Figment {
    Figment::from(rocket::Config::debug_default()).merge(Toml::string(text).nested())
}

fn environment(vars: &[(&str, &str)]) -> Environment {
    Environment::of(vars.iter().map(|(name, value)| (name.to_string(), value.to_string())))
}

fn problems(figment: Figment) -> String {
    Config::read(&figment).expect_err("it must be refused").0.join("\n")
}

/// The warnings of a launch that succeeds.
fn warnings(figment: Figment) -> String {
    Config::read(&figment).expect("it must be accepted").warnings.join("\n")
}

#[test]
fn a_probe_that_a_killed_process_left_beside_the_snapshot_stops_no_launch() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("decisions.snapshot");
    let left = folder.path().join(format!("decisions.snapshot.try-{}", std::process::id()));
    std::fs::write(&left, "").expect("a file");
    let figment = toml("").merge(environment(&[("CROWDSEC_SNAPSHOT", path.to_str().expect("a plain path"))]));
    assert!(Config::read(&figment).is_ok() && !left.exists());
}

#[test]
fn an_address_of_lapi_is_one_address_however_it_ends() {
    for text in ["http://h:1", "http://h:1/", "http://h:1//", "http://h:1///", " http://h:1/ ", "http://h:1/\r"] {
        let figment = toml("").merge(("crowdsec.api_url", text)).merge(("crowdsec.api_key", "x"));
        let at = Config::read(&figment).expect("an address").lapi.connection.expect("a key").at.to_string();
        assert_eq!(at, "http://h:1/", "{text:?}");
    }
    for text in ["http://h\r:1/", "http://h:1/a\tb", "http://h:1/?a", "http://u:p@h/", "h:1", "unix:///h", "http://"] {
        let figment = toml("").merge(("crowdsec.api_url", text)).merge(("crowdsec.api_key", "x"));
        assert!(problems(figment).contains("`crowdsec.api_url`"), "{text:?}");
    }
}

#[test]
fn a_contradiction_in_how_lapi_is_reached_is_told_with_what_to_take_away_or_to_add() {
    for (lines, told) in [
        // Otherwise the key would travel in the clear, whatever the operator believes.
        ("api_key = 'x'\nca_cert_path = 'Cargo.toml'", "need an address that begins with https://"),
        ("api_key = 'x'\ncert_path = 'Cargo.toml'\nkey_path = 'Cargo.toml'", "two ways to the same end"),
        ("api_key = 'x'\nkey_path = 'Cargo.toml'", "two ways to the same end"),
        ("cert_path = 'Cargo.toml'", "needs both `cert_path` and `key_path`"),
    ] {
        let said = problems(toml(&format!("[default.crowdsec]\n{lines}")));
        assert!(said.contains(told), "{lines}: {said}");
    }
}

#[test]
fn a_setting_that_is_allowed_but_hardly_meant_is_told_with_the_next_step() {
    let live =
        "[default]\nsecret_key = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY='\n[default.crowdsec]\napi_key = 'x'\n";
    let release = |lines: &str| warnings(toml(&format!("{live}{lines}")).select("release"));
    assert_eq!(release("trusted_proxies = ['10.0.0.0/8', 'fc00::/7', 'fe80::/10', '2001:db8::/32']"), "");
    for net in ["0.0.0.0/0", "::/0", "0.0.0.0/1", "::ffff:0:0/96", "2000::/3", "64.0.0.0/7"] {
        let said = release(&format!("trusted_proxies = ['127.0.0.1', '{net}']"));
        assert!(said.contains("trusted_proxies") && said.contains("own addresses"), "{net}: {said}");
    }
    assert_eq!(release("origins = ['crowdsec', 'CAPI', 'lists', 'my-own']"), "");
    for (wrong, right) in
        [("capi", "\"CAPI\""), ("Crowdsec", "\"crowdsec\""), ("lists:firehol", "scenarios_containing")]
    {
        let said = release(&format!("origins = ['cscli', '{wrong}']"));
        assert!(said.contains(wrong) && said.contains(right), "{said}");
    }
    assert!(release("mode = 'live'\norigins = ['crowdsek']").contains("check its spelling"));
    for scopes in ["'ip'", "'range', 'country'", "'username'", "'ips', 'range'"] {
        assert!(release(&format!("scopes = [{scopes}]")).contains("count for nothing"), "{scopes}");
    }
    for provider in ["provider = 'altcha'", "provider = 'hcaptcha', site_key = 'x', secret_key = 'x'"] {
        assert!(
            release(&format!("captcha = {{ {provider}, expiration = 1 }}")).contains("under a minute"),
            "{provider}"
        );
    }
    let reachable = |profile: &str, address: &str| {
        warnings(toml(live).merge(("address", address)).select(profile)).contains("ROCKET_PROFILE=release")
    };
    assert!(reachable("debug", "0.0.0.0") && reachable("debug", "192.0.2.1") && reachable("debug", "::"));
    assert!(!reachable("debug", "127.0.0.1") && !reachable("debug", "::1") && !reachable("release", "0.0.0.0"));
    let missing = |profile: &str, name: &str| {
        warnings(toml(live).merge((MISSING_FILE, name)).select(profile)).contains("ROCKET_CONFIG")
    };
    assert!(missing("release", FILE) && missing("debug", "another.toml") && !missing("debug", FILE));
}

#[test]
fn a_table_that_nobody_would_read_stops_the_launch() {
    for (text, wrong, right) in [
        ("[crowdsec]\napi_key = 'x'", "[crowdsec]", "[default.crowdsec]"),
        ("[crowdsec.captcha]\nprovider = 'altcha'", "[crowdsec]", "[default.crowdsec]"),
        ("[default.crowdsek]\napi_key = 'x'", "`crowdsek`", "`crowdsec`"),
        ("[default.crowdsc]\napi_key = 'x'", "`crowdsc`", "`crowdsec`"),
        ("[default.crodwsec]\napi_key = 'x'", "`crodwsec`", "`crowdsec`"),
        ("[default.CrowdSec]\napi_key = 'x'", "`CrowdSec`", "`crowdsec`"),
        ("[default.crowd-sec]\napi_key = 'x'", "`crowd-sec`", "`crowdsec`"),
    ] {
        let said = problems(toml(text));
        assert!(said.contains(wrong) && said.contains(right), "{said}");
    }
    assert!(Config::read(&toml("[default]\ncrowdsourcing = 1\n[crowdfunding]\nx = 1")).is_ok());
}

#[test]
fn what_is_nearly_a_name_is_told_with_the_name_that_may_have_been_meant() {
    let key = problems(toml("[default.crowdsec]\nupdate_frequnecy = '5s'"));
    assert!(key.contains("no setting is called so, and `update_frequency` is near"), "{key}");
    assert!(problems(toml("[default.crowdsec.captcha]\ndificulty = 1")).contains("`captcha.difficulty` is near"));
    assert!(!problems(toml("[default.crowdsec]\nnonsense = 1")).contains("is near"));
    let misspelt = "[relase.crowdsec]\napi_key = 'x'";
    assert!(warnings(toml(misspelt)).contains("If [release] was meant"), "{}", warnings(toml(misspelt)));
    assert_eq!(warnings(toml("[staging.crowdsec]\napi_key = 'x'")), "");
    assert_eq!(warnings(toml(misspelt).select("relase").merge(("secret_key", "x".repeat(64)))), "");
}

#[test]
fn a_wrong_list_and_a_wrong_length_of_time_are_told_with_an_example() {
    for line in ["origins = 5", "decisions = '192.0.2.1'", "decisions = 5"] {
        assert!(problems(toml(&format!("[default.crowdsec]\n{line}"))).contains("[\"…\"]"), "{line}");
    }
    for line in ["resync_frequency = 1.5", "update_frequency = -5", "update_frequency = true"] {
        assert!(problems(toml(&format!("[default.crowdsec]\n{line}"))).contains("\"10s\""), "{line}");
    }
}

#[test]
fn a_decision_of_the_operators_own_with_a_misspelt_or_a_missing_key_is_told_with_the_right_ones() {
    for (decision, told) in [
        ("{value='192.0.2.1',typ='ban'}", "no key is called typ here: write value, type"),
        ("{type='ban'}", "`value` is missing"),
    ] {
        let list = format!("[{decision}]").replace('\'', "\"");
        for figment in [
            toml(&format!("[default.crowdsec]\ndecisions = {list}")),
            toml("").merge(environment(&[("CROWDSEC_DECISIONS", &list)])),
        ] {
            let said = problems(figment);
            assert!(said.contains(told) && said.contains("crowdsec.decisions"), "{said}");
        }
    }
    let said = problems(toml("[default.crowdsec]\ncaptcha = 'altcha'"));
    assert!(said.contains("write [default.crowdsec.captcha]") && !said.contains("ROCKET_"), "{said}");
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
fn all_values_that_are_wrong_are_named_at_once_also_in_one_room() {
    let said = problems(toml(
        "[default.crowdsec]\napi_key_file = 'Cargo.toml'\nupdate_frequency = 'soon'\nstartup_timeout = 'late'\norigins = 5\nthrottle = 'x'\n\
         decisions = [{value = 'x', type = 'ban'}]\n[default.crowdsec.captcha]\nprovider = 'x'\nexpiration = 'x'",
    ));
    for key in [
        "update_frequency",
        "startup_timeout",
        "origins",
        "throttle",
        "decisions",
        "captcha.provider",
        "captcha.expiration",
    ] {
        assert_eq!(said.matches(&format!("`crowdsec.{key}")).count(), 1, "{key} in {said}");
    }
    assert_eq!(said.lines().count(), 7, "{said}");
}

/// Figment would take an unsigned number, as a program may set one, for the word at that position.
#[test]
fn a_number_is_no_word() {
    for key in ["captcha.provider", "log_format", "mode", "on_startup_failure", "enforce_by"] {
        let said = problems(toml("").merge((format!("crowdsec.{key}"), 1_u32)));
        assert!(said.contains(&format!("`crowdsec.{key}`")), "{said}");
    }
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let said = problems(toml("").select("release"));
    for needed in ["api_key", "CROWDSEC_API_KEY", "cscli bouncers add", "secret_key", "openssl rand -base64 32"] {
        assert!(said.contains(needed), "{needed} in {said}");
    }
}

/// Each variable sets the table `captcha`, which replaces the debug profile's table with its provider.
#[test]
fn a_captcha_key_without_a_provider_stops_no_debug_launch_and_leaves_out_the_example_captcha() {
    for (name, value) in [
        ("CROWDSEC_CAPTCHA_EXPIRATION", "1h"),
        ("CROWDSEC_CAPTCHA_DIFFICULTY", "9"),
        ("CROWDSEC_CAPTCHA_HOSTNAMES", "shop.example"),
        ("CROWDSEC_CAPTCHA_SOURCES", "https://captcha.example"),
        ("CROWDSEC_CAPTCHA_VERIFY_URL", "https://captcha.example/"),
        ("CROWDSEC_CAPTCHA_SCRIPT_URL", "https://captcha.example/"),
    ] {
        let figment = toml("").merge(environment(&[(name, value)]));
        let config = Config::read(&figment).unwrap_or_else(|Problems(told)| panic!("{name}: {told:?}"));
        let own: Vec<Remediation> = config.bouncer.decisions.iter().map(|own| own.remediation).collect();
        assert!(config.captcha.is_none() && config.bouncer.are_examples, "{name}");
        assert_eq!(own, [Remediation::Ban], "{name}");
        assert!(!config.bouncer.types.captcha, "{name}: a captcha of LAPI's becomes the fallback");
        let told = config.warnings.iter().filter(|told| told.contains("counts for nothing without `provider`")).count();
        assert_eq!(told, 1, "{name}: {:?}", config.warnings);

        // A captcha that the operator has set stops the launch, and the log names its key.
        let own = r#"[{ value = "192.0.2.1", type = "captcha" }]"#;
        let said = problems(figment.clone().merge(environment(&[(name, value), ("CROWDSEC_DECISIONS", own)])));
        assert!(said.contains("`crowdsec.decisions`") && said.lines().count() == 1, "{name}: {said}");
        let fallback = [(name, value), ("CROWDSEC_FALLBACK_REMEDIATION", "captcha")];
        let said = problems(figment.merge(environment(&fallback)));
        assert!(said.contains("`crowdsec.fallback_remediation`") && said.lines().count() == 1, "{name}: {said}");
    }
    // `site_key` makes sense only with a provider, so the missing provider is the only problem that is told.
    let said = problems(toml("").merge(environment(&[("CROWDSEC_CAPTCHA_SITE_KEY", "x")])));
    assert!(said.contains("captcha.provider") && said.lines().count() == 1, "{said}");
}
