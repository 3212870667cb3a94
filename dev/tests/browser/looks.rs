//! How do the pages look, and can everybody use them? Each page in each of its states: axe-core finds nothing, nothing
//! sticks out, and with PICTURES=1 a picture is left in target/screenshots.

use std::path::PathBuf;
use std::{env, fs};

use dev::{App, Folder, Lapi, Verdict, closed_port, eventually, root};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::providers::{PROVIDERS, answer, asking_with, script_of};
use crate::{VISITOR, asking, at, word, words};

pub const BANNED: (&str, &str) = ("CROWDSEC_DECISIONS", r#"[{ value = "127.0.0.1", type = "ban" }]"#);

/// In pixels, from the smallest phone, or a desk at 400 %, to a large screen.
pub const WIDTHS: [u32; 5] = [320, 390, 768, 1280, 1920];
/// One width for each layout: the smallest phone, a width between, and a desk. Axe-core looks at these, and pictures show
/// these; whether anything sticks out is checked at every width.
pub const LAYOUTS: [u32; 3] = [320, 768, 1280];

/// Looks at the page as it stands: from a phone to a large screen, in light, in dark, with a visitor's own colours, with
/// letters of twice the size, and printed.
#[track_caller]
pub fn look(browser: &Browser, name: &str) {
    browser.run(&fs::read_to_string(axe()).expect("axe-core, which dev/setup fetches"));
    for (scheme, feature, value) in [
        ("light", "prefers-color-scheme", "light"),
        ("dark", "prefers-color-scheme", "dark"),
        ("forced", "forced-colors", "active"),
    ] {
        emulate(browser, json!({ "features": [{ "name": feature, "value": value }] }));
        for width in WIDTHS {
            let view = format!("{name}-{width}-{scheme}");
            fits(browser, width, &view);
            if scheme == "forced" {
                assert_eq!(without_a_shape(browser), json!([]), "{view}");
            }
            if LAYOUTS.contains(&width) {
                photograph(browser, &view);
            }
            if LAYOUTS.contains(&width) && scheme != "forced" {
                assert_eq!(violations(browser), json!([]), "{view}");
            }
        }
    }
    emulate(browser, json!({ "media": "print", "features": [{ "name": "forced-colors", "value": "none" }] }));
    fits(browser, 794, &format!("{name}-print"));
    photograph(browser, &format!("{name}-print"));
    emulate(browser, json!({ "media": "" }));
    write_in(browser, 200);
    for width in WIDTHS {
        let view = format!("{name}-{width}-text-200");
        fits(browser, width, &view);
        if LAYOUTS.contains(&width) {
            photograph(browser, &view);
        }
    }
    write_in(browser, 100);
    browser.devtools("Emulation.clearDeviceMetricsOverride", json!({}));
}

/// What axe-core finds.
#[track_caller]
fn violations(browser: &Browser) -> Value {
    browser.run_async(
        "const done = arguments[arguments.length - 1];
         axe.run(document, { resultTypes: ['violations'], iframes: false }).then((results) => done(
           results.violations.map(({ id, help, nodes }) => [id, help, ...nodes.map((node) => node.html)])));",
    )
}

fn emulate(browser: &Browser, media: Value) {
    browser.devtools("Emulation.setEmulatedMedia", media);
}

/// Letters of this size in percent, as a visitor sets it for all pages.
fn write_in(browser: &Browser, percent: u32) {
    let pixels = 16 * percent / 100;
    browser.devtools("Page.setFontSizes", json!({ "fontSizes": { "standard": pixels, "fixed": pixels } }));
}

/// Gives the page this width, and the height that it needs; nothing may stick out to the side.
#[track_caller]
fn fits(browser: &Browser, width: u32, view: &str) {
    browser.resize(width, 844);
    let size = browser.run("return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]");
    assert!(size[0].as_u64() <= Some(width.into()), "{view} sticks out: {size}");
    browser.resize(width, size[1].as_u64().map_or(844, |height| height.max(844) as u32));
}

/// The buttons and fields that a visitor with colours of their own cannot tell from text: they have no visible border.
fn without_a_shape(browser: &Browser) -> Value {
    browser.run(
        "return [...document.querySelectorAll('button, .button, input, textarea')].filter((it) => it.checkVisibility()).filter((it) => {
           const { borderTopWidth, borderTopColor, borderTopStyle } = getComputedStyle(it);
           return parseFloat(borderTopWidth) < 1 || borderTopStyle === 'none' || borderTopColor === getComputedStyle(document.body).backgroundColor
             || /^rgba\\(.*, 0\\)$/.test(borderTopColor);
         }).map((it) => it.outerHTML)",
    )
}

