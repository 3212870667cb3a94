//! Which provider asks the captcha, and with which keys? The settings of this room, read and checked.

use std::time::Duration;

use figment::value::magic::RelativePathBuf;
use serde::Deserialize;

use super::provider::{ALTCHA, Provider, named};
use crate::crowdsec::setting::{BadSetting, List, Number, Reading, Secret, Span};

/// `[default.crowdsec.captcha]`: each key as Rocket.toml and the variables write it; docs/configuration.md says what each
/// means.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    #[serde(deserialize_with = "named")]
    provider: Option<&'static Provider>,
    site_key: Option<Secret>,
    secret_key: Option<Secret>,
    secret_key_file: Option<RelativePathBuf>,
    verify_url: Option<String>,
    script_url: Option<String>,
    hostnames: List<String>,
    sources: List<String>,
    difficulty: Option<Number>,
    expiration: Option<Span>,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub provider: &'static Provider,
    pub site_key: String,
    pub secret_key: Secret,
    /// Whole addresses: the provider's own where none is set. Empty for altcha.
    pub verify_url: String,
    pub script_url: String,
    pub hostnames: Vec<String>,
    /// Further places that the page's content security policy allows.
    pub sources: Vec<String>,
    /// The largest number that altcha may have a browser count to.
    pub difficulty: u32,
    /// How long a solved captcha holds.
    pub expiration: Duration,
}

impl Config {
    /// `None` where no provider is set. Where nothing of the table is set, the debug profile has altcha, which needs no account
    /// and no network.
    pub fn read(reading: &mut Reading<'_>) -> Result<Option<Self>, BadSetting> {
        let set: Option<Settings> = reading.table_of("captcha")?;
        let example = || Settings { provider: Some(&ALTCHA), ..Settings::default() };
        let Some(settings) = set.or_else(|| reading.debug.then(example)) else { return Ok(None) };
        let Some(provider) = settings.provider else {
            let remedy = "write \"recaptcha\", \"hcaptcha\", \"turnstile\" or \"altcha\"";
            if settings.site_key.is_some() || settings.secret_key.is_some() || settings.secret_key_file.is_some() {
                reading.wrong("captcha.provider", &format!("a provider's key is set, and no provider: {remedy}"));
            } else {
                let what = "`crowdsec.captcha` is set, and counts for nothing without `provider`";
                reading.warnings.push(format!("{what}: {remedy}."));
            }
            return Ok(None);
        };
        let (key, file) = (settings.secret_key.as_ref(), settings.secret_key_file.as_ref());
        let secret = reading.secret("captcha.secret_key", key, file);
        let has_secret = key.is_some() || file.is_some();
        if *provider != ALTCHA && !(has_secret && settings.site_key.is_some()) {
            let what =
                "this provider needs `captcha.site_key` and `captcha.secret_key`: take both from your account there";
            reading.wrong("captcha.provider", what);
        }
        // Each source goes into a header as it stands, where `;` would begin another rule.
        let is_source = |text: &String| text.bytes().all(|byte| byte.is_ascii_graphic() && !b";,'\"".contains(&byte));
        if !settings.sources.0.iter().all(is_source) {
            let what = "write each place as in a content security policy, \"https://www.gstatic.cn\"";
            reading.wrong("captcha.sources", what);
        }
        if settings.hostnames.0.iter().any(|host| host.contains(['/', ':', ' '])) {
            let what = "write bare host names, \"www.example.org\", without https://, port or path";
            reading.wrong("captcha.hostnames", what);
        }
        if settings.expiration.as_ref().is_some_and(|span| span.0 < Duration::from_secs(60)) {
            let what = "`crowdsec.captcha.expiration` is under a minute: visitors soon meet the captcha again, and with altcha those who need longer to solve it never get in.";
            reading.warnings.push(what.into());
        }
        if settings.difficulty == Some(Number(0)) {
            reading.wrong("captcha.difficulty", "a proof of no work proves nothing: write a number from 1");
        }
        let mut url = |key, set, theirs: &str| match reading.url(key, set) {
            // Altcha loads nothing from elsewhere, whatever is set.
            Some(own) if *provider != ALTCHA => own.into(),
            _ => theirs.to_owned(),
        };
        Ok(Some(Self {
            provider,
            site_key: settings.site_key.filter(|_| *provider != ALTCHA).map(|key| key.0).unwrap_or_default(),
            secret_key: secret.unwrap_or(Secret(String::new())),
            verify_url: url("captcha.verify_url", settings.verify_url, provider.verify_url),
            script_url: url("captcha.script_url", settings.script_url, provider.script_url),
            hostnames: settings.hostnames.0,
            sources: settings.sources.0,
            difficulty: settings.difficulty.map_or(1_000_000, |number| number.0),
            expiration: settings.expiration.map_or(Duration::from_secs(60 * 60), |span| span.0),
        }))
    }
}
