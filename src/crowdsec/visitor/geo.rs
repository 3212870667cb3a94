//! Where is a visitor? In the country and the autonomous system that a trusted proxy names, or else a database of the
//! operator's.

use std::error::Error;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Instant, SystemTime};
use std::{fs, mem};

use log::{info, warn};
use maxminddb::PathElement::{self, Key};
use maxminddb::{LookupResult, MaxMindDbError, Reader};
use rocket::Request;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::ClientIp;
use crate::crowdsec::decisions::{Country, system};
use crate::crowdsec::panics::lock;
use crate::crowdsec::reminder::{HOUR, MINUTE, Reminder};

/// The most bytes that a database may have. MaxMind's largest has some hundred million.
const LARGEST: u64 = 1 << 30;

impl ClientIp {
    /// The country of a visitor with this address. A header is believed only from a trusted proxy: else visitors would choose
    /// where they are. Cloudflare writes `XX` for a country that it does not know, and `T1` for Tor.
    pub fn country(&self, request: &Request<'_>, address: IpAddr) -> Option<Country> {
        let said = self.said(request, self.config.country_header.as_deref());
        let named = said.filter(|country| !country.trim().eq_ignore_ascii_case("XX")).and_then(Country::read);
        named.or_else(|| self.config.geoip.iter().find_map(|database| database.country(address)))
    }

    /// The number of the visitor's autonomous system.
    pub fn system(&self, request: &Request<'_>, address: IpAddr) -> Option<u32> {
        let named = self.said(request, self.config.as_header.as_deref()).and_then(system);
        named.or_else(|| self.config.geoip.iter().find_map(|database| database.system(address)))
    }

    /// What the nearest proxy wrote: a visitor may have sent the same header before it.
    fn said<'r>(&self, request: &'r Request<'_>, header: Option<&str>) -> Option<&'r str> {
        let header = header.filter(|_| self.is_proxied(request))?;
        request.headers().get(header).last()
    }

    /// From now on looks each minute for databases that were replaced. Reading one takes some tens of milliseconds.
    pub fn watch_databases(&self) {
        if self.config.geoip.is_empty() {
            return;
        }
        let databases = self.config.geoip.clone();
        tokio::spawn(async move {
            loop {
                sleep(MINUTE).await;
                let databases = databases.clone();
                // If the logger panics, only this look is lost.
                let _ = spawn_blocking(move || databases.iter().for_each(Database::refresh)).await;
            }
        });
    }
}

/// A database in MaxMind's format.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    reader: RwLock<Reader<Vec<u8>>>,
    /// The file that was looked at last, good or bad.
    seen: Mutex<Option<Version>>,
    /// Counts look-ups that failed because the database is damaged.
    damage: Reminder,
}

/// What tells a file from the one before it: its inode, time of change and length.
type Version = (u64, SystemTime, u64);

impl Database {
    pub fn open(path: PathBuf) -> Result<Self, Box<dyn Error>> {
        // Before the file is read, so that the first look finds one that is replaced meanwhile.
        let seen = Mutex::new(version(&path));
        Ok(Self { reader: RwLock::new(read(&path)?), path, seen, damage: Reminder::default() })
    }

    /// Whether the database serves decisions of this scope, `country` or `as`, by the name of its type. If the name tells
    /// nothing, it may serve both.
    pub fn has(&self, scope: &str) -> bool {
        serves(&self.reader(), scope)
    }

    /// Reads the fields in CrowdSec's own order. Some free databases have a flat `country_code`, and `country` as a text: the
    /// country's name or its two letters.
    pub fn country(&self, address: IpAddr) -> Option<Country> {
        self.look_up(address, |found| {
            let read = |path: &[PathElement<'_>]| match found.decode_path::<&str>(path) {
                // A text where others have a map: another way to write it, and no damage.
                Err(MaxMindDbError::Decoding { .. }) => Ok(None),
                text => text.map(|text| text.and_then(Country::read)),
            };
            for field in ["country", "registered_country", "represented_country"] {
                if let Some(country) = read(&[Key(field), Key("iso_code")])? {
                    return Ok(Some(country));
                }
            }
            Ok(read(&[Key("country_code")])?.or(read(&[Key("country")])?))
        })
    }

