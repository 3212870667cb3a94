//! What do the variables `CROWDSEC_*` say? They beat Rocket.toml and `ROCKET_CROWDSEC`.

use std::env;

use figment::providers::Env;
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
pub struct Environment {
    /// Names, keys and values of what looks like ours.
    ours: Vec<(String, String, String)>,
    /// Keys that Rocket is not to see.
    pub ignored: Vec<String>,
    unknown: Vec<String>,
}

impl Environment {
    pub fn read() -> Self {
        let vars = env::vars_os().map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()));
        Self::of(vars)
    }

    /// An empty variable is an unset one: Compose and Kubernetes hand such on for what their user left out. White space at
    /// the ends is nobody's intention: a file with Windows' line ends leaves a carriage return at each value's.
    pub fn of(vars: impl Iterator<Item = (String, String)>) -> Self {
        let (mut ours, mut ignored, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in vars {
            let (upper, value) = (name.trim().to_uppercase(), value.trim().to_owned());
            if let Some(key) = upper.strip_prefix("ROCKET_") {
                // Kubernetes sets such for its Services: ROCKET_CROWDSEC_PORT, and ROCKET_PORT for one called `rocket`.
                let misspelt = looks_ours(key) && key.split('.').next() != Some("CROWDSEC");
                let stray = misspelt || (key == "PORT" && value.contains("://"));
                if stray || value.is_empty() {
                    ignored.push(key.to_owned());
                }
                if stray && !value.is_empty() {
                    unknown.push(name);
                }
            } else if looks_ours(&upper) && !value.is_empty() {
                match upper.strip_prefix("CROWDSEC_") {
                    Some(key) => ours.push((name, key.to_lowercase(), value)),
                    None => unknown.push(name),
                }
            }
        }
        Self { ours, ignored, unknown }
    }

    /// Rocket's own variables.
    pub fn of_rocket(&self) -> Env {
        let ignored: Vec<&str> = self.ignored.iter().map(String::as_str).collect();
        Env::prefixed("ROCKET_").ignore(&["PROFILE"]).ignore(&ignored).global()
    }

    pub fn profile(&self) -> Profile {
        let named = Env::var("ROCKET_PROFILE").filter(|profile| !profile.is_empty());
        named.map_or(rocket::Config::DEFAULT_PROFILE, |profile| Profile::new(&profile))
    }
}

/// Whether a name was meant to be ours. Not `crowdsourcing`: that may be the owner's own.
pub fn looks_ours(name: &str) -> bool {
    name.to_uppercase().replace(['-', '_'], "").starts_with("CROWDSE")
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment variable").interpolater(|_, keys| keys.join("_").to_uppercase())
    }

    /// Variables count in every profile.
    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let (mut crowdsec, mut captcha, mut unknown) = (Dict::new(), Dict::new(), self.unknown.clone());
        for (name, key, text) in &self.ours {
            let key = key.strip_prefix("captcha_").map_or(key.clone(), |key| format!("captcha.{key}"));
            let value = match key.as_str() {
                key if lists(TEXT, key) => Value::from(text.as_str()),
                key if lists(LISTS, key) && !text.starts_with('[') => {
                    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>().into()
                }
                key if lists(LISTS, key) || lists(VALUES, key) => match text.parse() {
                    Ok(value) => value,
                    Err(never) => match never {},
                },
                _ => {
                    unknown.push(name.clone());
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
