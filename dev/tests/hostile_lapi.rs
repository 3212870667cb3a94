//! What harm can a broken LAPI, or somebody in its place, do? Its answers take little memory and cannot break the log.

use std::io::Write;
use std::net::TcpStream;

use dev::Verdict::{Ban, Captcha, Welcome};
use dev::{App, FakeServer, Reply, eventually};
use serde_json::{Value, json};

/// A decision with these fields instead of its own.
fn decision(id: u64, value: &str, instead: &[(&str, Value)]) -> Value {
    let mut decision = json!({ "duration": "3h59m59.6s", "id": id, "origin": "cscli", "scenario": "end-to-end",
        "scope": "Ip", "type": "ban", "value": value });
    instead.iter().for_each(|(name, value)| decision[*name] = value.clone());
    decision
}

/// LAPI fails for a moment and then sends all decisions anew. The log must not repeat what it tells once.
#[track_caller]
fn comes_back(lapi: &FakeServer, app: &App, all: Vec<Value>) {
    lapi.answers(|_| Reply::error(500));
    eventually("LAPI is lost", || app.logged(" is lost: ") > 0);
    lapi.answers(move |seen| Reply::standing(seen, &all));
    eventually("LAPI is back", || app.logged(" is back after ") > 0);
}

/// Writes 136 decisions with a field of 1 MiB each, piece by piece, so that the test itself holds little memory.
fn megabytes(stream: &mut TcpStream) -> std::io::Result<()> {
    let much = "x".repeat(1 << 20);
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"new\":[")?;
    for n in 0..136 {
        let fields = ["origin", "scenario", "scope", "type", "value", "duration"];
        // Mostly origins and scenarios, which are kept: kept whole, they would take more memory than this test allows.
        let field = if n < 36 { fields[n % 6] } else { fields[n % 2] };
        // Each text differs, since equal texts are kept once.
        let entry = decision(n as u64 + 1, &format!("192.0.2.{n}"), &[(field, format!("{n} {much}").into())]);
        stream.write_all(format!("{entry},").as_bytes())?;
    }
    stream.write_all(format!("{}],\"deleted\":null}}", decision(999, "192.0.2.250", &[])).as_bytes())
}

#[test]
fn fields_of_a_megabyte_take_no_memory_and_an_origin_or_scenario_of_that_size_drops_no_ban() {
    let lapi =
        FakeServer::start(
            |seen| {
                if seen.asks_for_all() { Reply::script(megabytes) } else { Reply::decisions(&[], &[]) }
            },
        );
    let app = App::polling(&lapi.url(), &[("CROWDSEC_STARTUP_TIMEOUT", "5m")]);
    assert!(app.memory() < 80, "{} MB of memory", app.memory());
    // The decisions with a long origin, a long scenario and no long field; then those with another long field.
    let met = [0, 1, 250, 2, 3, 4, 5].map(|n| app.verdict(&format!("192.0.2.{n}")));
    assert_eq!(met, [Ban, Ban, Ban, Welcome, Welcome, Welcome, Welcome], "{}", app.log());
    app.tells("Not enforced: 18 decisions of LAPI's that could not be read", 1);
    assert!(app.log().lines().all(|line| line.len() < 2000), "a line of the log is longer than anybody reads");
}

#[test]
fn what_cannot_be_read_reaches_the_log_without_power_over_it() {
    let hostile = "\n\r\u{7}\u{1b}]0;title\u{1b}[2J\u{9b}31m\u{85}\u{2028}\u{202e}";
    let entries =
        |field: &str| vec![decision(1, "192.0.2.1", &[(field, hostile.into())]), decision(2, "192.0.2.2", &[])];
    for field in ["value", "duration"] {
        let all = entries(field);
        let lapi = FakeServer::start(move |seen| Reply::standing(seen, &all));
        let app = App::polling(&lapi.url(), &[]);
        assert_eq!((app.verdict("192.0.2.1"), app.verdict("192.0.2.2")), (Welcome, Ban), "{field}");
        app.tells("Not enforced: 1 decision of LAPI's that could not be read", 1);
        let harmful = |c: char| c != '\n' && (c.is_control() || ['\u{2028}', '\u{202e}'].contains(&c));
        assert!(!app.log().contains(harmful), "{:?}", app.log());
    }
    // The scenario and the origin can be read, and the log tells them when the decision refuses somebody.
    let mut all = entries("scenario");
    all[0]["origin"] = hostile.into();
    let lapi = FakeServer::start(move |seen| Reply::standing(seen, &all));
    let app = App::polling(&lapi.url(), &[]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    eventually("the refusal is told", || app.logged("Refused 192.0.2.1: ban by ") > 0);
    assert!(!app.log().contains(|c: char| c != '\n' && c.is_control()), "{:?}", app.log());
}

#[test]
fn thousands_of_decisions_on_one_address_are_held_down_to_the_greatest_and_told_once() {
    let captcha = |id: u64| decision(id, "192.0.2.1", &[("type", "captcha".into())]);
    let all: Vec<Value> = (1..=5000).map(captcha).chain([decision(50_000, "192.0.2.1", &[])]).collect();
    let again = all.clone();
    let lapi = FakeServer::start(move |seen| Reply::standing(seen, &all));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_STARTUP_TIMEOUT", "5m"), ("CROWDSEC_RESYNC_FREQUENCY", "1s")]);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
    let so_far = lapi.seen().len();
    eventually("a few full answers more", || {
        lapi.seen().iter().skip(so_far).filter(|seen| seen.asks_for_all()).count() > 2
    });
    assert!(!lapi.seen().iter().any(|seen| seen.is_question()), "what is left out is not missing");
    comes_back(&lapi, &app, again);
    app.tells("LAPI has more than 256 decisions on 192.0.2.1/32", 1);
    assert_eq!(app.verdict("192.0.2.1"), Ban);
}

#[test]
fn decisions_without_an_id_are_enforced_told_once_and_never_called_the_operators_own() {
    let value = |n: usize| format!("10.{}.{}.{}", n / 62_500, n / 250 % 250, n % 250);
    let unnamed = |n: usize| {
        let mut decision = decision(0, &value(n), &[("scenario", format!("scenario {n}").into())]);
        decision.as_object_mut().expect("an object").remove("id");
        decision
    };
    let mut all: Vec<Value> = (0..20_000).map(unnamed).collect();
    all.push(decision(0, "192.0.2.7", &[("id", "seven".into()), ("type", "captcha".into())]));
    let (again, gone) = (all.clone(), all.clone());
    let lapi = FakeServer::start(move |seen| Reply::standing(seen, &all));
    let app = App::polling(&lapi.url(), &[("CROWDSEC_STARTUP_TIMEOUT", "5m")]);
    assert_eq!((app.verdict(&value(19_999)), app.verdict("192.0.2.7")), (Ban, Captcha));
    app.tells("LAPI has sent 20001 decisions without an id that can be used", 1);
    eventually("the refusal is told", || app.logged(", a decision without an id, ") > 0);
    assert_eq!(app.logged("decision of your own"), 0, "{}", app.log());
    comes_back(&lapi, &app, again);
    lapi.answers(move |_| Reply::decisions(&[], &gone));
    app.eventually(&value(0), Welcome);
    app.eventually("192.0.2.7", Welcome);
    app.tells("without an id that can be used", 1);
}
