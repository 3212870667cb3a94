//! Who is refused, with what answer, and who is not.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use app::crowdsec::Cleared;
use common::{Visitor, app_with, client, figment, header, with_decisions};
use rocket::fairing::AdHoc;
use rocket::http::{ContentType, Header, Method, Status};
use rocket::local::blocking::Client;
use rocket::request::{FromRequest, Outcome};
use rocket::{Build, Request, Rocket, State, get, head, post, put, routes};

struct Runs(AtomicUsize);

#[get("/probe/<_..>")]
fn probe(runs: &State<Runs>) -> &'static str {
    runs.0.fetch_add(1, Ordering::SeqCst);
    "the handler ran"
}

#[post("/probe", data = "<_body>")]
fn probe_post(runs: &State<Runs>, _body: String) -> &'static str {
    runs.0.fetch_add(1, Ordering::SeqCst);
    "the handler ran"
}

#[get("/guarded")]
fn guarded(visitor: Cleared, runs: &State<Runs>) -> String {
    runs.0.fetch_add(1, Ordering::SeqCst);
    visitor.address.to_string()
}

fn with_probes(app: Rocket<Build>) -> Client {
    client(app.manage(Runs(AtomicUsize::new(0))).mount("/", routes![probe, probe_post, guarded]))
}

fn runs(client: &Client) -> usize {
    client.rocket().state::<Runs>().unwrap().0.load(Ordering::SeqCst)
}

const METHODS: [Method; 9] = [
    Method::Get,
    Method::Put,
    Method::Post,
    Method::Delete,
    Method::Options,
    Method::Head,
    Method::Trace,
    Method::Connect,
    Method::Patch,
];

#[test]
fn a_banned_visitor_is_refused_with_every_method_everywhere() {
    let client = with_probes(app::app(with_decisions(&[("192.0.2.0/24", "ban")])));
    for method in METHODS {
        for path in
            ["/", "/probe", "/guarded", "/nowhere", "/static/style.css", "/crowdsec/captcha", "/crowdsec/refused"]
        {
            let response = client.req(method, path).visitor("192.0.2.1").dispatch();
            assert_eq!(response.status(), Status::Forbidden, "{method} {path}");
            assert_eq!(response.headers().get_one("Cache-Control"), Some("no-store"), "{method} {path}");
            let body = response.into_string().unwrap_or_default();
            assert_eq!(body.is_empty(), method == Method::Head, "{method} {path}");
        }
    }
    assert_eq!(runs(&client), 0);
}

#[get("/<_..>")]
fn first_of_all(runs: &State<Runs>) -> &'static str {
    runs.0.fetch_add(1, Ordering::SeqCst);
    "the handler ran"
}

#[head("/<_..>")]
fn first_of_all_heads(runs: &State<Runs>) {
    runs.0.fetch_add(1, Ordering::SeqCst);
}

#[test]
fn no_route_of_the_applications_comes_before_the_refusal() {
    for excluded in ["/elsewhere", "/crowdsec"] {
        let figment = with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.excluded_paths", [excluded]));
        let app = app::app(figment).manage(Runs(AtomicUsize::new(0)));
        let mut routes = routes![first_of_all, first_of_all_heads];
        routes.iter_mut().for_each(|route| route.rank = -100);
        let client = client(app.mount("/", routes));
        for method in METHODS {
            let response = client.req(method, "/probe").visitor("192.0.2.1").dispatch();
            assert_eq!(response.status(), Status::Forbidden, "{method}, {excluded} excluded");
        }
        assert_eq!(runs(&client), 0);
    }
}

#[test]
fn no_head_route_of_the_applications_comes_before_our_own_pages() {
    let app = app::app(with_decisions(&[("192.0.2.1", "ban"), ("198.51.100.1", "captcha")]));
    let mut route = routes![first_of_all_heads];
    route.iter_mut().for_each(|route| route.rank = -100);
    let client = client(app.manage(Runs(AtomicUsize::new(0))).mount("/", route));
    for (path, visitor) in [("/crowdsec/health", "192.0.2.1"), ("/crowdsec/captcha", "198.51.100.1")] {
        client.head(path).visitor(visitor).dispatch();
    }
    assert_eq!(runs(&client), 0);
}

