//! Which logs are kept, and where? The settings of this room, read and checked.

use std::path::PathBuf;

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

/// The files of the access log, the event log and the refusal log, or `stdout`. All may be the same.
pub struct Config(pub [Option<PathBuf>; 3]);

pub const KEYS: [&str; 3] = ["access_log", "event_log", "refusal_log"];

impl Config {
    /// Tries to write to the logs: what would fail at the first line fails at the launch.
    pub fn read(reading: &mut Reading<'_>) -> Result<Self, BadSetting> {
        let Settings { access_log, event_log, refusal_log } = reading.room()?;
        let logs = [access_log, event_log, refusal_log].map(|path| path.map(path_of));
        for (key, path) in KEYS.into_iter().zip(&logs) {
            if let Some((path, Err(error))) = path.as_ref().map(|path| (path.display(), journal::open(path))) {
                let help = "Make its folder, and let this user write there";
                reading.wrong(key, &format!("cannot write to {path}: {error}. {help}"));
            }
        }
        Ok(Self(logs))
    }
}

/// `stdout`, in small letters or capitals, is no path; `./stdout` is one.
fn path_of(path: RelativePathBuf) -> PathBuf {
    if path.original().as_os_str().eq_ignore_ascii_case(STDOUT) { STDOUT.into() } else { path.relative() }
}
