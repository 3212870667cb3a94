//! What does the log tell in live mode, where LAPI says nothing of a visitor?

use std::net::SocketAddr;

use rocket::http::Status;
use rocket::local::asynchronous::Client;

use crate::common::logger::{logged, logger};
use crate::common::{Answer, FakeLapi, answer};

/// As in stream mode, except that `failure_action` may refuse visitors.
#[rocket::async_test]
async fn who_is_let_in_before_lapi_has_answered_is_told_with_the_failure_action() {
    for (action, told) in
        [("ban", "whom `live.failure_action` and your own"), ("passthrough", "whom your own `decisions`")]
    {
        let _turn = logger().await;
        let lapi = FakeLapi::answering([answer(&[], &[])]).await;
        lapi.says_of_one(Answer(Status::InternalServerError, "{}".into()));
        let figment = lapi.figment().merge(("crowdsec.mode", "live")).merge(("crowdsec.live.failure_action", action));
        let _client = Client::tracked(app::app(figment)).await.expect("the application launches");
        assert_eq!(logged(&format!("EVERYBODY IS LET IN {told}")), 1, "{action}");
    }
}

#[rocket::async_test]
async fn why_lapi_said_nothing_of_a_visitor_is_told_once() {
    let refused = Answer(Status::Forbidden, r#"{"message":"access forbidden"}"#.into());
    for (says, timeout, why) in [
        (Some(refused), "5s", "403: LAPI refuses the key"),
        (Some(Answer(Status::InternalServerError, "{}".into())), "5s", "status 500: see LAPI's own log"),
        (None, "20ms", "it took longer than `live.timeout` (1 so far)"),
    ] {
        let _turn = logger().await;
        let lapi = FakeLapi::answering([answer(&[], &[])]).await;
        let figment = lapi.figment().merge(("crowdsec.mode", "live")).merge(("crowdsec.live.timeout", timeout));
        let client = Client::tracked(app::app(figment)).await.expect("the application launches");
        lapi.hangs_when_asked_of_one(says.is_none());
        says.into_iter().for_each(|says| lapi.says_of_one(says));
        for visitor in ["192.0.2.1", "192.0.2.2"] {
            let request = client.get("/").remote(SocketAddr::new(visitor.parse().unwrap(), 1));
            assert_ne!(request.dispatch().await.status(), Status::Forbidden);
        }
        assert_eq!(logged("did not answer a question about a visitor"), 1);
        assert_eq!(logged(&format!("about a visitor: {why}")), 1, "{why}");
        lapi.hangs_when_asked_of_one(false);
    }
}
