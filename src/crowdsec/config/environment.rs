//! What do the variables `CROWDSEC_*` say? They beat Rocket.toml and `ROCKET_CROWDSEC`.

use std::env;

use figment::providers::{Env, Serialized};
use figment::value::{Dict, Map};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::known_keys;
use crate::crowdsec::setting::{VARIABLE, meant};

/// The tables within ours: `CROWDSEC_CAPTCHA_SITE_KEY` is `captcha.site_key`.
pub const TABLES: &[&str] = &["captcha", "appsec", "live"];

/// The key that keeps the names of unknown variables until the launch warns of them.
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

    /// An empty variable counts as unset: Compose and Kubernetes pass empty ones for what their user left out. White
    /// space at the ends is cut off: a file with Windows' line ends leaves a carriage return at the end of each value.
    pub fn of(vars: impl Iterator<Item = (String, String)>) -> Self {
        let (known, mut ours, mut ignored, mut unknown) = (known_keys(), Vec::new(), Vec::new(), Vec::new());
        for (name, value) in vars {
            let (upper, value) = (name.trim().to_uppercase(), value.trim().to_owned());
            if let Some(key) = upper.strip_prefix("ROCKET_") {
                // Kubernetes sets variables for its Services: ROCKET_CROWDSEC_PORT, and ROCKET_PORT for a Service `rocket`.
                let misspelt = looks_ours(key) && key.split('.').next() != Some("CROWDSEC");
                let stray = misspelt || (key == "PORT" && value.contains("://"));
                if stray || value.is_empty() {
                    ignored.push(key.to_owned());
                }
                if stray && !value.is_empty() {
                    unknown.push(name);
                }
            } else if looks_ours(&upper) && !value.is_empty() {
                // A variable that names no setting may belong to another program: its value is ignored.
                match upper.strip_prefix("CROWDSEC_").and_then(|name| key_of(name, &known)) {
                    Some(key) => ours.push((key.clone(), value)),
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
}

/// Whether a name was meant to be ours. Not `crowdsourcing`: that may be the owner's own.
pub fn looks_ours(name: &str) -> bool {
    let name = name.to_uppercase().replace(['-', '_'], "");
    name.starts_with("CROWDSE") || meant(&name, ["CROWDSEC"]).is_some()
}

/// The setting whose variable this is: `CAPTCHA_SITE_KEY`, or `CAPTCHA.SITE_KEY`, is `captcha.site_key`.
fn key_of<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let name = name.to_lowercase();
    known.iter().find(|key| **key == name || key.replace('.', "_") == name)
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named(VARIABLE).interpolater(|_, keys| keys.join("_").to_uppercase())
    }

    /// Variables count in every profile. Each value is text as it stands (`007` stays `007`), and the setting itself reads it.
    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let unknown = Figment::from((UNKNOWN, &self.unknown));
        let all = self.ours.iter().fold(unknown, |all, (key, text)| all.merge((format!("crowdsec.{key}"), text)));
        // Copied, because figment would otherwise keep the source noted with these values, and not name the variable.
        Serialized::globals(all.extract::<Dict>()?).data()
    }
}
