//! Do the application's own pages work under their security headers, and does a real browser enforce these headers?

use dev::{App, closed_port};
use serde_json::json;

use crate::browser::Browser;
use crate::{at, word};

#[test]
fn the_applications_own_pages_break_no_rule_of_their_own() {
    let browser = Browser::start();
    let nowhere = format!("http://{}/", closed_port());
    let connected = [("CROWDSEC_API_KEY", dev::KEY), ("CROWDSEC_API_URL", &nowhere)];
    for settings in [&[][..], &connected] {
        let app = App::start(settings);
        for target in
            ["/", "/members", "/sign-in", "/no/such/page", "/common.css", "/static/style.css", "/static/favicon.svg"]
        {
            browser.open(&at(&app, target));
            assert_eq!(browser.complaints(), Vec::<String>::new(), "{target}");
        }
        browser.open(&at(&app, "/sign-in"));
        let background = browser.run("return getComputedStyle(document.querySelector('button')).backgroundColor");
        assert_eq!(background, "rgb(29, 95, 90)", "the stylesheet is applied");
        browser.run("document.forms[0].user.value = 'a'; document.forms[0].password.value = 'b'");
        browser.click("button");
        browser.shows(&word("sign_in_failed"));
        assert_eq!(browser.complaints(), Vec::<String>::new(), "after a failed sign-in");
    }
}

#[test]
fn a_script_that_gets_into_one_of_the_applications_pages_does_not_run() {
    let (browser, app) = (Browser::start(), App::start(&[]));
    browser.open(&at(&app, "/"));
    // As if the page had shown a visitor's text unescaped.
    browser.run(
        "document.querySelector('main').innerHTML += `<img src='/no/such/picture' onerror='window.ran = 1'>`;
         const script = document.createElement('script'); script.textContent = 'window.ran = 2';
         const other = document.createElement('script'); other.src = 'https://elsewhere.example/';
         document.body.append(script, other);
         const style = document.createElement('style'); style.textContent = 'body { color: rgb(1, 2, 3) }';
         document.head.append(style)",
    );
    let told = browser.complaints();
    assert_eq!(told.iter().filter(|text| text.contains("Content Security Policy")).count(), 4, "{told:?}");
    assert_eq!(browser.run("return window.ran ?? null"), json!(null));
    let color = browser.run("return getComputedStyle(document.body).color");
    assert_ne!(color, "rgb(1, 2, 3)");
}
