//! What do the variables `CROWDSEC_*` say? They beat Rocket.toml and `ROCKET_CROWDSEC`.

use std::env;

use figment::providers::Env;
use figment::value::{Dict, Map};
use figment::{Error, Metadata, Profile, Provider};

use super::known_keys;
use crate::crowdsec::setting::VARIABLE;

/// The tables within ours: `CROWDSEC_CAPTCHA_SITE_KEY` is `captcha.site_key`.
pub const TABLES: &[&str] = &["captcha", "appsec", "live"];

/// Where the names of unknown variables wait for the launch to warn of them.
pub const UNKNOWN: &str = "crowdsec_unknown_variables";

/// The variables as a figment provider, read when it is made.
pub struct Environment {
    /// Known keys, `captcha.provider` for one in a table, and their values.
    ours: Vec<(String, String)>,
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
        let (known, mut ours, mut ignored, mut unknown) = (known_keys(), Vec::new(), Vec::new(), Vec::new());
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
                // What no room knows is somebody else's, whatever it holds: it must not get among the settings.
                match upper.strip_prefix("CROWDSEC_").map(key_of).filter(|key| known.contains(key)) {
                    Some(key) => ours.push((key, value)),
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

/// The key that a variable means: `CAPTCHA_SITE_KEY` is `captcha.site_key`.
fn key_of(name: &str) -> String {
    let key = name.to_lowercase();
    let in_table = TABLES.iter().find_map(|table| Some((table, key.strip_prefix(table)?.strip_prefix('_')?)));
    in_table.map_or(key.clone(), |(table, key)| format!("{table}.{key}"))
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named(VARIABLE).interpolater(|_, keys| keys.join("_").to_uppercase())
    }

    /// Variables count in every profile. Each is text as it stands, `007` stays `007`, and the setting itself reads it.
    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let (mut crowdsec, mut tables) = (Dict::new(), Map::<&str, Dict>::new());
        for (key, text) in &self.ours {
            match key.split_once('.') {
                Some((table, key)) => tables.entry(table).or_default().insert(key.into(), text.as_str().into()),
                None => crowdsec.insert(key.clone(), text.as_str().into()),
            };
        }
        crowdsec.extend(tables.into_iter().map(|(table, keys)| (table.to_owned(), keys.into())));
        let mut all = Dict::new();
        if !crowdsec.is_empty() {
            all.insert("crowdsec".into(), crowdsec.into());
        }
        if !self.unknown.is_empty() {
            all.insert(UNKNOWN.into(), self.unknown.clone().into());
        }
        Ok(Map::from([(Profile::Global, all)]))
    }
}
