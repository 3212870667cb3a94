//! What does CrowdSec get to read? Every request that was let in or was too large, as it was asked and answered; no other
//! refusal of ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use app::crowdsec::{Cleared, Events};
use rocket::fairing::AdHoc;
use rocket::figment::Figment;
use rocket::http::uri::Origin;
use rocket::http::{Header, Status};
use rocket::local::blocking::Client;
use rocket::response::stream::TextStream;
use rocket::{get, head, post, routes};

use crate::common::{Visitor, bouncer_refuses, client, figment, header, with_decisions};

#[get("/logs/guarded")]
fn guarded(_visitor: Cleared) {}

/// A 403 of the application's own.
#[get("/logs/forbidden")]
fn forbidden() -> Status {
    Status::Forbidden
}

#[get("/logs/stream")]
fn stream() -> TextStream![&'static str] {
    TextStream! {
        yield "ten bytes ";
        yield "and ten m.";
    }
}

#[head("/logs/stream")]
fn stream_head() -> TextStream![&'static str] {
    TextStream! { yield "never read"; }
}

#[get("/logs/nothing")]
fn nothing() -> (Status, &'static str) {
    (Status::NoContent, "never sent")
}

#[get("/logs/elsewhere")]
fn elsewhere() -> &'static str {
    "elsewhere"
}

#[post("/logs/events", data = "<user>")]
fn events(user: String, events: Events<'_>) {
    events.note("failed-sign-in", Some(&user));
    events.note("coupon", None);
}

/// An application that bans `192.0.2.1`, and its log, which is complete once the client is dropped.
struct Site {
    client: Client,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Site {
    fn with(settings: impl FnOnce(Figment, &Path) -> Figment) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("one.log");
        let figment = with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.excluded_paths", ["/logs/guarded"]));
        let app = app::protected(settings(figment, &log));
        let app = app.mount("/", routes![guarded, forbidden, stream, stream_head, nothing, elsewhere, events]);
        let away = AdHoc::on_request("sends elsewhere", |request, _| {
            Box::pin(async move {
                if request.uri().path() == "/logs/asked" {
                    request.set_uri(Origin::parse("/logs/elsewhere").expect("a path"));
                }
            })
        });
        let teapot = AdHoc::on_response("makes teapots", |request, response| {
            Box::pin(async move {
                if request.uri().query().is_some_and(|query| query == "teapot") {
                    response.set_status(Status::ImATeapot);
                }
            })
        });
        Self { client: client(app.attach(away).attach(teapot)), log, _folder: folder }
    }

    fn start() -> Self {
        Self::with(|figment, log| figment.merge(("crowdsec.access_log", log)).merge(("crowdsec.event_log", log)))
    }

    fn get(&self, uri: &'static str) {
        self.client.get(uri).visitor("192.0.2.2").dispatch().into_string();
    }

