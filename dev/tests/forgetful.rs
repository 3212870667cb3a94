//! What do visitors notice of a LAPI whose database fails? LAPI 1.7.8 and newer then answer 200 with an empty or a short list,
//! which lets nobody go. A visitor whose decision was truly deleted is free in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use dev::Verdict::{Ban, Captcha, Welcome};
use dev::{App, FakeServer, KEY, Lapi, Reply, Request, Seen, eventually};
use serde_json::{Value, json};

/// Hands the relay's request on to LAPI, and gives LAPI's answer.
fn hand_on(lapi: &Lapi, seen: &Seen) -> Reply {
    let answer = Request::new(lapi.address(), "GET", &seen.target).header("X-Api-Key", KEY).send();
    Reply::new(answer.status, "application/json", answer.body)
}

/// A relay in front of the real LAPI. While `forgets` is true, `instead` answers.
fn relay(lapi: &Arc<Lapi>, forgets: &Arc<AtomicBool>, instead: fn(&Lapi, &Seen) -> Reply) -> FakeServer {
    let (lapi, forgets) = (lapi.clone(), forgets.clone());
    FakeServer::start(move |seen| if forgets.load(SeqCst) { instead(&lapi, seen) } else { hand_on(&lapi, seen) })
}

/// Answers as LAPI does when its whole database fails.
fn nothing(_: &Lapi, seen: &Seen) -> Reply {
    if seen.is_question() { Reply::error(500) } else { Reply::json(&json!({ "new": [], "deleted": [] })) }
}

/// Answers as LAPI does when its database fails after a part of the list. Questions about one value are answered.
fn the_first_ones(lapi: &Lapi, seen: &Seen) -> Reply {
    if seen.is_question() {
        return hand_on(lapi, seen);
    }
    let answer = Request::new(lapi.address(), "GET", &seen.target).header("X-Api-Key", KEY).send().json();
    let new: Vec<Value> = answer["new"].as_array().into_iter().flatten().take(1).cloned().collect();
    Reply::json(&json!({ "new": new, "deleted": [] }))
}

/// How often the application has asked for all decisions.
fn full(relay: &FakeServer) -> usize {
    relay.seen().iter().filter(|seen| seen.asks_for_all()).count()
}

#[track_caller]
fn nobody_is_let_go_while_lapi_forgets(instead: fn(&Lapi, &Seen) -> Reply, told: &str) {
    let (lapi, forgets) = (Arc::new(Lapi::start()), Arc::new(AtomicBool::new(false)));
    lapi.ban("192.0.2.1");
    lapi.ban_range("198.51.100.0/24");
    lapi.captcha("2001:db8::1");
    let relay = relay(&lapi, &forgets, instead);
    let app = App::polling(&relay.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "2s")]);
    let all_stand = || {
        let met = ["192.0.2.1", "198.51.100.7", "2001:db8::1", "192.0.2.3"].map(|address| app.verdict(address));
        assert_eq!(met, [Ban, Ban, Captcha, Welcome], "{}", app.log());
    };
    all_stand();
    forgets.store(true, SeqCst);
    let so_far = full(&relay);
    eventually("three full answers that lack something", || {
        all_stand();
        full(&relay) >= so_far + 3
    });
    eventually("the log tells what is kept and why", || app.logged(told) == 1);
    app.tells(" is lost: ", 1);
    lapi.ban("192.0.2.9");
    forgets.store(false, SeqCst);
    app.eventually("192.0.2.9", Ban);
    all_stand();
    eventually("the log tells of the return", || app.logged(" is back after ") == 1);
}

#[test]
fn nobody_is_let_go_while_lapi_answers_with_an_empty_list() {
    nobody_is_let_go_while_lapi_forgets(nothing, " is lost: its full answer lacks 3 of 3 decisions");
}

#[test]
fn nobody_is_let_go_while_lapi_answers_with_a_part_of_its_list() {
    nobody_is_let_go_while_lapi_forgets(the_first_ones, " is lost: its full answer lacks 2 of 3 decisions");
}

/// Decisions in spellings that LAPI hands on as typed. Each has an address that it stands against.
const SPELLINGS: [(&[&str], &str); 5] = [
    (&["--ip", "2001:DB8:0:0::0:7"], "2001:db8::7"),
    (&["--ip", "::ffff:192.0.2.77"], "192.0.2.77"),
    (&["--range", "203.0.113.77/24"], "203.0.113.1"),
    (&["--range", "2001:db8:1::5/48"], "2001:db8:1:2::3"),
    (&["--scope", "range", "--value", "192.0.2.9"], "192.0.2.9"),
];

#[test]
fn a_question_about_one_decision_finds_it_in_every_spelling() {
    for (options, struck) in SPELLINGS {
        let (lapi, forgets) = (Arc::new(Lapi::start()), Arc::new(AtomicBool::new(false)));
        lapi.decide(options);
        let relay =
            relay(
                &lapi,
                &forgets,
                |lapi, seen| {
                    if seen.is_question() { hand_on(lapi, seen) } else { Reply::decisions(&[], &[]) }
                },
            );
        let app = App::polling(&relay.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "1s")]);
        assert_eq!(app.verdict(struck), Ban, "{options:?}");
        forgets.store(true, SeqCst);
        eventually("LAPI contradicts itself", || app.logged(" stands. All of them are kept") > 0);
        assert_eq!(app.verdict(struck), Ban, "{options:?}: {}", app.log());
    }
}

#[test]
fn what_was_deleted_without_a_word_ends_in_every_spelling() {
    let lapi = Lapi::start();
    SPELLINGS.iter().for_each(|(options, _)| lapi.decide(options));
    let app = App::polling(lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "3s")]);
    SPELLINGS.iter().for_each(|(options, struck)| assert_eq!(app.verdict(struck), Ban, "{options:?}"));
    // LAPI never tells bouncers about deleted alerts.
    lapi.cscli(&["alerts", "delete", "--all"]);
    SPELLINGS.iter().for_each(|(_, struck)| app.eventually(struck, Welcome));
    app.tells("LAPI's full answer lacks 5 of 5 decisions", 1);
    assert_eq!(app.logged(" is lost: "), 0, "{}", app.log());
}

#[test]
fn what_is_deleted_while_lapi_cannot_be_reached_ends_with_its_next_full_answer() {
    let (lapi, away) = (Arc::new(Lapi::start()), Arc::new(AtomicBool::new(false)));
    lapi.ban("192.0.2.1");
    lapi.ban("192.0.2.2");
    let relay = relay(&lapi, &away, |_, _| Reply::error(502));
    let app = App::polling(&relay.url(), &[]);
    away.store(true, SeqCst);
    eventually("the log tells of the loss", || app.logged(" is lost: ") > 0);
    lapi.revoke(&["--ip", "192.0.2.1"]);
    away.store(false, SeqCst);
    app.eventually("192.0.2.1", Welcome);
    assert_eq!(app.verdict("192.0.2.2"), Ban);
    assert!(!relay.seen().iter().any(Seen::is_question), "LAPI had named it as deleted");
}
