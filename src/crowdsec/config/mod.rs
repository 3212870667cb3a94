//! What did the operator say? Gathers what each room reads of the configuration, and names everything that is wrong at once.
//!
//! A setting lies in the room that uses it, as a field of that room's `Settings` (of its `Config` where that is read as it is
//! written): the field's name is the key in Rocket.toml and, after `CROWDSEC_`, the variable. No room but the fairing imports
//! this one.

mod environment;
mod secret_key;
mod warnings;
#[cfg(test)]
mod tests;

use std::{iter, mem};

use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::magic::RelativePathBuf;
use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider as _};
use serde::Deserialize;

use super::decisions::Remediation;
use super::setting::{BadSetting, NEEDS_PROVIDER, Problems, Reading, Secret};
use super::setting::{meant, unreplaced_variables, where_set, word};
use super::{bouncer, captcha, lapi, pages, visitor};
use environment::{Environment, TABLES, UNKNOWN, looks_ours};
use secret_key::{SECRET_IS_READ, no_secret, secret_of_file, with_secret_of_file};

/// The configuration, checked, room by room.
#[derive(Debug)]
pub struct Config {
    pub lapi: lapi::Config,
    pub visitor: visitor::Config,
    pub captcha: Option<captcha::Config>,
    pub bouncer: bouncer::Config,
    pub pages: pages::Config,
    pub shared_secret: Option<Secret>,
    /// Whether this is the debug profile.
    pub debug: bool,
    /// What is allowed but probably not meant: the launch warns of it.
    pub warnings: Vec<String>,
}

/// Settings that belong to no room: how the application's log is written, which is only checked here, and the file with
/// Rocket's own `secret_key`, as Docker and systemd hand it over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    #[serde(rename = "log_format", deserialize_with = "word")]
    _log_format: LogFormat,
    rocket_secret_key_file: Option<RelativePathBuf>,
}

/// How the application's log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What lies beneath Rocket.toml and the environment: Rocket's own defaults, except that `X-Real-IP` is not believed. A
/// binary that is deployed without its Rocket.toml must not believe that header from anybody.
pub fn defaults() -> Figment {
    Figment::from(rocket::Config::default()).merge(Serialized::default("ip_header", false))
}

/// The key that keeps the name of a missing configuration file until the launch warns of it.
const MISSING_FILE: &str = "crowdsec_missing_file";
const FILE: &str = "Rocket.toml";

/// Rocket's own sources (Rocket.toml, then `ROCKET_*`), and `CROWDSEC_*` over them.
pub fn figment() -> Figment {
    let set = |name| Env::var(name).filter(|text| !text.is_empty());
    let name = set("ROCKET_CONFIG").unwrap_or(FILE.into());
    let profile = set("ROCKET_PROFILE").map_or(rocket::Config::DEFAULT_PROFILE, |name| Profile::new(&name));
    let file = Toml::file(&name).nested();
    // Figment takes a missing file for an empty one.
    let missing = file.metadata().source.is_none().then_some(name);
    let figment = defaults().merge(file).merge(Environment::read().of_rocket()).merge((MISSING_FILE, missing));
    with_variables(figment.select(profile))
}

/// Any figment with the variables `CROWDSEC_*` over it, and with the `secret_key` that `rocket_secret_key_file` holds: for an
/// application that has a figment of its own.
pub fn with_variables(figment: Figment) -> Figment {
    // Where `crowdsec` is no table, the variables would replace it and hide the mistake: the launch reports it instead.
    let is_hidden = not_tables(&figment).next().is_some();
    with_secret_of_file(if is_hidden { figment } else { figment.merge(Environment::read()) })
}

/// The paths of our tables at which something else stands.
fn not_tables(figment: &Figment) -> impl Iterator<Item = String> {
    let within = TABLES.iter().map(|name| format!("crowdsec.{name}"));
    let is_none = |path: &String| figment.find_value(path).is_ok_and(|value| value.as_dict().is_none());
    iter::once("crowdsec".to_owned()).chain(within).filter(is_none)
}

impl Config {
    pub fn read(figment: &Figment) -> Result<Self, Problems> {
        let mut reading = Reading::of(figment);
        Self::gather(&mut reading).map_err(|BadSetting| Problems(reading.problems))
    }

    fn gather(reading: &mut Reading<'_>) -> Result<Self, BadSetting> {
        reading.problems = unreplaced_variables(reading.figment);
        if reading.problems.is_empty() {
            is_table(reading);
        }
        if !reading.problems.is_empty() {
            return Err(BadSetting);
        }
        let lapi = lapi::Config::read(reading);
        let visitor = visitor::Config::read(reading);
        let captcha = captcha::Config::read(reading);
        if let (Ok(lapi), Ok(visitor)) = (&lapi, &visitor) {
            reading.warnings.extend(visitor.warn_of(&lapi.scopes));
        }
        if let (Ok(lapi::Config { live: Some(live), .. }), Ok(None)) = (&lapi, &captcha)
            && live.failure_action == Some(Remediation::Captcha)
        {
            reading.wrong("live.failure_action", &format!("{NEEDS_PROVIDER} or \"passthrough\""));
        }
        // Where the captcha's settings cannot be read, that is reported already.
        let bouncer = bouncer::Config::read(reading, !matches!(captcha, Ok(None)));
        let pages = reading.room::<pages::Config>();
        super::appsec::Config::check(reading, &lapi, &captcha, &bouncer);
        // What is wrong with the logs is reported with all the rest. The logs read their settings again when they open.
        let _ = super::logs::Config::read(reading);
        let _ = super::metrics::Config::read(reading);
        match reading.room::<Settings>() {
            Ok(Settings { rocket_secret_key_file: Some(file), .. }) => secret_of_file(reading, &file),
            Ok(_) => no_secret(reading),
            // That is reported. Whether the operator named a file with the secret is not known.
            Err(BadSetting) => {}
        }
        let unknown = unknown_keys(reading);
        if !reading.problems.is_empty() {
            // A missing setting may be among these, misplaced or misspelt. The caller adds the full stop.
            reading.problems.extend(unknown.iter().map(|told| told.trim_end_matches('.').to_owned()));
            return Err(BadSetting);
        }
        warnings::told(reading);
        reading.warnings.extend(unknown);
        Ok(Self {
            lapi: lapi?,
            visitor: visitor?,
            captcha: captcha?,
            bouncer: bouncer?,
            pages: pages?,
            shared_secret: reading.shared_secret(),
            debug: reading.debug,
            warnings: mem::take(&mut reading.warnings),
        })
    }
}

