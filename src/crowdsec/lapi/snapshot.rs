//! What survives a restart? The decisions, in a file, so that an application is protected even if it starts while LAPI is
//! away.
//!
//! The file's first line holds the time of writing and an HMAC over the whole file; an answer as LAPI gives it follows. The
//! HMAC's key is made of LAPI's address, our filters, and Rocket's `secret_key` if one is set: then nobody without that can
//! forge a snapshot, not even somebody who may write the file. Nothing in the file counts before its HMAC is checked. A new
//! file is written beside the old one and renamed, so that a crash leaves one of the two whole. Durations are those at the
//! time of writing: what has passed since by the wall clock is taken off, and nothing if the clock went back.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;

use super::answer::read_answer;
use super::body::LONGEST_ANSWER;
use super::connection::Connection;
use crate::crowdsec::decisions::{DecisionSet, Entry, Key, Scopes, Source, Ticks, Value};
use crate::crowdsec::setting::Secret;
use crate::crowdsec::timestamp::unix_now;

/// Where the decisions are kept, and for which LAPI and filters.
#[derive(Clone)]
pub struct Snapshot {
    pub path: PathBuf,
    hmac: Hmac<Sha256>,
    scopes: Arc<Scopes>,
}

/// Names the format; a change of the format changes it.
const FORMAT: &str = "crowdsec-rocket-bouncer snapshot 4";
/// CrowdSec may well have taken back what it said longer ago than this.
const OLDEST: Duration = Duration::from_secs(24 * 60 * 60);
/// The HMAC is written as hexadecimal digits.
const DIGITS: usize = 64;
const NO_SNAPSHOT: &str = "it is no snapshot of this version";
const TORN: &str = "it was cut or changed, or written with another secret_key, api_url or filters";

impl Snapshot {
    pub fn new(path: PathBuf, lapi: &Connection, secret: Option<&Secret>) -> Self {
        let hmac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
        // The secret also signs and encrypts other things, so the snapshot derives its own key: also from LAPI's address
        // and our filters, since decisions of another LAPI are not ours. Without a secret anybody can make this HMAC: then
        // it only detects torn files and those of another LAPI or other filters.
        let secret = secret.map_or("", |secret| &secret.0).as_bytes();
        let mut key = hmac(secret).chain_update(FORMAT).chain_update([0]).chain_update(&lapi.at);
        for text in lapi.filters.iter().flat_map(|(name, value)| [*name, value]) {
            key = key.chain_update([0]).chain_update(text);
        }
        Self { path, hmac: hmac(&key.finalize().into_bytes()), scopes: lapi.scopes.clone() }
    }

    /// Puts decisions into the file. Blocks on the disk.
    pub fn store(&self, standing: &[(Value, Key, Ticks, Arc<Source>)]) -> io::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        // A half-written file must not keep a full disk full.
        self.write(beside.as_ref(), standing).inspect_err(|_| _ = fs::remove_file(&beside))?;
        fs::rename(&beside, &self.path)?;
        // The rename itself lasts once the directory is on the disk.
        File::open(self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
    }

    fn write(&self, beside: &Path, standing: &[(Value, Key, Ticks, Arc<Source>)]) -> io::Result<()> {
        // Either the half-written file that a crash left, or a link that somebody laid: no link is ever followed.
        let _ = fs::remove_file(beside);
        let file = File::options().write(true).create_new(true).mode(0o600).open(beside)?;
        let head = format!("{FORMAT}, at {}, HMAC", unix_now());
        let mut hmac = self.hmac.clone().chain_update(&head);
        let mut file = BufWriter::new(file);
        writeln!(file, "{head} {:DIGITS$}", "")?;
        let mut write = |bytes: &[u8]| {
            hmac.update(bytes);
            file.write_all(bytes)
        };
        write(br#"{"deleted":null,"new":["#)?;
        for (place, (value, key, left, source)) in standing.iter().enumerate() {
            write(if place > 0 { b",\n" } else { b"\n" })?;
            let (duration, value) = (format!("{}.{}s", left / 10, left % 10), value.to_string());
            write(&serde_json::to_vec(&Row { duration, id: key.id(), source, value })?)?;
        }
        write(b"\n]}\n")?;
        file.seek(SeekFrom::Start(head.len() as u64 + 1))?;
        write!(file, "{:x}", hmac.finalize().into_bytes())?;
        file.into_inner()?.sync_all()
    }

    /// Reads the file into the set. Gives how old the file is; `Ok(None)` if there is none; `Err` says why it is not
    /// believed.
    pub fn read(&self, set: &Arc<DecisionSet>, now: Instant) -> Result<Option<Duration>, String> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
            Ok(file) if !file.is_file() => return Err("it is no file".into()),
            Ok(file) if file.len() > LONGEST_ANSWER as u64 => return Err("it is over 512 MiB".into()),
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
        let written = head.strip_prefix(FORMAT).and_then(|rest| rest.strip_prefix(", at ")?.strip_suffix(", HMAC"));
        let written = written.and_then(|written| written.parse().ok()).ok_or(NO_SNAPSHOT)?;
        let age = Duration::from_secs(unix_now().saturating_sub(written));
        if age > OLDEST {
            return Err("it is older than a day");
        }
        let mut body = Signed { inner: file, hmac: self.hmac.clone().chain_update(head) };
        let mut everything = set.everything(now);
        let read = read_answer(&mut body, &self.scopes, &mut |mut entry| {
            if let Entry::New(decision) = &mut entry {
                decision.duration = decision.duration.saturating_sub(age);
            }
            everything.take(entry);
        });
        // Both HMACs are signed once more, since signatures of this type are compared in constant time.
        let sum = |digits: &str| self.hmac.clone().chain_update(digits).finalize();
        if sum(hmac) != sum(&format!("{:x}", body.hmac.finalize().into_bytes())) {
            return Err(TORN);
        }
        read.map_err(|_| TORN)?;
        everything.take_over(now, Duration::ZERO).settle(true);
        Ok(age)
    }
}

/// A decision as LAPI writes it.
#[derive(Serialize)]
struct Row<'a> {
    duration: String,
    id: Option<u64>,
    #[serde(flatten)]
    source: &'a Source,
    value: String,
}

/// Feeds what is read into the HMAC.
struct Signed<T> {
    inner: T,
    hmac: Hmac<Sha256>,
}

impl<T: Read> Read for Signed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hmac.update(&buffer[..read]);
        Ok(read)
    }
}
