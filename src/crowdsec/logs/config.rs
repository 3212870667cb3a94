//! Which logs are kept, and where? The settings of this room, read and checked.

use std::path::{Path, PathBuf};

use figment::value::magic::RelativePathBuf;
use serde::Deserialize;

use crate::crowdsec::journal::{self, STDOUT};
use crate::crowdsec::setting::{BadSetting, Reading};

/// Each key as Rocket.toml and the variables write it; docs/configuration.md says what each means.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    access_log: Option<RelativePathBuf>,
    event_log: Option<RelativePathBuf>,
    refusal_log: Option<RelativePathBuf>,
}

/// The key of each log, and its file or `stdout`: the access log, the event log, the refusal log. All may be the same.
pub struct Config(pub [(&'static str, Option<PathBuf>); 3]);

impl Config {
    /// Tries to write to the logs: what would fail at the first line fails at the launch.
    pub fn read(reading: &mut Reading<'_>) -> Result<Self, BadSetting> {
        let Settings { access_log, event_log, refusal_log } = reading.room()?;
        let logs = [("access_log", access_log), ("event_log", event_log), ("refusal_log", refusal_log)];
        Ok(Self(logs.map(|(key, path)| {
            let path = path.map(path_of);
            if let Some(path) = &path
                && let Err(error) = journal::open(path)
            {
                let help = "Make its folder, and let this user write there";
                reading.wrong(key, &format!("cannot write to {}: {error}. {help}", path.display()));
            }
            (key, path)
        })))
    }
}

/// The one word is no path; `./stdout` is.
fn path_of(path: RelativePathBuf) -> PathBuf {
    if path.original() == Path::new(STDOUT) { STDOUT.into() } else { path.relative() }
}
