//! Where is AppSec, how long do we wait for it, and what becomes of what it does not judge? The settings of this room.

use std::time::Duration;

use http::Uri;
use rocket::data::ByteUnit;
use serde::Deserialize;

use crate::crowdsec::bouncer::{self, EnforceBy};
use crate::crowdsec::captcha;
use crate::crowdsec::decisions::Remediation;
use crate::crowdsec::lapi;
use crate::crowdsec::setting::{BadSetting, NEEDS_PROVIDER, Reading, Span, failure_action, word};

/// `[default.crowdsec.appsec]`: each key as Rocket.toml and the variables write it; docs/configuration.md says what each
/// means.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    url: String,
    pub timeout: Span,
    #[serde(deserialize_with = "failure_action")]
    pub failure_action: Option<Remediation>,
    pub body_limit: ByteUnit,
    #[serde(deserialize_with = "word")]
    pub large_bodies: LargeBodies,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout: Span(Duration::from_millis(200)),
            failure_action: None,
            body_limit: ByteUnit::Mebibyte(1),
            large_bodies: LargeBodies::Block,
        }
    }
}

/// What becomes of a body that is longer than `body_limit`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LargeBodies {
    /// 413.
    Block,
    /// AppSec judges the request line and the headers alone.
    HeadersOnly,
}

/// A body is kept in memory while it is judged, and a mistake of three zeros must not fill the memory.
const LARGEST: ByteUnit = ByteUnit::Mebibyte(128);
/// The page of a challenge posts some kilobytes, and up to 512 bytes are judged in any case.
const SMALLEST: ByteUnit = ByteUnit::Kibibyte(16);
/// A request whose question is not answered waits for all of `timeout`.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);

impl Config {
    /// The settings, and where AppSec is. `None` where no `appsec.url` is set: then AppSec is not asked.
    pub fn read(reading: &mut Reading<'_>) -> Result<Option<(Self, Uri)>, BadSetting> {
        let Some(config) = reading.table_of::<Self>("appsec")? else { return Ok(None) };
        if config.url.is_empty() {
            let what = "`crowdsec.appsec` is set, and counts for nothing without `url`: nobody is asked.";
            reading.warnings.push(what.into());
            return Ok(None);
        }
        let url = reading.url("appsec.url", Some(config.url.clone())).ok_or(BadSetting)?;
        if url.fragment().or(url.password()).is_some() || !url.username().is_empty() {
            reading.wrong("appsec.url", "write the address alone, without a user, a password or a `#`");
        }
        if config.timeout.0 > LONGEST_TIMEOUT {
            reading.wrong("appsec.timeout", "write a length of time up to \"10s\": each request waits for it");
        }
        if !(SMALLEST..=LARGEST).contains(&config.body_limit) {
            reading.wrong("appsec.body_limit", "write a size from \"16 KiB\" to \"128 MiB\"");
        }
        let Ok(at) = url.as_str().parse() else {
            reading.wrong("appsec.url", "AppSec cannot be asked there: write \"http://127.0.0.1:7422\"");
            return Err(BadSetting);
        };
        Ok(Some((config, at)))
    }

    /// Reads the settings, and reports those that contradict other rooms' settings. Mistakes in the other rooms' own
    /// settings are reported already.
    pub fn check(
        reading: &mut Reading<'_>,
        lapi: &Result<lapi::Config, BadSetting>,
        captcha: &Result<Option<captcha::Config>, BadSetting>,
        bouncer: &Result<bouncer::Config, BadSetting>,
    ) {
        let Ok(Some((config, _))) = Self::read(reading) else { return };
        let has_key = |lapi: &lapi::Config| lapi.connection.as_ref().is_some_and(|lapi| lapi.key.is_some());
        if lapi.as_ref().is_ok_and(|lapi| !has_key(lapi)) {
            let what = "AppSec knows a bouncer by its key alone: set `api_key` to what `cscli bouncers add NAME` prints, or take this key away";
            reading.wrong("appsec.url", what);
        }
        if matches!(captcha, Ok(None)) && config.failure_action == Some(Remediation::Captcha) {
            reading.wrong("appsec.failure_action", &format!("{NEEDS_PROVIDER} or \"passthrough\""));
        }
        if bouncer.as_ref().is_ok_and(|bouncer| bouncer.enforce_by == EnforceBy::Guards) {
            let what = "AppSec is asked before any guard: write enforce_by = \"fairing\", or take this key away";
            reading.wrong("appsec.url", what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_without_an_address_are_told_to_count_for_nothing() {
        let figment = figment::Figment::from(rocket::Config::debug_default());
        for (figment, told) in [(figment.clone(), 0), (figment.merge(("crowdsec.appsec.failure_action", "ban")), 1)] {
            let mut reading = Reading::of(&figment);
            assert!(Config::read(&mut reading).is_ok_and(|config| config.is_none()));
            assert_eq!(reading.warnings.iter().filter(|text| text.contains("nobody is asked")).count(), told);
        }
    }

    #[test]
    fn a_size_of_the_wrong_kind_is_told_with_what_to_write() {
        for wrong in [figment::value::Value::from("1 XB"), true.into()] {
            let figment = figment::Figment::from(rocket::Config::debug_default());
            let figment = figment.merge(("crowdsec.appsec.body_limit", wrong));
            let mut reading = Reading::of(&figment);
            assert!(Config::read(&mut reading).is_err());
            assert!(reading.problems[0].contains("write a size in quotes, \"1 MiB\""), "{:?}", reading.problems);
        }
    }
}
