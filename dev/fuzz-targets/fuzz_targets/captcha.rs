//! Whatever a visitor sends as the answer to their captcha: nobody gets through who has solved nothing.
//!
//! The input is the Content-Type, a line break, and the body. Where the first line is `altcha`, the rest is the JSON of an
//! answer, which browsers wrap in base64: libFuzzer would never find its way through base64.
#![no_main]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use rocket::http::Header;

use common::with_app;

/// Each try comes from another address of 100.64.0.0/10, so that no limit of tries keeps us from trying.
static VISITOR: AtomicU32 = AtomicU32::new(0);

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (kind, body) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let Ok(kind) = str::from_utf8(kind) else { return };
    let (kind, body) = match kind {
        "altcha" => {
            let answer = STANDARD.encode(body).replace('+', "%2B");
            ("application/x-www-form-urlencoded", format!("altcha={answer}").into_bytes())
        }
        _ => (kind, body.to_vec()),
    };
    let number = VISITOR.fetch_add(1, Ordering::Relaxed) % (1 << 22);
    let visitor = IpAddr::V4(Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + number));
    with_app(|app| {
        let mut request = app.post("/crowdsec/captcha").remote(SocketAddr::new(visitor, 4711)).body(body);
        if !kind.is_empty() && !kind.contains(|c: char| c.is_control()) {
            request.add_header(Header::new("Content-Type", kind.to_owned()));
        }
        let answer = request.dispatch();
        let status = answer.status();
        assert!((400..500).contains(&status.code) || status.code == 503, "an answer that solves nothing gets {status}");
        assert_eq!(answer.headers().get_one("Location"), None);
        // The answer may set a cookie, but only to see whether cookies are kept: nobody gets in by it.
        let page = app.get("/members").remote(SocketAddr::new(visitor, 4711)).dispatch();
        assert_eq!(page.status().code, 403, "after that answer the captcha stands");
    });
});
