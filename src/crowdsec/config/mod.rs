//! What did the operator say? The one place that reads the configuration, and refuses what cannot be meant.

mod environment;
mod table;
mod unreplaced;
mod warnings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::magic::RelativePathBuf;
use figment::value::{Dict, Value};
use figment::{Figment, Provider as _};
use ipnet::IpNet;
use reqwest::Url;
use rocket::config::SecretKey;
use rustls::pki_types::CertificateDer;

use super::decisions::{Remediation, Types, network};
use super::journal::STDOUT;
use super::path::Prefix;
use super::printable::printable;
use super::tls::{self, File};
use environment::{Environment, UNKNOWN, looks_ours};
use table::{CaptchaTable, Fallback, Network, Root, Span, Table};

pub use table::{LogFormat, OnStartupFailure, OwnDecision, Provider, Secret};

/// The configuration, checked.
#[derive(Debug)]
pub struct Config {
    /// `None` in the debug profile without a key: then the operator's own decisions are all there is.
    pub lapi: Option<LapiConfig>,
    pub update_frequency: Duration,
    pub resync_frequency: Duration,
    pub startup_timeout: Duration,
    pub on_startup_failure: OnStartupFailure,
    pub types: Types,
    pub decisions: Vec<OwnDecision>,
    /// Whether these are the debug profile's examples.
    pub examples: bool,
    pub excluded_paths: Vec<Prefix>,
    pub trusted_proxies: Vec<IpNet>,
    /// Whether these are the debug profile's, so that nobody has said that there is a proxy.
    pub example_proxies: bool,
    pub client_ip_header: String,
    pub snapshot: Option<PathBuf>,
    pub access_log: Option<PathBuf>,
    pub event_log: Option<PathBuf>,
    pub captcha: Option<CaptchaConfig>,
    /// Rocket's `secret_key`, where one is set: what is signed with it holds on every instance that shares it.
    pub shared_secret: Option<Secret>,
    /// Whether this is the debug profile, with its previews and reports.
    pub debug: bool,
    /// What is allowed, and probably not meant: told at the launch.
    pub warnings: Vec<String>,
}

