//! What becomes of the visitors while CrowdSec is away, slow, wrong, or back again?

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use dev::Verdict::{Ban, NotYet, Welcome};
use dev::{App, FakeServer, Folder, KEY, Lapi, Reply, Request, Seen, ban, closed_port, eventually, standing};
use serde_json::{Value, json};

// --- the launch ---

#[test]
fn with_a_wrong_key_the_application_lets_visitors_in_by_default() {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let app = App::polling(lapi.url(), &[("CROWDSEC_API_KEY", "not-the-key")]);
    assert_eq!(app.verdict("192.0.2.1"), Welcome);
    eventually("the log says what LAPI answered", || app.logged("403") > 0);
    assert!(!app.log().contains("not-the-key"), "a key never stands in the log");
}

#[test]
fn with_a_wrong_key_a_closed_application_answers_503() {
    let lapi = Lapi::start();
    let app =
        App::polling(lapi.url(), &[("CROWDSEC_API_KEY", "not-the-key"), ("CROWDSEC_ON_STARTUP_FAILURE", "closed")]);
    let answer = app.get("/").from("192.0.2.1").send();
    assert_eq!(answer.status, 503);
    assert!(answer.header("Retry-After").is_some_and(|v| v.parse::<u32>().is_ok()), "{}", answer.everything());
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
}

/// The launch ends with a failure, and one line of the log says why.
#[track_caller]
fn aborts(lapi_url: &str, settings: &[(&str, &str)], because: &str) {
    let abort = [("CROWDSEC_ON_STARTUP_FAILURE", "abort"), ("CROWDSEC_STARTUP_TIMEOUT", "1s")];
    let settings = [&abort, settings].concat();
    let ended = App::fails_to_start(&App::usual(lapi_url, &settings));
    assert!(!ended.status.success());
    assert!(ended.log.lines().any(|line| line.contains("LAPI") && line.contains(because)), "{}", ended.log);
    assert!(!ended.log.contains(KEY));
}

#[test]
fn the_launch_is_aborted_on_a_wrong_key_where_the_operator_says_so() {
    let lapi = Lapi::start();
    aborts(lapi.url(), &[("CROWDSEC_API_KEY", "not-the-key")], "403");
}

#[test]
fn the_launch_is_aborted_on_a_refused_connection_where_the_operator_says_so() {
    aborts(&format!("http://{}", closed_port()), &[], "nobody listens there");
}

#[test]
fn the_launch_is_aborted_on_a_silent_lapi_after_the_startup_timeout() {
    let lapi = FakeServer::start(|_| Reply::silence());
    aborts(&lapi.url(), &[], "LAPI took longer than startup_timeout");
}

#[test]
fn a_silent_lapi_holds_the_launch_up_for_the_startup_timeout_alone() {
    let lapi = FakeServer::start(|_| Reply::silence());
    let app = App::polling(&lapi.url(), &[("CROWDSEC_STARTUP_TIMEOUT", "1s")]);
    assert_eq!(app.verdict("192.0.2.1"), Welcome);
    assert_eq!(app.get("/crowdsec/health").send().status, 503);
}

/// LAPI is down at the launch, and starts later.
fn launched_before_lapi(on_startup_failure: &str) -> (Lapi, App) {
    let lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    lapi.stop();
    let settings = [("CROWDSEC_ON_STARTUP_FAILURE", on_startup_failure), ("CROWDSEC_STARTUP_TIMEOUT", "1s")];
    let app = App::polling(lapi.url(), &settings);
    (lapi, app)
}

#[test]
fn an_open_application_lets_visitors_in_until_lapi_comes() {
    let (mut lapi, app) = launched_before_lapi("open");
    assert_eq!(app.verdict("192.0.2.1"), Welcome);
    assert_eq!(app.verdict("192.0.2.2"), Welcome);
    lapi.start_again();
    app.eventually("192.0.2.1", Ban);
    assert_eq!(app.verdict("192.0.2.2"), Welcome);
}