pub fn axe() -> PathBuf {
    root().join("target/axe-core/package/axe.min.js")
}

/// The file for a picture of this view, if PICTURES is set. No test needs pictures, and writing some hundreds takes a minute.
pub fn picture_of(view: &str) -> Option<PathBuf> {
    env::var_os("PICTURES")?;
    let folder = root().join("target/screenshots");
    fs::create_dir_all(&folder).expect("a folder for pictures");
    Some(folder.join(format!("{view}.png")))
}

fn photograph(browser: &Browser, view: &str) {
    picture_of(view).iter().for_each(|file| browser.photograph(file));
}

#[test]
fn axe_finds_what_is_wrong() {
    let (browser, app) = (Browser::start(), asking(&[]));
    browser.open(&at(&app, "/"));
    browser.run("document.documentElement.lang = ''; document.querySelector('button').textContent = ''");
    browser.run(&fs::read_to_string(axe()).expect("axe-core, which dev/setup fetches"));
    let found = browser.run_async(
        "axe.run(document).then((results) => arguments[0](results.violations.map((violation) => violation.id)))",
    );
    let found = found.as_array().expect("a list");
    assert!(found.contains(&json!("html-has-lang")) && found.contains(&json!("button-name")), "{found:?}");
}

#[test]
fn the_applications_own_pages() {
    let browser = Browser::start();
    let app = App::start(&[]);
    let pages =
        [("index-unconnected", "/"), ("members", "/members"), ("sign-in", "/sign-in"), ("error-404", "/no/such/page")];
    for (name, target) in pages {
        browser.open(&at(&app, target));
        look(&browser, name);
    }
    browser.open(&at(&app, "/sign-in"));
    // An owner's further kinds of fields look like the rest.
    browser.run("document.querySelector('button').insertAdjacentHTML('beforebegin', '<label>Message <textarea name=m></textarea></label>')");
    look(&browser, "sign-in-textarea");
    let [text, field] = ["textarea", "[name=user]"].map(|it| {
        browser.run(&format!("const style = getComputedStyle(document.querySelector('{it}')); return [style.font, style.border, style.width, style.backgroundColor]"))
    });
    assert_eq!(text, field);
    browser.run("document.forms[0].user.value = 'a'; document.forms[0].password.value = 'b'");
    browser.click("button");
    browser.shows(&word("sign_in_failed"));
    look(&browser, "sign-in-failed");
    let lapi = Lapi::start();
    let settings =
        [("CROWDSEC_CAPTCHA_PROVIDER", ""), ("CROWDSEC_CAPTCHA_SITE_KEY", ""), ("CROWDSEC_CAPTCHA_SECRET_KEY", "")];
    let app = App::polling(lapi.url(), &settings);
    browser.open(&at(&app, "/"));
    look(&browser, "index-connected");
    lapi.captcha(VISITOR);
    app.eventually(VISITOR, Verdict::Captcha);
    browser.open(&at(&app, "/"));
    browser.click("#start");
    browser.shows("captcha on 127.0.0.1");
    look(&browser, "index-captcha-solved");
    lapi.kill();
    eventually("CrowdSec is missed", || {
        browser.reload();
        browser.text().contains("not answering")
    });
    look(&browser, "index-lapi-lost");
    let key = ("ROCKET_SECRET_KEY", "hPrYyOvfhTrXYvn0pAmqtnjPJ0LuZ4cl4k8cBEuyNHs=");
    let app = App::start(&[
        ("ROCKET_PROFILE", "release"),
        key,
        ("CROWDSEC_API_KEY", dev::KEY),
        ("CROWDSEC_API_URL", lapi.url()),
    ]);
    browser.open(&at(&app, "/"));
    look(&browser, "index-release");
}

