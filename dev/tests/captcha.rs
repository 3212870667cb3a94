//! Does a visitor who proves to be human get in, and nobody else? The provider's server is one of the tests' own.

use dev::Verdict::{Ban, Captcha, Welcome};
use dev::{Answer, App, FakeServer, Lapi, Reply, Seen, closed_port};
use serde_json::json;

const VISITOR: &str = "198.51.100.9";
const SOLVED: &str = "a-solved-captcha";

/// The provider answers yes to [`SOLVED`] and no to everything else.
fn provider(seen: &Seen) -> Reply {
    match seen.form("response").as_deref() {
        Some(SOLVED) => {
            Reply::json(&json!({ "success": true, "challenge_ts": "2026-01-01T00:00:00Z", "hostname": "127.0.0.1" }))
        }
        _ => Reply::json(&json!({ "success": false, "error-codes": ["invalid-input-response"] })),
    }
}

/// An application that asks two whole networks for a captcha.
fn asking(verify_url: &str, settings: &[(&str, &str)]) -> (Lapi, App) {
    let lapi = Lapi::start();
    lapi.decide(&["--range", "198.51.100.0/24", "--type", "captcha"]);
    lapi.decide(&["--range", "2001:db8::/32", "--type", "captcha"]);
    let app = App::polling(lapi.url(), &[settings, &[("CROWDSEC_CAPTCHA_VERIFY_URL", verify_url)]].concat());
    (lapi, app)
}

/// Posts the page's form as this visitor.
fn solve(app: &App, address: &str, response: Option<&str>, return_to: &str) -> Answer {
    let mut fields = vec![("return_to", return_to)];
    fields.extend(response.map(|response| ("g-recaptcha-response", response)));
    app.request("POST", "/crowdsec/captcha").from(address).form(&fields).send()
}

/// The cookie of a visitor who has solved the captcha.
#[track_caller]
fn cookie(app: &App, address: &str) -> String {
    let answer = solve(app, address, Some(SOLVED), "/");
    assert_eq!(answer.status, 303, "{}", answer.everything());
    answer.set_cookie()
}

/// The status of the index page for this visitor with this cookie.
fn status(app: &App, address: &str, cookie: &str) -> u16 {
    app.get("/").from(address).cookie(cookie).send().status
}

/// The value of the page's hidden field `return_to`.
#[track_caller]
fn return_to(page: &Answer) -> String {
    let text = page.text();
    let tag = text
        .split('<')
        .find(|tag| tag.starts_with("input") && tag.contains(r#"name="return_to""#))
        .expect("a return_to");
    let value = tag.split_once("value=\"").and_then(|(_, rest)| rest.split_once('"')).expect("a value").0;
    value
        .replace("&#x2F;", "/")
        .replace("&#x27;", "'")
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

// --- the page ---

#[test]
fn the_page_stands_at_the_address_asked_for_and_leads_back_there() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    for target in ["/", "/members", "/no/such/page?q=a%20b&c=%22%3E", "/members?next=/x&y=1"] {
        let page = app.get(target).from(VISITOR).send();
        assert_eq!(page.status, 403);
        let text = page.text();
        let form = text.split('<').find(|tag| tag.starts_with("form")).expect("a form");
        assert!(form.contains(r#"method="post""#) && form.contains(r#"action="/crowdsec/captcha""#), "{form}");
        assert!(page.text().contains("end-to-end-site-key"), "the widget needs the site key");
        assert!(!page.text().contains("end-to-end-captcha-secret"));
        assert_eq!(return_to(&page), target);
    }
    assert!(verify.seen().is_empty(), "nothing is verified before there is an answer");
}

#[test]
fn a_form_that_met_the_captcha_leads_back_to_the_page_it_came_from() {
    let (_lapi, app) = asking("http://127.0.0.1:9/", &[]);
    let own = format!("http://{}/members?page=2", app.address());
    let referred = |referer: &str| {
        let request = app.request("POST", "/members/send").from(VISITOR).header("Referer", referer);
        return_to(&request.form(&[("text", "hello")]).send())
    };
    assert!(referred(&own).starts_with("/members"), "{}", referred(&own));
    assert_eq!(referred("http://elsewhere.example/members"), "/");
    assert_eq!(referred(&format!("http://{}.elsewhere.example/members", app.address())), "/");
    assert_eq!(referred(&format!("http://{}@elsewhere.example/members", app.address())), "/");
    assert_eq!(referred("nonsense"), "/");
    let without = app.request("POST", "/members/send").from(VISITOR).form(&[("text", "hello")]).send();
    assert_eq!(return_to(&without), "/");
}

// --- the answer ---

#[test]
fn who_solves_the_captcha_is_sent_to_where_they_were_going_and_let_in() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let answer = solve(&app, VISITOR, Some(SOLVED), "/members?page=2&q=a%20b");
    assert_eq!(answer.status, 303, "{}", answer.everything());
    assert_eq!(answer.header("Location"), Some("/members?page=2&q=a%20b"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    let cookie = answer.set_cookie();
    assert_eq!(status(&app, VISITOR, &cookie), 200);
    assert_eq!(app.get("/members").from(VISITOR).cookie(&cookie).send().status, 200, "guards let them in too");
    assert_eq!(app.verdict(VISITOR), Captcha, "without the cookie nothing has changed");
}

#[test]
fn the_provider_is_told_secret_answer_and_address() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let odd = "&secret=other&remoteip=192.0.2.1 +%26ü";
    solve(&app, VISITOR, Some(odd), "/");
    let seen = verify.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].form("secret").as_deref(), Some("end-to-end-captcha-secret"));
    assert_eq!(seen[0].form("response").as_deref(), Some(odd));
    assert_eq!(seen[0].form("remoteip").as_deref(), Some(VISITOR));
    assert!(seen[0].header("Cookie").is_none());
}

#[test]
fn a_missing_answer_meets_the_captcha_again() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    for response in [None, Some("")] {
        let answer = solve(&app, VISITOR, response, "/members");
        assert_eq!(answer.status, 403);
        assert_eq!(return_to(&answer), "/members", "the way back is not lost");
        assert!(answer.header("Set-Cookie").is_none());
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    }
    assert!(verify.seen().is_empty(), "the provider need not be asked");
}

#[test]
fn a_wrong_answer_meets_the_captcha_again() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let answer = solve(&app, VISITOR, Some("made up"), "/members?x=1");
    assert_eq!(answer.status, 403);
    assert_eq!(return_to(&answer), "/members?x=1");
    assert!(answer.header("Set-Cookie").is_none());
    assert!(!answer.text().contains("made up"));
}

