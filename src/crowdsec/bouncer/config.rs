//! What did the operator decide themselves? The settings of the judgement, read and checked.

use std::collections::BTreeMap;
use std::time::Duration;

use figment::error::Kind;
use figment::value::Value;
use rocket::http::Status;
use serde::de::{Error, IntoDeserializer};
use serde::{Deserialize, Deserializer};

use super::exemptions::Prefix;
use crate::crowdsec::decisions::{Remediation, Types, network};
use crate::crowdsec::lapi::ORIGINS;
use crate::crowdsec::setting::{BadSetting, List, NEEDS_PROVIDER, Network, Number, Reading, Span, text, word};

/// Each key as Rocket.toml and the variables write it; docs/configuration.md says what each means.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    fallback_remediation: Remediation,
    #[serde(deserialize_with = "table_of_types")]
    remediations: BTreeMap<String, Remediation>,
    throttle: Option<Rate>,
    #[serde(deserialize_with = "enforced")]
    enforce: Option<Vec<Remediation>>,
    #[serde(deserialize_with = "word")]
    enforce_by: EnforceBy,
    #[serde(deserialize_with = "status_of_a_ban")]
    ban_status: Option<Status>,
    /// `None` if neither Rocket.toml nor a variable sets it: the debug profile then has examples.
    decisions: Option<List<OwnDecision>>,
    excluded_paths: List<String>,
}

/// One of the operator's own decisions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "{ value = \"…\", type = \"…\" }")]
pub struct OwnDecision {
    pub value: Network,
    #[serde(rename = "type")]
    pub remediation: Remediation,
    #[serde(default)]
    pub reason: String,
}

impl<'de> Deserialize<'de> for Remediation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer)?;
        Remediation::from_name(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is not a remediation: write \"ban\", \"captcha\", \"throttle\" or \"pass\", or in `decisions` \"allow\""
            ))
        })
    }
}

/// Which remediation each type of decision becomes: `{ mfa = "pass", "CAPI/ban" = "captcha" }`, or the same as text.
fn table_of_types<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Remediation>, D::Error> {
    as_written(deserializer)?.deserialize().map_err(|error: figment::Error| match error.kind {
        Kind::Message(told) => D::Error::custom(told),
        _ => D::Error::custom("not a table of types: write { mfa = \"pass\", \"CAPI/ban\" = \"captcha\" }"),
    })
}

/// A number of requests in a span of time: `"30/1m"` is 30 in a minute.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub most: u32,
    pub span: Duration,
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: &str| {
            let (most, span) = text.split_once('/')?;
            let span: Result<Span, D::Error> = Span::deserialize(span.trim().into_deserializer());
            let (most, Span(span)) = (most.trim().parse().ok()?, span.ok()?);
            (most > 0 && span >= Duration::from_secs(1)).then_some(Self { most, span })
        };
        let wrong =
            "not a number of requests in a span of time: write \"30/1m\" for 30 in a minute (one second at least)";
        let value = <Value as Deserialize>::deserialize(deserializer)?;
        value.as_str().and_then(read).ok_or_else(|| D::Error::custom(wrong))
    }
}

/// The remediations that `enforce` may name: the others refuse nobody.
const ENFORCED: [Remediation; 3] = [Remediation::Throttle, Remediation::Captcha, Remediation::Ban];

/// `true` for all, `false` for none, or a list of remediations.
fn enforced<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Remediation>>, D::Error> {
    let value = as_written(deserializer)?;
    if let Some(all) = value.to_bool() {
        return Ok(Some(if all { ENFORCED.to_vec() } else { Vec::new() }));
    }
    let named = value.deserialize::<List<Remediation>>().map(|list| list.0).unwrap_or_default();
    if named.is_empty() || !named.iter().all(|remediation| ENFORCED.contains(remediation)) {
        let wrong = "write true, false, or the remediations to enforce: [\"ban\", \"captcha\", \"throttle\"]";
        return Err(D::Error::custom(wrong));
    }
    Ok(Some(ENFORCED.into_iter().filter(|remediation| named.contains(remediation)).collect()))
}

/// From 400 to 499: a ban is no success, and no fault of the server.
fn status_of_a_ban<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Status>, D::Error> {
    match Number::deserialize(deserializer) {
        Ok(Number(status @ 400..=499)) => Ok(Some(Status::new(status as u16))),
        _ => Err(D::Error::custom("the status of a ban is a number from 400 to 499: write one of these")),
    }
}

/// Gives a value of Rocket.toml as it is. The text of a variable is parsed as Rocket parses its own variables.
fn as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let value = <Value as Deserialize>::deserialize(deserializer)?;
    let read = |text: &str| text.parse().unwrap_or_else(|never| match never {});
    Ok(value.as_str().map(read).unwrap_or(value))
}

/// Who refuses visitors: the fairing on every request, or guards on the routes that ask for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnforceBy {
    #[default]
    Fairing,
    /// The fairing judges and lets everybody pass. Only routes with a guard refuse.
    Guards,
}

