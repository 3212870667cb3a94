//! How a visitor with a captcha gets through, and how nobody else does.

mod common;

use std::sync::{Arc, Mutex};

use altcha::{Challenge, Payload, SolveChallengeOptions, solve_challenge};
use app::crowdsec::Cleared;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Visitor, app_with, client, figment, header, with_decisions};
use rocket::figment::Figment;
use rocket::form::Form;
use rocket::http::{ContentType, Cookie, Status};
use rocket::local::blocking::{Client, LocalResponse};
use rocket::{FromForm, State, post, routes};

const VISITOR: &str = "192.0.2.1";
const PASS: &str = concat!(env!("CARGO_PKG_NAME"), "-captcha");

fn app_with_captcha() -> Client {
    client(app::app(with_decisions(&[(VISITOR, "captcha")]).merge(("crowdsec.captcha.difficulty", 20))))
}

/// A page of the application's that is there for everybody, so that only its status tells who may see it.
fn may_enter(client: &Client, visitor: &str) -> bool {
    client.get("/nowhere-at-all").visitor(visitor).dispatch().status() == Status::NotFound
}

/// The challenge on the captcha page, as the visitor's browser finds it.
fn challenge(client: &Client, visitor: &str) -> Challenge {
    let page = client.get("/crowdsec/captcha").visitor(visitor).dispatch().into_string().unwrap();
    let json = page.split("data-challenge=\"").nth(1).expect("a challenge").split('"').next().unwrap();
    let json = json.replace("&quot;", "\"").replace("&#x2F;", "/").replace("&#x27;", "'").replace("&amp;", "&");
    serde_json::from_str(&json).expect("JSON")
}

fn solve(challenge: Challenge) -> String {
    let solution = solve_challenge(SolveChallengeOptions::new(&challenge)).unwrap().unwrap();
    STANDARD.encode(serde_json::to_vec(&Payload { challenge, solution }).unwrap())
}

fn send<'c>(client: &'c Client, visitor: &str, field: &str, answer: &str, return_to: &str) -> LocalResponse<'c> {
    let encode = |text: &str| rocket::http::RawStr::new(text).percent_encode().into_owned().into_string();
    let body = format!("return_to={}&{field}={}", encode(return_to), encode(answer));
    client.post("/crowdsec/captcha").header(ContentType::Form).body(body).visitor(visitor).dispatch()
}

fn answer<'c>(client: &'c Client, visitor: &str, answer: &str) -> LocalResponse<'c> {
    send(client, visitor, "altcha", answer, "/nowhere-at-all?a=b&c=d")
}

#[test]
fn who_solves_it_goes_back_to_where_they_were_and_is_free() {
    let client = app_with_captcha();
    let page = client.get("/nowhere-at-all?a=b&c=d").visitor(VISITOR).dispatch();
    assert_eq!(page.status(), Status::Forbidden);
    assert!(page.into_string().unwrap().contains("name=\"return_to\" value=\"&#x2F;nowhere-at-all?a=b&amp;c=d\""));
    let solved = solve(challenge(&client, VISITOR));
    let response = answer(&client, VISITOR, &solved);
    assert_eq!(response.status(), Status::SeeOther);
    assert_eq!(response.headers().get_one("Location"), Some("/nowhere-at-all?a=b&c=d"));
    assert_eq!(response.headers().get_one("Cache-Control"), Some("no-store"));
    drop(response);
    assert!(may_enter(&client, VISITOR));
}

