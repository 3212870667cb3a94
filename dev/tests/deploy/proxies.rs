//! Do the shipped proxies name each visitor, limit what visitors send, and keep instances in service that break off?

use std::net::TcpStream;
use std::process::Command;

use dev::{FakeServer, Reply, Seen, eventually};
use serde_json::json;

use super::shipped::{ALL, BANNED, INNOCENT, Kind, Visitor, changed, protected, proxy};
use super::{plain, set};

#[test]
fn who_is_banned_stays_out_behind_each_shipped_proxy_whatever_they_say_and_others_get_in() {
    let (_lapi, app) = protected();
    let lies: [&[u8]; 9] = [
        b"192.0.2.1",
        b"127.0.0.1",
        b"192.0.2.1, 127.0.0.1",
        b"127.66.0.2:4711",
        b"for=192.0.2.1",
        b"unknown",
        b"\"",
        b"\xff",
        b"192.0.2.1, \xc3\x28",
    ];
    for kind in ALL {
        let proxy = proxy(kind, &[app.address()]);
        assert_eq!(Visitor(BANNED).asks(&proxy, "/", &[]), 403, "{kind:?}");
        assert_eq!(Visitor(INNOCENT).asks(&proxy, "/", &[]), 200, "{kind:?}");
        for lie in lies {
            let lines = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP"]
                .map(|header| [header.as_bytes(), b": ", lie].concat());
            let arguments: Vec<&[u8]> = lines.iter().flat_map(|line| [b"-H".as_slice(), line]).collect();
            let status = Visitor(BANNED).asks(&proxy, "/", &arguments);
            assert!(status == 403 || status == 400, "{status} behind {kind:?} with {}", lie.escape_ascii());
            let status = Visitor(INNOCENT).asks(&proxy, "/", &arguments);
            assert!(status == 200 || status == 400, "{status} behind {kind:?} with {}", lie.escape_ascii());
        }
    }
}

#[test]
fn the_headers_that_the_application_believes_are_the_shipped_proxys_own() {
    let server = FakeServer::start(|_| healthy("ok"));
    for kind in ALL {
        let proxy = proxy(kind, &[server.address()]);
        let said: [&[u8]; 14] = [
            b"-H",
            b"X-Forwarded-For: 192.0.2.1",
            b"-H",
            b"X-Forwarded-Proto: http",
            b"-H",
            b"X-Forwarded-Host: evil.example",
            b"-H",
            b"X-Forwarded-Prefix: /evil",
            b"-H",
            b"X-Real-IP: 192.0.2.1",
            b"-H",
            b"Forwarded: for=192.0.2.1;proto=http",
            b"-H",
            b"X-Forwarded-For: 192.0.2.2",
        ];
        assert_eq!(Visitor(INNOCENT).asks(&proxy, "/said", &said), 200, "{kind:?}");
        let seen = server.seen().into_iter().rfind(|seen| seen.target == "/said").expect("the request");
        let values = |name: &str| {
            let of_that_name = seen.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
            of_that_name.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(values("X-Forwarded-For"), [INNOCENT], "{kind:?}");
        assert_eq!(values("X-Real-IP"), [INNOCENT], "{kind:?}");
        assert_eq!(values("X-Forwarded-Proto"), ["https"], "{kind:?}");
        assert!(values("X-Forwarded-Host").iter().all(|host| host.starts_with("127.0.0.1")), "{kind:?}: {seen:?}");
        assert!(values("X-Forwarded-Prefix").is_empty() && values("Forwarded").is_empty(), "{kind:?}: {seen:?}");
    }
}

#[test]
fn headers_and_uploads_beyond_the_shipped_proxys_limits_never_reach_the_application() {
    let server = FakeServer::start(|_| healthy("ok"));
    let upload = std::env::temp_dir().join(format!("deploy-upload-{}", std::process::id()));
    std::fs::write(&upload, vec![b'a'; 9 << 20]).expect("writing the upload");
    let upload_argument = format!("@{}", plain(&upload));
    let long = format!("X-Long: {}", "a".repeat(40_000));
    for kind in ALL {
        let proxy = proxy(kind, &[server.address()]);
        let status = Visitor(INNOCENT).asks(&proxy, "/long", &[b"-H", long.as_bytes()]);
        // 0 stands for a connection that is ended, as happens with HTTP/2.
        assert!([0, 400, 431, 494].contains(&status), "{status} behind {kind:?}");
        let post: [&[u8]; 5] = [b"--http1.1", b"-H", b"Expect:", b"--data-binary", upload_argument.as_bytes()];
        let status = Visitor(INNOCENT).asks(&proxy, "/upload", &post);
        let expected: &[u16] = match kind {
            Kind::Nginx => &[413],
            // HAProxy answers and closes, so a visitor who still sends may miss the answer.
            Kind::HaProxy => &[413, 0],
            // Caddy cuts the upload, which breaks the request: the application never sees the whole upload.
            Kind::Caddy => &[400, 413, 502],
        };
        assert!(expected.contains(&status), "{status} behind {kind:?}");
        assert_eq!(Visitor(INNOCENT).asks(&proxy, "/usual", &[]), 200, "{kind:?}");
    }
    std::fs::remove_file(upload).expect("removing the upload");
    let targets: Vec<_> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert!(!targets.iter().any(|target| target == "/long" || target == "/upload"), "{targets:?}");
}

/// Rocket reads the first of two `Accept` lines, and answers methods that it does not know, before it asks the bouncer.
#[test]
fn two_accept_lines_and_unusual_methods_never_reach_the_application_behind_each_shipped_proxy() {
    let server = FakeServer::start(|_| healthy("ok"));
    for kind in ALL {
        let proxy = proxy(kind, &[server.address()]);
        for method in ["FOO", "TRACE"] {
            let status = Visitor(INNOCENT).asks(&proxy, "/odd", &[b"--http1.1", b"-X", method.as_bytes()]);
            assert_eq!(status, 405, "{method} behind {kind:?}");
        }
        Visitor(INNOCENT).asks(&proxy, "/two", &[b"--http1.1", b"-H", b"Accept: a/b", b"-H", b"Accept: c/d"]);
        assert_eq!(Visitor(INNOCENT).asks(&proxy, "/none", &[b"-H", b"Accept:"]), 200, "{kind:?}");
    }
    let accepts = |seen: &Seen| seen.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Accept")).count();
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.target != "/odd" && accepts(seen) <= 1), "{seen:?}");
}

