//! What does a panic cost? The piece of work that it came from.

use rocket::http::Status;
use rocket::local::asynchronous::Client;

use crate::common::logger::{logged, logger, panic_at};
use crate::common::{Answer, FakeLapi, answer, decision, eventually};

async fn is_banned(client: &Client, visitor: &str) -> bool {
    let remote = std::net::SocketAddr::new(visitor.parse().unwrap(), 4711);
    client.get("/crowdsec/captcha").remote(remote).dispatch().await.status() == Status::Forbidden
}

#[rocket::async_test]
async fn a_panic_in_a_poll_costs_that_poll_and_is_told_once() {
    let _turn = logger().await;
    let lapi = FakeLapi::answering([answer(&[decision(1, "192.0.2.1", "ban")], &[]), answer(&[], &[])]).await;
    let client = Client::tracked(app::app(lapi.figment())).await.expect("a launch");
    let asked_for_everything = || lapi.asked().iter().filter(|asked| asked.startup == "true").count();
    let before = asked_for_everything();
    // The line that tells of what a delta brought, in the middle of the poll.
    panic_at("CrowdSec: 1 decision added");
    lapi.then(answer(&[decision(2, "192.0.2.2", "ban")], &[]));
    let all = [decision(1, "192.0.2.1", "ban"), decision(2, "192.0.2.2", "ban"), decision(3, "192.0.2.3", "ban")];
    lapi.then(answer(&all, &[]));
    lapi.then(answer(&[], &[]));
    eventually(async || logged("a poll of ours panicked") > 0).await;
    panic_at("");
    eventually(async || is_banned(&client, "192.0.2.3").await).await;
    assert!(asked_for_everything() > before, "{:?}", lapi.asked());
    eventually(async || logged("is back after") == 1).await;
    assert_eq!(logged("a poll of ours panicked"), 1);
    assert_eq!(logged("failed printing to stdout"), 1, "in its own words");
}

#[rocket::async_test]
async fn where_nothing_can_be_told_polling_goes_on_and_the_shutdown_ends() {
    let busy = || Answer(Status::InternalServerError, "".into());
    let _turn = logger().await;
    let lapi = FakeLapi::answering([answer(&[], &[])]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let figment = lapi.figment().merge(("port", 0)).merge(("shutdown.ctrlc", false));
    let figment = figment.merge(("crowdsec.snapshot", folder.path().join("decisions")));
    let rocket = app::app(figment).ignite().await.expect("an ignition");
    let shutdown = rocket.shutdown();
    let running = tokio::spawn(rocket.launch());
    eventually(async || logged("Listening on") > 0).await;
    panic_at("CrowdSec");
    // Lost and back, and lost again: each would be told.
    for round in 0..2 {
        let asked = lapi.asked().len();
        lapi.then(busy());
        lapi.then(answer(&[decision(round + 1, "192.0.2.1", "ban")], &[]));
        lapi.then(answer(&[], &[]));
        eventually(async || lapi.asked().len() > asked + 4).await;
    }
    assert_eq!(logged(" is lost: ") + logged(" is back after "), 0);
    shutdown.notify();
    running.await.expect("no panic").expect("an end");
}
