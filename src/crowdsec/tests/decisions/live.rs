//! In live mode, what does an answer about one address end?

use std::net::IpAddr;

use super::{decision, set_of, strongest};
use crate::crowdsec::decisions::{Decision, Entry, Taken};

/// Two questions are under way, and the answer that LAPI gave first arrives last.
#[test]
fn an_answer_about_one_address_ends_nothing_that_another_one_has_brought_since_it_was_asked() {
    let (set, now) = set_of([]);
    let [first, second] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse::<IpAddr>().unwrap());
    let answer = |before, decisions: &[Decision]| {
        let entries = decisions.iter().cloned().map(Entry::New).collect();
        set.changes(now).take_answer(before, entries, &mut Taken::default());
    };
    let stands = |address| strongest(&set, address, now).is_some();
    let range = decision(1, "192.0.2.0/24", "ban", 600);
    let asked = [first, second].map(|address| set.held_against(Some(address)));
    let [asked_first, asked_second] = asked;
    answer(asked_second, std::slice::from_ref(&range));
    answer(asked_first, &[]);
    assert!(stands(first) && stands(second));
    // A decision that was held when LAPI was asked, and is not in the answer, ends.
    answer(set.held_against(Some(first)), &[decision(2, "192.0.2.1", "captcha", 600)]);
    assert!(stands(first) && !stands(second));
    answer(set.held_against(Some(first)), &[]);
    assert!(!stands(first));
}

/// Whoever adds decisions may give each a reason of its own.
#[test]
fn a_set_that_no_full_answer_ever_replaces_keeps_no_source_that_nothing_comes_from() {
    let (set, now) = set_of([]);
    let address = "192.0.2.1".parse::<IpAddr>().unwrap();
    for number in 0..1000 {
        let mut decision = decision(number, "192.0.2.1", "ban", 600);
        decision.source.scenario = format!("ticket {number}");
        let before = set.held_against(Some(address));
        set.changes(now).take_answer(before, vec![Entry::New(decision)], &mut Taken::default());
        assert_eq!(strongest(&set, address, now).unwrap().source.scenario, format!("ticket {number}"));
    }
    let (mut sources, mut decisions) = (0, 0);
    set.by_source(|_, _, counts| {
        sources += 1;
        decisions += counts.iter().sum::<usize>();
    });
    assert_eq!((sources, decisions), (1, 1));
}