    /// Reads a number of 64, 32 or 16 bits, or a text: not every maker of databases writes it as MaxMind does. Never reads just
    /// any type of value: in a damaged file, a value may contain itself without end.
    pub fn system(&self, address: IpAddr) -> Option<u32> {
        // As MaxMind names it, and as IPinfo does.
        let paths = [[Key("autonomous_system_number")], [Key("asn")]];
        self.look_up(address, |found| {
            for path in &paths {
                let short = |_: MaxMindDbError| Ok(found.decode_path::<u16>(path)?.map(u64::from));
                let usual = |_: MaxMindDbError| Ok(found.decode_path::<u32>(path)?.map(u64::from));
                let number = found.decode_path(path).or_else(usual).or_else(short);
                let text = |_: MaxMindDbError| found.decode_path::<&str>(path).map(|text| text.and_then(system));
                let number =
                    number.map(|number| u32::try_from(number?).ok().filter(|number| *number > 0)).or_else(text)?;
                if number.is_some() {
                    return Ok(number);
                }
            }
            Ok(None)
        })
    }

    /// Fails open: if an address cannot be looked up, nobody knows where it is.
    fn look_up<T>(
        &self,
        address: IpAddr,
        decode: impl FnOnce(LookupResult<'_, Vec<u8>>) -> Result<Option<T>, MaxMindDbError>,
    ) -> Option<T> {
        let (reader, address) = (self.reader(), address.to_canonical());
        if reader.metadata().ip_version == 4 && address.is_ipv6() {
            return None;
        }
        let found = reader.lookup(address).and_then(decode);
        // Nobody waits for the lock while the log is written.
        drop(reader);
        found.unwrap_or_else(|error| {
            if self.damage.count(1, HOUR, Instant::now()).is_some() {
                warn!(
                    "The database {} is damaged: {error}. Addresses that it cannot find are nowhere, and decisions on countries \
                     do not count for them: fetch it anew.",
                    self.path.display()
                );
            }
            None
        })
    }

    /// Reads a file that was replaced. If the new one is broken or of another kind, the log says so once, and the old one stays.
    pub fn refresh(&self) {
        let now = version(&self.path);
        if now == mem::replace(&mut *lock(&self.seen), now) {
            return;
        }
        let path = self.path.display();
        // Fails closed: decisions on countries must not end because somebody copied a database of systems over it.
        let new = read(&self.path).and_then(|reader| {
            let lost = ["country", "as"].into_iter().find(|scope| self.has(scope) && !serves(&reader, scope));
            let what = |scope| {
                format!("its type (`database_type`) does not serve the scope `{scope}`, as the old one's does").into()
            };
            lost.map_or(Ok(reader), |scope| Err(what(scope)))
        });
        match new {
            Ok(reader) => {
                let old = mem::replace(&mut *self.reader.write().unwrap_or_else(PoisonError::into_inner), reader);
                // The lock is free again: nobody waits while a gigabyte is given back.
                drop(old);
                info!("The database {path} was replaced, and is read anew.");
            }
            Err(error) => {
                warn!("The new database {path} is not used: {error}. The old one is, until it is replaced again.")
            }
        }
    }

    fn reader(&self) -> RwLockReadGuard<'_, Reader<Vec<u8>>> {
        self.reader.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` where there is no file.
fn version(path: &Path) -> Option<Version> {
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), file.modified().ok()?, file.len()))
}

fn serves(reader: &Reader<Vec<u8>>, scope: &str) -> bool {
    let name = reader.metadata().database_type.to_ascii_lowercase();
    let is_named = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let (country, system) = (is_named(&["country", "city", "enterprise"]), is_named(&["asn", "isp"]));
    country == system || scope == if country { "country" } else { "as" }
}

fn read(path: &Path) -> Result<Reader<Vec<u8>>, Box<dyn Error>> {
    let file = fs::metadata(path)?;
    if !file.is_file() || file.len() > LARGEST {
        return Err("it is no file, or over 1 GiB".into());
    }
    Ok(Reader::from_source(fs::read(path)?)?)
}
