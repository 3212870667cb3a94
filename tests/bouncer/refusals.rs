//! Who is refused, whatever they ask for and however, and who is not?

use std::sync::atomic::{AtomicUsize, Ordering};

use app::crowdsec::Cleared;
use rocket::fairing::AdHoc;
use rocket::http::{ContentType, Method, Status};
use rocket::local::blocking::Client;
use rocket::request::{FromRequest, Outcome};
use rocket::{Build, Request, Rocket, State, get, head, post, put, routes};

use crate::common::{Visitor, assert_served, client, header, with_decisions};

struct Runs(AtomicUsize);

#[get("/tests/probe/<_..>")]
fn probe(runs: &State<Runs>) -> &'static str {
    runs.0.fetch_add(1, Ordering::SeqCst);
    "the handler ran"
}

#[post("/tests/probe", data = "<_body>")]
fn probe_post(runs: &State<Runs>, _body: String) -> &'static str {
    runs.0.fetch_add(1, Ordering::SeqCst);
    "the handler ran"
}

#[get("/tests/guarded")]
fn guarded(visitor: Cleared, runs: &State<Runs>) -> String {
    runs.0.fetch_add(1, Ordering::SeqCst);
    visitor.address.to_string()
}

pub fn with_probes(app: Rocket<Build>) -> Client {
    client(app.manage(Runs(AtomicUsize::new(0))).mount("/", routes![probe, probe_post, guarded]))
}

