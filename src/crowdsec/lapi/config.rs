//! Where is LAPI, how do we show who we are, and how often do we ask? The settings of this room, read and checked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io, process};

use figment::value::magic::RelativePathBuf;
use reqwest::Url;
use serde::Deserialize;

use super::connection::{Connection, ORIGINS};
use super::live::{self, Mode};
use super::tls;
use crate::crowdsec::decisions::Scopes;
use crate::crowdsec::printable::printable;
use crate::crowdsec::setting::{BadSetting, List, Reading, Secret, Span, url, word};

/// Each key as Rocket.toml and the variables write it; docs/configuration.md says what each means.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    api_url: Option<String>,
    api_key: Option<Secret>,
    api_key_file: Option<RelativePathBuf>,
    cert_path: Option<RelativePathBuf>,
    key_path: Option<RelativePathBuf>,
    ca_cert_path: Option<RelativePathBuf>,
    update_frequency: Option<Span>,
    resync_frequency: Option<Span>,
    startup_timeout: Option<Span>,
    #[serde(deserialize_with = "word")]
    on_startup_failure: OnStartupFailure,
    scopes: Option<List<String>>,
    origins: List<String>,
    scenarios_containing: List<String>,
    scenarios_not_containing: List<String>,
    snapshot: Option<RelativePathBuf>,
    #[serde(deserialize_with = "word")]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStartupFailure {
    #[default]
    Open,
    Closed,
    Abort,
}

/// How we keep in step with LAPI.
#[derive(Debug)]
pub struct Config {
    /// `None` in the debug profile without a key: then only the operator's own decisions count.
    pub connection: Option<Arc<Connection>>,
    pub update_frequency: Duration,
    pub resync_frequency: Duration,
    pub startup_timeout: Duration,
    pub on_startup_failure: OnStartupFailure,
    pub snapshot: Option<PathBuf>,
    /// The scopes that LAPI is asked for.
    pub scopes: Arc<Scopes>,
    /// The settings of live mode; `None` in stream mode.
    pub live: Option<live::Config>,
}

impl Config {
    pub fn read(reading: &mut Reading<'_>) -> Result<Self, BadSetting> {
        // First, since `room` may fail: then the keys of `live` would be reported as unknown.
        let live = reading.table_of("live");
        let settings: Settings = reading.room()?;
        reading.warnings.extend(misspelt_origins(&settings.origins.0, settings.mode));
        let snapshot = settings.snapshot.as_ref().map(RelativePathBuf::relative);
        if let Some((path, Err(error))) = snapshot.as_ref().map(|path| (path.display(), try_to_write(path))) {
            let help = "Make its folder, and let this user write there";
            reading.wrong("snapshot", &format!("cannot write to {path}: {error}. {help}"));
        }
        let scopes = settings.scopes.as_ref().map_or(Some(Scopes::default()), |scopes| Scopes::new(&scopes.0));
        let scopes = scopes.unwrap_or_else(|| {
            let help =
                "write [\"ip\", \"range\"], and beside them \"country\", \"as\" or a word of your own, without commas, quotes or brackets";
            reading.wrong("scopes", help);
            Scopes::default()
        });
        for (scope, what) in
            [("ip", "addresses"), ("range", "networks")].into_iter().filter(|(scope, _)| !scopes.have(scope))
        {
            reading.warnings.push(format!(
                "`crowdsec.scopes` ({}) lacks \"{scope}\": decisions on {what} count for nothing. Add it, unless that is meant.",
                printable(&scopes.0)
            ));
        }
        let scopes = Arc::new(scopes);
        let live = live.map(|live| live::Config::checked(live, reading, settings.mode, snapshot.is_some()));
        let span = |set: Option<Span>, seconds| set.map_or(Duration::from_secs(seconds), |span| span.0);
        Ok(Self {
            connection: connection(reading, &settings, &scopes).map(Arc::new),
            update_frequency: span(settings.update_frequency, 10),
            resync_frequency: span(settings.resync_frequency, 15 * 60),
            startup_timeout: span(settings.startup_timeout, 60),
            on_startup_failure: settings.on_startup_failure,
            snapshot,
            scopes,
            live: live?,
        })
    }
}

/// Makes a file beside the later snapshot and removes it again: a write that would fail in a minute fails now.
fn try_to_write(path: &Path) -> io::Result<()> {
    // A device, such as /dev/null, would be replaced by a file.
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::other("it is no file"));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".try-{}", process::id()));
    // A process with this id may have left one when it was killed just here: in a container the id is always 1.
    let _ = fs::remove_file(&beside);
    fs::File::create_new(&beside)?;
    fs::remove_file(&beside)
}

