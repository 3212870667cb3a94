//! What can a page elsewhere do in the name of the visitor who has it open? Send our forms, which is refused.

use std::path::PathBuf;
use std::{env, fs, process};

use dev::{App, FakeServer, Reply, eventually};

use crate::browser::Browser;
use crate::providers::{PROVIDERS, answer, asking_with, script_of};
use crate::{asking, word};

/// An application without decisions that notes events into a file of its own.
fn noting(name: &str) -> (App, PathBuf) {
    let file = env::temp_dir().join(format!("cross-site-{}-{name}", process::id()));
    let app = asking(&[("CROWDSEC_DECISIONS", "[]"), ("CROWDSEC_EVENT_LOG", file.to_str().expect("a plain path"))]);
    (app, file)
}

/// A page that sends a sign-in to this address as soon as it is open, with the trap filled in.
fn thief(sign_in: &str, around: impl Fn(&str) -> String) -> FakeServer {
    let form = format!(
        "<form method=post action={sign_in}><input name=user value=root><input name=password value=guess>\
         <input name=nickname value=Bob></form><script>document.forms[0].submit()</script>"
    );
    let page = around(&form);
    FakeServer::start(move |_| Reply::html(&page))
}

#[test]
fn a_form_of_another_origin_is_refused_and_not_noted() {
    let browser = Browser::at_a_shop();
    let (app, events) = noting("refused");
    let port = app.address().port();
    let plain = |form: &str| form.to_owned();
    // Another port of this machine is another origin of the same site; another name is another site.
    let of_this_machine = thief(&format!("http://127.0.0.1:{port}/sign-in"), plain);
    // Over plain HTTP browsers do not send `Sec-Fetch-Site`.
    let of_the_shop = thief(&format!("http://shop.example:{port}/sign-in"), plain);
    let at = |host: &str, server: &FakeServer| format!("http://{host}:{}/", server.address().port());
    for page in [
        at("127.0.0.1", &of_this_machine),
        at("evil.example", &of_this_machine),
        at("evil.example", &of_the_shop),
        at("evil.shop.example", &of_the_shop),
        at("shop.example", &of_the_shop),
    ] {
        browser.open(&page);
        browser.shows("422");
        assert!(browser.url().ends_with("/sign-in"), "{page} led to {}", browser.url());
    }
    // A sandbox hides the origin: `Origin: null`.
    let sandboxed = |form: &str| {
        let form = form.replace('<', "&lt;");
        format!("<iframe sandbox='allow-forms allow-scripts allow-top-navigation' srcdoc='{form}'></iframe>")
    };
    let hidden = thief(&format!("http://shop.example:{port}/sign-in target=_top"), sandboxed);
    browser.open(&at("evil.example", &hidden));
    browser.shows("422");

    // The application's own form works as before.
    for host in ["127.0.0.1", "shop.example"] {
        browser.open(&format!("http://{host}:{port}/sign-in"));
        fill(&browser, "guess");
        browser.shows("do not fit together");
        fill(&browser, "demo");
        browser.arrives_at(&format!("http://{host}:{port}/members"));
    }
    let noted = || fs::read_to_string(&events).unwrap_or_default();
    eventually("our own two failures are noted", || noted().lines().count() >= 2);
    assert_eq!(noted().matches("failed-sign-in").count(), 2, "{}", noted());
    assert!(!noted().contains("honeypot"), "{}", noted());
    let _ = fs::remove_file(&events);
}

#[test]
fn our_own_captcha_page_is_answered_on_plain_http_and_a_page_elsewhere_answers_nothing() {
    let browser = Browser::at_a_shop();
    let server = PROVIDERS[0].start();
    let app = asking_with(&PROVIDERS[0], &script_of(&server), &server.url());
    let shop = format!("http://shop.example:{}", app.address().port());
    let form = format!(
        "<form method=post action={shop}/crowdsec/captcha><input name=g-recaptcha-response value=guess></form>\
         <script>document.forms[0].submit()</script>"
    );
    let thief = FakeServer::start(move |_| Reply::html(&form));
    for _ in 0..2 {
        browser.open(&format!("http://evil.example:{}/", thief.address().port()));
        browser.shows(&word("problem_wrong"));
    }
    assert!(server.seen().iter().all(|seen| seen.form("response").is_none()), "nobody was asked about it");
    browser.open(&format!("{shop}/members"));
    answer(&browser);
    browser.arrives_at(&format!("{shop}/members"));
    browser.shows("You have been let in");
    app.tells("If it is your own site, let your proxy hand on `Host`", 1);
}

fn fill(browser: &Browser, password: &str) {
    browser.run(&format!(
        "document.forms[0].elements.user.value = 'demo'; document.forms[0].elements.password.value = '{password}'"
    ));
    browser.click("form button");
}
