//! Are bodies judged whole, however they come, and whatever is made of them?

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::Duration;

use app::crowdsec::{File, Inspected};
use rocket::form::{Form, FromForm};
use rocket::http::{ContentType, Status};
use rocket::local::blocking::Client;
use rocket::{post as posts, routes};

use super::application::{VISITOR, app_of, launched, padded, post, with_appsec};
use crate::common::appsec::{ATTACK, KEY, Stub, Version, answer, raw, sent};
use crate::common::{Visitor, client, header};

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
                // The first of two questions has no part of the body.
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
    // An engine judges no body without a length, so our question has one.
    *stub.state.version.lock().unwrap() = Version::New;
    stub.state.max_body.store(100, Ordering::SeqCst);
    let long = format!(
        "POST /text HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 600\r\n\r\n{}",
        "x".repeat(600)
    );
    assert!(raw(port, &[long.as_bytes()], Duration::ZERO).starts_with("HTTP/1.1 403"), "too long for the engine");
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
    for text in ["", "a", "\0file\x000"] {
        let encoded = format!("name=a&file={text}");
        assert_eq!(post(&client, "/form", ContentType::Form, &encoded).into_string().unwrap(), "a");
        let field = |name, text| format!("--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n{text}\r\n");
        // Nor where another field, which this form does not know, has a file.
        for before in ["", "--b\r\nContent-Disposition: form-data; name=x; filename=f\r\n\r\nfile\r\n"] {
            let kind = "multipart/form-data; boundary=b".parse().unwrap();
            let body = [&field("name", "a"), before, &field("file", text), "--b--\r\n"].concat();
            assert_eq!(post(&client, "/form", kind, &body).into_string().unwrap(), "a", "{body}");
        }
    }
    assert_eq!(
        post(&client, "/form", ContentType::JSON, "{}").status(),
        Status::UnsupportedMediaType,
        "no form at all"
    );
    assert_eq!(post(&client, "/json", ContentType::JSON, "{").status(), Status::BadRequest);
    assert_eq!(post(&client, "/form", ContentType::Form, "nothing=1").status(), Status::UnprocessableEntity);
}

#[test]
fn a_file_arrives_byte_for_byte() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let bytes: Vec<u8> = (0..=255).rev().chain(0..=255).chain(*b"\0file\0").collect();
    let head = b"--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\na\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\xc3\xa4\\.bin\"; filename*=utf-8''x\r\nContent-Type: image/png\r\n\r\n";
    let body = [head, bytes.as_slice(), b"\r\n--b--\r\n"].concat();
    let kind: ContentType = "multipart/form-data; boundary=b".parse().unwrap();
    let answer = client.post("/form").visitor(VISITOR).header(kind).body(&body).dispatch().into_string().unwrap();
    assert_eq!(answer, format!("a \u{e4}\\.bin {:?} {bytes:?}", "image/png".parse::<ContentType>().ok()));
    assert_eq!(stub.take().last().unwrap().body, body);
}

#[test]
fn each_file_of_a_form_arrives_in_its_own_field() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let file = |field, name| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{field}\"; filename={name}\r\n\r\n{name}\r\n")
    };
    let text = "--b\r\nContent-Disposition: form-data; name=name\r\n\r\na\r\n";
    let body = [&file("more", "1"), &file("unknown", "2"), &file("file", "3"), text, &file("more", "4"), "--b--"];
    let kind = "multipart/form-data; boundary=b".parse().unwrap();
    let answer = post(&client, "/form", kind, &body.concat()).into_string().unwrap();
    assert_eq!(answer, "a 3 None [51] 1 None [49] 4 None [52]");
}

/// AppSec has judged the field as a file, and its rules on a form's fields leave files out.
#[test]
fn a_field_of_text_gets_nothing_of_a_file_that_comes_in_its_place() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let part = "Content-Disposition: form-data; name=\"name\"; filename=\"harmless.txt\"\r\n\r\n1 OR 1=1";
    let kind = "multipart/form-data; boundary=b".parse().unwrap();
    let answer = post(&client, "/form", kind, &format!("--b\r\n{part}\r\n--b--\r\n"));
    assert_eq!((answer.status(), answer.into_string()), (Status::Ok, Some(String::new())), "an empty text");
}

