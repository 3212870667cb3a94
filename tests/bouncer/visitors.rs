//! Who is asking? The address of the connection, or whom a trusted proxy names, in any spelling.

use rocket::http::{Header, Status};

use super::refusals::{runs, with_probes};
use crate::common::{Visitor, app_with, figment, header, on_connections, with_decisions};

#[test]
fn a_visitor_is_recognised_in_any_spelling_of_the_address() {
    let client = app_with(&[("192.0.2.1", "ban"), ("::ffff:198.51.100.0/120", "ban"), ("2001:DB8:0::5/48", "ban")]);
    for visitor in ["192.0.2.1", "::ffff:192.0.2.1", "198.51.100.77", "::ffff:198.51.100.77", "2001:db8:0:9::1"] {
        assert_eq!(client.get("/").visitor(visitor).dispatch().status(), Status::Forbidden, "{visitor}");
    }
}

#[test]
fn a_header_from_a_stranger_changes_nobodys_address() {
    let client = app_with(&[("192.0.2.1", "ban")]);
    for name in ["X-Real-IP", "X-Forwarded-For", "Forwarded", "CF-Connecting-IP", "X-Client-IP", "True-Client-IP"] {
        let value = if name == "Forwarded" { "for=203.0.113.9" } else { "203.0.113.9" };
        let request = client.get("/").header(Header::new(name, value)).visitor("192.0.2.1");
        assert_eq!(request.dispatch().status(), Status::Forbidden, "{name}");
        let value = if name == "Forwarded" { "for=192.0.2.1" } else { "192.0.2.1" };
        let request = client.get("/crowdsec/captcha").header(Header::new(name, value)).visitor("203.0.113.9");
        assert_eq!(request.dispatch().status(), Status::SeeOther, "{name}");
    }
}

#[test]
fn behind_a_trusted_proxy_the_visitor_is_whom_it_names() {
    let figment = with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.trusted_proxies", ["10.0.0.0/8"]));
    let client = with_probes(app::app(figment));
    let status = |value: &'static str| {
        client.get("/tests/probe").header(header("X-Forwarded-For", value)).visitor("10.0.0.1").dispatch().status()
    };
    assert_eq!(status("192.0.2.1"), Status::Forbidden);
    assert_eq!(status("203.0.113.9, 192.0.2.1"), Status::Forbidden);
    assert_eq!(status("192.0.2.1, 203.0.113.9"), Status::Ok);
    let guarded =
        client.get("/tests/guarded").header(header("X-Forwarded-For", "::ffff:203.0.113.9")).visitor("10.0.0.1");
    assert_eq!(guarded.dispatch().into_string().unwrap(), "203.0.113.9");
}

/// Some proxies tunnel a connection from such a request on, whatever is answered.
#[test]
fn after_a_request_for_a_websocket_that_none_is_made_of_nobody_says_on_that_connection_who_they_are() {
    let figment = with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.trusted_proxies", ["127.0.0.1"]));
    let asked = |(asked, visitor, more)| {
        format!(
            "{asked} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {visitor}\r\n{more}\r\n\
             GET /crowdsec/health HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.2\r\nConnection: close\r\n\r\n"
        )
    };
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let texts = [
        ("GET /", "192.0.2.1", ""),
        ("GET /", "192.0.2.1", upgrade),
        ("GET /crowdsec/health", "192.0.2.1", upgrade),
        ("FOO /", "192.0.2.1", upgrade),
    ];
    let answers = on_connections(app::protected(figment), &texts.map(asked));
    let counts: Vec<usize> = answers.iter().map(|answer| answer.matches("HTTP/1.1 ").count()).collect();
    assert_eq!(counts, [2, 1, 1, 1], "{answers:?}");
}