/// Where LAPI is, how we show who we are, and what we ask it for.
#[derive(Debug)]
pub struct LapiConfig {
    pub at: Location,
    pub credentials: Credentials,
    /// The operator's own CAs.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// The filters, as LAPI's query parameters.
    pub filters: Vec<(&'static str, String)>,
}

impl LapiConfig {
    /// For messages, the filters that may leave out decisions which would be enforced; and the origins among them that are
    /// none of CrowdSec's own, as a misspelt one is.
    pub fn chosen_filters(&self) -> Option<(String, Vec<String>)> {
        let chosen: Vec<_> = self.filters.iter().filter(|(name, _)| *name != "scopes").collect();
        let text: Vec<String> = chosen.iter().map(|(name, list)| format!("{name} = {}", printable(list))).collect();
        let origins = chosen.iter().filter(|(name, _)| *name == "origins").flat_map(|(_, list)| list.split(','));
        let unusual = origins.filter(|origin| !warnings::ORIGINS.contains(origin)).map(str::to_owned).collect();
        (!text.is_empty()).then(|| (text.join(", "), unusual))
    }
}

#[derive(Debug)]
pub enum Location {
    /// Ends with a slash.
    Url(Url),
    Socket(PathBuf),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

pub enum Credentials {
    Key(Secret),
    /// Certificate and private key, in one PEM.
    Certificate(Vec<u8>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[private]")
    }
}

#[derive(Debug)]
pub struct CaptchaConfig {
    pub provider: Provider,
    pub site_key: String,
    pub secret_key: Secret,
    pub verify_url: Option<Url>,
    pub script_url: Option<Url>,
    pub hostnames: Vec<String>,
    pub difficulty: Option<u32>,
    pub expiration: Duration,
}

/// Everything that is wrong with the configuration, each in a sentence that says what to do.
#[derive(Debug)]
pub struct Problems(pub Vec<String>);

/// What lies beneath Rocket.toml and the environment: Rocket's own defaults, but for the one that believes `X-Real-IP`
/// from anybody. A binary that is deployed without its Rocket.toml must not fall back to that.
pub fn defaults() -> Figment {
    Figment::from(rocket::Config::default()).merge(Serialized::default("ip_header", false))
}

/// Where the name of a configuration file that is not there waits for the launch to warn of it.
const MISSING_FILE: &str = "crowdsec_missing_file";
const FILE: &str = "Rocket.toml";

/// Rocket's own sources (Rocket.toml, then `ROCKET_*`), and `CROWDSEC_*` over them.
pub fn figment() -> Figment {
    let environment = Environment::read();
    let name = Env::var("ROCKET_CONFIG").filter(|name| !name.is_empty()).unwrap_or(FILE.into());
    let file = Toml::file(&name).nested();
    // Figment takes a file that is not there for an empty one.
    let missing = file.metadata().source.is_none().then_some(name);
    let figment = defaults().merge(file).merge(environment.of_rocket());
    let figment = missing.into_iter().fold(figment, |figment, name| figment.merge((MISSING_FILE, name)));
    let profile = environment.profile();
    figment.merge(environment).select(profile)
}

/// Where the templates lie: as the fairing of rocket_dyn_templates has it.
pub fn template_dir(figment: &Figment) -> PathBuf {
    let set = figment.extract_inner::<RelativePathBuf>("template_dir");
    set.map_or(PathBuf::from("templates"), |folder| folder.relative())
}

impl Config {
    pub fn read(figment: &Figment) -> Result<Self, Problems> {
        let unknown =
            figment.extract_inner(UNKNOWN).ok().and_then(|names: Vec<String>| warnings::unknown_variables(&names));
        match Self::checked(figment) {
            Ok(mut config) => {
                config.warnings.extend(unknown);
                Ok(config)
            }
            // What is missing may stand under one of these names.
            Err(Problems(mut problems)) => {
                // Each problem is a sentence that gets its full stop where it is told.
                problems.extend(unknown.map(|told| told.trim_end_matches('.').to_owned()));
                Err(Problems(problems))
            }
        }
    }

