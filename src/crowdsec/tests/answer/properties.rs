//! Is any answer read without a panic, and each readable entry in it? `PROPTEST_CASES` says how many cases are tried.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::string::string_regex;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::heard;
use crate::crowdsec::decisions::Value;

fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![1..40_usize, Just(usize::MAX)]
}

/// Texts of this pattern. A bare pattern would be parsed anew for each text, which takes most of the time.
fn like(pattern: &str) -> impl Strategy<Value = String> {
    string_regex(pattern).unwrap()
}

fn any_word() -> impl Strategy<Value = String> {
    like("\\PC{0,12}")
}

/// JSON of any shape, in which the names that mean something come up often.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    // Made outside of the closure below, which would make it anew for each value.
    let name = prop_oneof![
        proptest::sample::select(vec![
            "new", "deleted", "id", "origin", "scenario", "scope", "type", "value", "duration"
        ])
        .prop_map(str::to_owned),
        any_word()
    ]
    .boxed();
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(|number| serde_json::json!(number)),
        any_word().prop_map(Into::into),
        proptest::sample::select(vec!["ip", "Range", "4h", "-1s", "ban", "192.0.2.1", "2001:db8::/32"])
            .prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 60, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Into::into),
            vec((name.clone(), inner), 0..9).prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// An entry that can be read, and what it says.
fn any_entry() -> impl Strategy<Value = (serde_json::Value, IpNet, u64, bool)> {
    (any::<u128>(), any::<bool>(), 0..=128u8, 1..i64::MAX as u64, any::<bool>(), any_word()).prop_map(
        |(bits, v4, prefix, id, named_ip, scenario)| {
            let address = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) }.to_canonical();
            let net = IpNet::new(address, if address.is_ipv4() { prefix % 33 } else { prefix }).unwrap();
            let scope = if named_ip { "Ip" } else { "range" };
            let entry = serde_json::json!({ "id": id, "origin": "o", "scenario": scenario, "scope": scope,
                "type": "ban", "value": net.to_string(), "duration": "4h" });
            (entry, net.trunc(), id, named_ip)
        },
    )
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(answer in vec(any::<u8>(), 0..300), size in any_size()) {
        heard(&answer, size);
    }

    #[test]
    fn any_json_is_read_without_a_panic(answer in any_json(), size in any_size()) {
        heard(answer.to_string().as_bytes(), size);
    }

    #[test]
    fn any_lists_are_read_entry_by_entry(
        new in vec(any_json(), 0..8), deleted in vec(any_json(), 0..8), size in any_size()
    ) {
        let answer = serde_json::json!({ "new": new, "deleted": deleted });
        let (heard, read) = heard(answer.to_string().as_bytes(), size);
        prop_assert!(read);
        prop_assert!(heard.added.len() <= new.len() && heard.deleted.len() <= deleted.len());
        prop_assert!(heard.unreadable.len() >= new.iter().filter(|entry| !entry.is_object() && !entry.is_array()).count());
        prop_assert!(heard.added.len() + heard.unreadable.len() <= new.len());
    }

    #[test]
    fn what_can_be_read_is_heard_whatever_stands_beside_it(
        good in vec(any_entry(), 0..8), junk in vec(any_json(), 0..8), new_first in any::<bool>(),
        are_new in any::<bool>(), size in any_size(),
    ) {
        // Junk that happens to be a readable entry would count too, so only junk without a `value` is kept.
        let junk: Vec<_> = junk.into_iter().filter(|entry| entry.get("value").is_none()).collect();
        let mut new: Vec<String> = good.iter().map(|(entry, ..)| entry.to_string()).collect();
        for (n, entry) in junk.iter().enumerate() {
            new.insert((n * 7) % (new.len() + 1), entry.to_string());
        }
        let new = new.join(",");
        let (name, other) = if are_new { ("new", "deleted") } else { ("deleted", "new") };
        let answer = if new_first {
            format!("{{\"{name}\": [{new}], \"{other}\": null}}")
        } else {
            format!("{{\"{other}\":null,\"{name}\":[{new}]}}")
        };
        let (heard, read) = heard(answer.as_bytes(), size);
        prop_assert!(read);
        let (named, unnamed) = if are_new { (heard.added, heard.deleted) } else { (heard.deleted, heard.added) };
        prop_assert!(unnamed.is_empty());
        let found: Vec<_> = named.iter().map(|decision| (decision.value.clone(), decision.id)).collect();
        let meant: Vec<_> = good.iter().map(|(_, net, id, _)| (Value::Network(*net), Some(*id))).collect();
        prop_assert_eq!(found, meant);
    }

    #[test]
    fn an_answer_that_was_cut_anywhere_is_never_taken_for_whole(
        good in vec(any_entry(), 0..4), cut in 0.0..1.0f64, size in any_size()
    ) {
        let entries: Vec<_> = good.iter().map(|(entry, ..)| entry).collect();
        let answer = serde_json::json!({ "deleted": null, "new": entries }).to_string();
        let end = (answer.len() as f64 * cut) as usize;
        prop_assert!(!heard(&answer.as_bytes()[..end], size).1);
    }

    #[test]
    fn it_is_well_formed_where_serde_json_finds_it_so(
        base in proptest::sample::select(vec![TOKENS.to_vec(), vec!["{", "}"], vec!["{", "\"new\"", ":", "[", "]", "}"]]),
        edits in vec((any::<prop::sample::Index>(), vec(any_token(), 0..3)), 0..4), size in any_size(),
    ) {
        let mut tokens = base;
        for (at, instead) in edits {
            let at = at.index(tokens.len() + 1);
            tokens.splice(at..(at + 1).min(tokens.len()), instead);
        }
        let answer = tokens.concat();
        prop_assert_eq!(heard(answer.as_bytes(), size).1, is_an_answer(&answer), "{}", answer);
    }
}

const TOKENS: [&str; 18] = [
    "{",
    "\"new\"",
    ":",
    "[",
    "{}",
    ",",
    "-1.5e3",
    ",",
    "\"x\"",
    "]",
    ",",
    "\"deleted\"",
    " ",
    "\t",
    ":",
    "null",
    "}",
    "\n",
];

fn any_token() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(TOKENS.as_slice())
}

/// Whether this is an answer, found in another way: by reading all of it at once. A list may come more than once.
fn is_an_answer(answer: &str) -> bool {
    struct Lists(Vec<(String, Box<RawValue>)>);

    impl<'de> Deserialize<'de> for Lists {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Visitor)
        }
    }

    struct Visitor;

    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Lists;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Lists, A::Error> {
            std::iter::from_fn(|| map.next_entry().transpose()).collect::<Result<_, _>>().map(Lists)
        }
    }

    let Ok(Lists(mut lists)) = serde_json::from_str(answer) else { return false };
    lists.retain(|(name, _)| ["new", "deleted"].contains(&name.as_str()));
    let is_list = |list: &RawValue| serde_json::from_str::<Option<Vec<&RawValue>>>(list.get()).is_ok();
    !lists.is_empty() && lists.iter().all(|(_, list)| is_list(list))
}
