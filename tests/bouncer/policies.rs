//! Does each guard prove what it says, and do those whom it refuses get the bouncer's page, whatever stands beside it?

use app::crowdsec::{Cleared, Human, NoDecision, Report, Visitor as Seen};
use rocket::figment::Figment;
use rocket::http::{Accept, Status};
use rocket::local::blocking::{Client, LocalResponse};
use rocket::request::{FromRequest, Outcome};
use rocket::serde::json::{Json, Value};
use rocket::{Request, catch, catchers, get, post, routes};
use std::time::Duration;

use crate::common::Refusal::{Ban, Captcha, Throttle};
use crate::common::{Visitor, app_with, assert_refused, assert_served, client, header, skip};
use crate::common::{on_connections, solve_captcha, with_decisions, without_captcha};

const BANNED: &str = "192.0.2.1";
const DOUBTED: &str = "192.0.2.2";
const NOTED: &str = "192.0.2.3";
const CLEAN: &str = "198.51.100.1";
const DECISIONS: &[(&str, &str)] = &[(BANNED, "ban"), (DOUBTED, "captcha"), (NOTED, "pass")];

#[get("/policies/who")]
fn who(visitor: Seen) -> Json<Seen> {
    Json(visitor)
}

#[get("/policies/report")]
fn report(report: Report) -> Json<Report> {
    Json(report)
}

#[get("/policies/cleared")]
fn cleared(visitor: Cleared) -> String {
    visitor.address.to_string()
}

#[get("/policies/checkout")]
fn checkout(visitor: NoDecision) -> String {
    visitor.address.to_string()
}

#[get("/policies/sign-up?<_x>")]
fn sign_up(visitor: Human, _x: Option<&str>) -> String {
    visitor.address.to_string()
}

#[post("/policies/sign-up")]
fn send_sign_up(_visitor: Human) {}

#[get("/policies/fresh")]
fn fresh(_visitor: Human<10>) {}

#[get("/policies/option")]
fn option(visitor: Option<NoDecision>) -> (Status, &'static str) {
    if visitor.is_some() { (Status::Ok, "offer") } else { (Status::Conflict, "no offer") }
}

#[get("/policies/result")]
fn result(visitor: Result<NoDecision, ()>) -> &'static str {
    if visitor.is_ok() { "offer" } else { "no offer" }
}

#[get("/policies/option-403")]
fn option_403(visitor: Option<NoDecision>) -> (Status, &'static str) {
    if visitor.is_some() { (Status::Ok, "offer") } else { (Status::Forbidden, "the handler's own") }
}

#[get("/policies/both")]
fn both(_first: Human, _second: NoDecision) {}

#[get("/policies/both-the-other-way")]
fn both_the_other_way(_first: NoDecision, _second: Human) {}

/// A guard of the application's that hands a request on to the next route.
struct Forwards;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Forwards {
    type Error = ();

    async fn from_request(_: &'r Request<'_>) -> Outcome<Self, ()> {
        Outcome::Forward(Status::NotFound)
    }
}

#[get("/policies/forward-first", rank = 1)]
fn forward_first(_first: Forwards, _second: NoDecision) {}

#[get("/policies/forward-first", rank = 2)]
fn forward_first_next() -> &'static str {
    "the next route"
}

#[get("/policies/forward-second", rank = 1)]
fn forward_second(_first: NoDecision, _second: Forwards) {}

#[get("/policies/forward-second", rank = 2)]
fn forward_second_next() -> &'static str {
    "the next route"
}

#[catch(403)]
fn forbidden() -> &'static str {
    "the application's own catcher"
}

fn shop(figment: Figment) -> Client {
    let routes = routes![
        who,
        report,
        cleared,
        checkout,
        sign_up,
        send_sign_up,
        fresh,
        option,
        result,
        option_403,
        both,
        both_the_other_way,
        forward_first,
        forward_first_next,
        forward_second,
        forward_second_next
    ];
    client(app::protected(figment).mount("/", routes).register("/", catchers![forbidden]))
}

