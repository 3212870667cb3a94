//! What becomes of visitors while AppSec does not answer, and what is an outage?

use std::thread;
use std::time::{Duration, Instant};

use rocket::http::{ContentType, Header, Status};
use rocket::{Build, Rocket};

use super::application::{VISITOR, app_of, post, runs, status, with_appsec, with_captcha};
use crate::common::appsec::{Says, Stub};
use crate::common::{Visitor, client, header};

#[test]
fn an_outage_takes_the_failure_action() {
    let stub = Stub::new();
    let apps = ["passthrough", "ban", "captcha"].map(|action| {
        let figment = with_captcha(&stub).merge(("crowdsec.appsec.timeout", "300ms"));
        (action, client(app_of(figment.merge(("crowdsec.appsec.failure_action", action)))))
    });
    let outages = [
        Says::Close,
        Says::Hang,
        Says::Half(200),
        Says::HalfAndHang(200),
        Says::Late(Duration::from_secs(1)),
        Says::Always(500, String::new()),
        Says::Always(502, "<html>".into()),
        Says::Always(503, "<html>".into()),
        Says::Always(504, String::new()),
        Says::Always(200, String::new()),
        Says::Always(200, "<html>".into()),
        Says::Always(200, "{}".into()),
        Says::Always(302, String::new()),
        Says::Always(404, "404 page not found".into()),
        // The last one, since AppSec is not asked for a while after it.
        Says::Always(401, String::new()),
    ];
    for outage in outages {
        stub.says(outage.clone());
        for (action, client) in &apps {
            let response = client.get("/page").visitor(VISITOR).dispatch();
            let remediation = response.headers().get_one("Crowdsec-Remediation");
            let expected = Some(*action).filter(|action| *action != "passthrough");
            assert_eq!(remediation, expected, "{outage:?} {action}");
            assert_eq!(response.status() == Status::Ok, expected.is_none(), "{outage:?} {action}");
        }
    }
    stub.take();
    apps.iter().for_each(|(_, client)| _ = client.get("/page").visitor(VISITOR).dispatch());
    assert_eq!(stub.take().len(), 0, "a key that is refused is not shown again at once");
    let gone = Stub { url: "http://127.0.0.1:9/appsec".into(), state: stub.state.clone() };
    assert_eq!(status(&client(app_of(with_appsec(&gone))), "/page"), 200);
}

#[test]
fn what_cannot_be_judged_is_refused_and_never_let_in_as_an_outage() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    for status_of_appsec in [400, 413, 414, 417, 431, 501] {
        stub.always(status_of_appsec, "<html>");
        assert_eq!(status(&client, "/page"), 403, "{status_of_appsec}");
    }
    stub.says(Says::Rules);
    let odd = client.get("/page").visitor(VISITOR).header(header("X-Odd", "a\nb")).dispatch();
    assert_eq!(odd.status(), Status::Forbidden, "no valid question can be made of it");
    let mut added = client.post("/text").visitor(VISITOR).body("a=b");
    added.inner_mut().add_header(Header::new("Content-Type", "text/plain"));
    added.inner_mut().add_header(Header::new("Content-Type", "multipart/form-data; boundary=x"));
    assert_eq!(added.dispatch().status(), Status::Forbidden, "its body can be read in two ways");
    assert_eq!(runs(&client), 0);
}

#[test]
fn connections_stay_open_and_one_that_was_closed_meanwhile_costs_nobody_anything() {
    let stub = Stub::new();
    let figment = with_appsec(&stub).merge(("crowdsec.appsec.failure_action", "ban"));
    let client = client(app_of(figment));
    for _ in 0..20 {
        assert_eq!(status(&client, "/page"), 200);
    }
    // The next question may come before the connection of the last one is back in its place.
    assert!(stub.connections() <= 10 && stub.seen().len() == 20, "{} connections", stub.connections());
    let before = stub.connections();
    *stub.state.idle_timeout.lock().unwrap() = Duration::from_millis(10);
    for turn in 0..10 {
        stub.take();
        assert_eq!(status(&client, "/page"), 200, "{turn}");
        assert_eq!(stub.take().len(), 1, "{turn}");
        thread::sleep(Duration::from_millis(150));
    }
    assert!(stub.connections() >= before + 5, "those that were open already are closed after one more question");
}

