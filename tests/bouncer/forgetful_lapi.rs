//! Does a LAPI whose database fails lift bans? It answers 200 with an empty or a short list. What is missing from a full
//! answer ends only when LAPI confirms twice that it is gone, half a `resync_frequency` apart.

use rocket::figment::Figment;
use rocket::http::Status;
use rocket::local::asynchronous::Client;

use crate::common::{Answer, FakeLapi, answer, decision, eventually};

async fn launch(figment: Figment) -> Client {
    Client::tracked(app::app(figment)).await.expect("the application launches")
}

async fn is_refused(client: &Client, visitor: &str) -> bool {
    let remote = std::net::SocketAddr::new(visitor.parse().unwrap(), 4711);
    client.get("/crowdsec/captcha").remote(remote).dispatch().await.status() == Status::Forbidden
}

fn bans(ids: std::ops::RangeInclusive<u64>) -> Vec<String> {
    ids.map(|id| decision(id, &format!("192.0.2.{id}"), "ban")).collect()
}

fn failure() -> Answer {
    Answer(Status::InternalServerError, r#"{"message":"unable to query"}"#.into())
}

/// How often everything was asked for.
fn full(lapi: &FakeLapi) -> usize {
    lapi.asked().iter().filter(|asked| asked.startup == "true").count()
}

/// Missing decisions stand unless LAPI says that they are gone, and new decisions come all the same.
#[rocket::async_test]
async fn a_short_answer_ends_nothing_while_lapi_does_not_confirm_it() {
    for says in [
        failure(),
        Answer(Status::Forbidden, r#"{"message":"access forbidden"}"#.into()),
        Answer(Status::NotFound, "".into()),
        Answer(Status::Found, "".into()),
        Answer(Status::NoContent, "".into()),
        Answer(Status::Ok, "".into()),
        Answer(Status::Ok, "{}".into()),
        Answer(Status::Ok, "<html>a login page</html>".into()),
        Answer(Status::Ok, r#"[{"id":1,"#.into()),
        Answer(Status::Ok, r#"[{"id":1}]"#.into()),
        // Each may be the very one that is asked about.
        Answer(Status::Ok, r#"["junk"]"#.into()),
        // LAPI still has the decisions, and has only left them out of its list.
        Answer(Status::Ok, format!("[{}]", bans(1..=3).join(","))),
    ] {
        let lapi = FakeLapi::answering([answer(&bans(1..=3), &[])]).await;
        lapi.says_of_one(says.clone());
        let client = launch(lapi.figment().merge(("crowdsec.resync_frequency", "200ms"))).await;
        lapi.then(answer(&[], &[]));
        let asked = full(&lapi);
        eventually(async || full(&lapi) > asked + 2 && lapi.questions().len() > 2).await;
        lapi.then(answer(&bans(9..=9), &[]));
        eventually(async || is_refused(&client, "192.0.2.9").await).await;
        for banned in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            assert!(is_refused(&client, banned).await, "{banned}, LAPI says {} {}", says.0, says.1);
        }
    }
}

#[rocket::async_test]
async fn what_is_new_counts_while_lapi_is_still_asked_about_what_is_missing() {
    let lapi = FakeLapi::answering([answer(&bans(1..=3), &[]), failure(), answer(&bans(2..=9), &[])]).await;
    lapi.hangs_when_asked_of_one(true);
    let client = launch(lapi.figment()).await;
    eventually(async || is_refused(&client, "192.0.2.9").await).await;
    // The question that hangs is answered now. If the poll had been given up before the new decisions counted, the next poll
    // would have to ask once more.
    lapi.hangs_when_asked_of_one(false);
    let asked = lapi.asked().len();
    eventually(async || lapi.asked().len() > asked + 2).await;
    assert_eq!(lapi.questions().len(), 1);
    assert!(is_refused(&client, "192.0.2.1").await, "one answer ends nothing");
}

#[rocket::async_test]
async fn one_missing_decision_of_few_is_as_safe_as_all_of_many() {
    let lapi = FakeLapi::answering([answer(&bans(1..=200), &[])]).await;
    lapi.says_of_one(failure());
    let client = launch(lapi.figment().merge(("crowdsec.resync_frequency", "200ms"))).await;
    for left in [199, 100, 1] {
        lapi.then(answer(&bans(1..=left), &[]));
        let questions = lapi.questions().len();
        eventually(async || lapi.questions().len() > questions).await;
        assert!(is_refused(&client, "192.0.2.200").await, "{left} left");
    }
    // LAPI has all decisions again, and all is as before: changes are asked for.
    lapi.then(answer(&bans(1..=200), &[]));
    eventually(async || lapi.asked().last().is_some_and(|asked| asked.startup == "false")).await;
    assert!(is_refused(&client, "192.0.2.200").await);
}

#[rocket::async_test]
async fn what_is_truly_gone_ends_with_the_second_answer_that_lapi_confirms() {
    let net = |id, value| decision(id, value, "ban");
    let all = [net(1, "192.0.2.1"), net(2, "198.51.100.0/24"), net(3, "2001:db8::/32"), net(4, "192.0.2.4")];
    let lapi = FakeLapi::answering([answer(&all, &[])]).await;
    let client = launch(lapi.figment().merge(("crowdsec.resync_frequency", "2s"))).await;
    // LAPI knows another decision on the same address, and one on a network around it.
    lapi.says_of_one(answer_of_one(&[net(9, "192.0.2.1"), net(4, "192.0.2.0/24")]));
    lapi.then(answer(&all[3..], &[]));
    eventually(async || lapi.questions().len() == 3).await;
    let asked = lapi.asked().len();
    eventually(async || lapi.asked().len() > asked).await;
    assert!(is_refused(&client, "192.0.2.1").await, "one answer ends nothing");
    for free in ["192.0.2.1", "198.51.100.7", "2001:db8::7"] {
        eventually(async || !is_refused(&client, free).await).await;
    }
    assert!(is_refused(&client, "192.0.2.4").await);
    let mut questions = lapi.questions();
    questions.sort();
    questions.dedup();
    let of = |what: &str| format!("dedup=false&{what}");
    let expected = [of("ip=192.0.2.1"), of("range=198.51.100.0%2F24"), of("range=2001%3Adb8%3A%3A%2F32")];
    assert_eq!(questions, expected);
    assert_eq!(lapi.questions().len(), 6, "each was asked about once for each answer");
}

#[rocket::async_test]
async fn a_decision_without_an_id_ends_too_though_another_one_stands_on_its_address() {
    let nameless = decision(7, "192.0.2.1", "ban").replace("\"id\":7,", "");
    let lapi = FakeLapi::answering([answer(&[nameless], &[])]).await;
    let client = launch(lapi.figment().merge(("crowdsec.resync_frequency", "1s"))).await;
    lapi.says_of_one(answer_of_one(&[decision(9, "192.0.2.1", "captcha")]));
    assert!(is_refused(&client, "192.0.2.1").await);
    lapi.then(answer(&[], &[]));
    eventually(async || !is_refused(&client, "192.0.2.1").await).await;
}

fn answer_of_one(decisions: &[String]) -> Answer {
    Answer(Status::Ok, format!("[{}]", decisions.join(",")))
}

#[rocket::async_test]
async fn at_most_five_are_asked_about_and_everything_is_asked_for_again_after_a_question() {
    let lapi = FakeLapi::answering([answer(&bans(1..=200), &[]), failure(), answer(&[], &[])]).await;
    let _client = launch(lapi.figment()).await;
    eventually(async || lapi.asked().len() > 5).await;
    assert_eq!(lapi.questions().len(), 5);
    // Everything at the launch, changes, everything because these failed, everything because of the questions, and changes.
    let startup: Vec<_> = lapi.asked().iter().take(5).map(|asked| asked.startup.clone()).collect();
    assert_eq!(startup, ["true", "false", "true", "true", "false"]);
}

#[rocket::async_test]
async fn what_a_full_answer_names_as_deleted_ends_without_a_question() {
    let both = bans(1..=2);
    let lapi = FakeLapi::answering([answer(&both, &[]), failure(), answer(&both[1..], &both[..1])]).await;
    let client = launch(lapi.figment()).await;
    eventually(async || !is_refused(&client, "192.0.2.1").await).await;
    assert!(is_refused(&client, "192.0.2.2").await);
    assert_eq!(lapi.questions(), Vec::<String>::new());
}

/// LAPI's database may fail while the application starts, when no decision is known yet that would be missing.
#[rocket::async_test]
async fn after_an_empty_answer_everything_is_asked_for_again_soon() {
    let lapi = FakeLapi::answering([answer(&[], &[])]).await;
    let client = launch(lapi.figment()).await;
    eventually(async || full(&lapi) > 1).await;
    lapi.then(answer(&bans(1..=1), &[]));
    eventually(async || is_refused(&client, "192.0.2.1").await).await;
}

/// Where more is missing each time, it is asked for changes too, and for everything again all the same.
#[rocket::async_test]
async fn after_a_second_question_in_a_row_everything_is_asked_for_again_soon() {
    let first = [answer(&bans(1..=200), &[]), failure()];
    let lapi = FakeLapi::answering(first.into_iter().chain([199, 198].map(|left| answer(&bans(1..=left), &[])))).await;
    let _client = launch(lapi.figment()).await;
    eventually(async || full(&lapi) > 3).await;
    let startup: Vec<_> = lapi.asked().iter().take(5).map(|asked| asked.startup.clone()).collect();
    assert_eq!((startup.join(" ").as_str(), lapi.questions().len()), ("true false true true false", 2));
}

/// What was left out counts once greater ones have ended.
#[rocket::async_test]
async fn after_an_answer_with_more_on_one_address_than_is_held_everything_is_asked_for_again_soon() {
    let many: Vec<String> = (1..=257).map(|id| decision(id, "192.0.2.1", "ban")).collect();
    let lapi = FakeLapi::answering([answer(&many, &[]), answer(&[], &[])]).await;
    let _client = launch(lapi.figment()).await;
    eventually(async || full(&lapi) > 1).await;
}

/// Every two hours LAPI writes the community's list anew: with other ids, and without naming the old ones as deleted.
#[rocket::async_test]
async fn who_is_taken_off_a_list_that_lapi_has_written_anew_is_free_with_the_next_poll() {
    let listed = |id| decision(id, "192.0.2.1", "ban").replace("cscli", "CAPI");
    let nothing = || answer(&[], &[]);
    let lapi = FakeLapi::answering([answer(&[listed(1)], &[]), failure(), answer(&[listed(2)], &[]), nothing()]).await;
    let client = launch(lapi.figment()).await;
    eventually(async || lapi.asked().len() > 3).await;
    assert!(is_refused(&client, "192.0.2.1").await);
    lapi.then(answer(&[], &[listed(2)]));
    lapi.then(nothing());
    eventually(async || !is_refused(&client, "192.0.2.1").await).await;
    assert_eq!(lapi.questions(), Vec::<String>::new(), "nothing is missing");
}
