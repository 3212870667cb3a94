//! The set against a naive model: a plain list of decisions, searched from end to end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;

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

/// Addresses, and where they are.
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
            Decision { scenario: value.into(), ..scoped(id, scope, value, kinds[kind], tenths) }
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

#[derive(Clone)]
struct Known {
    decision: Decision,
    remediation: Remediation,
    end: u64,
    missed: Option<u64>,
}

impl Known {
    fn is(&self, other: &Decision) -> bool {
        let this = &self.decision;
        let keyed = this.id.is_some() || (this.scope == other.scope && this.kind == other.kind);
        meaning(this) == meaning(other) && this.id == other.id && keyed
    }
}

/// Whom a decision stands against, in one spelling, whatever spelling was typed.
fn meaning(decision: &Decision) -> (String, String) {
    let (scope, typed) = (decision.scope.to_lowercase(), decision.scenario.as_str());
    match scope.as_str() {
        "country" => (scope, typed.trim().to_uppercase()),
        "as" => (scope, typed.to_lowercase().replace("as", "").trim().to_owned()),
        "ip" | "range" => ("address".into(), decision.value.to_string()),
        _ => (decision.scope.clone(), typed.to_owned()),
    }
}

/// The plain list, and the rules as plainly as they can be said.
#[derive(Clone, Default)]
struct Model(Vec<Known>);

impl Model {
    fn add(&mut self, now: u64, new: &Decision) {
        let remediation = match new.kind.to_lowercase().as_str() {
            "allow" => return,
            "captcha" => Remediation::Captcha,
            _ => Remediation::Ban,
        };
        if new.duration.is_zero() {
            return;
        }
        self.0.retain(|known| !known.is(new));
        let end = now + new.duration.as_millis() as u64 / 100;
        self.0.push(Known { decision: new.clone(), remediation, end, missed: None });
    }

    fn changes(&mut self, now: u64, entries: &[Entry]) {
        let mut new = Model::default();
        for entry in entries {
            match entry {
                Entry::New(decision) => {
                    self.add(now, decision);
                    // Kept also if `add` ignores it: a deletion after it in the same answer must not count.
                    new.0.push(Known {
                        decision: decision.clone(),
                        remediation: Remediation::Ban,
                        end: 0,
                        missed: None,
                    });
                }
                Entry::Deleted(gone) if gone.id.is_some() || !new.0.iter().any(|known| known.is(gone)) => {
                    self.0.retain(|known| !known.is(gone));
                }
                _ => {}
            }
        }
    }

    /// Returns how many of the missing decisions LAPI has to confirm.
    fn everything(&mut self, now: u64, confirmed: bool, entries: &[Entry]) -> usize {
        let mut new = Model::default();
        for entry in entries {
            if let Entry::New(decision) = entry {
                new.add(now, decision);
            }
        }
        let is_deleted =
            |known: &Known| entries.iter().any(|entry| matches!(entry, Entry::Deleted(deleted) if known.is(deleted)));
        let mut to_confirm = 0;
        for mut old in std::mem::take(&mut self.0) {
            if old.end <= now || is_deleted(&old) || new.0.iter().any(|known| known.is(&old.decision)) {
                continue;
            }
            if old.end > now + 100 {
                let is_due = old.missed.is_some_and(|missed| missed + APART <= now);
                to_confirm += usize::from(is_due || old.missed.is_none());
                if is_due && confirmed {
                    continue;
                }
                old.missed = if confirmed { old.missed.or(Some(now)) } else { None };
            }
            new.0.push(old);
        }
        *self = new;
        to_confirm
    }

    fn strongest(&self, about: impl Fn(&Decision) -> bool, now: u64) -> Option<(Remediation, u64)> {
        let against = self.0.iter().filter(|known| known.end > now && about(&known.decision));
        against.map(|known| (known.remediation, known.end)).max()
    }

    /// What each visitor and each account meets, and until when.
    fn met(&self, now: u64) -> Vec<Option<(Remediation, u64)>> {
        let visitors = VISITORS.iter().map(|(address, country, system)| {
            let address = address.parse::<IpAddr>().unwrap().to_canonical();
            let about = |decision: &Decision| match meaning(decision) {
                (scope, text) if scope == "country" => text == *country,
                (scope, text) if scope == "as" => text == system.to_string(),
                (_, text) => text.parse::<IpNet>().is_ok_and(|net| net.contains(&address)),
            };
            self.strongest(about, now)
        });
        let accounts = ACCOUNTS.iter().map(|(scope, name)| {
            self.strongest(|decision| meaning(decision) == ((*scope).to_owned(), (*name).to_owned()), now)
        });
        visitors.chain(accounts).collect()
    }
}

/// What each visitor and each account meets by the real set, and until when.
fn met(set: &DecisionSet, start: Instant, now: u64) -> Vec<Option<(Remediation, u64)>> {
    let instant = start + tenths(now);
    let visitors = VISITORS.iter().map(|(address, country, system)| {
        let system = Some(*system).filter(|system| *system > 0);
        set.against(address.parse().unwrap(), || Country::read(country), || system, instant)
    });
    let accounts = ACCOUNTS.iter().map(|(scope, name)| set.on(&Value::own(scope, name).unwrap(), instant));
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
                    model.changes(now, &entries);
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
            prop_assert_eq!(found, longest.copied().map(Value::from), "{}", visitor);
        }
    }
}
