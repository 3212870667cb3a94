//! What is an operator told whose settings must be a mistake? One warning for each setting, with the next step.

use dev::Verdict::{Ban, Welcome};
use dev::{App, KEY, Lapi, Proxy, Request};

const RELEASE: [(&str, &str); 2] =
    [("ROCKET_PROFILE", "release"), ("ROCKET_SECRET_KEY", "hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs=")];

/// An application outside the debug profile that trusts no proxy.
fn trusting_nobody(lapi: &Lapi) -> App {
    App::polling(lapi.url(), &[RELEASE.as_slice(), &[("CROWDSEC_TRUSTED_PROXIES", "[]")]].concat())
}

#[track_caller]
fn told(app: &App, text: &str) {
    app.tells(text, 1);
}

// --- trusted_proxies, forgotten ---

#[test]
fn a_forgotten_proxy_is_told_of_at_the_third_request_whatever_header_it_sets() {
    let lapi = Lapi::start();
    for set in [
        "X-Forwarded-For $proxy_add_x_forwarded_for",
        "X-Real-IP $remote_addr",
        "X-Forwarded-Proto $scheme",
        "Forwarded for=$remote_addr",
    ] {
        let app = trusting_nobody(&lapi);
        let proxy = Proxy::nginx(app.address(), "", &format!("proxy_set_header {set};"));
        // A load balancer's probes and requests from this machine neither count nor prevent the warning.
        for _ in 0..5 {
            assert_eq!(Request::new(proxy.v4(), "GET", "/crowdsec/health").send().status, 200);
            assert_eq!(app.get("/").send().status, 200);
        }
        let visit = || assert_eq!(Request::new(proxy.v4(), "GET", "/").peer("127.66.0.2").send().status, 200);
        (0..2).for_each(|_| visit());
        assert_eq!(app.logged("CROWDSEC_TRUSTED_PROXIES="), 0, "{}", app.log());
        assert_eq!(app.get("/").send().status, 200);
        (0..20).for_each(|_| visit());
        let name = set.split(' ').next().expect("a header's name");
        told(&app, &format!("3 requests so far bore {name}"));
        told(&app, "CROWDSEC_TRUSTED_PROXIES=127.0.0.1");
    }
}

#[test]
fn a_forgotten_proxy_is_told_of_though_everybody_behind_it_is_banned_already() {
    let lapi = Lapi::start();
    lapi.ban("127.0.0.1");
    let app = trusting_nobody(&lapi);
    let proxy = Proxy::haproxy(&[app.address()], "option forwardfor", "");
    (0..4).for_each(|_| assert_eq!(Request::new(proxy.v4(), "GET", "/").send().status, 403));
    told(&app, "CROWDSEC_TRUSTED_PROXIES=127.0.0.1");
}

/// The proxy at the edge has an address of its own, 127.0.0.7, and only the inner one is trusted.
#[test]
fn a_proxy_that_was_forgotten_before_another_one_is_told_of_too() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1")]);
    let add = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";
    let inner = Proxy::nginx(app.address(), "", add);
    let edge = Proxy::nginx(inner.v4(), "", &format!("proxy_bind 127.0.0.7; {add}"));
    (0..5).for_each(|_| assert_eq!(Request::new(inner.v4(), "GET", "/").peer("127.0.0.7").send().status, 200));
    assert_eq!(app.logged("CROWDSEC_TRUSTED_PROXIES="), 0, "a visitor with a private address is none: {}", app.log());
    (0..5).for_each(|_| assert_eq!(Request::new(edge.v4(), "GET", "/").send().status, 200));
    told(&app, "CROWDSEC_TRUSTED_PROXIES=127.0.0.7");
}

#[test]
fn nobody_is_told_of_a_proxy_that_is_trusted_or_is_none() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[("CROWDSEC_TRUSTED_PROXIES", "127.0.0.1")]);
    let proxy = Proxy::haproxy(&[app.address()], "option forwardfor", "");
    (0..10).for_each(|_| assert_eq!(Request::new(proxy.v4(), "GET", "/").peer("127.66.0.2").send().status, 200));
    (0..10).for_each(|_| assert_eq!(app.get("/").peer("127.66.0.2").send().status, 200));
    (0..10).for_each(|_| _ = app.get("/crowdsec/health").peer("127.66.0.2").from("192.0.2.1").send());
    assert_eq!(app.logged("CROWDSEC_TRUSTED_PROXIES="), 0, "{}", app.log());
}

// --- what is said at the launch ---

