//! Does the bouncer keep asking LAPI, and does the log tell the operator how things are? At the launch, while LAPI
//! hangs, and if nobody reads the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use dev::Verdict::{Ban, NotYet, Welcome};
use dev::{App, FakeServer, KEY, Lapi, Reply, Seen, ban, closed_port, eventually, eventually_within, standing};
use serde_json::{Value, json};

/// As behind a gateway whose time limit is shorter than LAPI needs for a full answer.
#[test]
fn new_bans_arrive_while_no_full_answer_does() {
    let (lapi, news) = (FakeServer::start(standing(vec![ban(1, "192.0.2.1")])), Arc::new(AtomicU32::new(2)));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "1s")]);
    let latest = news.clone();
    lapi.answers(move |seen| match seen.asks_for_all() {
        true => Reply::error(504),
        false => Reply::decisions(&[ban(latest.load(SeqCst), &format!("192.0.2.{}", latest.load(SeqCst)))], &[]),
    });
    eventually("the log tells of the loss", || app.logged(" is lost: status 504") == 1);
    for n in 3..6 {
        news.store(n, SeqCst);
        app.eventually(&format!("192.0.2.{n}"), Ban);
    }
    app.tells(" is lost: ", 1);
    app.tells(" is back after ", 0);
    lapi.answers(standing(vec![ban(5, "192.0.2.5")]));
    eventually("the log tells of the return", || app.logged(" is back after ") == 1);
}

/// As where LAPI flushes its oldest alerts without end: each full answer lacks 12 decisions more.
#[test]
fn a_lapi_whose_decisions_keep_vanishing_is_asked_for_changes_too_and_no_other_instance_is_suspected() {
    let vanished = Arc::new(AtomicU32::new(0));
    let (gone, all) = (vanished.clone(), (1..=3000).map(|n| ban(n, &format!("10.0.{}.{}", n / 200, n % 200))));
    let all: Vec<Value> = all.collect();
    let lapi = FakeServer::start(move |seen| {
        let left = &all[(gone.load(SeqCst) as usize).min(all.len())..];
        if seen.asks_for_all() {
            gone.fetch_add(12, SeqCst);
        }
        Reply::standing(seen, left)
    });
    let settings = [("CROWDSEC_UPDATE_FREQUENCY", "300ms"), ("CROWDSEC_RESYNC_FREQUENCY", "6s")];
    let app = App::polling(&lapi.url(), &settings);
    let asked = |all: bool| lapi.seen().iter().filter(|seen| !seen.is_question() && seen.asks_for_all() == all).count();
    eventually("the first decisions have ended", || {
        app.logged(", 12 ended early") > 3 || app.verdict("10.0.0.1") == Welcome
    });
    let (full, changes) = (asked(true), asked(false));
    eventually("twenty more polls", || asked(true) + asked(false) > full + changes + 20);
    assert!(asked(false) - changes >= 10, "{} times for everything", asked(true) - full);
    assert_eq!(app.logged("Does another instance use the same key?"), 0, "{}", app.log());
}

// --- the launch ---

/// As after a boot: CrowdSec comes some seconds after the application.
#[test]
fn a_lapi_that_starts_after_the_application_is_waited_for() {
    let mut lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    lapi.stop();
    let url = lapi.url().to_string();
    let launches = ["abort", "closed"].map(|word| {
        let url = url.clone();
        std::thread::spawn(move || {
            let settings = [("CROWDSEC_ON_STARTUP_FAILURE", word), ("CROWDSEC_UPDATE_FREQUENCY", "1h")];
            let app = App::polling(&url, &settings);
            assert_eq!((app.verdict("192.0.2.1"), app.verdict("192.0.2.2")), (Ban, Welcome), "{word}");
            app.tells("does not answer yet: nobody listens there", 1);
        })
    });
    std::thread::sleep(Duration::from_secs(3));
    lapi.start_again();
    launches.into_iter().for_each(|launch| launch.join().expect("a launch"));
}

#[test]
fn whatever_update_frequency_says_the_first_answer_is_asked_for_each_second() {
    let lapi = FakeServer::start(|_| Reply::error(500));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_UPDATE_FREQUENCY", "1h")]);
    eventually("four polls", || lapi.seen().len() >= 4);
    lapi.answers(standing(vec![ban(1, "192.0.2.1")]));
    app.eventually("192.0.2.1", Ban);
    eventually("the log tells of it", || app.logged(" is back after ") == 1);
}