#[test]
fn nobody_sees_hears_or_reaches_the_trap_of_the_sign_in_form_at_any_width_and_size_of_text() {
    let (browser, app) = (Browser::start(), App::start(&[]));
    for forced_colours in ["none", "active"] {
        emulate(&browser, json!({ "features": [{ "name": "forced-colors", "value": forced_colours }] }));
        for (width, text) in WIDTHS.iter().flat_map(|width| [100, 150, 200, 400].map(|text| (*width, text))) {
            let view = format!("{width} px, text of {text} %, forced colours {forced_colours}");
            browser.resize(width, 844);
            write_in(&browser, text);
            browser.open(&at(&app, "/sign-in"));
            let seen = browser.run(
                "return [...document.querySelectorAll('.trap, .trap *')].flatMap((part) => [...part.getClientRects()])
                   .filter((box) => box.right > 0 && box.left < innerWidth && box.width > 1 && box.height > 1).length",
            );
            assert_eq!(seen, json!(0), "{view}");
            let reached = browser.run(
                "const trap = document.querySelector('[name=nickname]'); trap.focus();
                 return [trap.labels.length, document.activeElement === trap, innerText_has(trap.labels[0])];
                 function innerText_has(label) { return document.body.innerText.includes(label.textContent.trim()) }",
            );
            assert_eq!(reached, json!([1, false, false]), "{view}");
        }
    }
    let heard = browser.devtools("Accessibility.getFullAXTree", json!({})).to_string();
    assert!(heard.contains("Password") && !heard.contains("Nickname"), "{heard}");
    // Programs that read the form find the trap all the same.
    assert!(app.get("/sign-in").send().text().contains("name=\"nickname\""));
}

#[test]
fn the_ban_the_start_and_the_previews() {
    let browser = Browser::start();
    let app = asking(&[BANNED]);
    browser.open(&at(&app, "/members"));
    look(&browser, "ban");
    let closed = format!("http://{}/", closed_port());
    let starting = asking(&[
        ("CROWDSEC_API_KEY", dev::KEY),
        ("CROWDSEC_API_URL", &closed),
        ("CROWDSEC_ON_STARTUP_FAILURE", "closed"),
        ("CROWDSEC_STARTUP_TIMEOUT", "1s"),
        ("CROWDSEC_DECISIONS", "[]"),
    ]);
    browser.open(&at(&starting, "/members"));
    look(&browser, "starting");
    let app = App::start(&[]);
    for page in ["ban", "captcha"] {
        browser.open(&at(&app, &format!("/crowdsec/preview/{page}")));
        look(&browser, &format!("preview-{page}"));
    }
}

#[test]
fn the_captcha_while_it_is_solved() {
    let browser = Browser::start();
    let app = asking(&[]);
    browser.open(&at(&app, "/members"));
    look(&browser, "altcha");
    browser.run("HTMLFormElement.prototype.submit = () => {}");
    browser.click("#start");
    browser.shows(&word("altcha_done"));
    look(&browser, "altcha-done");

    browser.open(&at(&app, "/members"));
    browser.run("const now = Date.now; Date.now = () => now() + 3600e3");
    browser.click("#start");
    browser.shows(&word("altcha_expired"));
    look(&browser, "altcha-expired");

    browser.open(&at(&app, "/members"));
    browser.run("challenge.parameters.algorithm = 'one that is yet to come'");
    browser.click("#start");
    browser.shows(&word("altcha_failed"));
    look(&browser, "altcha-failed");

    let app = asking(&[("CROWDSEC_CAPTCHA_DIFFICULTY", "2000000000")]);
    browser.open(&at(&app, "/members"));
    browser.click("#start");
    browser.shows(&word("altcha_working"));
    look(&browser, "altcha-working");
}

