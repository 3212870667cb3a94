//! The set against a naive model: a plain list of decisions, searched from end to end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::crowdsec::answer::Receive;
use crate::crowdsec::decision::{Decision, network};

const TYPES: Types = Types { captcha: true, fallback: Remediation::Ban };

const VALUES: [&str; 12] = [
    "192.0.2.1",
    "192.0.2.2",
    "::ffff:192.0.2.1",
    "192.0.2.0/24",
    "192.0.2.77/31",
    "192.0.0.0/16",
    "0.0.0.0/0",
    "2001:db8::1",
    "2001:DB8:0:0::1/128",
    "2001:db8::/64",
    "2001:db8::5/32",
    "198.51.100.7",
];

const VISITORS: [&str; 9] = [
    "192.0.2.1",
    "192.0.2.2",
    "192.0.2.76",
    "192.0.9.9",
    "203.0.113.1",
    "::ffff:192.0.2.1",
    "2001:db8::1",
    "2001:db8::2",
    "2001:db8:0:1::1",
];

/// A decision of the operator's LAPI, with what is left of it in tenths of a second.
fn decision(id: u64, value: &str, kind: &str, tenths: u64) -> Decision {
    Decision {
        id: (id > 0).then_some(id),
        origin: "cscli".into(),
        scenario: format!("scenario {}", id % 3),
        scope: if value.contains('/') { "Range" } else { "Ip" }.into(),
        kind: kind.into(),
        value: network(value).unwrap(),
        duration: Duration::from_millis(tenths * 100),
    }
}

/// A row of LAPI's never changes its type, so an id comes with one.
fn any_decision() -> impl Strategy<Value = Decision> {
    let kinds = ["ban", "captcha", "Ban", "throttle", "allow"];
    (0..6_u64, prop::sample::select(&VALUES[..]), 0..5_usize, 0..40_u64).prop_map(move |(id, value, any, tenths)| {
        let kind = if id > 0 { id as usize % 5 } else { any };
        decision(id, value, kinds[kind], tenths)
    })
}

#[derive(Clone, Debug)]
enum Entry {
    New(Decision),
    Deleted(Decision),
}

/// What can happen to a set.
#[derive(Clone, Debug)]
enum Event {
    /// An answer, whether it is a full one, and whether it ends where it should.
    Answer {
        full: bool,
        cut: bool,
        entries: Vec<Entry>,
    },
    Wait {
        tenths: u64,
    },
    Sweep,
}

fn any_event() -> impl Strategy<Value = Event> {
    let entry = prop_oneof![3 => any_decision().prop_map(Entry::New), 2 => any_decision().prop_map(Entry::Deleted)];
    let answer = (any::<bool>(), prop::bool::weighted(0.2), vec(entry, 0..10));
    prop_oneof![
        6 => answer.prop_map(|(full, cut, entries)| Event::Answer { full, cut, entries }),
        2 => (1..30_u64).prop_map(|tenths| Event::Wait { tenths }),
        1 => Just(Event::Sweep),
    ]
}

/// The plain list, and the rules as plainly as they can be said.
#[derive(Clone, Default)]
struct Model(Vec<(Decision, Remediation, u64)>);

impl Model {
    fn same(one: &Decision, other: &Decision) -> bool {
        let keyed = one.id.is_some() || (one.scope == other.scope && one.kind == other.kind);
        one.value == other.value && one.id == other.id && keyed
    }

    fn answer(&mut self, now: u64, full: bool, cut: bool, entries: &[Entry]) {
        let mut named: Vec<Decision> = Vec::new();
        for entry in entries {
            match entry {
                Entry::New(new) => {
                    let remediation = match new.kind.to_lowercase().as_str() {
                        "allow" => continue,
                        "captcha" => Remediation::Captcha,
                        _ => Remediation::Ban,
                    };
                    if new.duration.is_zero() {
                        continue;
                    }
                    self.0.retain(|(old, ..)| !Self::same(old, new));
                    let end = now + new.duration.as_millis() as u64 / 100;
                    self.0.push((new.clone(), remediation, end));
                    named.push(new.clone());
                }
                Entry::Deleted(_) if full => {}
                Entry::Deleted(gone) => {
                    if gone.id.is_some() || !named.iter().any(|new| Self::same(new, gone)) {
                        self.0.retain(|(old, ..)| !Self::same(old, gone));
                    }
                }
            }
        }
        if full && !cut {
            self.0.retain(|(old, ..)| named.iter().any(|new| Self::same(old, new)));
        }
    }

    fn strongest(&self, visitor: IpAddr, now: u64) -> Option<(Remediation, u64)> {
        let visitor = visitor.to_canonical();
        let against = self.0.iter().filter(|(decision, _, end)| *end > now && decision.value.contains(&visitor));
        against.map(|(_, remediation, end)| (*remediation, *end)).max()
    }
}

fn receive(takeover: &mut Takeover, entry: &Entry) {
    match entry.clone() {
        Entry::New(decision) => takeover.added(decision),
        Entry::Deleted(decision) => takeover.deleted(decision),
    }
}

