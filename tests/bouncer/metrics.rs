//! What does Prometheus read about the bouncer, and who may read it?

use app::crowdsec::{Cleared, Human, NoDecision};
use rocket::figment::Figment;
use rocket::http::{ContentType, Method, RawStr, Status};
use rocket::local::blocking::Client;
use rocket::{get, routes};

use crate::common::{
    FakeLapi, Visitor, answer, bouncer_refuses, challenge_on, client, decision, figment, header, scoped, solve,
    with_decisions,
};

const OPERATOR: &str = "198.51.100.1";
const PROXY: &str = "10.0.0.1";
const PATH: &str = "/crowdsec/metrics";

fn with_operator(decisions: &[(&str, &str)]) -> Figment {
    with_decisions(decisions).merge(("crowdsec.metrics_from", [OPERATOR, "2001:db8:1::/48"]))
}

fn visit(client: &Client, visitor: &str) -> Status {
    client.get("/nowhere-at-all").visitor(visitor).dispatch().status()
}

/// One of the numbers that the operator reads.
fn number(client: &Client, series: &str) -> f64 {
    let page = client.get(PATH).visitor(OPERATOR).dispatch().into_string().expect("the figures");
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("crowdsec_rocket_{series} ")));
    line.unwrap_or_else(|| panic!("no {series} in:\n{page}")).parse().expect("a number")
}

