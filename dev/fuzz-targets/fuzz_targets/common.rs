//! The application that the targets ask. It has decisions of its own and a captcha, and no LAPI.

use rocket::Config;
use rocket::figment::Figment;
use rocket::figment::value::{Dict, Value};
use rocket::local::blocking::Client;

/// One application for the whole run. A panic anywhere in it is a finding: libFuzzer's hook aborts before Rocket catches it.
pub fn with_app(ask: impl FnOnce(&Client)) {
    thread_local! {
        static APP: Client = Client::untracked(app::app(figment())).expect("the application launches");
    }
    APP.with(ask);
}

fn figment() -> Figment {
    let decision = |value: &str, kind: &str| {
        Value::from(Dict::from([("value".into(), Value::from(value)), ("type".into(), Value::from(kind))]))
    };
    Figment::from(Config::debug_default())
        .merge(("ip_header", false))
        .merge(("log_level", "off"))
        .merge(("secret_key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="))
        .merge(("crowdsec.decisions", vec![decision("203.0.113.0/24", "ban"), decision("100.64.0.0/10", "captcha")]))
        .merge(("crowdsec.trusted_proxies", vec!["10.0.0.0/8"]))
        .merge(("crowdsec.captcha.provider", "altcha"))
}
