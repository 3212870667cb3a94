//! How is a setting written, and what is the operator told if a setting is wrong?

mod unreplaced;
mod written;

use std::net::IpAddr;
use std::{fmt, fs};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use figment::Figment;
use figment::error::Kind;
use figment::value::Value;
use figment::value::magic::RelativePathBuf;
use reqwest::Url;
use rocket::Config;
use serde::de::DeserializeOwned;
use serde_aux::serde_introspection::serde_introspect;
use strsim::osa_distance;

pub use written::{List, Network, Number, Secret, Span, failure_action, text, word};

/// Everything that is wrong with the configuration, each in a sentence that says what to do.
#[derive(Debug)]
pub struct Problems(pub Vec<String>);

impl<E: fmt::Display> From<E> for Problems {
    fn from(error: E) -> Self {
        Self(vec![error.to_string()])
    }
}

/// What is wrong with a key that asks for captchas where none can be shown.
pub const NEEDS_PROVIDER: &str = "captchas need `captcha.provider`: set that, or write \"ban\"";

/// A part of the configuration cannot be used, and `Reading::problems` says why.
#[derive(Debug)]
pub struct BadSetting;

/// The configuration while it is being read. Each room takes its own settings from it, and notes here what is wrong
/// with them, so that an operator learns of everything at once.
pub struct Reading<'a> {
    pub figment: &'a Figment,
    /// Whether this is the debug profile, where examples stand in for what no source sets.
    pub debug: bool,
    /// The names of all settings that a room has taken, `captcha.provider` for one in a table.
    pub known: Vec<String>,
    pub problems: Vec<String>,
    /// What is allowed but probably not meant: the launch warns of it.
    pub warnings: Vec<String>,
}

impl<'a> Reading<'a> {
    pub fn of(figment: &'a Figment) -> Self {
        let debug = figment.profile() == Config::DEBUG_PROFILE;
        Self { figment, debug, known: Vec::new(), problems: Vec::new(), warnings: Vec::new() }
    }

    /// The settings of one room, out of `[default.crowdsec]`: its fields' names are the keys.
    pub fn room<T: DeserializeOwned + Default>(&mut self) -> Result<T, BadSetting> {
        self.known.extend(serde_introspect::<T>().iter().map(|key| (*key).to_owned()));
        Ok(self.table("crowdsec")?.unwrap_or_default())
    }

    /// The settings of a table within `[default.crowdsec]`; `None` where no source has this table.
    pub fn table_of<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, BadSetting> {
        self.known.extend(serde_introspect::<T>().iter().map(|key| format!("{name}.{key}")));
        self.table(&format!("crowdsec.{name}"))
    }

    fn table<T: DeserializeOwned>(&mut self, path: &str) -> Result<Option<T>, BadSetting> {
        let Ok(value) = self.figment.find_value(path) else { return Ok(None) };
        if let Ok(table) = self.figment.extract_inner(path) {
            return Ok(Some(table));
        }
        // Serde stops at the first key that is wrong, so each is read by itself. No key needs another one.
        for (name, value) in value.into_dict().unwrap_or_default() {
            // Read through a figment, because nothing else can read a `RelativePathBuf`.
            let alone = Figment::from((format!("{path}.{name}"), value));
            if let Err(mut error) = alone.extract_inner::<T>(path) {
                // Figment puts the table's path behind the key's, and for a `RelativePathBuf` a name of its own, `___…`.
                error.path.retain(|key| !key.starts_with("___"));
                error.path.truncate(error.path.len().saturating_sub(path.split('.').count()));
                let key = [path.split('.').map(str::to_owned).collect(), error.path.clone()].concat().join(".");
                self.wrong(key.trim_start_matches("crowdsec."), &without_value(error.kind));
            }
        }
        Err(BadSetting)
    }

    /// Notes what is wrong with a key of ours: `what` says what to write.
    pub fn wrong(&mut self, key: &str, what: &str) {
        let at = where_set(self.figment, &format!("crowdsec.{key}"));
        self.problems.push(format!("`crowdsec.{key}`{at}: {what}"));
    }

