//! Does the set say what a naive model says: a plain list of decisions, searched from end to end?

mod plain_list;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;

use plain_list::Model;

use super::{APART, decision, scoped, set_of, strongest, tenths, types};
use crate::crowdsec::decisions::{Country, Decision, DecisionSet, Entry, Remediation, Standing, Value};

const VALUES: [(&str, &str); 22] = [
    ("Ip", "192.0.2.1"),
    ("ip", "192.0.2.2"),
    ("Ip", "::ffff:192.0.2.1"),
    ("Range", "192.0.2.0/24"),
    ("Range", "192.0.2.77/31"),
    ("range", "192.0.0.0/16"),
    ("Range", "0.0.0.0/0"),
    ("Ip", "2001:db8::1"),
    ("Range", "2001:DB8:0:0::1/128"),
    ("Range", "2001:db8::/64"),
    ("Range", "2001:db8::5/32"),
    ("Ip", "198.51.100.7"),
    ("Country", "FR"),
    ("country", " fr"),
    ("COUNTRY", "de"),
    ("AS", "64500"),
    ("as", "AS64500"),
    ("As", "as 64501"),
    ("username", "alice"),
    ("username", "Alice"),
    ("Username", "alice"),
    ("session", "FR"),
];

/// Addresses, with their country and autonomous system.
const VISITORS: [(&str, &str, u32); 9] = [
    ("192.0.2.1", "FR", 64500),
    ("192.0.2.2", "DE", 64501),
    ("192.0.2.76", "", 0),
    ("192.0.9.9", "US", 64502),
    ("203.0.113.1", "FR", 0),
    ("::ffff:192.0.2.1", "DE", 64500),
    ("2001:db8::1", "FR", 64500),
    ("2001:db8::2", "", 64501),
    ("2001:db8:0:1::1", "DE", 0),
];

const ACCOUNTS: [(&str, &str); 5] =
    [("username", "alice"), ("username", "Alice"), ("Username", "alice"), ("session", "FR"), ("username", "bob")];

/// LAPI never changes the type of a decision, so each id above 0 always has the same type here.
fn any_decision() -> impl Strategy<Value = Decision> {
    let kinds = ["ban", "captcha", "Ban", "throttle", "allow"];
    (0..6_u64, prop::sample::select(&VALUES[..]), 0..5_usize, prop_oneof![0..40_u64, 0..4000_u64]).prop_map(
        move |(id, (scope, value), any, tenths)| {
            let kind = if id > 0 { id as usize % 5 } else { any };
            // The field `scenario` tells the model how the value was typed.
            let mut decision = scoped(id, scope, value, kinds[kind], tenths);
            decision.source.scenario = value.into();
            decision
        },
    )
}

/// What can happen to a set.
#[derive(Clone, Debug)]
enum Event {
    /// An answer of LAPI's: full or a delta, cut off or whole; and whether LAPI confirms that what it lacks is gone.
    Answer {
        full: bool,
        cut: bool,
        confirmed: bool,
        entries: Vec<Entry>,
    },
    Wait {
        tenths: u64,
    },
}

fn any_event() -> impl Strategy<Value = Event> {
    let entry = prop_oneof![3 => any_decision().prop_map(Entry::New), 2 => any_decision().prop_map(Entry::Deleted)];
    let answer = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.7), vec(entry, 0..10));
    prop_oneof![
        6 => answer.prop_map(|(full, cut, confirmed, entries)| Event::Answer { full, cut, confirmed, entries }),
        2 => prop_oneof![1..30_u64, 1..500_u64].prop_map(|tenths| Event::Wait { tenths }),
    ]
}

