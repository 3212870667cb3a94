//! What does a snapshot bring back, and which files are not believed?

mod forgery;
mod properties;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::crowdsec::decisions::{
    Country, Decision, DecisionSet, Entry, Remediation, Scopes, Source, Types, Value, network,
};
use crate::crowdsec::lapi::{Connection, Snapshot};
use crate::crowdsec::setting::Secret;
use crate::crowdsec::tests::decisions::strongest;

/// Why a changed file, or one made with another secret or LAPI, is not believed.
const NOT_OURS: &str = "it was cut or changed, or written with another secret_key, api_url or filters";

fn types() -> Types {
    Types { captcha: true, ..Types::default() }
}

/// A snapshot in this folder, of the decisions of this LAPI.
fn snapshot(folder: &TempDir, lapi: &str, secret: Option<&str>) -> Snapshot {
    filtered(folder, lapi, secret, &[])
}

/// The same of who asks for a part of its decisions.
fn filtered(folder: &TempDir, lapi: &str, secret: Option<&str>, filters: &[(&'static str, &str)]) -> Snapshot {
    let scopes = Scopes::new(&["ip", "range", "country", "as", "username"].map(str::to_owned)).unwrap();
    let lapi = Connection {
        at: lapi.into(),
        key: Some(Secret("k".into())),
        certificate: None,
        ca: None,
        scopes: scopes.into(),
        filters: filters.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
    };
    Snapshot::new(folder.path().join("s"), &lapi, secret.map(|secret| Secret(secret.into())).as_ref())
}

fn set_of(decisions: &[(u64, &str, &str, u64)]) -> Arc<DecisionSet> {
    let mut set = DecisionSet::new(Instant::now(), types());
    set.pin(network("198.51.100.1").unwrap(), Remediation::Ban, "of the configuration, not of LAPI");
    let set = Arc::new(set);
    let mut changes = set.changes(Instant::now());
    for (id, value, kind, seconds) in decisions {
        let (scope, value) = value.split_once(' ').unwrap_or(("Ip", value));
        changes.take(Entry::New(Decision {
            id: (*id > 0).then_some(*id),
            source: Source {
                origin: "cscli".into(),
                scenario: format!("\"ünïcode\"\n{id}"),
                scope: scope.into(),
                kind: (*kind).into(),
            },
            value: Value::read(scope, value).unwrap(),
            duration: Duration::from_secs(*seconds),
        }));
    }
    set
}

fn store(snapshot: &Snapshot, set: &DecisionSet) {
    snapshot.store(&set.to_save(Instant::now())).unwrap();
}

/// Reads the file into an empty set. Gives the result, and how many decisions the set holds then.
fn read(snapshot: &Snapshot) -> (Result<Option<Duration>, String>, usize) {
    let set = Arc::new(DecisionSet::new(Instant::now(), types()));
    let result = snapshot.read(&set, Instant::now());
    (result, set.len())
}

/// The file with a time of writing this many seconds earlier, under its old signature.
fn written_earlier(file: &[u8], seconds: u64) -> Vec<u8> {
    let text = str::from_utf8(file).unwrap();
    let (before, rest) = text.split_once(", at ").unwrap();
    let (written, rest) = rest.split_once(',').unwrap();
    format!("{before}, at {},{rest}", written.parse::<u64>().unwrap() - seconds).into_bytes()
}

#[test]
fn decisions_survive_with_all_that_is_known_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&folder, "/lapi", Some("secret"));
    store(
        &snapshot,
        &set_of(&[(0, "192.0.2.1", "ban", 100), (1, "2001:db8::/32", "captcha", 200), (2, "192.0.2.0/24", "x", 300)]),
    );
    let again = Arc::new(DecisionSet::new(Instant::now(), types()));
    assert!(snapshot.read(&again, Instant::now()).unwrap().unwrap() < Duration::from_secs(60));
    assert_eq!(again.len(), 3);
    let now = Instant::now();
    for (visitor, id, most) in [("192.0.2.1", 2, 300), ("2001:db8::1", 1, 200)] {
        let standing = strongest(&again, visitor.parse().unwrap(), now).unwrap();
        assert_eq!((standing.id, &standing.source.scenario), (Some(id), &format!("\"ünïcode\"\n{id}")));
        let left = standing.expires_in.unwrap().as_secs();
        assert!((most - 60..=most).contains(&left), "{left}");
    }
    // LAPI's next answer renews the decision without an id: it is held once, not twice.
    let mut changes = again.changes(now);
    let source = Source { origin: "".into(), scenario: "".into(), scope: "Ip".into(), kind: "ban".into() };
    let (value, duration) = (Value::Network(network("192.0.2.1").unwrap()), Duration::from_secs(500));
    changes.take(Entry::New(Decision { id: None, source, value, duration }));
    assert_eq!((changes.complete().added(), again.len()), (0, 3));
}