fn get<'c>(client: &'c Client, path: &'static str, visitor: &str) -> LocalResponse<'c> {
    client.get(path).visitor(visitor).dispatch()
}

fn seen(client: &Client, visitor: &str) -> Value {
    get(client, "/policies/who", visitor).into_json().expect("what stands against them")
}

#[test]
fn a_handler_sees_everything_that_stands_against_the_visitor_and_nothing_of_a_clean_one() {
    let decisions = [("192.0.2.3", "pass"), ("192.0.2.0/24", "throttle"), ("192.0.2.0/25", "captcha")];
    let client = shop(with_decisions(&decisions).merge(("crowdsec.enforce", false)));
    let noted = seen(&client, NOTED);
    let types: Vec<_> = noted["decisions"].as_array().unwrap().iter().map(|decision| &decision["type"]).collect();
    assert_eq!(types, ["captcha", "throttle", "pass"], "the greatest comes first");
    let first = &noted["decisions"][0];
    assert_eq!(
        (&first["value"], &first["origin"], &first["scope"]),
        (&"192.0.2.0/25".into(), &"config".into(), &"own".into())
    );
    assert_eq!((&noted["address"], &noted["trial"]), (&NOTED.into(), &"captcha".into()));
    assert_eq!((&noted["remediation"], &noted["solved"]), (&Value::Null, &false.into()));
    let clean = seen(&client, CLEAN);
    assert_eq!(clean["decisions"], Value::Array(Vec::new()));
    assert_eq!((&clean["remediation"], &clean["trial"]), (&Value::Null, &Value::Null));
}

#[test]
fn a_handler_sees_whether_the_captcha_is_solved() {
    let client = shop(with_decisions(DECISIONS));
    let pass = solve_captcha(&client, DOUBTED);
    let seen = client.get("/policies/who").visitor(DOUBTED).cookie(pass).dispatch().into_json::<Value>().unwrap();
    assert_eq!((&seen["solved"], &seen["decisions"][0]["type"]), (&true.into(), &"captcha".into()));
}

#[test]
fn a_report_says_nothing_of_the_visitor_and_of_crowdsec_outside_the_debug_profile() {
    let lapi = [("crowdsec.api_key", "a-key-of-the-tests"), ("crowdsec.api_url", "http://127.0.0.1:9/")];
    let lapi = lapi.into_iter().fold(with_decisions(DECISIONS), |figment, setting| figment.merge(setting));
    let told = |figment| get(&shop(figment), "/policies/report", NOTED).into_json::<Value>().unwrap();
    let debug = told(lapi.clone());
    assert_eq!((&debug["debug"], &debug["me"]["decisions"][0]["type"]), (&true.into(), &"pass".into()));
    assert_eq!(debug["crowdsec"]["api_url"], "http://127.0.0.1:9/");
    let release = told(lapi.select("release"));
    assert!(release["debug"] == false && release["me"].is_null() && release["crowdsec"].is_null(), "{release}");
}

#[test]
fn no_decision_at_all_may_stand_against_who_comes_to_the_checkout() {
    let client = shop(with_decisions(DECISIONS));
    assert_eq!(get(&client, "/policies/checkout", CLEAN).into_string().as_deref(), Some(CLEAN));
    assert_refused(get(&client, "/policies/checkout", BANNED), Ban);
    assert_refused(get(&client, "/policies/checkout", NOTED), Ban);
    assert_served(get(&client, "/policies/cleared", NOTED));
    let pass = solve_captcha(&client, DOUBTED);
    assert_served(client.get("/policies/cleared").visitor(DOUBTED).cookie(pass.clone()).dispatch());
    assert_refused(client.get("/policies/checkout").visitor(DOUBTED).cookie(pass).dispatch(), Ban);
}

