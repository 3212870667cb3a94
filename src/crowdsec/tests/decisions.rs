//! The set against a naive model: a plain list of decisions, searched from end to end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::crowdsec::decisions::{
    Decision, DecisionSet, Entry, Key, MOST_ON_ONE_VALUE, Remediation, Taken, Types, network,
};

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
    (0..6_u64, prop::sample::select(&VALUES[..]), 0..5_usize, prop_oneof![0..40_u64, 0..4000_u64]).prop_map(
        move |(id, value, any, tenths)| {
            let kind = if id > 0 { id as usize % 5 } else { any };
            decision(id, value, kinds[kind], tenths)
        },
    )
}

/// What can happen to a set.
#[derive(Clone, Debug)]
enum Event {
    /// An answer, whether it is a full one, whether it ends where it should, and whether LAPI confirms what it lacks.
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

/// How far apart the two answers are that end a missing decision, in tenths of a second.
const APART: u64 = 300;

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
        this.value == other.value && this.id == other.id && keyed
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
                    // Also where it means nothing here.
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

    /// Gives how many LAPI has to confirm.
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

    fn strongest(&self, visitor: IpAddr, now: u64) -> Option<(Remediation, u64)> {
        let visitor = visitor.to_canonical();
        let against = self.0.iter().filter(|known| known.end > now && known.decision.value.contains(&visitor));
        against.map(|known| (known.remediation, known.end)).max()
    }
}

fn visitors() -> impl Iterator<Item = IpAddr> {
    VISITORS.iter().map(|visitor| visitor.parse().unwrap())
}

fn tenths(tenths: u64) -> Duration {
    Duration::from_millis(tenths * 100)
}

/// What each visitor meets, and until when.
fn met(set: &DecisionSet, start: Instant, now: u64) -> Vec<Option<(Remediation, u64)>> {
    let found = visitors().map(|visitor| set.strongest(visitor, start + tenths(now)));
    found
        .map(|found| found.map(|found| (found.remediation, now + found.expires_in.unwrap().as_millis() as u64 / 100)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(512)))]

    #[test]
    fn any_sequence_of_answers_gives_what_a_plain_list_gives(events in vec(any_event(), 1..30)) {
        let start = Instant::now();
        let (set, mut model, mut now) = (Arc::new(DecisionSet::new(start)), Model::default(), 0);
        for event in events {
            let instant = start + tenths(now);
            match event {
                Event::Wait { tenths } => now += tenths,
                Event::Answer { full: false, cut, entries, .. } => {
                    model.changes(now, &entries);
                    let mut changes = set.changes(TYPES, instant);
                    entries.into_iter().for_each(|entry| changes.take(entry));
                    if !cut {
                        changes.complete();
                    }
                }
                Event::Answer { full: true, cut, confirmed, entries } => {
                    let before = met(&set, start, now);
                    let mut everything = set.everything(TYPES, instant);
                    entries.iter().for_each(|entry| everything.take(entry.clone()));
                    if cut {
                        drop(everything);
                        prop_assert_eq!(met(&set, start, now), before);
                        continue;
                    }
                    let compared = everything.compare(instant, tenths(APART));
                    prop_assert_eq!(met(&set, start, now), before, "nothing changes before all of it is there");
                    let to_confirm = compared.to_confirm().count();
                    let taken = compared.take_over(confirmed);
                    prop_assert_eq!(to_confirm, model.everything(now, confirmed, &entries));
                    let marks = model.0.iter().filter(|known| known.end > now + 100).filter_map(|known| known.missed);
                    prop_assert_eq!(taken.kept_until, marks.min().map(|first| start + tenths(first + APART)));
                }
            }
            let expected: Vec<_> = visitors().map(|visitor| model.strongest(visitor, now)).collect();
            prop_assert_eq!(met(&set, start, now), expected);
            prop_assert_eq!(set.len(), model.0.len());
        }
    }
}

fn take_all(set: &Arc<DecisionSet>, now: Instant, decisions: impl IntoIterator<Item = Decision>) -> Taken {
    let mut everything = set.everything(TYPES, now);
    decisions.into_iter().for_each(|decision| everything.take(Entry::New(decision)));
    everything.compare(now, tenths(APART)).take_over(true)
}