    fn lines(self) -> Vec<String> {
        drop(self.client);
        fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

/// A line without its time, which is the only thing in it that changes.
fn timeless(line: &str) -> String {
    let (before, rest) = line.split_once('[').expect("a time");
    let (_, after) = rest.split_once(']').expect("its end");
    format!("{before}[]{after}")
}

#[test]
fn a_request_is_one_line_as_nginx_writes_it() {
    let site = Site::start();
    let request = site.client.get("/logs/elsewhere?a=b").visitor("2001:db8::1");
    request
        .header(header("User-Agent", "a \"quoted\\\" one\t"))
        .header(header("Referer", "https://a.example/"))
        .dispatch();
    let lines = site.lines();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let expected = r#"2001:db8::1 - - [] "GET /logs/elsewhere?a=b HTTP/1.1" 200 9 "https://a.example/" "a \x22quoted\x5C\x22 one\x09""#;
    assert_eq!(timeless(line), expected);
    let time = line.split(['[', ']']).nth(1).expect("a time");
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert!(shape.starts_with("00/") && shape.ends_with("/0000:00:00:00 +0000"), "{time}");
}

#[test]
fn it_has_what_was_asked_and_what_was_answered() {
    let site = Site::start();
    for uri in ["/logs/asked", "/logs/elsewhere?teapot", "/logs/nothing", "/logs/forbidden"] {
        site.get(uri);
    }
    let request = site.client.get("/logs/stream").visitor("192.0.2.2").header(header("User-Agent", "an agent"));
    request.header(header("Referer", "https://a.example/")).dispatch().into_string();
    for uri in ["/logs/stream", "/logs/elsewhere"] {
        site.client.head(uri).visitor("192.0.2.2").dispatch();
    }
    let lines: Vec<String> = site.lines().iter().map(|line| timeless(line)).collect();
    let starts = [
        r#"192.0.2.2 - - [] "GET /logs/asked HTTP/1.1" 200 9 "#,
        r#"192.0.2.2 - - [] "GET /logs/elsewhere?teapot HTTP/1.1" 418 9 "#,
        r#"192.0.2.2 - - [] "GET /logs/nothing HTTP/1.1" 204 0 "#,
        r#"192.0.2.2 - - [] "GET /logs/forbidden HTTP/1.1" 403 "#,
        r#"192.0.2.2 - - [] "GET /logs/stream HTTP/1.1" 200 20 "https://a.example/" "an agent""#,
        r#"192.0.2.2 - - [] "HEAD /logs/stream HTTP/1.1" 200 0 "#,
        r#"192.0.2.2 - - [] "HEAD /logs/elsewhere HTTP/1.1" 200 0 "#,
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\n{start}");
    }
}

#[test]
fn what_the_log_cannot_hold_is_not_served_but_logged() {
    let site = Site::start();
    let get = |uri: String, name: &'static str, value: String| {
        let request = site.client.get(uri).visitor("192.0.2.2").header(Header::new(name, value));
        request.dispatch().status().code
    };
    let (path, attack) = ("/logs/elsewhere", "../../etc/passwd");
    let padded = |length: usize| format!("{path}?{}{attack}", "p".repeat(length - path.len() - 1 - attack.len()));
    let statuses = [
        get(padded(8 << 10), "Accept", "*/*".into()),
        get(padded((8 << 10) + 1), "Accept", "*/*".into()),
        get(format!("/{}?{attack}", "p".repeat(8 << 10)), "Accept", "*/*".into()),
        get(path.into(), "User-Agent", "a".repeat((2 << 10) - attack.len()) + attack),
        get(path.into(), "User-Agent", "a".repeat(2 << 10) + attack),
        // Escaped, each quote takes four bytes.
        get(path.into(), "User-Agent", "\"".repeat((2 << 10) / 4 - attack.len()) + attack),
        get(path.into(), "User-Agent", "\"".repeat((2 << 10) / 4) + attack),
        get(path.into(), "Referer", "/".repeat((4 << 10) - attack.len()) + attack),
        get(path.into(), "Referer", "/".repeat(4 << 10) + attack),
    ];
    assert_eq!(statuses, [200, 414, 414, 200, 431, 200, 431, 200, 431]);
    let banned = site.client.get(padded(9 << 10)).visitor("192.0.2.1").dispatch();
    assert_eq!(banned.status(), Status::Forbidden, "the ban comes before 414");
    drop(banned);
    let lines = site.lines();
    assert_eq!(lines.len(), statuses.len(), "the ban is not in it");
    for (line, status) in lines.iter().zip(statuses) {
        assert!(line.contains(&format!(" HTTP/1.1\" {status} ")), "{status}: {line}");
        assert!(status != 200 || line.contains(attack), "{line}");
        assert!(line.len() < 16 << 10, "{}", line.len());
    }
}

#[test]
fn a_refusal_is_not_in_it_or_it_would_lengthen_the_ban_that_caused_it() {
    let site = Site::start();
    // The fairing refuses the first ones, a guard the last one.
    for uri in ["/", "/logs/elsewhere", "/no/such/page", "/static/no-such-file", "/logs/guarded"] {
        assert_eq!(site.client.get(uri).visitor("192.0.2.1").dispatch().status(), Status::Forbidden);
    }
    // Nor are answers of our own routes. A request for a path below `/crowdsec/` that does not exist is logged: CrowdSec has to
    // know.
    for uri in ["/crowdsec/health", "/crowdsec/captcha", "/crowdsec/preview/ban"] {
        site.get(uri);
    }
    site.get("/crowdsec/no-such-page");
    site.get("/logs/guarded");
    let lines = site.lines();
    let paths: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').nth(6)).collect();
    assert_eq!(paths, ["/crowdsec/no-such-page", "/logs/guarded"]);
}

#[test]
fn what_a_free_visitor_asks_for_at_the_refusals_own_address_is_in_it_as_the_404_that_it_is() {
    let site = Site::start();
    site.get("/crowdsec/refused");
    site.client.post("/crowdsec/refused").visitor("192.0.2.2").dispatch();
    // The banned are refused there, as anywhere.
    assert_eq!(site.client.get("/crowdsec/refused").visitor("192.0.2.1").dispatch().status(), Status::Forbidden);
    let lines: Vec<String> = site.lines().iter().map(|line| timeless(line)).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for (line, method) in lines.iter().zip(["GET", "POST"]) {
        let start = format!(r#"192.0.2.2 - - [] "{method} /crowdsec/refused HTTP/1.1" 404 "#);
        assert!(line.starts_with(&start), "{line}");
    }
}

#[test]
fn an_event_is_a_line_of_its_own_in_the_same_log_or_in_another() {
    let note = |site: &Site| {
        site.client.post("/logs/events").visitor("192.0.2.2").body("ro\"ot\n").dispatch();
    };
    let events_of = |lines: Vec<String>| {
        let lines = lines.into_iter().filter(|line| line.starts_with("{\"crowdsec_event\":"));
        let events: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(&line).expect("JSON")).collect();
        assert_eq!(events.len(), 2);
        assert_eq!((&events[0]["crowdsec_event"], &events[0]["user"]), (&"failed-sign-in".into(), &"ro\"ot\n".into()));
        assert_eq!((&events[1]["crowdsec_event"], &events[1]["user"]), (&"coupon".into(), &serde_json::Value::Null));
        assert!(events.iter().all(|event| event["address"] == "192.0.2.2"));
        assert!(events.iter().all(|event| event["time"].as_str().is_some_and(|time| time.len() == 20)));
    };
    let site = Site::start();
    note(&site);
    let lines = site.lines();
    assert_eq!(lines.len(), 3, "two events and a request: {lines:#?}");
    events_of(lines);

    let alone = Site::with(|figment, log| figment.merge(("crowdsec.event_log", log)));
    note(&alone);
    let lines = alone.lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    events_of(lines);

    let silent = Site::with(|figment, _| figment);
    note(&silent);
    assert_eq!(silent.lines(), [""; 0]);
}

#[test]
fn nothing_is_said_of_a_proxy_for_an_attack_behind_it_would_have_it_banned() {
    let site = Site::with(|figment, log| {
        let figment = figment.merge(("crowdsec.trusted_proxies", ["192.0.2.9", "2001:db8:9::/48"]));
        let figment = figment.merge(("crowdsec.excluded_paths", ["/logs/events"]));
        figment.merge(("crowdsec.access_log", log)).merge(("crowdsec.event_log", log))
    });
    for proxy in ["192.0.2.9", "2001:db8:9::1"] {
        for visitor in [None, Some("unreadable"), Some("192.0.2.9"), Some("192.0.2.2, unreadable")] {
            // An excluded path is served, and another one is not: either way nobody knows whose request it is.
            for (path, status) in [("/logs/events", Status::Ok), ("/logs/elsewhere", Status::Forbidden)] {
                let mut request = site.client.post(path).visitor(proxy).body("root");
                if let Some(visitor) = visitor {
                    request.add_header(header("X-Forwarded-For", visitor));
                }
                assert_eq!(request.dispatch().status(), status, "{path} by {visitor:?}");
            }
        }
    }
    // Logged are a visitor whom the proxy names, and one who comes without a proxy, whatever their header says.
    let behind = site.client.post("/logs/events").visitor("192.0.2.9").body("root");
    behind.header(header("X-Forwarded-For", "192.0.2.2")).dispatch();
    let alone = site.client.get("/logs/elsewhere").visitor("192.0.2.3");
    alone.header(header("X-Forwarded-For", "192.0.2.9")).dispatch();
    let lines = site.lines();
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(lines[..3].iter().all(|line| line.contains("192.0.2.2")), "{lines:#?}");
    assert!(lines[3].starts_with("192.0.2.3 "), "{lines:#?}");
}

#[test]
fn a_new_log_is_for_its_owner_and_a_group_to_read_and_for_nobody_else() {
    let site = Site::start();
    let mode = fs::metadata(&site.log).expect("a log").permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "{mode:o}");
}

#[test]
fn a_log_that_cannot_be_opened_stops_the_launch() {
    for key in ["access_log", "event_log"] {
        let figment = figment().merge((format!("crowdsec.{key}"), "/no-such-folder/a.log"));
        assert!(bouncer_refuses(Client::tracked(app::app(figment))), "{key}");
    }
}
