//! What does the log tell of AppSec, and what never?

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use app::crowdsec::Inspected;
use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use rocket::figment::util::map;
use rocket::http::{ContentType, Header};
use rocket::{get, post, routes};

use crate::common::appsec::{ATTACK, KEY, Says, Stub};
use crate::common::logger::{logged, logger};
use crate::common::{Visitor, client, figment};

static RAN: AtomicUsize = AtomicUsize::new(0);

#[post("/plain", data = "<body>")]
fn plain(body: String) -> String {
    RAN.fetch_add(1, Ordering::SeqCst);
    body
}

fn with_appsec(stub: &Stub) -> Figment {
    figment()
        .merge(("crowdsec.api_url", "http://127.0.0.1:9/"))
        .merge(("crowdsec.api_key", KEY))
        .merge(("crowdsec.appsec.url", &stub.url))
        .merge(("crowdsec.appsec.timeout", "5s"))
        .merge(("limits.string", "1 MiB"))
}

#[rocket::async_test]
async fn of_each_route_the_first_body_that_its_handler_gets_unjudged_is_told() {
    let _turn = logger().await;
    thread::spawn(|| {
        let stub = Stub::new();
        #[post("/inspected", data = "<_body>")]
        fn inspected(_body: Inspected<String>) {}
        #[get("/bodiless")]
        fn bodiless() {}
        let client = client(app::protected(with_appsec(&stub)).mount("/", routes![plain, inspected, bodiless]));
        let send = |path: &'static str, length: usize| {
            client
                .post(path)
                .visitor("192.0.2.1")
                .header(ContentType::Text)
                .body("x".repeat(length))
                .dispatch()
                .status()
                .code
        };
        assert_eq!(send("/plain", 400), 200);
        assert_eq!(send("/nowhere", 4000), 404);
        assert_eq!(send("/inspected", 2 << 20), 413);
        assert_eq!(logged("AppSec has not seen the body"), 0, "judged whole, or seen by nobody");
        // Bodies that are sent to a route that reads none hide no other route.
        let to_bodiless = || client.get("/bodiless").visitor("192.0.2.1").body("x".repeat(4000)).dispatch();
        for _ in 0..11 {
            assert_eq!(to_bodiless().status().code, 200);
        }
        for _ in 0..11 {
            assert_eq!(send("/plain", 4000), 200);
        }
        for route in ["GET /bodiless", "POST /plain"] {
            assert_eq!(logged(&format!("AppSec has not seen the body of a request to `{route}`")), 1, "{route}");
        }
        assert_eq!(logged("AppSec has not seen the body"), 2);
    })
    .join()
    .unwrap();
}

#[rocket::async_test]
async fn a_body_that_the_operator_has_excluded_is_not_told_of() {
    let _turn = logger().await;
    thread::spawn(|| {
        let stub = Stub::new();
        let figment = with_appsec(&stub).merge(("crowdsec.excluded_paths", ["/plain"]));
        let client = client(app::protected(figment).mount("/", routes![plain]));
        let request = client.post("/plain").visitor("192.0.2.1").header(ContentType::Text);
        assert_eq!(request.body("x".repeat(4000)).dispatch().status().code, 200);
        assert_eq!(logged("AppSec has not seen the body"), 0);
    })
    .join()
    .unwrap();
}

#[rocket::async_test]
async fn an_outage_is_told_once_a_minute_and_neither_key_nor_cookie_nor_body_ever() {
    let _turn = logger().await;
    thread::spawn(|| {
        let stub = Stub::new();
        let client = client(app::app(with_appsec(&stub)).mount("/", routes![plain]));
        let says =
            [Says::Close, Says::Always(401, String::new()), Says::Always(500, "secret-answer".into()), Says::Rules];
        for says in says {
            stub.says(says);
            for _ in 0..3 {
                let request =
                    client.post("/plain").visitor("192.0.2.1").header(Header::new("Cookie", "c=secret-cookie"));
                request.body(format!("secret-body {ATTACK}")).dispatch();
            }
        }
        assert_eq!(logged("does not answer"), 1);
        assert_eq!(logged("`appsec.failure_action`"), 1, "it says what becomes of the visitors");
        for secret in [KEY, "secret-cookie", "secret-body", "secret-answer"] {
            assert_eq!(logged(secret), 0, "{secret}");
        }
    })
    .join()
    .unwrap();
}

