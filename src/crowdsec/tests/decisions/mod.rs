//! Which decisions stand against whom, and what ends them?

mod counted;
mod forgetting;
mod live;
mod model;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::crowdsec::decisions::{
    Country, Decision, DecisionSet, Entry, MOST_ON_ONE_VALUE, Remediation, Source, Standing, Taken, Types, Value,
    network,
};

fn types() -> Types {
    Types { captcha: true, ..Types::default() }
}

/// The greatest decision against a visitor.
pub fn strongest(set: &DecisionSet, visitor: IpAddr, now: Instant) -> Option<Standing> {
    set.against(visitor, || None, || None, now).into_iter().next()
}

/// The least time between the two answers that end a missing decision, in tenths of a second.
const APART: u64 = 300;

/// A decision as LAPI sends it, with the time it has left in tenths of a second.
fn decision(id: u64, value: &str, kind: &str, tenths: u64) -> Decision {
    scoped(id, if value.contains('/') { "Range" } else { "Ip" }, value, kind, tenths)
}

fn scoped(id: u64, scope: &str, value: &str, kind: &str, tenths: u64) -> Decision {
    Decision {
        id: (id > 0).then_some(id),
        source: Source {
            origin: "cscli".into(),
            scenario: format!("scenario {}", id % 3),
            scope: scope.into(),
            kind: kind.into(),
        },
        value: Value::read(scope, value).unwrap(),
        duration: Duration::from_millis(tenths * 100),
    }
}

fn tenths(tenths: u64) -> Duration {
    Duration::from_millis(tenths * 100)
}

fn take_all(set: &Arc<DecisionSet>, now: Instant, decisions: impl IntoIterator<Item = Decision>) -> Taken {
    let mut everything = set.everything(now);
    decisions.into_iter().for_each(|decision| everything.take(Entry::New(decision)));
    everything.take_over(now, tenths(APART)).settle(true)
}

fn take_changes(set: &Arc<DecisionSet>, now: Instant, entries: impl IntoIterator<Item = Entry>) -> Taken {
    let mut changes = set.changes(now);
    entries.into_iter().for_each(|entry| changes.take(entry));
    changes.complete()
}

fn set_of(decisions: impl IntoIterator<Item = Decision>) -> (Arc<DecisionSet>, Instant) {
    let start = Instant::now();
    let set = Arc::new(DecisionSet::new(start, types()));
    take_all(&set, start, decisions);
    (set, start)
}

fn many(ids: std::ops::Range<u64>) -> impl Iterator<Item = Decision> {
    ids.map(|id| decision(id, &format!("192.0.{}.{}", id / 256, id % 256), "ban", 36_000))
}

fn against(set: &DecisionSet, visitor: &str, now: Instant) -> Option<(Remediation, Option<u64>)> {
    strongest(set, visitor.parse().unwrap(), now).map(|standing| (standing.remediation, standing.id))
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
        let mut short = set.everything(start + tenths(after));
        short.take(Entry::New(decision(9, "198.51.100.7", "ban", 100)));
        let taken = short.take_over(start + tenths(after), tenths(APART)).settle(false);
        assert_eq!((taken.kept, taken.kept_until), (2, None));
        assert!(against(&set, "198.51.100.7", start + tenths(after)).is_some());
    }
    // From here on, two confirmed answers in a row are needed.
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
    let mut everything = set.everything(now);
    everything.take(Entry::New(many(1..2).next().unwrap()));
    // The decision that the answer names as new as well stands.
    many(1..3).for_each(|gone| everything.take(Entry::Deleted(gone)));
    let taken = everything.take_over(now, tenths(APART)).settle(true);
    assert_eq!((taken.ended, taken.kept, set.len()), (1, 1, 2));
    assert!(against(&set, "192.0.0.2", now).is_none());
}

#[test]
fn no_answer_ends_the_operators_own_decisions_and_their_allow_outweighs_a_ban() {
    let now = Instant::now();
    let mut set = DecisionSet::new(now, types());
    set.pin("192.0.2.0/24".parse().unwrap(), Remediation::Allow, "the office");
    set.pin("198.51.100.7/32".parse().unwrap(), Remediation::Ban, "");
    let set = Arc::new(set);
    take_all(&set, now, [decision(1, "192.0.2.1", "ban", 100)]);
    let of = |visitor: &str| strongest(&set, visitor.parse().unwrap(), now + Duration::from_secs(1 << 30)).unwrap();
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
    let set = Arc::new(DecisionSet::new(start, Types::default()));
    let mut answer = set.changes(start);
    answer.take(Entry::New(decision(1, "192.0.2.1", "captcha", 100)));
    assert_eq!(against(&set, "192.0.2.1", start), Some((Remediation::Ban, Some(1))));
}

