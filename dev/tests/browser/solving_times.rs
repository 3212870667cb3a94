//! Does a browser solve altcha at each difficulty, and how long does that take? The test solves each once. The measurement is
//! made by hand on a quiet machine: `cd dev && SOLVES=41 cargo test --test browser -- --nocapture difficulty`

use std::env;
use std::time::Duration;

use dev::eventually;
use serde_json::json;

use crate::browser::Browser;
use crate::{asking, at};

#[test]
fn a_browser_solves_the_captcha_at_each_difficulty() {
    let solves = env::var("SOLVES").map_or(1, |solves| solves.parse().expect("a number"));
    let browser = Browser::start();
    // Chromium counts the time that the page's own thread was at work, too.
    browser.devtools("Performance.enable", json!({ "timeDomain": "threadTicks" }));
    println!("| difficulty | solved | median | slowest | median CPU | slowest CPU |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for difficulty in ["100000", "300000", "1000000", "3000000"] {
        let app = asking(&[("CROWDSEC_CAPTCHA_DIFFICULTY", difficulty)]);
        let (mut wall, mut cpu): (Vec<_>, Vec<_>) = (0..solves).map(|_| solve(&browser, &at(&app, "/"))).unzip();
        wall.sort();
        cpu.sort();
        let [median, slowest] = [solves / 2, solves - 1];
        println!(
            "| {difficulty} | {solves} | {:.2?} | {:.2?} | {:.2?} | {:.2?} |",
            wall[median], wall[slowest], cpu[median], cpu[slowest]
        );
    }
}

/// The time from the submit to the answer, and the thread's CPU time. The answer is held back, so the next page has a captcha.
fn solve(browser: &Browser, url: &str) -> (Duration, Duration) {
    browser.open(url);
    browser.run(
        "HTMLFormElement.prototype.submit = () => { window.taken = performance.now() - window.begun };
         document.forms[0].addEventListener('submit', () => { window.begun = performance.now() }, true)",
    );
    let before = at_work(browser);
    browser.click("#start");
    eventually("the captcha is solved", || browser.run("return typeof window.taken") == "number");
    let taken = browser.run("return window.taken").as_f64().expect("milliseconds");
    (Duration::from_secs_f64(taken / 1000.0), at_work(browser) - before)
}

/// How long the page's thread has been at work so far.
fn at_work(browser: &Browser) -> Duration {
    let metrics = browser.devtools("Performance.getMetrics", json!({}));
    let metrics = metrics["metrics"].as_array().expect("metrics");
    let spent = metrics.iter().find(|metric| metric["name"] == "TaskDuration").expect("TaskDuration");
    Duration::from_secs_f64(spent["value"].as_f64().expect("seconds"))
}