#[test]
fn a_question_whose_connection_ends_without_an_answer_is_not_asked_again() {
    let stub = Stub::new();
    let figment = with_appsec(&stub).merge(("crowdsec.appsec.failure_action", "ban"));
    let client = client(app_of(figment));
    stub.says(Says::Close);
    assert_eq!(status(&client, "/page"), 403);
    assert_eq!(stub.take().len(), 1, "on a fresh connection");
    assert_eq!(post(&client, "/text", ContentType::Text, "short").status(), Status::Forbidden);
    assert_eq!(stub.take().len(), 1, "with a body");
    stub.says(Says::Rules);
    assert_eq!(status(&client, "/page"), 200);
    let open = stub.take()[0].connection;
    // Waits until the connection is back in its place.
    thread::sleep(Duration::from_millis(150));
    stub.says(Says::Close);
    assert_eq!(status(&client, "/page"), 403);
    let seen: Vec<_> = stub.take().iter().map(|seen| seen.connection).collect();
    assert_eq!(seen, [open], "on one that was open already: AppSec has read the question, and may have counted it");
    stub.says(Says::Rules);
    assert_eq!(status(&client, "/page"), 200, "the next question is asked as ever");
}

/// One length of time for both, the answer's head and what follows.
#[test]
fn an_answer_that_begins_late_and_never_ends_is_waited_for_no_longer_than_any_other() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub).merge(("crowdsec.appsec.timeout", "3s"))));
    stub.says(Says::LateAndHang(Duration::from_millis(2500)));
    let asked = Instant::now();
    assert_eq!(status(&client, "/page"), 200);
    assert!((3.0..5.4).contains(&asked.elapsed().as_secs_f32()), "{:?}", asked.elapsed());
}

#[test]
fn an_appsec_that_is_slow_or_queues_gathers_a_bounded_number_of_questions() {
    let stub = Stub::new();
    let figment = with_appsec(&stub).merge(("crowdsec.appsec.timeout", "1s"));
    let crowd = |app: Rocket<Build>, visitors: usize| {
        rocket::execute(async {
            let client = rocket::local::asynchronous::Client::untracked(app).await.expect("a client");
            let requests = (0..visitors).map(|_| client.get("/page"));
            let answers = requests.map(|request| async { request.dispatch().await.status().code });
            rocket::futures::future::join_all(answers).await
        })
    };
    // A question is under way until all of its answer has come.
    for says in [Says::Hang, Says::HalfAndHang(200)] {
        let stub = Stub::new();
        stub.says(says);
        assert_eq!(crowd(app_of(figment.clone().merge(("crowdsec.appsec.url", &stub.url))), 400), vec![200; 400]);
        // Some are still being closed while the next ones are asked.
        assert!(stub.most_open() < 200, "{} at once", stub.most_open());
        assert!(stub.most_open() > 50, "{} at once", stub.most_open());
    }
    let queue = Stub::new();
    queue.says(Says::Queue(Duration::from_millis(150)));
    let figment = figment.merge(("crowdsec.appsec.url", &queue.url)).merge(("crowdsec.appsec.failure_action", "ban"));
    let codes = crowd(app_of(figment), 20);
    let served = codes.iter().filter(|code| **code == 200).count();
    // Within a second the queue has room for six questions, and for a few more on a machine so busy that some ask later than
    // others. Everybody else is refused.
    assert!((1..20).contains(&served) && codes.iter().all(|code| [200, 403].contains(code)), "{codes:?}");
}