#[test]
fn what_stands_is_known_with_its_id_origin_and_scenario() {
    let (set, now) = set_of([decision(7, "192.0.2.0/24", "ban", 100), decision(0, "192.0.3.0/24", "ban", 100)]);
    let standing = strongest(&set, "192.0.2.1".parse().unwrap(), now).unwrap();
    assert_eq!((standing.id, standing.value.to_string().as_str()), (Some(7), "192.0.2.0/24"));
    assert_eq!((standing.source.origin.as_str(), standing.source.scenario.as_str()), ("cscli", "scenario 1"));
    assert_eq!(standing.expires_in, Some(Duration::from_secs(10)));
    assert_eq!(standing.name(), "decision 7");
    let without_id = strongest(&set, "192.0.3.1".parse().unwrap(), now).unwrap();
    assert_eq!(without_id.name(), "a decision without an id");
}

#[test]
fn where_a_visitor_is_counts_beside_their_address_and_is_asked_only_where_it_matters() {
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let (set, now) = set_of([decision(1, "192.0.2.0/24", "captcha", 900), scoped(2, "username", "alice", "ban", 900)]);
    let nobody_asks = |set: &DecisionSet| set.against(address, || panic!("country"), || panic!("system"), now).len();
    assert_eq!(nobody_asks(&set), 1);
    let new = [scoped(3, "country", " fr ", "ban", 100), scoped(4, "as", "as 64500", "ban", 200)];
    take_changes(&set, now, new.clone().map(Entry::New));
    let of = |country: &str, system| {
        let standing = set.against(address, || Country::read(country), || system, now);
        standing.into_iter().map(|standing| standing.id.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of("FR", Some(64500)), [4, 3, 1], "of the greatest, the longest to live comes first");
    assert_eq!((of("DE", Some(64501)), of("", None)), (vec![1], vec![1]));
    take_changes(&set, now, new.map(Entry::Deleted));
    assert_eq!(nobody_asks(&set), 1);
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
        let address = format!("192.0.{}.{}", id / 256, id % 256);
        assert_eq!(against(&set, &address, now).is_some(), stands, "{id}");
    }
}

#[test]
fn of_too_many_decisions_on_one_address_the_greatest_are_held() {
    let most = MOST_ON_ONE_VALUE as u64;
    let captchas: Vec<_> = (1..=40_000).map(|id| decision(id, "192.0.2.1", "captcha", 1000 + id)).collect();
    let (set, now) = set_of(captchas.clone());
    assert_eq!(set.len() as u64, most);
    assert_eq!(against(&set, "192.0.2.1", now), Some((Remediation::Captcha, Some(40_000))));
    let ban = decision(50_000, "192.0.2.1", "ban", 1000);
    let taken = take_changes(&set, now, [Entry::New(ban.clone())]);
    assert_eq!((taken.left_out, taken.first_left_out), (1, network("192.0.2.1").map(Value::Network)));
    assert_eq!(against(&set, "192.0.2.1", now), Some((Remediation::Ban, Some(50_000))));
    // The captchas that are left out are not missing, in whichever order the answer names them. The ban, which it lacks,
    // is.
    let mut again = set.everything(now);
    captchas.iter().rev().for_each(|captcha| again.take(Entry::New(captcha.clone())));
    let compared = again.take_over(now, tenths(APART));
    assert_eq!(compared.to_confirm().collect::<Vec<_>>(), [(ban.value.clone(), ban.key())]);
    compared.settle(true);
    assert_eq!(against(&set, "192.0.2.1", now), Some((Remediation::Ban, Some(50_000))));
    // Nor do left-out decisions count as added, however often they come.
    assert_eq!(take_all(&set, now, captchas.into_iter().chain([ban.clone()])).added(), 0);
    assert_eq!(set.len() as u64, most);
    let captchas = (40_001 - most..=40_000).map(|id| decision(id, "192.0.2.1", "captcha", 0));
    take_changes(&set, now, captchas.chain([ban]).map(Entry::Deleted));
    assert_eq!(set.len(), 0);
}
