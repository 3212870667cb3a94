//! What does a visitor meet after each of AppSec's answers?

use std::str::Utf8Error;

use app::crowdsec::{Cleared, Human, Inspected, NoDecision};
use rocket::Request;
use rocket::figment::util::map;
use rocket::http::{ContentType, Method, Status};
use rocket::local::blocking::LocalRequest;
use rocket::request::{FromRequest, Outcome};
use rocket::{get, options, post as posts, routes};

use super::application::{VISITOR, app_of, padded, post, status, with_appsec, with_captcha};
use crate::common::appsec::{ATTACK, GUIDES_PATH, Says, Stub};
use crate::common::{Visitor, challenge_on, client, copied_templates, header, send_answer, solve};

#[test]
fn an_answer_counts_by_its_word_whatever_its_status_and_an_unreadable_block_is_a_ban() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    let answer = |code: u16, body: &str| {
        stub.always(code, body);
        let response = client.get("/page").visitor(VISITOR).dispatch();
        (response.status().code, response.headers().get_one("Crowdsec-Remediation").map(str::to_owned))
    };
    let ban = |status| (status, Some("ban".to_owned()));
    for code in [200, 403, 418, 299, 500] {
        assert_eq!(answer(code, r#"{"action":"allow","http_status":200}"#), (200, None), "{code}");
    }
    for code in [403, 200, 451, 500] {
        assert_eq!(answer(code, r#"{"action":"ban","http_status":403}"#), ban(403), "{code}");
        assert_eq!(answer(code, r#"{"action":"ban","http_status":451}"#), ban(451), "{code}");
        assert_eq!(answer(code, r#"{"action":"ban"}"#), ban(403), "{code}");
        assert_eq!(answer(code, r#"{"action":"never-heard-of","http_status":403}"#), ban(403), "{code}");
        assert_eq!(answer(code, r#"{"action":"captcha","http_status":403}"#), ban(403), "no provider, {code}");
    }
    for body in ["", "{", "<html>", r#"{"http_status":403}"#, r#"{"action":""}"#, r#"{"action":null}"#, "[]"] {
        assert_eq!(answer(403, body), ban(403), "{body}");
    }
    // No refusal has such a status.
    assert_eq!(answer(403, r#"{"action":"ban","http_status":200}"#), ban(403));
    assert_eq!(answer(403, r#"{"action":"ban","http_status":99999}"#), ban(403));
    for half in [Says::Half(403), Says::HalfAndHang(403)] {
        stub.says(half.clone());
        assert_eq!(status(&client, "/page"), 403, "{half:?}: the block is known already");
    }
}

/// The operator may have set this status for what AppSec blocks. Without a word it means a key that AppSec does not know.
#[test]
fn a_block_with_the_status_of_a_refused_key_does_not_keep_the_next_question_back() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    for _ in 0..2 {
        stub.always(401, r#"{"action":"ban","http_status":403}"#);
        assert_eq!(status(&client, "/page"), 403);
    }
    assert_eq!(stub.take().len(), 2);
}

#[test]
fn words_of_the_operators_become_what_remediations_says() {
    let stub = Stub::new();
    let words = [("slow", "throttle"), ("look", "pass"), ("appsec/ban", "captcha"), ("ask", "captcha")];
    let figment = with_captcha(&stub).merge(("crowdsec.throttle", "2/1h"));
    let figment = figment.merge(("crowdsec.remediations", std::collections::BTreeMap::from(words)));
    let client = client(app_of(figment));
    assert_eq!(status(&client, "/word/look"), 200);
    let slow: Vec<u16> = (0..3).map(|_| status(&client, "/word/slow")).collect();
    assert_eq!(slow, [200, 200, 429]);
    for path in ["/word/ask", "/word/ban", "/word/captcha"] {
        let response = client.get(path).visitor(VISITOR).dispatch();
        assert_eq!(response.headers().get_one("Crowdsec-Remediation"), Some("captcha"), "{path}");
    }
    assert_eq!(status(&client, "/word/odd"), 403);
}

/// A decision says `throttle`, and so does AppSec, twice about a request with a long body. Where the fairing spares the path,
/// only AppSec enforces it.
#[test]
fn a_request_counts_once_for_throttle_however_often_it_is_judged() {
    let stub = Stub::new();
    let own = map!["value" => "192.0.2.8", "type" => "throttle"];
    let figment = with_appsec(&stub).merge(("crowdsec.throttle", "3/1h")).merge(("crowdsec.decisions", [own]));
    let figment = figment.merge(("crowdsec.remediations", map!["slow" => "throttle"]));
    stub.always(403, r#"{"action":"slow","http_status":403}"#);
    for excluded in [&[][..], &["/text"]] {
        let client = client(app_of(figment.clone().merge(("crowdsec.excluded_paths", excluded))));
        for visitor in ["192.0.2.8", "192.0.2.9"] {
            let long = || client.post("/text").visitor(visitor).header(ContentType::Text).body("x".repeat(2000));
            let met: Vec<u16> = (0..5).map(|_| long().dispatch().status().code).collect();
            assert_eq!(met, [200, 200, 200, 429, 429], "{visitor} {excluded:?}");
        }
    }
}

/// A browser sends no cookie with a preflight, so a solved captcha could not count.
#[test]
fn a_preflight_goes_through_to_the_application_where_appsec_or_its_outage_asks_for_a_captcha() {
    #[options("/page")]
    fn preflight(_cleared: Cleared) {}
    let stub = Stub::new();
    let figment = with_captcha(&stub).merge(("crowdsec.appsec.failure_action", "captcha"));
    let client = client(app_of(figment).mount("/", routes![preflight]));
    let options = |headers: &[(&'static str, &'static str)]| {
        let request = client.options("/page").visitor(VISITOR);
        headers
            .iter()
            .fold(request, |request, &(name, value)| request.header(header(name, value)))
            .dispatch()
            .status()
            .code
    };
    let preflight = [("Origin", "https://other.example"), ("Access-Control-Request-Method", "GET")];
    for says in
        [Says::Always(403, r#"{"action":"captcha","http_status":403}"#.into()), Says::Always(500, String::new())]
    {
        stub.says(says.clone());
        let met = (status(&client, "/page"), options(&preflight[..1]), options(&preflight));
        assert_eq!(met, (403, 403, 200), "{says:?}");
    }
    stub.always(403, r#"{"action":"ban","http_status":403}"#);
    assert_eq!(options(&preflight), 403);
}

#[test]
fn an_allow_of_the_operators_stands_above_appsec_and_its_outage() {
    let stub = Stub::new();
    let own = map!["value" => "192.0.2.8", "type" => "allow"];
    let figment = with_appsec(&stub).merge(("crowdsec.decisions", [own]));
    let client = client(app_of(figment.merge(("crowdsec.appsec.failure_action", "ban"))));
    for says in [Says::Rules, Says::Close, Says::Always(403, r#"{"action":"ban","http_status":403}"#.into())] {
        stub.says(says.clone());
        let met = |visitor: &str, request: LocalRequest<'_>| request.visitor(visitor).dispatch().status().code;
        let attack = || client.get("/page?ATTACK");
        let long = || client.post("/text").header(ContentType::Text).body("ATTACK".repeat(400));
        for (visitor, status) in [("192.0.2.8", 200), ("192.0.2.9", 403)] {
            stub.take();
            assert_eq!((met(visitor, attack()), met(visitor, long())), (status, status), "{visitor} {says:?}");
            assert_eq!(stub.take().is_empty(), status == 200, "{visitor} {says:?}: whom it is asked about");
        }
    }
}

#[test]
fn a_captcha_of_appsecs_is_solved_like_any_other_and_its_answer_is_not_judged() {
    let stub = Stub::new();
    let client = client(app_of(with_captcha(&stub)));
    let page = client.get("/word/captcha").visitor(VISITOR).dispatch();
    assert_eq!(page.status(), Status::Forbidden);
    let answer = solve(challenge_on(page));
    stub.take();
    // AppSec would ask for a captcha here too.
    stub.always(403, r#"{"action":"captcha","http_status":403}"#);
    let solved = send_answer(&client, VISITOR, &answer, "/word/captcha");
    assert_eq!(solved.status(), Status::SeeOther);
    drop(solved);
    assert_eq!(stub.take().len(), 0, "the answer to a captcha is not judged");
    assert_eq!(status(&client, "/word/captcha"), 200);
    stub.says(Says::Rules);
    assert_eq!(status(&client, "/.env"), 403, "it satisfies a captcha, never a ban");
}

/// The ban is only on trial, so its status is not the status of the captcha that the route asks for.
#[test]
fn a_ban_on_trial_leaves_a_guards_captcha_as_it_is() {
    let stub = Stub::new();
    let client =
        client(app_of(with_captcha(&stub).merge(("crowdsec.enforce", ["captcha"]))).mount("/", routes![human]));
    stub.always(403, r#"{"action":"ban","http_status":451}"#);
    let response = client.get("/human").visitor(VISITOR).dispatch();
    assert_eq!(response.status(), Status::Forbidden);
    assert_eq!(response.headers().get_one("Crowdsec-Remediation"), Some("captcha"));
    assert_eq!(status(&client, "/page"), 200);
}

/// A decision that lets the visitor in is no reason for AppSec's ban.
#[test]
fn a_page_names_the_visitors_own_decision_that_they_are_refused_for_and_no_other() {
    let (stub, templates) = (Stub::new(), copied_templates());
    std::fs::write(templates.path().join("ban.html.tera"), "{{ decision | json_encode | safe }}").unwrap();
    let own = [map!["value" => "192.0.2.1", "type" => "pass"], map!["value" => "192.0.2.2", "type" => "ban"]];
    let figment = with_appsec(&stub).merge(("crowdsec.decisions", own)).merge(("template_dir", templates.path()));
    #[get("/sure")]
    fn sure(_sure: NoDecision) {}
    let client = client(app_of(figment).mount("/pages", routes![sure]));
    let page = |path: &'static str, visitor| client.get(path).visitor(visitor).dispatch().into_string().unwrap();
    assert_eq!(page("/.env", "192.0.2.1"), "null");
    assert!(page("/pages/sure", "192.0.2.1").contains(r#""type":"pass""#));
    assert!(page("/.env", "192.0.2.2").contains(r#""type":"ban""#));
}

#[get("/human")]
fn human(_human: Human) -> &'static str {
    "welcome"
}

/// A handler may go on without the body that AppSec refuses, and refuse for another reason.
#[test]
fn the_status_of_appsecs_ban_is_not_that_of_a_refusal_for_another_reason() {
    let stub = Stub::new();
    let figment = with_appsec(&stub).merge(("crowdsec.decisions", [map!["value" => VISITOR, "type" => "ban"]]));
    let client =
        client(app_of(figment.merge(("crowdsec.excluded_paths", ["/forgiving"]))).mount("/", routes![forgiving]));
    stub.always(403, r#"{"action":"ban","http_status":451}"#);
    let refused = post(&client, "/forgiving", ContentType::Text, "anything");
    assert_eq!((refused.status(), refused.headers().get_one("Crowdsec-Remediation")), (Status::Forbidden, Some("ban")));
}

#[posts("/forgiving", data = "<body>")]
async fn forgiving(
    body: Result<Inspected<String>, Option<Utf8Error>>,
    request: Enter<'_>,
) -> Result<&'static str, Status> {
    assert!(body.is_err());
    match request.0.guard::<Cleared>().await {
        Outcome::Error((status, _)) => Err(status),
        _ => Ok("welcome"),
    }
}

/// The request, for a handler that asks its guards itself.
struct Enter<'r>(&'r Request<'r>);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Enter<'r> {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Outcome::Success(Self(request))
    }
}

#[test]
fn a_trial_lets_in_what_appsec_would_refuse() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub).merge(("crowdsec.enforce", false))));
    assert_eq!(status(&client, "/.env"), 200);
    assert_eq!(post(&client, "/text", ContentType::Text, &padded(ATTACK)).status(), Status::Ok);
    stub.says(Says::Challenge);
    assert_eq!(status(&client, "/page"), 200);
}

#[test]
fn the_path_that_crowdsecs_guides_try_is_served_since_its_rule_only_tells_the_operator() {
    let stub = Stub::new();
    let client = client(app_of(with_appsec(&stub)));
    for method in [Method::Get, Method::Head] {
        assert_eq!(client.req(method, GUIDES_PATH).visitor(VISITOR).dispatch().status(), Status::Ok);
    }
    assert_eq!(stub.alerts(), 2);
}