/// What each visitor and each account meets in the real set, and until when.
fn met(set: &DecisionSet, start: Instant, now: u64) -> Vec<Option<(Remediation, u64)>> {
    let instant = start + tenths(now);
    let visitors = VISITORS.iter().map(|(address, country, system)| {
        let system = Some(*system).filter(|system| *system > 0);
        set.against(address.parse().unwrap(), || Country::read(country), || system, instant)
    });
    let accounts = ACCOUNTS.iter().map(|(scope, name)| set.on(&Value::account(scope, name).unwrap(), instant));
    let end = |found: &Standing| now + found.expires_in.unwrap().as_millis() as u64 / 100;
    let greatest = |found: Vec<Standing>| found.first().map(|found| (found.remediation, end(found)));
    visitors.chain(accounts).map(greatest).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(512)))]

    #[test]
    fn any_sequence_of_answers_gives_what_a_plain_list_gives(events in vec(any_event(), 1..30)) {
        let start = Instant::now();
        let (set, mut model, mut now) = (Arc::new(DecisionSet::new(start, types())), Model::default(), 0);
        for event in events {
            let instant = start + tenths(now);
            match event {
                Event::Wait { tenths } => now += tenths,
                Event::Answer { full: false, cut, entries, .. } => {
                    model.changes(now, cut, &entries);
                    let mut changes = set.changes(instant);
                    entries.into_iter().for_each(|entry| changes.take(entry));
                    if !cut {
                        changes.complete();
                    }
                }
                Event::Answer { full: true, cut, confirmed, entries } => {
                    let before = met(&set, start, now);
                    let mut everything = set.everything(instant);
                    entries.iter().for_each(|entry| everything.take(entry.clone()));
                    if cut {
                        drop(everything);
                        prop_assert_eq!(met(&set, start, now), before);
                        continue;
                    }
                    prop_assert_eq!(met(&set, start, now), before, "nothing changes before all of it is there");
                    let compared = everything.take_over(instant, tenths(APART));
                    let mut unconfirmed = model.clone();
                    unconfirmed.everything(now, false, &entries);
                    let expected = unconfirmed.met(now);
                    prop_assert_eq!(met(&set, start, now), expected, "what is new counts, and what is missing stands");
                    let to_confirm = compared.to_confirm().count();
                    let taken = compared.settle(confirmed);
                    prop_assert_eq!(to_confirm, model.everything(now, confirmed, &entries));
                    let marks = model.0.iter().filter(|known| known.end > now + 100).filter_map(|known| known.missed);
                    prop_assert_eq!(taken.kept_until, marks.min().map(|first| start + tenths(first + APART)));
                }
            }
            prop_assert_eq!(met(&set, start, now), model.met(now));
            prop_assert_eq!(set.len(), model.0.len());
        }
    }

    /// Compares each look-up with a search through all networks, at addresses that many networks of every length hold.
    #[test]
    fn the_networks_around_an_address_are_those_that_hold_it(
        nets in vec((any::<bool>(), 0..=128_u8, any::<u8>(), any::<u8>()), 0..40),
        visitors in vec((any::<bool>(), any::<u8>(), any::<u8>()), 20),
    ) {
        // The first and the last byte are random, so that some addresses are neighbours and others far apart.
        let address = |v4: bool, head: u8, tail: u8| -> IpAddr {
            if v4 { [head, 0, 0, tail].into() } else { [u16::from(head) << 8, 0, 0, 0, 0, 0, 0, u16::from(tail)].into() }
        };
        let nets = nets.into_iter().map(|(v4, length, head, tail)| {
            let length = if v4 { length % 33 } else { length };
            IpNet::new_assert(address(v4, head & 0xc1, tail & 0xc1), length).trunc()
        });
        let nets: Vec<IpNet> = nets.collect();
        // The longer a network's prefix, the longer its ban lasts, so that the ban shows which network was found.
        let lives = |net: &IpNet| 1000 + u64::from(net.prefix_len());
        let (set, now) = set_of(nets.iter().zip(1..).map(|(net, id)| decision(id, &net.to_string(), "ban", lives(net))));
        let ends = nets.iter().flat_map(|net| [net.network(), net.broadcast()]);
        let visitors = visitors.iter().map(|(v4, head, tail)| address(*v4, *head, *tail));
        for visitor in visitors.chain(ends).map(|visitor| visitor.to_canonical()) {
            let found = strongest(&set, visitor, now).map(|standing| standing.value);
            let longest = nets.iter().filter(|net| net.contains(&visitor)).max_by_key(|net| net.prefix_len());
            prop_assert_eq!(found, longest.copied().map(Value::Network), "{}", visitor);
        }
    }
}