#[test]
fn an_allow_of_the_operators_own_opens_the_checkout_too() {
    let client = shop(with_decisions(&[("192.0.2.0/24", "ban"), (BANNED, "allow")]));
    assert_served(get(&client, "/policies/checkout", BANNED));
    assert_refused(get(&client, "/policies/checkout", DOUBTED), Ban);
}

#[test]
fn who_is_to_prove_to_be_human_meets_the_captcha_whoever_they_are_and_comes_back() {
    let client = shop(with_decisions(DECISIONS));
    for visitor in [CLEAN, NOTED] {
        let page = get(&client, "/policies/sign-up?_x=1", visitor);
        assert_eq!(page.status(), Status::Forbidden);
        let page = page.into_string().unwrap();
        assert!(page.contains("name=\"return_to\" value=\"&#x2F;policies&#x2F;sign-up?_x=1\""), "{page}");
        let pass = solve_captcha(&client, visitor);
        assert_served(client.get("/policies/sign-up").visitor(visitor).cookie(pass).dispatch());
    }
    assert_refused(get(&client, "/policies/sign-up", BANNED), Ban);
    let client = shop(with_decisions(DECISIONS));
    let form =
        client.post("/policies/sign-up").visitor(CLEAN).header(header("Referer", "http://localhost/policies/sign-up"));
    let page = form.header(header("Host", "localhost")).dispatch();
    assert_refused(page, Captcha);
    let json =
        client.get("/policies/sign-up").visitor(CLEAN).header(Accept::JSON).dispatch().into_json::<Value>().unwrap();
    assert_eq!(json["captcha_url"], "/crowdsec/captcha?return_to=%2Fpolicies%2Fsign-up&anew=1");
    assert_refused(get(&client, "/crowdsec/captcha?return_to=%2Fpolicies%2Fsign-up&anew=1", CLEAN), Captcha);
}

#[test]
fn a_captcha_that_was_solved_too_long_ago_has_to_be_solved_again() {
    let client = shop(with_decisions(&[]));
    let pass = solve_captcha(&client, CLEAN);
    let at = |path: &'static str, pass: &rocket::http::Cookie<'static>| {
        client.get(path).visitor(CLEAN).cookie(pass.clone()).dispatch()
    };
    assert_served(at("/policies/fresh", &pass));
    skip(&client, Duration::from_secs(61));
    assert_refused(at("/crowdsec/captcha?anew=1", &pass), Captcha);
    skip(&client, Duration::from_secs(11 * 60));
    assert_served(at("/policies/sign-up", &pass));
    assert_refused(at("/policies/fresh", &pass), Captcha);
    // A new answer counts, although the old pass still holds for other routes.
    assert_refused(at("/crowdsec/captcha?anew=1", &pass), Captcha);
    let newer = solve_captcha(&client, CLEAN);
    assert_served(at("/policies/fresh", &newer));
    assert_eq!(at("/crowdsec/captcha?anew=1", &newer).status(), Status::SeeOther, "who has just solved it is led on");
    skip(&client, Duration::from_secs(61 * 60));
    assert_refused(at("/policies/sign-up", &newer), Captcha);
}

#[test]
fn a_pass_of_one_visitor_lets_no_other_one_in() {
    let client = shop(with_decisions(&[]));
    let pass = solve_captcha(&client, CLEAN);
    assert_refused(client.get("/policies/sign-up").visitor("198.51.100.2").cookie(pass).dispatch(), Captcha);
}

