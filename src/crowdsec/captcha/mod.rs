//! How does a visitor prove to be human? One of four providers, behind one small interface.

mod altcha;
mod third_party;

use std::net::IpAddr;

use serde::Serialize;

use super::client_ip::Subject;
use super::config::{CaptchaConfig, Config, Provider};
use altcha::Altcha;
use third_party::ThirdParty;

/// The configured provider.
pub enum Captcha {
    Altcha(Altcha),
    ThirdParty(ThirdParty),
}

/// What the captcha page has to show; the variable `captcha` of its template.
#[derive(Serialize)]
pub struct Widget {
    pub provider: &'static str,
    pub site_key: String,
    /// Empty where nothing is loaded.
    pub script_url: String,
    pub widget_class: &'static str,
    /// The field of the form that carries the answer.
    pub field: &'static str,
    /// ALTCHA's challenge as JSON, empty for the others.
    pub challenge: String,
}

impl Widget {
    /// One of each sort that a page may tell apart, to try it with.
    pub fn examples() -> [Self; 2] {
        let empty = String::new;
        let of = |provider, site_key, script_url, challenge| Self {
            provider,
            site_key,
            script_url,
            widget_class: "widget",
            field: "answer",
            challenge,
        };
        let third_party = of("recaptcha", "key".into(), "https://captcha.example/api.js".into(), empty());
        [third_party, of("altcha", empty(), empty(), "{}".into())]
    }
}

/// What a provider makes of a visitor's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Human,
    Wrong,
    /// Right, perhaps, but too late or for the second time.
    Expired,
    /// Nobody could tell. The captcha stands: an outage must not let everybody in.
    Away,
}

impl Captcha {
    pub fn new(captcha: &CaptchaConfig, config: &Config) -> Result<Self, String> {
        Ok(match captcha.provider {
            Provider::Altcha => Self::Altcha(Altcha::new(captcha, config.shared_secret.as_ref())),
            _ => Self::ThirdParty(ThirdParty::new(captcha)?),
        })
    }

    /// The widget for one visitor; ALTCHA's challenge is bound to who it is for.
    pub fn widget(&self, subject: Subject) -> Result<Widget, String> {
        match self {
            Self::Altcha(altcha) => altcha.widget(subject),
            Self::ThirdParty(provider) => Ok(provider.widget()),
        }
    }

    /// The form's field that carries the answer.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Altcha(_) => altcha::FIELD,
            Self::ThirdParty(provider) => provider.field(),
        }
    }

    /// What the page's content security policy has to allow besides our own script.
    pub fn content_sources(&self) -> String {
        match self {
            Self::Altcha(_) => String::new(),
            Self::ThirdParty(provider) => provider.content_sources(),
        }
    }

    /// Judges a visitor's answer; `address` is whom it came from.
    pub async fn verify(&self, answer: &str, address: IpAddr) -> Verdict {
        match self {
            Self::Altcha(altcha) => altcha.verify(answer, address.into()),
            Self::ThirdParty(provider) => provider.verify(answer, address).await,
        }
    }
}
