//! What survives a restart? The decisions, in a file, so that an application that starts while LAPI is away protects.
//!
//! The file is written beside its place and renamed, so that a crash leaves the old one or the new one. It ends with a
//! sum over all that stands before, and nothing in it is believed before the sum is right. Lifetimes are what was left at
//! the time of writing: what passed since is taken off by the wall clock, and a clock that went back takes off nothing.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::config::LapiConfig;
use super::decision_set::{DecisionSet, Source, Types};

/// Where the decisions are kept, and whose they are.
#[derive(Clone)]
pub struct Snapshot {
    path: PathBuf,
    /// Of LAPI's address and our filters: another's decisions are not ours.
    owner: u64,
}

/// Names the format; a change of the format changes it.
const MAGIC: &[u8] = b"crowdsec-rocket-bouncer snapshot 2\n";
/// What CrowdSec said longer ago than this it may well have taken back.
const OLDEST: Duration = Duration::from_secs(24 * 60 * 60);
/// As much as LAPI's longest answer.
const LONGEST: u64 = 512 << 20;

impl Snapshot {
    pub fn new(path: PathBuf, lapi: &LapiConfig) -> Self {
        let mut owner = DefaultHasher::new();
        (lapi.at.to_string(), &lapi.filters).hash(&mut owner);
        Self { path, owner: owner.finish() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that LAPI decided and that stands, as it lies in the file.
    pub fn bytes(&self, set: &DecisionSet, now: Instant) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.owner.to_le_bytes());
        bytes.extend(unix_now().to_le_bytes());
        let mut numbers = HashMap::<Arc<Source>, u32>::new();
        set.for_each(now, |value, id, left, source| {
            let (next, known) = (numbers.len() as u32, numbers.get(source).copied());
            if known.is_none() {
                numbers.insert(source.clone(), next);
            }
            let new = known.is_none().then_some(&**source);
            let row = Row { number: known.unwrap_or(next), new, value, id, left };
            postcard::to_io(&row, &mut bytes).expect("memory takes all");
        });
        let sum = sum(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    }

    /// Puts them into the file. Blocks on the disk.
    pub fn store(&self, bytes: &[u8]) -> io::Result<()> {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        // Only its owner reads who is banned.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        // The rename itself lasts once the directory is on the disk.
        File::open(self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Reads the file into the set. Gives how old it is; `Ok(None)` where there is no file; `Err` says why it is not
    /// believed.
    pub fn read(&self, set: &Arc<DecisionSet>, types: Types, now: Instant) -> Result<Option<Duration>, String> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
            Ok(file) if file.len() > LONGEST => return Err("it is over 512 MiB".into()),
            Ok(_) => {}
        }
        let bytes = fs::read(&self.path).map_err(|error| error.to_string())?;
        let age = self.believe(&bytes, set, types, now).map_err(str::to_owned)?;
        Ok(Some(age))
    }

    fn believe(
        &self,
        bytes: &[u8],
        set: &Arc<DecisionSet>,
        types: Types,
        now: Instant,
    ) -> Result<Duration, &'static str> {
        let torn = "it was cut or changed";
        let (body, end) = bytes.split_last_chunk::<8>().ok_or(torn)?;
        let mut rest = body.strip_prefix(MAGIC).ok_or("it is no snapshot of this version")?;
        if sum(body) != u64::from_le_bytes(*end) {
            return Err(torn);
        }
        if rest.split_off(..8) != Some(&self.owner.to_le_bytes()) {
            return Err("it was written with another api_url or other filters");
        }
        let (written, mut rest) = rest.split_first_chunk().ok_or(torn)?;
        let age = Duration::from_secs(unix_now().saturating_sub(u64::from_le_bytes(*written)));
        if age > OLDEST {
            return Err("it is older than a day");
        }
        let mut takeover = set.changes(types, now);
        let mut sources: Vec<Arc<Source>> = Vec::new();
        while !rest.is_empty() {
            let (row, behind) = postcard::take_from_bytes(rest).map_err(|_| torn)?;
            let Row { number, new, value, id, left } = row;
            rest = behind;
            sources.extend(new.map(Arc::<Source>::new));
            takeover.recalled(value, id, left.saturating_sub(age), sources.get(number as usize).ok_or(torn)?);
        }
        Ok(age)
    }
}