/// The rows of the table in docs/guards.md.
#[test]
fn guards_compose_with_option_result_ranks_forwards_and_catchers() {
    let client = shop(with_decisions(DECISIONS));
    let words = |path, visitor| get(&client, path, visitor).into_string().unwrap_or_default();
    assert_eq!(
        (words("/policies/option", CLEAN).as_str(), words("/policies/option", NOTED).as_str()),
        ("offer", "no offer")
    );
    assert_eq!(get(&client, "/policies/option", NOTED).status(), Status::Conflict);
    assert_eq!(
        (words("/policies/result", CLEAN).as_str(), words("/policies/result", NOTED).as_str()),
        ("offer", "no offer")
    );
    // Rocket asks from left to right.
    assert_refused(get(&client, "/policies/both", NOTED), Captcha);
    assert_refused(get(&client, "/policies/both-the-other-way", NOTED), Ban);
    assert_eq!(words("/policies/forward-first", NOTED), "the next route");
    assert_eq!(words("/policies/forward-second", CLEAN), "the next route");
    assert_refused(get(&client, "/policies/forward-second", NOTED), Ban);
    assert_refused(get(&client, "/policies/option-403", NOTED), Ban);
    assert!(!words("/policies/checkout", NOTED).contains("the application's own catcher"));
}

#[test]
fn a_guard_refuses_on_an_excluded_path() {
    let figment = with_decisions(&[(BANNED, "ban"), (DOUBTED, "captcha"), (NOTED, "throttle")]);
    let figment = figment
        .merge(("crowdsec.excluded_paths", ["/policies/cleared", "/policies/sign-up", "/policies/who"]))
        .merge(("crowdsec.throttle", "1/1m"));
    let client = shop(figment);
    assert_eq!(seen(&client, BANNED)["remediation"], "ban");
    assert_refused(get(&client, "/policies/cleared", BANNED), Ban);
    assert_refused(get(&client, "/policies/cleared", DOUBTED), Captcha);
    assert_refused(get(&client, "/policies/sign-up", BANNED), Ban);
    assert_served(get(&client, "/policies/cleared", NOTED));
    assert_refused(get(&client, "/policies/cleared", NOTED), Throttle);
}

#[test]
fn with_enforcement_by_guards_the_fairing_refuses_nobody() {
    let client = shop(with_decisions(DECISIONS).merge(("crowdsec.enforce_by", "guards")));
    for visitor in [BANNED, DOUBTED, CLEAN] {
        assert_served(get(&client, "/", visitor));
        assert_served(get(&client, "/policies/who", visitor));
    }
    assert_eq!(seen(&client, BANNED)["remediation"], "ban");
    assert_refused(get(&client, "/policies/cleared", BANNED), Ban);
    assert_refused(get(&client, "/policies/cleared", DOUBTED), Captcha);
    let pass = solve_captcha(&client, DOUBTED);
    assert_served(client.get("/policies/cleared").visitor(DOUBTED).cookie(pass).dispatch());
}

/// Whether a guard of a route has stopped the launch.
fn is_aborted(launch: Result<Client, rocket::Error>) -> bool {
    launch.is_err_and(|error| matches!(error.kind(), rocket::error::ErrorKind::SentinelAborts(_)))
}

#[test]
fn with_enforcement_by_guards_no_catcher_of_ours_refuses_either() {
    let figment = with_decisions(&[("127.0.0.1", "ban")]).merge(("crowdsec.enforce_by", "guards"));
    let answers = on_connections(app::app(figment), &["PROPFIND / HTTP/1.0\r\n\r\n".into()]);
    assert!(answers[0].starts_with("HTTP/1.0 400 "), "{answers:?}");
}

#[test]
fn with_enforcement_by_guards_no_banned_visitor_uses_up_a_captcha() {
    let client = shop(with_decisions(DECISIONS).merge(("crowdsec.enforce_by", "guards")));
    assert_refused(get(&client, "/crowdsec/captcha", BANNED), Ban);
    assert_refused(get(&client, "/crowdsec/captcha", DOUBTED), Captcha);
}

#[test]
fn whom_a_proxy_does_not_name_no_guard_takes_for_a_clean_visitor() {
    let figment = with_decisions(&[]).merge(("crowdsec.trusted_proxies", ["10.0.0.1"]));
    let client = shop(
        figment.merge(("crowdsec.excluded_paths", ["/policies/checkout", "/policies/sign-up", "/policies/cleared"])),
    );
    for path in ["/policies/checkout", "/policies/sign-up", "/policies/cleared"] {
        assert_refused(get(&client, path, "10.0.0.1"), Ban);
    }
}