    /// A secret given as text or in a file, as Docker and systemd hand them over.
    pub fn secret(&mut self, key: &str, text: Option<&Secret>, file: Option<&RelativePathBuf>) -> Option<Secret> {
        let file_key = format!("{key}_file");
        // Windows puts a byte order mark before text.
        let is_around = |c: char| c.is_whitespace() || c == '\u{feff}';
        let (key, secret) = match (text, file) {
            (Some(_), Some(_)) => {
                self.wrong(key, &format!("`{key}` and `{file_key}` are both set: take one away"));
                return None;
            }
            (Some(secret), None) => (key, secret.0.clone()),
            (None, Some(path)) => {
                (&*file_key, String::from_utf8_lossy(&self.file(&file_key, path)?).trim_matches(is_around).to_owned())
            }
            (None, None) => return None,
        };
        if let Some(what) = unreplaced::placeholder(&secret) {
            self.wrong(key, &what);
        } else if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.wrong(key, "it is empty, or has spaces, line ends or characters that no key has: copy it again");
        }
        Some(Secret(secret))
    }

    /// The bytes of a file that the operator named.
    pub fn file(&mut self, key: &str, path: &RelativePathBuf) -> Option<Vec<u8>> {
        let path = path.relative();
        let told =
            |error| format!("cannot read {}: {error}. Let this user read it, or name another file", path.display());
        fs::read(&path).map_err(|error| self.wrong(key, &told(error))).ok()
    }

    pub fn url(&mut self, key: &str, text: Option<String>) -> Option<Url> {
        let url = url(&text?);
        if url.is_none() {
            self.wrong(key, "write a whole address, with https:// or http://");
        }
        url
    }

    /// Where Rocket listens.
    pub fn address(&self) -> Option<IpAddr> {
        self.figment.extract_inner("address").ok()
    }

    /// Rocket's `secret_key`, if one is set as text or as a list of bytes: what is signed with it holds on every
    /// instance that shares it. Rocket's own default is a list of zeros, which everybody knows.
    pub fn shared_secret(&self) -> Option<Secret> {
        let listed = || {
            let bytes: Vec<u8> = self.figment.extract_inner("secret_key").ok()?;
            bytes.iter().any(|byte| *byte != 0).then(|| STANDARD.encode(bytes))
        };
        self.figment.extract_inner("secret_key").ok().or_else(listed).map(Secret)
    }
}

/// The `known` name that `typed` was probably meant to be: at most two letters are wrong, left out, added or swapped.
pub fn meant<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.into_iter().map(|name| (osa_distance(typed, name), name)).filter(|(letters, _)| *letters <= 2);
    near.min().map(|(_, name)| name)
}

/// A whole address. Tabs and line ends in the middle, which the URL standard drops, are refused.
pub fn url(text: &str) -> Option<Url> {
    let whole = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let url = Url::parse(text).ok().filter(|_| whole)?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// The name that figment has for the variables `CROWDSEC_*`: it tells their values from those of `ROCKET_CROWDSEC`.
pub const VARIABLE: &str = "environment variable";

/// Where a key's value comes from, " (Rocket.toml)" or " (environment variable CROWDSEC_API_KEY)"; empty for a key that
/// no source sets.
pub fn where_set(figment: &Figment, key: &str) -> String {
    // Figment knows where a list comes from, but not its entries: their path goes on with a number.
    let is_name = |part: &&str| part.parse::<usize>().is_err();
    let path = key.split('.').take_while(is_name).collect::<Vec<_>>().join(".");
    let Some(metadata) = figment.find_metadata(&path) else { return String::new() };
    match (&metadata.source, &*metadata.name) {
        (Some(source), _) => format!(" ({source})"),
        (None, VARIABLE) => format!(" ({VARIABLE} {})", path.replace('.', "_").to_uppercase()),
        (None, name) if name.contains("ROCKET_") => {
            let first = key.split('.').next().unwrap_or_default();
            format!(" ({VARIABLE} ROCKET_{})", first.to_uppercase())
        }
        // A value that a program has set: figment names it by its type.
        (None, name) if name.starts_with('(') => String::new(),
        (None, name) => format!(" ({name})"),
    }
}

/// Finds placeholders that a shell, a template or Compose should have replaced, in our settings, Rocket's `secret_key`
/// and the profile; and values of our environment variables that stand in quotes. Gives a sentence for each, without the value.
pub fn unreplaced_variables(figment: &Figment) -> Vec<String> {
    let profile = unreplaced::placeholder(figment.profile().as_str().as_str());
    let mut problems: Vec<String> = profile.into_iter().map(|what| format!("ROCKET_PROFILE: {what}")).collect();
    let ours = ["secret_key", "crowdsec"].map(|key| (key.to_owned(), figment.find_value(key)));
    let mut left: Vec<_> = ours.into_iter().filter_map(|(key, value)| Some((key, value.ok()?))).collect();
    while let Some((key, value)) = left.pop() {
        match value {
            Value::Dict(_, dict) => left.extend(dict.into_iter().map(|(name, value)| (format!("{key}.{name}"), value))),
            Value::Array(_, items) => left.extend(items.into_iter().map(|item| (key.clone(), item))),
            Value::String(_, text) => {
                let is_variable = figment.find_metadata(&key).is_some_and(|source| source.name == VARIABLE);
                let quotes = || unreplaced::quotes(&text).filter(|_| is_variable);
                let problem = unreplaced::placeholder(&text).or_else(quotes);
                problems.extend(problem.map(|what| format!("`{key}`{}: {what}", where_set(figment, &key))));
            }
            _ => {}
        }
    }
    problems
}

/// What is wrong with a value, without the value: it may be a secret in the wrong place.
pub(super) fn without_value(kind: Kind) -> String {
    match kind {
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
            // In figment's and Rocket's own words.
            let wanted = match expected.to_string() {
                text if text.contains("path") => "a path in quotes".into(),
                text if text.contains("byte unit") => "a size in quotes, \"1 MiB\"".into(),
                text => text,
            };
            format!("what stands there is no good: write {wanted}")
        }
        Kind::UnknownVariant(_, words) => {
            let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
            format!("there is no such word: write {}", words.join(" or "))
        }
        Kind::MissingField(name) => format!("`{name}` is missing: write it, too"),
        Kind::UnknownField(name, known) => format!("no key is called {name} here: write {}", known.join(", ")),
        kind => kind.to_string(),
    }
}
