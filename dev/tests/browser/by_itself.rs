//! When does the captcha of our own start by itself, and for whom does it wait?

use dev::{App, eventually};
use serde_json::json;

use crate::altcha::{WANTED, arrived, quiet, send, solve};
use crate::browser::Browser;
use crate::{asking, at, word};

#[test]
fn whoever_has_nothing_to_read_or_decide_first_is_let_in_without_a_click() {
    let (browser, app) = (Browser::that_moves(), asking(&[]));
    browser.open(&at(&app, WANTED));
    arrived(&browser, &app, WANTED);
    quiet(&browser);
}

#[test]
fn while_it_works_by_itself_the_page_says_so_and_shows_no_button() {
    let (browser, app) = (Browser::that_moves(), asking(&[("CROWDSEC_CAPTCHA_DIFFICULTY", "2000000000")]));
    browser.open(&at(&app, WANTED));
    browser.shows(&word("altcha_working"));
    let text = browser.text();
    assert!(text.contains(&word("altcha_text")) && !text.contains(&word("altcha_start")), "{text}");
}

#[test]
fn nothing_starts_by_itself_for_those_who_have_something_to_read_or_want_no_motion_or_keep_no_cookies() {
    let waits = |browser: &Browser| {
        browser.shows(&word("altcha_start"));
        // A captcha that starts by itself would have started in the next frame.
        browser.run_async("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))");
        assert!(browser.text().contains(&word("altcha_start")), "{}", browser.text());
        assert!(!browser.text().contains(&word("altcha_working")), "{}", browser.text());
    };
    let app = asking(&[]);
    let still = Browser::start();
    still.open(&at(&app, WANTED));
    waits(&still);
    // This browser moves and has storage, as within other applications: only the missing cookies make the captcha wait.
    let forgetful = Browser::that_moves();
    let none = "Object.defineProperty(Document.prototype, 'cookie', { get: () => '', set: () => {} });
                Object.defineProperty(Navigator.prototype, 'cookieEnabled', { get: () => false });";
    forgetful.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": none }));
    forgetful.open(&at(&app, WANTED));
    waits(&forgetful);

    // The preview for an owner who edits the page, a form that was not sent, a wrong answer.
    let browser = Browser::that_moves();
    browser.open(&at(&App::start(&[]), "/crowdsec/preview/captcha"));
    waits(&browser);
    browser.open("about:blank");
    browser.run("document.body.innerHTML = `<form method=post></form>`");
    browser.run(&format!("document.forms[0].action = '{}'; document.forms[0].submit()", at(&app, WANTED)));
    browser.shows(&word("not_sent"));
    waits(&browser);
    send(&browser, "nonsense");
    browser.shows(&word("problem_wrong"));
    waits(&browser);
}

#[test]
fn a_tab_that_is_first_looked_at_after_an_hour_in_the_background_starts_with_a_fresh_captcha() {
    let (browser, app) = (Browser::that_moves(), asking(&[]));
    let in_the_background =
        "if (!sessionStorage.getItem('looked-at')) window.requestAnimationFrame = (show) => (window.look = () => {
        sessionStorage.setItem('looked-at', 'yes');
        sessionStorage.removeItem('captcha-started');
        const now = Date.now;
        Date.now = () => now() + 3600e3;
        show();
    })";
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", json!({ "source": in_the_background }));
    browser.open(&at(&app, WANTED));
    eventually("the page waits to be seen", || browser.run("return typeof window.look") == "function");
    browser.run("look()");
    arrived(&browser, &app, WANTED);
}

#[test]
fn a_captcha_that_comes_again_at_once_waits_for_its_button() {
    // Without its cookie the browser is like a visitor whose address changes with each request: no pass holds.
    let (browser, app) = (Browser::that_moves(), asking(&[]));
    browser.open(&at(&app, WANTED));
    arrived(&browser, &app, WANTED);
    browser.forget_cookies();
    browser.open(&at(&app, WANTED));
    browser.shows(&word("altcha_start"));
    solve(&browser);
    arrived(&browser, &app, WANTED);
}
