//! Does a visitor get through by solving the captcha, and nobody without?

use altcha::Challenge;
use app::crowdsec::Cleared;
use rocket::figment::Figment;
use rocket::http::{ContentType, Cookie, RawStr, Status};
use rocket::local::blocking::{Client, LocalResponse};
use rocket::{post, routes};

use crate::common::{
    Visitor, app_with, bouncer_refuses, challenge_on, client, header, send_answer, send_field, solve, with_decisions,
    without_captcha,
};

const VISITOR: &str = "192.0.2.1";
const PASS: &str = concat!(env!("CARGO_PKG_NAME"), "-captcha");

fn app_with_captcha() -> Client {
    client(app::protected(with_decisions(&[(VISITOR, "captcha")]).merge(("crowdsec.captcha.difficulty", 20))))
}

/// At a path without a route, 404 says that the visitor was let in.
fn may_enter(client: &Client, visitor: &str) -> bool {
    client.get("/nowhere-at-all").visitor(visitor).dispatch().status() == Status::NotFound
}

/// The challenge on the captcha page, as the visitor's browser finds it.
fn challenge(client: &Client, visitor: &str) -> Challenge {
    challenge_on(client.get("/crowdsec/captcha").visitor(visitor).dispatch())
}

fn answer<'c>(client: &'c Client, visitor: &str, answer: &str) -> LocalResponse<'c> {
    send_answer(client, visitor, answer, "/nowhere-at-all?a=b&c=d")
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
fn a_form_of_the_captchas_is_as_long_as_it_may_be_whatever_the_applications_own_may() {
    for limit in ["64 B", "64 MiB"] {
        let figment = with_decisions(&[(VISITOR, "captcha")]).merge(("crowdsec.captcha.difficulty", 20));
        let client = client(app::protected(figment.merge(("limits.form", limit))));
        let solved = solve(challenge(&client, VISITOR));
        let padded = format!("/?{}", "x".repeat(40_000));
        assert_eq!(send_answer(&client, VISITOR, &solved, &padded).status(), Status::Forbidden, "{limit}");
        // Of one that is too long no part counts, not even where the answer stands before the rest.
        let answer_first = format!("altcha={}&return_to={padded}", RawStr::new(&solved).percent_encode());
        let request = client.post("/crowdsec/captcha").header(ContentType::Form).visitor(VISITOR);
        assert_eq!(request.body(answer_first).dispatch().status(), Status::Forbidden, "{limit}");
        assert!(!may_enter(&client, VISITOR), "{limit}");
        assert_eq!(answer(&client, VISITOR, &solved).status(), Status::SeeOther, "{limit}");
    }
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
    let pass = response.cookies().iter().find(|cookie| cookie.name().starts_with(PASS)).unwrap().clone();

    let other = client_with(&[(VISITOR, "captcha"), ("192.0.2.2", "captcha")]);
    let enter = |visitor: &str, pass: Option<Cookie<'static>>| {
        let request = other.get("/nowhere-at-all").visitor(visitor).cookies(pass);
        request.dispatch().status() == Status::NotFound
    };
    assert!(!enter(VISITOR, None));
    assert!(!enter("192.0.2.2", Some(pass.clone())), "it was moved to another address");
    assert!(enter(VISITOR, Some(pass)), "another instance with the same secret key reads it");
}

fn client_with(decisions: &[(&str, &str)]) -> Client {
    let client = Client::untracked(app::protected(with_decisions(decisions)));
    client.expect("the application launches")
}

#[test]
fn a_forged_or_truncated_pass_opens_nothing() {
    let (client, pass) = (client_with(&[(VISITOR, "captcha")]), pass(VISITOR));
    let enter = |value: &str| {
        let request = client.get("/nowhere-at-all").visitor(VISITOR).cookie((pass.name(), value.to_owned()));
        request.dispatch().status() == Status::NotFound
    };
    let cut = &pass.value()[..pass.value().len() - 1];
    for forged in ["99999999999 192.0.2.1/32", "", "AAAA", "%00", "MDEyMzQ1Njc4OWFiY2RlZg==", cut] {
        assert!(!enter(forged), "{forged}");
    }
    for private in ["99999999999", "99999999999 192.0.2.1/32"] {
        let private = Cookie::new(pass.name().to_owned(), private);
        let request = client.get("/nowhere-at-all").visitor(VISITOR).private_cookie(private.clone());
        assert_eq!(request.dispatch().status(), Status::Forbidden, "{private}");
    }
    assert!(enter(pass.value()));
}