    fn checked(figment: &Figment) -> Result<Self, Problems> {
        let problems = unreplaced_variables(figment);
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let table: Table = match figment.find_value("crowdsec") {
            Ok(value) if value.as_dict().is_none() => {
                // Figment's own message would show the text, and a key in it.
                let at = source(figment, "crowdsec");
                return Err(Problems(vec![format!(
                    "`crowdsec`{at} is no table: in ROCKET_CROWDSEC check braces and quotes, {{api_key=\"…\"}}"
                )]));
            }
            Ok(_) => match figment.extract() {
                Ok(Root { crowdsec }) => crowdsec,
                Err(errors) => return Err(Problems(errors.into_iter().map(without_value).collect())),
            },
            Err(_) => Table::default(),
        };
        let problems = misspelt(figment);
        Check { figment, debug: figment.profile() == rocket::Config::DEBUG_PROFILE, problems }.all(table)
    }
}

impl Config {
    /// How long a solved captcha holds.
    pub fn captcha_expiration(&self) -> Duration {
        self.captcha.as_ref().map_or(Duration::ZERO, |captcha| captcha.expiration)
    }
}

/// Collects what is wrong, so that an operator learns of everything at once.
struct Check<'a> {
    figment: &'a Figment,
    debug: bool,
    problems: Vec<String>,
}

impl Check<'_> {
    fn all(mut self, mut table: Table) -> Result<Config, Problems> {
        let missing = self.missing(&table);
        let captcha = table.captcha.take().or_else(|| self.debug.then(examples::captcha));
        let captcha = captcha.and_then(|table| self.captcha(table));
        let fallback = match table.fallback_remediation {
            Fallback::Ban => Remediation::Ban,
            Fallback::Captcha => Remediation::Captcha,
        };
        if fallback == Remediation::Captcha && captcha.is_none() {
            self.wrong("fallback_remediation", "`captcha` needs `captcha.provider`: set that, or write \"ban\"");
        }
        let examples = table.decisions.is_none() && self.debug;
        let decisions = table.decisions.take().or_else(|| self.debug.then(examples::decisions)).unwrap_or_default();
        if captcha.is_none() && decisions.iter().any(|own| own.remediation == Remediation::Captcha) {
            self.wrong(
                "decisions",
                "a decision of type `captcha` needs `captcha.provider`: set that, or write \"ban\"",
            );
        }
        let excluded_paths = self.excluded_paths(&table.excluded_paths);
        let client_ip_header = table.client_ip_header.take().unwrap_or_else(|| "X-Forwarded-For".into());
        if reqwest::header::HeaderName::try_from(&client_ip_header).is_err() {
            self.wrong(
                "client_ip_header",
                "this is no header's name: write \"X-Forwarded-For\", \"Forwarded\" or another",
            );
        }
        let example_proxies = table.trusted_proxies.is_none();
        let trusted_proxies = match table.trusted_proxies.take() {
            Some(networks) => networks.into_iter().map(|Network(net)| net).collect(),
            None if self.debug && self.address().is_some_and(|address| address.is_loopback()) => {
                examples::trusted_proxies()
            }
            None => Vec::new(),
        };
        let lapi = if missing { None } else { self.lapi(&table) };
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        let file = self
            .figment
            .extract_inner(MISSING_FILE)
            .ok()
            .and_then(|name: String| warnings::missing_file(&name, self.debug));
        let debug = self.address().filter(|_| self.debug).and_then(warnings::reachable_debug);
        let everybody = warnings::everybody(&trusted_proxies);
        let warnings = [file, debug, everybody].into_iter().flatten().chain(warnings::origins(&table.origins));
        Ok(Config {
            warnings: warnings.collect(),
            lapi,
            update_frequency: Span::or(table.update_frequency, 10),
            resync_frequency: Span::or(table.resync_frequency, 15 * 60),
            startup_timeout: Span::or(table.startup_timeout, 60),
            on_startup_failure: table.on_startup_failure,
            types: Types { captcha: captcha.is_some(), fallback },
            decisions,
            examples,
            excluded_paths,
            trusted_proxies,
            example_proxies,
            client_ip_header,
            snapshot: table.snapshot.map(|path| path.relative()),
            access_log: table.access_log.map(log),
            event_log: table.event_log.map(log),
            captcha,
            shared_secret: self.figment.extract_inner("secret_key").ok().map(Secret),
            debug: self.debug,
        })
    }

    /// Whether there is nothing to show LAPI. Only the debug profile goes on without, and only it without a secret key.
    fn missing(&mut self, table: &Table) -> bool {
        let no_credentials = table.api_key.is_none() && table.api_key_file.is_none() && table.cert_path.is_none();
        let no_secret = self.figment.extract_inner::<SecretKey>("secret_key").is_ok_and(|key| !key.is_provided());
        if !self.debug && no_credentials {
            self.problems.push(format!(
                "`crowdsec.api_key` is missing: run `cscli bouncers add {}` beside CrowdSec, and set CROWDSEC_API_KEY to the key it prints",
                env!("CARGO_PKG_NAME")
            ));
        }
        if !self.debug && no_secret {
            self.problems.push(
                "`secret_key` is missing, which encrypts the cookies: set ROCKET_SECRET_KEY to what `openssl rand -base64 32` prints".into(),
            );
        }
        no_credentials
    }