#[test]
fn a_form_that_names_another_method_is_refused_as_well() {
    let client = with_probes(app::app(with_decisions(&[("192.0.2.1", "ban")])));
    let request = client.post("/probe").header(ContentType::Form).body("_method=put&x=y").visitor("192.0.2.1");
    assert_eq!(request.dispatch().status(), Status::Forbidden);
    assert_eq!(runs(&client), 0);
}

#[test]
fn everybody_else_meets_the_application() {
    let client = with_probes(app::app(with_decisions(&[("192.0.2.1", "ban"), ("2001:db8::/64", "captcha")])));
    for visitor in ["192.0.2.2", "2001:db8:0:1::1", "::1", "127.0.0.1"] {
        assert_eq!(client.get("/probe").visitor(visitor).dispatch().status(), Status::Ok, "{visitor}");
        assert_eq!(client.get("/nowhere-at-all").visitor(visitor).dispatch().status(), Status::NotFound, "{visitor}");
    }
    assert_eq!(runs(&client), 4);
}

struct Forwarding;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Forwarding {
    type Error = ();

    async fn from_request(_: &'r Request<'_>) -> Outcome<Self, ()> {
        Outcome::Forward(Status::Unauthorized)
    }
}

#[post("/upload/<_>/to/<_number>")]
fn upload(_number: u32) -> &'static str {
    "taken"
}

#[put("/forwarding/<_..>")]
fn forwarding(_guard: Forwarding) {}

#[test]
fn an_upload_is_answered_as_it_would_be_without_us() {
    let client = client(app::app(with_decisions(&[])).mount("/under", routes![upload, forwarding]));
    let body = "x".repeat(10_000);
    let status = |method, path| client.req(method, path).body(&body).dispatch().status().code;
    for (method, path, expected) in [
        (Method::Post, "/under/upload/a/to/7", 200),
        (Method::Post, "/under//upload/a%20b/to/7/?x", 200),
        (Method::Post, "/under/upload/a/to/seven", 422),
        (Method::Post, "/under/upload/a/to/7/8", 404),
        (Method::Post, "/under/upload/a/to", 404),
        (Method::Put, "/under/upload/a/to/7", 404),
        (Method::Put, "/under/forwarding", 401),
        (Method::Put, "/under/forwarding/a/b", 401),
        (Method::Patch, "/under/nothing", 404),
    ] {
        assert_eq!(status(method, path), expected, "{method} {path}");
    }
}

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
        client.get("/probe").header(header("X-Forwarded-For", value)).visitor("10.0.0.1").dispatch().status()
    };
    assert_eq!(status("192.0.2.1"), Status::Forbidden);
    assert_eq!(status("203.0.113.9, 192.0.2.1"), Status::Forbidden);
    assert_eq!(status("192.0.2.1, 203.0.113.9"), Status::Ok);
    let guarded = client.get("/guarded").header(header("X-Forwarded-For", "::ffff:203.0.113.9")).visitor("10.0.0.1");
    assert_eq!(guarded.dispatch().into_string().unwrap(), "203.0.113.9");
}

