//! What becomes of environment variables, ours and others'? And of a placeholder such as `${X}` that nobody replaced?

use super::*;

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
    assert_eq!(config.lapi.update_frequency, Duration::from_secs(7));
    let lapi = config.lapi.connection.unwrap();
    assert!(lapi.key.as_ref().is_some_and(|key| key.0 == "from-the-file"));
    assert!(lapi.filters.contains(&("origins", "a,b,c".into())));
    assert_eq!(config.visitor.trusted_proxies, [network("10.0.0.0/8").unwrap(), network("192.0.2.1").unwrap()]);
    assert_eq!(config.captcha.unwrap().difficulty, 9);
    assert_eq!(config.bouncer.decisions[0].remediation, Remediation::Allow);
}

#[test]
fn a_secret_in_a_variable_is_text_as_it_stands() {
    for text in ["007", "true", "1.50", "12345678901234567890123", "[x]", "{a=1}"] {
        let config = Config::read(&toml("").merge(environment(&[("CROWDSEC_API_KEY", text)]))).unwrap();
        assert!(config.lapi.connection.unwrap().key.as_ref().is_some_and(|key| key.0 == text), "{text}");
    }
}

/// What Kubernetes sets for a Service of this name in every pod.
fn of_a_service(name: &str) -> Vec<(String, String)> {
    let vars = [
        ("SERVICE_HOST", "10.96.0.7"),
        ("SERVICE_PORT", "80"),
        ("PORT", "tcp://10.96.0.7:80"),
        ("PORT_80_TCP", "tcp://10.96.0.7:80"),
        ("PORT_80_TCP_ADDR", "10.96.0.7"),
    ];
    vars.map(|(end, value)| (format!("{name}_{end}"), value.to_owned())).into()
}

#[test]
fn the_variables_of_a_service_are_named_and_stop_nothing() {
    for name in ["CROWDSEC", "CROWDSEC_LAPI", "ROCKET_CROWDSEC", "ROCKET_CROWDSEC_API_KEY"] {
        let vars = of_a_service(name);
        let said = warnings(toml("").merge(Environment::of(vars.clone().into_iter())));
        assert!(vars.iter().all(|(name, _)| said.contains(name)), "{name}: {said}");
    }
    assert_eq!(warnings(toml("")), "");
}

#[test]
fn a_variable_that_no_setting_knows_is_named_and_stops_nothing_whatever_it_holds() {
    for (name, value) in [
        ("CROWDSEC_CAPTCHA_PORT", "tcp://10.0.0.1:80"),
        ("CROWDSEC_CAPTCHA_PROVIDR", "altcha"),
        ("CROWDSEC_CAPTCHA", "x"),
        ("CROWDSEC_HUB_URL", "${HUB}/x"),
        ("CROWDSEC_FOO.BAR", "x"),
        ("CROWDSEC_CAPTCHA.FOO", "$(FOO)"),
        ("CROWDSEC_DECISIONS_0_TYPE", "ban"),
    ] {
        let figment = toml("").merge(environment(&[(name, value)]));
        assert!(warnings(figment.clone()).contains(name), "{name}");
        // The debug profile's examples stand as if the variable were not set.
        let config = Config::read(&figment).unwrap();
        assert!(config.captcha.is_some() && config.bouncer.decisions.len() == 2, "{name}");
    }
    let config = Config::read(
        &toml("").merge(environment(&[("CROWDSEC_CAPTCHA.DIFFICULTY", "9"), ("CROWDSEC_CAPTCHA_PROVIDER", "altcha")])),
    );
    assert_eq!(
        config.unwrap().captcha.map(|captcha| captcha.difficulty),
        Some(9),
        "the other spelling of a table's key"
    );
}