#[test]
fn decisions_of_all_scopes_survive() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&folder, "/lapi", None);
    let name = "\"ünï\\ 'code";
    store(
        &snapshot,
        &set_of(&[
            (1, "country fr", "ban", 100),
            (2, "AS as64500", "ban", 200),
            (3, &format!("username {name}"), "ban", 300),
        ]),
    );
    let again = Arc::new(DecisionSet::new(Instant::now(), types()));
    snapshot.read(&again, Instant::now()).unwrap();
    let standing = again.against("192.0.2.1".parse().unwrap(), || Country::read("FR"), || Some(64500), Instant::now());
    assert_eq!(standing.iter().map(|standing| standing.id).collect::<Vec<_>>(), [Some(2), Some(1)]);
    assert_eq!(again.on(&Value::account("username", name).unwrap(), Instant::now()).len(), 1);
}

#[test]
fn a_torn_foreign_or_old_file_is_not_believed_and_costs_nothing() {
    for secret in [None, Some("secret")] {
        let folder = tempfile::tempdir().unwrap();
        let ours = snapshot(&folder, "/lapi", secret);
        assert_eq!(read(&ours), (Ok(None), 0));
        store(&ours, &set_of(&[(1, "192.0.2.1", "ban", 100), (2, "192.0.2.2", "ban", 100)]));
        let whole = fs::read(&ours.path).unwrap();
        for length in 0..whole.len() {
            fs::write(&ours.path, &whole[..length]).unwrap();
            assert!(matches!(read(&ours), (Err(_), 0)), "cut to {length}");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(&ours.path, &changed).unwrap();
            assert!(matches!(read(&ours), (Err(_), 0)), "changed at {place}");
        }
        fs::write(&ours.path, [whole.as_slice(), b" "].concat()).unwrap();
        assert!(matches!(read(&ours), (Err(_), 0)), "longer by a space");
        fs::write(&ours.path, &whole).unwrap();
        assert_eq!(read(&snapshot(&folder, "/another", secret)), (Err(NOT_OURS.into()), 0));
        assert!(matches!(read(&ours), (Ok(Some(_)), 2)));
        fs::write(&ours.path, written_earlier(&whole, 2 * 24 * 60 * 60)).unwrap();
        assert_eq!(read(&ours), (Err("it is older than a day".into()), 0));
    }
}

#[test]
fn without_the_secret_key_nobody_forges_one() {
    let folder = tempfile::tempdir().unwrap();
    let signed = snapshot(&folder, "/lapi", Some("secret"));
    // Somebody who knows everything but the secret writes that nobody is banned.
    store(&snapshot(&folder, "/lapi", None), &set_of(&[]));
    assert_eq!(read(&signed), (Err(NOT_OURS.into()), 0));
    store(&snapshot(&folder, "/lapi", Some("another secret")), &set_of(&[]));
    assert_eq!(read(&signed), (Err(NOT_OURS.into()), 0));
    // A genuine snapshot whose time of writing was changed.
    store(&signed, &set_of(&[(1, "192.0.2.1", "ban", 100)]));
    assert!(matches!(read(&signed), (Ok(Some(_)), 1)));
    let true_one = fs::read(&signed.path).unwrap();
    fs::write(&signed.path, written_earlier(&true_one, 60)).unwrap();
    assert_eq!(read(&signed), (Err(NOT_OURS.into()), 0));
}

#[test]
fn what_is_no_file_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let ours = snapshot(&folder, "/lapi", None);
    fs::create_dir(&ours.path).unwrap();
    assert_eq!(read(&ours), (Err("it is no file".into()), 0));
    assert!(ours.store(&[]).is_err());
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_it_and_nothing_is_left_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let ours = snapshot(&folder, "/lapi", None);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for before in [0o666, 0o600, 0o000] {
        // A file that a crash left beside the snapshot, and an older snapshot, both with this mode.
        for name in ["s.new", "s"] {
            let path = folder.path().join(name);
            fs::write(&path, "of before").unwrap_or_default();
            fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
        }
        store(&ours, &set_of(&[(1, "192.0.2.1", "ban", 100)]));
        assert_eq!(mode(&ours.path), 0o600, "{before:o} before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[cfg(unix)]
#[test]
fn no_link_is_followed_where_it_is_written() {
    use std::os::unix::fs::symlink;
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, victim) = (snapshot(&folder, "/lapi", None), elsewhere.path().join("victim"));
    for target in [victim.clone(), elsewhere.path().join("not there")] {
        fs::write(&victim, "precious").unwrap();
        let _ = fs::remove_file(&ours.path);
        symlink(&target, folder.path().join("s.new")).unwrap();
        symlink(&target, &ours.path).unwrap();
        store(&ours, &set_of(&[(1, "192.0.2.1", "ban", 100)]));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
        assert!(fs::symlink_metadata(&ours.path).unwrap().is_file());
        assert!(matches!(read(&ours), (Ok(Some(_)), 1)));
    }
}