/// All keys of all rooms. A room registers its keys while it reads its settings, so reading an empty configuration lists them.
fn known_keys() -> Vec<String> {
    let nothing = Figment::from(rocket::Config::debug_default());
    let mut reading = Reading::of(&nothing);
    let _ = Config::gather(&mut reading);
    reading.known
}

/// Reports what stands in the place of a table. Figment's own message would show the text, and a key in it.
fn is_table(reading: &mut Reading<'_>) {
    let figment = reading.figment;
    for path in not_tables(figment) {
        let at = where_set(figment, &path);
        let remedy = match at.is_empty() || at.contains("ROCKET_") {
            true => "in ROCKET_CROWDSEC check braces and quotes, {api_key=\"…\"}".into(),
            false => format!("write [default.{path}], and its keys below it"),
        };
        reading.problems.push(format!("`{path}`{at} is no table: {remedy}"));
    }
}

/// Reports keys that no room reads, and tables with a misspelt name. Gives warnings of what does not stop the launch: our keys
/// beside our table, which may be the application's own, and unknown variables, since other programs may have set them.
fn unknown_keys(reading: &mut Reading<'_>) -> Vec<String> {
    let figment = reading.figment;
    let profiles = figment.profiles().filter(|profile| looks_ours(profile.as_str().as_str()));
    let profiles = profiles.map(|profile| format!("[{profile}] is read by nobody: write [default.crowdsec]"));
    reading.problems.extend(profiles);
    let keys = figment.extract::<Dict>().unwrap_or_default().into_keys();
    let keys = keys
        .filter(|key| looks_ours(key) && !["crowdsec", UNKNOWN, MISSING_FILE, SECRET_IS_READ].contains(&key.as_str()));
    let keys = keys.map(|key| format!("`{key}`{} is read by nobody: write `crowdsec`", where_set(figment, &key)));
    reading.problems.extend(keys);
    let table = figment.find_value("crowdsec").ok().and_then(Value::into_dict).unwrap_or_default();
    let mut keys = keys_in(&table);
    keys.retain(|key| !reading.known.contains(key));
    for key in keys {
        reading.wrong(&key, &format!("no setting is called so{}", instead_of(&key, &reading.known)));
    }
    let is_set_for_us = |key: &str| figment.contains(&format!("crowdsec.{key}"));
    let strays = reading.known.iter().filter(|key| figment.contains(key) && !is_set_for_us(key)).map(|key| {
        let (at, table) = (where_set(figment, key), table_of(key));
        format!("`{key}`{at} counts for nothing there: if it is meant for the bouncer, write it beneath [{table}].")
    });
    strays.chain(warnings::unknown_variables(figment)).collect()
}

/// What to write instead of an unknown key: the key may belong to another table or to Rocket, or be misspelt.
fn instead_of(key: &str, known: &[String]) -> String {
    let name = key.rsplit('.').next().unwrap_or_default();
    let elsewhere = known.iter().filter(|known| known.rsplit('.').next() == Some(name));
    let elsewhere = elsewhere.map(|known| format!("`{known}` is one: it belongs beneath [{}]", table_of(known)));
    let is_rockets = name == "template_dir" || Figment::from(rocket::Config::default()).contains(name);
    let rockets = is_rockets.then(|| "it is Rocket's own: write it beneath [default]".to_owned());
    let told: Vec<String> = elsewhere.chain(rockets).collect();
    match meant(key, known.iter().map(String::as_str).chain(TABLES.iter().copied())) {
        _ if !told.is_empty() => format!(", but {}", told.join("; or ")),
        Some(name) => format!(", and `{name}` is near: was that meant? docs/configuration.md lists all"),
        None => format!(": write one of {}", known.join(", ")),
    }
}

/// The table of a known key, as Rocket.toml names it.
fn table_of(key: &str) -> String {
    key.rsplit_once('.').map_or("default.crowdsec".into(), |(table, _)| format!("default.crowdsec.{table}"))
}

/// The keys of the table. A key of an inner table has that table's name in front.
fn keys_in(table: &Dict) -> Vec<String> {
    let of = |(key, value): (&String, &Value)| match value.as_dict() {
        Some(inner) if TABLES.contains(&key.as_str()) => inner.keys().map(|name| format!("{key}.{name}")).collect(),
        _ => vec![key.clone()],
    };
    table.iter().flat_map(of).collect()
}
