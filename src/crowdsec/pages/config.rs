//! What do the bouncer's pages call the site, and whom may a refused visitor ask? The settings of this room, read and checked.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::crowdsec::setting::{text, url};

/// What the pages say about the site. Templates see it. Each key as Rocket.toml and the variables write it;
/// docs/configuration.md says what each means.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// The package's name where none is set.
    #[serde(rename(serialize = "site"), deserialize_with = "name")]
    pub site_name: String,
    pub contact: Option<Contact>,
}

/// Where a visitor who is refused by mistake can write to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Contact {
    pub text: String,
    /// Where a link leads: `mailto:` or an address of the web.
    pub url: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { site_name: env!("CARGO_PKG_NAME").into(), contact: None }
    }
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let wrong = || D::Error::custom("write the name in quotes, or take this key away");
    Some(text(deserializer)?).filter(|name| !name.trim().is_empty()).ok_or_else(wrong)
}

impl TryFrom<String> for Contact {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@');
        let is_mail =
            text.split_once('@').is_some_and(|(who, host)| is_word(who) && is_word(host)) && !text.contains(':');
        // In a `mailto:` link these would begin a subject or another header.
        let is_plain = !text.contains(['?', '&', '#', '%', '"', '<', '>']);
        match url(&text) {
            Some(_) => Ok(Self { url: text.clone(), text }),
            None if is_mail && is_plain => Ok(Self { url: format!("mailto:{text}"), text }),
            None => Err(
                "write a mail address, \"help@example.org\", or a link to another site, \"https://…\": this one is closed to the refused",
            ),
        }
    }
}
