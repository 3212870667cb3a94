//! What do the bouncer's pages call the site, and whom may a refused visitor ask? The settings of this room, read and checked.

use serde::{Deserialize, Serialize};

use crate::crowdsec::setting::{BadSetting, Reading, url};

/// Each key as Rocket.toml and the variables write it; docs/configuration.md says what each means.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    site_name: Option<String>,
    contact: Option<String>,
}

/// What the pages say of the site. Templates see it.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// The package's name where none is set.
    #[serde(rename = "site")]
    pub site_name: String,
    pub contact: Option<Contact>,
}

/// Whom to write to who is refused by mistake.
#[derive(Clone, Debug, Serialize)]
pub struct Contact {
    pub text: String,
    /// Where a link leads: `mailto:` or an address of the web.
    pub url: String,
}

impl Config {
    pub fn read(reading: &mut Reading<'_>) -> Result<Self, BadSetting> {
        let Settings { site_name, contact } = reading.room()?;
        let read = contact.clone().and_then(contact_of);
        if contact.is_some() && read.is_none() {
            reading.wrong(
                "contact",
                "write a mail address, \"help@example.org\", or a link to another site, \"https://…\": this one is closed to the refused",
            );
        }
        Ok(Self { site_name: site_name.unwrap_or_else(|| env!("CARGO_PKG_NAME").into()), contact: read })
    }
}

fn contact_of(text: String) -> Option<Contact> {
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@');
    let is_mail = text.split_once('@').is_some_and(|(who, host)| is_word(who) && is_word(host)) && !text.contains(':');
    // In a link to mail these would begin a subject or another header.
    let is_plain = !text.contains(['?', '&', '#', '%', '"', '<', '>']);
    match url(&text) {
        Some(_) => Some(Contact { url: text.clone(), text }),
        None if is_mail && is_plain => Some(Contact { url: format!("mailto:{text}"), text }),
        None => None,
    }
}