#[test]
fn a_form_without_a_way_back_leads_to_the_index_page() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let form = app.request("POST", "/crowdsec/captcha").from(VISITOR).form(&[("g-recaptcha-response", SOLVED)]).send();
    assert_eq!((form.status, form.header("Location")), (303, Some("/")));
}

#[test]
fn posts_that_are_no_form_of_ours_are_answered_sanely() {
    let verify = FakeServer::start(provider);
    let (_lapi, app) = asking(&verify.url(), &[]);
    let post = || app.request("POST", "/crowdsec/captcha").from(VISITOR);
    let odd = [
        post(),
        post().body("application/x-www-form-urlencoded", "%%%=&&&==;"),
        post().body("application/x-www-form-urlencoded", "return_to=/a&return_to=/b&g-recaptcha-response="),
        post().body("multipart/form-data; boundary=x", "--x--"),
        post().body("application/json", r#"{"g-recaptcha-response":"a-solved-captcha"}"#),
        post().body("application/x-www-form-urlencoded", &format!("g-recaptcha-response={}", "x".repeat(300_000))),
    ];
    for request in odd {
        let answer = request.send();
        assert!((400..500).contains(&answer.status), "{}", answer.everything());
        assert!(answer.header("Set-Cookie").is_none());
    }
}

// --- the provider ---

/// The visitor is not let in: the captcha's page comes again with 503, since the answer cannot be checked now.
#[track_caller]
fn captcha_stands(verify_url: &str) {
    let (_lapi, app) = asking(verify_url, &[]);
    let answer = solve(&app, VISITOR, Some(SOLVED), "/members");
    assert_eq!(answer.status, 503, "{}", answer.everything());
    assert!(answer.header("Retry-After").is_some_and(|v| v.parse::<u32>().is_ok()), "{}", answer.everything());
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert!(answer.header("Set-Cookie").is_none());
    assert_eq!(return_to(&answer), "/members", "the visitor can try again");
    assert!(
        !answer.everything().contains("end-to-end-captcha-secret") && !app.log().contains("end-to-end-captcha-secret")
    );
}

#[test]
fn a_provider_that_cannot_be_reached_is_said_to_be_away() {
    captcha_stands(&format!("http://{}/", closed_port()));
}

#[test]
fn a_provider_that_never_answers_is_said_to_be_away() {
    captcha_stands(&FakeServer::start(|_| Reply::silence()).url());
}

#[test]
fn a_provider_whose_answer_is_cut_is_said_to_be_away() {
    captcha_stands(&FakeServer::start(|_| Reply::json(&json!({ "success": true })).cut()).url());
}

#[test]
fn a_provider_that_sends_elsewhere_is_not_followed() {
    let elsewhere = FakeServer::start(provider);
    let to = elsewhere.url();
    captcha_stands(&FakeServer::start(move |_| Reply::redirect(&to)).url());
    assert!(elsewhere.seen().is_empty(), "the secret must not travel: {:?}", elsewhere.seen());
}

// --- the session ---

#[test]
fn a_ban_that_comes_later_outweighs_the_solved_captcha() {
    let verify = FakeServer::start(provider);
    let (lapi, app) = asking(&verify.url(), &[]);
    let cookie = cookie(&app, VISITOR);
    assert_eq!(status(&app, VISITOR, &cookie), 200);
    lapi.ban(VISITOR);
    app.eventually(VISITOR, Ban);
    assert_eq!(status(&app, VISITOR, &cookie), 403);
    assert_eq!(solve(&app, VISITOR, Some(SOLVED), "/").status, 403, "and nothing is left to solve");
    lapi.revoke(&["--id", &lapi.ids(VISITOR)[0]]);
    app.eventually(VISITOR, Captcha);
    assert_eq!(status(&app, VISITOR, &cookie), 200);
}

// --- where it leads ---

#[test]
fn with_nothing_to_solve_the_captcha_leads_on() {
    let verify = FakeServer::start(provider);
    let (lapi, app) = asking(&verify.url(), &[]);
    let cookie = cookie(&app, VISITOR);
    for request in
        [app.get("/crowdsec/captcha").from(VISITOR).cookie(&cookie), app.get("/crowdsec/captcha").from("192.0.2.1")]
    {
        let answer = request.send();
        assert_eq!((answer.status, answer.header("Location")), (303, Some("/")));
    }
    let reloaded = app.request("POST", "/crowdsec/captcha").from(VISITOR).cookie(&cookie);
    let reloaded = reloaded.form(&[("return_to", "/members"), ("g-recaptcha-response", SOLVED)]).send();
    assert_eq!((reloaded.status, reloaded.header("Location")), (303, Some("/members")));
    lapi.revoke(&["--all"]);
    app.eventually(VISITOR, Welcome);
    assert_eq!(app.get("/crowdsec/captcha").from(VISITOR).send().status, 303);
}