#[test]
fn the_captcha_when_something_went_wrong() {
    let browser = Browser::start();
    let app = asking(&[]);
    let send = |answer: &str| {
        browser.open(&at(&app, "/members"));
        browser.run(&format!(
            "document.getElementById('answer').value = '{answer}'; HTMLFormElement.prototype.submit.call(document.forms[0])"
        ));
    };
    send("");
    browser.shows(&word("problem_missing"));
    look(&browser, "problem-missing");
    send("nonsense");
    browser.shows(&word("problem_wrong"));
    look(&browser, "problem-wrong");
    let app = asking(&[]);
    browser.open(&at(&app, "/members"));
    browser.run("document.forms[0].outerHTML = `<form method=post action=/members id=other></form>`; document.getElementById('other').submit()");
    browser.shows(&word("not_sent"));
    look(&browser, "not-sent");
    // As if the cookie got lost on its way.
    browser.open(&at(&app, "/members"));
    browser.run("keepsCookies = () => { document.cookie = 'captcha-probe=; Path=/; Max-Age=0'; return true }");
    browser.click("#start");
    browser.shows(&word("problem_cookie_lost"));
    look(&browser, "problem-cookie-lost");

    let server = PROVIDERS[0].start();
    let app = asking_with(&PROVIDERS[0], &script_of(&server), &server.url());
    let guess = || app.request("POST", "/crowdsec/captcha").form(&[("g-recaptcha-response", "nonsense")]).send().status;
    eventually("patience ends", || guess() == 429);
    browser.open(&at(&app, "/members"));
    answer(&browser);
    browser.shows(&word("problem_too_many"));
    look(&browser, "problem-too-many");

    let browser = Browser::without_cookies();
    let app = asking(&[]);
    browser.open(&at(&app, "/members"));
    browser.shows(&word("problem_no_cookie"));
    look(&browser, "problem-no-cookie");
}

#[test]
fn the_captcha_without_javascript() {
    // axe-core is a script, so this state is only photographed.
    let (browser, app) = (Browser::without_javascript(), asking(&[]));
    browser.open(&at(&app, "/members"));
    browser.shows(&word("no_javascript"));
    for width in WIDTHS {
        browser.resize(width, 844);
        photograph(&browser, &format!("altcha-no-javascript-{width}-light"));
    }
}

#[test]
fn the_captcha_of_another_service() {
    let browser = Browser::start();
    for provider in &PROVIDERS {
        let server = provider.start();
        let app = asking_with(provider, &script_of(&server), &server.url());
        browser.open(&at(&app, "/members"));
        eventually("the widget has come", || {
            browser.run("return document.querySelector('#widget iframe') !== null") == true
        });
        look(&browser, provider.name);
    }
    let nowhere = format!("http://{}/", closed_port());
    let app = asking_with(&PROVIDERS[0], &nowhere, &nowhere);
    browser.open(&at(&app, "/members"));
    browser.shows(&word("widget_away"));
    look(&browser, "widget-away");
    let server = PROVIDERS[0].start();
    let app = asking_with(&PROVIDERS[0], &script_of(&server), &nowhere);
    browser.open(&at(&app, "/members"));
    answer(&browser);
    browser.shows(&word("problem_away"));
    look(&browser, "problem-away");
}

#[test]
fn a_language_that_is_written_from_right_to_left_mirrors_the_pages() {
    let folder = Folder::of_the_application();
    folder.replace("templates/texts.toml", "[fr]\n", "[ar]\nban_title = \"لا يمكنك الدخول الآن\"\n\n[fr]\n");
    let mut command = dev::command(&[BANNED]);
    command.current_dir(&folder);
    let app = App::launched(command).unwrap_or_else(|ended| panic!("{}", ended.log));
    for (wishes, mirrored) in [("ar", true), ("en", false)] {
        let browser = Browser::speaking(wishes);
        browser.open(&at(&app, "/"));
        let panel_is_right = "return document.querySelector('.panel').getBoundingClientRect().left > document.querySelector('main').getBoundingClientRect().left";
        assert_eq!(browser.run(panel_is_right), json!(mirrored), "{wishes}");
        if mirrored {
            look(&browser, "ban-ar");
        }
    }
}

#[test]
fn every_language() {
    for (wishes, language) in [("fr", "fr"), ("de", "de"), ("es", "es")] {
        let browser = Browser::speaking(wishes);
        let app = asking(&[BANNED]);
        browser.open(&at(&app, "/members"));
        browser.shows(&words(language, "ban_title"));
        look(&browser, &format!("ban-{language}"));
        let app = asking(&[]);
        browser.open(&at(&app, "/members"));
        browser.shows(&words(language, "captcha_title"));
        look(&browser, &format!("altcha-{language}"));
    }
}