#[test]
fn a_closed_application_answers_503_until_lapi_comes() {
    let (mut lapi, app) = launched_before_lapi("closed");
    assert_eq!(app.verdict("192.0.2.1"), NotYet);
    assert_eq!(app.verdict("192.0.2.2"), NotYet);
    let health = app.get("/crowdsec/health").send();
    assert_eq!((health.status, health.json()), (503, json!({ "status": "starting" })));
    lapi.start_again();
    app.eventually("192.0.2.2", Welcome);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    let health = app.get("/crowdsec/health").send();
    assert_eq!((health.status, health.json()), (200, json!({ "status": "ok" })));
}

/// While its database fails, LAPI 1.7.8 or newer answers a poll with an empty list, and a question about an address with an
/// error.
#[test]
fn a_closed_application_does_not_open_on_the_empty_list_of_a_lapi_whose_database_fails() {
    let folder = Folder::empty();
    let snapshot = folder.path("decisions.snapshot");
    let snapshot = snapshot.to_str().expect("a plain path");
    let lapi = FakeServer::start(|_| Reply::decisions(&[], &[]));
    let settings = [("CROWDSEC_ON_STARTUP_FAILURE", "closed"), ("CROWDSEC_STARTUP_TIMEOUT", "2s")];
    let settings = [settings.as_slice(), &[("CROWDSEC_SNAPSHOT", snapshot)]].concat();
    // LAPI's database fails at the question (500), or already at the search for our key (403). From the second launch on, a
    // snapshot might stand in.
    for status in [500, 403, 500] {
        lapi.answers(move |seen| if seen.is_question() { Reply::error(status) } else { Reply::decisions(&[], &[]) });
        let app = App::polling(&lapi.url(), &settings);
        assert_eq!(app.verdict("192.0.2.2"), NotYet);
        assert_eq!(app.get("/crowdsec/health").send().status, 503);
        assert!(app.logged("its full answer is empty, and asked about 127.0.0.1/32, it says: ") > 0, "{}", app.log());
        app.stop();
    }
    let app = App::polling(&lapi.url(), &settings);
    lapi.answers(standing(vec![ban(1, "192.0.2.1")]));
    app.eventually("192.0.2.2", Welcome);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    eventually("a snapshot", || Path::new(snapshot).exists());
    drop(app);
    // LAPI has no decisions, and nothing fails.
    lapi.answers(standing(Vec::new()));
    std::fs::remove_file(snapshot).expect("the snapshot of before");
    assert_eq!(App::polling(&lapi.url(), &settings).verdict("192.0.2.2"), Welcome);
}

// --- LAPI comes and goes ---

#[test]
fn bans_outlive_a_stopped_lapi_and_new_ones_arrive_when_it_is_back() {
    let mut lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let app = App::polling(lapi.url(), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);

    lapi.stop();
    eventually("the log tells of the loss", || lost(&app) > 0);
    sleep(Duration::from_secs(3));
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert_eq!((lost(&app), back(&app)), (1, 0), "one line, however many polls fail");

    lapi.start_again();
    lapi.ban("192.0.2.2");
    app.eventually("192.0.2.2", Ban);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    eventually("the log tells of the return", || back(&app) > 0);
    app.catch_up(&lapi);
    app.tells(" is lost: ", 1);
    app.tells(" is back after ", 1);
}

fn lost(app: &App) -> usize {
    app.logged(" is lost: ")
}

fn back(app: &App) -> usize {
    app.logged(" is back after ")
}

#[test]
fn the_health_check_tells_when_lapi_has_been_away_for_long() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[]);
    lapi.stop();
    let health = || app.get("/crowdsec/health").send();
    eventually("the decisions are stale", || health().status == 503);
    assert_eq!(health().json(), json!({ "status": "stale" }));
    assert_eq!(app.verdict("192.0.2.2"), Welcome, "which shuts out nobody");
}

#[test]
fn a_ban_that_vanishes_while_lapi_cannot_be_reached_ends_when_it_can() {
    let lapi = Arc::new(Lapi::start());
    lapi.ban("192.0.2.1");
    let behind = lapi.clone();
    let relay = FakeServer::start(move |seen| hand_on(&behind, seen));
    let app = App::polling(&relay.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "4s")]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    relay.answers(|_| Reply::error(502));
    eventually("the log tells of the loss", || lost(&app) > 0);
    // LAPI never tells its bouncers of this deletion.
    lapi.cscli(&["alerts", "delete", "--ip", "192.0.2.1"]);
    relay.answers(move |seen| hand_on(&lapi, seen));
    app.eventually("192.0.2.1", Welcome);
}