#[test]
fn the_pass_is_a_private_cookie_for_one_address() {
    let client = app_with_captcha();
    let solved = solve(challenge(&client, VISITOR));
    let response = answer(&client, VISITOR, &solved);
    let cookie = response.headers().get("Set-Cookie").find(|cookie| cookie.starts_with(PASS)).unwrap().to_owned();
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=3600"] {
        assert!(cookie.contains(attribute), "{attribute} in {cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains(VISITOR), "{cookie}");
    let pass = response.cookies().get_private(PASS).unwrap();

    let other = client_with(&[(VISITOR, "captcha"), ("192.0.2.2", "captcha")]);
    let enter = |visitor: &str, pass: Option<Cookie<'static>>| {
        let mut request = other.get("/nowhere-at-all").visitor(visitor);
        if let Some(pass) = pass {
            request = request.private_cookie(pass);
        }
        request.dispatch().status() == Status::NotFound
    };
    assert!(!enter(VISITOR, None));
    assert!(!enter("192.0.2.2", Some(pass.clone())), "it was moved to another address");
    assert!(enter(VISITOR, Some(pass)), "another instance with the same secret key reads it");
}

fn client_with(decisions: &[(&str, &str)]) -> Client {
    let client = Client::untracked(app::app(with_decisions(decisions)));
    client.expect("the application launches")
}

#[test]
fn a_forged_truncated_or_expired_pass_opens_nothing() {
    let client = client_with(&[(VISITOR, "captcha")]);
    let enter = |cookie: Cookie<'static>| {
        client.get("/nowhere-at-all").visitor(VISITOR).cookie(cookie).dispatch().status() == Status::NotFound
    };
    for forged in ["99999999999 192.0.2.1/32", "", "AAAA", "%00", "MDEyMzQ1Njc4OWFiY2RlZg=="] {
        assert!(!enter(Cookie::new(PASS, forged)), "{forged}");
    }
    for private in ["1 192.0.2.1/32", "99999999999", "99999999999 192.0.2.2/32", "99999999999 192.0.2.0/24"] {
        let request = client.get("/nowhere-at-all").visitor(VISITOR).private_cookie((PASS, private));
        assert_eq!(request.dispatch().status(), Status::Forbidden, "{private}");
    }
    let request = client.get("/nowhere-at-all").visitor(VISITOR).private_cookie((PASS, "99999999999 192.0.2.1/32"));
    assert_eq!(request.dispatch().status(), Status::NotFound);
}

#[test]
fn a_missing_wrong_or_used_answer_meets_the_captcha_again() {
    let client = app_with_captcha();
    let solved = solve(challenge(&client, VISITOR));
    for wrong in ["", "junk", "e30="] {
        let response = answer(&client, VISITOR, wrong);
        assert_eq!(response.status(), Status::Forbidden);
        let page = response.into_string().unwrap();
        assert!(page.contains("role=\"alert\"") && page.contains("/crowdsec/captcha"), "{wrong}");
    }
    let other = client_with_captcha_for_two();
    assert_eq!(answer(&other, "192.0.2.2", &solved).status(), Status::Forbidden, "another visitor's");
    assert_eq!(answer(&client, VISITOR, &solved).status(), Status::SeeOther);
    let fresh = client_with_captcha_for_two();
    assert_eq!(
        answer(&fresh, VISITOR, &solved).status(),
        Status::SeeOther,
        "elsewhere only address and expiry limit it"
    );
    assert_eq!(answer(&fresh, VISITOR, &solved).status(), Status::Forbidden, "used");
}

fn client_with_captcha_for_two() -> Client {
    let figment = with_decisions(&[(VISITOR, "captcha"), ("192.0.2.2", "captcha")]);
    Client::untracked(app::app(figment.merge(("crowdsec.captcha.difficulty", 20)))).expect("the application launches")
}

#[test]
fn a_ban_outweighs_a_solved_captcha() {
    let client = client(app::app(with_decisions(&[(VISITOR, "captcha"), ("192.0.2.0/24", "ban")])));
    let request = client.get("/nowhere-at-all").visitor(VISITOR).private_cookie((PASS, "99999999999 192.0.2.1/32"));
    assert_eq!(request.dispatch().status(), Status::Forbidden);
    assert_eq!(answer(&client, VISITOR, "x").status(), Status::Forbidden);
}

