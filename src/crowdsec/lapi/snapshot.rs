//! What survives a restart? The decisions, in a file, so that an application that starts while LAPI is away protects.
//!
//! The file is an answer as LAPI gives it, behind one line that says whose it is, when it was written, and an HMAC over
//! all of it. Its key is made of Rocket's `secret_key`, where one is set: then nobody can forge a snapshot, not even who
//! may write the file. Nothing in it is believed before the HMAC is right. It is written beside its place and renamed, so
//! that a crash leaves the old one or the new one. Durations are what was left at the time of writing: what passed since
//! is taken off by the wall clock, and a clock that went back takes off nothing.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;

use super::answer::read_answer;
use super::connection::Connection;
use crate::crowdsec::decisions::{DecisionSet, Entry, Key, Scopes, Source, Ticks, Value};
use crate::crowdsec::setting::Secret;

/// Where the decisions are kept, and whose they are.
#[derive(Clone)]
pub struct Snapshot {
    path: PathBuf,
    /// Of LAPI's address and our filters: another's decisions are not ours.
    owner: String,
    hmac: Hmac<Sha256>,
    is_signed: bool,
    scopes: Arc<Scopes>,
}

/// Names the format; a change of the format changes it.
const FORMAT: &str = "crowdsec-rocket-bouncer snapshot 3";
/// What CrowdSec said longer ago than this it may well have taken back.
const OLDEST: Duration = Duration::from_secs(24 * 60 * 60);
/// As much as LAPI's longest answer.
const LONGEST: u64 = 512 << 20;
/// The HMAC is written as hexadecimal digits.
const DIGITS: usize = 64;
const TORN: &str = "it was cut or changed, or signed with another secret_key";

