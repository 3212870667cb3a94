//! What do the variables `CROWDSEC_*` say? They beat Rocket.toml and `ROCKET_CROWDSEC`.

use std::env;

use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};

/// Keys whose variable is text as it stands: `007` stays `007`, and lengths of time are read later.
const TEXT: &str = "api_url api_key api_key_file cert_path key_path ca_cert_path update_frequency resync_frequency \
    startup_timeout on_startup_failure fallback_remediation client_ip_header snapshot access_log event_log log_format \
    captcha.provider captcha.site_key captcha.secret_key captcha.secret_key_file captcha.verify_url captcha.script_url \
    captcha.expiration";

/// Keys whose variable is a list: `a, b`, or figment's own `["a", "b"]`.
const LISTS: &str = "scopes origins scenarios_containing scenarios_not_containing excluded_paths trusted_proxies \
    captcha.hostnames";

/// Keys whose variable is in figment's notation.
const VALUES: &str = "decisions captcha.difficulty";

fn lists(keys: &str, key: &str) -> bool {
    keys.split_whitespace().any(|known| known == key)
}

/// Where the names of unknown variables wait for the launch to warn of them.
pub const UNKNOWN: &str = "crowdsec_unknown_variables";

/// The variables as a figment provider, read when it is made.
pub struct Environment(Vec<(String, String)>);

impl Environment {
    pub fn read() -> Self {
        let vars = env::vars_os().map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()));
        Self::of(vars)
    }

    /// An empty variable is an unset one: Compose and Kubernetes hand such on for what their user left out.
    pub fn of(vars: impl Iterator<Item = (String, String)>) -> Self {
        Self(vars.filter(|(name, value)| name.starts_with("CROWDSEC_") && !value.is_empty()).collect())
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment variable").interpolater(|_, keys| keys.join("_").to_uppercase())
    }

    /// Variables count in every profile.
    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let (mut crowdsec, mut captcha, mut unknown) = (Dict::new(), Dict::new(), Vec::new());
        for (name, text) in &self.0 {
            let key = name["CROWDSEC_".len()..].to_lowercase();
            let key = key.strip_prefix("captcha_").map_or(key.clone(), |key| format!("captcha.{key}"));
            let value = match key.as_str() {
                key if lists(TEXT, key) => Value::from(text.as_str()),
                key if lists(LISTS, key) && !text.trim_start().starts_with('[') => {
                    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>().into()
                }
                key if lists(LISTS, key) || lists(VALUES, key) => match text.parse() {
                    Ok(value) => value,
                    Err(never) => match never {},
                },
                _ => {
                    unknown.push(Value::from(name.as_str()));
                    continue;
                }
            };
            match key.strip_prefix("captcha.") {
                Some(key) => captcha.insert(key.into(), value),
                None => crowdsec.insert(key, value),
            };
        }
        if !captcha.is_empty() {
            crowdsec.insert("captcha".into(), captcha.into());
        }
        let mut all = Dict::new();
        if !crowdsec.is_empty() {
            all.insert("crowdsec".into(), crowdsec.into());
        }
        if !unknown.is_empty() {
            all.insert(UNKNOWN.into(), unknown.into());
        }
        Ok(Map::from([(Profile::Global, all)]))
    }
}