#[test]
fn too_many_tries_have_to_wait() {
    let client = app_with_captcha();
    let last =
        (0..30).map(|_| answer(&client, VISITOR, "junk")).find(|response| response.status() == Status::TooManyRequests);
    assert!(last.expect("it ends").headers().contains("Retry-After"));
    let solved = solve(challenge(&client, VISITOR));
    assert_eq!(answer(&client, VISITOR, &solved).status(), Status::TooManyRequests, "a right answer has to wait too");
}

#[test]
fn who_has_nothing_to_solve_is_led_on() {
    let client = app_with(&[]);
    let response = client.get("/crowdsec/captcha?return_to=/a?b").visitor(VISITOR).dispatch();
    assert_eq!((response.status(), response.headers().get_one("Location")), (Status::SeeOther, Some("/a?b")));
    let response = answer(&client, VISITOR, "");
    assert_eq!(
        (response.status(), response.headers().get_one("Location")),
        (Status::SeeOther, Some("/nowhere-at-all?a=b&c=d"))
    );
}

#[test]
fn nobody_is_sent_to_another_site() {
    let client = app_with(&[]);
    for trick in [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "/\t/evil.example",
        "/\r\nX: y",
        "javascript:x",
        "/crowdsec/captcha",
    ] {
        let response = send(&client, VISITOR, "altcha", "", trick);
        assert_eq!(response.headers().get_one("Location"), Some("/"), "{trick:?}");
    }
}

#[post("/guarded")]
fn guarded(_visitor: Cleared) {}

#[test]
fn the_way_back_of_a_form_is_the_page_it_was_on_and_it_is_said_that_it_was_not_sent() {
    let figment = with_decisions(&[(VISITOR, "captcha")]).merge(("crowdsec.excluded_paths", ["/guarded"]));
    let client = client(app::app(figment).mount("/", routes![guarded]));
    // By the fairing, and by a guard, whose page takes the catcher's place.
    for path in ["/order", "/guarded"] {
        let back = |referer: &'static str| {
            let request = client.post(path).header(ContentType::Form).body("x=y").visitor(VISITOR);
            let mut request = request.header(header("Referer", referer));
            request.inner_mut().set_host("shop.example".try_into().map(rocket::http::uri::Host::new).expect("a host"));
            let page = request.dispatch().into_string().unwrap();
            assert!(page.contains("role=\"status\""), "nothing of the form in {page}");
            page.split("name=\"return_to\" value=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#x2F;", "/")
        };
        assert_eq!(back("http://shop.example/cart?id=1"), "/cart");
        assert_eq!(back("http://evil.example/cart"), "/");
        assert_eq!(back("nonsense"), "/");
    }
}

#[test]
fn other_methods_at_the_captchas_address_are_refused_like_anywhere() {
    let client = app_with_captcha();
    assert_eq!(client.put("/crowdsec/captcha").visitor(VISITOR).dispatch().status(), Status::Forbidden);
    assert_eq!(client.delete("/crowdsec/captcha").visitor(VISITOR).dispatch().status(), Status::Forbidden);
    let head = client.head("/crowdsec/captcha").visitor(VISITOR).dispatch();
    assert_eq!((head.status(), head.into_string().unwrap_or_default().as_str()), (Status::Forbidden, ""));
    let json = client.post("/crowdsec/captcha").header(ContentType::JSON).body("{}").visitor(VISITOR).dispatch();
    assert_eq!(
        (json.status(), json.content_type()),
        (Status::Forbidden, Some(ContentType::new("application", "problem+json")))
    );
}

