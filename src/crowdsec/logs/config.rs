//! Which logs are kept, and where? The settings of this room, read and checked.

use std::path::{Path, PathBuf};

use figment::value::magic::RelativePathBuf;
use serde::Deserialize;

use super::journal::{self, STDOUT};
use crate::crowdsec::setting::{Reading, Told};

/// Each key as Rocket.toml and the variables write it; docs/configuration.md says what each means.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    access_log: Option<RelativePathBuf>,
    event_log: Option<RelativePathBuf>,
    refusal_log: Option<RelativePathBuf>,
}

/// Each a file, or `stdout`. All may be the same.
pub struct Config {
    pub access_log: Option<PathBuf>,
    pub event_log: Option<PathBuf>,
    pub refusal_log: Option<PathBuf>,
}

impl Config {
    /// Tries to write to the logs: what would fail at the first line fails at the launch.
    pub fn read(reading: &mut Reading<'_>) -> Result<Self, Told> {
        let settings: Settings = reading.room()?;
        let mut log = |key, path: Option<RelativePathBuf>| {
            let path = path.map(path_of)?;
            if let Err(error) = journal::open(&path) {
                let path = path.display();
                let help = "Make its folder, and let this user write there";
                reading.wrong(key, &format!("cannot write to {path}: {error}. {help}"));
            }
            Some(path)
        };
        Ok(Self {
            access_log: log("access_log", settings.access_log),
            event_log: log("event_log", settings.event_log),
            refusal_log: log("refusal_log", settings.refusal_log),
        })
    }

    /// The first key of those that name a log.
    pub fn first_set(&self) -> Option<&'static str> {
        let keys =
            [("access_log", &self.access_log), ("event_log", &self.event_log), ("refusal_log", &self.refusal_log)];
        keys.into_iter().find_map(|(key, path)| path.is_some().then_some(key))
    }
}

/// The one word is no path; `./stdout` is.
fn path_of(path: RelativePathBuf) -> PathBuf {
    if path.original() == Path::new(STDOUT) { STDOUT.into() } else { path.relative() }
}
