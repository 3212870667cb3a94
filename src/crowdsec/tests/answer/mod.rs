//! What is read of an answer, whatever LAPI or somebody in its place sends, and in whatever pieces?

mod properties;

use std::io::{self, Read};

use crate::crowdsec::decisions::{Decision, Entry, Scopes, Unread};
use crate::crowdsec::lapi::{self, read_answer, read_entries};

#[derive(Default)]
struct Heard {
    added: Vec<Decision>,
    deleted: Vec<Decision>,
    unreadable: Vec<String>,
}

impl Heard {
    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::New(decision) => self.added.push(decision),
            Entry::Deleted(decision) => self.deleted.push(decision),
            Entry::Unread(unread) => self.unreadable.push(unread.reason),
        }
    }
}

fn read(answer: impl Read, heard: &mut Heard) -> io::Result<()> {
    read_answer(answer, &Scopes::default(), &mut |entry| heard.take(entry))
}

fn read_list(json: &[u8], asked: Option<u64>) -> Result<Vec<Decision>, String> {
    lapi::read_list(json, &Scopes::default(), asked)
}

/// Bytes that arrive in pieces, and the most bytes of a piece.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.1.min(buffer.len());
        self.0.read(&mut buffer[..most])
    }
}

fn heard(answer: &[u8], size: usize) -> (Heard, bool) {
    let mut heard = Heard::default();
    let read = read(Pieces(answer, size), &mut heard).is_ok();
    (heard, read)
}

/// An entry as LAPI writes it, with these fields instead of its own.
fn entry(instead: &[(&str, serde_json::Value)]) -> String {
    let mut entry = serde_json::json!({ "id": 1, "origin": "cscli", "scenario": "s", "scope": "Ip", "type": "ban",
        "value": "192.0.2.1", "duration": "4h" });
    instead.iter().for_each(|(name, value)| entry[*name] = value.clone());
    entry.to_string()
}

fn answer_of(entries: &[String]) -> String {
    format!("{{\"new\":[{}],\"deleted\":null}}", entries.join(","))
}

#[test]
fn an_entry_without_end_is_an_error_wherever_it_begins() {
    for before in [0, 20_000] {
        let start = format!("{}{{\"new\":[\"", " ".repeat(before));
        let endless = start.as_bytes().chain(io::repeat(b'x')).take(64 << 20);
        let error = read(endless, &mut Heard::default()).expect_err("endless");
        assert_eq!(error.to_string(), "one entry is over 8 MiB");
    }
}

#[test]
fn many_entries_that_are_not_for_us_are_no_endless_one() {
    let country = entry(&[("scope", "Country".into()), ("scenario", "x".repeat(1 << 20).into())]);
    let (heard, read) = heard(answer_of(&[country.as_str(); 20].map(str::to_owned)).as_bytes(), usize::MAX);
    assert!(read && heard.added.is_empty() && heard.unreadable.is_empty());
}

#[test]
fn an_origin_or_a_scenario_that_is_odd_or_too_long_never_drops_a_ban() {
    let huge = "ü".repeat(1 << 20);
    for odd in [huge.as_str().into(), serde_json::Value::Null, 7.into(), serde_json::json!({ "a": [1] })] {
        let odd = entry(&[("origin", odd.clone()), ("scenario", odd)]);
        let (heard, read) = heard(answer_of(&[odd]).as_bytes(), usize::MAX);
        assert!(read && heard.unreadable.is_empty());
        let decision = &heard.added[0];
        assert!(decision.source.origin.chars().count() <= 256 && decision.source.scenario.capacity() <= 1024);
    }
    let bare = r#"{"scope":"Ip","type":"ban","value":"192.0.2.1","duration":"4h","origin":"\ud800"}"#;
    assert_eq!(heard(answer_of(&[bare.into()]).as_bytes(), usize::MAX).0.added.len(), 1);
}

#[test]
fn a_field_that_is_too_long_or_unreadable_costs_its_entry_and_is_told_on_one_short_line() {
    let hostile = format!("\n\u{7}\u{1b}[31m\u{9b}\u{202e}{}", "x".repeat(1 << 20));
    let mut entries: Vec<String> =
        ["type", "value", "duration"].map(|name| entry(&[(name, hostile.as_str().into())])).into();
    entries.push(entry(&[("value", "\u{1b}]0;title".into())]));
    entries.push(entry(&[("duration", "\r\nsoon".into())]));
    entries.push(entry(&[("scope", 7.into()), ("value", hostile.as_str().into())]));
    entries.push(serde_json::json!({ hostile.as_str(): hostile.as_str(), "scope": "Ip" }).to_string());
    entries.push(serde_json::Value::from(hostile).to_string());
    let bad = entries.len();
    entries.push(entry(&[]));
    let (heard, read) = heard(answer_of(&entries).as_bytes(), usize::MAX);
    assert!(read);
    assert_eq!((heard.unreadable.len(), heard.added.len()), (bad, 1));
    for reason in heard.unreadable {
        assert!(reason.chars().count() < 600, "{} characters", reason.chars().count());
        assert!(!reason.chars().any(|c| c.is_control() || c == '\u{202e}'), "{reason:?}");
    }
}

/// The scope is kept in memory as it came.
#[test]
fn a_scope_with_white_space_without_end_costs_its_entry() {
    let scope = |blanks| format!("Ip{}", " ".repeat(blanks)).into();
    let entries = [entry(&[("scope", scope(1 << 20))]), entry(&[("scope", scope(2))])];
    let (heard, read) = heard(answer_of(&entries).as_bytes(), usize::MAX);
    assert!(read);
    assert_eq!((heard.unreadable.len(), heard.added.len()), (1, 1));
}