    fn lapi(&mut self, table: &Table) -> Option<LapiConfig> {
        let at = self.location(table.api_url.as_deref().unwrap_or("http://127.0.0.1:8080/"))?;
        let https = matches!(&at, Location::Url(url) if url.scheme() == "https");
        let key = self.secret("api_key", table.api_key.as_ref(), table.api_key_file.as_ref());
        let credentials = match (key, &table.cert_path, &table.key_path) {
            (Some(key), None, None) => Credentials::Key(key),
            (None, Some(cert), Some(key)) => Credentials::Certificate(self.identity(cert, key)?),
            // Its file could not be read, or the like: that is told already.
            (None, None, None) => return None,
            (key, _, _) => {
                let both = "a client certificate and `api_key` are two ways to the same end: take one away";
                let half = "a client certificate needs both `cert_path` and `key_path`: set both, or neither";
                self.wrong("cert_path", if key.is_some() { both } else { half });
                return None;
            }
        };
        if !https && (matches!(credentials, Credentials::Certificate(_)) || table.ca_cert_path.is_some()) {
            self.wrong(
                "api_url",
                "certificates (`cert_path`, `ca_cert_path`) need an address that begins with https://",
            );
        }
        let ca = table.ca_cert_path.as_ref().map(|path| self.authorities(path));
        let scopes_known = |scope: &String| ["ip", "range"].iter().any(|known| scope.eq_ignore_ascii_case(known));
        let scopes = table.scopes.clone().unwrap_or_else(|| vec!["ip".into(), "range".into()]);
        if scopes.is_empty() || !scopes.iter().all(scopes_known) {
            self.wrong("scopes", "only \"ip\" and \"range\" are enforced so far: write those, or leave the key out");
        }
        let filters = [
            ("scopes", &scopes),
            ("origins", &table.origins),
            ("scenarios_containing", &table.scenarios_containing),
            ("scenarios_not_containing", &table.scenarios_not_containing),
        ];
        let filters = filters.into_iter().filter(|(_, list)| !list.is_empty());
        let filters = filters.map(|(name, list)| (name, list.join(","))).collect();
        Some(LapiConfig { at, credentials, ca: ca.flatten(), filters })
    }

    fn location(&mut self, api_url: &str) -> Option<Location> {
        if api_url.starts_with('/') {
            return Some(Location::Socket(api_url.into()));
        }
        // Exactly one slash at the end: two would ask for `//v1/decisions`, which LAPI does not have.
        let url = url(&format!("{}/", api_url.trim().trim_end_matches('/')));
        let bare = |url: &Url| url.query().or(url.fragment()).or(url.password()).is_none() && url.username().is_empty();
        let url = url.filter(bare);
        if url.is_none() {
            self.wrong(
                "api_url",
                "write \"http://127.0.0.1:8080/\", an https:// address, or the path of a unix socket",
            );
        }
        url.map(Location::Url)
    }

    fn captcha(&mut self, table: CaptchaTable) -> Option<CaptchaConfig> {
        let Some(provider) = table.provider else {
            if table.site_key.is_some() || table.secret_key.is_some() || table.secret_key_file.is_some() {
                self.wrong("captcha", "there are keys but no `captcha.provider`: write \"recaptcha\", \"hcaptcha\", \"turnstile\" or \"altcha\"");
            }
            return None;
        };
        let secret = self.secret("captcha.secret_key", table.secret_key.as_ref(), table.secret_key_file.as_ref());
        if provider != Provider::Altcha && (secret.is_none() || table.site_key.is_none()) {
            self.wrong(
                "captcha",
                "this provider needs `captcha.site_key` and `captcha.secret_key`: take both from your account there",
            );
        }
        if table.difficulty == Some(0) {
            self.wrong("captcha.difficulty", "a proof of no work proves nothing: write a number from 1");
        }
        Some(CaptchaConfig {
            provider,
            site_key: table.site_key.map(|key| key.0).unwrap_or_default(),
            secret_key: secret.unwrap_or(Secret(String::new())),
            verify_url: self.url("captcha.verify_url", table.verify_url),
            script_url: self.url("captcha.script_url", table.script_url),
            hostnames: table.hostnames,
            difficulty: table.difficulty,
            expiration: Span::or(table.expiration, 60 * 60),
        })
    }