#[test]
fn rockets_variables_that_are_not_meant_for_rocket_are_left_out() {
    let vars = [
        ("ROCKET_CROWDSEC_PORT", "tcp://10.96.0.7:80"),
        ("Rocket_Crowdsec_api_key", "a-secret-in-the-wrong-place"),
        ("ROCKET_CROWD_SEC", "{api_key=x}"),
        ("ROCKET_PORT", "tcp://10.96.0.7:80"),
        ("ROCKET_SECRET_KEY", " "),
        ("ROCKET_CROWDSEC", "{}"),
        ("ROCKET_CROWDSEC.ORIGINS", "[a]"),
        ("ROCKET_ADDRESS", "127.0.0.1"),
    ];
    let environment = environment(&vars);
    assert_eq!(environment.ignored, ["CROWDSEC_PORT", "CROWDSEC_API_KEY", "CROWD_SEC", "PORT", "SECRET_KEY"]);
    let said = warnings(toml("").merge(environment));
    assert!(vars[..4].iter().all(|(name, _)| said.contains(name)), "{said}");
    assert!(vars[4..].iter().all(|(name, _)| !said.contains(&format!("{name},"))), "{said}");
    assert!(!said.contains("a-secret-in-the-wrong-place"), "{said}");
}

#[test]
fn a_misspelt_variable_is_named_where_the_launch_fails_too() {
    let vars = [("CROWDSEC_API_KYE", "s3cret"), ("ROCKET_CROWDSEC_API_KEY", "s3cret")];
    let said = problems(toml("").merge(environment(&vars)).select("release"));
    assert!(said.contains("CROWDSEC_API_KYE") && said.contains("ROCKET_CROWDSEC_API_KEY"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn values_of_variables_lose_white_space_at_their_ends() {
    for space in ["\r", "\n", "\r\n", " ", "\t", "\u{a0}"] {
        let around = |text: &str| format!("{space}{text}{space}");
        let vars = [
            ("CROWDSEC_API_KEY", around("a-key")),
            ("CROWDSEC_API_URL", around("http://127.0.0.1:9/")),
            ("CROWDSEC_UPDATE_FREQUENCY", around("7s")),
            ("CROWDSEC_ON_STARTUP_FAILURE", around("closed")),
            ("CROWDSEC_ORIGINS", around("[\"CAPI\", lists]")),
            ("CROWDSEC_TRUSTED_PROXIES", around("192.0.2.1 , 192.0.2.2")),
            ("CROWDSEC_CLIENT_IP_HEADER", around("X-Real-IP")),
            ("CROWDSEC_DECISIONS", around("[]")),
            ("CROWDSEC_SNAPSHOT", around("/srv/kept")),
            ("CROWDSEC_CAPTCHA_PROVIDER", around("altcha")),
            ("CROWDSEC_CAPTCHA_DIFFICULTY", around("9")),
            ("CROWDSEC_SCOPES", space.to_owned()),
        ];
        let environment = Environment::of(vars.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let config = Config::read(&toml("").merge(environment)).expect("all of them are good");
        let lapi = config.lapi.connection.expect("a key");
        assert!(lapi.key.as_ref().is_some_and(|key| key.0 == "a-key"), "{space:?}");
        assert_eq!(lapi.at, "http://127.0.0.1:9/", "{space:?}");
        assert_eq!(lapi.filters, [("scopes", "ip,range".into()), ("origins", "CAPI,lists".into())]);
        assert_eq!(config.lapi.update_frequency, Duration::from_secs(7));
        assert_eq!(config.lapi.on_startup_failure, OnStartupFailure::Closed);
        assert_eq!(config.visitor.trusted_proxies.len(), 2);
        assert_eq!(config.visitor.client_ip_header, "X-Real-IP");
        assert!(config.bouncer.decisions.is_empty() && config.lapi.snapshot == Some("/srv/kept".into()));
        assert_eq!(config.captcha.map(|captcha| captcha.difficulty), Some(9));
    }
}

#[test]
fn a_variable_that_nobody_replaced_stops_the_launch_and_is_not_printed() {
    let forms = ["${S3CRET}", "${S3CRET:-}", "$(S3CRET)", "%S3CRET%", "{{ s3cret }}", "$S3CRET", "$s3cret"];
    let keys =
        ["API_KEY", "API_KEY_FILE", "CAPTCHA_SECRET_KEY", "CAPTCHA_SITE_KEY", "ORIGINS", "TRUSTED_PROXIES", "SNAPSHOT"];
    let named = |key: &str, said: &str| {
        let key = key.to_lowercase().replace("captcha_", "captcha.");
        assert!(said.contains(&format!("`crowdsec.{key}`")) && said.contains("variable"), "{key}: {said}");
        assert!(!said.to_lowercase().contains("s3cret"), "{said}");
    };
    for form in forms {
        for key in keys {
            named(key, &problems(toml("").merge(environment(&[(&format!("CROWDSEC_{key}"), form)]))));
        }
        for (key, start) in
            [("API_URL", "http://"), ("CAPTCHA_VERIFY_URL", "https://a.example:"), ("CAPTCHA_SCRIPT_URL", "")]
        {
            let value = format!("{start}{form}/a");
            named(key, &problems(toml("").merge(environment(&[(&format!("CROWDSEC_{key}"), &value)]))));
        }
        named("api_key", &problems(toml(&format!("[default.crowdsec]\napi_key = '{form}'"))));
        let said = problems(toml(&format!("[default]\nsecret_key = '{form}'")));
        assert!(said.contains("`secret_key`") && !said.to_lowercase().contains("s3cret"), "{said}");
    }
    for figment in [toml("").merge(("crowdsec", "${TABLE}")), toml("").select("${PROFILE}")] {
        let said = problems(figment);
        assert!(said.contains("${…}"), "{said}");
    }
}

#[test]
fn a_variable_that_keeps_its_quotes_stops_the_launch_and_is_not_printed() {
    for value in ["\"s3cret\"", "'s3cret'", "\"\"", "'[{ value = \"192.0.2.1\", type = \"ban\" }]'"] {
        for key in
            ["API_KEY", "MODE", "SITE_NAME", "ORIGINS", "DECISIONS", "CAPTCHA_SECRET_KEY", "ROCKET_SECRET_KEY_FILE"]
        {
            let said = problems(toml("").merge(environment(&[(&format!("CROWDSEC_{key}"), value)])));
            assert!(
                said.contains(&format!("CROWDSEC_{key}): the quotes are part of the value: take them away")),
                "{said}"
            );
            assert!(!said.contains("s3cret") && said.lines().count() == 1, "{said}");
        }
    }
    let syntax = [("CROWDSEC_ORIGINS", "[\"CAPI\", \"lists\"]"), ("CROWDSEC_CONTACT", "o'neil@example.org")];
    let own = toml("[default.crowdsec]\nsite_name = '\"The Shop\"'").merge(environment(&syntax));
    assert!(Config::read(&own).is_ok(), "{}", problems(own));
}

#[test]
fn a_file_with_a_variable_that_nobody_replaced_is_no_secret() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file, b"${S3CRET}\n").expect("a full file");
    for key in ["api_key", "captcha.secret_key"] {
        let figment = toml("[default.crowdsec.captcha]\nprovider = 'altcha'");
        let said = problems(figment.merge((format!("crowdsec.{key}_file").as_str(), file.path())));
        assert!(said.contains(&format!("`crowdsec.{key}_file`")) && said.contains("${…}"), "{said}");
        assert!(!said.contains("S3CRET"), "{said}");
    }
}

#[test]
fn every_key_has_its_variable() {
    let figment = toml("");
    let mut reading = Reading::of(&figment);
    Config::gather(&mut reading).expect("the debug profile needs no setting");
    assert!(reading.known.len() > 20, "{:?}", reading.known);
    for key in reading.known.iter().filter(|key| !TABLES.contains(&key.as_str())) {
        let variable = format!("CROWDSEC_{}", key.replace('.', "_").to_uppercase());
        let blank = toml("").merge(environment(&[(&variable, " \r\n")]));
        assert!(blank.find_value("crowdsec").is_err(), "an empty {variable} is an unset one");
        let said = problems(toml("").merge(environment(&[(&variable, "${X}")])));
        assert!(said.contains(key.as_str()) && said.contains("${…}"), "{variable}: {said}");
    }
}
