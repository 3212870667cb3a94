//! Which providers are there, and in what do they differ?

use serde::Deserialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Recaptcha,
    Hcaptcha,
    Turnstile,
    Altcha,
}

/// What differs between them, from their documentation.
pub struct Details {
    pub name: &'static str,
    pub script_url: &'static str,
    pub verify_url: &'static str,
    pub widget_class: &'static str,
    /// The field of the form that carries the answer.
    pub field: &'static str,
    /// The places that their widget needs in the page's content security policy.
    pub sources: &'static str,
}

impl Provider {
    pub fn details(self) -> &'static Details {
        match self {
            Self::Recaptcha => &RECAPTCHA,
            Self::Hcaptcha => &HCAPTCHA,
            Self::Turnstile => &TURNSTILE,
            Self::Altcha => &ALTCHA,
        }
    }
}

static RECAPTCHA: Details = Details {
    name: "recaptcha",
    script_url: "https://www.google.com/recaptcha/api.js",
    verify_url: "https://www.google.com/recaptcha/api/siteverify",
    widget_class: "g-recaptcha",
    field: "g-recaptcha-response",
    sources: "https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/ https://recaptcha.google.com/recaptcha/",
};

static HCAPTCHA: Details = Details {
    name: "hcaptcha",
    script_url: "https://js.hcaptcha.com/1/api.js",
    verify_url: "https://api.hcaptcha.com/siteverify",
    widget_class: "h-captcha",
    field: "h-captcha-response",
    sources: "https://hcaptcha.com https://*.hcaptcha.com",
};

static TURNSTILE: Details = Details {
    name: "turnstile",
    script_url: "https://challenges.cloudflare.com/turnstile/v0/api.js",
    verify_url: "https://challenges.cloudflare.com/turnstile/v0/siteverify",
    widget_class: "cf-turnstile",
    field: "cf-turnstile-response",
    sources: "https://challenges.cloudflare.com",
};

/// Our own page and server are all that it needs.
static ALTCHA: Details =
    Details { name: "altcha", script_url: "", verify_url: "", widget_class: "altcha", field: "altcha", sources: "" };