    fn url(&mut self, key: &str, text: Option<String>) -> Option<Url> {
        let url = url(&text?);
        if url.is_none() {
            self.wrong(key, "write a whole address, https://…");
        }
        url
    }

    /// A secret given as text or in a file, as Docker and systemd hand them over.
    fn secret(&mut self, key: &str, text: Option<&Secret>, file: Option<&RelativePathBuf>) -> Option<Secret> {
        let secret = match (text, file) {
            (Some(_), Some(_)) => {
                self.wrong(key, &format!("`{key}` and `{key}_file` are both set: take one away"));
                return None;
            }
            (Some(secret), None) => secret.clone(),
            (None, Some(path)) => {
                let text = String::from_utf8_lossy(&self.file(&format!("{key}_file"), path)?).trim().to_owned();
                if let Some(what) = unreplaced::variable(&text) {
                    self.wrong(&format!("{key}_file"), &what);
                    return None;
                }
                Secret(text)
            }
            (None, None) => return None,
        };
        if secret.0.is_empty() || !secret.0.bytes().all(|byte| byte.is_ascii_graphic()) {
            let key = if file.is_some() { format!("{key}_file") } else { key.to_owned() };
            self.wrong(&key, "it is empty, or has spaces, line ends or characters that no key has: copy it again");
        }
        Some(secret)
    }

    fn file(&mut self, key: &str, path: &RelativePathBuf) -> Option<Vec<u8>> {
        let path = path.relative();
        match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.wrong(
                    key,
                    &format!("cannot read {}: {error}. Let this user read it, or name another file", path.display()),
                );
                None
            }
        }
    }

    fn identity(&mut self, cert: &RelativePathBuf, key: &RelativePathBuf) -> Option<Vec<u8>> {
        let (cert_pem, key_pem) = (self.file("cert_path", cert)?, self.file("key_path", key)?);
        let (cert, key) = (cert.relative().display().to_string(), key.relative().display().to_string());
        let (certificate, private) = (File { path: &cert, bytes: &cert_pem }, File { path: &key, bytes: &key_pem });
        let told = |(setting, problem)| {
            let path = if setting == "cert_path" { &cert } else { &key };
            self.wrong(setting, &format!("{path} {problem}"));
        };
        tls::identity(certificate, private).map_err(told).ok()
    }

    fn authorities(&mut self, path: &RelativePathBuf) -> Option<Vec<CertificateDer<'static>>> {
        let bytes = self.file("ca_cert_path", path)?;
        let path = path.relative().display().to_string();
        let told = |problem| self.wrong("ca_cert_path", &format!("{path} {problem}"));
        tls::authorities(File { path: &path, bytes: &bytes }).map_err(told).ok()
    }

    fn excluded_paths(&mut self, texts: &[String]) -> Vec<Prefix> {
        let mut prefixes = Vec::new();
        for text in texts {
            match Prefix::new(text) {
                Ok(prefix) => prefixes.push(prefix),
                Err(why) => self.wrong("excluded_paths", &format!("\"{text}\" cannot be excluded: {why}")),
            }
        }
        prefixes
    }

    /// Where Rocket listens.
    fn address(&self) -> Option<IpAddr> {
        self.figment.extract_inner("address").ok()
    }

    fn wrong(&mut self, key: &str, what: &str) {
        let at = source(self.figment, &format!("crowdsec.{key}"));
        self.problems.push(format!("`crowdsec.{key}`{at}: {what}"));
    }
}