#[test]
fn a_junk_duplicate_of_the_pass_locks_nobody_out() {
    let (client, pass) = (client_with(&[(VISITOR, "captcha")]), pass(VISITOR));
    let (good, name) = (pass.stripped().to_string(), pass.name());
    let enter = |lines: &[String]| {
        let mut request = client.get("/nowhere-at-all").visitor(VISITOR);
        for line in lines {
            request.add_header(rocket::http::Header::new("Cookie", line.clone()));
        }
        request.dispatch().status() == Status::NotFound
    };
    // Rocket's local client does not make cookies of these lines; its server does, and keeps the last one of each name.
    let long = "x".repeat(5000);
    for junk in ["junk", "", &long, &good[..good.len() - 4], "%ff"] {
        assert!(enter(&[format!("{good}; {name}={junk}")]), "{junk} behind it");
        assert!(enter(&[format!("{name}={junk}; a=b; {good}; {name}={junk}")]), "{junk} around it");
        assert!(enter(&[format!("{name}={junk}"), good.clone()]), "{junk} in another line");
        assert!(!enter(&[format!("{name}={junk}")]), "{junk} alone");
    }
    let request = client.get("/nowhere-at-all").visitor(VISITOR).cookie((name, "junk"));
    let request = request.header(rocket::http::Header::new("Cookie", format!("{good}; {name}=junk")));
    assert_eq!(request.dispatch().status(), Status::NotFound, "as behind a server, where the jar has the last one");
}

/// The pass of a visitor who has solved the captcha, on another instance with the same secret key.
fn pass(visitor: &str) -> Cookie<'static> {
    let client = client_with_captcha(with_decisions(&[(visitor, "captcha")]));
    let solved = solve(challenge(&client, visitor));
    let response = answer(&client, visitor, &solved);
    response.cookies().iter().find(|cookie| cookie.name().starts_with(PASS)).expect("a pass").clone()
}

#[test]
fn a_missing_or_wrong_answer_meets_the_captcha_again() {
    let client = app_with_captcha();
    let solved = solve(challenge(&client, VISITOR));
    for wrong in ["", "junk", "e30="] {
        let response = answer(&client, VISITOR, wrong);
        assert_eq!(response.status(), Status::Forbidden);
        let page = response.into_string().unwrap();
        assert!(page.contains("role=\"alert\"") && page.contains("/crowdsec/captcha"), "{wrong}");
    }
    let other = client_with_captcha(with_decisions(&[(VISITOR, "captcha"), ("192.0.2.2", "captcha")]));
    assert_eq!(answer(&other, "192.0.2.2", &solved).status(), Status::Forbidden, "another visitor's");
    assert_eq!(answer(&client, VISITOR, &solved).status(), Status::SeeOther);
}

/// An application with an easy captcha, whose client keeps no cookies.
fn client_with_captcha(figment: Figment) -> Client {
    let app = app::protected(figment.merge(("crowdsec.captcha.difficulty", 20)));
    Client::untracked(app).expect("the application launches")
}

#[test]
fn a_ban_outweighs_a_solved_captcha() {
    let client = client(app::app(with_decisions(&[(VISITOR, "captcha"), ("192.0.2.0/24", "ban")])));
    let request = client.get("/nowhere-at-all").visitor(VISITOR).cookie(pass(VISITOR));
    assert_eq!(request.dispatch().status(), Status::Forbidden);
    assert_eq!(answer(&client, VISITOR, "x").status(), Status::Forbidden);
}

#[test]
fn a_right_proof_of_work_counts_however_much_junk_came_before() {
    let client = app_with_captcha();
    for _ in 0..50 {
        assert_eq!(answer(&client, VISITOR, "junk").status(), Status::Forbidden);
    }
    let solved = solve(challenge(&client, VISITOR));
    for _ in 0..50 {
        assert_eq!(answer(&client, VISITOR, &solved).status(), Status::SeeOther);
    }
}

/// Behind a proxy that hands on another `Host` than the browser's, the form of our own page looks like another site's.
#[test]
fn a_right_proof_of_work_counts_whatever_site_its_form_seems_to_come_from() {
    let client = client_with_captcha(with_decisions(&[(VISITOR, "captcha")]));
    for (name, value) in [("Origin", "https://shop.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")] {
        let solved = rocket::http::RawStr::new(&solve(challenge(&client, VISITOR))).percent_encode().into_owned();
        let request = client.post("/crowdsec/captcha").header(ContentType::Form).visitor(VISITOR);
        let response = request.header(header(name, value)).body(format!("altcha={solved}")).dispatch();
        assert_eq!(response.status(), Status::SeeOther, "{name}: {value}");
    }
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
        let response = send_field(&client, VISITOR, "altcha", "", trick);
        assert_eq!(response.headers().get_one("Location"), Some("/"), "{trick:?}");
    }
}