fn take_changes(set: &Arc<DecisionSet>, now: Instant, entries: impl IntoIterator<Item = Entry>) -> Taken {
    let mut changes = set.changes(TYPES, now);
    entries.into_iter().for_each(|entry| changes.take(entry));
    changes.complete()
}

fn set_of(decisions: impl IntoIterator<Item = Decision>) -> (Arc<DecisionSet>, Instant) {
    let start = Instant::now();
    let set = Arc::new(DecisionSet::new(start));
    take_all(&set, start, decisions);
    (set, start)
}

fn many(ids: std::ops::Range<u64>) -> impl Iterator<Item = Decision> {
    ids.map(|id| decision(id, &format!("192.0.{}.{}", id / 256, id % 256), "ban", 36_000))
}

fn against(set: &DecisionSet, visitor: &str, now: Instant) -> Option<(Remediation, Option<u64>)> {
    set.strongest(visitor.parse().unwrap(), now).map(|standing| (standing.remediation, standing.id))
}

#[test]
fn what_a_full_answer_lacks_ends_with_the_second_one_that_lacks_it_some_time_later() {
    let (set, start) = set_of(many(1..201));
    for (after, left) in [(0, 200), (100, 200), (APART - 1, 200), (APART, 99)] {
        let now = start + tenths(after);
        let taken = take_all(&set, now, many(1..100));
        assert_eq!((set.len(), taken.kept), (left, left - 99), "after {after} tenths");
        let until = (left > 99).then_some(start + tenths(APART));
        assert_eq!(taken.kept_until, until, "after {after} tenths");
    }
}

#[test]
fn an_answer_that_is_not_confirmed_ends_nothing_and_brings_what_is_new() {
    let (set, start) = set_of(many(1..3));
    for after in [0, APART, 2 * APART, 9 * APART] {
        let mut short = set.everything(TYPES, start + tenths(after));
        short.take(Entry::New(decision(9, "198.51.100.7", "ban", 100)));
        let taken = short.compare(start + tenths(after), tenths(APART)).take_over(false);
        assert_eq!((taken.kept, taken.kept_until), (2, None));
        assert!(against(&set, "198.51.100.7", start + tenths(after)).is_some());
    }
    // Two confirmed ones in a row are needed from here on.
    take_all(&set, start + tenths(10 * APART), []);
    assert!(against(&set, "192.0.0.1", start + tenths(10 * APART)).is_some());
    take_all(&set, start + tenths(11 * APART), []);
    assert!(against(&set, "192.0.0.1", start + tenths(11 * APART)).is_none());
}

#[test]
fn what_one_answer_lacked_and_the_next_names_is_missing_for_the_first_time_again() {
    let (set, start) = set_of(many(1..2));
    let at = |after| start + tenths(after);
    take_all(&set, at(0), []);
    take_all(&set, at(APART - 1), many(1..2));
    take_all(&set, at(APART), []);
    assert_eq!(set.len(), 1);
    take_all(&set, at(2 * APART), []);
    assert_eq!(set.len(), 0);
}

#[test]
fn what_a_full_answer_names_as_deleted_ends_at_once() {
    let (set, now) = set_of(many(1..4));
    let mut everything = set.everything(TYPES, now);
    everything.take(Entry::New(many(1..2).next().unwrap()));
    // The one that is named as new as well stands.
    many(1..3).for_each(|gone| everything.take(Entry::Deleted(gone)));
    let taken = everything.compare(now, tenths(APART)).take_over(true);
    assert_eq!((taken.ended, taken.kept, set.len()), (1, 1, 2));
    assert!(against(&set, "192.0.0.2", now).is_none());
}

#[test]
fn no_answer_ends_the_operators_own_decisions_and_their_allow_outweighs_a_ban() {
    let now = Instant::now();
    let mut set = DecisionSet::new(now);
    set.pin("192.0.2.0/24".parse().unwrap(), Remediation::Allow, "the office");
    set.pin("198.51.100.7/32".parse().unwrap(), Remediation::Ban, "");
    let set = Arc::new(set);
    take_all(&set, now, [decision(1, "192.0.2.1", "ban", 100)]);
    let of = |visitor: &str| set.strongest(visitor.parse().unwrap(), now + Duration::from_secs(1 << 30)).unwrap();
    assert_eq!(of("192.0.2.1").remediation, Remediation::Allow);
    assert_eq!(of("198.51.100.7").remediation, Remediation::Ban);
    assert_eq!((of("198.51.100.7").id, of("198.51.100.7").expires_in), (None, None));
}

