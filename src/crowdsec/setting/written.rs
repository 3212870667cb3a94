//! How is a value written? Each kind is read from Rocket.toml as it stands, and from a variable as text.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::time::Duration;

use figment::Figment;
use figment::error::Kind;
use figment::value::{Num, Value};
use ipnet::IpNet;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{DeserializeOwned, Error, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::without_value;
use crate::crowdsec::decisions::{self, Remediation};

/// A key or password: text that is never shown.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[private]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Does not use serde's error, which would show the value. Refuses a number rather than turn it into text, because
    /// `007` would arrive as `7`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Value as Deserialize>::deserialize(deserializer)?.into_string();
        let wrong = "not a text: write it in quotes, key = \"…\"";
        text.map(Secret).ok_or_else(|| D::Error::custom(wrong))
    }
}

/// A length of time: `"10s"`, `"15m"`, `"1h30m"`, or whole seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span(pub Duration);

/// Lengths of time that can be added to any time without an overflow.
const SENSIBLE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10 * 365 * 86_400);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = "not a length of time from 1ms to ten years: write \"10s\", \"15m\", \"1h30m\", or whole seconds";
        let text = number_or_text(deserializer)?;
        let span = text.parse().ok().map(Duration::from_secs).or_else(|| decisions::go_duration(&text));
        span.filter(|span| SENSIBLE.contains(span)).map(Span).ok_or_else(|| D::Error::custom(wrong))
    }
}

/// Reads an enum from its word alone. Figment would also take a number for the variant at that position: `mode = 1` for
/// "live".
pub fn word<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::deserialize(text(deserializer)?.into_deserializer())
}

/// A text; empty for any other kind of value, since no setting knows an empty word.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(<Value as Deserialize>::deserialize(deserializer)?.into_string().unwrap_or_default())
}

/// What becomes of a visitor when LAPI (live mode) or AppSec does not answer in time; `None` for `passthrough`.
pub fn failure_action<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Remediation>, D::Error> {
    match text(deserializer)?.as_str() {
        "passthrough" => Ok(None),
        "captcha" => Ok(Some(Remediation::Captcha)),
        "ban" => Ok(Some(Remediation::Ban)),
        other => Err(D::Error::unknown_variant(other, &["passthrough", "captcha", "ban"])),
    }
}

/// A whole number, 0 or greater.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub u32);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = number_or_text(deserializer)?.parse().map(Number);
        number.map_err(|_| D::Error::custom("not a whole number up to 4294967295"))
    }
}

/// The digits of a whole number, or a text; empty for anything else.
fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = <Value as Deserialize>::deserialize(deserializer)?;
    let number = value.to_num().and_then(Num::to_u128_lossy).filter(|_| value.as_str().is_none());
    Ok(number.map(|number| number.to_string()).or(value.into_string()).unwrap_or_default())
}

/// An address or a network.
#[derive(Clone, Copy, Debug)]
pub struct Network(pub IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            D::Error::custom(format!("`{text}` is not an address or network: use \"203.0.113.7\" or \"2001:db8::/32\""))
        };
        decisions::network(&text).map(Network).ok_or_else(wrong)
    }
}

/// A list: `["a", "b"]`, or the same as text with commas, `a, b`.
#[derive(Clone, Debug, Default)]
pub struct List<T>(pub Vec<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Items(PhantomData))
    }
}

struct Items<T>(PhantomData<T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Items<T> {
    type Value = List<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, [\"…\"], or for `decisions` [{ value = \"…\", type = \"…\" }]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<List<T>, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(items)).map(List)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<List<T>, E> {
        let items: Value = match text.strip_prefix('[') {
            Some(_) => text.parse().unwrap_or_else(|never| match never {}),
            None => text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>().into(),
        };
        // Read through a figment, because nothing else can read a `RelativePathBuf`.
        Figment::from(("items", items)).extract_inner("items").map(List).map_err(|error| match error.kind {
            Kind::Message(told) => E::custom(told),
            Kind::MissingField(_) | Kind::UnknownField(..) => E::custom(without_value(error.kind)),
            // The other kinds show the value, which may be a secret in the wrong place.
            _ => E::custom("this is not a list: write [\"…\"], or for `decisions` [{ value = \"…\", type = \"…\" }], with commas and double quotes"),
        })
    }
}
