//! Which providers are there, and in what do they differ?

use serde::de::{Deserializer, Error};

use crate::crowdsec::setting::text;

/// What differs between providers, from their documentation.
#[derive(Debug, PartialEq)]
pub struct Provider {
    pub name: &'static str,
    pub script_url: &'static str,
    pub verify_url: &'static str,
    pub widget_class: &'static str,
    /// The field of the form that carries the answer.
    pub field: &'static str,
    /// The places that the widget needs in the page's content security policy.
    pub sources: &'static str,
}

/// Reads a provider's name.
pub fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'static Provider>, D::Error> {
    let name = text(deserializer)?;
    let known = [&RECAPTCHA, &HCAPTCHA, &TURNSTILE, &ALTCHA].into_iter().find(|provider| provider.name == name);
    let names = &["recaptcha", "hcaptcha", "turnstile", "altcha"];
    known.map(Some).ok_or_else(|| D::Error::unknown_variant(&name, names))
}

pub static RECAPTCHA: Provider = Provider {
    name: "recaptcha",
    script_url: "https://www.google.com/recaptcha/api.js",
    verify_url: "https://www.google.com/recaptcha/api/siteverify",
    widget_class: "g-recaptcha",
    field: "g-recaptcha-response",
    sources: "https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/ https://recaptcha.google.com/recaptcha/",
};

static HCAPTCHA: Provider = Provider {
    name: "hcaptcha",
    script_url: "https://js.hcaptcha.com/1/api.js",
    verify_url: "https://api.hcaptcha.com/siteverify",
    widget_class: "h-captcha",
    field: "h-captcha-response",
    sources: "https://hcaptcha.com https://*.hcaptcha.com",
};

static TURNSTILE: Provider = Provider {
    name: "turnstile",
    script_url: "https://challenges.cloudflare.com/turnstile/v0/api.js",
    verify_url: "https://challenges.cloudflare.com/turnstile/v0/siteverify",
    widget_class: "cf-turnstile",
    field: "cf-turnstile-response",
    sources: "https://challenges.cloudflare.com",
};

/// ALTCHA needs only our own page and server.
pub static ALTCHA: Provider =
    Provider { name: "altcha", script_url: "", verify_url: "", widget_class: "altcha", field: "altcha", sources: "" };