#[test]
fn an_allow_of_lapis_exempts_nobody() {
    let (set, now) = set_of([decision(1, "192.0.2.1", "ban", 100)]);
    let taken = take_changes(&set, now, [Entry::New(decision(2, "192.0.2.1", "Allow", 100))]);
    assert_eq!(taken.allows, 1);
    assert_eq!(against(&set, "192.0.2.1", now), Some((Remediation::Ban, Some(1))));
}

#[test]
fn without_a_provider_a_captcha_becomes_the_fallback() {
    let start = Instant::now();
    let set = Arc::new(DecisionSet::new(start));
    let mut answer = set.changes(Types { captcha: false, fallback: Remediation::Ban }, start);
    answer.take(Entry::New(decision(1, "192.0.2.1", "captcha", 100)));
    answer.complete();
    assert_eq!(against(&set, "192.0.2.1", start), Some((Remediation::Ban, Some(1))));
}

#[test]
fn what_stands_is_known_with_its_id_origin_and_scenario() {
    let (set, now) = set_of([decision(7, "192.0.2.0/24", "ban", 100), decision(0, "192.0.3.0/24", "ban", 100)]);
    let standing = set.strongest("192.0.2.1".parse().unwrap(), now).unwrap();
    assert_eq!((standing.id, standing.value.to_string().as_str()), (Some(7), "192.0.2.0/24"));
    assert_eq!((standing.source.origin.as_str(), standing.source.scenario.as_str()), ("cscli", "scenario 1"));
    assert_eq!(standing.expires_in, Some(Duration::from_secs(10)));
    assert_eq!(standing.name(), "decision 7");
    let without_id = set.strongest("192.0.3.1".parse().unwrap(), now).unwrap();
    assert_eq!(without_id.name(), "a decision without an id");
}

#[test]
fn nobody_is_let_go_before_a_decisions_end() {
    let (set, now) =
        set_of([Decision { duration: Duration::from_millis(1_501), ..decision(1, "192.0.2.1", "ban", 0) }]);
    assert!(against(&set, "192.0.2.1", now + Duration::from_millis(1_501)).is_some());
    assert!(against(&set, "192.0.2.1", now + Duration::from_millis(1_601)).is_none());
}

#[test]
fn a_thousand_changes_at_once_are_made_to_the_last() {
    let (set, now) = set_of(many(1..1000));
    let entries = many(1000..2000).map(Entry::New).chain(many(500..1500).map(Entry::Deleted));
    let taken = take_changes(&set, now, entries);
    assert_eq!((taken.added(), taken.ended, set.len()), (1000, 1000, 999));
    for (id, stands) in [(499, true), (500, false), (1499, false), (1500, true), (1999, true)] {
        let address = many(id..id + 1).next().unwrap().value.addr();
        assert_eq!(set.strongest(address, now).is_some(), stands, "{id}");
    }
}

#[test]
fn of_too_many_decisions_on_one_address_the_greatest_are_held() {
    let most = MOST_ON_ONE_VALUE as u64;
    let captchas = (1..=40_000).map(|id| decision(id, "192.0.2.1", "captcha", 1000 + id));
    let (set, now) = set_of(captchas.clone());
    assert_eq!(set.len() as u64, most);
    assert_eq!(against(&set, "192.0.2.1", now), Some((Remediation::Captcha, Some(40_000))));
    let taken = take_changes(&set, now, [Entry::New(decision(50_000, "192.0.2.1", "ban", 1000))]);
    assert_eq!((taken.left_out, taken.first_left_out), (1, Some("192.0.2.1/32".parse().unwrap())));
    assert_eq!(against(&set, "192.0.2.1", now), Some((Remediation::Ban, Some(50_000))));
    // What is left out of an answer, whichever it names first, is not missing. What would not have been is.
    let mut again = set.everything(TYPES, now);
    captchas.collect::<Vec<_>>().into_iter().rev().for_each(|captcha| again.take(Entry::New(captcha)));
    let compared = again.compare(now, tenths(APART));
    let ban = decision(50_000, "192.0.2.1", "ban", 0);
    assert_eq!(compared.to_confirm().collect::<Vec<_>>(), [(ban.value, ban.key())]);
    compared.take_over(true);
    assert_eq!(set.len() as u64, most);
    assert_eq!(against(&set, "192.0.2.1", now), Some((Remediation::Ban, Some(50_000))));
    let captchas = (40_001 - most..=40_000).map(|id| decision(id, "192.0.2.1", "captcha", 0));
    take_changes(&set, now, captchas.chain([ban]).map(Entry::Deleted));
    assert_eq!(set.len(), 0);
}

