//! How is the configuration written? The table `crowdsec`, key by key, with its defaults.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use figment::value::magic::RelativePathBuf;
use figment::value::{Num, Value};
use ipnet::IpNet;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::crowdsec::decisions::{self, Remediation};

/// Rocket's configuration, of which one table is ours.
#[derive(Deserialize)]
pub struct Root {
    pub crowdsec: Table,
}

/// `[default.crowdsec]`, as Rocket.toml and the environment have it. Rocket.toml says what each key means, and `Config`
/// what stands for one that is left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Table {
    pub api_url: Option<String>,
    pub api_key: Option<Secret>,
    pub api_key_file: Option<RelativePathBuf>,
    pub cert_path: Option<RelativePathBuf>,
    pub key_path: Option<RelativePathBuf>,
    pub ca_cert_path: Option<RelativePathBuf>,
    pub update_frequency: Option<Span>,
    pub resync_frequency: Option<Span>,
    pub startup_timeout: Option<Span>,
    pub on_startup_failure: OnStartupFailure,
    pub scopes: Option<Vec<String>>,
    pub origins: Vec<String>,
    pub scenarios_containing: Vec<String>,
    pub scenarios_not_containing: Vec<String>,
    pub fallback_remediation: Fallback,
    /// `None` where no source says: the debug profile then has examples.
    pub decisions: Option<Vec<OwnDecision>>,
    pub excluded_paths: Vec<String>,
    /// `None` where no source says: the debug profile then trusts loopback.
    pub trusted_proxies: Option<Vec<Network>>,
    pub client_ip_header: Option<String>,
    pub snapshot: Option<RelativePathBuf>,
    pub access_log: Option<RelativePathBuf>,
    pub event_log: Option<RelativePathBuf>,
    /// For whoever writes the log of the `log` crate's records: here it is only checked.
    #[serde(rename = "log_format")]
    pub _log_format: LogFormat,
    /// `None` where no source says: the debug profile then has a provider that needs no account.
    pub captcha: Option<CaptchaTable>,
}

/// `[default.crowdsec.captcha]`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CaptchaTable {
    pub provider: Option<Provider>,
    pub site_key: Option<Secret>,
    pub secret_key: Option<Secret>,
    pub secret_key_file: Option<RelativePathBuf>,
    pub verify_url: Option<String>,
    pub script_url: Option<String>,
    pub hostnames: Vec<String>,
    pub difficulty: Option<u32>,
    pub expiration: Option<Span>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStartupFailure {
    #[default]
    Open,
    Closed,
    Abort,
}

/// How the application's log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    #[default]
    Ban,
    Captcha,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Recaptcha,
    Hcaptcha,
    Turnstile,
    Altcha,
}

/// One of the operator's own decisions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnDecision {
    pub value: Network,
    #[serde(rename = "type")]
    pub remediation: Remediation,
    #[serde(default)]
    pub reason: String,
}

/// A key or password: text that is never shown.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[private]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Serde's own message would show the value. A number is refused rather than turned into text, because `007` would
    /// arrive as `7`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Value as Deserialize>::deserialize(deserializer)?.into_string();
        let wrong = "no text: write it in quotes, key = \"…\"";
        text.map(Secret).ok_or_else(|| D::Error::custom(wrong))
    }
}

/// A length of time: `"10s"`, `"15m"`, `"1h30m"`, or whole seconds.
#[derive(Clone, Copy)]
pub struct Span(pub Duration);

impl Span {
    /// What every sum with a length of time can bear.
    const SENSIBLE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10 * 365 * 86_400);

    /// What was set, or so many seconds.
    pub fn or(span: Option<Self>, seconds: u64) -> Duration {
        span.map_or(Duration::from_secs(seconds), |span| span.0)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = "no length of time from 1ms to ten years: write \"10s\", \"15m\", \"1h30m\", or whole seconds";
        let value = <Value as Deserialize>::deserialize(deserializer)?;
        let seconds = value.to_num().and_then(Num::to_u128_lossy);
        let text = seconds.map(|seconds| seconds.to_string()).or(value.into_string()).unwrap_or_default();
        let span = text.parse().ok().map(Duration::from_secs).or_else(|| decisions::go_duration(&text));
        span.filter(|span| Self::SENSIBLE.contains(span)).map(Span).ok_or_else(|| D::Error::custom(wrong))
    }
}

/// An address or a network.
#[derive(Clone, Copy, Debug)]
pub struct Network(pub IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            D::Error::custom(format!("`{text}` is no address or network: write \"203.0.113.7\" or \"2001:db8::/32\""))
        };
        decisions::network(&text).map(Network).ok_or_else(wrong)
    }
}

impl<'de> Deserialize<'de> for Remediation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Remediation::from_type(&text).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is no type of decision: write \"ban\", \"captcha\" or \"allow\""))
        })
    }
}