#[test]
fn an_id_that_cannot_be_one_is_none() {
    let none = [0.into(), (-1).into(), "7".into(), serde_json::json!(1.5), u64::MAX.into(), serde_json::Value::Null];
    for id in none {
        let (heard, _) = heard(answer_of(&[entry(&[("id", id.clone())])]).as_bytes(), usize::MAX);
        assert_eq!(heard.added[0].id, None, "{id}");
    }
    let (heard, _) = heard(answer_of(&[entry(&[("id", i64::MAX.into())])]).as_bytes(), usize::MAX);
    assert_eq!(heard.added[0].id, Some(i64::MAX as u64));
}

#[test]
fn what_lapi_says_of_one_address_is_a_list_or_null_and_all_of_it_is_understood_or_nothing() {
    assert_eq!(read_list(b"null", None), Ok(vec![]));
    assert_eq!(read_list(b"[]", None), Ok(vec![]));
    let country = entry(&[("scope", "Country".into()), ("value", "FR".into())]);
    let list = format!("[{},{country}]", entry(&[]));
    assert_eq!(read_list(list.as_bytes(), None).unwrap().len(), 1);
    // An entry that cannot be read costs itself, unless it may be the one that is asked about.
    let odd = entry(&[("id", 9.into()), ("type", "x".repeat(70).into())]);
    let list = format!("[{odd}]");
    assert_eq!(read_list(list.as_bytes(), Some(4)), Ok(vec![]));
    assert!(read_list(list.as_bytes(), Some(9)).is_err() && read_list(list.as_bytes(), None).is_err());
    for bad in ["", "{}", "[1]", "[", "<html>", "\"\"", "[] []", "[{\"scope\":\"Ip\"}]"] {
        assert!(read_list(bad.as_bytes(), None).is_err(), "{bad}");
    }
}

#[test]
fn countries_and_systems_are_understood_in_every_spelling_and_what_is_none_is_told_apart() {
    let read = |scope: &str, value: &str| {
        let answer = answer_of(&[entry(&[("scope", scope.into()), ("value", value.into())])]);
        let scopes = Scopes::new(&["country", "AS", "username"].map(str::to_owned)).unwrap();
        let (mut heard, mut told) = (None, None);
        read_answer(answer.as_bytes(), &scopes, &mut |entry| match entry {
            Entry::New(decision) => heard = Some(decision.value.to_string()),
            Entry::Unread(Unread { reason, is_unfit: true }) => told = Some(reason),
            entry => panic!("{entry:?}"),
        })
        .unwrap();
        (heard, told.is_some())
    };
    for (scope, value, meant) in [
        ("Country", "FR", "FR"),
        ("country", "fr", "FR"),
        ("COUNTRY", " Fr\t", "FR"),
        ("AS", "64500", "AS64500"),
        ("as", "AS64500", "AS64500"),
        ("As", " as 64500 ", "AS64500"),
        ("AS", "4294967295", "AS4294967295"),
        ("username", " Alice", " Alice"),
        ("username", "FR", "FR"),
    ] {
        assert_eq!(read(scope, value), (Some(meant.into()), false), "{scope} {value:?}");
    }
    for (scope, value) in [
        ("Country", ""),
        ("Country", " "),
        ("Country", "FRA"),
        ("Country", "F1"),
        ("Country", "Ä"),
        ("AS", ""),
        ("AS", "AS"),
        ("AS", "0"),
        ("AS", "AS0"),
        ("AS", "+64500"),
        ("AS", "ASAS64500"),
        ("AS", "64500.1"),
        ("AS", "4294967296"),
        ("username", ""),
    ] {
        assert_eq!(read(scope, value), (None, true), "{scope} {value:?}");
    }
    for scope in ["Ip", "Range", "Username", "username ", "session", "Asn"] {
        assert_eq!(read(scope, "192.0.2.1"), (None, false), "{scope:?} is not listed");
    }
}

/// A connection that breaks.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn an_answer_that_breaks_off_leaves_what_came_before() {
    let entry = r#"{"id":1,"origin":"o","scenario":"s","scope":"Ip","type":"ban","value":"192.0.2.1","duration":"4h"}"#;
    let answer = format!("{{\"new\":[{}", [entry; 100].join(","));
    for size in [40, 1000, usize::MAX] {
        let mut heard = Heard::default();
        let cut = Pieces(&answer.as_bytes()[..answer.len() - 1], size);
        assert!(read(cut.chain(Broken), &mut heard).is_err());
        assert_eq!(heard.added.len(), 99);
    }
}

/// An account's name may have any length; a decision on one of over 256 bytes is never held.
#[test]
fn in_live_mode_a_value_that_is_unfit_costs_itself_and_an_answer_full_of_junk_is_none() {
    let scopes = Scopes::new(&["ip", "range", "username"].map(str::to_owned)).unwrap();
    let read = |entry: &str, count| {
        let list = format!("[{}]", vec![entry; count].join(","));
        read_entries(list.as_bytes(), &scopes).map(|entries| {
            entries.iter().filter(|entry| matches!(entry, Entry::Unread(unread) if unread.is_unfit)).count()
        })
    };
    let long = entry(&[("scope", "username".into()), ("value", "x".repeat(300).into())]);
    assert_eq!(read(&long, 2_000), Ok(2_000));
    assert_eq!(read("0", 1_000), Ok(0));
    assert!(read("0", 1_001).is_err());
}
