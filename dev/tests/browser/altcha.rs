//! Does the captcha of our own let real visitors through, whatever they and their browsers do?

use dev::{App, FakeServer, Lapi, Reply, Verdict, closed_port, eventually};
use serde_json::json;
use thirtyfour::Key;

use crate::browser::Browser;
use crate::providers::{PROVIDERS, asking_with, script_of};
use crate::{VISITOR, asking, at, word, words};

/// Has a query that decoding or cutting would break.
pub const WANTED: &str = "/members?page=2&q=a%20b%26c&next=%2Felse";

/// Altcha as it comes, with the default difficulty.
pub const ALTCHA: [(&str, &str); 3] =
    [("CROWDSEC_CAPTCHA_PROVIDER", "altcha"), ("CROWDSEC_CAPTCHA_SITE_KEY", ""), ("CROWDSEC_CAPTCHA_SECRET_KEY", "")];

#[track_caller]
pub fn solve(browser: &Browser) {
    browser.click("#start");
}

/// The page that the visitor wanted has come, at its own address.
#[track_caller]
pub fn arrived(browser: &Browser, app: &App, target: &str) {
    browser.arrives_at(&at(app, target));
    browser.shows("You have been let in");
}

#[track_caller]
pub fn quiet(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Sends the form with this answer, past the page's own script.
#[track_caller]
pub fn send(browser: &Browser, answer: &str) {
    browser.run(&format!(
        "document.getElementById('answer').value = '{answer}'; HTMLFormElement.prototype.submit.call(document.forms[0])"
    ));
}

/// From the decision of a real CrowdSec to the page that was wanted, and on to the ban.
fn whole_story(browser: &Browser) {
    let lapi = Lapi::start();
    let app = App::polling(lapi.url(), &ALTCHA);
    browser.open(&at(&app, WANTED));
    arrived(browser, &app, WANTED);

    lapi.captcha(VISITOR);
    app.eventually(VISITOR, Verdict::Captcha);
    browser.open(&at(&app, WANTED));
    browser.shows(&word("captcha_title"));
    assert_eq!(browser.url(), at(&app, WANTED), "the captcha stands at the address asked for");
    solve(browser);
    arrived(browser, &app, WANTED);
    for target in ["/members", "/"] {
        browser.open(&at(&app, target));
        assert!(!browser.text().contains(&word("captcha_title")), "once is enough: {}", browser.text());
    }
    browser.shows("you have solved it");
    quiet(browser);

    lapi.ban(VISITOR);
    app.eventually(VISITOR, Verdict::Ban);
    browser.open(&at(&app, WANTED));
    browser.shows(&word("ban_title"));
    quiet(browser);
}

#[test]
fn a_visitor_solves_the_captcha_goes_on_to_the_page_they_wanted_and_is_banned_later() {
    whole_story(&Browser::start());
}

#[test]
fn a_visitor_with_a_phone_solves_the_captcha_goes_on_to_the_page_they_wanted_and_is_banned_later() {
    whole_story(&Browser::phone());
}

#[test]
fn the_keyboard_alone_will_do() {
    let (browser, app) = (Browser::start(), asking(&[]));
    browser.open(&at(&app, WANTED));
    browser.press(Key::Tab);
    browser.press(Key::Enter);
    arrived(&browser, &app, WANTED);
}

#[test]
fn it_works_on_plain_http_where_browsers_offer_no_cryptography() {
    let (browser, app) = (Browser::knowing("shop.example"), asking(&[]));
    let wanted = format!("http://shop.example:{}{WANTED}", app.address().port());
    browser.open(&wanted);
    assert_eq!(browser.run("return [isSecureContext, typeof crypto.subtle]"), json!([false, "undefined"]));
    solve(&browser);
    browser.arrives_at(&wanted);
    browser.shows("You have been let in");
    quiet(&browser);
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let (browser, app) = (Browser::start(), asking(&[]));
    browser.open(&at(&app, WANTED));
    let loaded = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
    assert!(loaded.as_array().unwrap().iter().all(|url| url.as_str().unwrap().starts_with("data:")), "{loaded}");
    quiet(&browser);
}

#[test]
fn a_script_from_elsewhere_is_not_run_and_the_browser_says_so() {
    let (browser, app) = (Browser::start(), asking(&[]));
    let elsewhere = FakeServer::start(|_| Reply::new(200, "text/javascript", "document.title = 'taken over'"));
    browser.open(&at(&app, WANTED));
    browser.run(&format!(
        "const script = document.createElement('script'); script.src = '{}'; document.head.append(script);",
        elsewhere.url()
    ));
    browser.run("const script = document.createElement('script'); script.text = 'document.title = 1'; document.head.append(script);");
    assert!(browser.title().starts_with(&word("captcha_title")));
    assert!(elsewhere.seen().is_empty());
    let complaints = browser.complaints();
    assert_eq!(complaints.iter().filter(|c| c.contains("Content Security Policy")).count(), 2, "{complaints:?}");
}

#[test]
fn no_other_site_can_put_the_pages_into_a_frame() {
    let browser = Browser::start();
    for kind in ["captcha", "ban"] {
        let decision = format!(r#"[{{ value = "127.0.0.1", type = "{kind}" }}]"#);
        let app = asking(&[("CROWDSEC_DECISIONS", &decision)]);
        let framed = format!("<iframe src='{}'></iframe>", at(&app, WANTED));
        let thief = FakeServer::start(move |_| Reply::html(&framed));
        browser.open(&thief.url());
        browser.enter_frame("iframe");
        assert_eq!(browser.text().find(&word(&format!("{kind}_title"))), None);
        browser.leave_frame();
        let complaints = browser.complaints();
        assert!(complaints.iter().any(|c| c.contains("frame-ancestors")), "{complaints:?}");
    }
}

// --- what a browser lacks ---

#[test]
fn without_javascript_the_visitor_is_told_first_what_is_needed_and_meets_no_dead_button() {
    let browser = Browser::without_javascript();
    let server = PROVIDERS[0].start();
    for app in [asking(&[]), asking_with(&PROVIDERS[0], &script_of(&server), &server.url())] {
        browser.open(&at(&app, WANTED));
        let text = browser.text();
        let below_the_title = text.split_once(&word("captcha_title")).expect("the title").1;
        assert!(below_the_title.trim_start().starts_with(&word("no_javascript")), "{text}");
        for button in [word("altcha_start"), word("go_on"), word("altcha_text")] {
            assert!(!text.contains(&button), "{text}");
        }
        // The one button asks again for the page that was wanted.
        browser.click(".button");
        browser.shows(&word("no_javascript"));
        assert_eq!(browser.url(), at(&app, WANTED));
    }
}

#[test]
fn with_javascript_nobody_is_told_to_switch_it_on() {
    let (browser, app) = (Browser::start(), asking(&[]));
    browser.open(&at(&app, WANTED));
    browser.shows(&word("altcha_start"));
    assert!(!browser.text().contains(&word("no_javascript")), "{}", browser.text());
}

// --- what visitors do ---

#[test]
fn a_page_that_was_open_for_too_long_offers_to_start_again() {
    let (browser, app) = (Browser::start(), asking(&[]));
    browser.open(&at(&app, WANTED));
    // The page's clock is put forward, as after a night's sleep.
    browser.run("const now = Date.now; Date.now = () => now() + 3600e3");
    solve(&browser);
    browser.shows(&word("altcha_expired"));
    assert_eq!(
        browser.run("return document.activeElement.closest('#again') !== null"),
        true,
        "the way on has the focus"
    );
    browser.press(Key::Enter);
    eventually("a fresh page", || browser.run("return Date.now.toString().includes('native code')") == true);
    solve(&browser);
    arrived(&browser, &app, WANTED);
}

#[test]
fn an_answer_that_comes_too_late_is_told_kindly() {
    // A challenge lives half as long as a pass.
    let (browser, app) = (Browser::start(), asking(&[("CROWDSEC_CAPTCHA_EXPIRATION", "8s")]));
    browser.open(&at(&app, WANTED));
    browser.run(
        "window.send = HTMLFormElement.prototype.submit;
         HTMLFormElement.prototype.submit = function () { window.held = this.elements.altcha.value }",
    );
    solve(&browser);
    eventually("the captcha is solved", || browser.run("return typeof window.held") == "string");
    let held = browser.run("return window.held");
    let form = [("return_to", "/"), ("altcha", held.as_str().expect("an answer"))];
    eventually("it is too late", || app.request("POST", "/crowdsec/captcha").form(&form).send().status == 403);
    browser.run("send.call(document.forms[0])");
    browser.shows(&word("problem_expired"));
    solve(&browser);
    arrived(&browser, &app, WANTED);
}

// --- languages ---

#[test]
fn the_pages_speak_the_visitors_language() {
    for (wishes, tag) in [("fr-CH,fr", "fr"), ("de-AT,de", "de"), ("es-MX,es", "es"), ("it", "en")] {
        let browser = Browser::speaking(wishes);
        let captcha = asking(&[]);
        browser.open(&at(&captcha, WANTED));
        browser.shows(&words(tag, "captcha_title"));
        browser.shows(&words(tag, "altcha_start"));
        assert_eq!(browser.attribute("html", "lang").as_deref(), Some(tag));
        let ban = asking(&[("CROWDSEC_DECISIONS", r#"[{ value = "127.0.0.1", type = "ban" }]"#)]);
        browser.open(&at(&ban, WANTED));
        browser.shows(&words(tag, "ban_title"));
        assert_eq!(browser.attribute("html", "lang").as_deref(), Some(tag));
        let closed = format!("http://{}/", closed_port());
        let starting = asking(&[
            ("CROWDSEC_API_KEY", dev::KEY),
            ("CROWDSEC_API_URL", &closed),
            ("CROWDSEC_ON_STARTUP_FAILURE", "closed"),
            ("CROWDSEC_STARTUP_TIMEOUT", "1s"),
            ("CROWDSEC_DECISIONS", "[]"),
        ]);
        browser.open(&at(&starting, WANTED));
        browser.shows(&words(tag, "starting_title"));
        assert_eq!(browser.attribute("html", "lang").as_deref(), Some(tag));
    }
}
