//! Whatever headers a visitor sends: a banned one stays banned, behind a proxy too, and a free one stays free.
//!
//! The input is what stands on the wire: one header a line, `Name: value`. Lines that hyper or Rocket would drop are dropped.
#![no_main]

mod common;

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use rocket::http::{Header, Status};
use rocket::local::blocking::{Client, LocalResponse};

use common::with_app;

const BANNED: &str = "203.0.113.7";
const FREE: &str = "192.0.2.1";
const PROXY: &str = "10.0.0.1";

fuzz_target!(|wire: &[u8]| {
    let headers: Vec<Header<'static>> = wire.split(|byte| *byte == b'\n').filter_map(header).collect();
    with_app(|app| {
        let banned = ask(app, BANNED, &headers, None);
        assert!(is_refusal(&banned), "a banned visitor gets {}", banned.status());
        // One proxy adds a line of its own, the other adds to the visitor's value.
        let theirs: Vec<&str> =
            headers.iter().filter(|header| header.name() == "X-Forwarded-For").map(Header::value).collect();
        for added in [BANNED.to_owned(), [&*theirs.join(", "), BANNED].join(", ")] {
            let handed_on = ask(app, PROXY, &headers, Some(added));
            assert!(is_refusal(&handed_on), "a banned visitor behind a proxy gets {}", handed_on.status());
        }
        let free = ask(app, FREE, &headers, None).status();
        assert!(free != Status::Forbidden && free.code < 500, "a free visitor gets {free}");
    });
});

fn ask<'c>(app: &'c Client, peer: &str, headers: &[Header<'static>], added: Option<String>) -> LocalResponse<'c> {
    let mut request = app.get("/members").remote(SocketAddr::new(peer.parse().expect("an address"), 4711));
    for header in headers {
        request.add_header(header.clone());
    }
    if let Some(added) = added {
        request.add_header(Header::new("X-Forwarded-For", added));
    }
    request.dispatch()
}

/// The ban page, or a refusal that comes before it: headers that are too long are refused unread.
fn is_refusal(answer: &LocalResponse<'_>) -> bool {
    let ours = answer.headers().get_one("Content-Type").is_some_and(|kind| {
        kind == "text/html; charset=utf-8" || kind == "application/problem+json" || kind.starts_with("text/plain")
    });
    ours && matches!(answer.status().code, 400 | 403 | 413 | 414 | 431)
}

/// One line, as hyper takes it and Rocket hands it on: the name a token, the value UTF-8 without control characters.
fn header(line: &[u8]) -> Option<Header<'static>> {
    let (name, value) = str::from_utf8(line).ok()?.split_once(':')?;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let value = value.trim_matches([' ', '\t']);
    let fits = !name.is_empty() && name.bytes().all(is_token) && !value.bytes().any(|b| (b < 32 && b != 9) || b == 127);
    fits.then(|| Header::new(name.to_owned(), value.to_owned()))
}