#[post("/tests/guarded")]
fn guarded(_visitor: Cleared) {}

#[test]
fn the_way_back_of_a_form_is_the_page_it_was_on_and_it_is_said_that_it_was_not_sent() {
    let figment = with_decisions(&[(VISITOR, "captcha")]).merge(("crowdsec.excluded_paths", ["/tests/guarded"]));
    let client = client(app::app(figment).mount("/", routes![guarded]));
    // Refused by the fairing, and by a guard, whose page takes the catcher's place.
    for path in ["/tests/order", "/tests/guarded"] {
        let back = |referer: &'static str| {
            let request = client.post(path).header(ContentType::Form).body("x=y").visitor(VISITOR);
            let mut request = request.header(header("Referer", referer));
            request.inner_mut().set_host("shop.example".try_into().map(rocket::http::uri::Host::new).expect("a host"));
            let page = request.dispatch().into_string().unwrap();
            assert!(page.contains("role=\"status\""), "nothing of the form in {page}");
            page.split("name=\"return_to\" value=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#x2F;", "/")
        };
        assert_eq!(back("http://shop.example/cart?id=1"), "/cart?id=1");
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
    for (name, value) in [
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=192.0.2.1;proto=https"),
        // Two proxies: between them it is plain HTTP.
        ("X-Forwarded-Proto", "https, http"),
        ("Forwarded", "for=192.0.2.1;proto=https, for=10.0.0.2;proto=http"),
    ] {
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
        let cookie = response.headers().get("Set-Cookie").next().unwrap().to_owned();
        // A browser takes a `__Host-` name from this host alone, with `Secure` and for every path.
        assert!(cookie.starts_with(&format!("__Host-{PASS}")), "{name}: {cookie}");
        assert!(cookie.contains("; Secure") && cookie.contains("; Path=/") && !cookie.contains("Domain"), "{cookie}");
    }
}

#[test]
fn a_captcha_of_the_operators_own_without_a_provider_stops_the_launch() {
    let lone = without_captcha().merge(("crowdsec.captcha.expiration", "1h"));
    assert!(bouncer_refuses(Client::tracked(app::app(
        lone.merge(("crowdsec.decisions", vec![rocket::figment::util::map!["value" => VISITOR, "type" => "captcha"]]))
    ))));
}

#[test]
fn nobody_hears_of_cookies_because_somebody_behind_their_address_sent_none() {
    let client = client_with_captcha(with_decisions(&[(VISITOR, "captcha")]));
    let page = || client.get("/").visitor(VISITOR).dispatch().into_string().unwrap();
    assert!(!page().contains("role=\"alert\""));
    let solved = solve(challenge(&client, VISITOR));
    assert_eq!(answer(&client, VISITOR, &solved).status(), Status::SeeOther);
    assert!(!page().contains("role=\"alert\""), "the next one at this address is a newcomer");
}

/// The page that was wanted then replaces the captcha's page, and the Back button does not lead to the captcha.
#[test]
fn a_script_that_sees_its_cookies_is_told_by_one_to_go_on_and_everybody_else_is_led_on() {
    let client = client_with_captcha(with_decisions(&[(VISITOR, "captcha")]));
    for (cookies, status) in [("seen", Status::NoContent), ("kept", Status::SeeOther), ("", Status::SeeOther)] {
        let solved = rocket::http::RawStr::new(&solve(challenge(&client, VISITOR))).percent_encode().into_owned();
        let request = client.post("/crowdsec/captcha").header(ContentType::Form).visitor(VISITOR);
        let request = request.cookie(("captcha-probe", "1")).body(format!("altcha={solved}&cookies={cookies}"));
        let response = request.dispatch();
        assert_eq!(response.status(), status, "{cookies}");
        assert_eq!(response.headers().get_one("Cache-Control"), Some("no-store"));
        let set: Vec<&str> = response.headers().get("Set-Cookie").collect();
        assert!(set.iter().any(|cookie| cookie.starts_with(PASS)), "{set:?}");
        let told = |set: &[&str]| {
            set.iter().any(|cookie| cookie.starts_with("captcha-probe=2;") && !cookie.contains("HttpOnly"))
        };
        assert_eq!(told(&set), cookies == "seen", "{set:?}");
        // So is a script in another tab, whose visitor has the pass already.
        let pass = response.cookies().iter().find(|cookie| cookie.name().starts_with(PASS)).expect("a pass").clone();
        let request = client.post("/crowdsec/captcha").header(ContentType::Form).visitor(VISITOR).cookie(pass);
        let other =
            request.cookie(("captcha-probe", "1")).body(format!("altcha={solved}&cookies={cookies}")).dispatch();
        assert_eq!(other.status(), status, "{cookies}");
        assert_eq!(told(&other.headers().get("Set-Cookie").collect::<Vec<_>>()), cookies == "seen");
    }
}