#[test]
fn while_lapi_was_never_heard_the_log_says_each_minute_who_is_let_in() {
    let nowhere = format!("http://{}", closed_port());
    let open = App::polling(&nowhere, &[]);
    let closed = [("CROWDSEC_ON_STARTUP_FAILURE", "closed"), ("CROWDSEC_STARTUP_TIMEOUT", "1s")];
    let closed = App::polling(&nowhere, &closed);
    open.tells("EVERYBODY IS LET IN", 1);
    closed.tells("VISITORS GET 503", 1);
    assert_eq!((open.verdict("192.0.2.1"), closed.verdict("192.0.2.1")), (Welcome, NotYet));
    eventually_within(Duration::from_secs(150), "a second line each", || {
        open.logged("EVERYBODY IS LET IN") == 2 && closed.logged("VISITORS GET 503") == 2
    });
}

#[test]
fn a_refused_key_at_the_launch_is_one_warning_with_the_next_step() {
    let lapi = Lapi::start();
    let app =
        App::polling(lapi.url(), &[("CROWDSEC_API_KEY", "not-the-key"), ("CROWDSEC_ON_STARTUP_FAILURE", "closed")]);
    let log = app.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("403: LAPI refuses the key")).collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].starts_with("Warning: ") && told[0].contains("`cscli bouncers add`"), "{log}");
    assert!(!log.contains("not-the-key"), "{log}");
}

#[test]
fn one_line_at_the_launch_says_address_lapi_decisions_and_what_is_enforced() {
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1"), ban(2, "192.0.2.2")]));
    let own = ("CROWDSEC_DECISIONS", r#"[{ value = "192.0.2.9", type = "ban" }]"#);
    let line = |app: &App| {
        let (log, address) = (app.log(), format!("Listening on {}.", app.address()));
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&address)).collect();
        assert_eq!(lines.len(), 1, "{log}");
        lines[0].to_string()
    };
    let app = App::polling(&lapi.url(), &[own]);
    let told = line(&app);
    for word in ["3 decisions in force", lapi.url().as_str(), "1 of them your own", "bans and captchas are enforced"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let app = App::polling(&format!("http://{}", closed_port()), &[own]);
    assert!(line(&app).contains("has not answered yet: 1 decision of your own"), "{}", line(&app));
    let app = App::start(&[own]);
    assert!(line(&app).contains("No CrowdSec: 1 decision of your own in force"), "{}", line(&app));
    // What the release profile shows: warnings, errors, and this line.
    let app = App::polling(&lapi.url(), &[own, ("ROCKET_LOG_LEVEL", "critical")]);
    assert!(line(&app).contains("3 decisions in force"), "{}", line(&app));
    assert!(!app.log().contains(KEY));
}

// --- a LAPI that hangs ---

/// The fake LAPI never answers the second question, as if it had frozen, and answers all that come after it.
#[test]
fn a_lapi_that_froze_and_moved_is_found_after_the_time_limit_of_a_delta() {
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1")]));
    let app = App::polling(&lapi.url(), &[]);
    let moved = AtomicBool::new(false);
    lapi.answers(move |seen| match moved.swap(true, SeqCst) {
        false => Reply::silence(),
        true => standing(vec![ban(1, "192.0.2.1"), ban(2, "192.0.2.2")])(seen),
    });
    // A delta has fifteen seconds; a full answer, and any answer before, two minutes.
    eventually_within(Duration::from_secs(60), "the next ban", || app.verdict("192.0.2.2") == Ban);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    let asked: Vec<bool> = lapi.seen().iter().map(Seen::asks_for_all).collect();
    assert!(asked.windows(2).any(|two| two == [false, true]), "after the delta everything is asked for: {asked:?}");
    app.tells(" is lost: LAPI took too long", 1);
}

