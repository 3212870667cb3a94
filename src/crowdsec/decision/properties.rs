//! Whatever LAPI, or somebody in its place, sends. `PROPTEST_CASES` says how many cases are tried.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::string::string_regex;

use super::*;

#[derive(Default)]
struct Heard {
    added: Vec<Decision>,
    deleted: Vec<Decision>,
    unreadable: usize,
}

impl Receive for Heard {
    fn added(&mut self, decision: Decision) {
        self.added.push(decision);
    }
    fn deleted(&mut self, decision: Decision) {
        self.deleted.push(decision);
    }
    fn unreadable(&mut self, _: String) {
        self.unreadable += 1;
    }
}

fn heard(answer: &[u8]) -> (Heard, bool) {
    let mut heard = Heard::default();
    let read = read_answer(answer, &mut heard).is_ok();
    (heard, read)
}

/// Texts of this pattern. One that stands by itself would be read anew for each text, which takes most of the time.
fn like(pattern: &str) -> impl Strategy<Value = String> {
    string_regex(pattern).unwrap()
}

fn any_word() -> impl Strategy<Value = String> {
    like("\\PC{0,12}")
}

/// JSON of any shape, in which the names that mean something come up often.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    // What stands in the closure below is made anew for each value.
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
    (any::<u128>(), any::<bool>(), 0..=128u8, 1..u64::MAX, any::<bool>(), any_word()).prop_map(
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
    fn any_bytes_are_read_without_a_panic(answer in vec(any::<u8>(), 0..300)) {
        heard(&answer);
    }

    #[test]
    fn any_json_is_read_without_a_panic(answer in any_json()) {
        heard(answer.to_string().as_bytes());
    }

    #[test]
    fn any_lists_are_read_entry_by_entry(new in vec(any_json(), 0..8), deleted in vec(any_json(), 0..8)) {
        let answer = serde_json::json!({ "new": new, "deleted": deleted });
        let (heard, read) = heard(answer.to_string().as_bytes());
        prop_assert!(read);
        prop_assert!(heard.added.len() + heard.deleted.len() + heard.unreadable <= new.len() + deleted.len());
    }

    #[test]
    fn what_can_be_read_is_heard_whatever_stands_beside_it(
        good in vec(any_entry(), 0..8), junk in vec(any_json(), 0..8), new_first in any::<bool>(),
    ) {
        // An entry that happens to be readable among the junk would count too, so only objects without a value.
        let junk: Vec<_> = junk.into_iter().filter(|entry| entry.get("value").is_none()).collect();
        let mut new: Vec<String> = good.iter().map(|(entry, ..)| entry.to_string()).collect();
        for (n, entry) in junk.iter().enumerate() {
            new.insert((n * 7) % (new.len() + 1), entry.to_string());
        }
        let new = new.join(",");
        let answer = if new_first {
            format!("{{\"new\": [{new}], \"deleted\": null}}")
        } else {
            format!("{{\"deleted\":null,\"new\":[{new}]}}")
        };
        let (heard, read) = heard(answer.as_bytes());
        prop_assert!(read);
        let found: Vec<_> = heard.added.iter().map(|decision| (decision.value, decision.id)).collect();
        let meant: Vec<_> = good.iter().map(|(_, net, id, _)| (*net, Some(*id))).collect();
        prop_assert_eq!(found, meant);
    }

    #[test]
    fn an_answer_that_was_cut_anywhere_is_never_taken_for_whole(good in vec(any_entry(), 0..4), cut in 0.0..1.0f64) {
        let entries: Vec<_> = good.iter().map(|(entry, ..)| entry).collect();
        let answer = serde_json::json!({ "deleted": null, "new": entries }).to_string();
        let end = (answer.len() as f64 * cut) as usize;
        prop_assert!(!heard(&answer.as_bytes()[..end]).1);
    }

    #[test]
    fn any_text_is_a_network_or_none(text in like("\\PC{0,40}")) {
        network(&text);
    }

    #[test]
    fn text_like_an_address_is_a_canonical_network_or_none(text in like("[0-9a-fA-F:./]{0,45}")) {
        if let Some(net) = network(&text) {
            prop_assert_eq!(net, net.trunc());
            prop_assert_eq!(network(&net.to_string()), Some(net));
            prop_assert_eq!(net.addr().to_canonical(), net.addr());
        }
    }

    #[test]
    fn an_address_is_itself_in_every_spelling(bits in any::<u128>(), v4 in any::<bool>()) {
        let address = if v4 { IpAddr::V4((bits as u32).into()) } else { IpAddr::V6(bits.into()) };
        let canonical = Some(IpNet::from(address.to_canonical()));
        prop_assert_eq!(network(&address.to_string()), canonical);
        prop_assert_eq!(network(&format!(" {address}\n")), canonical);
        let v6 = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let long = v6.segments().map(|segment| format!("{segment:04X}")).join(":");
        prop_assert_eq!(network(&long), canonical);
        prop_assert_eq!(network(&format!("{long}/128")), canonical);
    }

    #[test]
    fn any_text_is_a_duration_or_none(text in like("\\PC{0,40}")) {
        go_duration(&text);
    }

    #[test]
    fn text_like_a_duration_is_one_of_at_most_292_years_or_none(text in like("[-+]?([0-9.]{0,25}(h|m|s|ms|us|µs|ns|)){0,5}")) {
        if let Some(duration) = go_duration(&text) {
            prop_assert!(duration <= Duration::from_secs(293 * 366 * 86_400));
        }
    }

    #[test]
    fn a_duration_of_go_is_read_to_the_microsecond(nanoseconds in 0..9_000_000_000_000_000_000u64) {
        let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
        let text = format!("{}h{}m{}.{rest:09}s", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let read = go_duration(&text).unwrap();
        let off = read.abs_diff(Duration::from_nanos(nanoseconds));
        // A float holds 292 years to a microsecond or two.
        prop_assert!(off < Duration::from_micros(3), "{} is off by {:?}", text, off);
        prop_assert_eq!(go_duration(&format!("-{text}")), Some(Duration::ZERO));
    }
}