/// Rocket's own form finds no file in memory: what the form before has left there is another visitor's.
#[test]
fn a_file_that_no_field_has_taken_is_no_later_forms() {
    #[derive(FromForm)]
    struct Named {
        name: String,
    }
    #[posts("/named", data = "<form>")]
    fn named(form: Inspected<Form<Named>>) -> String {
        form.name.clone()
    }
    #[derive(FromForm)]
    struct Filed {
        file: File,
    }
    #[posts("/filed", data = "<form>")]
    fn filed(form: Form<Filed>) -> Vec<u8> {
        form.file.bytes.clone()
    }
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)).mount("/", routes![named, filed]));
    let part = |head: &str| format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\na secret\r\n");
    let body = part("name=\"name\"") + &part("name=\"file\"; filename=\"a.txt\"") + "--b--\r\n";
    let sent = post(&client, "/named", "multipart/form-data; boundary=b".parse().unwrap(), &body);
    assert_eq!(sent.into_string().as_deref(), Some("a secret"));
    assert_eq!(post(&client, "/filed", ContentType::Form, "file=x").status(), Status::UnprocessableEntity);
}

/// The hub's rules know the types of bodies only in small letters, and see no field of JSON under another type.
#[test]
fn a_body_is_shown_to_the_rules_by_the_type_that_rocket_takes_it_for() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let send = |path: &'static str, kind: &'static str, body: &str| {
        stub.take();
        client.post(path).visitor(VISITOR).header(header("Content-Type", kind)).body(body).dispatch().status()
    };
    for body in ["name=a", &padded("name=a")] {
        assert_eq!(send("/form", "Application/X-WWW-Form-Urlencoded; A=B", body), Status::Ok);
        let seen = stub.take();
        let kinds: Vec<_> = seen.iter().map(|seen| seen.header("content-type").unwrap_or_default()).collect();
        assert!(kinds.iter().all(|kind| *kind == "application/x-www-form-urlencoded; A=B"), "{kinds:?}");
    }
    assert_eq!(send("/json", "APPLICATION/JSON", "{\"name\":\"a\"}"), Status::Ok);
    for kind in ["text/plain", "application/x", "application/json/x"] {
        assert_eq!(send("/json", kind, "{\"name\":\"a\"}"), Status::UnsupportedMediaType, "{kind}");
    }
}

/// Go reads the parts for AppSec's rules, and reads more than browsers write. Each of these forms hides a field from them.
#[test]
fn a_form_that_go_reads_otherwise_than_we_do_is_none() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let send = |kind: &'static str, body: &str| {
        client.post("/form").visitor(VISITOR).header(header("Content-Type", kind)).body(body).dispatch().status()
    };
    let (plain, disposition) = ("multipart/form-data; boundary=b", "Content-Disposition: form-data; name=\"name\"");
    let part = |head: &str| format!("--b\r\n{head}\r\n\r\n1 OR 1=1\r\n--b--\r\n");
    for (kind, head) in [
        (plain, disposition),
        ("Multipart/Form-Data; boundary=\"b\"", disposition),
        (plain, "content-disposition:form-data; name=\"name\"\r\nContent-Type: text/plain\r\nContent-Length: 8"),
        (plain, "Content-Transfer-Encoding: 8bit\r\nContent-Disposition: form-data; name=\"name\""),
        ("multipart/form-data; charset=UTF-8; boundary=b", disposition),
        (
            "multipart/form-data; boundary=\"b\"",
            "Content-Type: text/plain\r\nContent-Disposition: form-data; name=name",
        ),
    ] {
        assert_eq!(send(kind, &part(head)), Status::Ok, "{kind} {head}");
    }
    for (kind, head) in [
        // A file to Go, and a text to most other readers.
        (plain, format!("{disposition}; FILENAME=\"f\"")),
        (plain, format!("{disposition}; filename*=utf-8''f")),
        (plain, "Content-Disposition: form-data; name=name x".to_owned()),
        (plain, format!("Content-Disposition: form-data; name=\"a\"; filename=\"f\"\r\n{disposition}")),
        // `=1` is no quoted-printable: Go reads no further.
        (plain, format!("{disposition}\r\nContent-Transfer-Encoding: quoted-printable")),
        (plain, format!("{disposition}\r\nX y: z")),
        // For Go, a lone line feed ends the head. At the next two Go reads no further, nor beyond 10,000 lines.
        (plain, format!("Content-Type:\n\r\n{disposition}")),
        (plain, format!("{disposition}\r\nContent-Length: 8\u{c}")),
        (plain, format!("{disposition}\r\nContent-Length: 8\r")),
        (plain, format!("{disposition}{}", "\r\nContent-Length:".repeat(10_000))),
        // Go reads another boundary, or none.
        ("multipart/form-data; boundary=b; boundary*=utf-8''c", disposition.to_owned()),
        ("multipart/form-data; boundary=b; boundary=c", disposition.to_owned()),
        ("multipart/form-data; boundary=b; charset=a; charset=b", disposition.to_owned()),
        ("multipart/form-data; boundary=b; charset=\"a\\\"b\"", disposition.to_owned()),
        ("multipart/form-data; boundary=\"b\\b\"", disposition.to_owned()),
    ] {
        assert_eq!(send(kind, &part(&head)), Status::UnprocessableEntity, "{kind} {head}");
    }
    for body in [
        // Go takes these for words before the first part, or for an empty part.
        format!("x{}", part(disposition)),
        format!("--b\r\n{disposition}\r\n\r\n--b\r\n{disposition}; filename=\"f\"\r\n\r\n1 OR 1=1\r\n--b--\r\n"),
        part(disposition).replace("--b\r\n", "--b \r\n"),
    ] {
        assert_eq!(send(plain, &body), Status::UnprocessableEntity, "{body}");
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
fn a_handler_may_go_on_without_the_body() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let maybe = |body: &str| post(&client, "/maybe", ContentType::Text, body).into_string().unwrap();
    assert_eq!(maybe(&padded("good")), "made");
    assert_eq!(maybe(&padded(ATTACK)), "not made");
}