/// Rocket drops a header that is not UTF-8, so a visitor's bytes can remove the address that a proxy added to them.
#[test]
fn whom_a_trusted_proxy_does_not_name_is_refused_whatever_other_headers_say() {
    let figment = with_decisions(&[("10.0.0.1", "allow")]).merge(("crowdsec.trusted_proxies", ["10.0.0.0/8"]));
    let client = with_probes(app::app(figment));
    let status = |peer: &str, headers: &[(&'static str, &'static str)]| {
        let request = client.get("/tests/probe").visitor(peer);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(header(name, value)));
        request.dispatch().status()
    };
    let others = [
        &[][..],
        &[("X-Real-IP", "192.0.2.1")],
        &[("Via", "1.1 a"), ("X-Forwarded-Proto", "https")],
        &[("Forwarded", "for=192.0.2.1"), ("X-Forwarded-Host", "a.example"), ("CF-Connecting-IP", "192.0.2.1")],
    ];
    for other in others {
        assert_eq!(status("10.0.0.1", other), Status::Forbidden, "no header, {other:?}");
        for value in [
            "",
            " , ",
            "unknown",
            "unix:",
            "192.0.2.1, unknown",
            "192.0.2.1, \"192.0.2.1\"",
            "192.0.2.1, unknown, 10.0.0.2",
            "10.0.0.1",
            "10.9.9.9, ::ffff:10.0.0.2",
        ] {
            let all = [other, &[("X-Forwarded-For", value)]].concat();
            assert_eq!(status("10.0.0.1", &all), Status::Forbidden, "{value:?}, {other:?}");
            assert_eq!(status("192.0.2.1", &all), Status::Ok, "{value:?} from no proxy of ours");
        }
        let named = [other, &[("X-Forwarded-For", "192.0.2.1, 10.0.0.2")]].concat();
        assert_eq!(status("10.0.0.1", &named), Status::Ok, "{other:?}");
    }
    assert_eq!(runs(&client), others.len() * 10, "nobody else met the application");
}

#[test]
fn the_health_check_and_excluded_paths_are_answered_to_a_proxy_that_names_nobody() {
    let figment = figment().merge(("crowdsec.trusted_proxies", ["10.0.0.1"]));
    let client = with_probes(app::app(figment.merge(("crowdsec.excluded_paths", ["/tests/probe", "/tests/guarded"]))));
    let status = |path: &'static str| client.get(path).visitor("10.0.0.1").dispatch().status();
    assert_eq!(status("/crowdsec/health"), Status::Ok);
    assert_eq!(client.head("/crowdsec/health").visitor("10.0.0.1").dispatch().status(), Status::Ok);
    assert_eq!(status("/tests/probe"), Status::Ok);
    for path in ["/", "/static/style.css", "/crowdsec/captcha", "/crowdsec/preview/ban", "/tests/guarded", "/nowhere"] {
        assert_eq!(status(path), Status::Forbidden, "{path}");
    }
}

/// Rocket knows no peer of a connection that was reset at once. Its local client has none either.
#[test]
fn a_request_whose_connection_was_reset_before_anybody_asked_whose_it_is_meets_no_handler() {
    let figment = figment().merge(("crowdsec.api_key", "a-key-of-the-tests"));
    let figment = figment.merge(("crowdsec.api_url", "http://127.0.0.1:1"));
    // If a request without a peer counted as loopback's, its headers would be believed.
    let figment = figment.merge(("crowdsec.trusted_proxies", ["127.0.0.1"]));
    let client = with_probes(app::app(figment.select("production")));
    let named = |path: &'static str| client.get(path).header(header("X-Forwarded-For", "203.0.113.9"));
    for path in ["/tests/probe", "/tests/guarded"] {
        assert_eq!(client.get(path).dispatch().status(), Status::Forbidden, "{path}");
        assert_eq!(named(path).dispatch().status(), Status::Forbidden, "{path}");
    }
    assert_eq!(runs(&client), 0);
    assert_eq!(named("/tests/probe").visitor("127.0.0.1").dispatch().status(), Status::Ok);
}

/// With the examples of the debug profile alone, it is the developer who comes from loopback.
#[test]
fn the_example_of_the_debug_profile_lets_the_developer_in() {
    let bare = rocket::figment::Figment::from(rocket::Config::debug_default()).merge(("log_level", "off"));
    let client = with_probes(app::app(bare));
    for peer in ["127.0.0.1", "::1"] {
        assert_eq!(client.get("/tests/probe").visitor(peer).dispatch().status(), Status::Ok, "{peer}");
        let itself = client.get("/tests/probe").visitor(peer).header(header("X-Forwarded-For", "127.0.0.1"));
        assert_eq!(itself.dispatch().status(), Status::Ok, "{peer}");
    }
}

#[test]
fn rockets_own_way_to_an_address_is_off_even_without_a_rocket_toml() {
    // What `figment()` lays beneath Rocket.toml and the environment.
    let beneath = app::crowdsec::defaults();
    assert!(rocket::Config::from(beneath).ip_header.is_none());
}
