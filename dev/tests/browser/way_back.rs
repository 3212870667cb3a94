//! Where does a solved captcha lead, and what does the browser remember of the way?

use dev::{App, Folder, Lapi, Verdict};

use crate::altcha::{ALTCHA, WANTED, arrived, quiet, send, solve};
use crate::browser::Browser;
use crate::providers::{PROVIDERS, answer, asking_with, script_of};
use crate::{VISITOR, asking, at, word};

#[test]
fn of_two_tabs_each_leads_to_its_own_page() {
    let (browser, app) = (Browser::start(), asking(&[]));
    browser.open(&at(&app, "/members?tab=1"));
    let first = browser.tab();
    let second = browser.new_tab();
    browser.open(&at(&app, "/members?tab=2"));
    browser.look_at(&first);
    solve(&browser);
    arrived(&browser, &app, "/members?tab=1");
    browser.look_at(&second);
    browser.shows(&word("captcha_title"));
    solve(&browser);
    arrived(&browser, &app, "/members?tab=2");
}

#[test]
fn the_back_button_leads_to_no_captcha_that_was_solved() {
    let (browser, app) = (Browser::start(), asking(&[]));
    browser.open(&at(&app, "/members?came=from"));
    browser.open(&at(&app, WANTED));
    solve(&browser);
    arrived(&browser, &app, WANTED);
    for _ in 0..2 {
        browser.back();
        browser.shows("You have been let in");
    }
}

/// The first press of the Back button leads to where the visitor came from.
#[test]
fn the_captcha_leaves_no_entry_of_its_own_in_the_history() {
    let browser = Browser::start();
    let server = PROVIDERS[0].start();
    let third = || asking_with(&PROVIDERS[0], &script_of(&server), &server.url());
    for (app, is_ours, fragment) in [(asking(&[]), true, ""), (asking(&[]), true, "#reviews"), (third(), false, "")] {
        // A page without an icon, which the browser would still ask for when this application is gone.
        let before = "about:blank";
        browser.open(before);
        browser.open(&at(&app, &format!("{WANTED}{fragment}")));
        browser.shows(&word("captcha_title"));
        let entries = || browser.run("return history.length");
        let with_the_captcha = entries();
        if is_ours {
            solve(&browser)
        } else {
            answer(&browser)
        };
        arrived(&browser, &app, &format!("{WANTED}{fragment}"));
        assert_eq!(entries(), with_the_captcha);
        quiet(&browser);
        browser.back();
        assert_eq!(browser.url(), before);
        browser.forget_cookies();
    }
}

#[test]
fn a_wrong_answer_that_is_sent_again_by_reloading_changes_nothing() {
    let (browser, app) = (Browser::start(), asking(&[]));
    browser.open(&at(&app, WANTED));
    send(&browser, "nonsense");
    browser.shows(&word("problem_wrong"));
    browser.reload();
    browser.shows(&word("problem_wrong"));
    solve(&browser);
    arrived(&browser, &app, WANTED);
    quiet(&browser);
}

#[test]
fn a_wrong_answer_that_is_sent_again_after_another_tab_solved_the_captcha_leads_on() {
    let (browser, app) = (Browser::start(), asking(&[]));
    browser.open(&at(&app, WANTED));
    send(&browser, "nonsense");
    browser.shows(&word("problem_wrong"));
    let first = browser.tab();
    browser.new_tab();
    browser.open(&at(&app, "/members"));
    solve(&browser);
    arrived(&browser, &app, "/members");
    browser.look_at(&first);
    browser.reload();
    arrived(&browser, &app, WANTED);
}

#[test]
fn a_form_that_met_the_captcha_is_said_not_to_have_been_sent() {
    let lapi = Lapi::start();
    let (browser, app) = (Browser::start(), App::polling(lapi.url(), &ALTCHA));
    browser.open(&at(&app, WANTED));
    lapi.captcha(VISITOR);
    app.eventually(VISITOR, Verdict::Captcha);
    browser.run("document.body.innerHTML = `<form method=post action=/members/send><input name=text value=hello></form>`; document.forms[0].submit()");
    browser.shows(&word("not_sent"));
    solve(&browser);
    // The way back is the page that the form was on.
    arrived(&browser, &app, WANTED);
}

/// Browsers never send the server what stands behind #.
#[test]
fn the_way_back_keeps_the_fragment() {
    let lapi = Lapi::start();
    lapi.captcha(VISITOR);
    let (browser, app) = (Browser::start(), App::polling(lapi.url(), &ALTCHA));
    app.eventually(VISITOR, Verdict::Captcha);
    let wanted = format!("{WANTED}#reviews");
    browser.open(&at(&app, &wanted));
    solve(&browser);
    // The captcha stands at the address asked for, so that the address tells nothing before the page is another one.
    browser.shows("You have been let in");
    assert_eq!(browser.url(), at(&app, &wanted));
}

/// The address is one that the server would not put into a header.
#[test]
fn the_captcha_leads_to_a_long_address_too() {
    let (browser, app) = (Browser::start(), asking(&[]));
    let wanted = format!("/members?state={}", "x".repeat(3000));
    browser.open(&at(&app, &wanted));
    solve(&browser);
    arrived(&browser, &app, &wanted);
}

/// A browser stays on the page when it gets a file to save.
#[test]
fn after_a_download_the_page_offers_a_way_on() {
    let folder = Folder::of_the_application();
    folder.write("static/archive.zip", "PK");
    let mut command = dev::command(&[
        ("CROWDSEC_DECISIONS", r#"[{ value = "127.0.0.1", type = "captcha" }]"#),
        ("CROWDSEC_CAPTCHA_PROVIDER", "altcha"),
        ("CROWDSEC_CAPTCHA_DIFFICULTY", "20000"),
    ]);
    command.current_dir(&folder);
    let app = App::launched(command).unwrap_or_else(|ended| panic!("{}", ended.log));
    let browser = Browser::start();
    for target in ["/static/archive.zip", "/static/archive.zip#page=2"] {
        browser.open(&at(&app, target));
        solve(&browser);
        browser.shows(&word("altcha_again"));
        let again = browser.attribute("#again a", "href");
        assert_eq!(again.as_deref(), Some("/static/archive.zip"), "as often as it is wanted");
        browser.shows(&word("altcha_done"));
        browser.forget_cookies();
    }
}

// --- time ---
