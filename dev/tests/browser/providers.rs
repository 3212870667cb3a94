//! Does the page work with what the three other providers put into it? A server of the tests' own stands in for them.

use std::collections::HashSet;
use std::sync::Mutex;

use dev::{App, FakeServer, Reply, Seen, closed_port, eventually};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::{asking, at, word};

const WANTED: &str = "/members?page=2&q=a%20b%26c";
const SITE_KEY: &str = "the site's key";

pub struct Provider {
    pub name: &'static str,
    /// The class by which its script finds the widget.
    class: &'static str,
    /// What its script adds to the form.
    fields: &'static str,
}

pub const PROVIDERS: [Provider; 3] = [
    Provider {
        name: "recaptcha",
        class: "g-recaptcha",
        fields: "<textarea name='g-recaptcha-response' hidden></textarea>",
    },
    Provider {
        name: "hcaptcha",
        class: "h-captcha",
        // hCaptcha fills Google's field too, for sites that used reCAPTCHA before.
        fields: "<textarea name='h-captcha-response' hidden></textarea><textarea name='g-recaptcha-response' hidden></textarea>",
    },
    Provider { name: "turnstile", class: "cf-turnstile", fields: "<input type='hidden' name='cf-turnstile-response'>" },
];

impl Provider {
    /// Starts a server in place of the provider's. Its script puts a frame with a button into the widget, and hands the
    /// answer over as the real scripts do. The server calls each answer right once.
    pub fn start(&self) -> FakeServer {
        let script = r#"
            const server = new URL(document.currentScript.src).origin;
            for (const widget of document.querySelectorAll(".CLASS")) {
                const { sitekey, callback, language, theme } = widget.dataset;
                widget.insertAdjacentHTML("beforeend", "<iframe title='Widget'></iframe>FIELDS");
                const frame = widget.querySelector("iframe");
                frame.style.border = "0";
                frame.width = 304;
                frame.height = 78;
                frame.src = server + "/frame?" + new URLSearchParams({ sitekey, language, theme });
                addEventListener("message", (event) => {
                    if (event.origin !== server) return;
                    widget.querySelectorAll("[name]").forEach((field) => { field.value = event.data; });
                    window[callback](event.data);
                });
            }"#;
        let script = script.replace("CLASS", self.class).replace("FIELDS", self.fields);
        let frame = "<!doctype html><title>Widget</title><style>body { background: #eee; font: 16px sans-serif }</style>\
                     <button onclick=\"parent.postMessage('solved-' + Math.random(), '*')\">I am human</button>";
        let spent = Mutex::new(HashSet::new());
        FakeServer::start(move |seen| match seen.target.split('?').next() {
            Some("/api.js") => Reply::new(200, "text/javascript", script.clone()),
            Some("/frame") => Reply::html(frame),
            _ => Reply::json(&judged(seen, &mut spent.lock().unwrap())),
        })
    }
}

fn judged(seen: &Seen, spent: &mut HashSet<String>) -> Value {
    let answer = seen.form("response").unwrap_or_default();
    match answer.starts_with("solved-") {
        true if spent.insert(answer) => json!({ "success": true, "hostname": "127.0.0.1" }),
        true => json!({ "success": false, "error-codes": ["timeout-or-duplicate"] }),
        false => json!({ "success": false, "error-codes": ["invalid-input-response"] }),
    }
}

/// An application that asks the browser for this provider's captcha, with its servers at these addresses.
pub fn asking_with(provider: &Provider, script_url: &str, verify_url: &str) -> App {
    asking(&[
        ("CROWDSEC_CAPTCHA_PROVIDER", provider.name),
        ("CROWDSEC_CAPTCHA_DIFFICULTY", ""),
        ("CROWDSEC_CAPTCHA_SITE_KEY", SITE_KEY),
        ("CROWDSEC_CAPTCHA_SECRET_KEY", "the-secret-of-the-site"),
        ("CROWDSEC_CAPTCHA_SCRIPT_URL", script_url),
        ("CROWDSEC_CAPTCHA_VERIFY_URL", verify_url),
    ])
}