#[test]
fn the_pass_is_secure_behind_a_proxy_that_ends_tls() {
    let figment = with_decisions(&[(VISITOR, "captcha")]).merge(("crowdsec.captcha.difficulty", 20));
    let client = Client::untracked(app::app(figment.merge(("crowdsec.trusted_proxies", ["10.0.0.1"])))).unwrap();
    for (name, value) in [("X-Forwarded-Proto", "https"), ("Forwarded", "for=192.0.2.1;proto=https")] {
        let solved = {
            let page = client.get("/").header(header("X-Forwarded-For", VISITOR)).visitor("10.0.0.1").dispatch();
            let page = page.into_string().unwrap();
            let json = page.split("data-challenge=\"").nth(1).unwrap().split('"').next().unwrap();
            solve(serde_json::from_str(&json.replace("&quot;", "\"").replace("&#x2F;", "/")).unwrap())
        };
        let body = format!("altcha={}", rocket::http::RawStr::new(&solved).percent_encode());
        let request = client.post("/crowdsec/captcha").header(ContentType::Form).body(body).visitor("10.0.0.1");
        let request = request.header(header("X-Forwarded-For", VISITOR)).header(header(name, value));
        let response = request.dispatch();
        assert_eq!(response.status(), Status::SeeOther);
        let cookie = response.headers().get("Set-Cookie").find(|cookie| cookie.starts_with(PASS)).unwrap().to_owned();
        assert!(cookie.contains("; Secure"), "{name}: {cookie}");
    }
}

/// A `siteverify` of the tests' own.
struct Provider {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    shutdown: rocket::Shutdown,
}

#[derive(FromForm, Clone, Debug)]
struct Asked {
    secret: String,
    response: String,
    remoteip: String,
}

type Log = Arc<Mutex<Vec<Asked>>>;

