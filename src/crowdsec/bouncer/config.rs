//! What did the operator decide themselves? The settings of the judgement, read and checked.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::exemptions::Prefix;
use crate::crowdsec::decisions::{Remediation, Types, network};
use crate::crowdsec::setting::{List, Network, Reading, Told};

/// Each key as Rocket.toml and the variables write it; docs/configuration.md says what each means.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    fallback_remediation: Fallback,
    /// `None` where no source says: the debug profile then has examples.
    decisions: Option<List<OwnDecision>>,
    excluded_paths: List<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fallback {
    #[default]
    Ban,
    Captcha,
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

impl<'de> Deserialize<'de> for Remediation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Remediation::from_type(&text).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is no type of decision: write \"ban\", \"captcha\" or \"allow\""))
        })
    }
}

#[derive(Debug)]
pub struct Config {
    pub types: Types,
    pub decisions: Vec<OwnDecision>,
    /// Whether these are the debug profile's examples.
    pub are_examples: bool,
    pub excluded_paths: Vec<Prefix>,
}

impl Config {
    /// `can_ask` says whether there is a captcha to show.
    pub fn read(reading: &mut Reading<'_>, can_ask: bool) -> Result<Self, Told> {
        let settings: Settings = reading.room()?;
        let fallback = match settings.fallback_remediation {
            Fallback::Ban => Remediation::Ban,
            Fallback::Captcha => Remediation::Captcha,
        };
        if fallback == Remediation::Captcha && !can_ask {
            reading.wrong("fallback_remediation", "`captcha` needs `captcha.provider`: set that, or write \"ban\"");
        }
        let are_examples = settings.decisions.is_none() && reading.debug;
        let set = settings.decisions.map(|list| list.0);
        let asks = |own: &OwnDecision| own.remediation == Remediation::Captcha;
        if !can_ask && set.iter().flatten().any(asks) {
            reading.wrong(
                "decisions",
                "a decision of type `captcha` needs `captcha.provider`: set that, or write \"ban\"",
            );
        }
        let examples = || examples().into_iter().filter(|own| can_ask || !asks(own)).collect();
        let decisions = set.or_else(|| reading.debug.then(examples)).unwrap_or_default();
        let mut excluded_paths = Vec::new();
        for text in settings.excluded_paths.0 {
            match Prefix::new(&text) {
                Ok(prefix) => excluded_paths.push(prefix),
                Err(why) => reading.wrong("excluded_paths", &format!("\"{text}\" cannot be excluded: {why}")),
            }
        }
        Ok(Self { types: Types { captcha: can_ask, fallback }, decisions, are_examples, excluded_paths })
    }
}

/// What a newcomer meets in the debug profile: addresses that nobody has, since they are set aside for documentation.
fn examples() -> Vec<OwnDecision> {
    let own = |value, remediation| OwnDecision {
        value: Network(network(value).expect("a network")),
        remediation,
        reason: "an example of the debug profile".into(),
    };
    vec![own("203.0.113.0/24", Remediation::Ban), own("198.51.100.0/24", Remediation::Captcha)]
}