#[test]
fn instances_that_break_off_an_upload_stay_in_service_behind_each_shipped_proxy() {
    // Each instance ends the connection of a visitor who posts, and serves everybody else.
    let start = || {
        FakeServer::start(|seen| match seen.target.as_str() {
            "/post" => Reply::hang_up(),
            _ => healthy("ok"),
        })
    };
    let (one, other) = (start(), start());
    for kind in ALL {
        let proxy = proxy(kind, &[one.address(), other.address()]);
        for _ in 0..12 {
            let status = Visitor(BANNED).asks(&proxy, "/post", &[b"--http1.1", b"--data", b"a=b"]);
            assert_eq!(status, 502, "{kind:?}");
        }
        for _ in 0..4 {
            assert_eq!(Visitor(INNOCENT).asks(&proxy, "/", &[]), 200, "{kind:?}");
        }
    }
}

#[test]
fn http_leads_to_https_at_the_shipped_nginx_and_haproxy() {
    let server = FakeServer::start(|_| healthy("ok"));
    for kind in [Kind::Nginx, Kind::HaProxy] {
        let proxy = proxy(kind, &[server.address()]);
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "--unix-socket"]);
        command.arg(proxy.directory().join("http")).arg("http://example.org/page?a=b");
        let output = command.output().expect("running curl");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "301 https://example.org/page?a=b", "{kind:?}");
    }
}

#[test]
fn an_instance_that_has_lost_lapi_stays_in_service_behind_the_shipped_haproxy() {
    let stale = FakeServer::start(|seen| match seen.target.as_str() {
        "/crowdsec/health" => Reply::new(503, "application/json", r#"{"status":"stale"}"#),
        _ => healthy("ok"),
    });
    let proxy = changed(Kind::HaProxy, &[stale.address()], |text| set(text, "inter 5s", "inter 100ms"));
    // HAProxy takes an instance out at the third check that fails.
    let checks = || stale.seen().iter().filter(|seen| seen.target == "/crowdsec/health").count();
    eventually("it was checked five times", || checks() >= 5);
    assert_eq!(Visitor(INNOCENT).asks(&proxy, "/", &[]), 200);
}

#[test]
fn where_one_instance_dies_the_other_serves_at_once_behind_the_shipped_nginx_and_haproxy() {
    for kind in [Kind::Nginx, Kind::HaProxy] {
        let [one, other] = [0; 2].map(|_| FakeServer::start(|_| healthy("ok")));
        let proxy = proxy(kind, &[one.address(), other.address()]);
        let seen = || !one.seen().is_empty() && !other.seen().is_empty();
        eventually("both serve", || Visitor(INNOCENT).asks(&proxy, "/", &[]) == 200 && seen());
        let address = one.address();
        drop(one);
        eventually("it is dead", || TcpStream::connect(address).is_err());
        for _ in 0..4 {
            assert_eq!(Visitor(INNOCENT).asks(&proxy, "/", &[]), 200, "{kind:?}");
        }
    }
}

fn healthy(status: &str) -> Reply {
    Reply::json(&json!({ "status": status }))
}
