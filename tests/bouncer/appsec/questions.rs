//! What is AppSec asked about, how often, and what can a visitor do about it? Nothing.

use std::time::Duration;

use proptest::prelude::*;
use rocket::http::{ContentType, Header, Method, Status};
use rocket::local::blocking::Client;

use super::application::{VISITOR, app_of, launched, padded, post, runs, status, with_appsec};
use super::challenge::SUBMIT;
use crate::common::appsec::{ATTACK, KEY, Seen, Stub, raw};
use crate::common::{Visitor, client, header};

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
            // The path has the same segments. What is no valid address arrives as one.
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

/// What AppSec was told, in a form that can be compared with what was sent.
fn told(seen: &Seen) -> (String, String, Vec<(String, String)>, Vec<u8>) {
    let mut headers: Vec<_> =
        seen.headers.iter().filter(|(name, _)| !name.starts_with("x-crowdsec-appsec-")).cloned().collect();
    headers.retain(|(name, _)| !["host", "content-length"].contains(&name.as_str()));
    headers.sort();
    (seen.told("verb"), seen.told("uri"), headers, seen.body.clone())
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
                    ("ip", "127.0.0.1"),
                    ("uri", "/page?ATTACK"),
                    ("verb", "GET"),
                    ("host", "app.example"),
                    ("api-key", KEY)
                ],
                "{lines}"
            );
        }
    }
    // Handlers see the headers that `Connection` names, and so do the rules.
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
fn a_host_is_judged_as_it_was_sent_and_two_are_refused() {
    let stub = Stub::new();
    let port = launched(with_appsec(&stub));
    let ask = |hosts: &str| {
        stub.take();
        let request = format!("GET /page HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let answer = raw(port, &[request.as_bytes()], Duration::ZERO);
        (answer[..12].to_owned(), stub.take().iter().map(|seen| seen.told("host")).collect::<Vec<_>>())
    };
    // Rocket cannot read these.
    for host in ["${jndi:ldap://a}", "app.example, evil.example", "a\" or 1=1"] {
        assert_eq!(ask(&format!("Host: {host}\r\n")), ("HTTP/1.1 200".into(), vec![host.to_owned()]));
    }
    assert_eq!(ask("Host: app.example\r\nHost: evil.example\r\n"), ("HTTP/1.1 403".into(), vec![]));
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