#[test]
fn a_full_answer_may_take_longer_than_a_delta() {
    let slow = |seen: &Seen| {
        let pause = if seen.asks_for_all() { Duration::from_secs(18) } else { Duration::ZERO };
        standing(vec![ban(1, "192.0.2.1")])(seen).after(pause)
    };
    let app = App::polling(&FakeServer::start(slow).url(), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
}

/// As at LAPI's own restart: one poll fails, and the next asks for everything, which takes longer than three polls.
#[test]
fn the_health_check_is_patient_with_a_full_answer_after_a_poll_that_failed() {
    let slow = |seen: &Seen| {
        let pause = if seen.asks_for_all() { Duration::from_secs(6) } else { Duration::ZERO };
        standing(vec![ban(1, "192.0.2.1")])(seen).after(pause)
    };
    let lapi = FakeServer::start(slow);
    let app = App::polling(&lapi.url(), &[]);
    let failed = AtomicBool::new(false);
    lapi.answers(move |seen| if failed.swap(true, SeqCst) { slow(seen) } else { Reply::error(500) });
    eventually("everything is asked for again", || lapi.seen().iter().filter(|seen| seen.asks_for_all()).count() == 2);
    let asked = lapi.seen().len();
    eventually("all of it came", || {
        assert_eq!(app.get("/crowdsec/health").send().json(), json!({ "status": "ok" }));
        lapi.seen().len() > asked
    });
}

#[test]
fn the_health_check_tells_of_a_lapi_that_froze_and_of_its_return() {
    let mut lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let app = App::polling(lapi.url(), &[]);
    lapi.freeze();
    let health = || app.get("/crowdsec/health").send();
    // The decisions turn stale after five seconds (three polls, plus two), before a delta fails after fifteen.
    eventually("the decisions are stale", || health().status == 503);
    assert_eq!(health().json(), json!({ "status": "stale" }));
    assert_eq!(app.logged(" is lost: "), 0, "{}", app.log());
    assert_eq!((app.verdict("192.0.2.1"), app.verdict("192.0.2.2")), (Ban, Welcome), "it changes nothing for visitors");
    eventually("the log tells of it", || app.logged(" is lost: LAPI took too long") == 1);
    lapi.kill();
    lapi.start_again();
    eventually("the decisions are fresh", || health().status == 200);
}

// --- a log that nobody reads ---

#[test]
fn decisions_arrive_where_standard_output_is_a_closed_pipe_and_sigterm_ends_it_all() {
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1")]));
    // Rocket's lines about single requests are left out: they are not ours.
    let app = App::polling(&lapi.url(), &[("ROCKET_LOG_LEVEL", "critical")]);
    app.close_stdout(|| assert_eq!(app.verdict("192.0.2.1"), Ban));
    // LAPI is lost and comes back: the log would tell both.
    lapi.answers(|_| Reply::error(500));
    let asked = lapi.seen().len();
    eventually("two polls that fail", || lapi.seen().len() >= asked + 2);
    lapi.answers(standing(vec![ban(1, "192.0.2.1"), ban(2, "192.0.2.2"), ban(3, "192.0.2.3")]));
    let known = || app.get("/").from("192.0.2.99").send().text().contains("<dd>3</dd>");
    eventually("three decisions are known", known);
    assert_eq!(app.stop().status.code(), Some(0));
}

// --- a scanner ---

/// The time between two usual polls, half an hour, is longer than any test waits.
#[test]
fn whoever_scans_meets_the_ban_long_before_the_next_usual_poll() {
    let lapi = Lapi::start();
    let settings = [("CROWDSEC_UPDATE_FREQUENCY", "30m"), ("CROWDSEC_RESYNC_FREQUENCY", "2h")];
    for scan in ["/nowhere", "/sign-in"] {
        let app = App::polling(lapi.url(), &settings);
        let (scanner, other) = ("192.0.2.1", "192.0.2.2");
        let probe = |address: &str| match scan {
            "/sign-in" => {
                app.request("POST", scan).from(address).form(&[("user", "a"), ("password", "b")]).send().status
            }
            _ => app.get(scan).from(address).send().status,
        };
        eventually("it meets the ban", || {
            // CrowdSec bans the scanner in the middle of the scan.
            let status = probe(scanner);
            lapi.ban(scanner);
            status == 403
        });
        assert_eq!(app.verdict(other), Welcome);
        lapi.revoke(&["--ip", scanner]);
    }
}