#[test]
fn trusted_proxies_that_hold_everybody_are_told_of_and_admit_nobody_by_their_word() {
    let lapi = Lapi::start();
    for everybody in ["0.0.0.0/0,::/0", "127.0.0.1,0.0.0.0/1"] {
        let app = App::polling(lapi.url(), &[("CROWDSEC_TRUSTED_PROXIES", everybody)]);
        told(&app, "`crowdsec.trusted_proxies` holds 0.0.0.0/");
        assert_eq!(app.get("/").from("127.9.9.9, 10.0.0.1").send().status, 403);
    }
}

#[test]
fn the_debug_profile_where_others_can_reach_it_is_told_of() {
    let app = App::start(&[("ROCKET_ADDRESS", "0.0.0.0")]);
    told(&app, "This is the debug profile, and others can reach it at 0.0.0.0");
    assert_eq!(App::start(&[]).logged("This is the debug profile"), 0);
}

#[test]
fn a_configuration_file_that_is_not_there_is_told_of() {
    let lapi = Lapi::start();
    for (settings, count) in [(RELEASE.as_slice(), 1), (&[], 1)] {
        let settings = [settings, &[("ROCKET_CONFIG", "no-such-file.toml")]].concat();
        let app = App::polling(lapi.url(), &settings);
        app.tells("There is no no-such-file.toml", count);
    }
    assert_eq!(App::polling(lapi.url(), &RELEASE).logged("There is no"), 0);
}

#[test]
fn a_captcha_that_becomes_a_ban_for_want_of_a_provider_is_told_of_once() {
    let lapi = Lapi::start();
    let none = [
        ("CROWDSEC_CAPTCHA_PROVIDER", ""),
        ("CROWDSEC_CAPTCHA_SITE_KEY", ""),
        ("CROWDSEC_CAPTCHA_SECRET_KEY", ""),
        ("CROWDSEC_RESYNC_FREQUENCY", "2s"),
    ];
    let app = App::polling(lapi.url(), &[RELEASE.as_slice(), &none].concat());
    lapi.ban("192.0.2.1");
    app.eventually("192.0.2.1", Ban);
    assert_eq!(app.logged("CROWDSEC_CAPTCHA_PROVIDER=altcha"), 0, "{}", app.log());
    for visitor in ["192.0.2.2", "192.0.2.3"] {
        lapi.captcha(visitor);
        app.eventually(visitor, Ban);
    }
    told(&app, "CROWDSEC_CAPTCHA_PROVIDER=altcha");
}

#[test]
fn origins_that_match_nothing_are_told_of() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    for (origins, misspelt) in [("CSCLI", true), ("crowdsec", false), ("lists:cscli", true)] {
        let app = App::polling(lapi.url(), &[("CROWDSEC_ORIGINS", origins)]);
        assert_eq!(app.verdict("192.0.2.1"), Welcome);
        told(&app, &format!("LAPI has no decision that fits origins = {origins}"));
        app.tells(&format!("`crowdsec.origins` has \"{origins}\""), usize::from(misspelt));
    }
    for usual in ["cscli", "cscli, lists, CAPI"] {
        let app = App::polling(lapi.url(), &[("CROWDSEC_ORIGINS", usual)]);
        assert_eq!((app.verdict("192.0.2.1"), app.logged("origins")), (Ban, 0), "{}", app.log());
    }
    // One of two origins is misspelt beyond recognition.
    let app = App::polling(lapi.url(), &[("CROWDSEC_ORIGINS", "cscli,crowdsek"), ("CROWDSEC_RESYNC_FREQUENCY", "2s")]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    told(&app, "LAPI has no decision that fits origins = crowdsek");
}

#[test]
fn remediations_of_an_origin_without_a_type_are_told_of() {
    let lapi = Lapi::start();
    for (key, is_odd) in [
        ("CAPI", true),
        ("capi", true),
        ("Lists:tor", true),
        ("lists:tor", true),
        ("CAPI/*", true),
        ("CAPI/ban", false),
        ("lists:tor/ban", false),
        ("mfa", false),
    ] {
        let remediations = format!("{{ \"{key}\" = \"pass\" }}");
        let app = App::polling(lapi.url(), &[("CROWDSEC_REMEDIATIONS", &remediations)]);
        app.tells(&format!("`crowdsec.remediations` has `{key}`, which looks like no type"), usize::from(is_odd));
    }
}

// --- names and values from the environment ---

/// The variables that Kubernetes sets in every pod for a Service with this project's name.
const SERVICE: [(&str, &str); 6] = [
    ("ROCKET_CROWDSEC_SERVICE_HOST", "10.96.0.7"),
    ("ROCKET_CROWDSEC_SERVICE_PORT", "80"),
    ("ROCKET_CROWDSEC_PORT", "tcp://10.96.0.7:80"),
    ("ROCKET_CROWDSEC_PORT_80_TCP", "tcp://10.96.0.7:80"),
    ("ROCKET_CROWDSEC_PORT_80_TCP_PROTO", "tcp"),
    ("ROCKET_CROWDSEC_PORT_80_TCP_ADDR", "10.96.0.7"),
];