fn visitors() -> impl Iterator<Item = IpAddr> {
    VISITORS.iter().map(|visitor| visitor.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(512)))]

    #[test]
    fn any_sequence_of_answers_gives_what_a_plain_list_gives(events in vec(any_event(), 1..30)) {
        let start = Instant::now();
        let (set, mut model, mut now) = (Arc::new(DecisionSet::new(start)), Model::default(), 0);
        for event in events {
            let instant = start + Duration::from_millis(now * 100);
            match event {
                Event::Wait { tenths } => now += tenths,
                Event::Sweep => {
                    (0..PARTS).for_each(|_| set.sweep(instant));
                    model.0.retain(|(_, _, end)| *end > now);
                }
                Event::Answer { full, cut, entries } => {
                    let before = model.clone();
                    model.answer(now, full, cut, &entries);
                    let mut takeover =
                        if full { set.all(TYPES, instant) } else { set.changes(TYPES, instant) };
                    for entry in &entries {
                        receive(&mut takeover, entry);
                        // Taking over a full answer, a look-up never finds less than what the old and the new state share.
                        for visitor in visitors().filter(|_| full) {
                            let kind = |found: Option<(Remediation, u64)>| found.map(|(remediation, _)| remediation);
                            let shared = kind(before.strongest(visitor, now)).min(kind(model.strongest(visitor, now)));
                            let found = set.strongest(visitor, || instant).map(|standing| standing.remediation);
                            prop_assert!(found >= shared, "{visitor}: {found:?} < {shared:?}");
                        }
                    }
                    if !cut {
                        takeover.complete_and_believed();
                    }
                }
            }
            let instant = start + Duration::from_millis(now * 100);
            for visitor in visitors() {
                let found = set.strongest(visitor, || instant);
                let found = found.map(|found| (found.remediation, now + found.expires_in.unwrap().as_millis() as u64 / 100));
                prop_assert_eq!(found, model.strongest(visitor, now), "{}", visitor);
            }
            prop_assert_eq!(set.len(), model.0.len());
        }
    }
}

fn set_of(decisions: impl IntoIterator<Item = Decision>) -> (Arc<DecisionSet>, Instant) {
    let start = Instant::now();
    let set = Arc::new(DecisionSet::new(start));
    let mut takeover = set.all(TYPES, start);
    decisions.into_iter().for_each(|decision| takeover.added(decision));
    takeover.complete_and_believed();
    (set, start)
}

fn many(ids: std::ops::Range<u64>) -> impl Iterator<Item = Decision> {
    ids.map(|id| decision(id, &format!("192.0.{}.{}", id / 256, id % 256), "ban", 100))
}

#[test]
fn a_full_answer_that_would_end_most_of_what_stands_is_not_believed_at_once() {
    let (set, now) = set_of(many(1..201));
    let mut short = set.all(TYPES, now);
    many(1..100).for_each(|decision| short.added(decision));
    assert_eq!(short.complete(), Err(Implausible { would_end: 101, of: 200 }));
    assert_eq!(set.len(), 200);
    let mut again = set.all(TYPES, now);
    many(1..100).for_each(|decision| again.added(decision));
    assert_eq!(again.complete_and_believed().renewed, 99);
    assert_eq!(set.len(), 99);
}

#[test]
fn half_of_what_stands_or_most_of_a_few_may_end() {
    for (before, after) in [(200, 101), (99, 1), (100, 50)] {
        let (set, now) = set_of(many(1..before + 1));
        let mut answer = set.all(TYPES, now);
        many(1..after + 1).for_each(|decision| answer.added(decision));
        assert!(answer.complete().is_ok(), "{before} to {after}");
        assert_eq!(set.len(), after as usize);
    }
}

#[test]
fn decisions_that_ended_by_themselves_do_not_make_an_answer_implausible() {
    let (set, now) = set_of(many(1..201));
    let later = now + Duration::from_secs(60);
    assert!(set.all(TYPES, later).complete().is_ok());
    assert_eq!(set.len(), 0);
}

#[test]
fn no_answer_ends_the_operators_own_decisions_and_their_allow_outweighs_a_ban() {
    let (set, now) = set_of([decision(1, "192.0.2.1", "ban", 100)]);
    set.pin("192.0.2.0/24".parse().unwrap(), Remediation::Allow, "the office");
    set.pin("198.51.100.7/32".parse().unwrap(), Remediation::Ban, "");
    set.all(TYPES, now).complete_and_believed();
    let of = |visitor: &str| set.strongest(visitor.parse().unwrap(), || now + Duration::from_secs(1 << 30));
    assert_eq!(of("192.0.2.1").unwrap().remediation, Remediation::Allow);
    assert_eq!(of("198.51.100.7").unwrap().remediation, Remediation::Ban);
    assert_eq!(of("198.51.100.7").unwrap().expires_in, None);
}