#[test]
fn bans_outlive_a_lapi_that_hangs_and_is_killed() {
    let mut lapi = Lapi::start();
    lapi.ban("192.0.2.1");
    let app = App::polling(lapi.url(), &[]);
    lapi.freeze();
    // Long enough for a poll to be on its way: the kill cuts it off.
    sleep(Duration::from_secs(2));
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.kill();
    eventually("the log tells of the loss", || lost(&app) > 0);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    lapi.start_again();
    lapi.ban("192.0.2.2");
    app.eventually("192.0.2.2", Ban);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
}

#[test]
fn what_a_lapi_killed_in_mid_answer_took_for_delivered_arrives_after_its_restart() {
    let lapi = Arc::new(Mutex::new(Lapi::start()));
    lapi.lock().unwrap().ban("192.0.2.1");
    let in_front_of = lapi.clone();
    let relay = FakeServer::start(move |seen| hand_on(&in_front_of.lock().unwrap(), seen));
    let app = App::polling(&relay.url(), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);

    let (in_front_of, dead) = (lapi.clone(), AtomicBool::new(false));
    relay.answers(move |seen| {
        if dead.swap(true, SeqCst) {
            return Reply::error(502);
        }
        let lapi = in_front_of.lock().unwrap();
        lapi.ban("192.0.2.2");
        let answer = hand_on(&lapi, seen);
        lapi.kill();
        answer.cut()
    });
    eventually("the log tells of the loss", || lost(&app) > 0);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert_eq!(app.verdict("192.0.2.2"), Welcome, "the answer was cut");

    lapi.lock().unwrap().start_again();
    relay.answers(move |seen| hand_on(&lapi.lock().unwrap(), seen));
    app.eventually("192.0.2.2", Ban);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
}

/// Asks LAPI what the relay was asked, and gives its answer.
fn hand_on(lapi: &Lapi, seen: &Seen) -> Reply {
    let request = Request::new(lapi.address(), "GET", &seen.target).header("X-Api-Key", KEY);
    Reply::new(200, "application/json", request.send().body)
}

// --- answers that the real LAPI cannot be made to give ---

/// Bans that stand outlive this answer to every poll, and the first request after it asks for everything again.
#[track_caller]
fn bans_outlive(fault: fn() -> Reply) {
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1"), ban(2, "192.0.2.2")]));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "4s")]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);

    lapi.answers(move |_| fault());
    let faulty = lapi.seen().len();
    eventually("two faulty answers", || lapi.seen().len() >= faulty + 2);
    eventually("the log tells of the loss", || lost(&app) > 0);
    assert_eq!((app.verdict("192.0.2.1"), app.verdict("192.0.2.2")), (Ban, Ban));
    assert!(lapi.seen()[faulty + 1].asks_for_all(), "after a failure everything is asked for: {:?}", lapi.seen());

    lapi.answers(standing(vec![ban(2, "192.0.2.2"), ban(3, "192.0.2.3")]));
    app.eventually("192.0.2.3", Ban);
    app.eventually("192.0.2.1", Welcome);
    assert_eq!(app.verdict("192.0.2.2"), Ban);
    eventually("the log tells of the return", || back(&app) > 0);
    assert!(!app.log().contains(KEY), "a key never stands in the log");
}

#[test]
fn bans_outlive_an_answer_that_is_cut() {
    bans_outlive(|| Reply::decisions(&[], &[ban(1, "192.0.2.1")]).cut());
}

#[test]
fn bans_outlive_a_connection_that_is_closed_without_an_answer() {
    bans_outlive(Reply::hang_up);
}

#[test]
fn bans_outlive_silence() {
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1")]));
    let app = App::polling(&lapi.url(), &[]);
    let healthy = lapi.seen().len();
    lapi.answers(|_| Reply::silence());
    eventually("a poll that gets no answer", || lapi.seen().len() > healthy);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert_eq!(app.stop().status.code(), Some(0), "a poll under way does not hold up the end");
}

