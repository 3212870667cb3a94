//! Is each visitor judged by what LAPI says of them now? Live mode, shown against a fake LAPI that answers as each test says.

use std::net::SocketAddr;
use std::time::Duration;

use app::crowdsec::{Accounts, Cleared, Refused, Report, Visitor, skip_time};
use rocket::figment::Figment;
use rocket::futures::future::join_all;
use rocket::http::{Header, Status};
use rocket::local::asynchronous::Client;
use rocket::tokio::time::sleep;
use rocket::{get, post, routes};

use crate::common::{Answer, FakeLapi, answer, bouncer_refuses, decision, eventually, scoped, without_captcha};

const PROXY: &str = "198.51.100.1";

async fn lapi() -> FakeLapi {
    FakeLapi::answering([answer(&[], &[])]).await
}

/// `live.timeout` is so long that even a busy machine does not reach it.
fn figment(lapi: &FakeLapi) -> Figment {
    let figment = lapi.figment().merge(("crowdsec.mode", "live")).merge(("crowdsec.update_frequency", "1h"));
    figment.merge(("crowdsec.live.timeout", "5s")).merge(("crowdsec.trusted_proxies", [PROXY]))
}

async fn launch(figment: Figment) -> Client {
    let app = app::protected(figment).mount("/", routes![enter, guarded, held, against]);
    Client::tracked(app).await.expect("the application launches")
}

fn list(decisions: &[String]) -> Answer {
    Answer(Status::Ok, format!("[{}]", decisions.join(",")))
}

fn nothing() -> Answer {
    Answer(Status::Ok, "null".into())
}

fn failure() -> Answer {
    Answer(Status::InternalServerError, r#"{"message":"unable to query"}"#.into())
}

/// What a visitor is refused with at the captcha's page, which redirects visitors who have nothing to solve.
async fn refusal(client: &Client, visitor: &str, country: Option<&'static str>) -> Option<String> {
    let mut request = client.get("/crowdsec/captcha").remote(SocketAddr::new(PROXY.parse().unwrap(), 4711));
    request.add_header(Header::new("X-Forwarded-For", visitor.to_owned()));
    country.into_iter().for_each(|country| request.add_header(Header::new("CF-IPCountry", country)));
    request.dispatch().await.headers().get_one("Crowdsec-Remediation").map(str::to_owned)
}

async fn of(client: &Client, visitor: &str) -> Option<String> {
    refusal(client, visitor, None).await
}

/// How often LAPI was asked about an address.
fn asked(lapi: &FakeLapi, address: &str) -> usize {
    let about = format!("ip={}", address.replace(':', "%3A"));
    lapi.questions().iter().filter(|query| query.split('&').any(|pair| pair == about)).count()
}

/// A guard on a path that the fairing spares.
#[get("/live-hooks/guarded")]
fn guarded(_cleared: Cleared) -> &'static str {
    "welcome"
}

