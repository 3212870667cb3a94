//! Does LAPI learn what was done with its decisions, to the last request? Shown against a fake as strict as CrowdSec's.

#[path = "../common/mod.rs"]
mod common;
mod lapi;
mod shutdown;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::logger::{install, logged, logger};
use common::{bouncer_refuses, eventually, figment};
use lapi::{A_PAGE, KEY, Lapi, Mode, NO_TLS, judge, shown};
use rocket::figment::Figment;
use rocket::http::{Accept, ContentType, Status};
use rocket::local::asynchronous::Client;
use serde_json::Value;

/// Whom the decisions below are about.
const CAPI: &str = "192.0.2.1";
const CAPI_CAPTCHA: &str = "192.0.2.2";
const LIST: &str = "2001:db8::1";
const NOBODY: &str = "198.51.100.1";
/// Who reads the figures.
const OPERATOR: &str = "198.51.100.9";

fn decision(id: u32, origin: &str, value: &str, kind: &str) -> String {
    format!(
        r#"{{"duration":"4h","id":{id},"origin":"{origin}","scenario":"tor-exit-nodes","scope":"Ip","type":"{kind}","value":"{value}"}}"#
    )
}

fn decisions() -> [String; 3] {
    [decision(1, "CAPI", CAPI, "ban"), decision(2, "CAPI", CAPI_CAPTCHA, "captcha"), decision(3, "lists", LIST, "ban")]
}

fn figment_of(lapi: &Lapi) -> Figment {
    figment()
        .merge(("crowdsec.api_url", &lapi.url))
        .merge(("crowdsec.api_key", KEY))
        .merge(("crowdsec.update_frequency", "100ms"))
        .merge(("crowdsec.captcha.provider", "altcha"))
}

async fn launch(figment: Figment) -> Client {
    install();
    Client::untracked(app::app(figment)).await.expect("the application launches")
}

async fn visit(client: &Client, visitor: &str, times: usize) {
    for _ in 0..times {
        let remote = SocketAddr::new(visitor.parse().expect("an address"), 4711);
        client.get("/crowdsec/nowhere").remote(remote).dispatch().await;
    }
}

fn number(lapi: &Lapi, origin: &str, name: &str) -> i64 {
    shown(&lapi.pushes()).get(&(origin.to_owned(), name.to_owned())).copied().unwrap_or(-1)
}

