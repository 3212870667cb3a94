//! What becomes of the visitors while CrowdSec is away, slow, wrong, or back again?

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use dev::Verdict::{Ban, NotYet, Welcome};
use dev::{App, FakeServer, KEY, Lapi, Reply, Request, Seen, closed_port, eventually};
use serde_json::{Value, json};

/// A decision as LAPI writes it.
fn ban(id: u32, address: &str) -> Value {
    json!({ "duration": "3h59m59.6s", "id": id, "origin": "cscli", "scenario": "end-to-end", "scope": "Ip", "type": "ban", "value": address })
}

/// A LAPI that knows these bans and in which nothing ever changes.
fn standing(bans: Vec<Value>) -> impl Fn(&Seen) -> Reply {
    move |seen| Reply::standing(seen, &bans)
}

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

/// The launch ends with a failure, and one line of it says what happened.
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
    aborts(&format!("http://{}", closed_port()), &[], "connect");
}

#[test]
fn the_launch_is_aborted_on_a_silent_lapi_after_the_startup_timeout() {
    let lapi = FakeServer::start(|_| Reply::silence());
    aborts(&lapi.url(), &[("CROWDSEC_STARTUP_TIMEOUT", "1s")], "1");
}

#[test]
fn a_silent_lapi_holds_the_launch_up_for_the_startup_timeout_alone() {
    let lapi = FakeServer::start(|_| Reply::silence());
    let app = App::polling(&lapi.url(), &[("CROWDSEC_STARTUP_TIMEOUT", "1s")]);
    assert_eq!(app.verdict("192.0.2.1"), Welcome);
    assert_eq!(app.get("/crowdsec/health").send().status, 503);
}