#[test]
fn twenty_thousand_decisions_without_an_id_are_told_apart_by_value_scope_and_type() {
    let kinds = |n: u64| Decision { kind: format!("kind {n}"), ..decision(0, "198.51.100.7", "ban", 100) };
    let values = |n: u64| Decision {
        scenario: format!("scenario {n}"),
        ..decision(0, &format!("10.0.{}.{}", n / 256, n % 256), "ban", 36_000)
    };
    let (set, now) = set_of((0..20_000).map(values).chain((0..200).map(kinds)));
    assert_eq!(set.len(), 20_200);
    let taken = take_changes(&set, now, (0..20_000).map(values).map(Entry::Deleted));
    assert_eq!((taken.ended, set.len()), (20_000, 200));
}

/// A LAPI that is the truth, forgets for a while what it knows, and remembers.
#[derive(Clone, Debug)]
enum Happens {
    Add,
    /// With a `deleted` in the next delta.
    Delete(prop::sample::Index),
    /// As `cscli alerts delete` and LAPI's own flush do it: no answer ever names it.
    DeleteSilently(prop::sample::Index),
    /// From now on each answer leaves out those whose id has one of these remainders by four.
    Forget(u8),
    Remember,
    Polls(u64),
}

fn anything_happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => Just(Happens::Add),
        1 => any::<prop::sample::Index>().prop_map(Happens::Delete),
        1 => any::<prop::sample::Index>().prop_map(Happens::DeleteSilently),
        1 => (1..16_u8).prop_map(Happens::Forget),
        2 => Just(Happens::Remember),
        6 => (1..40_u64).prop_map(Happens::Polls),
    ]
}

/// In tenths of a second: a poll every ten seconds, everything every five minutes.
const POLL: u64 = 100;
const RESYNC: u64 = 3000;

struct Row {
    id: u64,
    since: u64,
    gone: Option<u64>,
    silently: bool,
}

struct World {
    start: Instant,
    now: u64,
    set: Arc<DecisionSet>,
    rows: Vec<Row>,
    forgets: u8,
    /// Since when LAPI forgets nothing.
    sane_since: u64,
    polled: u64,
    everything_due: u64,
}

impl World {
    fn decision(row: &Row) -> Decision {
        decision(row.id, &format!("10.0.{}.{}", row.id / 256, row.id % 256), "ban", 4_000_000)
    }

    fn forgot(&self, row: &Row) -> bool {
        self.forgets & (1 << (row.id % 4)) != 0
    }

    /// As the poller does it: changes, or everything where that is due, and at once after a question or a failure.
    fn poll(&mut self) {
        self.now += POLL;
        let instant = self.start + tenths(self.now);
        if self.now < self.everything_due {
            let changed = |row: &&Row| !self.forgot(row);
            let new = self.rows.iter().filter(changed).filter(|row| row.since > self.polled && row.gone.is_none());
            let gone = self.rows.iter().filter(changed);
            let gone = gone.filter(|row| !row.silently && row.gone.is_some_and(|gone| gone > self.polled));
            let entries = new.map(|row| Entry::New(Self::decision(row)));
            take_changes(&self.set, instant, entries.chain(gone.map(|row| Entry::Deleted(Self::decision(row)))));
        } else {
            let mut everything = self.set.everything(TYPES, instant);
            for row in self.rows.iter().filter(|row| row.gone.is_none() && !self.forgot(row)) {
                everything.take(Entry::New(Self::decision(row)));
            }
            let compared = everything.compare(instant, tenths(RESYNC / 2));
            let asked: Vec<(IpNet, Key)> = compared.to_confirm().collect();
            // A database that fails answers no question, also none for what is truly gone.
            let confirmed = asked.is_empty() || self.forgets == 0;
            let taken = compared.take_over(confirmed);
            let due = taken.kept_until.map(|until| until.duration_since(self.start).as_millis() as u64 / 100);
            let again = due.unwrap_or(u64::MAX).min(self.now + RESYNC);
            self.everything_due = if asked.is_empty() { again } else { self.now };
        }
        self.polled = self.now;
    }