/// A question to the stub as no client of ours asks it: it announces a body of this length, and sends these pieces.
fn announced(stub: &Stub, length: usize, pieces: &[&str]) -> String {
    let head = format!(
        "POST /appsec HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nX-Crowdsec-Appsec-Api-Key: {KEY}\r\n\
         X-Crowdsec-Appsec-Ip: 192.0.2.1\r\nX-Crowdsec-Appsec-Uri: /\r\nX-Crowdsec-Appsec-Verb: POST\r\n\r\n"
    );
    let pieces: Vec<_> = [&*head].iter().chain(pieces).map(|piece| piece.as_bytes()).collect();
    let connection = sent(stub.port(), &pieces, Duration::from_millis(600));
    let _ = connection.shutdown(Shutdown::Write);
    answer(connection)[..12].to_owned()
}

#[test]
fn a_body_is_sent_in_one_piece_since_an_engine_judges_what_has_come_in_time() {
    let stub = Stub::new();
    let port = launched(with_appsec(&stub));
    let head = "POST /text HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1006\r\n\r\n";
    let long = "x".repeat(1000);
    for version in [Version::Old, Version::New] {
        *stub.state.version.lock().unwrap() = version;
        stub.take();
        let slowly = [head, &long[..600], &long[600..], ATTACK].map(str::as_bytes);
        assert!(raw(port, &slowly, Duration::from_millis(600)).starts_with("HTTP/1.1 403"), "{version:?}");
        assert_eq!(stub.take().last().unwrap().body, format!("{long}{ATTACK}").as_bytes());
    }
    // What happens where a body is handed on as it comes.
    assert_eq!(announced(&stub, 12, &["x", "x", "x", ATTACK]), "HTTP/1.1 200", "the attack came too late to be seen");
    assert_eq!(announced(&stub, 7, &["xATTACK"]), "HTTP/1.1 403");
}

#[test]
fn a_body_shorter_than_its_length_says_is_never_put_to_appsec() {
    let stub = Stub::new();
    let port = launched(with_appsec(&stub));
    for (version, judged) in [(Version::Old, "HTTP/1.1 500"), (Version::New, "HTTP/1.1 403")] {
        *stub.state.version.lock().unwrap() = version;
        assert_eq!(announced(&stub, 100, &[ATTACK]), judged, "an engine takes a part for an outage, or for the whole");
        stub.take();
        for length in [100, 1000] {
            let head = format!("POST /text HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{ATTACK}");
            // Whoever hangs up here gets no answer.
            drop(sent(port, &[head.as_bytes()], Duration::ZERO));
        }
        std::thread::sleep(Duration::from_millis(500));
        assert!(stub.take().iter().all(|seen| seen.body.is_empty()), "{version:?}");
    }
}

#[test]
fn a_request_that_announces_an_empty_body_is_shown_to_the_rules_as_one() {
    let stub = Stub::new();
    let port = launched(with_appsec(&stub));
    for path in ["/text", "/crowdsec-internal/challenge/submit"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        raw(port, &[request.as_bytes()], Duration::ZERO);
        let seen = stub.take();
        assert_eq!(seen.len(), 1, "{path}");
        assert_eq!((&*seen[0].method, seen[0].all("Content-Length")), ("POST", vec!["0"]), "{path}");
    }
    raw(port, &[b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"], Duration::ZERO);
    let seen = stub.take();
    assert_eq!((&*seen[0].method, seen[0].all("Content-Length")), ("GET", vec![]));
}