#[test]
fn on_a_trial_no_decision_closes_the_checkout() {
    let client = shop(with_decisions(DECISIONS).merge(("crowdsec.enforce", false)));
    for visitor in [BANNED, DOUBTED, NOTED] {
        assert_served(get(&client, "/policies/checkout", visitor));
    }
    assert_refused(get(&client, "/policies/sign-up", CLEAN), Captcha);
    let client = shop(with_decisions(DECISIONS).merge(("crowdsec.enforce", ["captcha"])));
    assert_served(get(&client, "/policies/checkout", BANNED));
    assert_refused(get(&client, "/policies/checkout", NOTED), Ban);
}

/// A guard of the application's that asks for another guard, which the launch cannot see.
struct Asks;

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Asks {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        request.guard::<Human>().await.map(|_| Self)
    }
}

#[get("/policies/asks")]
fn asks(_asks: Asks) {}

#[test]
fn human_without_a_captcha_to_solve_leads_nobody_in_circles() {
    let client = client(app::protected(without_captcha()).mount("/", routes![asks]));
    let response = get(&client, "/policies/asks", CLEAN);
    assert_eq!(
        (response.status(), response.headers().get_one("Crowdsec-Remediation")),
        (Status::InternalServerError, None)
    );
}

#[test]
fn human_without_a_captcha_to_solve_stops_the_launch() {
    let app = |figment| app::app(figment).mount("/", routes![sign_up]);
    assert!(Client::untracked(app(with_decisions(&[]))).is_ok());
    assert!(is_aborted(Client::untracked(app(without_captcha()))));
}

#[test]
fn no_guard_launches_without_the_fairing() {
    for routes in [routes![who], routes![cleared], routes![checkout], routes![sign_up]] {
        let figment = Figment::from(rocket::Config::debug_default()).merge(("log_level", "off"));
        assert!(is_aborted(Client::untracked(rocket::custom(figment).mount("/", routes))));
    }
}

#[test]
fn the_pages_of_the_example_are_served_to_who_is_let_in() {
    let app = app_with(&[(BANNED, "ban")]);
    assert_served(get(&app, "/members", CLEAN));
    assert_refused(get(&app, "/members", BANNED), Ban);
}

#[test]
fn before_lapis_first_answer_nobody_is_asked_for_a_captcha_or_has_no_decision() {
    let closed = with_decisions(&[(DOUBTED, "captcha")])
        .merge(("crowdsec.api_key", "of-the-tests"))
        .merge(("crowdsec.api_url", "http://127.0.0.1:9/"))
        .merge(("crowdsec.on_startup_failure", "closed"))
        .merge(("crowdsec.startup_timeout", 1))
        .merge(("crowdsec.excluded_paths", ["/policies/checkout"]));
    let client = shop(closed);
    assert_eq!(get(&client, "/nowhere", DOUBTED).status(), Status::ServiceUnavailable);
    assert_eq!(get(&client, "/policies/checkout", CLEAN).status(), Status::ServiceUnavailable);
}

#[test]
fn of_a_request_without_a_name_nobody_says_where_it_comes_from() {
    let figment = with_decisions(&[])
        .merge(("crowdsec.trusted_proxies", ["10.0.0.1"]))
        .merge(("crowdsec.as_header", "CF-ASN"))
        .merge(("crowdsec.country_header", "CF-IPCountry"))
        .merge(("crowdsec.excluded_paths", ["/policies/who"]));
    let client = shop(figment);
    let request = client.get("/policies/who").visitor("10.0.0.1").header(header("CF-ASN", "64500"));
    let seen: Value = request.header(header("CF-IPCountry", "FR")).dispatch().into_json().expect("a visitor");
    assert_eq!((&seen["remediation"], &seen["asn"], &seen["country"]), (&"hidden".into(), &Value::Null, &Value::Null));
}
