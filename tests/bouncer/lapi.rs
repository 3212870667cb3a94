//! Does the application keep in step with CrowdSec? Shown against a fake LAPI that answers as each test says.

use rocket::figment::Figment;
use rocket::http::Status;
use rocket::local::asynchronous::Client;

use crate::common::{Answer, FakeLapi, answer, bouncer_refuses, decision, eventually};

async fn launch(figment: Figment) -> Client {
    Client::tracked(app::app(figment)).await.expect("the application launches")
}

async fn status(client: &Client, visitor: &str) -> Status {
    let remote = std::net::SocketAddr::new(visitor.parse().unwrap(), 4711);
    client.get("/crowdsec/captcha").remote(remote).dispatch().await.status()
}

/// `/crowdsec/captcha` redirects visitors who have nothing to solve.
const ADMITTED: Status = Status::SeeOther;

fn capture(name: &str) -> Answer {
    let path = format!("{}/tests/bouncer/captures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    Answer(Status::Ok, std::fs::read_to_string(path).expect("a capture"))
}

fn nothing() -> Answer {
    capture("empty")
}

#[rocket::async_test]
async fn the_first_answer_stands_before_the_first_request() {
    let lapi = FakeLapi::answering([answer(&[decision(1, "192.0.2.1", "ban")], &[]), nothing()]).await;
    let client = launch(lapi.figment()).await;
    assert_eq!(status(&client, "192.0.2.1").await, Status::Forbidden);
    assert_eq!(status(&client, "192.0.2.2").await, ADMITTED);
}

#[rocket::async_test]
async fn lapi_is_asked_with_the_key_for_every_decision_and_then_for_changes() {
    let lapi = FakeLapi::answering([nothing()]).await;
    let figment = lapi.figment().merge(("crowdsec.origins", ["cscli", "lists"]));
    let _client = launch(figment.merge(("crowdsec.scenarios_not_containing", ["a b"]))).await;
    eventually(async || lapi.asked().len() > 2).await;
    let asked = lapi.asked();
    assert_eq!(
        asked[0].query,
        "dedup=false&scopes=ip%2Crange&origins=cscli%2Clists&scenarios_not_containing=a+b&startup=true"
    );
    assert_eq!((asked[1].startup.as_str(), asked[2].startup.as_str()), ("false", "false"));
    assert_eq!(asked[0].api_key, "a-key-of-the-tests");
    assert_eq!(asked[0].user_agent, format!("crowdsec-rocket-bouncer/v{}", app::crowdsec::VERSION));
}

#[rocket::async_test]
async fn additions_and_deletions_arrive_with_the_next_poll() {
    let lapi = FakeLapi::answering([nothing()]).await;
    let client = launch(lapi.figment()).await;
    assert_eq!(status(&client, "192.0.2.1").await, ADMITTED);
    lapi.then(answer(&[decision(1, "192.0.2.1", "ban"), decision(2, "192.0.2.0/24", "ban")], &[]));
    lapi.then(nothing());
    eventually(async || status(&client, "192.0.2.1").await == Status::Forbidden).await;
    lapi.then(answer(&[], &[decision(2, "192.0.2.0/24", "ban")]));
    lapi.then(nothing());
    eventually(async || status(&client, "192.0.2.9").await == ADMITTED).await;
    assert_eq!(status(&client, "192.0.2.1").await, Status::Forbidden, "the other decision stands");
}

#[rocket::async_test]
async fn of_two_decisions_the_one_that_was_not_deleted_stands() {
    let lapi = FakeLapi::answering([capture("two-bans"), nothing()]).await;
    let client = launch(lapi.figment()).await;
    lapi.then(capture("longer-deleted"));
    lapi.then(nothing());
    let asked = lapi.asked().len();
    eventually(async || lapi.asked().len() > asked + 3).await;
    assert_eq!(status(&client, "192.0.2.20").await, Status::Forbidden);
    lapi.then(capture("shorter-deleted"));
    lapi.then(nothing());
    eventually(async || status(&client, "192.0.2.20").await == ADMITTED).await;
}

#[rocket::async_test]
async fn every_spelling_on_the_wire_is_understood() {
    let lapi = FakeLapi::answering([capture("mixed"), nothing()]).await;
    let client = launch(lapi.figment()).await;
    for banned in [
        "192.0.2.1",
        "192.0.2.3",
        "192.0.2.5",
        "192.0.2.77",
        "2001:db8::1",
        "203.0.113.9",
        "198.51.100.200",
        "2001:db8:1:2::3",
    ] {
        assert_eq!(status(&client, banned).await, Status::Forbidden, "{banned}");
    }
    for free in ["192.0.2.6", "203.0.114.1", "2001:db8::2", "2001:db8:2::1"] {
        assert_eq!(status(&client, free).await, ADMITTED, "{free}");
    }
    // 192.0.2.4 had little more than a second left when the answer was recorded.
    eventually(async || status(&client, "192.0.2.4").await == ADMITTED).await;
}

#[rocket::async_test]
async fn the_value_decides_and_not_the_scope() {
    let lapi = FakeLapi::answering([capture("import"), nothing()]).await;
    let client = launch(lapi.figment()).await;
    for banned in ["192.0.2.1", "192.0.2.2", "2001:db8:ffff::1", "198.51.100.9"] {
        assert_eq!(status(&client, banned).await, Status::Forbidden, "{banned}");
    }
    assert_eq!(status(&client, "192.0.2.3").await, ADMITTED);
}

#[rocket::async_test]
async fn an_address_deleted_and_added_again_in_one_answer_stays_banned() {
    let lapi = FakeLapi::answering([nothing(), capture("deleted-and-added-again"), nothing()]).await;
    let client = launch(lapi.figment()).await;
    eventually(async || status(&client, "192.0.2.1").await == Status::Forbidden).await;
}

#[rocket::async_test]
async fn microseconds_are_understood() {
    let lapi = FakeLapi::answering([capture("microseconds"), nothing()]).await;
    let client = launch(lapi.figment()).await;
    assert_eq!(status(&client, "192.0.2.2").await, Status::Forbidden);
}

#[rocket::async_test]
async fn an_unreadable_entry_costs_only_itself() {
    let entries = [
        r#"{"id":1}"#.to_owned(),
        r#""junk""#.to_owned(),
        decision(2, "not an address", "ban"),
        decision(3, "192.0.2.1", "ban").replace("4h", "soon"),
        decision(4, "192.0.2.2", "ban").replace("\"Ip\"", "\"Country\""),
        decision(5, "192.0.2.3", "ban"),
    ];
    let lapi = FakeLapi::answering([answer(&entries, &[]), nothing()]).await;
    let client = launch(lapi.figment()).await;
    for free in ["192.0.2.1", "192.0.2.2"] {
        assert_eq!(status(&client, free).await, ADMITTED, "{free}");
    }
    assert_eq!(status(&client, "192.0.2.3").await, Status::Forbidden);
}

#[rocket::async_test]
async fn decisions_without_an_id_are_told_apart_by_scope_value_and_type() {
    let without = |value, kind| decision(7, value, kind).replace("\"id\":7,", "");
    let all = answer(&[without("192.0.2.1", "ban"), without("192.0.2.1", "throttle")], &[]);
    let lapi = FakeLapi::answering([all, nothing()]).await;
    let client = launch(lapi.figment()).await;
    lapi.then(answer(&[], &[without("192.0.2.1", "ban")]));
    lapi.then(nothing());
    let asked = lapi.asked().len();
    eventually(async || lapi.asked().len() > asked + 3).await;
    assert_eq!(status(&client, "192.0.2.1").await, Status::Forbidden);
    // `new` before `deleted`, as newer LAPIs send them: the decision that was just added stays.
    let (added, gone) = (without("192.0.2.1", "throttle"), without("192.0.2.1", "throttle"));
    lapi.then(Answer(Status::Ok, format!(r#"{{"new": [{added}], "deleted": [{gone}]}}"#)));
    lapi.then(nothing());
    let asked = lapi.asked().len();
    eventually(async || lapi.asked().len() > asked + 3).await;
    assert_eq!(status(&client, "192.0.2.1").await, Status::Forbidden);
    lapi.then(answer(&[], &[without("192.0.2.1", "throttle")]));
    lapi.then(nothing());
    eventually(async || status(&client, "192.0.2.1").await == ADMITTED).await;
}

#[rocket::async_test]
async fn no_failure_unbans_anybody_and_the_next_question_is_for_everything() {
    let banned = decision(1, "192.0.2.1", "ban");
    for failure in [
        Answer(Status::Forbidden, r#"{"message":"access forbidden"}"#.into()),
        Answer(Status::InternalServerError, r#"{"message":"unable to query"}"#.into()),
        Answer(Status::Ok, "<html>a login page</html>".into()),
        Answer(Status::Ok, r#"{"deleted":null,"new":[{"duration":"4h","#.into()),
        Answer(Status::Ok, "".into()),
        Answer(Status::Ok, "{}".into()),
        Answer(Status::Ok, "[]".into()),
        Answer(Status::Ok, "null".into()),
        Answer(Status::Ok, r#"{"new":"none","deleted":7}"#.into()),
        Answer(Status::Ok, r#"{"new":null,"deleted":null} and more"#.into()),
        Answer(Status::NotFound, "".into()),
        Answer(Status::Found, "".into()),
    ] {
        let lapi = FakeLapi::answering([
            answer(std::slice::from_ref(&banned), &[]),
            failure.clone(),
            answer(std::slice::from_ref(&banned), &[]),
            nothing(),
        ])
        .await;
        let client = launch(lapi.figment()).await;
        eventually(async || lapi.asked().len() >= 4).await;
        let startup: Vec<_> = lapi.asked().iter().take(4).map(|asked| asked.startup.clone()).collect();
        assert_eq!(startup, ["true", "false", "true", "false"], "{failure:?}", failure = failure.1);
        assert_eq!(status(&client, "192.0.2.1").await, Status::Forbidden);
    }
}

#[rocket::async_test]
async fn everything_is_asked_for_again_after_a_while_and_heals_what_deltas_lost() {
    let both = [decision(1, "192.0.2.1", "ban"), decision(2, "192.0.2.2", "ban")];
    let lapi = FakeLapi::answering([answer(&both[..1], &[]), nothing()]).await;
    let client = launch(lapi.figment().merge(("crowdsec.resync_frequency", "300ms"))).await;
    eventually(async || lapi.asked().iter().filter(|asked| asked.startup == "true").count() >= 2).await;
    // The second decision was never in a delta, and the first vanished without a `deleted`.
    lapi.then(answer(&both[1..], &[]));
    eventually(async || status(&client, "192.0.2.2").await == Status::Forbidden).await;
    eventually(async || status(&client, "192.0.2.1").await == ADMITTED).await;
}

#[rocket::async_test]
async fn without_a_first_answer_the_operators_word_decides() {
    let lapi = FakeLapi::answering([Answer(Status::InternalServerError, "".into())]).await;
    let with = |word: &str| {
        lapi.figment().merge(("crowdsec.on_startup_failure", word)).merge(("crowdsec.startup_timeout", "500ms"))
    };

    let open = launch(with("open")).await;
    assert_eq!(status(&open, "192.0.2.1").await, ADMITTED);

    let closed = launch(with("closed")).await;
    let response = closed.get("/").dispatch().await;
    assert_eq!(response.status(), Status::ServiceUnavailable);
    assert!(response.headers().contains("Retry-After"));
    assert!(!response.headers().contains("Crowdsec-Remediation"), "nothing is decided yet");
    let health = closed.get("/crowdsec/health").dispatch().await;
    assert_eq!(health.status(), Status::ServiceUnavailable);
    assert_eq!(health.into_string().await.unwrap(), r#"{"status":"starting"}"#);

    assert!(bouncer_refuses(Client::tracked(app::app(with("abort"))).await));

    lapi.then(answer(&[decision(1, "192.0.2.1", "ban")], &[]));
    eventually(async || status(&closed, "192.0.2.2").await == ADMITTED).await;
    assert_eq!(status(&closed, "192.0.2.1").await, Status::Forbidden);
    assert_eq!(closed.get("/crowdsec/health").dispatch().await.status(), Status::Ok);
}

#[rocket::async_test]
async fn whom_the_operator_bans_is_banned_while_everybody_else_waits_for_the_first_answer() {
    let lapi = FakeLapi::answering([Answer(Status::InternalServerError, "".into())]).await;
    let own = rocket::figment::util::map!["value" => "192.0.2.1", "type" => "ban"];
    let figment = lapi.figment().merge(("crowdsec.decisions", vec![own]));
    let figment = figment.merge(("crowdsec.on_startup_failure", "closed")).merge(("crowdsec.startup_timeout", "500ms"));
    let client = launch(figment).await;
    assert_eq!(status(&client, "192.0.2.1").await, Status::Forbidden);
    assert_eq!(status(&client, "192.0.2.2").await, Status::ServiceUnavailable);
}

/// The guards would refuse them after the captcha, too.
#[rocket::async_test]
async fn nobody_is_asked_a_captcha_before_the_first_answer_though_guards_alone_refuse() {
    let lapi = FakeLapi::answering([Answer(Status::InternalServerError, "".into())]).await;
    let figment = lapi.figment().merge(("crowdsec.enforce_by", "guards"));
    let figment = figment.merge(("crowdsec.on_startup_failure", "closed")).merge(("crowdsec.startup_timeout", "500ms"));
    let client = launch(figment).await;
    assert_eq!(status(&client, "192.0.2.1").await, Status::ServiceUnavailable);
}

#[rocket::async_test]
async fn who_closes_until_the_first_answer_shuts_nobody_out_when_lapi_is_lost_later() {
    let lost = Answer(Status::InternalServerError, "".into());
    let lapi = FakeLapi::answering([answer(&[decision(1, "192.0.2.1", "ban")], &[]), lost]).await;
    let client = launch(lapi.figment().merge(("crowdsec.on_startup_failure", "closed"))).await;
    let health = async || client.get("/crowdsec/health").dispatch().await.into_string().await.unwrap_or_default();
    eventually(async || health().await == r#"{"status":"stale"}"#).await;
    assert_eq!(status(&client, "192.0.2.2").await, ADMITTED);
    assert_eq!(status(&client, "192.0.2.1").await, Status::Forbidden);
}

#[rocket::async_test]
async fn a_lapi_that_comes_within_the_startup_timeout_is_waited_for_unless_visitors_are_let_in_meanwhile() {
    for (word, visitor) in [("abort", Status::Forbidden), ("closed", Status::Forbidden), ("open", ADMITTED)] {
        let busy = Answer(Status::InternalServerError, "".into());
        let lapi = FakeLapi::answering([busy, answer(&[decision(1, "192.0.2.1", "ban")], &[]), nothing()]).await;
        let figment = lapi.figment().merge(("crowdsec.on_startup_failure", word));
        // The launch asks again after a second, however long the polls' interval is.
        let client = launch(figment.merge(("crowdsec.update_frequency", "1h"))).await;
        assert_eq!(status(&client, "192.0.2.1").await, visitor, "{word}");
        // `open` asks again each second too.
        eventually(async || status(&client, "192.0.2.1").await == Status::Forbidden).await;
    }
}

#[rocket::async_test]
async fn until_the_first_answer_lapi_is_asked_for_everything_alone() {
    let lapi = FakeLapi::answering([Answer(Status::InternalServerError, "".into())]).await;
    let _client = launch(lapi.figment()).await;
    eventually(async || lapi.asked().len() > 2).await;
    assert!(lapi.asked().iter().all(|asked| asked.startup == "true"), "{:?}", lapi.asked());
}

/// To confirm that it is empty may have moved the mark that its changes begin at.
#[rocket::async_test]
async fn after_an_empty_first_answer_that_lapi_had_to_confirm_everything_is_asked_for_once_more() {
    let lapi = FakeLapi::answering([nothing()]).await;
    let _client = launch(lapi.figment().merge(("crowdsec.on_startup_failure", "closed"))).await;
    eventually(async || lapi.asked().len() > 2).await;
    let asked: Vec<String> = lapi.asked().into_iter().take(3).map(|asked| asked.startup).collect();
    assert_eq!((asked.join(" ").as_str(), lapi.questions().len()), ("true true false", 1));
}

#[rocket::async_test]
async fn a_refused_key_is_final_at_the_launch() {
    let refused = Answer(Status::Forbidden, r#"{"message":"access forbidden"}"#.into());
    let lapi = FakeLapi::answering([refused, nothing()]).await;
    let figment = lapi.figment().merge(("crowdsec.on_startup_failure", "abort"));
    assert!(bouncer_refuses(Client::tracked(app::app(figment)).await));
    assert_eq!(lapi.asked().len(), 1);
}

#[rocket::async_test]
async fn a_snapshot_protects_an_application_that_starts_while_lapi_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.snapshot");
    let lapi = FakeLapi::answering([answer(&[decision(1, "192.0.2.1", "ban")], &[]), nothing()]).await;
    let figment = lapi.figment().merge(("crowdsec.snapshot", &path)).merge(("crowdsec.on_startup_failure", "closed"));
    {
        let _client = launch(figment.clone()).await;
        eventually(async || path.exists()).await;
    }
    drop(lapi);
    let client = launch(figment).await;
    assert_eq!(status(&client, "192.0.2.1").await, Status::Forbidden);
    assert_eq!(status(&client, "192.0.2.2").await, ADMITTED, "it counts as the first answer");
}

#[rocket::async_test]
async fn after_a_snapshot_lapi_is_asked_at_once_however_seldom_it_is_asked_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.snapshot");
    let lapi = FakeLapi::answering([answer(&[decision(1, "192.0.2.1", "ban")], &[]), nothing()]).await;
    let figment = lapi.figment().merge(("crowdsec.snapshot", &path)).merge(("crowdsec.update_frequency", "1h"));
    {
        let _client = launch(figment.clone()).await;
        eventually(async || path.exists()).await;
    }
    let _client = launch(figment).await;
    eventually(async || lapi.asked().iter().filter(|asked| asked.startup == "true").count() == 2).await;
}

#[rocket::async_test]
async fn the_snapshot_that_a_stop_leaves_holds_what_the_last_poll_brought() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.snapshot");
    let lapi = FakeLapi::answering([answer(&[decision(1, "192.0.2.1", "ban")], &[]), nothing()]).await;
    let figment = lapi.figment().merge(("crowdsec.snapshot", &path));
    let client = launch(figment.clone()).await;
    // For the next minute, only the stop writes another snapshot.
    eventually(async || path.exists()).await;
    lapi.then(answer(&[decision(2, "192.0.2.2", "ban")], &[]));
    lapi.then(nothing());
    eventually(async || status(&client, "192.0.2.2").await == Status::Forbidden).await;
    client.terminate().await;
    drop(lapi);
    let client = launch(figment).await;
    assert_eq!(status(&client, "192.0.2.1").await, Status::Forbidden);
    assert_eq!(status(&client, "192.0.2.2").await, Status::Forbidden);
}

/// A disk that was full, or the like: what a restart needs is written as soon as it can be, though nothing has changed since.
#[rocket::async_test]
async fn a_snapshot_that_could_not_be_written_is_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.snapshot");
    // It is written beside its place first, and there something else lies.
    let beside = dir.path().join("decisions.snapshot.new");
    std::fs::create_dir(&beside).unwrap();
    let lapi = FakeLapi::answering([answer(&[decision(1, "192.0.2.1", "ban")], &[]), nothing()]).await;
    let client = launch(lapi.figment().merge(("crowdsec.snapshot", &path))).await;
    eventually(async || lapi.asked().len() > 4).await;
    assert!(!path.exists());
    std::fs::remove_dir(&beside).unwrap();
    client.terminate().await;
    assert!(path.exists());
}

/// Believed by the next launch, it would open what is to stay closed.
#[rocket::async_test]
async fn of_an_empty_first_answer_that_lapi_does_not_confirm_no_snapshot_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("decisions.snapshot");
    let lapi = FakeLapi::answering([nothing()]).await;
    lapi.says_of_one(Answer(Status::InternalServerError, "".into()));
    let figment = lapi.figment().merge(("crowdsec.snapshot", &path)).merge(("crowdsec.on_startup_failure", "closed"));
    let client = launch(figment.merge(("crowdsec.startup_timeout", "500ms"))).await;
    let asked = lapi.asked().len();
    eventually(async || lapi.asked().len() > asked + 1).await;
    assert_eq!(status(&client, "192.0.2.1").await, Status::ServiceUnavailable);
    client.terminate().await;
    assert!(!path.exists());
}

#[rocket::async_test]
async fn while_full_answers_fail_changes_are_asked_for_all_the_same() {
    let fails = || Answer(Status::InternalServerError, "".into());
    let ban = answer(&[decision(1, "192.0.2.1", "ban")], &[]);
    // A delta fails, and the full answer after it; then comes a delta, and another full answer fails.
    let lapi = FakeLapi::answering([nothing(), fails(), fails(), ban, fails()]).await;
    let client = launch(lapi.figment()).await;
    eventually(async || lapi.asked().len() > 5).await;
    let asked: Vec<String> = lapi.asked().into_iter().take(5).map(|asked| asked.startup).collect();
    assert_eq!(asked, ["true", "false", "true", "false", "true"]);
    assert_eq!(status(&client, "192.0.2.1").await, Status::Forbidden);
}

#[rocket::async_test]
async fn a_burst_of_the_applications_refusals_brings_a_poll_and_one_of_the_bouncers_does_not() {
    #[rocket::get("/lapi/busy")]
    fn busy() -> Status {
        Status::ServiceUnavailable
    }
    for (path, visitor, hurries) in [
        ("/lapi/nowhere", "192.0.2.1", false),
        ("/lapi/busy", "192.0.2.2", false),
        ("/crowdsec/captcha", "192.0.2.3", false),
        ("/lapi/nowhere", "192.0.2.2", true),
    ] {
        let decisions = [decision(1, "192.0.2.1", "ban"), decision(2, "192.0.2.3", "captcha")];
        let lapi = FakeLapi::answering([answer(&decisions, &[]), nothing()]).await;
        let figment = lapi.figment().merge(("crowdsec.update_frequency", "1h"));
        // Without the owner's routes and catchers, which may answer everything.
        let app = app::protected(figment).mount("/", rocket::routes![busy]);
        let client = Client::tracked(app).await.expect("the application launches");
        for _ in 0..12 {
            let remote = std::net::SocketAddr::new(visitor.parse().unwrap(), 4711);
            client.get(path).remote(remote).dispatch().await;
        }
        match hurries {
            true => eventually(async || lapi.asked().len() > 1).await,
            false => tokio::time::sleep(std::time::Duration::from_millis(1500)).await,
        }
        assert_eq!(lapi.asked().len() > 1, hurries, "{path} by {visitor}");
    }
}

/// All whom a proxy names nobody for have its address: one refusal each looks like the burst of one visitor.
#[rocket::async_test]
async fn refusals_of_those_whom_nobody_names_bring_no_poll() {
    let lapi = FakeLapi::answering([nothing()]).await;
    let figment = lapi.figment().merge(("crowdsec.update_frequency", "1h")).merge(("crowdsec.enforce", false));
    let app = app::protected(figment.merge(("crowdsec.trusted_proxies", ["10.0.0.1"])));
    let client = Client::tracked(app).await.expect("the application launches");
    for _ in 0..12 {
        let remote = std::net::SocketAddr::from(([10, 0, 0, 1], 4711));
        let answer = client.get("/lapi/nowhere").remote(remote).dispatch().await;
        assert_eq!(answer.status(), Status::NotFound, "let in, as in every trial");
    }
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    assert_eq!(lapi.asked().len(), 1);
}