/// Rocket drops a header that is not UTF-8, so that a visitor can make a proxy's word vanish that was added to theirs.
#[test]
fn whom_a_trusted_proxy_does_not_name_is_refused_whatever_other_headers_say() {
    let figment = with_decisions(&[("10.0.0.1", "allow")]).merge(("crowdsec.trusted_proxies", ["10.0.0.0/8"]));
    let client = with_probes(app::app(figment));
    let status = |peer: &str, headers: &[(&'static str, &'static str)]| {
        let request = client.get("/probe").visitor(peer);
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
    let client = with_probes(app::app(figment.merge(("crowdsec.excluded_paths", ["/probe", "/guarded"]))));
    let status = |path: &'static str| client.get(path).visitor("10.0.0.1").dispatch().status();
    assert_eq!(status("/crowdsec/health"), Status::Ok);
    assert_eq!(client.head("/crowdsec/health").visitor("10.0.0.1").dispatch().status(), Status::Ok);
    assert_eq!(status("/probe"), Status::Ok);
    for path in ["/", "/static/style.css", "/crowdsec/captcha", "/crowdsec/preview/ban", "/guarded", "/nowhere"] {
        assert_eq!(status(path), Status::Forbidden, "{path}");
    }
}

/// With the examples of the debug profile alone, it is the developer who comes from loopback.
#[test]
fn the_example_of_the_debug_profile_lets_the_developer_in() {
    let bare = rocket::figment::Figment::from(rocket::Config::debug_default()).merge(("log_level", "off"));
    let client = with_probes(app::app(bare));
    for peer in ["127.0.0.1", "::1"] {
        assert_eq!(client.get("/probe").visitor(peer).dispatch().status(), Status::Ok, "{peer}");
        let itself = client.get("/probe").visitor(peer).header(header("X-Forwarded-For", "127.0.0.1"));
        assert_eq!(itself.dispatch().status(), Status::Ok, "{peer}");
    }
}

#[test]
fn the_greatest_remediation_counts_and_the_operators_allow_outweighs_all() {
    let client = with_probes(app::app(with_decisions(&[
        ("192.0.2.0/24", "ban"),
        ("192.0.2.7", "captcha"),
        ("192.0.2.8", "allow"),
    ])));
    let captcha_url = |visitor| {
        let request = client.get("/probe").header(header("Accept", "application/json")).visitor(visitor);
        request.dispatch().into_string().unwrap().contains("captcha_url")
    };
    assert!(!captcha_url("192.0.2.7"), "a captcha on the address must not hide the ban around it");
    assert_eq!(client.get("/probe").visitor("192.0.2.8").dispatch().status(), Status::Ok);
}

#[test]
fn a_guard_refuses_where_the_fairing_was_told_to_spare() {
    let figment = with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.excluded_paths", ["/probe", "/guarded"]));
    let client = with_probes(app::app(figment));
    assert_eq!(client.get("/probe").visitor("192.0.2.1").dispatch().status(), Status::Ok);
    assert_eq!(runs(&client), 1);
    let refused = client.get("/guarded").visitor("192.0.2.1").dispatch();
    assert_eq!(refused.status(), Status::Forbidden);
    assert_eq!(refused.headers().get_one("Cache-Control"), Some("no-store"));
    assert!(refused.headers().get_one("Content-Security-Policy").is_some(), "it is the bouncer's page");
    assert!(refused.headers().get_one("X-Content-Type-Options").is_some(), "Shield's headers stay");
    assert_eq!(runs(&client), 1);
    assert_eq!(client.get("/guarded").visitor("192.0.2.2").dispatch().into_string().unwrap(), "192.0.2.2");
}

#[test]
fn a_path_is_excluded_by_whole_plain_segments_only() {
    let figment = with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.excluded_paths", ["/probe/health"]));
    let client = with_probes(app::app(figment));
    let status = |path: &'static str| client.get(path).visitor("192.0.2.1").dispatch().status();
    for path in ["/probe/health", "/probe/health/db", "/probe/health?x=/../.."] {
        assert_eq!(status(path), Status::Ok, "{path}");
    }
    for path in [
        "/probe",
        "/probe/healthz",
        "/probe/health/../admin",
        "//probe/health",
        "/probe/health/%2e%2e/admin",
        "/probe//health",
    ] {
        assert_eq!(status(path), Status::Forbidden, "{path}");
    }
}

#[test]
fn programs_are_told_in_json_and_learn_nothing_of_why() {
    let client = app_with(&[("192.0.2.1", "ban"), ("192.0.2.2", "captcha")]);
    let json = |visitor| {
        let response = client.get("/a?b=c").header(header("Accept", "application/json")).visitor(visitor).dispatch();
        assert_eq!(response.status(), Status::Forbidden);
        assert_eq!(response.content_type(), Some(ContentType::new("application", "problem+json")));
        assert!(response.headers().get_one("Vary").unwrap().contains("Accept"));
        assert_eq!(response.headers().get_one("Cache-Control"), Some("no-store"));
        response.into_json::<rocket::serde::json::Value>().unwrap()
    };
    let keys = |json: &rocket::serde::json::Value| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let ban = json("192.0.2.1");
    assert_eq!(keys(&ban), ["status", "title", "type"]);
    assert_eq!(ban["status"], 403);
    let captcha = json("192.0.2.2");
    assert_eq!(keys(&captcha), ["captcha_url", "status", "title", "type"]);
    assert_eq!(captcha["captcha_url"], "/crowdsec/captcha?return_to=%2Fa%3Fb%3Dc");
    let there = client.get("/crowdsec/captcha?return_to=%2Fa%3Fb%3Dc").visitor("192.0.2.2").dispatch();
    assert!(there.into_string().unwrap().contains("value=\"&#x2F;a?b=c\""));
}

#[test]
fn a_refusal_is_written_in_one_piece() {
    let tell = AdHoc::on_response("Tells how long a piece may be", |_, response| {
        Box::pin(async move {
            let longest = response.body().max_chunk_size();
            response.set_raw_header("Longest-Piece", longest.to_string());
        })
    });
    let client = client(app::app(with_decisions(&[("192.0.2.1", "ban"), ("192.0.2.2", "captcha")])).attach(tell));
    for visitor in ["192.0.2.1", "192.0.2.2"] {
        let response = client.get("/").visitor(visitor).dispatch();
        let longest: usize = response.headers().get_one("Longest-Piece").unwrap().parse().unwrap();
        let page = response.into_string().unwrap();
        assert_eq!(longest, page.len() + 1);
    }
}

#[test]
fn json_is_for_whom_it_ranks_above_html() {
    let client = app_with(&[("192.0.2.1", "ban")]);
    let is_json = |accept: Option<&'static str>, content_type: Option<ContentType>| {
        let mut request = client.post("/").visitor("192.0.2.1");
        if let Some(accept) = accept {
            request.add_header(header("Accept", accept));
        }
        if let Some(content_type) = content_type {
            request.add_header(content_type);
        }
        request.dispatch().content_type() == Some(ContentType::new("application", "problem+json"))
    };
    for accept in [
        "application/json",
        "application/json, text/plain, */*",
        "application/problem+json",
        "application/json, text/html;q=0.9",
        "application/json;q=0.5",
        "application/vnd.api+json",
    ] {
        assert!(is_json(Some(accept), None), "{accept}");
    }
    for accept in [
        "text/html",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/html, application/json;q=0.9",
        "text/html, application/json",
        "*/*",
        "text/plain",
        "application/json;q=0",
        "text/html;q=0.5, application/json;q=0.4",
    ] {
        assert!(!is_json(Some(accept), None), "{accept}");
    }
    assert!(is_json(None, Some(ContentType::JSON)));
    assert!(is_json(Some("*/*"), Some(ContentType::JSON)));
    assert!(!is_json(Some("text/html"), Some(ContentType::JSON)));
    assert!(!is_json(None, Some(ContentType::Form)));
    assert!(!is_json(None, None));
}