    fn stands(&self, row: &Row) -> bool {
        self.set.strongest(Self::decision(row).value.addr(), self.start + tenths(self.now)).is_some()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(512)))]

    #[test]
    fn a_lapi_that_forgets_and_remembers_ends_nothing_and_what_is_gone_ends_in_time(
        events in vec(anything_happens(), 1..60),
    ) {
        let start = Instant::now();
        let set = Arc::new(DecisionSet::new(start));
        let mut world = World {
            start, set, now: 0, rows: vec![], forgets: 0, sane_since: 0, polled: 0, everything_due: 0,
        };
        // Half a resync_frequency between the two answers, one until the first of them, and some polls.
        let in_time = RESYNC * 3 / 2 + 3 * POLL;
        let mut known = std::collections::HashSet::new();
        for event in events {
            let mut polls = 0;
            match event {
                Happens::Add => {
                    let (id, since) = (world.rows.len() as u64 + 1, world.now + 1);
                    world.rows.push(Row { id, since, gone: None, silently: false });
                }
                Happens::Delete(_) | Happens::DeleteSilently(_) if world.rows.is_empty() => {}
                Happens::Delete(ref at) | Happens::DeleteSilently(ref at) => {
                    let (silently, now) = (matches!(event, Happens::DeleteSilently(_)), world.now + 1);
                    let at = at.index(world.rows.len());
                    let row = &mut world.rows[at];
                    if row.gone.is_none() {
                        (row.gone, row.silently) = (Some(now), silently);
                    }
                }
                Happens::Forget(which) => world.forgets = which,
                Happens::Remember if world.forgets != 0 => {
                    (world.forgets, world.sane_since) = (0, world.now);
                }
                Happens::Remember => {}
                Happens::Polls(count) => polls = count,
            }
            for _ in 0..polls {
                world.poll();
                for row in &world.rows {
                    let (stands, now) = (world.stands(row), world.now);
                    if stands {
                        known.insert(row.id);
                    }
                    match row.gone {
                        None => prop_assert!(stands || !known.contains(&row.id), "{} was let go", row.id),
                        Some(gone) if world.forgets == 0 && now > gone.max(world.sane_since) + in_time => {
                            prop_assert!(!stands, "{} still stands, {} after its end", row.id, now - gone);
                        }
                        Some(_) => {}
                    }
                    let sane = row.since.max(world.sane_since);
                    if row.gone.is_none() && world.forgets == 0 && now > sane + RESYNC + POLL {
                        prop_assert!(stands, "{} never came", row.id);
                    }
                }
            }
        }
    }

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
        let nets: Vec<IpNet> = nets.collect();
        // The longest network has the longest to live, so that each look-up shows which ones it found.
        let lives = |net: &IpNet| 1000 + u64::from(net.prefix_len());
        let (set, now) = set_of(nets.iter().zip(1..).map(|(net, id)| decision(id, &net.to_string(), "ban", lives(net))));
        let ends = nets.iter().flat_map(|net| [net.network(), net.broadcast()]);
        let visitors = visitors.iter().map(|(v4, head, tail)| address(*v4, *head, *tail));
        for visitor in visitors.chain(ends).map(|visitor| visitor.to_canonical()) {
            let found = set.strongest(visitor, now).map(|standing| standing.value);
            let longest = nets.iter().filter(|net| net.contains(&visitor)).max_by_key(|net| net.prefix_len());
            prop_assert_eq!(found, longest.copied(), "{}", visitor);
        }
    }
}
