//! Is each request judged by AppSec as the application routes it, and does nothing of the visitor's switch that off?

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use altcha::{Challenge, Payload, SolveChallengeOptions, solve_challenge};
use app::crowdsec::{File, Inspected};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::appsec::{ATTACK, KEY, Says, Seen, Stub, Version, raw};
use common::{Visitor, bouncer_refuses, client, header, without_captcha};
use proptest::prelude::*;
use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use rocket::form::{Form, FromForm};
use rocket::http::{ContentType, Header, Method, Status};
use rocket::local::blocking::{Client, LocalResponse};
use rocket::serde::json::{Json, Value};
use rocket::{Build, Request, Rocket, State, get, post, put, routes};

const VISITOR: &str = "192.0.2.1";

#[derive(Default)]
struct Runs(AtomicUsize);

/// Notes that a handler has run.
struct Ran;

#[rocket::async_trait]
impl<'r> rocket::request::FromRequest<'r> for Ran {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> rocket::request::Outcome<Self, ()> {
        request.rocket().state::<Runs>().unwrap().0.fetch_add(1, Ordering::SeqCst);
        rocket::request::Outcome::Success(Self)
    }
}

#[get("/<_..>", rank = 20)]
fn get(_ran: Ran) -> &'static str {
    "served"
}

#[put("/<_..>", data = "<body>")]
fn plain(body: Vec<u8>, _ran: Ran) -> String {
    body.len().to_string()
}

#[post("/text", data = "<body>")]
fn text(body: Inspected<String>, _runs: &State<Runs>) -> String {
    body.len().to_string()
}

#[post("/bytes", data = "<body>")]
fn bytes(body: Inspected<&[u8]>) -> String {
    body.len().to_string()
}

#[post("/json", data = "<body>")]
fn json(body: Inspected<Json<Value>>) -> String {
    body["name"].as_str().unwrap_or_default().to_owned()
}

#[derive(FromForm)]
struct Upload<'r> {
    name: &'r str,
    file: Option<File>,
}

#[post("/form", data = "<form>")]
fn form(form: Inspected<Form<Upload<'_>>>) -> String {
    let file = form.file.as_ref().map(|file| format!(" {} {:?} {:?}", file.name, file.content_type, file.bytes));
    format!("{}{}", form.name, file.unwrap_or_default())
}

#[post("/maybe", data = "<body>")]
fn maybe(body: Option<Inspected<String>>) -> &'static str {
    if body.is_some() { "made" } else { "not made" }
}

fn with_appsec(stub: &Stub) -> Figment {
    without_captcha()
        // Nobody listens there: LAPI is not what these tests are about.
        .merge(("crowdsec.api_url", "http://127.0.0.1:9/"))
        .merge(("crowdsec.api_key", KEY))
        .merge(("crowdsec.appsec.url", &stub.url))
        .merge(("crowdsec.appsec.timeout", "5s"))
        .merge(("limits.string", "1 MiB"))
        .merge(("limits.form", "1 MiB"))
        .merge(("limits.bytes", "4 MiB"))
}

fn with_captcha(stub: &Stub) -> Figment {
    with_appsec(stub).merge(("crowdsec.captcha.provider", "altcha")).merge(("crowdsec.captcha.difficulty", 20))
}

fn app_of(figment: Figment) -> Rocket<Build> {
    let routes = routes![get, plain, text, bytes, json, form, maybe];
    app::protected(figment).manage(Runs::default()).mount("/", routes)
}

fn runs(client: &Client) -> usize {
    client.rocket().state::<Runs>().unwrap().0.load(Ordering::SeqCst)
}

fn status(client: &Client, path: &'static str) -> u16 {
    client.get(path).visitor(VISITOR).dispatch().status().code
}

fn post<'c>(client: &'c Client, path: &'static str, kind: ContentType, body: &str) -> LocalResponse<'c> {
    client.post(path).visitor(VISITOR).header(kind).body(body).dispatch()
}

/// A form longer than Rocket shows to a fairing.
fn padded(end: &str) -> String {
    format!("padding={}&{end}", "x".repeat(5000))
}

/// The application on a port of its own, for bytes that no client of Rocket's sends.
fn launched(figment: Figment) -> u16 {
    let (sender, port) = std::sync::mpsc::channel();
    let app = app_of(figment.merge(("port", 0)).merge(("shutdown.ctrlc", false)));
    let app = app.attach(AdHoc::on_liftoff("port", move |rocket| {
        let _ = sender.send(rocket.config().port);
        Box::pin(async {})
    }));
    thread::spawn(|| rocket::execute(app.launch()).is_ok());
    port.recv_timeout(Duration::from_secs(60)).expect("the application launches")
}