#[test]
fn a_refused_page_stands_alone_and_in_no_frame() {
    let client = app_with(&[("192.0.2.1", "ban"), ("192.0.2.2", "captcha")]);
    for visitor in ["192.0.2.1", "192.0.2.2"] {
        let response = client.get("/").visitor(visitor).dispatch();
        let policy = response.headers().get_one("Content-Security-Policy").unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'self'"), "{policy}");
        let page = response.into_string().unwrap();
        for asset in ["<link rel=\"stylesheet\"", "<img", "src=\"http", "@import", "url("] {
            assert!(!page.contains(asset), "{asset} in the page for {visitor}");
        }
    }
}

#[test]
fn a_slip_in_a_template_leaves_a_refusal_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir("templates").unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    std::fs::write(dir.path().join("ban.html.tera"), "{{ nothing_is_called_so }}").unwrap();
    let client = client(app::app(with_decisions(&[("192.0.2.1", "ban")]).merge(("template_dir", dir.path()))));
    let response = client.get("/").visitor("192.0.2.1").dispatch();
    assert_eq!(response.status(), Status::Forbidden);
    assert_eq!(response.headers().get_one("Cache-Control"), Some("no-store"));
    let preview = client.get("/crowdsec/preview/ban").dispatch().into_string().unwrap();
    assert!(preview.contains("`ban` cannot be rendered"), "whoever edits it is told: {preview}");
}