#[test]
fn the_variables_of_a_kubernetes_service_are_named_in_one_warning_and_stop_nothing() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let app = App::polling(lapi.url(), &[SERVICE.as_slice(), &RELEASE].concat());
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    SERVICE.iter().for_each(|(name, _)| told(&app, name));
    told(&app, "no setting is called so");
}

#[test]
fn a_misspelt_variable_is_named_where_the_launch_fails_too() {
    let misspelt = [("CROWDSEC_API_KYE", KEY), ("ROCKET_CROWDSEC_API_KEY", KEY)];
    let ended = App::fails_to_start(&[RELEASE.as_slice(), &misspelt].concat());
    for name in ["CROWDSEC_API_KYE", "ROCKET_CROWDSEC_API_KEY", "`crowdsec.api_key` is missing"] {
        assert!(ended.log.contains(name), "{name}: {}", ended.log);
    }
    assert!(!ended.status.success() && !ended.log.contains(KEY), "{}", ended.log);
}

#[test]
fn variables_with_white_space_at_their_ends_mean_what_they_say() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    for space in ["\r", " ", "\r\n", "\t"] {
        let around = |(name, value): &(&str, &str)| (name.to_string(), format!("{value}{space}"));
        let url = format!("{}//", lapi.url().trim_end_matches('/'));
        let settings = App::usual(&url, &RELEASE);
        let settings: Vec<(String, String)> = settings.iter().map(around).collect();
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
        let app = App::start(&settings);
        assert_eq!((app.verdict("192.0.2.1"), app.verdict("192.0.2.2")), (Ban, Welcome), "{space:?}: {}", app.log());
    }
}

#[test]
fn a_variable_of_white_space_alone_is_an_unset_one() {
    let blank =
        ["API_KEY", "API_URL", "DECISIONS", "TRUSTED_PROXIES", "UPDATE_FREQUENCY", "CAPTCHA_DIFFICULTY", "SNAPSHOT"];
    let blank: Vec<String> = blank.iter().map(|key| format!("CROWDSEC_{key}")).collect();
    let mut settings: Vec<(&str, &str)> = blank.iter().map(|name| (name.as_str(), " \r\n")).collect();
    settings.extend([
        ("ROCKET_CROWDSEC", " "),
        ("ROCKET_SECRET_KEY", ""),
        ("ROCKET_PROFILE", ""),
        ("ROCKET_CONFIG", ""),
    ]);
    assert_eq!(App::start(&settings).verdict("203.0.113.7"), Ban, "the debug profile's example");
}

#[test]
fn a_variable_that_nobody_replaced_stops_the_launch_and_is_not_printed() {
    // The application's own test of this name checks the other forms.
    let (form, url) = ("${MY_S3CRET}", "http://${MY_S3CRET}:8080/");
    for (name, value) in [
        ("CROWDSEC_API_KEY", form),
        ("CROWDSEC_API_URL", url),
        ("CROWDSEC_CAPTCHA_SECRET_KEY", form),
        ("CROWDSEC_CAPTCHA_VERIFY_URL", url),
        ("ROCKET_SECRET_KEY", form),
        ("ROCKET_CROWDSEC", r#"{api_key="${MY_S3CRET}"}"#),
    ] {
        let mut settings = App::usual("http://127.0.0.1:9/", &RELEASE);
        settings.retain(|(known, _)| *known != name && (name != "ROCKET_CROWDSEC" || *known != "CROWDSEC_API_KEY"));
        settings.push((name, value));
        let ended = App::fails_to_start(&settings);
        assert!(!ended.status.success() && ended.log.contains("looks like a variable"), "{name}: {}", ended.log);
        assert!(!ended.log.to_lowercase().contains("my_s3cret"), "{name}: {}", ended.log);
    }
}

#[test]
fn everything_is_told_before_lapi_has_answered() {
    // A warning at the launch must not wait for a LAPI that is away.
    let app = App::polling("http://127.0.0.1:9/", &[("CROWDSEC_ORIGINS", "capi"), ("CROWDSEC_API_KYE", "x")]);
    let late = " has not answered yet: nobody listens there";
    app.tells(late, 1);
    let log = app.log();
    let before = log.split(late).next().expect("what was told before");
    assert!(before.contains("\"CAPI\"") && before.contains("CROWDSEC_API_KYE"), "{log}");
}