#[post("/siteverify", data = "<asked>")]
fn siteverify(asked: Form<Asked>, log: &State<Log>) -> (Status, (ContentType, String)) {
    let asked = asked.into_inner();
    log.lock().unwrap().push(asked.clone());
    let json = |body: &str| (Status::Ok, (ContentType::JSON, body.to_owned()));
    match asked.response.as_str() {
        "right" => json(r#"{"success":true,"hostname":"shop.example"}"#),
        "elsewhere" => json(r#"{"success":true,"hostname":"evil.example"}"#),
        "used" => json(r#"{"success":false,"error-codes":["timeout-or-duplicate"]}"#),
        "html" => (Status::Ok, (ContentType::HTML, r#"{"success":true}"#.into())),
        "broken" => (Status::InternalServerError, (ContentType::Plain, "oops".into())),
        "cut" => json(r#"{"success":tr"#),
        "text" => json(r#"{"success":"true"}"#),
        "list" => json("[true]"),
        "yes but" => (Status::InternalServerError, (ContentType::JSON, r#"{"success":true}"#.into())),
        "secret" => json(r#"{"success":false,"error-codes":["invalid-input-secret"]}"#),
        "long" => json(&format!(r#"{{"success":true,"x":"{}"}}"#, "x".repeat(100_000))),
        _ => json(r#"{"success":false,"error-codes":["invalid-input-response"]}"#),
    }
}

impl Provider {
    fn start() -> Self {
        let log = Log::default();
        let (tell, port) = std::sync::mpsc::channel();
        let figment = Figment::from(rocket::Config::debug_default()).merge(("port", 0)).merge(("log_level", "off"));
        let fake = rocket::custom(figment.merge(("shutdown.ctrlc", false)))
            .manage(log.clone())
            .mount("/", routes![siteverify]);
        let fake = fake.attach(rocket::fairing::AdHoc::on_liftoff("port", move |rocket| {
            Box::pin(async move { tell.send((rocket.config().port, rocket.shutdown())).unwrap() })
        }));
        std::thread::spawn(move || rocket::execute(async { fake.launch().await.map(drop).map_err(drop) }));
        let (port, shutdown) = port.recv().expect("the fake launches");
        Self { url: format!("http://127.0.0.1:{port}/siteverify"), asked: log, shutdown }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.shutdown.clone().notify();
    }
}

fn third_party(name: &str, verify_url: &str) -> Client {
    let figment = with_decisions(&[(VISITOR, "captcha")])
        .merge(("crowdsec.captcha.provider", name))
        .merge(("crowdsec.captcha.site_key", "the-site-key"))
        .merge(("crowdsec.captcha.secret_key", "the-secret-key"))
        .merge(("crowdsec.captcha.hostnames", ["Shop.example"]))
        .merge(("crowdsec.captcha.verify_url", verify_url));
    Client::untracked(app::app(figment)).expect("the application launches")
}

#[test]
fn three_providers_are_asked_in_their_own_words() {
    let provider = Provider::start();
    for (name, class, field, host) in [
        ("recaptcha", "g-recaptcha", "g-recaptcha-response", "https://www.google.com/recaptcha/"),
        ("hcaptcha", "h-captcha", "h-captcha-response", "https://hcaptcha.com"),
        ("turnstile", "cf-turnstile", "cf-turnstile-response", "https://challenges.cloudflare.com"),
    ] {
        let client = third_party(name, &provider.url);
        let response = client.get("/").visitor(VISITOR).dispatch();
        let policy = response.headers().get_one("Content-Security-Policy").unwrap().to_owned();
        assert!(policy.contains(host), "{policy}");
        let page = response.into_string().unwrap();
        assert!(page.contains(&format!("class=\"{class}\"")) && page.contains("data-sitekey=\"the-site-key\""));
        assert!(!page.contains("the-secret-key"));
        assert_eq!(send(&client, VISITOR, field, "right", "/").status(), Status::SeeOther, "{name}");
        let asked = provider.asked.lock().unwrap().pop().unwrap();
        assert_eq!(
            (asked.secret.as_str(), asked.response.as_str(), asked.remoteip.as_str()),
            ("the-secret-key", "right", VISITOR)
        );
        assert_eq!(
            send(&client, VISITOR, "altcha", "right", "/").status(),
            Status::Forbidden,
            "another provider's field"
        );
    }
}

#[test]
fn only_a_clear_yes_for_our_own_site_lets_in() {
    let provider = Provider::start();
    let client = third_party("recaptcha", &provider.url);
    for (word, status) in [
        ("elsewhere", Status::Forbidden),
        ("used", Status::Forbidden),
        ("no", Status::Forbidden),
        ("html", Status::ServiceUnavailable),
        ("broken", Status::ServiceUnavailable),
        ("cut", Status::ServiceUnavailable),
        ("text", Status::ServiceUnavailable),
        ("list", Status::ServiceUnavailable),
        ("yes but", Status::ServiceUnavailable),
        ("secret", Status::ServiceUnavailable),
        ("long", Status::ServiceUnavailable),
    ] {
        let response = send(&client, VISITOR, "g-recaptcha-response", word, "/");
        assert_eq!(response.status(), status, "{word}");
        assert_eq!(response.headers().contains("Retry-After"), status == Status::ServiceUnavailable, "{word}");
        assert!(!response.headers().contains("Set-Cookie"), "{word}");
    }
    let away = third_party("recaptcha", "http://127.0.0.1:1/siteverify");
    assert_eq!(send(&away, VISITOR, "g-recaptcha-response", "right", "/").status(), Status::ServiceUnavailable);
}

#[test]
fn without_a_provider_a_captcha_is_a_ban() {
    let lone = figment().merge(("crowdsec.captcha.expiration", "1h"));
    assert!(common::bouncer_refuses(Client::tracked(app::app(
        lone.merge(("crowdsec.decisions", vec![rocket::figment::util::map!["value" => VISITOR, "type" => "captcha"]]))
    ))));
}

#[test]
fn a_browser_without_cookies_is_told_so() {
    let client =
        Client::untracked(app::app(with_decisions(&[(VISITOR, "captcha")]).merge(("crowdsec.captcha.difficulty", 20))));
    let client = client.expect("the application launches");
    let alert = || client.get("/").visitor(VISITOR).dispatch().into_string().unwrap().contains("role=\"alert\"");
    assert!(!alert());
    let solved = solve(challenge(&client, VISITOR));
    assert_eq!(answer(&client, VISITOR, &solved).status(), Status::SeeOther);
    assert!(alert(), "no cookie came back: say so instead of going in circles");
}
