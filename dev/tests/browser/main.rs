//! What do visitors meet in a real browser? Chromium and Firefox against the running application.

mod altcha;
mod browser;
mod by_itself;
mod chromedriver;
mod cookies;
mod cross_site;
mod firefox;
mod headers;
mod looks;
mod providers;
mod solving_times;
mod status;
mod way_back;

use std::fs;

use dev::{App, root};

/// Chromium connects from here.
const VISITOR: &str = "127.0.0.1";

/// An address of the application, as a browser writes it.
fn at(app: &App, target: &str) -> String {
    format!("http://{}{target}", app.address())
}

/// An application that asks the browser for an easy altcha; `settings` override that.
fn asking(settings: &[(&str, &str)]) -> App {
    let usual = [
        ("CROWDSEC_DECISIONS", r#"[{ value = "127.0.0.1", type = "captcha" }]"#),
        ("CROWDSEC_CAPTCHA_PROVIDER", "altcha"),
        ("CROWDSEC_CAPTCHA_DIFFICULTY", "20000"),
    ];
    App::start(&[usual.as_slice(), settings].concat())
}

/// The words of a page, as templates/texts.toml has them, so that rewording them breaks no test.
fn words(language: &str, key: &str) -> String {
    let texts = fs::read_to_string(root().join("templates/texts.toml")).expect("texts.toml");
    let table = texts.split_once(&format!("[{language}]\n")).expect("the language's table").1;
    let table = table.split("\n[").next().unwrap_or(table);
    let text = table.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'));
    // A driver gives the text of a page with plain spaces alone.
    text.unwrap_or_else(|| panic!("no {key} in [{language}]")).replace('\u{a0}', " ")
}

/// The words of a page in English.
fn word(key: &str) -> String {
    words("en", key)
}
