//! Does each message name what is wrong, and nothing else?

use super::*;

#[test]
fn a_wrong_key_makes_no_other_one_unknown() {
    for wrong in ["mode = 'x'", "update_frequency = '10 s'"] {
        let said = problems(toml(&format!("[default.crowdsec]\n{wrong}\n[default.crowdsec.live]\ntimeout = '200ms'")));
        assert!(!said.contains("no setting is called so") && said.lines().count() == 1, "{said}");
    }
    let said = problems(toml("[default.crowdsec]\nmode = 'x'\n[default.crowdsec.live]\ntimeout = 'soon'"));
    assert!(said.contains("`crowdsec.mode`") && said.contains("`crowdsec.live.timeout`"), "{said}");
}

#[test]
fn each_value_of_a_wrong_kind_is_told_with_what_to_write() {
    for (line, told) in [
        ("mode = true", r#"write "stream" or "live""#),
        ("mode = 1", r#"write "stream" or "live""#),
        ("on_startup_failure = ['open']", r#"write "open" or "closed" or "abort""#),
        ("captcha.provider = true", r#"write "recaptcha" or "hcaptcha" or "turnstile" or "altcha""#),
        ("live.failure_action = false", r#"write "passthrough" or "captcha" or "ban""#),
        ("snapshot = true", "write a path in quotes"),
        ("geoip = [7]", "write a path in quotes"),
        ("fallback_remediation = 1", r#"write "ban", "captcha", "throttle" or "pass""#),
        ("captcha.difficulty = -1", "not a whole number"),
        ("site_name = ' '", "write the name in quotes"),
        ("captchas.provider = 'altcha'", "`captcha` is near"),
    ] {
        let said = problems(toml(&format!("[default.crowdsec]\n{line}")));
        assert!(said.contains(told), "{line}: {said}");
    }
}

#[test]
fn a_key_in_the_wrong_table_is_told_with_the_right_one() {
    const ROCKETS: &str = "it is Rocket's own: write it beneath [default]";
    for (line, right) in [
        ("provider = 'altcha'", "`captcha.provider` is one: it belongs beneath [default.crowdsec.captcha]"),
        ("captcha.api_key = 's3cret'", "`api_key` is one: it belongs beneath [default.crowdsec]"),
        ("captcha.cache = 's3cret'", "`live.cache` is one: it belongs beneath [default.crowdsec.live]"),
        ("port = 80", ROCKETS),
        ("captcha.log_level = 's3cret'", ROCKETS),
        ("template_dir = 's3cret'", ROCKETS),
        ("secret_key = 's3cret'", "`captcha.secret_key` is one"),
        ("secret_key = 's3cret'", ROCKETS),
        ("timeout = '1s'", "`live.timeout` is one"),
    ] {
        let said = problems(toml(&format!("[default.crowdsec]\n{line}")));
        assert!(said.contains("no setting is called so, but ") && said.contains(right), "{said}");
        assert!(!said.contains("write one of") && !said.contains("s3cret"), "{said}");
    }
}

#[test]
fn a_key_of_ours_that_stands_beside_the_bouncers_table_is_told_and_not_one_of_the_owners_own() {
    for (key, line, table) in [
        ("captcha.provider", "captcha.provider = 'altcha'", "default.crowdsec.captcha"),
        ("live.cache", "live.cache = '1m'", "default.crowdsec.live"),
        ("trusted_proxies", "trusted_proxies = ['10.0.0.1']", "default.crowdsec"),
        ("enforce", "enforce = false", "default.crowdsec"),
    ] {
        let text = format!("[default]\n{line}");
        let told = format!(
            "`{key}` (TOML source string) counts for nothing there: if it is meant for the bouncer, write it beneath [{table}]"
        );
        let figment = toml(&text).merge(environment(&[("CROWDSEC_API_KEY", "x")]));
        assert!(warnings(figment.clone()).contains(&told), "{}", warnings(figment));
        // The misplaced key may be what another setting needs.
        let needs =
            "\n[default.crowdsec]\nfallback_remediation = 'captcha'\n[default.crowdsec.captcha]\nexpiration = 60";
        assert!(problems(toml(&format!("{text}{needs}"))).contains(&told));
    }
    // An owner who sets both means both.
    assert_eq!(warnings(toml("[default]\nenforce = 1\n[default.crowdsec]\nenforce = true")), "");
    assert_eq!(warnings(toml("[default]\nlive = true\nport = 80\n[default.captcha]\nfont = 'serif'")), "");
}

#[test]
fn what_is_missing_is_told_with_every_way_to_set_it_and_with_a_profile_that_is_neither_of_the_two() {
    let said = problems(toml("").select("dbug"));
    assert!(said.contains("key it prints (the profile is `dbug`; only `debug` goes without)"), "{said}");
    // An application of one's own may read its variables by another prefix.
    assert!(said.contains("set `secret_key` (ROCKET_SECRET_KEY, unless your application"), "{said}");
    let said = problems(toml("").select("release"));
    assert!(said.contains("`crowdsec.api_key` is missing") && !said.contains("the profile is"), "{said}");
}

#[test]
fn no_message_has_words_of_the_programs_own() {
    for (line, key, remedy) in [
        ("decisions = ['192.0.2.1']", "`crowdsec.decisions.0`", "{ value = \"…\", type = \"…\" }"),
        ("snapshot = 1", "`crowdsec.snapshot`", "path"),
        ("api_key_file = 3", "`crowdsec.api_key_file`", "path"),
        ("api_url = 'http://user:word@192.0.2.1/'", "`crowdsec.api_url`", "without user or password"),
    ] {
        let said = problems(toml(&format!("[default.crowdsec]\napi_key = 'x'\n{line}")));
        assert!(said.contains(key) && said.contains(remedy), "{said}");
        assert!(!said.contains("struct") && !said.contains("___") && !said.contains("word@"), "{said}");
    }
    let said = problems(toml("[[default.crowdsec]]\napi_key = 's3cret'"));
    assert!(said.contains("[default.crowdsec]") && !said.contains("s3cret"), "{said}");
}

#[test]
fn half_of_a_certificate_is_told_by_the_key_that_is_set() {
    let set = |key: &str, more: &str| problems(toml(&format!("[default.crowdsec]\n{key} = '/nowhere'\n{more}")));
    for key in ["cert_path", "key_path"] {
        let alone = set(key, "");
        assert!(alone.contains(&format!("`crowdsec.{key}`")) && alone.contains("needs both"), "{alone}");
        let beside = set(key, "api_key = 'x'");
        assert!(beside.contains(&format!("`crowdsec.{key}`")) && beside.contains("take one away"), "{beside}");
    }
}

#[test]
fn a_key_file_may_begin_with_a_byte_order_mark() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    std::fs::write(&path, "\u{feff}s3cret\r\n").expect("a file");
    let config = Config::read(&toml("").merge(("crowdsec.api_key_file", path))).expect("a configuration");
    let key = config.lapi.connection.and_then(|lapi| lapi.key.clone()).map(|key| key.0);
    assert_eq!(key.as_deref(), Some("s3cret"));
}

#[test]
fn who_lets_everybody_in_is_told_so() {
    let own = |value: &str, kind: &str| {
        warnings(toml(&format!("[default.crowdsec]\ndecisions = [{{ value = '{value}', type = '{kind}' }}]")))
    };
    for everybody in ["0.0.0.0/0", "::/0"] {
        assert!(own(everybody, "allow").contains("nobody from there is ever refused"), "{everybody}");
        assert!(!own(everybody, "ban").contains("nobody from there"), "{everybody}");
    }
    assert!(!own("192.0.2.0/24", "allow").contains("nobody from there"));
}