fn dropped(client: &Client, origin: &str, remediation: &str, family: &str) -> f64 {
    number(client, &format!(r#"dropped_total{{origin="{origin}",remediation="{remediation}",ip_type="{family}"}}"#))
}

fn captchas(client: &Client) -> [f64; 4] {
    ["shown", "solved", "failed", "provider_away"]
        .map(|result| number(client, &format!(r#"captcha_total{{result="{result}"}}"#)))
}

#[test]
fn only_whom_the_operator_has_named_may_read_them() {
    let app = client(app::protected(with_operator(&[])));
    let status = |visitor: &str| app.get(PATH).visitor(visitor).dispatch().status();
    for (visitor, expected) in [
        (OPERATOR, Status::Ok),
        ("2001:db8:1::7", Status::Ok),
        ("::ffff:198.51.100.1", Status::Ok),
        ("198.51.100.2", Status::NotFound),
        ("127.0.0.1", Status::NotFound),
        ("2001:db8:2::7", Status::NotFound),
    ] {
        assert_eq!(status(visitor), expected, "{visitor}");
    }
    let answer = app.get(PATH).visitor(OPERATOR).dispatch();
    assert_eq!(answer.headers().get_one("Cache-Control"), Some("no-store"));
    assert_eq!(answer.headers().get_one("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let head = app.head(PATH).visitor(OPERATOR).dispatch();
    assert_eq!((head.status(), head.into_string().unwrap_or_default().len()), (Status::Ok, 0));
    for method in [Method::Post, Method::Put, Method::Delete] {
        assert_eq!(app.req(method, PATH).visitor(OPERATOR).dispatch().status(), Status::NotFound, "{method}");
    }
}

#[test]
fn without_metrics_from_there_is_nothing() {
    let app = client(app::protected(figment()));
    for visitor in ["127.0.0.1", OPERATOR] {
        assert_eq!(app.get(PATH).visitor(visitor).dispatch().status(), Status::NotFound);
    }
    let everybody = app::protected(figment().merge(("crowdsec.metrics_from", ["0.0.0.0/0"])));
    assert!(bouncer_refuses(Client::tracked(everybody)));
}

/// No header is believed that a stranger may have written, and a request that names nobody is refused.
#[test]
fn nobody_reads_them_through_a_proxy_that_is_not_trusted_or_as_the_proxy_itself() {
    let figment = with_operator(&[]).merge(("crowdsec.metrics_from", [OPERATOR, PROXY]));
    let app = client(app::protected(figment.merge(("crowdsec.trusted_proxies", [PROXY, "10.0.0.2"]))));
    let status = |peer: &str, name: &'static str, value: &'static str| {
        app.get(PATH).visitor(peer).header(header(name, value)).dispatch().status()
    };
    for name in ["X-Forwarded-For", "X-Real-IP", "X-Forwarded-Proto", "Forwarded"] {
        // The operator's address looks like a proxy that hands on anybody's request.
        assert_eq!(status(OPERATOR, name, "198.51.100.1"), Status::NotFound, "{name}");
        assert_eq!(status("203.0.113.9", name, "198.51.100.1"), Status::NotFound, "{name}");
    }
    for (value, expected) in [
        ("198.51.100.1", Status::Ok),
        ("203.0.113.9, 198.51.100.1", Status::Ok),
        ("198.51.100.1, 203.0.113.9", Status::NotFound),
        // A request that names nobody is refused, whatever it asks for.
        ("10.0.0.1", Status::Forbidden),
        ("unknown", Status::Forbidden),
    ] {
        assert_eq!(status(PROXY, "X-Forwarded-For", value), expected, "{value}");
    }
    assert_eq!(app.get(PATH).visitor(PROXY).dispatch().status(), Status::Forbidden);
}

#[test]
fn an_operator_reads_them_while_banned_and_nothing_else() {
    let app = client(app::protected(with_operator(&[(OPERATOR, "ban")])));
    assert_eq!(app.get(PATH).visitor(OPERATOR).dispatch().status(), Status::Ok);
    for path in ["/", "/crowdsec/metrics/", "/crowdsec/metricsx", "/crowdsec/captcha"] {
        assert_eq!(app.get(path).visitor(OPERATOR).dispatch().status(), Status::Forbidden, "{path}");
    }
    assert_eq!(app.post(PATH).visitor(OPERATOR).dispatch().status(), Status::Forbidden);
    // Another banned visitor finds the ban there.
    let app = client(app::protected(with_operator(&[("192.0.2.1", "ban")])));
    assert_eq!(app.get(PATH).visitor("192.0.2.1").dispatch().status(), Status::Forbidden);
}

#[test]
fn each_request_is_counted_by_what_became_of_it() {
    let decisions =
        [("192.0.2.1", "ban"), ("192.0.2.2", "captcha"), ("2001:db8::/32", "throttle"), ("192.0.2.4", "pass")];
    let figment = with_operator(&decisions).merge(("crowdsec.throttle", "1/1h"));
    let app = client(app::protected(figment.merge(("crowdsec.trusted_proxies", [PROXY]))));
    assert_eq!(dropped(&app, "CAPI", "ban", "ipv4"), 0.0, "what is expected is there from the start");
    let (v4, v6) = (r#"requests_total{ip_type="ipv4"}"#, r#"requests_total{ip_type="ipv6"}"#);
    let before = number(&app, v4);
    for visitor in
        ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.4", "198.51.100.9", PROXY, "2001:db8::1", "2001:db8::1"]
    {
        visit(&app, visitor);
    }
    // This question itself is the seventh request.
    assert_eq!((number(&app, v4) - before, number(&app, v6)), (7.0, 2.0));
    assert_eq!(dropped(&app, "local", "ban", "ipv4"), 2.0);
    assert_eq!(dropped(&app, "local", "captcha", "ipv4"), 1.0);
    assert_eq!(dropped(&app, "local", "throttle", "ipv6"), 1.0);
    assert_eq!(dropped(&app, "fallback", "hidden", "ipv4"), 1.0);
    let page = app.get(PATH).visitor(OPERATOR).dispatch().into_string().expect("the figures");
    let sum: f64 = page
        .lines()
        .filter(|line| line.starts_with("crowdsec_rocket_dropped_total{"))
        .map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number"))
        .sum();
    assert_eq!(sum, 5.0, "nothing else is counted, and nothing twice");
    assert!(!page.contains("192.0.2") && !page.contains("nowhere"), "nobody can be known by them");
}

#[test]
fn what_a_guard_refuses_is_counted_once_and_a_trial_apart() {
    #[get("/cleared")]
    fn cleared(_cleared: Cleared) {}
    #[get("/none")]
    fn none(_none: NoDecision) {}
    #[get("/human")]
    fn human(_human: Human) {}
    let figment = with_operator(&[("192.0.2.1", "ban"), ("192.0.2.4", "pass")]);
    let with_routes =
        |figment: &Figment| client(app::protected(figment.clone()).mount("/guarded", routes![cleared, none, human]));
    let by_guards = with_routes(&figment.clone().merge(("crowdsec.enforce_by", "guards")));
    let get = |app: &Client, path: &'static str, visitor: &str| app.get(path).visitor(visitor).dispatch().status();
    assert_eq!(get(&by_guards, "/guarded/cleared", "192.0.2.1"), Status::Forbidden);
    assert_eq!(get(&by_guards, "/guarded/none", "192.0.2.4"), Status::Forbidden);
    assert_eq!(get(&by_guards, "/guarded/human", "192.0.2.9"), Status::Forbidden);
    assert_eq!(visit(&by_guards, "192.0.2.1"), Status::NotFound);
    assert_eq!(dropped(&by_guards, "local", "ban", "ipv4"), 2.0);
    assert_eq!(dropped(&by_guards, "fallback", "captcha", "ipv4"), 1.0);
    // A captcha that is named twice does not enforce bans.
    let figment = figment.merge(("crowdsec.enforce", ["captcha", "captcha", "throttle"]));
    for figment in [figment.clone(), figment.merge(("crowdsec.enforce_by", "guards"))] {
        let trial = with_routes(&figment);
        assert_eq!(get(&trial, "/guarded/cleared", "192.0.2.1"), Status::Ok);
        assert_eq!(dropped(&trial, "local", "ban", "ipv4"), 0.0);
        assert_eq!(number(&trial, r#"trial_total{origin="local",remediation="ban",ip_type="ipv4"}"#), 1.0);
        assert_eq!(get(&trial, "/guarded/human", "192.0.2.1"), Status::Forbidden);
        assert_eq!(dropped(&trial, "fallback", "captcha", "ipv4"), 1.0);
    }
}

#[test]
fn a_captcha_that_a_route_asks_of_everybody_is_put_down_to_no_decision_that_lets_the_visitor_in() {
    #[get("/human")]
    fn human(_human: Human) {}
    let app = client(app::protected(with_operator(&[("192.0.2.4", "pass")])).mount("/guarded", routes![human]));
    assert_eq!(app.get("/guarded/human").visitor("192.0.2.4").dispatch().status(), Status::Forbidden);
    assert_eq!(dropped(&app, "fallback", "captcha", "ipv4"), 1.0);
    assert_eq!(dropped(&app, "local", "captcha", "ipv4"), 0.0);
}

#[test]
fn captchas_are_counted_by_what_became_of_them() {
    let send = |app: &Client, body: &'static str| {
        let request = app.post("/crowdsec/captcha").header(ContentType::Form).body(body).visitor("192.0.2.2");
        request.dispatch().status()
    };
    let app = client(app::protected(with_operator(&[("192.0.2.2", "captcha")])));
    assert_eq!(captchas(&app), [0.0; 4]);
    assert_eq!(visit(&app, "192.0.2.2"), Status::Forbidden);
    assert_eq!(app.get("/crowdsec/captcha").visitor("192.0.2.2").dispatch().status(), Status::Forbidden);
    assert_eq!(captchas(&app), [2.0, 0.0, 0.0, 0.0]);
    for body in ["altcha=wrong", "return_to=/"] {
        assert_eq!(send(&app, body), Status::Forbidden);
    }
    assert_eq!(captchas(&app), [2.0, 0.0, 2.0, 0.0]);
    // A request for the captcha's own page was not kept from the application.
    assert_eq!(dropped(&app, "local", "captcha", "ipv4"), 1.0);
    // Solved by the page's script, and by a form without a script. This client keeps no pass, so it meets the captcha twice.
    let app = Client::untracked(app::protected(with_operator(&[("192.0.2.2", "captcha")]))).expect("it launches");
    for (cookies, status) in [("seen", Status::NoContent), ("", Status::SeeOther)] {
        let page = app.get("/").visitor("192.0.2.2").dispatch();
        let solved = RawStr::new(&solve(challenge_on(page))).percent_encode().into_owned();
        let request = app.post("/crowdsec/captcha").header(ContentType::Form).visitor("192.0.2.2");
        let request = request.cookie(("captcha-probe", "1")).body(format!("altcha={solved}&cookies={cookies}"));
        assert_eq!(request.dispatch().status(), status);
    }
    assert_eq!(captchas(&app)[1], 2.0);

    let third_party = with_operator(&[("192.0.2.2", "captcha")])
        .merge(("crowdsec.captcha.provider", "recaptcha"))
        .merge(("crowdsec.captcha.site_key", "key"))
        .merge(("crowdsec.captcha.secret_key", "secret"))
        .merge(("crowdsec.captcha.verify_url", "http://127.0.0.1:1/siteverify"));
    let app = client(app::protected(third_party));
    assert_eq!(send(&app, "g-recaptcha-response=right"), Status::ServiceUnavailable);
    assert_eq!(captchas(&app), [0.0, 0.0, 0.0, 1.0]);
}

/// Fails closed for everybody except the operator, who has to find out why.
#[test]
fn before_the_first_answer_the_operator_sees_that_it_is_missing() {
    let figment = with_operator(&[])
        .merge(("crowdsec.api_url", "http://127.0.0.1:1/"))
        .merge(("crowdsec.api_key", "a-key-of-the-tests"))
        .merge(("crowdsec.startup_timeout", "1ms"))
        .merge(("crowdsec.on_startup_failure", "closed"));
    let app = client(app::protected(figment));
    assert_eq!(visit(&app, "192.0.2.1"), Status::ServiceUnavailable);
    assert_eq!(dropped(&app, "fallback", "starting", "ipv4"), 1.0);
    assert_eq!(number(&app, "ready"), 0.0);
    assert_eq!(number(&app, "lapi_last_success_timestamp_seconds"), 0.0);
    assert!(number(&app, r#"lapi_polls_total{result="network"}"#) >= 1.0);
    let count = number(&app, "lapi_poll_duration_seconds_count");
    assert!(count >= 1.0 && number(&app, r#"lapi_poll_duration_seconds_bucket{le="+Inf"}"#) >= count);
}

/// Such decisions have no family of addresses.
#[test]
fn decisions_on_countries_and_accounts_are_counted_too() {
    let new = [
        decision(1, "192.0.2.1", "ban"),
        scoped(2, "Country", "FR", "ban"),
        scoped(3, "AS", "64500", "captcha"),
        scoped(4, "username", "alice", "ban"),
    ];
    let lapi = FakeLapi::saying(answer(&new, &[]));
    let figment = lapi.figment().merge(("crowdsec.scopes", ["ip", "range", "country", "as", "username"]));
    let client = client(app::protected(figment.merge(("crowdsec.metrics_from", [OPERATOR]))));
    let held = |family: &str, scope: &str| {
        number(&client, &format!(r#"decisions{{origin="cscli",ip_type="{family}",scope="{scope}"}}"#))
    };
    assert_eq!([held("ipv4", "ip"), held("", "country"), held("", "as"), held("", "other")], [1.0; 4]);
}

/// An operator may look at the figures in a terminal.
#[test]
fn no_origin_ends_its_label_or_moves_a_terminals_cursor() {
    let odd = decision(1, "192.0.2.1", "ban").replace("cscli", r#"a\"b\\c\nd\u001b[2Je"#);
    let lapi = FakeLapi::saying(answer(&[odd], &[]));
    let client = client(app::protected(lapi.figment().merge(("crowdsec.metrics_from", [OPERATOR]))));
    let shown = "decisions{origin=\"a\\\"b\\\\c\\nd\u{fffd}[2Je\",ip_type=\"ipv4\",scope=\"ip\"}";
    assert_eq!(number(&client, shown), 1.0);
}