#[test]
fn the_launch_waits_for_a_slow_first_answer() {
    let lapi = FakeServer::start(|_| Reply::decisions(&[ban(1, "192.0.2.1")], &[]).after(Duration::from_secs(3)));
    let app = App::polling(&lapi.url(), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
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

#[test]
fn decisions_of_the_operators_own_are_enforced_while_lapi_is_awaited() {
    let own = r#"[{ value = "192.0.2.9", type = "ban" }]"#;
    let app = App::polling(&format!("http://{}", closed_port()), &[("CROWDSEC_DECISIONS", own)]);
    assert_eq!(app.verdict("192.0.2.9"), Ban);
    assert_eq!(app.verdict("192.0.2.8"), Welcome);
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
    // LAPI never tells its bouncers of this.
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
    // Long enough for a poll to be on its way, which the kill then tears apart.
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
fn bans_outlive_an_answer_500() {
    bans_outlive(|| Reply::error(500));
}

#[test]
fn bans_outlive_an_answer_403() {
    bans_outlive(|| Reply::error(403));
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
fn bans_outlive_a_page_of_html() {
    bans_outlive(|| Reply::html("<h1>Please sign in to the hotel's network</h1>"));
}

#[test]
fn bans_outlive_json_that_means_something_else() {
    bans_outlive(|| Reply::json(&json!([])));
    bans_outlive(|| Reply::json(&json!({ "new": "none", "deleted": 7 })));
}

#[test]
fn bans_outlive_an_answer_that_ends_in_the_middle_of_its_json() {
    bans_outlive(|| Reply::new(200, "application/json", r#"{"deleted":null,"new":[{"duration":"4h","id":9,"#));
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
    let to = target.clone();
    lapi.answers(move |_| Reply::redirect(&to));
    eventually("the log tells of the loss", || lost(&app) > 0);
    eventually("the log names where the redirect leads", || app.logged(target.trim_end_matches('/')) > 0);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
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

#[test]
fn a_ban_ends_by_our_own_clock_even_if_lapi_never_says_so() {
    let mut short = ban(1, "192.0.2.1");
    short["duration"] = json!("2.5s");
    let lapi = FakeServer::start(standing(vec![short, ban(2, "192.0.2.2")]));
    let app = App::polling(&lapi.url(), &[]);
    app.eventually("192.0.2.1", Welcome);
    assert_eq!(app.verdict("192.0.2.2"), Ban);
}

#[test]
fn one_unreadable_decision_costs_itself_alone() {
    let odd = [
        json!({ "id": 7 }),
        json!("nonsense"),
        json!({ "duration": "soon", "id": 8, "origin": "x", "scenario": "x", "scope": "Ip", "type": "ban", "value": "192.0.2.8" }),
        json!({ "duration": "4h", "id": 9, "origin": "x", "scenario": "x", "scope": "Ip", "type": "ban", "value": "192.0.2.999" }),
    ];
    let lapi = FakeServer::start(standing([odd.as_slice(), &[ban(1, "192.0.2.1")]].concat()));
    let app = App::polling(&lapi.url(), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    assert_eq!(app.verdict("192.0.2.2"), Welcome);
}

fn many_bans() -> Vec<Value> {
    (0..120).map(|n| ban(n, &format!("192.0.2.{n}"))).collect()
}

#[test]
fn a_full_answer_that_lost_most_of_its_decisions_once_frees_nobody() {
    let lapi = FakeServer::start(standing(many_bans()));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "2s")]);
    // A newer LAPI whose database fails closes its JSON properly, with status 200, wherever it stands.
    let (first, shrunk) = (AtomicBool::new(true), Arc::new(AtomicBool::new(false)));
    let told = shrunk.clone();
    lapi.answers(move |seen| {
        let lie = seen.asks_for_all() && first.swap(false, SeqCst);
        told.fetch_or(lie, SeqCst);
        standing(if lie { vec![ban(1, "192.0.2.1")] } else { many_bans() })(seen)
    });
    eventually("the short answer", || {
        assert_eq!(app.verdict("192.0.2.99"), Ban);
        shrunk.load(SeqCst)
    });
    let so_far = lapi.seen().len();
    eventually("two more polls", || {
        assert_eq!(app.verdict("192.0.2.99"), Ban);
        lapi.seen().len() >= so_far + 2
    });
}

#[test]
fn a_full_answer_that_lacks_most_decisions_is_believed_the_second_time_that_lapi_confirms_it() {
    let lapi = FakeServer::start(standing(many_bans()));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_RESYNC_FREQUENCY", "2s")]);
    assert_eq!(app.verdict("192.0.2.99"), Ban);
    lapi.answers(standing(vec![ban(1, "192.0.2.1")]));
    app.eventually("192.0.2.99", Welcome);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
}

#[test]
fn a_delta_that_deletes_most_decisions_is_believed_at_once() {
    let lapi = FakeServer::start(standing(many_bans()));
    let app = App::polling(&lapi.url(), &[]);
    assert_eq!(app.verdict("192.0.2.99"), Ban);
    let gone = many_bans().split_off(2);
    lapi.answers(move |_| Reply::decisions(&[], &gone));
    app.eventually("192.0.2.99", Welcome);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
}

// --- what LAPI is told, and the end ---

#[test]
fn lapi_is_asked_as_its_protocol_wants_it() {
    let lapi = FakeServer::start(standing(vec![]));
    // The operator may leave out the slash at the end of the URL.
    let _app = App::polling(lapi.url().trim_end_matches('/'), &[]);
    eventually("three polls", || lapi.seen().len() >= 3);
    let seen = lapi.seen();
    assert!(seen[0].asks_for_all(), "{:?}", seen[0]);
    for poll in &seen {
        assert_eq!(poll.target.split('?').next(), Some("/v1/decisions/stream"));
        assert_eq!(poll.header("X-Api-Key"), Some(KEY));
        // LAPI's own deduplication hides bans that stand.
        assert_eq!(poll.query("dedup").as_deref(), Some("false"));
    }
    for delta in &seen[1..] {
        assert!(!delta.asks_for_all(), "{delta:?}");
    }
}

#[test]
fn the_user_agent_has_a_name_and_a_version_and_one_slash() {
    let lapi = FakeServer::start(standing(vec![]));
    let _app = App::polling(&lapi.url(), &[]);
    let seen = lapi.seen();
    let agent = seen[0].header("User-Agent").expect("a User-Agent");
    // LAPI splits at slashes, and calls everything but two parts a version "N/A".
    let (name, version) = agent.split_once('/').expect("a slash");
    assert_eq!(name, "crowdsec-rocket-bouncer");
    let numbers: Vec<_> = version.strip_prefix('v').expect("a v").split('.').collect();
    assert!(numbers.len() == 3 && numbers.iter().all(|n| n.parse::<u32>().is_ok()), "{agent}");
}

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