pub fn runs(client: &Client) -> usize {
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
        for path in [
            "/",
            "/tests/probe",
            "/tests/guarded",
            "/nowhere",
            "/static/style.css",
            "/crowdsec/captcha",
            "/crowdsec/refused",
        ] {
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
            let response = client.req(method, "/tests/probe").visitor("192.0.2.1").dispatch();
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
    let request = client.post("/tests/probe").header(ContentType::Form).body("_method=put&x=y").visitor("192.0.2.1");
    assert_eq!(request.dispatch().status(), Status::Forbidden);
    assert_eq!(runs(&client), 0);
}

#[test]
fn everybody_else_meets_the_application() {
    let client = with_probes(app::app(with_decisions(&[("192.0.2.1", "ban"), ("2001:db8::/64", "captcha")])));
    for visitor in ["192.0.2.2", "2001:db8:0:1::1", "::1", "127.0.0.1"] {
        assert_eq!(client.get("/tests/probe").visitor(visitor).dispatch().status(), Status::Ok, "{visitor}");
        assert_served(client.get("/nowhere-at-all").visitor(visitor).dispatch());
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
    let client = client(app::protected(with_decisions(&[])).mount("/under", routes![upload, forwarding]));
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
fn the_greatest_remediation_counts_and_the_operators_allow_outweighs_all() {
    let client = with_probes(app::app(with_decisions(&[
        ("192.0.2.0/24", "ban"),
        ("192.0.2.7", "captcha"),
        ("192.0.2.8", "allow"),
    ])));
    let captcha_url = |visitor| {
        let request = client.get("/tests/probe").header(header("Accept", "application/json")).visitor(visitor);
        request.dispatch().into_string().unwrap().contains("captcha_url")
    };
    assert!(!captcha_url("192.0.2.7"), "a captcha on the address must not hide the ban around it");
    assert_eq!(client.get("/tests/probe").visitor("192.0.2.8").dispatch().status(), Status::Ok);
}

#[test]
fn a_guard_refuses_where_the_fairing_was_told_to_spare() {
    let figment =
        with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.excluded_paths", ["/tests/probe", "/tests/guarded"]));
    let client = with_probes(app::app(figment));
    assert_eq!(client.get("/tests/probe").visitor("192.0.2.1").dispatch().status(), Status::Ok);
    assert_eq!(runs(&client), 1);
    let refused = client.get("/tests/guarded").visitor("192.0.2.1").dispatch();
    assert_eq!(refused.status(), Status::Forbidden);
    assert_eq!(refused.headers().get_one("Cache-Control"), Some("no-store"));
    assert!(refused.headers().get_one("Content-Security-Policy").is_some(), "it is the bouncer's page");
    assert!(refused.headers().get_one("X-Content-Type-Options").is_some(), "Shield's headers stay");
    assert_eq!(runs(&client), 1);
    assert_eq!(client.get("/tests/guarded").visitor("192.0.2.2").dispatch().into_string().unwrap(), "192.0.2.2");
}

#[test]
fn a_path_is_excluded_by_whole_plain_segments_only() {
    let figment = with_decisions(&[("192.0.2.1", "ban")]).merge(("crowdsec.excluded_paths", ["/tests/probe/health"]));
    let client = with_probes(app::app(figment));
    let status = |path: &'static str| client.get(path).visitor("192.0.2.1").dispatch().status();
    for path in ["/tests/probe/health", "/tests/probe/health/db", "/tests/probe/health?x=/../.."] {
        assert_eq!(status(path), Status::Ok, "{path}");
    }
    for path in [
        "/tests/probe",
        "/tests/probe/healthz",
        "/tests/probe/health/../admin",
        "//tests/probe/health",
        "/tests/probe/health/%2e%2e/admin",
        "/tests/probe//health",
    ] {
        assert_eq!(status(path), Status::Forbidden, "{path}");
    }
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
    for path in ["/tests/probe/x", "/nowhere", "/tests/guarded"] {
        let refused = client.get(path).visitor("192.0.2.1").dispatch();
        let cached = refused.headers().get_one("Cache-Control");
        assert_eq!((refused.status(), cached), (Status::Forbidden, Some("no-store")), "{path}");
    }
    assert_eq!(runs(&client), 0);
    assert_eq!(client.get("/tests/guarded").visitor("192.0.2.2").dispatch().status(), Status::Ok);
}

#[test]
fn a_fairing_that_sends_elsewhere_what_bears_no_token_leads_no_refused_visitor_to_a_handler() {
    let asks = AdHoc::on_request("asks for a token", |request, _| {
        Box::pin(async move {
            if !matches!(request.method(), Method::Get | Method::Head | Method::Options) {
                request.set_uri(rocket::http::uri::Origin::parse("/tests/probe/no-token").expect("a path"));
                request.set_method(Method::Get);
            }
        })
    });
    let client = with_probes(app::app(with_decisions(&[("192.0.2.1", "ban")])).attach(asks));
    for method in METHODS {
        let refused = client.req(method, "/tests/probe/x").visitor("192.0.2.1").dispatch();
        assert_eq!(refused.status(), Status::Forbidden, "{method}");
    }
    assert_eq!(runs(&client), 0);
    client.post("/tests/probe/x").visitor("192.0.2.2").dispatch();
    assert_eq!(runs(&client), 1, "the fairing does what it is there for");
}

/// The fairing is attached after the bouncer, as the documents say. It puts a prefix before each path, as for a language, and
/// takes the method that a header names.
#[test]
fn a_fairing_that_changes_address_or_method_leads_no_refused_visitor_to_a_handler() {
    let rewrites = AdHoc::on_request("changes every request", |request, _| {
        Box::pin(async move {
            let path = format!("/tests/probe{}", request.uri().path());
            request.set_uri(rocket::http::uri::Origin::parse_owned(path).expect("a path"));
            if let Some(method) = request.headers().get_one("X-HTTP-Method-Override") {
                request.set_method(method.parse().expect("a method"));
            }
        })
    });
    let client = with_probes(
        app::app(with_decisions(&[("192.0.2.1", "ban"), ("192.0.2.2", "captcha")]))
            .attach(rewrites)
            .mount("/", routes![put_probe]),
    );
    for (method, meant) in METHODS.into_iter().zip(METHODS.iter().cycle().skip(1)) {
        for visitor in ["192.0.2.1", "192.0.2.2"] {
            let request = client.req(method, "/x").visitor(visitor).body("a body");
            let refused = request.header(header("X-HTTP-Method-Override", meant.as_str())).dispatch();
            assert_eq!(refused.status(), Status::Forbidden, "{method} {meant} {visitor}");
            assert!(refused.headers().contains("Crowdsec-Remediation"), "{method} {meant} {visitor}");
            assert!(refused.into_string().is_some_and(|page| page.contains("</html>")), "{method} {meant} {visitor}");
        }
    }
    assert_eq!(runs(&client), 0);
    client.post("/x").visitor("192.0.2.3").header(header("X-HTTP-Method-Override", "PUT")).dispatch();
    assert_eq!(runs(&client), 1, "the fairing does what it is there for");
}

#[put("/tests/probe/x")]
fn put_probe(runs: &State<Runs>) {
    runs.0.fetch_add(1, Ordering::SeqCst);
}