#[test]
fn whose_browser_keeps_cookies_that_do_not_arrive_is_told_so_and_has_the_pass() {
    let client = client_with_captcha(with_decisions(&[(VISITOR, "captcha")]));
    // Sends what the page's script sends once it has seen that the browser keeps the probe.
    let send = |found: &str, probe: Option<Cookie<'static>>| {
        let solved = rocket::http::RawStr::new(&solve(challenge(&client, VISITOR))).percent_encode().into_owned();
        let request = client.post("/crowdsec/captcha").header(ContentType::Form).visitor(VISITOR).cookies(probe);
        request.body(format!("altcha={solved}&cookies={found}")).dispatch()
    };
    for found in ["kept", "seen"] {
        assert_eq!(send(found, None).status(), Status::Forbidden, "{found}");
    }
    let lost = send("kept", None);
    let pass = lost.cookies().iter().next().expect("a right answer gives a pass").clone();
    assert!(lost.into_string().unwrap().contains("role=\"alert\""));
    let entered = client.get("/nowhere-at-all").visitor(VISITOR).cookie(pass).dispatch();
    assert_eq!(entered.status(), Status::NotFound);
    assert_eq!(send("kept", Some(Cookie::new("captcha-probe", "1"))).status(), Status::SeeOther);
}

#[test]
fn a_stranger_who_says_https_gets_the_pass_of_plain_http() {
    let client = client_with_captcha(with_decisions(&[(VISITOR, "captcha")]));
    for (name, value) in [("X-Forwarded-Proto", "https"), ("Forwarded", "proto=https")] {
        let solved = rocket::http::RawStr::new(&solve(challenge(&client, VISITOR))).percent_encode().into_owned();
        let request = client.post("/crowdsec/captcha").header(ContentType::Form).visitor(VISITOR);
        let response = request.header(header(name, value)).body(format!("altcha={solved}")).dispatch();
        let cookie = response.headers().get_one("Set-Cookie").expect("a pass");
        assert!(cookie.starts_with(PASS) && !cookie.contains("Secure"), "{name}: {cookie}");
    }
}

#[test]
fn the_captcha_of_our_own_loads_nothing_from_elsewhere_whatever_is_set() {
    let figment = with_decisions(&[(VISITOR, "captcha")]);
    let figment = figment.merge(("crowdsec.captcha.script_url", "https://elsewhere.example/script.js"));
    let client = client(app::protected(figment));
    let page = client.get("/nowhere-at-all").visitor(VISITOR).dispatch();
    let policy = page.headers().get_one("Content-Security-Policy").expect("a policy").to_owned();
    assert!(!policy.contains("elsewhere.example"), "{policy}");
    assert!(!page.into_string().expect("a page").contains("elsewhere.example"));
}

#[test]
fn the_captchas_provider_does_not_learn_which_page_it_was() {
    let app = rocket::custom(with_decisions(&[(VISITOR, "captcha")])).attach(app::crowdsec::fairing());
    let client = client(app.attach(rocket_dyn_templates::Template::fairing()));
    let page = client.get("/nowhere-at-all?secret").visitor(VISITOR).dispatch();
    assert_eq!(page.headers().get_one("Referrer-Policy"), Some("same-origin"));
}

#[test]
fn who_would_only_on_trial_be_asked_has_nothing_to_solve() {
    let client = client(app::app(with_decisions(&[(VISITOR, "captcha")]).merge(("crowdsec.enforce", ["ban"]))));
    let response = client.get("/crowdsec/captcha?return_to=/a?b").visitor(VISITOR).dispatch();
    assert_eq!((response.status(), response.headers().get_one("Location")), (Status::SeeOther, Some("/a?b")));
}

#[test]
fn whom_the_operators_allow_lets_in_has_nothing_to_solve() {
    let client = client(app::app(with_decisions(&[(VISITOR, "captcha"), ("192.0.2.0/24", "allow")])));
    let response = client.get("/crowdsec/captcha?return_to=/a?b").visitor(VISITOR).dispatch();
    assert_eq!((response.status(), response.headers().get_one("Location")), (Status::SeeOther, Some("/a?b")));
    assert_eq!(answer(&client, VISITOR, "").status(), Status::SeeOther);
}