#[test]
fn an_allow_of_lapis_exempts_nobody() {
    let (set, now) = set_of([decision(1, "192.0.2.1", "ban", 100)]);
    let mut answer = set.changes(TYPES, now);
    answer.added(decision(2, "192.0.2.1", "Allow", 100));
    assert_eq!(answer.complete_and_believed().allows, 1);
    assert_eq!(set.strongest("192.0.2.1".parse().unwrap(), || now).unwrap().remediation, Remediation::Ban);
}

#[test]
fn without_a_provider_a_captcha_becomes_the_fallback() {
    let start = Instant::now();
    let set = Arc::new(DecisionSet::new(start));
    let mut answer = set.all(Types { captcha: false, fallback: Remediation::Ban }, start);
    answer.added(decision(1, "192.0.2.1", "captcha", 100));
    answer.complete_and_believed();
    assert_eq!(set.strongest("192.0.2.1".parse().unwrap(), || start).unwrap().remediation, Remediation::Ban);
}

#[test]
fn what_stands_is_known_with_its_id_origin_and_scenario() {
    let (set, now) = set_of([decision(7, "192.0.2.0/24", "ban", 100)]);
    let standing = set.strongest("192.0.2.1".parse().unwrap(), || now).unwrap();
    assert_eq!((standing.id, standing.value.to_string().as_str()), (Some(7), "192.0.2.0/24"));
    assert_eq!((standing.source.origin.as_str(), standing.source.scenario.as_str()), ("cscli", "scenario 1"));
    assert_eq!(standing.expires_in, Some(Duration::from_secs(10)));
}

#[test]
fn nobody_is_let_go_before_a_decisions_end() {
    let (set, now) =
        set_of([Decision { duration: Duration::from_millis(1_501), ..decision(1, "192.0.2.1", "ban", 0) }]);
    let at = |millis| set.strongest("192.0.2.1".parse().unwrap(), || now + Duration::from_millis(millis));
    assert!(at(1_501).is_some());
    assert!(at(1_601).is_none());
}

#[test]
fn memory_is_given_back_when_sources_and_entries_go() {
    let (set, now) = set_of(many(1..1000));
    set.all(TYPES, now).complete_and_believed();
    assert_eq!(set.len(), 0);
    assert!(read(&set.sources).is_empty());
}

#[test]
fn one_address_may_bear_many_decisions() {
    let (set, now) = set_of((1..2000).map(|id| decision(id, "192.0.2.1", "ban", id)));
    let mut answer = set.changes(TYPES, now);
    (1000..2000).for_each(|id| answer.deleted(decision(id, "192.0.2.1", "ban", 0)));
    assert_eq!(answer.complete_and_believed().ended, 1000);
    assert_eq!(set.strongest("192.0.2.1".parse().unwrap(), || now).unwrap().id, Some(999));
}

#[test]
fn an_entry_is_as_small_as_it_was_made() {
    assert_eq!(size_of::<table::Entry<Ipv4Addr>>(), 24);
    assert_eq!(size_of::<table::Entry<Ipv6Addr>>(), 36);
}

proptest! {
    /// Against a plain search through all of them, on addresses in which networks of every length crowd.
    #[test]
    fn the_networks_around_an_address_are_those_that_hold_it(
        nets in vec((any::<bool>(), 0..=128_u8, any::<u8>(), any::<u8>()), 0..40),
        visitors in vec((any::<bool>(), any::<u8>(), any::<u8>()), 20),
    ) {
        // Two bytes of chance, one at each end, so that there are neighbours and far ones.
        let address = |v4: bool, head: u8, tail: u8| -> IpAddr {
            if v4 { [head, 0, 0, tail].into() } else { [u16::from(head) << 8, 0, 0, 0, 0, 0, 0, u16::from(tail)].into() }
        };
        let nets = nets.into_iter().map(|(v4, length, head, tail)| {
            let length = if v4 { length % 33 } else { length };
            IpNet::new_assert(address(v4, head & 0xc1, tail & 0xc1), length).trunc()
        });
        let nets: Vec<IpNet> = nets.filter(|net| single(*net).is_none()).collect();
        let (set, now) = set_of(nets.iter().zip(1..).map(|(net, id)| decision(id, &net.to_string(), "ban", 100)));
        let ranges = read(&set.shards[0]).ranges.clone();
        let ends = nets.iter().flat_map(|net| [net.network(), net.broadcast()]);
        let visitors = visitors.iter().map(|(v4, head, tail)| address(*v4, *head, *tail));
        for visitor in visitors.chain(ends).map(|visitor| visitor.to_canonical()) {
            let mut found: Vec<u64> = ranges.around(visitor).map(|net| net.entry.fields.id).collect();
            found.sort_unstable();
            let holding: Vec<u64> = (1..).zip(&nets).filter(|(_, net)| net.contains(&visitor)).map(|(id, _)| id).collect();
            prop_assert_eq!(found, holding, "{}", visitor);
            prop_assert_eq!(set.strongest(visitor, || now).is_some(), nets.iter().any(|net| net.contains(&visitor)));
        }
    }
}