/// Tables of the file that were meant to be ours. Nobody would read them, and with them the whole of what the operator
/// wants would be lost in silence.
fn misspelt(figment: &Figment) -> Vec<String> {
    let profiles = figment.profiles().filter(|profile| looks_ours(profile.as_str().as_str()));
    let profiles = profiles.map(|profile| format!("[{profile}] is read by nobody: write [default.crowdsec]"));
    let keys = figment.extract::<Dict>().unwrap_or_default().into_keys();
    let keys = keys.filter(|key| looks_ours(key) && !["crowdsec", UNKNOWN, MISSING_FILE].contains(&key.as_str()));
    let keys = keys.map(|key| format!("`{key}`{} is read by nobody: write `crowdsec`", source(figment, &key)));
    profiles.chain(keys).collect()
}

/// Values that a shell, a template or Compose should have replaced, among our keys and Rocket's secret one: a sentence for
/// each, without the value.
pub fn unreplaced_variables(figment: &Figment) -> Vec<String> {
    fn look(figment: &Figment, key: &str, value: &Value, problems: &mut Vec<String>) {
        match value {
            Value::Dict(_, dict) => {
                dict.iter().for_each(|(name, value)| look(figment, &format!("{key}.{name}"), value, problems));
            }
            Value::Array(_, items) => items.iter().for_each(|item| look(figment, key, item, problems)),
            Value::String(_, text) => {
                let problem = unreplaced::variable(text);
                problems.extend(problem.map(|what| format!("`{key}`{}: {what}", source(figment, key))));
            }
            _ => {}
        }
    }
    let profile = unreplaced::variable(figment.profile().as_str().as_str());
    let mut problems: Vec<String> = profile.into_iter().map(|what| format!("ROCKET_PROFILE: {what}")).collect();
    for key in ["crowdsec", "secret_key"] {
        if let Ok(value) = figment.find_value(key) {
            look(figment, key, &value, &mut problems);
        }
    }
    problems
}

/// A whole address. Tabs and line ends in the middle, which the standard for addresses leaves out, are refused.
fn url(text: &str) -> Option<Url> {
    let whole = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    let url = Url::parse(text).ok().filter(|_| whole)?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// The one word is no path; `./stdout` is.
fn log(path: RelativePathBuf) -> PathBuf {
    if path.original() == Path::new(STDOUT) { STDOUT.into() } else { path.relative() }
}

/// Figment's message for a value of the wrong kind, but for the value: it may be a secret in the wrong place.
fn without_value(mut error: figment::Error) -> String {
    use figment::error::{Actual, Kind};
    match &mut error.kind {
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            *actual = Actual::Other("something else".into());
            if expected == "a sequence" {
                expected.push_str(", [\"…\"], or for `decisions` [{ value = \"…\", type = \"…\" }]");
            }
        }
        Kind::UnknownVariant(variant, _) => *variant = "something else".into(),
        _ => {}
    }
    error.to_string()
}

/// " (Rocket.toml)", where a key's value comes from; nothing for one that no source sets.
fn source(figment: &Figment, key: &str) -> String {
    let Some(metadata) = figment.find_metadata(key) else { return String::new() };
    match &metadata.source {
        Some(source) => format!(" ({source})"),
        None => format!(" ({})", metadata.name),
    }
}

/// What a newcomer meets in the debug profile, where no source sets the key.
mod examples {
    use super::*;

    /// Addresses that nobody has: they are set aside for documentation.
    pub fn decisions() -> Vec<OwnDecision> {
        let own = |value, remediation| OwnDecision {
            value: Network(network(value).expect("a network")),
            remediation,
            reason: "an example of the debug profile".into(),
        };
        vec![own("203.0.113.0/24", Remediation::Ban), own("198.51.100.0/24", Remediation::Captcha)]
    }

    /// So that `curl -H 'X-Forwarded-For: 203.0.113.7'` plays any visitor. Only while nobody else can connect.
    pub fn trusted_proxies() -> Vec<IpNet> {
        ["127.0.0.0/8", "::1"].into_iter().filter_map(network).collect()
    }

    /// It needs no account and no network.
    pub fn captcha() -> CaptchaTable {
        CaptchaTable { provider: Some(Provider::Altcha), ..CaptchaTable::default() }
    }
}