#[test]
fn the_lapi_of_these_tests_is_as_strict_as_crowdsecs() {
    let item = r#"{"name":"dropped","unit":"request","value":0,"labels":{"origin":"CAPI"}}"#;
    let metrics =
        |items: &str| format!(r#"[{{"meta":{{"window_size_seconds":1,"utc_now_timestamp":1}},"items":{items}}}]"#);
    let component = |rest: &str| format!(r#"{{"version":"v1","utc_startup_timestamp":1{rest}}}"#);
    let body = |components: &[String]| format!(r#"{{"remediation_components":[{}]}}"#, components.join(","));
    let with = |metrics: String| body(&[component(&format!(r#","metrics":{metrics}"#))]);
    let long = "x".repeat(256);
    for (status, body) in [
        (201, body(&[component("")])),
        (201, with("[]".into())),
        (201, with(metrics("[]"))),
        (201, with(metrics(&format!("[{item}]")))),
        (400, "no JSON".into()),
        (400, body(&[r#"{"version":"v1","utc_startup_timestamp":"1"}"#.into()])),
        (400, with(metrics(&format!("[{}]", item.replace(r#""CAPI""#, "1"))))),
        (400, with("{}".into())),
        (422, body(&[r#"{"utc_startup_timestamp":1}"#.into()])),
        (422, body(&[r#"{"version":"v1"}"#.into()])),
        (422, body(&[component(r#","os":{}"#)])),
        (422, with(metrics("null"))),
        (422, with(metrics(&format!("[{}]", item.replace(r#""value":0,"#, ""))))),
        (422, with(metrics(&format!("[{}]", item.replace("CAPI", &long))))),
        (400, body(&[component(""), component("")])),
        (400, body(&[])),
        (400, "{}".into()),
    ] {
        assert_eq!(judge(KEY, &body).err().unwrap_or(201), status, "{body}");
        assert_eq!(judge("another", &body).err(), Some(403), "{body}");
    }
}

#[rocket::async_test]
async fn what_was_done_is_what_cscli_shows() {
    let lapi = Lapi::new(Mode::Good, &decisions());
    let client = launch(figment_of(&lapi).merge(("crowdsec.decisions", [own("203.0.113.1")]))).await;
    for (visitor, times) in [(CAPI, 3), (CAPI_CAPTCHA, 3), (LIST, 2), (NOBODY, 5), ("203.0.113.1", 4)] {
        visit(&client, visitor, times).await;
    }
    client.terminate().await;
    assert_eq!(number(&lapi, "", "processed"), 17);
    // Three of each remediation: two equal numbers of one origin are two numbers.
    assert_eq!(number(&lapi, "CAPI", "dropped"), 6);
    assert_eq!(number(&lapi, "lists:tor-exit-nodes", "dropped"), 2);
    assert_eq!(number(&lapi, "local", "dropped"), 4);
    let held =
        ["CAPI", "lists:tor-exit-nodes", "local", "cscli"].map(|origin| number(&lapi, origin, "active_decisions"));
    assert_eq!(held, [2, 1, 1, 0]);
    // The origins that are expected are there with 0.
    assert_eq!((number(&lapi, "cscli", "dropped"), number(&lapi, "fallback", "dropped")), (0, 0));
}

fn own(value: &str) -> std::collections::BTreeMap<&str, &str> {
    [("value", value), ("type", "ban")].into()
}

#[rocket::async_test]
async fn the_first_push_comes_by_itself_and_says_who_we_are_as_each_poll_does() {
    let lapi = Lapi::new(Mode::Good, &decisions());
    let client = launch(figment_of(&lapi)).await;
    eventually(async || !lapi.pushes().is_empty()).await;
    client.terminate().await;
    let pushes = lapi.pushes();
    let agent = format!("{}/{}", pushes[0].r#type.as_deref().unwrap(), pushes[0].version.as_deref().unwrap());
    assert_eq!(agent, lapi.agent());
    for push in &pushes {
        assert_eq!((&push.version, &push.os), (&pushes[0].version, &pushes[0].os));
    }
    // No two windows have the same time, not even those of different pushes.
    let times = pushes.iter().flat_map(|push| &push.metrics).map(|metrics| metrics.meta.as_ref().unwrap());
    let times: Vec<i64> = times.map(|meta| meta.utc_now_timestamp.unwrap()).collect();
    assert!(times.len() >= 12 && times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
}

/// The failure is told once, and the numbers are sent with the next push.
#[rocket::async_test]
async fn a_push_that_fails_loses_nothing() {
    let _turn = logger().await;
    for (mode, told) in [
        (Mode::Old, "older than 1.6.3"),
        (Mode::Fails(500), "status 500"),
        (Mode::Fails(403), "403: LAPI refuses the key"),
        (Mode::Fails(401), "status 401: see LAPI's own log"),
        (Mode::Fails(302), "status 302"),
        (Mode::Fails(A_PAGE), "status 200: see LAPI's own log, and that of a gateway"),
        (Mode::Fails(NO_TLS), "If it speaks TLS, write https://"),
        (Mode::Cuts, "cannot be sent: they are kept"),
    ] {
        let before = logged(told);
        let lapi = Lapi::new(mode, &decisions());
        let client = launch(figment_of(&lapi)).await;
        visit(&client, CAPI, 2).await;
        eventually(async || lapi.tried() == 1 && logged(told) == before + 1).await;
        visit(&client, CAPI, 3).await;
        lapi.mode(Mode::Good);
        client.terminate().await;
        assert_eq!((number(&lapi, "CAPI", "dropped"), lapi.pushes().len()), (5, 1), "{told}");
    }
}

#[rocket::async_test]
async fn what_stays_wrong_is_told_once() {
    let _turn = logger().await;
    let lapi = Lapi::new(Mode::Old, &[]);
    let client = launch(figment_of(&lapi)).await;
    eventually(async || lapi.tried() == 1).await;
    client.terminate().await;
    assert_eq!((lapi.tried(), logged("older than 1.6.3")), (2, 1));
}

/// How many refusals the third push tells. Three came after the second push, which told two and got this status.
async fn told_after(status: u16) -> i64 {
    let lapi = Lapi::new(Mode::Fails(status), &decisions());
    let client = launch(figment_of(&lapi)).await;
    eventually(async || lapi.tried() == 1).await;
    visit(&client, CAPI, 2).await;
    app::crowdsec::skip_time(client.rocket(), Duration::from_secs(16 * 60));
    eventually(async || lapi.tried() == 2).await;
    visit(&client, CAPI, 3).await;
    lapi.mode(Mode::Good);
    client.terminate().await;
    number(&lapi, "CAPI", "dropped")
}

/// LAPI would not understand the numbers the next time either, nor all that comes with them.
#[rocket::async_test]
async fn what_lapi_does_not_understand_is_told_and_dropped() {
    let _turn = logger().await;
    for status in [400, 422] {
        assert_eq!(told_after(status).await, 3, "{status}");
        assert!(logged(&format!("are lost ({status}")) > 0);
    }
}

/// LAPI's own description of the route says 200.
#[rocket::async_test]
async fn numbers_that_lapi_takes_with_any_status_of_success_are_not_sent_again() {
    let _turn = logger().await;
    for status in [200, 202, 204] {
        assert_eq!(told_after(status).await, 3, "{status}");
    }
    assert_eq!(logged("cannot be sent"), 0);
}

#[rocket::async_test]
async fn a_lapi_that_hangs_at_a_push_holds_up_no_poll_no_request_and_no_end() {
    let lapi = Lapi::new(Mode::Hangs, &decisions());
    let client = launch(figment_of(&lapi)).await;
    eventually(async || lapi.tried() == 1).await;
    let polls = lapi.polls();
    visit(&client, CAPI, 2).await;
    eventually(async || lapi.polls() > polls + 3).await;
    client.terminate().await;
    // The push still hangs, and its numbers may have arrived: they are not sent once more.
    assert_eq!((lapi.tried(), lapi.pushes().len()), (1, 0));
    lapi.mode(Mode::Good);
}

/// `cscli` keeps an origin's last number for a week.
#[rocket::async_test]
async fn an_origin_whose_decisions_are_all_gone_is_sent_with_0() {
    let lapi = Lapi::new(Mode::Good, &decisions());
    let client = launch(figment_of(&lapi)).await;
    eventually(async || number(&lapi, "lists:tor-exit-nodes", "active_decisions") == 1).await;
    let gone = decision(3, "lists", LIST, "ban").replace("4h", "-1s");
    let nothing = r#"{"new":[],"deleted":[]}"#.to_owned();
    lapi.answers(&[format!(r#"{{"new":[],"deleted":[{gone}]}}"#), nothing]);
    let polls = lapi.polls();
    eventually(async || lapi.polls() > polls + 2).await;
    client.terminate().await;
    assert_eq!(number(&lapi, "lists:tor-exit-nodes", "active_decisions"), 0);
    assert_eq!(number(&lapi, "CAPI", "active_decisions"), 2);
}

/// A full answer does not name what is gone, and a decision on an account has no family of addresses to be found by.
#[rocket::async_test]
async fn an_origin_of_which_a_full_answer_has_nothing_any_more_is_sent_with_0() {
    let account = decision(4, "console", "eve", "ban").replace("\"Ip\"", "\"username\"");
    let lapi = Lapi::new(Mode::Good, &[]);
    let of = |decisions: &[String]| format!(r#"{{"new":[{}],"deleted":[]}}"#, decisions.join(","));
    lapi.answers(&[of(&[account, decision(5, "cscli", CAPI, "ban")])]);
    let client = launch(
        figment_of(&lapi)
            .merge(("crowdsec.resync_frequency", "200ms"))
            .merge(("crowdsec.scopes", ["ip", "range", "username"])),
    )
    .await;
    eventually(async || number(&lapi, "console", "active_decisions") == 1).await;
    assert_eq!(number(&lapi, "cscli", "active_decisions"), 1);
    lapi.answers(&[of(&[])]);
    // The address is banned until two answers, some time apart, both lack its decision.
    let remote = SocketAddr::new(CAPI.parse().expect("an address"), 4711);
    let is_free =
        async || client.get("/crowdsec/captcha").remote(remote).dispatch().await.status() != Status::Forbidden;
    eventually(is_free).await;
    // After further full answers, nothing here knows of the decisions any more.
    let polls = lapi.polls();
    eventually(async || lapi.polls() > polls + 10).await;
    client.terminate().await;
    let held = ["console", "cscli"].map(|origin| number(&lapi, origin, "active_decisions"));
    assert_eq!(held, [0, 0]);
}

#[rocket::async_test]
async fn however_many_origins_lapi_sends_few_are_told_apart_and_none_is_lost() {
    let many: Vec<String> = (1..=200)
        .map(|id| decision(id, &format!("origin-{id}{}", "x".repeat(300)), &format!("192.0.2.{id}"), "ban"))
        .collect();
    let lapi = Lapi::new(Mode::Good, &many);
    let client = launch(figment_of(&lapi)).await;
    for id in 1..=200 {
        visit(&client, &format!("192.0.2.{id}"), 1).await;
    }
    client.terminate().await;
    let shown = shown(&lapi.pushes());
    let of =
        |name: &str| shown.iter().filter(|((_, found), _)| found == name).map(|(_, value)| *value).collect::<Vec<_>>();
    assert_eq!((of("dropped").iter().sum::<i64>(), of("active_decisions").iter().sum::<i64>()), (200, 200));
    assert!((10..=70).contains(&of("dropped").len()), "{} origins", of("dropped").len());
}

async fn look(client: &Client, path: &'static str) -> String {
    let remote = SocketAddr::new(OPERATOR.parse().expect("an address"), 4711);
    let response = client.get(path).remote(remote).header(Accept::JSON).dispatch().await;
    response.into_string().await.expect("figures")
}

async fn of_status(client: &Client) -> Value {
    serde_json::from_str(&look(client, "/crowdsec/status").await).expect("JSON")
}

/// The sum of all series that begin with `name`.
fn total(figures: &str, name: &str) -> i64 {
    let series = figures.lines().filter_map(|line| line.strip_prefix("crowdsec_rocket_"));
    let numbers =
        series.filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next()?.parse::<i64>().ok());
    numbers.sum()
}

/// A push succeeds or fails in the middle of it all, and the shutdown sends another one.
#[test]
fn under_load_from_many_threads_every_request_is_told_exactly_once() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let _turn = logger().await;
        for mode in [Mode::Good, Mode::Cuts] {
            let lapi = Lapi::new(mode, &decisions());
            let figment = figment_of(&lapi).merge(("crowdsec.metrics_from", [OPERATOR]));
            let client = Arc::new(launch(figment).await);
            let mut under_way = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let (client, lapi) = (client.clone(), lapi.clone());
                under_way.spawn(async move {
                    for visitor in [CAPI, CAPI_CAPTCHA, LIST, NOBODY] {
                        visit(&client, visitor, 10).await;
                    }
                    while lapi.tried() == 0 {
                        tokio::task::yield_now().await;
                    }
                    for visitor in [CAPI, CAPI_CAPTCHA, LIST, NOBODY] {
                        visit(&client, visitor, 15).await;
                    }
                });
            }
            under_way.join_all().await;
            let is_taken = mode == Mode::Good;
            eventually(async || of_status(&client).await["usage_pushed"].is_string() == is_taken).await;
            // What the operator reads is what LAPI is told at the end. Each look is itself a request that is let in.
            let status = of_status(&client).await;
            let sum =
                |of: &str| status["hour"].as_array().expect("minutes").iter().filter_map(|it| it[of].as_i64()).sum();
            let (let_in, refused): (i64, i64) = (sum("let_in"), sum("refused"));
            let figures = look(&client, "/crowdsec/metrics").await;
            let counted = ["requests_total{", r#"dropped_total{origin="CAPI""#, r#"dropped_total{origin="lists:"#];
            let counted = counted.map(|name| total(&figures, name));
            assert_eq!((refused, let_in + refused + 1), (600, counted[0]));
            lapi.mode(Mode::Good);
            Arc::into_inner(client).expect("the last one").terminate().await;
            let told = ["processed", "dropped", "dropped"].into_iter().zip(["", "CAPI", "lists:tor-exit-nodes"]);
            let told: Vec<i64> = told.map(|(name, origin)| number(&lapi, origin, name)).collect();
            assert_eq!(told[1..], [400, 200]);
            assert_eq!(told, counted);
            let looks = let_in + 1 - 200;
            assert!(looks >= 3 && told[0] == 800 + looks, "{told:?} with {looks} looks");
        }
    });
}

#[rocket::async_test]
async fn the_operator_can_have_none_of_it() {
    let lapi = Lapi::new(Mode::Good, &[]);
    let client = launch(figment_of(&lapi).merge(("crowdsec.usage_metrics", "off"))).await;
    eventually(async || lapi.polls() > 5).await;
    client.terminate().await;
    assert_eq!(lapi.tried(), 0);
    for (value, is_good) in
        [("9m59s", false), ("never", false), ("0", false), ("10m", true), ("OFF", true), ("3600", true)]
    {
        let app = app::app(figment().merge(("crowdsec.usage_metrics", value)));
        assert_eq!(bouncer_refuses(Client::untracked(app).await), !is_good, "{value}");
    }
}

#[rocket::async_test]
async fn what_rests_on_no_decision_is_told_apart() {
    let lapi = Lapi::new(Mode::Good, &[]);
    let figment = figment_of(&lapi).merge(("crowdsec.trusted_proxies", ["10.0.0.1"]));
    let client = launch(figment).await;
    visit(&client, "10.0.0.1", 2).await;
    let long = format!("/{}", "x".repeat(9000));
    let answer = client.post(long).header(ContentType::Form).dispatch().await.status();
    assert_eq!(answer, Status::UriTooLong);
    client.terminate().await;
    assert_eq!((number(&lapi, "fallback", "dropped"), number(&lapi, "", "processed")), (3, 3));
}

/// Each push tells the true length of its window, also where a push in between failed.
#[rocket::async_test]
async fn a_push_comes_every_fifteen_minutes_and_tells_how_long_its_window_is() {
    let _turn = logger().await;
    let lapi = Lapi::new(Mode::Good, &decisions());
    let client = launch(figment_of(&lapi)).await;
    eventually(async || lapi.pushes().len() == 1).await;
    let after = async |minutes: u64, pushes: usize| {
        let tried = lapi.tried();
        visit(&client, CAPI, 1).await;
        app::crowdsec::skip_time(client.rocket(), Duration::from_secs(minutes * 60));
        let polls = lapi.polls();
        // Whether a push is due is looked at as often as LAPI is polled.
        eventually(async || lapi.polls() > polls + 3 && lapi.tried() >= tried + pushes).await;
        assert_eq!(lapi.tried(), tried + pushes, "after {minutes} minutes");
    };
    after(14, 0).await;
    after(2, 1).await;
    lapi.mode(Mode::Fails(500));
    after(16, 1).await;
    lapi.mode(Mode::Good);
    after(16, 1).await;
    let windows = |push: &lapi::Component| push.metrics[0].meta.as_ref().unwrap().window_size_seconds.unwrap() / 60;
    assert_eq!(lapi.pushes().iter().map(windows).collect::<Vec<_>>(), [0, 16, 32]);
    assert_eq!(number(&lapi, "CAPI", "dropped"), 4);
}