#[test]
fn a_fairing_that_asks_for_the_judgement_first_changes_no_refusal() {
    let early = AdHoc::on_request("asks who it is", |request, _| {
        Box::pin(async move {
            let _ = request.guard::<Cleared>().await;
        })
    });
    let bare = rocket::custom(with_decisions(&[("192.0.2.1", "ban")]));
    let app = bare.attach(early).attach(app::crowdsec::fairing()).attach(rocket_dyn_templates::Template::fairing());
    let client = with_probes(app);
    for path in ["/probe/x", "/nowhere", "/guarded"] {
        let refused = client.get(path).visitor("192.0.2.1").dispatch();
        let cached = refused.headers().get_one("Cache-Control");
        assert_eq!((refused.status(), cached), (Status::Forbidden, Some("no-store")), "{path}");
    }
    assert_eq!(runs(&client), 0);
    assert_eq!(client.get("/guarded").visitor("192.0.2.2").dispatch().status(), Status::Ok);
}

#[test]
fn a_nonce_is_for_one_answer_only() {
    let client = app_with(&[("192.0.2.1", "ban")]);
    let policy = || {
        let response = client.get("/").visitor("192.0.2.1").dispatch();
        response.headers().get_one("Content-Security-Policy").unwrap().to_owned()
    };
    assert_ne!(policy(), policy());
}

#[test]
fn the_health_probe_is_answered_to_everybody() {
    let client = app_with(&[("192.0.2.1", "ban")]);
    for visitor in ["192.0.2.1", "192.0.2.2"] {
        let response = client.get("/crowdsec/health").visitor(visitor).dispatch();
        assert_eq!(response.status(), Status::Ok);
        assert_eq!(response.into_string().unwrap(), r#"{"status":"ok"}"#);
    }
    assert_eq!(client.post("/crowdsec/health").visitor("192.0.2.1").dispatch().status(), Status::Forbidden);
    for path in ["//crowdsec/health", "/crowdsec/health/", "/crowdsec/health/x", "/crowdsec/%68ealth"] {
        assert_eq!(client.get(path).visitor("192.0.2.1").dispatch().status(), Status::Forbidden, "{path}");
    }
}

#[test]
fn pages_can_be_previewed_in_the_debug_profile_only() {
    let debug = client(app::app(with_decisions(&[])));
    let live = figment().select("production").merge(("crowdsec.api_key", "a-key-of-the-tests"));
    let live = client(app::app(live.merge(("crowdsec.api_url", "http://127.0.0.1:1"))));
    for page in ["ban", "captcha"] {
        let path = format!("/crowdsec/preview/{page}");
        assert_eq!(debug.get(&path).visitor("192.0.2.1").dispatch().status(), Status::Ok, "{path}");
        assert_eq!(live.get(&path).visitor("192.0.2.1").dispatch().status(), Status::NotFound, "{path}");
    }
}

#[test]
fn nobody_reaches_the_refusals_own_route() {
    let client = app_with(&[]);
    assert_eq!(client.get("/crowdsec/refused").visitor("192.0.2.1").dispatch().status(), Status::NotFound);
}

#[test]
fn rockets_own_way_to_an_address_is_off_even_without_a_rocket_toml() {
    // What `figment()` lays beneath Rocket.toml and the environment.
    let beneath = app::crowdsec::defaults();
    assert!(rocket::Config::from(beneath).ip_header.is_none());
}