impl Snapshot {
    pub fn new(path: PathBuf, lapi: &Connection, secret: Option<&Secret>) -> Self {
        let hmac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
        // A key of our own out of the secret, which signs and encrypts other things too. Without one, what is left is a sum
        // that finds torn files.
        let key = hmac(secret.map_or("", |secret| &secret.0).as_bytes()).chain_update(FORMAT).finalize().into_bytes();
        let filters = lapi.filters.iter().flat_map(|(name, value)| [*name, value]);
        let owner = filters.fold(hmac(b"").chain_update(lapi.at.to_string()), |owner, text| {
            owner.chain_update([0]).chain_update(text)
        });
        let owner = format!("{:.16x}", owner.finalize().into_bytes());
        Self { path, owner, hmac: hmac(&key), is_signed: secret.is_some(), scopes: lapi.scopes.clone() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts decisions into the file. Blocks on the disk.
    pub fn store(&self, standing: &[(Value, Key, Ticks, Arc<Source>)]) -> io::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let file = create_anew(Path::new(&beside))?;
        let head = self.head(unix_now());
        let hmac = self.hmac.clone().chain_update(&head);
        let mut file = BufWriter::new(file);
        writeln!(file, "{head}{:DIGITS$}", "")?;
        let mut body = Signing { inner: file, hmac };
        body.write_all(br#"{"deleted":null,"new":["#)?;
        for (place, (value, key, left, source)) in standing.iter().enumerate() {
            body.write_all(if place > 0 { b",\n" } else { b"\n" })?;
            let duration = format!("{}.{}s", left / 10, left % 10);
            let Source { origin, scenario, scope, kind } = &**source;
            serde_json::to_writer(&mut body, &Row { duration, id: key.id(), origin, scenario, scope, kind, value })?;
        }
        body.write_all(b"\n]}\n")?;
        let Signing { inner: mut file, hmac } = body;
        file.seek(SeekFrom::Start(head.len() as u64))?;
        write!(file, "{:x}", hmac.finalize().into_bytes())?;
        file.into_inner()?.sync_all()?;
        fs::rename(&beside, &self.path)?;
        // The rename itself lasts once the directory is on the disk.
        File::open(self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Reads the file into the set. Gives how old it is; `Ok(None)` where there is no file; `Err` says why it is not
    /// believed.
    pub fn read(&self, set: &Arc<DecisionSet>, now: Instant) -> Result<Option<Duration>, String> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
            Ok(file) if !file.is_file() => return Err("it is no file".into()),
            Ok(file) if file.len() > LONGEST => return Err("it is over 512 MiB".into()),
            Ok(_) => {}
        }
        let file = File::open(&self.path).map_err(|error| error.to_string())?;
        self.believe(file, set, now).map(Some).map_err(str::to_owned)
    }

    /// Fails towards LAPI: what is not believed changes nothing.
    fn believe(&self, file: impl Read, set: &Arc<DecisionSet>, now: Instant) -> Result<Duration, &'static str> {
        let mut file = BufReader::new(file);
        let mut line = String::new();
        file.by_ref().take(200).read_line(&mut line).map_err(|_| NO_SNAPSHOT)?;
        let (head, hmac) = line.trim_end_matches('\n').rsplit_once(' ').ok_or(NO_SNAPSHOT)?;
        let written = self.written(head)?;
        let age = Duration::from_secs(unix_now().saturating_sub(written));
        if age > OLDEST {
            return Err("it is older than a day");
        }
        let mut body = Signing { inner: file, hmac: self.hmac.clone().chain_update(self.head(written)) };
        let mut everything = set.everything(now);
        let read = read_answer(&mut body, &self.scopes, &mut |entry| {
            everything.take(match entry {
                Entry::New(mut decision) => {
                    decision.duration = decision.duration.saturating_sub(age);
                    Entry::New(decision)
                }
                entry => entry,
            });
        });
        // Both are signed once more: such HMACs are compared in constant time.
        let sum = |digits: &str| self.hmac.clone().chain_update(digits).finalize();
        if sum(hmac) != sum(&format!("{:x}", body.hmac.finalize().into_bytes())) {
            return Err(TORN);
        }
        read.map_err(|_| TORN)?;
        everything.take_over(now, Duration::ZERO).settle(true);
        Ok(age)
    }

    /// The first line, but for the HMAC at its end.
    fn head(&self, written: u64) -> String {
        let signed = if self.is_signed { "signed" } else { "unsigned" };
        format!("{FORMAT}, {signed}, of {}, at {written}, HMAC ", self.owner)
    }

    /// When a file with this first line was written, if it is one of ours.
    fn written(&self, head: &str) -> Result<u64, &'static str> {
        let parts: Vec<&str> = head.split(", ").collect();
        let [FORMAT, signed, owner, written, "HMAC"] = parts[..] else { return Err(NO_SNAPSHOT) };
        match (signed, self.is_signed) {
            ("signed", true) | ("unsigned", false) => {}
            ("unsigned", true) => {
                return Err("it is not signed, although secret_key is set: it was written without one, or forged");
            }
            ("signed", false) => return Err("it is signed with a secret_key, and none is set here"),
            _ => return Err(NO_SNAPSHOT),
        }
        if owner.strip_prefix("of ") != Some(&self.owner) {
            return Err("it was written with another api_url or other filters");
        }
        written.strip_prefix("at ").and_then(|written| written.parse().ok()).ok_or(NO_SNAPSHOT)
    }
}

const NO_SNAPSHOT: &str = "it is no snapshot of this version";

/// A decision as LAPI writes it.
#[derive(Serialize)]
struct Row<'a> {
    duration: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    origin: &'a str,
    scenario: &'a str,
    scope: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    value: &'a Value,
}

/// Signs what is written or read.
struct Signing<T> {
    inner: T,
    hmac: Hmac<Sha256>,
}

impl<T: Write> Write for Signing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hmac.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Signing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hmac.update(&buffer[..read]);
        Ok(read)
    }
}

/// A file that was not there before, which only its owner reads. What lay there is removed first: the half of one that a
/// crash left, or a link that somebody laid, of which nothing is ever followed.
fn create_anew(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