#[derive(Debug)]
pub struct Config {
    pub types: Types,
    /// How often a visitor under `throttle` is served.
    pub throttle: Rate,
    /// The remediations that are enforced. For the others, the log tells whom they would have refused.
    pub enforced: Vec<Remediation>,
    pub enforce_by: EnforceBy,
    pub ban_status: Status,
    pub decisions: Vec<OwnDecision>,
    /// Whether `decisions` are the debug profile's examples.
    pub are_examples: bool,
    pub excluded_paths: Vec<Prefix>,
}

impl Config {
    /// `can_ask` says whether there is a captcha to show.
    pub fn read(reading: &mut Reading<'_>, can_ask: bool) -> Result<Self, BadSetting> {
        let settings: Settings = reading.room()?;
        let fallback = settings.fallback_remediation;
        let enforced = settings.enforce.unwrap_or(ENFORCED.to_vec());
        let are_examples = settings.decisions.is_none() && reading.debug;
        let asks = |own: &OwnDecision| own.remediation == Remediation::Captcha;
        let decisions = match settings.decisions {
            Some(own) => own.0,
            None if reading.debug => examples().into_iter().filter(|own| can_ask || !asks(own)).collect(),
            None => Vec::new(),
        };
        let lets_all_in = |own: &&OwnDecision| own.remediation == Remediation::Allow && own.value.0.prefix_len() == 0;
        if let Some(own) = decisions.iter().find(lets_all_in) {
            reading.warnings.push(format!(
                "`crowdsec.decisions` has an \"allow\" for {}, which outweighs every ban: nobody from there is ever refused. To try \
                 things out, write enforce = false.",
                own.value.0
            ));
        }
        for (key, needs_captcha) in [
            ("fallback_remediation", fallback == Remediation::Captcha),
            ("remediations", settings.remediations.values().any(|to| *to == Remediation::Captcha)),
            ("enforce", enforced == [Remediation::Captcha]),
            ("decisions", decisions.iter().any(asks)),
        ] {
            if needs_captcha && !can_ask {
                reading.wrong(key, NEEDS_PROVIDER);
            }
        }
        if fallback == Remediation::Allow {
            reading.wrong("fallback_remediation", "write \"ban\", \"captcha\", \"throttle\" or \"pass\"");
        }
        let mapped = mapped(reading, settings.remediations);
        let mut excluded_paths = Vec::new();
        for text in settings.excluded_paths.0 {
            match Prefix::new(&text) {
                Ok(prefix) => excluded_paths.push(prefix),
                Err(why) => reading.wrong("excluded_paths", &format!("\"{text}\" cannot be excluded: {why}")),
            }
        }
        Ok(Self {
            types: Types { captcha: can_ask, fallback, mapped },
            throttle: settings.throttle.unwrap_or(Rate { most: 30, span: Duration::from_secs(60) }),
            enforced,
            enforce_by: settings.enforce_by,
            ban_status: settings.ban_status.unwrap_or(Status::Forbidden),
            decisions,
            are_examples,
            excluded_paths,
        })
    }
}

/// The remediation of each type in `remediations`, by the type's name in lower case.
fn mapped(reading: &mut Reading<'_>, remediations: BTreeMap<String, Remediation>) -> BTreeMap<String, Remediation> {
    let mut mapped = BTreeMap::new();
    for (key, remediation) in remediations {
        let kind = key.rsplit('/').next().unwrap_or_default();
        if remediation == Remediation::Allow || kind.eq_ignore_ascii_case("allow") {
            let what = "a decision of LAPI's cannot let anybody in despite a ban: list such addresses in `decisions`, with type = \"allow\"";
            reading.wrong("remediations", what);
        } else if key.split('/').any(|part| part.trim() != part || part.is_empty()) {
            reading.wrong("remediations", &format!("`{key}` is not a type: write TYPE or \"ORIGIN/TYPE\""));
        } else if key.contains('*') || !key.contains('/') && names_origin(&key) {
            // A warning and no error, since a type may have any name.
            reading.warnings.push(format!(
                "`crowdsec.remediations` has `{key}`, which looks like no type: write TYPE, which counts for every origin, or \
                 \"ORIGIN/TYPE\", such as \"CAPI/ban\"."
            ));
        }
        if mapped.insert(key.to_ascii_lowercase(), remediation).is_some() {
            reading.wrong("remediations", &format!("`{key}` is there twice, in two spellings: take one away"));
        }
    }
    mapped
}

fn names_origin(text: &str) -> bool {
    text.to_ascii_lowercase().starts_with("lists:") || ORIGINS.iter().any(|origin| origin.eq_ignore_ascii_case(text))
}

/// The decisions of the debug profile, for a first look. Their addresses are for documentation, and belong to nobody.
fn examples() -> Vec<OwnDecision> {
    let own = |value, remediation| OwnDecision {
        value: Network(network(value).expect("a network")),
        remediation,
        reason: "an example of the debug profile".into(),
    };
    vec![own("203.0.113.0/24", Remediation::Ban), own("198.51.100.0/24", Remediation::Captcha)]
}
