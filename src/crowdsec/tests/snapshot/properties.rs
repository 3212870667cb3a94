//! Is any other file ever taken for a snapshot of ours?

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{read, set_of, snapshot, store};

proptest! {
    #[test]
    fn any_bytes_are_no_snapshot(bytes in vec(any::<u8>(), 0..300), ours in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = snapshot(&folder, "/lapi", None);
        store(&snapshot, &set_of(&[]));
        let line = fs::read(&snapshot.path).unwrap().split(|byte| *byte == b'\n').next().unwrap().to_vec();
        fs::write(&snapshot.path, if ours { [line, bytes].concat() } else { bytes }).unwrap();
        prop_assert!(matches!(read(&snapshot), (Err(_), 0)));
    }

    #[test]
    fn any_change_to_a_snapshot_makes_it_none(changes in vec((any::<Index>(), any::<u8>()), 1..6)) {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = snapshot(&folder, "/lapi", Some("secret"));
        store(&snapshot, &set_of(&[(1, "192.0.2.1", "ban", 100), (2, "2001:db8::/32", "captcha", 200)]));
        let whole = fs::read(&snapshot.path).unwrap();
        let mut changed = whole.clone();
        changes.iter().for_each(|(at, byte)| changed[at.index(whole.len())] = *byte);
        prop_assume!(changed != whole);
        fs::write(&snapshot.path, &changed).unwrap();
        prop_assert!(matches!(read(&snapshot), (Err(_), 0)));
    }
}
