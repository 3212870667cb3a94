//! How often does LAPI get the usage metrics, and who may read the figures? The settings of this room, read and checked.

use std::time::Duration;

use figment::value::Value;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::crowdsec::setting::{BadSetting, List, Network, Reading, Span};

/// Each key as Rocket.toml and the variables write it; docs/configuration.md says what each means.
#[derive(Deserialize)]
#[serde(default)]
pub struct Config {
    /// The time between two pushes to LAPI; `None` for no push at all.
    #[serde(deserialize_with = "interval")]
    pub usage_metrics: Option<Duration>,
    /// Who may read the figures: nobody if the list is empty.
    pub metrics_from: List<Network>,
}

impl Default for Config {
    fn default() -> Self {
        Self { usage_metrics: Some(Duration::from_secs(15 * 60)), metrics_from: List(Vec::new()) }
    }
}

/// The shortest interval. LAPI keeps every push as a row for a week: more pushes would fill its database.
const SHORTEST: Duration = Duration::from_secs(10 * 60);

/// A length of time; `None` for `"off"`.
fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let value = <Value as Deserialize>::deserialize(deserializer)?;
    if value.as_str().is_some_and(|text| text.trim().eq_ignore_ascii_case("off")) {
        return Ok(None);
    }
    let span = value.deserialize::<Span>().ok().map(|Span(span)| span).filter(|span| *span >= SHORTEST);
    let wrong = "write \"off\", or a length of time of at least ten minutes, \"15m\"";
    span.map(Some).ok_or_else(|| D::Error::custom(wrong))
}

impl Config {
    pub fn read(reading: &mut Reading<'_>) -> Result<Self, BadSetting> {
        let config: Self = reading.room()?;
        if let Some(Network(all)) = config.metrics_from.0.iter().find(|Network(net)| net.prefix_len() == 0) {
            let what = format!("{all} would show everybody whom you refuse: list the addresses that are to read it");
            reading.wrong("metrics_from", &what);
        }
        Ok(config)
    }
}