#[test]
fn a_redirect_is_not_followed_and_the_key_does_not_travel() {
    let elsewhere = FakeServer::start(|_| Reply::decisions(&[], &[ban(1, "192.0.2.1")]));
    let (target, lapi) = (elsewhere.url(), FakeServer::start(standing(vec![ban(1, "192.0.2.1")])));
    let app = App::polling(&lapi.url(), &[]);
    // Redirects to the same path elsewhere, as a gateway does that wants TLS.
    let to = format!("{target}v1/decisions/stream?dedup=false&scopes=ip,range&startup=true");
    lapi.answers(move |_| Reply::redirect(&to));
    eventually("the log tells of the loss", || lost(&app) > 0);
    eventually("the log names what to write", || app.logged(&format!("a redirect to `{target}`, which")) > 0);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
}

#[test]
fn a_redirect_that_leads_nowhere_is_told_by_its_status_and_not_as_an_address() {
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1")]));
    let app = App::polling(&lapi.url(), &[]);
    lapi.answers(|_| Reply::error(304));
    eventually("the log tells of the loss", || {
        app.logged(" is lost: status 304: see LAPI's own log, and that of a gateway") > 0
    });
}

#[test]
fn an_answer_counts_in_whatever_case_its_type_is_written() {
    let all = json!({ "new": [ban(1, "192.0.2.1")], "deleted": null }).to_string();
    let lapi = FakeServer::start(move |_| Reply::new(200, "Application/JSON", all.clone()));
    let app = App::polling(&lapi.url(), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban, "{}", app.log());
}

/// Deltas miss some decisions, odd ones too.
#[test]
fn what_is_odd_about_decisions_that_only_a_full_answer_brings_is_told_and_counted_too() {
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1")]));
    let app =
        App::polling(&lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "1s"), ("CROWDSEC_METRICS_FROM", "192.0.2.77")]);
    let mut all = vec![ban(1, "192.0.2.1"), ban(2, "192.0.2.300"), ban(3, "192.0.2.3"), ban(4, "192.0.2.4")];
    all[2]["type"] = json!("allow");
    all[3]["id"] = Value::Null;
    lapi.answers(standing(all));
    app.eventually("192.0.2.4", Ban);
    for text in ["Not enforced: 1 decision of LAPI's", "decisions of type `allow`", "without an id that can be used"] {
        eventually(text, || app.logged(text) == 1);
    }
    let figures = || app.get("/crowdsec/metrics").from("192.0.2.77").send().text();
    eventually("it is counted", || {
        figures().contains("lapi_unusable_decisions_total ") && !figures().contains("unusable_decisions_total 0")
    });
    let full = lapi.seen().len();
    eventually("three more full answers", || lapi.seen().len() > full + 9);
    app.tells("Not enforced: ", 1);
}

#[test]
fn a_proxy_in_the_environment_is_not_used() {
    let proxy = FakeServer::start(|_| Reply::decisions(&[], &[]));
    let lapi = FakeServer::start(standing(vec![ban(1, "192.0.2.1")]));
    let url = proxy.url();
    let app = App::polling(
        &lapi.url(),
        &[("http_proxy", &url), ("HTTP_PROXY", &url), ("ALL_PROXY", &url), ("all_proxy", &url)],
    );
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert!(proxy.seen().is_empty(), "{:?}", proxy.seen());
}

// --- what LAPI is told, and the end ---

#[test]
fn lapi_knows_the_bouncer_by_its_version() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[]);
    app.catch_up(&lapi);
    let bouncers: Value =
        serde_json::from_str(&lapi.cscli(&["bouncers", "list", "-o", "json"])).expect("JSON of cscli");
    assert_eq!(bouncers[0]["type"], "crowdsec-rocket-bouncer", "{bouncers}");
    assert!(bouncers[0]["version"].as_str().is_some_and(|v| v.starts_with('v')), "{bouncers}");
}

#[test]
fn a_terminated_application_ends_at_once_and_well() {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &[]);
    let ended = app.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.log);
    assert!(!ended.log.contains("panicked"), "{}", ended.log);
}