/// `None` without a key or a certificate to show LAPI. Only the debug profile goes on without.
fn connection(reading: &mut Reading<'_>, settings: &Settings, scopes: &Arc<Scopes>) -> Option<Connection> {
    let certificate = settings.cert_path.as_ref().or(settings.key_path.as_ref());
    if settings.api_key.is_none() && settings.api_key_file.is_none() && certificate.is_none() {
        if !reading.debug {
            let profile =
                Some(reading.figment.profile()).filter(|profile| **profile != rocket::Config::RELEASE_PROFILE);
            let aside = profile.map(|profile| format!(" (the profile is `{profile}`; only `debug` goes without)"));
            reading.problems.push(format!(
                "`crowdsec.api_key` is missing: run `cscli bouncers add {}` beside CrowdSec, and set CROWDSEC_API_KEY to the key it prints{}",
                env!("CARGO_PKG_NAME"),
                aside.unwrap_or_default()
            ));
        }
        return None;
    }
    let at = address(reading, settings.api_url.as_deref().unwrap_or("http://127.0.0.1:8080/"))?;
    let key = reading.secret("api_key", settings.api_key.as_ref(), settings.api_key_file.as_ref());
    let certificate = match (&key, &settings.cert_path, &settings.key_path) {
        (_, None, None) => None,
        (None, Some(cert), Some(key)) => tls::identity(reading, cert, key),
        _ => {
            let both = "a client certificate and `api_key` are two ways to the same end: take one away";
            let half = "a client certificate needs both `cert_path` and `key_path`: set both, or neither";
            let set = if settings.cert_path.is_some() { "cert_path" } else { "key_path" };
            reading.wrong(set, if key.is_some() { both } else { half });
            None
        }
    };
    // The file of the key could not be read, or the like: that is told already.
    if key.is_none() && certificate.is_none() {
        return None;
    }
    let ca = settings.ca_cert_path.as_ref().and_then(|path| tls::authorities(reading, path));
    let filters = [
        ("scopes", scopes.0.clone()),
        ("origins", settings.origins.0.join(",")),
        ("scenarios_containing", settings.scenarios_containing.0.join(",")),
        ("scenarios_not_containing", settings.scenarios_not_containing.0.join(",")),
    ];
    let filters = filters.into_iter().filter(|(_, list)| !list.is_empty()).collect();
    let connection = Connection { at, key, certificate, ca, scopes: scopes.clone(), filters };
    if !connection.is_https() && (settings.cert_path.is_some() || settings.ca_cert_path.is_some()) {
        reading
            .wrong("api_url", "certificates (`cert_path`, `ca_cert_path`) need an address that begins with https://");
    }
    Some(connection)
}

fn address(reading: &mut Reading<'_>, api_url: &str) -> Option<String> {
    if api_url.starts_with('/') {
        return Some(api_url.into());
    }
    // Exactly one slash at the end: two would ask for `//v1/decisions`, which LAPI does not have.
    let url = url(&format!("{}/", api_url.trim().trim_end_matches('/')));
    let bare = |url: &Url| url.query().or(url.fragment()).or(url.password()).is_none() && url.username().is_empty();
    let url = url.filter(bare);
    if url.is_none() {
        reading.wrong("api_url", "write \"http://127.0.0.1:8080/\", an https:// address, or the path of a unix socket, without user or password");
    }
    url.map(String::from)
}

/// Warns of misspelt origins: LAPI compares origins letter by letter, and has no decision of a misspelt one. In stream mode
/// an unusual origin is not warned of here, since the first full answer shows whether LAPI knows it.
fn misspelt_origins(origins: &[String], mode: Mode) -> impl Iterator<Item = String> {
    origins.iter().filter_map(move |origin| {
        let known = ORIGINS.iter().find(|known| known.eq_ignore_ascii_case(origin.trim()));
        let remedy = match (known, origin.strip_prefix("lists:")) {
            (Some(known), _) if known == origin => return None,
            (Some(known), _) => format!("write \"{known}\""),
            (None, Some(list)) => {
                format!("write \"lists\", and for this list alone scenarios_containing = [\"{list}\"]")
            }
            (None, None) if mode == Mode::Stream => return None,
            (None, None) => "check its spelling, unless another program writes such decisions".to_owned(),
        };
        Some(format!("`crowdsec.origins` has \"{origin}\", which is none of CrowdSec's own: {remedy}."))
    })
}