/// Signs in an account, unless a decision stands against it.
#[post("/live/enter/<account>")]
fn enter(account: &str, accounts: Accounts<'_>) -> Result<&'static str, Refused> {
    accounts.admit("username", account)?;
    Ok("welcome")
}

/// What a handler is told of its visitor, in its order.
#[get("/live/against")]
fn against(visitor: Visitor) -> String {
    visitor.decisions.iter().map(|decision| decision.remediation).collect::<Vec<_>>().join(" ")
}

/// How many decisions are in memory, including those that have ended.
#[get("/live/held")]
fn held(report: Report) -> String {
    report.crowdsec.map(|crowdsec| crowdsec.decisions.to_string()).unwrap_or_default()
}

#[rocket::async_test]
async fn each_address_is_asked_about_once_while_the_answer_counts() {
    let lapi = lapi().await;
    let client = launch(figment(&lapi)).await;
    lapi.says_of_one(list(&[decision(1, "192.0.2.1", "ban")]));
    for _ in 0..3 {
        assert_eq!(of(&client, "192.0.2.1").await.as_deref(), Some("ban"));
    }
    lapi.says_of_one(nothing());
    assert_eq!(of(&client, "2001:db8::7").await, None);
    assert_eq!((asked(&lapi, "192.0.2.1"), asked(&lapi, "2001:db8::7")), (1, 1), "{:?}", lapi.questions());
    assert!(lapi.asked().is_empty(), "the stream is not asked for: these questions move its mark");
    // The ban was lifted: that is known once the last answer does not count any more.
    assert_eq!(of(&client, "192.0.2.1").await.as_deref(), Some("ban"));
    skip_time(client.rocket(), Duration::from_secs(11));
    assert_eq!(of(&client, "192.0.2.1").await, None);
    // A new ban is known then, too.
    lapi.says_of_one(list(&[decision(2, "2001:db8::7", "ban")]));
    assert_eq!(of(&client, "2001:db8::7").await.as_deref(), Some("ban"));
    assert_eq!((asked(&lapi, "192.0.2.1"), asked(&lapi, "2001:db8::7")), (2, 2));
}

#[rocket::async_test]
async fn the_launch_asks_lapi_once() {
    let lapi = lapi().await;
    let _client = launch(figment(&lapi)).await;
    // A question at liftoff would have come by now.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(lapi.questions().len(), 1, "{:?}", lapi.questions());
}

#[rocket::async_test]
async fn of_several_decisions_the_greatest_counts_wherever_it_stands_in_the_list() {
    let captcha = decision(1, "192.0.2.1", "captcha");
    let range = decision(2, "192.0.2.0/24", "ban").replace(r#""Ip""#, r#""Range""#);
    for says in [[captcha.clone(), range.clone()], [range, captcha]] {
        let lapi = lapi().await;
        lapi.says_of_one(list(&says));
        let client = launch(figment(&lapi)).await;
        assert_eq!(of(&client, "192.0.2.1").await.as_deref(), Some("ban"));
    }
    // A captcha alone stays a captcha.
    let lapi = lapi().await;
    lapi.says_of_one(list(&[decision(1, "192.0.2.1", "captcha")]));
    let client = launch(figment(&lapi)).await;
    assert_eq!(of(&client, "192.0.2.1").await.as_deref(), Some("captcha"));
}

#[rocket::async_test]
async fn however_many_requests_wait_lapi_is_asked_one_question_about_an_address() {
    let lapi = lapi().await;
    let client = launch(figment(&lapi)).await;
    lapi.says_of_one(list(&[decision(1, "192.0.2.1", "ban")]));
    lapi.hangs_when_asked_of_one(true);
    let requests = join_all((0..50).map(|_| of(&client, "192.0.2.1")));
    let (answers, ()) = rocket::tokio::join!(requests, async {
        eventually(async || asked(&lapi, "192.0.2.1") > 0).await;
        lapi.hangs_when_asked_of_one(false);
    });
    assert!(answers.iter().all(|answer| answer.as_deref() == Some("ban")), "{answers:?}");
    assert_eq!(asked(&lapi, "192.0.2.1"), 1);
}

#[rocket::async_test]
async fn who_walks_through_their_own_ipv6_network_leaves_lapi_to_the_others() {
    let lapi = lapi().await;
    let client = launch(figment(&lapi)).await;
    lapi.hangs_when_asked_of_one(true);
    let of_all =
        |visitors: Vec<String>| join_all(visitors.into_iter().map(async |visitor| of(&client, &visitor).await));
    let begun = |like: &str| lapi.questions().iter().filter(|query| query.contains(like)).count();
    let walk = of_all((1..=100).map(|n| format!("2001:db8:0:{n:x}::1")).collect());
    let others = async {
        eventually(async || begun("ip=2001") > 0).await;
        of_all((1..=40).map(|n| format!("192.0.2.{n}")).collect()).await;
    };
    rocket::tokio::join!(walk, others, async {
        // Some of the forty share a lane, with the walker or with one another.
        eventually(async || begun("ip=192.0.2.") >= 20).await;
        assert!((1..=4).contains(&begun("ip=2001")), "{:?}", lapi.questions());
        lapi.hangs_when_asked_of_one(false);
    });
}

#[rocket::async_test]
async fn where_lapi_does_not_answer_visitors_meet_what_the_operator_said() {
    for (action, met) in
        [(None, None), (Some("passthrough"), None), (Some("captcha"), Some("captcha")), (Some("ban"), Some("ban"))]
    {
        for says in [
            failure(),
            Answer(Status::Forbidden, r#"{"message":"access forbidden"}"#.into()),
            Answer(Status::Found, "".into()),
            Answer(Status::NoContent, "".into()),
            Answer(Status::Ok, "".into()),
            Answer(Status::Ok, "{}".into()),
            Answer(Status::Ok, r#"{"new":null,"deleted":null}"#.into()),
            Answer(Status::Ok, r#"[{"id":1,"#.into()),
        ] {
            let lapi = lapi().await;
            let with = figment(&lapi);
            let with =
                action.into_iter().fold(with, |with, action| with.merge(("crowdsec.live.failure_action", action)));
            let client = launch(with).await;
            lapi.says_of_one(says.clone());
            assert_eq!(of(&client, "192.0.2.1").await.as_deref(), met, "{action:?}, LAPI says {} {}", says.0, says.1);
            // LAPI is not asked again at once about the same address.
            assert_eq!(of(&client, "192.0.2.1").await.as_deref(), met);
            assert_eq!(asked(&lapi, "192.0.2.1"), 1);
            // Two seconds later LAPI is asked again, and answers.
            skip_time(client.rocket(), Duration::from_secs(2));
            lapi.says_of_one(nothing());
            assert_eq!(of(&client, "192.0.2.1").await, None);
        }
    }
}

#[rocket::async_test]
async fn a_decision_that_is_known_stands_while_lapi_does_not_answer() {
    let lapi = lapi().await;
    let client = launch(figment(&lapi)).await;
    lapi.says_of_one(list(&[decision(1, "192.0.2.1", "ban")]));
    assert_eq!(of(&client, "192.0.2.1").await.as_deref(), Some("ban"));
    lapi.says_of_one(failure());
    skip_time(client.rocket(), Duration::from_secs(60));
    assert_eq!(of(&client, "192.0.2.1").await.as_deref(), Some("ban"));
    assert_eq!(asked(&lapi, "192.0.2.1"), 2);
    // The decision stands until its own end.
    skip_time(client.rocket(), Duration::from_secs(4 * 60 * 60));
    assert_eq!(of(&client, "192.0.2.1").await, None);
}

#[rocket::async_test]
async fn an_answer_that_comes_late_lifts_nothing_that_a_newer_one_about_somebody_else_has_brought() {
    let lapi = lapi().await;
    let client = launch(figment(&lapi)).await;
    lapi.says_of_one(nothing());
    lapi.hangs_when_asked_of("192.0.2.1");
    let range = decision(1, "192.0.2.0/24", "ban").replace(r#""Ip""#, r#""Range""#);
    let (first, ()) = rocket::tokio::join!(of(&client, "192.0.2.1"), async {
        eventually(async || asked(&lapi, "192.0.2.1") > 0).await;
        lapi.says_of_one(list(&[range]));
        assert_eq!(of(&client, "192.0.2.77").await.as_deref(), Some("ban"));
        lapi.hangs_when_asked_of_one(false);
    });
    assert_eq!(first.as_deref(), Some("ban"));
    assert_eq!(of(&client, "192.0.2.77").await.as_deref(), Some("ban"));
}

#[rocket::async_test]
async fn a_handler_is_told_the_greatest_first_though_lapi_has_not_answered() {
    let lapi = lapi().await;
    let figment = figment(&lapi).merge(("crowdsec.live.failure_action", "captcha"));
    let figment = figment.merge(("crowdsec.captcha.provider", "altcha"));
    let figment = figment.merge(("crowdsec.excluded_paths", ["/live/against"]));
    let client = launch(figment.merge(("crowdsec.remediations", r#"{ mfa = "pass" }"#))).await;
    let told = async || {
        let request = client.get("/live/against").remote(SocketAddr::new("192.0.2.1".parse().unwrap(), 1));
        request.dispatch().await.into_string().await.unwrap_or_default()
    };
    lapi.says_of_one(list(&[decision(1, "192.0.2.1", "mfa")]));
    assert_eq!(told().await, "pass");
    lapi.says_of_one(failure());
    skip_time(client.rocket(), Duration::from_secs(11));
    assert_eq!(told().await, "captcha pass");
}

#[rocket::async_test]
async fn a_ban_that_has_ended_is_forgotten_though_its_visitor_never_comes_again() {
    let lapi = lapi().await;
    let client = launch(figment(&lapi).merge(("crowdsec.update_frequency", "100ms"))).await;
    lapi.says_of_one(list(&[decision(1, "192.0.2.1", "ban").replace("4h", "3s")]));
    assert_eq!(of(&client, "192.0.2.1").await.as_deref(), Some("ban"));
    lapi.says_of_one(nothing());
    let held = async || {
        let request = client.get("/live/held").remote(SocketAddr::new("192.0.2.2".parse().unwrap(), 1));
        request.dispatch().await.into_string().await.unwrap_or_default()
    };
    eventually(async || held().await == "0").await;
}

#[rocket::async_test]
async fn a_visitor_waits_no_longer_than_the_operator_said_and_the_late_answer_counts_for_the_next_request() {
    let lapi = lapi().await;
    let client = launch(figment(&lapi).merge(("crowdsec.live.timeout", "20ms"))).await;
    lapi.says_of_one(list(&[decision(1, "192.0.2.1", "ban")]));
    lapi.hangs_when_asked_of_one(true);
    assert_eq!(of(&client, "192.0.2.1").await, None);
    lapi.hangs_when_asked_of_one(false);
    eventually(async || of(&client, "192.0.2.1").await.as_deref() == Some("ban")).await;
    assert_eq!(asked(&lapi, "192.0.2.1"), 1);
}

#[rocket::async_test]
async fn an_entry_that_cannot_be_read_costs_itself_and_no_other_one() {
    let lapi = lapi().await;
    let client = launch(figment(&lapi).merge(("crowdsec.live.failure_action", "captcha"))).await;
    let odd =
        [r#"{"id":7}"#.to_owned(), r#""ban""#.into(), decision(1, "nonsense", "ban"), decision(2, "192.0.2.1", "ban")];
    lapi.says_of_one(list(&odd));
    assert_eq!(of(&client, "192.0.2.1").await.as_deref(), Some("ban"));
}

/// An entry that cannot be read may be the very decision that stands.
#[rocket::async_test]
async fn no_answer_with_an_entry_that_cannot_be_read_lifts_a_decision_that_stood() {
    let lapi = lapi().await;
    let client = launch(figment(&lapi).merge(("crowdsec.live.cache", "1s"))).await;
    let ban = decision(1, "192.0.2.1", "ban");
    let changed = |from: &str, to: &str| list(&[ban.replacen(from, to, 1)]);
    for odd in [
        changed("\"4h\"", "\"4 hours\""),
        changed("\"duration\"", "\"until\""),
        changed("\"192.0.2.1\"", "null"),
        changed("\"ban\"", "null"),
        list(&["0".into()]),
        list(&["{}".into()]),
        list(&["0".into(), decision(2, "198.51.100.1", "ban")]),
        list(&vec!["0".into(); 100_000]),
        list(&[format!("\"{}\"", "x".repeat(5 << 20))]),
    ] {
        lapi.says_of_one(list(std::slice::from_ref(&ban)));
        eventually(async || of(&client, "192.0.2.1").await.as_deref() == Some("ban")).await;
        let before = asked(&lapi, "192.0.2.1");
        lapi.says_of_one(odd);
        // LAPI is asked again, since its last answer counts for a second. The new answer is in force before the next question.
        eventually(async || {
            assert_eq!(of(&client, "192.0.2.1").await.as_deref(), Some("ban"));
            asked(&lapi, "192.0.2.1") > before + 1
        })
        .await;
    }
    lapi.says_of_one(nothing());
    eventually(async || of(&client, "192.0.2.1").await.is_none()).await;
}

#[rocket::async_test]
async fn decisions_on_countries_and_accounts_are_asked_for_all_at_once_in_whatever_spelling() {
    let lapi = lapi().await;
    lapi.says_of_one(list(&[scoped(1, "country", "fr", "ban"), scoped(2, "username", "alice", "ban")]));
    let figment = figment(&lapi).merge(("crowdsec.scopes", ["ip", "range", "country", "username"]));
    let figment =
        figment.merge(("crowdsec.country_header", "CF-IPCountry")).merge(("crowdsec.update_frequency", "100ms"));
    let client = launch(figment).await;
    let all = lapi.questions();
    let scopes =
        |query: &String| query.split('&').filter(|pair| pair.starts_with("scopes=")).collect::<Vec<_>>().join(" ");
    assert!(all.iter().all(|query| scopes(query) == "scopes=country%2Cusername"), "{all:?}");
    lapi.says_of_one(list(&[scoped(1, "country", "fr", "ban")]));
    assert_eq!(refusal(&client, "192.0.2.1", Some("FR")).await.as_deref(), Some("ban"));
    assert_eq!(refusal(&client, "192.0.2.1", Some("DE")).await, None);
    let enter = async || {
        client.post("/live/enter/alice").remote(SocketAddr::new("192.0.2.9".parse().unwrap(), 1)).dispatch().await
    };
    // The decision on the account was lifted, the decision on the country a moment later.
    eventually(async || enter().await.status() == Status::Ok).await;
    lapi.says_of_one(nothing());
    eventually(async || refusal(&client, "192.0.2.1", Some("FR")).await.is_none()).await;
    lapi.says_of_one(list(&[scoped(2, "username", "alice", "ban")]));
    eventually(async || enter().await.status() == Status::Forbidden).await;
}

#[rocket::async_test]
async fn for_probes_and_for_whom_a_proxy_does_not_name_lapi_is_not_asked_and_own_decisions_stand_above_its_word() {
    let lapi = lapi().await;
    let own = r#"[{ value = "192.0.2.5", type = "allow" }, { value = "192.0.2.6", type = "ban" }]"#;
    let client = launch(figment(&lapi).merge(("crowdsec.decisions", own))).await;
    lapi.says_of_one(list(&["192.0.2.4", "192.0.2.5"].map(|address| decision(1, address, "ban"))));
    for path in ["/crowdsec/health", "/crowdsec/live"] {
        let request = client.get(path).remote(SocketAddr::new("192.0.2.4".parse().unwrap(), 1)).dispatch().await;
        assert_ne!(request.status(), Status::Forbidden, "{path}");
    }
    // Behind a proxy that names nobody it is not known whom to ask about.
    client.get("/").remote(SocketAddr::new(PROXY.parse().unwrap(), 1)).dispatch().await;
    assert_eq!((asked(&lapi, "192.0.2.4"), asked(&lapi, PROXY)), (0, 0));
    // The operator's own decisions stand above LAPI's.
    assert_eq!(of(&client, "192.0.2.5").await, None);
    lapi.says_of_one(failure());
    assert_eq!(of(&client, "192.0.2.6").await.as_deref(), Some("ban"));
}

#[rocket::async_test]
async fn a_guard_refuses_on_excluded_paths_too() {
    let lapi = lapi().await;
    let client = launch(figment(&lapi).merge(("crowdsec.excluded_paths", ["/live-hooks"]))).await;
    let met = async |path: &'static str, visitor: &str| {
        client.get(path).remote(SocketAddr::new(visitor.parse().unwrap(), 1)).dispatch().await.status()
    };
    lapi.says_of_one(list(&[decision(1, "192.0.2.1", "ban")]));
    assert_eq!(met("/live-hooks/guarded", "192.0.2.1").await, Status::Forbidden);
    assert_eq!(met("/live-hooks/other", "192.0.2.1").await, Status::NotFound);
    lapi.says_of_one(nothing());
    assert_eq!(met("/live-hooks/guarded", "192.0.2.2").await, Status::Ok);
}

#[rocket::async_test]
async fn a_visitors_question_opens_nothing_that_is_closed_until_the_first_answer() {
    let lapi = lapi().await;
    lapi.says_of_one(failure());
    let figment = figment(&lapi).merge(("crowdsec.on_startup_failure", "closed"));
    let client = launch(figment.merge(("crowdsec.startup_timeout", "1ms"))).await;
    lapi.says_of_one(nothing());
    let visitor = SocketAddr::new("192.0.2.1".parse().unwrap(), 1);
    let first = client.get("/crowdsec/captcha").remote(visitor).dispatch().await.status();
    assert_eq!((first, asked(&lapi, "192.0.2.1")), (Status::ServiceUnavailable, 1));
}

#[rocket::async_test]
async fn the_launch_meets_a_refused_key_as_in_stream_mode() {
    for (on_failure, launches) in [("open", true), ("abort", false)] {
        let lapi = lapi().await;
        lapi.says_of_one(Answer(Status::Forbidden, r#"{"message":"access forbidden"}"#.into()));
        let figment = figment(&lapi).merge(("crowdsec.on_startup_failure", on_failure));
        assert_eq!(!bouncer_refuses(Client::tracked(app::app(figment)).await), launches, "{on_failure}");
    }
}

#[rocket::async_test]
async fn health_is_what_the_last_questions_say() {
    let lapi = lapi().await;
    lapi.says_of_one(failure());
    let client = launch(figment(&lapi).merge(("crowdsec.update_frequency", "100ms"))).await;
    let health = async || client.get("/crowdsec/health").dispatch().await.into_string().await.unwrap_or_default();
    assert_eq!(health().await, r#"{"status":"starting"}"#);
    lapi.says_of_one(nothing());
    eventually(async || health().await == r#"{"status":"ok"}"#).await;
    lapi.says_of_one(failure());
    eventually(async || health().await == r#"{"status":"stale"}"#).await;
}

#[rocket::async_test]
async fn settings_that_contradict_live_mode_stop_the_launch() {
    let lapi = lapi().await;
    for (key, value) in [
        ("mode", "alive"),
        ("live.cache", "500ms"),
        ("live.cache", "61s"),
        ("live.timeout", "6s"),
        ("live.failure_action", "block"),
        ("snapshot", "/srv/live-mode-keeps-none"),
    ] {
        let figment = figment(&lapi).merge((format!("crowdsec.{key}"), value));
        assert!(bouncer_refuses(Client::tracked(app::app(figment)).await), "{key} = {value}");
    }
    let without = without_captcha().merge(("crowdsec.api_url", &lapi.url)).merge(("crowdsec.api_key", "a-key"));
    let without = without.merge(("crowdsec.mode", "live")).merge(("crowdsec.live.failure_action", "captcha"));
    assert!(bouncer_refuses(Client::tracked(app::app(without)).await), "no captcha can be shown");
}