#[rocket::async_test]
async fn a_ban_of_appsecs_is_told_with_its_reference() {
    let _turn = logger().await;
    thread::spawn(|| {
        let stub = Stub::new();
        let client = client(app::app(with_appsec(&stub)));
        client.get("/.env").visitor("192.0.2.77").dispatch();
        assert_eq!(logged("Refused 192.0.2.77: ban by appsec, no decision of LAPI's, for GET /.env, reference "), 1);
    })
    .join()
    .unwrap();
}

#[rocket::async_test]
async fn on_trial_a_ban_of_appsecs_is_told_and_a_challenge_is_not() {
    let _turn = logger().await;
    thread::spawn(|| {
        let stub = Stub::new();
        let client = client(app::app(with_appsec(&stub).merge(("crowdsec.enforce", false))));
        client.get("/.env").visitor("192.0.2.91").dispatch();
        assert_eq!(logged("Would have refused 192.0.2.91: ban by appsec"), 1);
        stub.says(Says::Challenge);
        client.get("/").visitor("192.0.2.92").dispatch();
        client.get("/crowdsec-internal/challenge/x.js").visitor("192.0.2.92").dispatch();
        assert_eq!(logged("Would have refused"), 1);
    })
    .join()
    .unwrap();
}

#[rocket::async_test]
async fn a_refusal_of_appsecs_is_told_once_and_by_its_own_cause() {
    let _turn = logger().await;
    thread::spawn(|| {
        let stub = Stub::new();
        let own = [map!["value" => "192.0.2.79", "type" => "pass"]];
        let client = client(
            app::app(with_appsec(&stub).merge(("crowdsec.decisions", own))).mount("/", routes![guarded, forgiving]),
        );
        // A long body is judged by the guard. A handler may go on without it.
        let body = format!("{}{ATTACK}", "x".repeat(3000));
        for (path, visitor, status) in [("/guarded", "192.0.2.78", 403), ("/forgiving", "192.0.2.80", 200)] {
            let request = client.post(path).visitor(visitor).header(ContentType::Text);
            assert_eq!(request.body(&body).dispatch().status().code, status, "{path}");
        }
        // Against this visitor a decision stands that lets them in.
        client.get("/.env").visitor("192.0.2.79").dispatch();
        for visitor in ["192.0.2.78", "192.0.2.79", "192.0.2.80"] {
            assert_eq!(logged(&format!("Refused {visitor}: ban by appsec")), 1, "{visitor}");
        }
        assert_eq!(logged("went unlogged"), 0, "nothing did");
    })
    .join()
    .unwrap();
}

#[post("/forgiving", data = "<body>")]
fn forgiving(body: Option<Inspected<String>>) -> &'static str {
    if body.is_some() { "made" } else { "not made" }
}

#[post("/guarded", data = "<body>")]
fn guarded(body: Inspected<String>) -> String {
    body.0
}

#[rocket::async_test]
async fn a_visitor_who_hangs_up_is_neither_an_outage_nor_refused() {
    let _turn = logger().await;
    thread::spawn(|| {
        let stub = Stub::new();
        let (sender, port) = mpsc::channel();
        let figment = with_appsec(&stub).merge(("port", 0)).merge(("shutdown.ctrlc", false));
        let figment = figment.merge(("crowdsec.appsec.failure_action", "ban"));
        let app = app::app(figment).mount("/", routes![plain]).attach(AdHoc::on_liftoff("port", move |rocket| {
            let _ = sender.send(rocket.config().port);
            Box::pin(async {})
        }));
        thread::spawn(|| rocket::execute(app.launch()).is_ok());
        let port = port.recv_timeout(Duration::from_secs(60)).expect("the application launches");
        // Another test's requests may have run the handler before, but not since: only one test at a time has the logger.
        let before = RAN.load(Ordering::SeqCst);
        for path in ["/sign-in", "/plain", "/crowdsec-internal/challenge/submit"] {
            for length in [100, 5000] {
                let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let kind = "application/x-www-form-urlencoded";
                let head = format!(
                    "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
                );
                connection.write_all(format!("{head}user=0123456789012345").as_bytes()).unwrap();
            }
        }
        thread::sleep(Duration::from_secs(3));
        assert!(stub.seen().iter().all(|seen| seen.body.is_empty()), "no part of a body is judged");
        assert_eq!(RAN.load(Ordering::SeqCst), before, "no handler gets a part of a body");
        assert_eq!(logged("does not answer") + logged("Refused"), 0);
    })
    .join()
    .unwrap();
}
