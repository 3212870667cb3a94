//! How does a visitor prove to be human? By one of four providers, behind one small interface.

mod altcha;
mod config;
mod pass;
mod provider;
mod third_party;

use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;
use serde::Serialize;

use super::limit::Subject;
use super::setting::Secret;
use altcha::Altcha;
use pass::Passes;
use provider::{ALTCHA, Provider, RECAPTCHA};
use third_party::ThirdParty;

pub use config::Config;

/// The captcha as it is configured.
pub struct Captcha {
    /// What the page shows, without ALTCHA's challenge.
    pub shown: Widget,
    /// What the page's content security policy has to allow besides our own script.
    pub content_sources: String,
    altcha: Altcha,
    /// The provider that asks and judges in ALTCHA's place.
    third_party: Option<ThirdParty>,
    pub passes: Passes,
}

/// What the captcha page has to show; the variable `captcha` of its template.
#[derive(Clone, Serialize)]
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
    fn new(provider: &Provider, site_key: &str, script_url: &str, challenge: &str) -> Self {
        let Provider { name: provider, widget_class, field, .. } = *provider;
        let [site_key, script_url, challenge] = [site_key, script_url, challenge].map(str::to_owned);
        Self { provider, site_key, script_url, widget_class, field, challenge }
    }

    /// A widget of each sort that a page may tell apart, to try the page with.
    pub fn examples() -> [Self; 2] {
        let third_party = Self::new(&RECAPTCHA, "key", "https://captcha.example/api.js", "");
        [third_party, Self::new(&ALTCHA, "", "", "{}")]
    }
}

/// What a provider makes of a visitor's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finding {
    /// The answer is right. `since` is when the question was asked or answered, in seconds since 1970: from there on a
    /// pass counts.
    Human {
        since: u64,
    },
    Wrong,
    /// The answer came too late, or, with a third party, for the second time. Whether it was right is not known.
    Expired,
    /// Too many wrong answers of this visitor's. The provider was not asked; after this time it is again.
    TooMany(Duration),
    /// Nobody could tell. The captcha stands: an outage must not let everybody in.
    Away,
}

impl Captcha {
    /// `shared` is Rocket's secret key: what is made with it holds on all instances that share it. Where none is set (in the
    /// debug profile), a random one stands in, so that nothing that another process made holds.
    pub fn new(config: &Config, shared: Option<&Secret>) -> Result<Self, String> {
        let secret = shared.map_or_else(|| format!("{:032x}", rand::random::<u128>()), |secret| secret.0.clone());
        let third_party = (*config.provider != ALTCHA).then(|| ThirdParty::new(config)).transpose()?;
        let altcha = Altcha::new(config.difficulty, config.expiration, &secret);
        let shown = Widget::new(config.provider, &config.site_key, &config.script_url, "");
        let passes = Passes::new(&secret, config.expiration);
        Ok(Self { shown, content_sources: content_sources(config), altcha, third_party, passes })
    }

    /// The widget for one visitor; ALTCHA's challenge is bound to that visitor. `now` is in seconds since 1970.
    pub fn widget(&self, subject: Subject, now: u64) -> Result<Widget, String> {
        let challenge = if self.costs() { String::new() } else { self.altcha.challenge(subject, now)? };
        Ok(Widget { challenge, ..self.shown.clone() })
    }

    /// Whether each answer costs a question to somebody else, so that the number of wrong ones is limited.
    pub fn costs(&self) -> bool {
        self.third_party.is_some()
    }

    /// Judges a visitor's answer; `address` is whom it came from, `now` the time in seconds since 1970.
    pub async fn verify(&self, answer: &str, address: IpAddr, now: u64) -> Finding {
        match &self.third_party {
            Some(provider) => provider.verify(answer, address, now).await,
            None => self.altcha.verify(answer, address.into()),
        }
    }
}

/// The provider's sources, the origin of `script_url`, which the operator may have set, and the operator's `captcha.sources`.
fn content_sources(config: &Config) -> String {
    let script = Url::parse(&config.script_url).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    // www.recaptcha.net is for countries that block google.com; its script loads the rest from www.gstatic.cn.
    let elsewhere = if script.ends_with("://www.recaptcha.net") { "https://www.gstatic.cn" } else { "" };
    let all = [config.provider.sources, &script, elsewhere].into_iter();
    let all = all.chain(config.sources.iter().map(String::as_str));
    all.filter(|source| !source.is_empty()).collect::<Vec<_>>().join(" ")
}