/// One decision. The first of a source brings that along, all others know it by its number.
#[derive(Serialize, Deserialize)]
struct Row<S> {
    number: u32,
    new: Option<S>,
    value: IpNet,
    id: u64,
    left: Duration,
}

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crowdsec::answer::Receive;
    use crate::crowdsec::config::{Credentials, Location, Secret};
    use crate::crowdsec::decision::{Decision, Remediation, network};

    const TYPES: Types = Types { captcha: true, fallback: Remediation::Ban };

    fn lapi(socket: &str) -> LapiConfig {
        let credentials = Credentials::Key(Secret("k".into()));
        LapiConfig { at: Location::Socket(socket.into()), credentials, ca: None, filters: Vec::new() }
    }

    fn set_of(values: &[(&str, &str, u64)]) -> Arc<DecisionSet> {
        let set = Arc::new(DecisionSet::new(Instant::now()));
        let mut all = set.all(TYPES, Instant::now());
        for (id, (value, kind, seconds)) in values.iter().enumerate() {
            all.added(Decision {
                id: (id > 0).then_some(id as u64),
                origin: "cscli".into(),
                scenario: format!("ünïcode {}", id % 2),
                scope: "Ip".into(),
                kind: (*kind).into(),
                value: network(value).unwrap(),
                duration: Duration::from_secs(*seconds),
            });
        }
        all.complete_and_believed();
        set
    }

    fn with_its_sum(mut body: Vec<u8>) -> Vec<u8> {
        let mut sum = DefaultHasher::new();
        sum.write(&body);
        body.extend(sum.finish().to_le_bytes());
        body
    }

    fn write(snapshot: &Snapshot, set: &DecisionSet) {
        snapshot.store(&snapshot.bytes(set, Instant::now())).unwrap();
    }

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn decisions_survive_with_all_that_is_known_of_them() {
        let dir = scratch();
        let snapshot = Snapshot::new(dir.path().join("s"), &lapi("/s"));
        let set =
            set_of(&[("192.0.2.1", "ban", 100), ("2001:db8::/32", "captcha", 200), ("192.0.2.0/24", "throttle", 300)]);
        set.pin(network("198.51.100.1").unwrap(), Remediation::Ban, "of the configuration, not of LAPI");
        write(&snapshot, &set);
        let again = Arc::new(DecisionSet::new(Instant::now()));
        assert!(snapshot.read(&again, TYPES, Instant::now()).unwrap().unwrap() < Duration::from_secs(60));
        assert_eq!(again.len(), 3);
        for (visitor, id, scenario, most) in [("192.0.2.1", 2, "ünïcode 0", 300), ("2001:db8::1", 1, "ünïcode 1", 200)]
        {
            let standing = again.strongest(visitor.parse().unwrap(), Instant::now).unwrap();
            assert_eq!((standing.id, standing.source.scenario.as_str()), (Some(id), scenario));
            let left = standing.expires_in.unwrap().as_secs();
            assert!((most - 60..=most).contains(&left), "{left}");
        }
    }

    #[test]
    fn a_torn_foreign_or_old_file_is_not_believed_and_costs_nothing() {
        let dir = scratch();
        let snapshot = Snapshot::new(dir.path().join("s"), &lapi("/s"));
        let read = |snapshot: &Snapshot| {
            let set = Arc::new(DecisionSet::new(Instant::now()));
            let result = snapshot.read(&set, TYPES, Instant::now());
            (result, set.len())
        };
        assert_eq!(read(&snapshot), (Ok(None), 0));
        write(&snapshot, &set_of(&[("192.0.2.1", "ban", 100), ("192.0.2.2", "ban", 100)]));
        let whole = fs::read(snapshot.path()).unwrap();
        for length in 0..whole.len() {
            fs::write(snapshot.path(), &whole[..length]).unwrap();
            assert!(matches!(read(&snapshot), (Err(_), 0)), "cut to {length}");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(snapshot.path(), &changed).unwrap();
            assert!(matches!(read(&snapshot), (Err(_), 0)), "changed at {place}");
        }
        fs::write(snapshot.path(), &whole).unwrap();
        assert!(matches!(read(&Snapshot::new(snapshot.path.clone(), &lapi("/other"))), (Err(_), 0)));
        assert!(matches!(read(&snapshot), (Ok(Some(_)), 2)));
        let mut old = whole[..whole.len() - 8].to_vec();
        let at = MAGIC.len() + 8;
        let then = unix_now() - 2 * 24 * 60 * 60;
        old[at..at + 8].copy_from_slice(&then.to_le_bytes());
        fs::write(snapshot.path(), with_its_sum(old)).unwrap();
        assert_eq!(read(&snapshot), (Err("it is older than a day".into()), 0));
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_may_read_it_and_nothing_is_left_beside_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = scratch();
        let snapshot = Snapshot::new(dir.path().join("s"), &lapi("/s"));
        write(&snapshot, &set_of(&[("192.0.2.1", "ban", 100)]));
        assert_eq!(fs::metadata(snapshot.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// Whatever stands in the file. `PROPTEST_CASES` says how many cases are tried.
    mod properties {
        use proptest::collection::vec;
        use proptest::prelude::*;
        use proptest::sample::Index;

        use super::*;
        use crate::crowdsec::decision_set::PARTS;

        fn read(bytes: &[u8]) -> (bool, usize) {
            let set = Arc::new(DecisionSet::new(Instant::now()));
            let believed = Snapshot::new("s".into(), &lapi("/s")).believe(bytes, &set, TYPES, Instant::now()).is_ok();
            (0..PARTS).for_each(|_| set.sweep(Instant::now()));
            set.strongest("192.0.2.1".parse().unwrap(), Instant::now);
            (believed, set.len())
        }

        /// All but the sum, of decisions that read as ours do.
        fn body(entries: &[u8]) -> Vec<u8> {
            let owner = Snapshot::new("s".into(), &lapi("/s")).owner.to_le_bytes();
            [MAGIC, &owner, &unix_now().to_le_bytes(), entries].concat()
        }

        /// The entries of three decisions, as we write them.
        fn entries() -> Vec<u8> {
            let dir = scratch();
            let snapshot = Snapshot::new(dir.path().join("s"), &lapi("/s"));
            let set =
                set_of(&[("192.0.2.1", "ban", 100), ("2001:db8::/32", "captcha", 200), ("192.0.2.0/24", "x", 300)]);
            write(&snapshot, &set);
            let bytes = fs::read(snapshot.path()).unwrap();
            bytes[MAGIC.len() + 16..bytes.len() - 8].to_vec()
        }

        proptest! {
            #[test]
            fn any_bytes_are_no_snapshot(bytes in vec(any::<u8>(), 0..300), ours in any::<bool>()) {
                let bytes = if ours { [MAGIC, &bytes].concat() } else { bytes };
                prop_assert_eq!(read(&bytes), (false, 0));
            }

            #[test]
            fn any_entries_with_the_right_sum_are_read_without_a_panic(entries in vec(any::<u8>(), 0..200)) {
                read(&with_its_sum(body(&entries)));
            }
        }

        #[test]
        fn entries_that_were_changed_are_read_without_a_panic() {
            let entries = entries();
            assert_eq!(read(&with_its_sum(body(&entries))), (true, 3));
            proptest!(|(changes in vec((any::<Index>(), prop_oneof![any::<u8>(), Just(0), Just(255)]), 1..6), cut in any::<Index>())| {
                let mut entries = entries.clone();
                for (at, byte) in changes {
                    let at = at.index(entries.len());
                    entries[at] = byte;
                }
                let (_, known) = read(&with_its_sum(body(&entries)));
                prop_assert!(known <= 3);
                let end = cut.index(entries.len());
                read(&with_its_sum(body(&entries[..end])));
            });
        }
    }
}