pub fn script_of(server: &FakeServer) -> String {
    format!("{}api.js", server.url())
}

/// Answers the question in the provider's frame.
#[track_caller]
pub fn answer(browser: &Browser) {
    eventually("the widget has come", || {
        browser.run("return document.querySelector('#widget iframe') !== null") == true
    });
    browser.enter_frame("#widget iframe");
    browser.click("button");
    browser.leave_frame();
}

#[test]
fn each_providers_widget_lets_its_visitor_in() {
    let browser = Browser::start();
    for provider in &PROVIDERS {
        let server = provider.start();
        let app = asking_with(provider, &script_of(&server), &server.url());
        browser.open(&at(&app, WANTED));
        browser.shows(&word("captcha_title"));
        answer(&browser);
        browser.arrives_at(&at(&app, WANTED));
        browser.shows("You have been let in");
        let frame = server.seen().into_iter().find(|seen| seen.target.starts_with("/frame")).expect("the frame");
        assert_eq!(frame.query("sitekey").as_deref(), Some(SITE_KEY), "{}", provider.name);
        assert_eq!(frame.query("language").as_deref(), Some("en"));
        // Cookies know no ports, so the next application would get the cookies of this application.
        browser.forget_cookies();
        assert_eq!(browser.complaints(), Vec::<String>::new(), "{}", provider.name);
    }
}

#[test]
fn a_visitor_who_has_not_answered_yet_is_asked_to() {
    let browser = Browser::start();
    for provider in &PROVIDERS {
        let server = provider.start();
        let app = asking_with(provider, &script_of(&server), &server.url());
        browser.open(&at(&app, WANTED));
        browser.click("form button");
        browser.shows(&word("problem_missing"));
        answer(&browser);
        browser.arrives_at(&at(&app, WANTED));
        browser.shows("You have been let in");
        browser.forget_cookies();
    }
}

#[test]
fn an_answer_that_was_used_before_is_told_kindly() {
    let browser = Browser::start();
    for provider in &PROVIDERS {
        let server = provider.start();
        let app = asking_with(provider, &script_of(&server), &server.url());
        browser.open(&at(&app, WANTED));
        answer(&browser);
        browser.arrives_at(&at(&app, WANTED));
        browser.shows("You have been let in");
        browser.forget_cookies();
        let spent = server.seen().iter().find_map(|seen| seen.form("response")).expect("an answer");
        browser.open(&at(&app, WANTED));
        eventually("the widget", || browser.run("return document.querySelector('#widget [name]') !== null") == true);
        browser.run(&format!(
            "document.querySelectorAll('#widget [name]').forEach((field) => {{ field.value = '{spent}' }}); captchaAnswered()"
        ));
        browser.shows(&word("problem_expired"));
        answer(&browser);
        browser.arrives_at(&at(&app, WANTED));
        browser.shows("You have been let in");
        browser.forget_cookies();
    }
}

#[test]
fn a_script_that_cannot_be_loaded_is_said_to_be_missing() {
    let browser = Browser::start();
    for provider in &PROVIDERS {
        let nowhere = format!("http://{}/api.js", closed_port());
        let app = asking_with(provider, &nowhere, &nowhere);
        browser.open(&at(&app, WANTED));
        browser.shows(&word("widget_away"));
    }
}

#[test]
fn a_provider_that_cannot_be_asked_keeps_the_captcha_standing() {
    let (browser, provider) = (Browser::start(), &PROVIDERS[0]);
    let server = provider.start();
    let app = asking_with(provider, &script_of(&server), &format!("http://{}/", closed_port()));
    browser.open(&at(&app, WANTED));
    answer(&browser);
    browser.shows(&word("problem_away"));
    browser.open(&at(&app, WANTED));
    browser.shows(&word("captcha_title"));
}