#[test]
fn an_attack_is_refused_wherever_it_stands_in_a_request() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    assert_eq!(status(&client, "/page"), 200);
    let before = runs(&client);
    for path in ["/a/.env", "/a/.ENV", "/a//.env", "/page?x=ATTACK", "//page?ATTACK"] {
        let response = client.get(path).visitor(VISITOR).dispatch();
        assert_eq!(response.status(), Status::Forbidden, "{path}");
        assert_eq!(response.headers().get_one("Crowdsec-Remediation"), Some("ban"), "{path}");
        assert_eq!(response.headers().get_one("Cache-Control"), Some("no-store"), "{path}");
    }
    let in_header = |name| client.get("/page").visitor(VISITOR).header(header(name, ATTACK)).dispatch().status();
    for name in ["Cookie", "User-Agent", "X-Anything", "Referer", "Accept"] {
        assert_eq!(in_header(name), Status::Forbidden, "{name}");
    }
    assert_eq!(runs(&client), before, "no handler saw one of them");
    let multipart = |text: &str, file: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\n{text}\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\nContent-Type: text/plain\r\n\r\n{file}\r\n--b--\r\n"
        )
    };
    let parts = || "multipart/form-data; boundary=b".parse::<ContentType>().unwrap();
    for padding in ["", &"x".repeat(3000)] {
        for (path, kind, body) in [
            ("/text", ContentType::Text, format!("{padding}ATTACK")),
            ("/form", ContentType::Form, format!("padding={padding}&name=ATTACK")),
            ("/json", ContentType::JSON, format!(r#"{{"padding":"{padding}","name":"ATTACK"}}"#)),
            ("/form", parts(), multipart(padding, ATTACK)),
            ("/form", parts(), multipart(ATTACK, padding)),
        ] {
            assert_eq!(post(&client, path, kind, &body).status(), Status::Forbidden, "{path} {}", body.len());
        }
    }
    let good = |path, kind, body: &str| post(&client, path, kind, body).into_string().unwrap();
    assert_eq!(good("/text", ContentType::Text, &"x".repeat(3000)), "3000");
    assert_eq!(good("/bytes", ContentType::Binary, &"x".repeat(3000)), "3000");
    assert_eq!(good("/form", ContentType::Form, &padded("name=a%20b")), "a b");
    assert_eq!(good("/json", ContentType::JSON, &format!(r#"{{"p":"{}","name":"c"}}"#, "x".repeat(3000))), "c");
    let kind = Some("text/plain".parse::<ContentType>().unwrap());
    assert_eq!(good("/form", parts(), &multipart("d", "e")), format!("d f {kind:?} [101]"));
}

/// What AppSec was told, as it can be compared with what was sent.
fn told(seen: &Seen) -> (String, String, Vec<(String, String)>, Vec<u8>) {
    let mut headers: Vec<_> =
        seen.headers.iter().filter(|(name, _)| !name.starts_with("x-crowdsec-appsec-")).cloned().collect();
    headers.retain(|(name, _)| !["host", "content-length"].contains(&name.as_str()));
    headers.sort();
    (seen.told("verb"), seen.told("uri"), headers, seen.body.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn appsec_is_asked_exactly_once_about_exactly_what_a_handler_gets(
        is_put: bool,
        path in "(/[a-z0-9%.~;]{0,6}){1,4}",
        query in prop::option::of("[a-z=&%+?/]{0,20}"),
        headers in prop::collection::vec(("x-[a-z]{1,5}", "[!-~]{1,20}"), 0..4),
        body in prop::collection::vec(any::<u8>(), 0..511),
        host in "[a-z]{1,5}\\.example",
    ) {
        thread_local! {
            static APP: (Stub, Client) = {
                let stub = Stub::new();
                let client = client(app_of(with_appsec(&stub)));
                (stub, client)
            };
        }
        APP.with(|(stub, client)| {
            stub.take();
            let before = runs(client);
            let target = query.map_or(path.clone(), |query| format!("{path}?{query}"));
            let method = if is_put { Method::Put } else { Method::Get };
            let body = if is_put { body } else { Vec::new() };
            let mut request = client.req(method, target.clone()).visitor(VISITOR).body(&body);
            for (name, value) in &headers {
                request.add_header(Header::new(name.clone(), value.clone()));
            }
            request.add_header(Header::new("Host", host.clone()));
            request.add_header(Header::new("User-Agent", "an agent"));
            request.dispatch();
            let ran = runs(client) - before;
            let seen = stub.take();
            // Rocket's own client refuses what is no target.
            prop_assert!(ran == 0 || seen.len() == 1, "asked {} times for {target}", seen.len());
            if ran == 0 {
                return Ok(());
            }
            let seen = &seen[0];
            let mut sent = headers;
            sent.push(("user-agent".into(), "an agent".into()));
            sent.sort();
            let (verb, uri, told, judged) = told(seen);
            prop_assert_eq!(verb, method.as_str());
            prop_assert_eq!(told, sent);
            prop_assert_eq!(&judged, &body);
            prop_assert_eq!(seen.told("ip"), VISITOR);
            prop_assert_eq!(seen.told("user-agent"), "an agent");
            let (asked, wanted) = (uri.split_once('?'), target.split_once('?'));
            prop_assert_eq!(asked.map(|both| both.1), wanted.map(|both| both.1));
            // The same segments; what is not written as an address is written as one.
            let segments = |uri: &str| -> Vec<String> {
                let path = uri.split('?').next().unwrap_or_default().to_owned();
                let decoded = |segment: &str| rocket::http::RawStr::new(segment).percent_decode_lossy().into_owned();
                path.split('/').filter(|segment| !segment.is_empty()).map(decoded).collect()
            };
            prop_assert_eq!(segments(&uri), segments(&target));
            prop_assert_eq!(seen.all("content-length").len(), usize::from(!body.is_empty()));
            prop_assert_eq!(&seen.method, if body.is_empty() { "GET" } else { "POST" });
            prop_assert_eq!(&seen.target, "/appsec");
            Ok(())
        })?;
    }
}

#[test]
fn no_header_of_the_visitors_switches_the_judgement_off_or_changes_it() {
    let stub = Stub::new();
    let port = launched(with_appsec(&stub));
    let ask = |lines: &str| {
        stub.take();
        let request = format!("GET /page?ATTACK HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n{lines}\r\n");
        (raw(port, &[request.as_bytes()], Duration::ZERO), stub.take())
    };
    for lines in [
        "Expect: foo\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "TE: gzip\r\nTrailer: X\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nProxy-Authorization: x\r\n",
        "X-Crowdsec-Appsec-Api-Key: no\r\nX-Crowdsec-Appsec-Ip: 127.0.0.1\r\nX-Crowdsec-Appsec-Uri: /\r\nX-Crowdsec-Appsec-Verb: GET\r\n",
        "X-CROWDSEC-APPSEC-HTTP-VERSION: 99\r\nX-Crowdsec-Appsec-Transaction-Id: x\r\nX-Crowdsec-Appsec-Anything: x\r\n",
    ] {
        let (answer, seen) = ask(lines);
        // Rocket refuses some of them itself.
        assert!(!answer.starts_with("HTTP/1.1 2"), "{lines}: {answer:.100}");
        for seen in seen {
            let names: Vec<&str> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
            for name in [
                "expect",
                "transfer-encoding",
                "te",
                "trailer",
                "keep-alive",
                "upgrade",
                "proxy-authorization",
                "connection",
            ] {
                assert!(!names.contains(&name), "{name} for {lines}");
            }
            let ours = seen.headers.iter().filter(|(name, _)| name.starts_with("x-crowdsec-appsec-"));
            let ours: Vec<_> =
                ours.map(|(name, value)| (name.trim_start_matches("x-crowdsec-appsec-"), value.as_str())).collect();
            assert_eq!(
                ours,
                [
                    ("api-key", KEY),
                    ("ip", "127.0.0.1"),
                    ("uri", "/page?ATTACK"),
                    ("verb", "GET"),
                    ("host", "app.example")
                ],
                "{lines}"
            );
        }
    }
    // Handlers see what `Connection` names, and so do the rules.
    let request =
        format!("GET /page HTTP/1.1\r\nHost: app.example\r\nConnection: close, X-Hidden\r\nX-Hidden: {ATTACK}\r\n\r\n");
    assert!(raw(port, &[request.as_bytes()], Duration::ZERO).starts_with("HTTP/1.1 403"));
}

#[test]
fn no_target_that_the_application_serves_and_go_cannot_read_gets_in_unjudged() {
    let stub = Stub::new();
    let port = launched(with_appsec(&stub));
    let get = |target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n");
        raw(port, &[request.as_bytes()], Duration::ZERO)
    };
    for target in ["/%zz", "/%", "/a%2", "/ok", "//evil.example/x", "/a{}|", "/a?b=%", "/ä", "http://app.example/x"] {
        stub.take();
        let answer = get(target);
        assert_eq!(stub.take().len(), 1, "{target}");
        assert!(answer.starts_with("HTTP/1.1 200"), "{target}: {answer:.100}");
    }
    for target in ["/%zz/.env", "//evil.example/.env", "///.env", "/%/x?ATTACK", "/ä/.env", "http://app.example/.env"]
    {
        let answer = get(target);
        assert!(answer.starts_with("HTTP/1.1 403"), "{target}: {answer:.100}");
    }
    let star = raw(port, &[b"OPTIONS * HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n"], Duration::ZERO);
    assert!(star.starts_with("HTTP/1.1 4"), "{star:.100}");
}

#[test]
fn a_body_is_judged_whole_and_sent_with_its_length_however_it_comes() {
    let stub = Stub::new();
    let port = launched(with_appsec(&stub));
    let long = "x".repeat(3000);
    for (text, questions) in [("short", 1), (long.as_str(), 2)] {
        for end in ["", ATTACK] {
            let body = format!("{text}{end}");
            let whole = format!(
                "POST /text HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let pieces = "POST /text HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
            let (first, second) = body.split_at(3);
            let chunk = |piece: &str| format!("{:x}\r\n{piece}\r\n", piece.len());
            let (first_chunk, rest) = (chunk(first), format!("{}0\r\n\r\n", chunk(second)));
            for request in [[&whole, first, second], [pieces, &first_chunk, &rest]] {
                stub.take();
                let answer = raw(port, &request.map(str::as_bytes), Duration::from_millis(200));
                let expected = if end.is_empty() { "HTTP/1.1 200" } else { "HTTP/1.1 403" };
                assert!(answer.starts_with(expected), "{} {end}: {answer:.100}", body.len());
                let seen = stub.take();
                assert_eq!(seen.len(), questions, "{} {end}", body.len());
                let last = seen.last().unwrap();
                assert_eq!(last.body, body.as_bytes());
                assert_eq!(last.header("content-length"), Some(body.len().to_string().as_str()));
                assert_eq!(last.header("transfer-encoding"), None);
                // The first of two says nothing of a part of the body.
                assert!(seen.len() == 1 || (seen[0].body.is_empty() && seen[0].header("content-length") == Some("0")));
            }
        }
    }
}

#[test]
fn a_body_that_comes_slowly_is_left_to_the_guard_and_judged_all_the_same() {
    let stub = Stub::new();
    let port = launched(with_appsec(&stub));
    // Rocket itself waits for the first bytes, before it asks any fairing.
    let head =
        b"POST /text HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 27\r\n\r\n01234567890123456789A";
    let answer = raw(port, &[head, b"TTACK!"], Duration::from_millis(2500));
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer:.100}");
    let seen = stub.take();
    assert_eq!(
        seen.iter().map(|seen| seen.body.clone()).collect::<Vec<_>>(),
        [b"".to_vec(), b"01234567890123456789ATTACK!".to_vec()]
    );
    // An engine judges no body without a length, which is why ours has one.
    *stub.state.version.lock().unwrap() = Version::New;
    stub.state.max_body.store(100, Ordering::SeqCst);
    let long = format!(
        "POST /text HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 600\r\n\r\n{}",
        "x".repeat(600)
    );
    assert!(raw(port, &[long.as_bytes()], Duration::ZERO).starts_with("HTTP/1.1 403"), "too long for the engine");
}

#[test]
fn an_upload_that_no_route_takes_is_judged_by_the_method_that_it_came_with() {
    let stub = Stub::new();
    let port = launched(with_appsec(&stub));
    for method in ["OPTIONS", "TRACE", "DELETE"] {
        let upload = "x".repeat(600);
        let request = format!(
            "{method} /no/route/leads/here HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 600\r\n\r\n{upload}"
        );
        let answer = raw(port, &[request.as_bytes()], Duration::ZERO);
        assert!(answer.starts_with("HTTP/1.1 404"), "{method}: {answer:.100}");
        let seen: Vec<_> = stub.take().iter().map(|seen| seen.told("verb")).collect();
        assert_eq!(seen, [method]);
    }
}

#[test]
fn padding_a_form_does_not_evade() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let send = |body: &str| post(&client, "/form", ContentType::Form, body).status();
    assert_eq!(send(&padded("name=a")), Status::Ok);
    assert_eq!(send("name=ATTACK"), Status::Forbidden);
    assert_eq!(send(&padded("name=ATTACK")), Status::Forbidden);
}

#[test]
fn a_body_over_the_limit_is_413_or_judged_by_its_head_as_the_operator_says_and_never_in_part() {
    let stub = Stub::new();
    let figment = with_appsec(&stub).merge(("crowdsec.appsec.body_limit", "16 KiB"));
    let send = |client: &Client, length: usize| {
        stub.take();
        let status = post(client, "/text", ContentType::Text, &"x".repeat(length)).status().code;
        (status, stub.take().iter().map(|seen| seen.body.len()).collect::<Vec<_>>())
    };
    let block = client(app_of(figment.clone()));
    assert_eq!(send(&block, 16 << 10), (200, vec![0, 16 << 10]));
    assert_eq!(send(&block, (16 << 10) + 1), (413, vec![0]));
    let heads = client(app_of(figment.merge(("crowdsec.appsec.large_bodies", "headers_only"))));
    assert_eq!(send(&heads, 16 << 10), (200, vec![0, 16 << 10]));
    assert_eq!(send(&heads, (16 << 10) + 1), (200, vec![0]));
    assert_eq!(send(&heads, (1 << 20) + 1), (413, vec![0]), "Rocket's own limit stays");
}

#[test]
fn a_text_that_looks_like_a_file_is_none() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let forged = "name=a&file=%00file%00Zg==%00dGV4dC9wbGFpbg==%00QVRUQUNL";
    assert_eq!(post(&client, "/form", ContentType::Form, forged).status(), Status::UnprocessableEntity);
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\na\r\n--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n\0file\0Zg==\0dGV4dC9wbGFpbg==\0QVRUQUNL\r\n--b--\r\n";
    let kind = "multipart/form-data; boundary=b".parse().unwrap();
    assert_eq!(post(&client, "/form", kind, multipart).status(), Status::UnprocessableEntity);
    assert_eq!(
        post(&client, "/form", ContentType::JSON, "{}").status(),
        Status::UnsupportedMediaType,
        "no form at all"
    );
    assert_eq!(post(&client, "/json", ContentType::JSON, "{").status(), Status::BadRequest);
    assert_eq!(post(&client, "/form", ContentType::Form, "nothing=1").status(), Status::UnprocessableEntity);
}

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
        // The last one, since nobody is asked for a while after it.
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
fn an_answer_counts_by_its_word_whatever_its_status_and_an_unreadable_block_is_a_ban() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let answer = |code: u16, body: &str| {
        stub.always(code, body);
        let response = client.get("/page").visitor(VISITOR).dispatch();
        (response.status().code, response.headers().get_one("Crowdsec-Remediation").map(str::to_owned))
    };
    let ban = |status| (status, Some("ban".to_owned()));
    for code in [200, 403, 418, 299, 500] {
        assert_eq!(answer(code, r#"{"action":"allow","http_status":200}"#), (200, None), "{code}");
    }
    for code in [403, 200, 451, 500] {
        assert_eq!(answer(code, r#"{"action":"ban","http_status":403}"#), ban(403), "{code}");
        assert_eq!(answer(code, r#"{"action":"ban","http_status":451}"#), ban(451), "{code}");
        assert_eq!(answer(code, r#"{"action":"ban"}"#), ban(403), "{code}");
        assert_eq!(answer(code, r#"{"action":"never-heard-of","http_status":403}"#), ban(403), "{code}");
        assert_eq!(answer(code, r#"{"action":"captcha","http_status":403}"#), ban(403), "no provider, {code}");
    }
    for body in ["", "{", "<html>", r#"{"http_status":403}"#, r#"{"action":""}"#, r#"{"action":null}"#, "[]"] {
        assert_eq!(answer(403, body), ban(403), "{body}");
    }
    // Not a status of a refusal.
    assert_eq!(answer(403, r#"{"action":"ban","http_status":200}"#), ban(403));
    assert_eq!(answer(403, r#"{"action":"ban","http_status":99999}"#), ban(403));
    for half in [Says::Half(403), Says::HalfAndHang(403)] {
        stub.says(half.clone());
        assert_eq!(status(&client, "/page"), 403, "{half:?}: the block is known already");
    }
}

#[test]
fn words_of_the_operators_become_what_remediations_says() {
    let stub = Stub::new();
    let words = [("slow", "throttle"), ("look", "pass"), ("appsec/ban", "captcha"), ("ask", "captcha")];
    let figment = with_captcha(&stub).merge(("crowdsec.throttle", "2/1h"));
    let figment = figment.merge(("crowdsec.remediations", std::collections::BTreeMap::from(words)));
    let client = client(app_of(figment));
    assert_eq!(status(&client, "/word/look"), 200);
    let slow: Vec<u16> = (0..3).map(|_| status(&client, "/word/slow")).collect();
    assert_eq!(slow, [200, 200, 429]);
    for path in ["/word/ask", "/word/ban", "/word/captcha"] {
        let response = client.get(path).visitor(VISITOR).dispatch();
        assert_eq!(response.headers().get_one("Crowdsec-Remediation"), Some("captcha"), "{path}");
    }
    assert_eq!(status(&client, "/word/odd"), 403);
}

#[test]
fn a_captcha_of_appsecs_is_solved_like_any_other_and_its_answer_is_not_judged() {
    let stub = Stub::new();
    let client = client(app_of(with_captcha(&stub)));
    let page = client.get("/word/captcha").visitor(VISITOR).dispatch();
    assert_eq!(page.status(), Status::Forbidden);
    let page = page.into_string().unwrap();
    let json = page.split("data-challenge=\"").nth(1).expect("a challenge").split('"').next().unwrap();
    let json = json.replace("&quot;", "\"").replace("&#x2F;", "/").replace("&#x27;", "'").replace("&amp;", "&");
    let challenge: Challenge = serde_json::from_str(&json).expect("JSON");
    let solution = solve_challenge(SolveChallengeOptions::new(&challenge)).unwrap().unwrap();
    let answer = STANDARD.encode(serde_json::to_vec(&Payload { challenge, solution }).unwrap());
    let answer = rocket::http::RawStr::new(&answer).percent_encode().into_owned();
    stub.take();
    // AppSec would ask for a captcha here too.
    stub.always(403, r#"{"action":"captcha","http_status":403}"#);
    let form = format!("return_to=%2Fword%2Fcaptcha&altcha={answer}");
    let solved = post(&client, "/crowdsec/captcha", ContentType::Form, &form);
    assert_eq!(solved.status(), Status::SeeOther);
    drop(solved);
    assert_eq!(stub.take().len(), 0, "the answer to a captcha is not judged");
    assert_eq!(status(&client, "/word/captcha"), 200);
    stub.says(Says::Rules);
    assert_eq!(status(&client, "/.env"), 403, "it satisfies a captcha, never a ban");
}

const SUBMIT: &str = "/crowdsec-internal/challenge/submit";

#[test]
fn a_challenge_is_handed_on_as_it_is_and_its_cookie_lets_in() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    stub.says(Says::Challenge);
    let ask = |method, path: &'static str, agent: &'static str, cookie: &str| {
        let mut request = client.req(method, path).visitor(VISITOR).header(header("User-Agent", agent));
        if !cookie.is_empty() {
            request.add_header(Header::new("Cookie", cookie.to_owned()));
        }
        request.dispatch()
    };
    let page = ask(Method::Get, "/page?x=y", "A", "");
    let headers = |name| page.headers().get(name).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(page.status(), Status::Ok);
    assert_eq!(headers("Content-Security-Policy"), ["default-src 'self'; worker-src 'self' blob:;"]);
    assert_eq!(headers("Content-Type"), ["text/html"]);
    assert_eq!(headers("Cache-Control"), ["no-cache, no-store"]);
    assert_eq!(headers("Set-Cookie").len(), 0);
    let body = page.into_string().unwrap();
    assert!(body.starts_with("<!doctype html><title>Check</title>") && body.len() > 4000);
    assert_eq!(runs(&client), 0);
    // The scripts, by whatever spelling leads there.
    for path in [
        "/crowdsec-internal/challenge/fpscanner.js",
        "/crowdsec-internal/challenge/pow-worker.js?v=1",
        "//crowdsec-internal//challenge/fpscanner.js",
        "/crowdsec-internal/challenge/%66pscanner.js",
    ] {
        stub.take();
        let script = ask(Method::Get, path, "A", "");
        assert_eq!(script.status(), Status::Ok, "{path}");
        assert_eq!(stub.take().len(), 1, "{path}");
        if !path.contains('%') {
            assert_eq!(script.headers().get_one("Cache-Control"), Some("public, max-age=3600"), "{path}");
            assert_eq!(script.headers().get_one("Content-Type"), Some("application/javascript"), "{path}");
        }
    }
    let head = ask(Method::Head, "/page", "A", "");
    assert_eq!((head.status(), head.into_string().unwrap_or_default().len()), (Status::Ok, 0));
    // The form is longer than Rocket shows to a fairing.
    let form = |more: &str| format!("f={}&r=1&ts=1&sig=1&n=1&p=1&m=1&d=1{more}", "x".repeat(4000));
    let submit = |body: &str| {
        stub.take();
        let request = client.post(SUBMIT).visitor(VISITOR).header(ContentType::Form).header(header("User-Agent", "A"));
        let response = request.body(body).dispatch();
        let seen = stub.take();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].body, body.as_bytes());
        let cookies: Vec<String> = response.headers().get("Set-Cookie").map(str::to_owned).collect();
        (response.into_string().unwrap(), cookies)
    };
    assert_eq!(submit(&form("")).0, r#"{"status":"failed"}"#);
    assert_eq!(submit(&form("&u=/ATTACK")), (r#"{"status":"rejected"}"#.into(), vec![]));
    let (body, cookies) = submit(&form("&u=/page"));
    assert_eq!(body, r#"{"status":"ok"}"#);
    assert_eq!(cookies, ["__crowdsec_challenge=A; Path=/; HttpOnly; SameSite=Lax; Max-Age=43200"]);
    assert_eq!(runs(&client), 0);
    let cookie = "__crowdsec_challenge=A";
    assert_eq!(ask(Method::Get, "/page", "A", cookie).into_string().unwrap(), "served");
    assert_ne!(ask(Method::Get, "/page", "B", cookie).into_string().unwrap(), "served");
    stub.says(Says::Grant);
    let granted = ask(Method::Get, "////evil.example/x", "C", "");
    assert_eq!(granted.status(), Status::TemporaryRedirect);
    assert_eq!(granted.headers().get_one("Location"), Some("/evil.example/x"));
    assert_eq!(granted.headers().get("Set-Cookie").count(), 1);
}

#[test]
fn the_page_of_a_challenge_is_handed_on_by_the_guard_too() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let page = r#"{"action":"challenge","http_status":200,"user_body_content":"page","user_headers":{"Content-Type":["text/html"],"Content-Security-Policy":["default-src 'self'"]}}"#;
    // The head is let in, and the body is challenged.
    let seen = thread::scope(|scope| {
        let changing = scope.spawn(|| {
            while stub.seen().is_empty() {
                thread::sleep(Duration::from_millis(1));
            }
            stub.always(403, page);
        });
        stub.says(Says::Late(Duration::from_millis(300)));
        let response = post(&client, "/text", ContentType::Text, &"x".repeat(3000));
        changing.join().unwrap();
        let policies: Vec<String> = response.headers().get("Content-Security-Policy").map(str::to_owned).collect();
        (response.status().code, policies, response.into_string().unwrap())
    });
    assert_eq!(seen, (200, vec!["default-src 'self'".to_owned()], "page".to_owned()));
}

#[test]
fn a_challenge_that_cannot_be_served_safely_is_a_ban() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    for rest in [
        r#""http_status":403,"user_headers":{"Content-Security-Policy":["default-src 'self'"]}"#,
        r#""user_body_content":"x","user_headers":{"Transfer-Encoding":["chunked"]}"#,
        r#""user_body_content":"x","user_cookies":["a=b\r\nX: y"]"#,
        r#""http_status":307,"user_body_content":"x","user_headers":{"Location":["//evil.example/"]}"#,
        r#""http_status":307,"user_body_content":"x","user_headers":{"Location":["/\\evil.example/"]}"#,
        r#""http_status":101,"user_body_content":"x""#,
        r#""user_body_content":7"#,
    ] {
        stub.always(403, &format!(r#"{{"action":"challenge",{rest}}}"#));
        let response = client.get("/page").visitor(VISITOR).dispatch();
        assert_eq!(response.status(), Status::Forbidden, "{rest}");
        assert_eq!(response.headers().get_one("Crowdsec-Remediation"), Some("ban"), "{rest}");
    }
}

#[test]
fn appsecs_own_paths_never_reach_the_application() {
    let stub = Stub::new();
    let figment = with_appsec(&stub).merge(("crowdsec.excluded_paths", ["/crowdsec-internal"]));
    let client = client(app_of(figment));
    for path in [
        "/crowdsec-internal/challenge/fpscanner.js",
        SUBMIT,
        "//crowdsec-internal/challenge/x",
        "/crowdsec-internal/challenge/",
    ] {
        stub.take();
        stub.says(Says::Rules);
        assert_eq!(status(&client, path), 404, "{path}: an engine without a challenge");
        assert_eq!(client.post(path).visitor(VISITOR).body("x").dispatch().status().code, 404, "{path}");
        assert_eq!(client.put(path).visitor(VISITOR).body("x").dispatch().status().code, 404, "{path}");
        let seen: Vec<_> = stub.take().iter().map(|seen| seen.told("verb")).collect();
        assert_eq!(seen, ["GET", "POST", "PUT"], "{path}");
        stub.says(Says::Close);
        assert_eq!(status(&client, path), 503, "{path}: an outage");
        stub.always(403, r#"{"action":"ban","http_status":403}"#);
        assert_eq!(status(&client, path), 403, "{path}: a ban");
    }
    assert_eq!(
        client.post("/crowdsec/appsec").visitor(VISITOR).dispatch().status(),
        Status::Forbidden,
        "nothing to find"
    );
    assert_eq!(runs(&client), 0);
}

#[test]
fn nobody_is_asked_about_the_banned_about_probes_and_about_excluded_paths() {
    let stub = Stub::new();
    let figment = with_appsec(&stub).merge(("crowdsec.excluded_paths", ["/hook"]));
    let own = std::collections::BTreeMap::from([("value", "192.0.2.9"), ("type", "ban")]);
    let client = client(app_of(figment.merge(("crowdsec.decisions", [own]))));
    assert_eq!(client.get("/page").visitor("192.0.2.9").dispatch().status(), Status::Forbidden);
    assert_eq!(client.get(SUBMIT).visitor("192.0.2.9").dispatch().status(), Status::Forbidden);
    client.get("/crowdsec/health").visitor(VISITOR).dispatch();
    client.get("/crowdsec/live").visitor(VISITOR).dispatch();
    assert_eq!(status(&client, "/hook/ATTACK?ATTACK"), 200);
    assert_eq!(stub.take().len(), 0);
    for path in ["//hook", "/hook/../page", "//crowdsec/captcha", "/crowdsec/captcha/x", "/nowhere"] {
        client.get(path).visitor(VISITOR).dispatch();
        assert_eq!(stub.take().len(), 1, "{path}");
    }
}

#[test]
fn the_guard_judges_where_the_fairing_was_told_to_spare() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub).merge(("crowdsec.excluded_paths", ["/text"]))));
    assert_eq!(post(&client, "/text", ContentType::Text, "short ATTACK").status(), Status::Forbidden);
    assert_eq!(stub.take().len(), 1);
    assert_eq!(post(&client, "/text", ContentType::Text, "short").status(), Status::Ok);
}

#[test]
fn a_trial_lets_in_what_appsec_would_refuse() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub).merge(("crowdsec.enforce", false))));
    assert_eq!(status(&client, "/.env"), 200);
    assert_eq!(post(&client, "/text", ContentType::Text, &padded(ATTACK)).status(), Status::Ok);
    stub.says(Says::Challenge);
    assert_eq!(status(&client, "/page"), 200);
}

#[test]
fn a_handler_may_go_on_without_the_body() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let maybe = |body: &str| post(&client, "/maybe", ContentType::Text, body).into_string().unwrap();
    assert_eq!(maybe(&padded("good")), "made");
    assert_eq!(maybe(&padded(ATTACK)), "not made");
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
    assert!(stub.connections() <= 5 && stub.seen().len() == 20, "{} connections", stub.connections());
    *stub.state.closes.lock().unwrap() = true;
    for turn in 0..20 {
        assert_eq!(status(&client, "/page"), 200, "{turn}");
    }
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
    stub.says(Says::Hang);
    assert_eq!(crowd(app_of(figment.clone()), 400), vec![200; 400]);
    // Some are still being closed while the next ones are asked.
    assert!(stub.most_open() < 200, "{} at once", stub.most_open());
    assert!(stub.most_open() > 50, "{} at once", stub.most_open());
    let queue = Stub::new();
    queue.says(Says::Queue(Duration::from_millis(150)));
    let figment = figment.merge(("crowdsec.appsec.url", &queue.url)).merge(("crowdsec.appsec.failure_action", "ban"));
    let codes = crowd(app_of(figment), 20);
    let served = codes.iter().filter(|code| **code == 200).count();
    // Within a second the queue has room for six, and everybody else is told so.
    assert!((1..=10).contains(&served) && codes.iter().all(|code| [200, 403].contains(code)), "{codes:?}");
}

#[test]
fn without_a_url_nobody_is_asked_and_the_guard_reads_all_the_same() {
    let stub = Stub::new();
    let client = client(app_of(without_captcha().merge(("limits.string", "1 MiB"))));
    assert_eq!(status(&client, "/.env"), 200);
    assert_eq!(status(&client, SUBMIT), 200, "the path is the application's");
    assert_eq!(post(&client, "/text", ContentType::Text, &padded("x")).status(), Status::Ok);
    assert_eq!(stub.seen().len(), 0);
}

#[test]
fn settings_that_are_no_good_stop_the_launch() {
    let stub = Stub::new();
    for (key, value) in [
        ("url", "appsec.example"),
        ("url", "ftp://appsec.example/"),
        ("url", "http://user:word@appsec.example/"),
        ("timeout", "soon"),
        ("failure_action", "deny"),
        ("failure_action", "captcha"),
        ("body_limit", "1 KiB"),
        ("body_limit", "1 GiB"),
        ("body_limit", "much"),
        ("large_bodies", "cut"),
        ("unheard_of", "x"),
    ] {
        let figment = with_appsec(&stub).merge((format!("crowdsec.appsec.{key}"), value));
        assert!(bouncer_refuses(Client::untracked(app_of(figment))), "{key} {value}");
    }
    let without_key = without_captcha().merge(("crowdsec.appsec.url", &stub.url));
    assert!(bouncer_refuses(Client::untracked(app_of(without_key))), "no key");
    let by_guards = with_appsec(&stub).merge(("crowdsec.enforce_by", "guards"));
    assert!(bouncer_refuses(Client::untracked(app_of(by_guards))), "guards");
    assert!(Client::untracked(app_of(with_appsec(&stub))).is_ok());
}

#[test]
fn a_route_that_asks_for_the_guard_does_not_launch_without_the_judge() {
    let bare = rocket::custom(without_captcha()).attach(rocket_dyn_templates::Template::fairing());
    let app = bare.attach(app::crowdsec::fairing()).mount("/", routes![text]);
    let error = Client::untracked(app.manage(Runs::default())).expect_err("it does not launch");
    assert!(matches!(error.kind(), rocket::error::ErrorKind::SentinelAborts(_)), "{error}");
    std::mem::forget(error);
}
